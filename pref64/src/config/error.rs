//! Configuration errors: one line that names the place, the key, the value, the reason and the remedy.

use core::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the line if it is known.
    File(PathBuf, Option<usize>),
    /// A `--set` argument.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => path.display().fmt(f),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// Why there is no valid configuration. Its text is one line; programs exit with code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub origin: Origin,
    /// Which key (`section.key`) or section, if it is about one.
    pub key: Option<Box<str>>,
    /// The value as it was written, if it is about one.
    pub value: Option<Box<str>>,
    /// What is wrong.
    pub reason: Box<str>,
    /// What the user can do.
    pub remedy: Box<str>,
}

/// Values longer than this are cut in messages.
const LONGEST_VALUE: usize = 80;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(key) = &self.key {
            f.write_str(key)?;
            if let Some(value) = &self.value {
                match value.char_indices().nth(LONGEST_VALUE) {
                    Some((cut, _)) => write!(f, " = {}…", &value[..cut])?,
                    None => write!(f, " = {value}")?,
                }
            }
            f.write_str(": ")?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

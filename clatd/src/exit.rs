//! Exit codes, and errors that carry one.

use std::fmt;

/// It did not work.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong (clap uses the same code).
pub const USAGE: u8 = 2;
/// More privileges are needed.
pub const PERMISSION: u8 = 4;

/// An error that ends the program with a certain code.
#[derive(Debug)]
pub struct Fatal {
    /// The exit code.
    pub code: u8,
    /// One line: what was being done, to what, why it failed, what to do.
    pub message: String,
}

impl Fatal {
    /// An error with this code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Something failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fatal {}

//! The live prefix file, `RUN_DIR/prefix`.
//!
//! clatd writes it; preload, hostsfix and `v4shim` read it. One line per known prefix, the used one first:
//!
//! ```text
//! # a comment
//! 2001:db8:64::/96 source=ra expires=1790000000 router=fe80::1%eth0 used
//! ```
//!
//! Readers ignore words they do not know, so that an older library can read a newer daemon's file.
//! [`entries`] borrows from the text and allocates nothing: the preload library uses it on its own buffer.

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xlat::Pref64;

use crate::Source;

/// Where live state is kept unless [`RUN_DIR_ENV`] says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/v4shim";
/// Environment variable that moves the run directory.
pub const RUN_DIR_ENV: &str = "V4SHIM_RUN_DIR";
/// The prefix file's name inside the run directory.
pub const PREFIX_FILE: &str = "prefix";
/// clatd's status socket inside the run directory.
pub const STATUS_SOCKET: &str = "clatd.sock";
/// Reading stops with an error beyond this size: clatd writes a few hundred bytes.
pub const MAX_SIZE: u64 = 64 * 1024;

/// The run directory: [`RUN_DIR_ENV`] if set and not empty, else [`DEFAULT_RUN_DIR`].
pub fn run_dir() -> PathBuf {
    match std::env::var_os(RUN_DIR_ENV) {
        Some(dir) if !dir.is_empty() => dir.into(),
        _ => DEFAULT_RUN_DIR.into(),
    }
}

/// The prefix file in the run directory.
pub fn prefix_file() -> PathBuf {
    run_dir().join(PREFIX_FILE)
}

/// When a prefix stops being valid, in wall-clock time (the file outlives no boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiry {
    /// At this many seconds after the Unix epoch.
    At(u64),
    /// Not by time: a configured prefix.
    Never,
}

impl Expiry {
    /// Time left at `now`; `None` if it never expires.
    pub fn remaining(self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(at) => Some(Duration::from_secs(at.saturating_sub(unix_seconds(now)))),
        }
    }

    /// Whether the prefix is no longer valid at `now`.
    pub fn is_past(self, now: SystemTime) -> bool {
        matches!(self, Self::At(at) if at <= unix_seconds(now))
    }

    /// `lifetime` from `now` on.
    pub fn after(now: SystemTime, lifetime: Duration) -> Self {
        Self::At(unix_seconds(now).saturating_add(lifetime.as_secs()))
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    // A clock before 1970 (no RTC, no NTP yet) counts as 1970: everything in the file is then still valid.
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Never => f.pad("never"),
        }
    }
}

/// One line of the file, borrowing from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The NAT64 prefix.
    pub prefix: Pref64,
    /// Who vouches for it.
    pub source: Source,
    /// Until when.
    pub expires: Expiry,
    /// The router that advertised it, with its interface: `fe80::1%eth0`.
    pub router: Option<&'a str>,
    /// Whether this is the prefix in use.
    pub used: bool,
}

/// One known prefix, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The NAT64 prefix.
    pub prefix: Pref64,
    /// Who vouches for it.
    pub source: Source,
    /// Until when.
    pub expires: Expiry,
    /// The router that advertised it, with its interface: `fe80::1%eth0`.
    pub router: Option<String>,
    /// Whether this is the prefix in use.
    pub used: bool,
}

impl From<EntryRef<'_>> for Entry {
    fn from(entry: EntryRef<'_>) -> Self {
        let EntryRef { prefix, source, expires, router, used } = entry;
        Self { prefix, source, expires, router: router.map(str::to_owned), used }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} source={} expires={}", self.prefix, self.source, self.expires)?;
        if let Some(router) = &self.router {
            write!(f, " router={router}")?;
        }
        if self.used {
            f.write_str(" used")?;
        }
        Ok(())
    }
}

/// Why a line could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The first word is not an RFC 6052 prefix.
    #[error("the first word is not a NAT64 prefix")]
    Prefix,
    /// `source=` is missing or unknown.
    #[error("source= is missing or unknown")]
    Source,
    /// `expires=` is missing or not a number of seconds or `never`.
    #[error("expires= is missing or neither seconds nor never")]
    Expires,
}

/// A line that could not be understood. The other lines are still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: LineError,
}

/// Parses one line; `Ok(None)` for blank lines and comments.
pub fn parse_line(line: &str) -> Result<Option<EntryRef<'_>>, LineError> {
    let mut words = line.split_ascii_whitespace();
    let prefix = match words.next() {
        None => return Ok(None),
        Some(word) if word.starts_with('#') => return Ok(None),
        Some(word) => word.parse().map_err(|_| LineError::Prefix)?,
    };
    let (mut source, mut expires, mut router, mut used) = (None, None, None, false);
    for word in words {
        match word.split_once('=') {
            Some(("source", value)) => source = Some(value.parse().map_err(|_| LineError::Source)?),
            Some(("expires", "never")) => expires = Some(Expiry::Never),
            Some(("expires", value)) => {
                expires = Some(Expiry::At(value.parse().map_err(|_| LineError::Expires)?));
            }
            Some(("router", value)) => router = Some(value),
            None if word == "used" => used = true,
            _ => {}
        }
    }
    Ok(Some(EntryRef {
        prefix,
        source: source.ok_or(LineError::Source)?,
        expires: expires.ok_or(LineError::Expires)?,
        router,
        used,
    }))
}

/// Iterates over the entries of a file's text without allocating.
pub fn entries(text: &str) -> impl Iterator<Item = Result<EntryRef<'_>, BadLine>> {
    text.lines().enumerate().filter_map(|(index, line)| match parse_line(line) {
        Ok(None) => None,
        Ok(Some(entry)) => Some(Ok(entry)),
        Err(error) => Some(Err(BadLine { line: index + 1, error })),
    })
}

/// What [`read`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Good lines, in file order: the used prefix first.
    pub entries: Vec<Entry>,
    /// Lines that could not be understood.
    pub bad: Vec<BadLine>,
}

impl State {
    /// The first entry marked `used` that is valid at `now`, else none.
    pub fn used(&self, now: SystemTime) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.used && !entry.expires.is_past(now))
    }
}

/// Reads a prefix file. A missing file is `Ok` and empty: nobody knows anything yet.
///
/// # Errors
/// Any other failure to read it, with the path in the message.
pub fn read(path: &Path) -> io::Result<State> {
    use std::io::Read as _;
    let describe =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(describe(error)),
    };
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(describe)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(describe(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("larger than {MAX_SIZE} bytes"),
        )));
    }
    let mut state = State::default();
    for entry in entries(&text) {
        match entry {
            Ok(entry) => state.entries.push(entry.into()),
            Err(bad) => state.bad.push(bad),
        }
    }
    Ok(state)
}

/// Replaces a prefix file atomically (temporary file in the same directory, mode 0644, rename).
///
/// The run directory must exist. No fsync: the directory is a tmpfs and its content dies with the boot.
///
/// # Errors
/// The failing step, with the path in the message.
pub fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let describe =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    let mut text =
        String::from("# NAT64 prefixes known to clatd, the used one first. Written by clatd; do not edit.\n");
    for entry in entries {
        text.push_str(&entry.to_string());
        text.push('\n');
    }
    let name = path.file_name().ok_or_else(|| describe(io::ErrorKind::InvalidInput.into()))?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let result = (|| {
        // A file of this name can only be left over from a killed process with our pid.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        // The umask must not hide the file from unprivileged readers.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    })();
    result.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        describe(error)
    })
}

/// Removes a prefix file, at a clean stop of the daemon. Missing is fine.
///
/// # Errors
/// Any other failure, with the path in the message.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "\
# comment

2001:db8:64::/96 source=ra expires=1790000000 router=fe80::1%eth0 used
2001:db8:65::/64   expires=never\tsource=config colour=blue shiny
2001:db8::/33 source=ra expires=1
64:ff9b::/96 source=guess expires=never
64:ff9b::/96 source=dns
";

    #[test]
    fn reads_what_is_good_and_reports_what_is_bad() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prefix");
        std::fs::write(&path, FILE).unwrap();
        let state = read(&path).unwrap();
        assert_eq!(state.entries.len(), 2);
        assert_eq!(state.entries[0].router.as_deref(), Some("fe80::1%eth0"));
        assert!(state.entries[0].used);
        assert_eq!(state.entries[1].expires, Expiry::Never);
        assert!(!state.entries[1].used);
        let bad: Vec<String> = state.bad.iter().map(ToString::to_string).collect();
        assert_eq!(
            bad,
            [
                "line 5: the first word is not a NAT64 prefix",
                "line 6: source= is missing or unknown",
                "line 7: expires= is missing or neither seconds nor never"
            ]
        );
        let before = UNIX_EPOCH + Duration::from_secs(1_789_999_990);
        assert_eq!(state.used(before).unwrap().expires.remaining(before), Some(Duration::from_secs(10)));
        assert_eq!(state.used(UNIX_EPOCH + Duration::from_secs(1_790_000_000)), None, "expired");
    }

    #[test]
    fn missing_is_empty_and_other_failures_name_the_path() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("none")).unwrap(), State::default());
        assert!(read(dir.path()).unwrap_err().to_string().contains(dir.path().to_str().unwrap()));
        let gone = dir.path().join("gone/prefix");
        assert!(write(&gone, &[]).unwrap_err().to_string().contains("gone/prefix"));
        remove(&gone).unwrap();
        std::fs::write(dir.path().join("big"), vec![b'#'; MAX_SIZE as usize + 1]).unwrap();
        assert!(read(&dir.path().join("big")).unwrap_err().to_string().contains("larger than"));
    }

    #[test]
    fn writing_replaces_atomically_and_is_readable_by_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prefix");
        let entry = Entry {
            prefix: "2001:db8:64::/96".parse().unwrap(),
            source: Source::Ra,
            expires: Expiry::At(1_790_000_000),
            router: Some("fe80::1%eth0".into()),
            used: true,
        };
        write(&path, std::slice::from_ref(&entry)).unwrap();
        write(&path, std::slice::from_ref(&entry)).unwrap();
        assert_eq!(read(&path).unwrap(), State { entries: vec![entry], bad: vec![] });
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file left");
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*") {
            for entry in entries(&text) { let _ = entry; }
        }

        #[test]
        fn every_entry_survives_a_round_trip(at in any::<Option<u64>>(), used: bool, ra: bool) {
            let entry = Entry {
                prefix: "2001:db8:1:2::/64".parse().unwrap(),
                source: if ra { Source::Ra } else { Source::Fallback },
                expires: at.map_or(Expiry::Never, Expiry::At),
                router: ra.then(|| "fe80::2%en0".to_owned()),
                used,
            };
            let line = entry.to_string();
            prop_assert_eq!(Entry::from(parse_line(&line).unwrap().unwrap()), entry);
        }
    }
}

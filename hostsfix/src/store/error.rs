//! What can go wrong with a hosts file, in one line each.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Why a hosts file could not be read or written. Unless the message says otherwise, it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {doing} {path}: {reason}{remedy}", path = path.display(), reason = reason(source), remedy = remedy(source))]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A directory, device, FIFO or socket.
    #[error("{path} is not a regular file; give another one with --hosts-file or hosts.file", path = .0.display())]
    NotRegular(PathBuf),
    /// Larger than anything that is a hosts file.
    #[error("{path} is larger than {limit} MiB, which is no hosts file", path = .0.display(), limit = super::MAX_LEN >> 20)]
    TooLarge(PathBuf),
    /// `chattr +i` or `+a`.
    #[error("{path} is {flag}; it was left as it is (chattr -{letter} {path} allows changes)", path = path.display())]
    Attribute {
        /// The file.
        path: PathBuf,
        /// The flag in words.
        flag: &'static str,
        /// Its letter for chattr.
        letter: char,
    },
    /// Another program keeps changing the file.
    #[error("{path} was changed by another program each time it was about to be written ({tries} times); try again",
            path = path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// How often.
        tries: u32,
    },
    /// Another hostsfix holds the lock.
    #[error("another hostsfix has been at work for {seconds} s (lock {path}); try again", path = path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// A mount point, and no place to keep the journal.
    #[error("{path} is a mount point and can only be overwritten in place, but there is no place for the journal \
             that makes this safe: {last}", path = path.display())]
    NoJournal {
        /// The hosts file.
        path: PathBuf,
        /// Why the last place was refused.
        last: Box<StoreError>,
    },
    /// An in-place write failed, and so did putting the old content back.
    #[error("{cause}; putting the old content back failed too ({undo}): it is kept in {journal}, and the next \
             run of hostsfix restores it", journal = journal.display())]
    HalfWritten {
        /// Why the write failed.
        cause: Box<StoreError>,
        /// Why the undo failed.
        undo: io::Error,
        /// The journal that holds both contents.
        journal: PathBuf,
    },
}

impl StoreError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the caller lacks a permission (exit code 4).
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::NoJournal { last, .. } => last.is_permission(),
            _ => false,
        }
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// The failure in the system's words, without Rust's "(os error N)".
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// What the user can do.
fn remedy(error: &io::Error) -> &'static str {
    match errno(error) {
        Some(Errno::ACCESS | Errno::PERM) => " (run as root)",
        Some(Errno::ROFS) => " (remount it writable, or use the CLAT, which needs no hosts file)",
        Some(Errno::NOSPC) => " (free some space)",
        Some(Errno::DQUOT) => " (free some space or raise the quota)",
        Some(Errno::NOENT) => " (create the file first, or give another one with --hosts-file)",
        Some(Errno::LOOP) => " (symbolic links in a circle?)",
        _ => "",
    }
}

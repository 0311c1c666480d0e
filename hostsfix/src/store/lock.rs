//! One hostsfix at a time.
//!
//! The lock is not on the hosts file: rename() puts another inode in its place, and any user who can
//! read a file can lock it for ever. Root locks a file of its own in the run directory; other users,
//! who cannot write there, lock the directory of the hosts file. Against programs that know nothing
//! of this lock, the writer checks the file again right before it replaces it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::StoreError;

/// How long to wait for another hostsfix. It holds the lock for a file write only, never for the network.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);

/// The lock; released when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Lock {
    /// Waits for the lock of the hosts file in directory `dir`.
    ///
    /// # Errors
    /// When it cannot be opened, or is held for longer than 30 seconds.
    pub fn acquire(run_dir: &Path, dir: &Path) -> Result<Self, StoreError> {
        let (file, path) = open(run_dir, dir)?;
        let start = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(STEP)
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(StoreError::Locked { path, seconds: PATIENCE.as_secs() });
                }
                Err(error) => return Err(StoreError::Io { doing: "lock", path, source: error.into() }),
            }
        }
    }
}

/// The file to lock.
fn open(run_dir: &Path, dir: &Path) -> Result<(OwnedFd, PathBuf), StoreError> {
    if rustix::process::geteuid().is_root() {
        let path = run_dir.join("hostsfix.lock");
        match open_in_run_dir(run_dir, &path) {
            Ok(file) => return Ok((file, path)),
            Err(error) => {
                tracing::debug!("cannot open {}: {error}; locking {} instead", path.display(), dir.display());
            }
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(file) => Ok((file, dir.to_owned())),
        Err(error) => Err(StoreError::Io { doing: "lock", path: dir.to_owned(), source: error.into() }),
    }
}

fn open_in_run_dir(run_dir: &Path, path: &Path) -> io::Result<OwnedFd> {
    std::fs::create_dir_all(run_dir)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)
}

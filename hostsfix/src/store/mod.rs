//! A hosts file on disk: read, and replaced whole or not at all.
//!
//! Two ways to write. Normally a temporary file beside the hosts file gets the new content and the
//! old mode, owner and extended attributes, is flushed, and renamed over it. Where the hosts file is
//! a mount point (Docker, podman, systemd-nspawn), rename() is impossible: it is overwritten in
//! place under a [`journal`]. Either way a kill at any point leaves the old or the new content, in the
//! second case after the next run of hostsfix has looked at the journal.

mod error;
mod fs;
mod in_place;
pub mod journal;
mod lock;
mod replace;
mod signals;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use error::StoreError;
pub use fs::{Fs, Meta, RealFs, Xattrs};
use journal::Found;
pub use lock::Lock;

/// The largest hosts file that is read: block lists of a million names have about 40 MiB.
pub const MAX_LEN: u64 = 256 << 20;
/// How often an edit starts anew because another program changed the file meanwhile.
const TRIES: u32 = 5;

/// A hosts file and where to lock it and keep its journal.
#[derive(Debug)]
pub struct Store<F: Fs = RealFs> {
    fs: F,
    /// The file itself, symbolic links followed.
    path: PathBuf,
    dir: PathBuf,
    run_dir: PathBuf,
}

/// What the file was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Content; where a journal shows a torn write, the content that will be restored.
    pub bytes: Vec<u8>,
    /// Identity, mode, owner.
    pub meta: Meta,
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The content was right already.
    Unchanged,
    /// By rename().
    Replaced,
    /// In place, under a journal.
    InPlace,
}

/// What became of the write that an earlier run did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered(pub Found);

/// A write that did not happen.
enum Refused {
    /// The file is no longer what the edit was made from.
    Changed,
    Error(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Error(error)
    }
}

impl<F: Fs> Store<F> {
    /// The hosts file at `path`. Symbolic links are followed now, so that they stay.
    ///
    /// # Errors
    /// When the file does not exist or cannot be reached.
    pub fn open(fs: F, path: &Path, run_dir: &Path) -> Result<Self, StoreError> {
        let resolved = fs.resolve(path).map_err(io_error("open", path))?;
        // A resolved path of a file is absolute and has a parent; "/" is refused as a directory later.
        let dir = resolved.parent().unwrap_or(&resolved).to_owned();
        Ok(Self { fs, path: resolved, dir, run_dir: run_dir.to_owned() })
    }

    /// The file, symbolic links followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file as it is, or as it will be once a torn write is undone. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be read or is no hosts file.
    pub fn read(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.read_raw()?;
        for place in self.journal_places() {
            // Unreadable for this user: then the file is shown as it is.
            let Ok(Some(journal)) = self.read_journal(&place) else { continue };
            if journal.judge(&snapshot.bytes) == Found::Torn {
                snapshot.bytes = journal.old;
            }
        }
        Ok(snapshot)
    }

    /// Whether a killed run left something behind. It may also be the work of one that is running.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        let [beside, in_run_dir] = self.journal_places();
        [beside.file(), in_run_dir.file(), &self.temp()]
            .into_iter()
            .any(|path| self.fs.open(path, false).is_ok())
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// When another hostsfix holds it for too long.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        Lock::acquire(&self.run_dir, &self.dir)
    }

    /// Finishes or undoes what an earlier run left behind when it was killed.
    ///
    /// # Errors
    /// When the journal cannot be read, or the old content cannot be put back.
    pub fn recover(&self, _lock: &Lock) -> Result<Option<Recovered>, StoreError> {
        let _deferred = signals::Deferred::new();
        let mut recovered = None;
        for place in self.journal_places() {
            recovered = self.recover_from(&place)?.or(recovered);
        }
        self.remove_temp();
        Ok(recovered)
    }

    /// Replaces the file by what `edit` makes of it; starts anew if another program changes it
    /// meanwhile.
    ///
    /// # Errors
    /// What `edit` returns, or when the file cannot be written. It is then as it was.
    pub fn update<E: From<StoreError>>(
        &self,
        lock: &Lock,
        mut edit: impl FnMut(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Written, E> {
        for _ in 0..TRIES {
            let before = self.read_raw()?;
            let new = edit(&before.bytes)?;
            if new == before.bytes {
                return Ok(Written::Unchanged);
            }
            match self.write(lock, &before, &new) {
                Ok(written) => return Ok(written),
                Err(Refused::Changed) => {}
                Err(Refused::Error(error)) => return Err(error.into()),
            }
        }
        Err(StoreError::Busy { path: self.path.clone(), tries: TRIES }.into())
    }

    fn write(&self, _lock: &Lock, before: &Snapshot, new: &[u8]) -> Result<Written, Refused> {
        let attribute =
            |flag, letter| Err(StoreError::Attribute { path: self.path.clone(), flag, letter }.into());
        if before.meta.immutable {
            return attribute("immutable", 'i');
        }
        if before.meta.append_only {
            return attribute("append-only", 'a');
        }
        let _deferred = signals::Deferred::new();
        if !before.meta.mount_root {
            match self.replace(before, new) {
                // A mount point that statx() did not show.
                Err(Refused::Error(StoreError::Io { source, .. }))
                    if source.kind() == io::ErrorKind::ResourceBusy => {}
                result => return result.map(|()| Written::Replaced),
            }
        }
        self.overwrite(before, new).map(|()| Written::InPlace)
    }

    /// Content and metadata, whatever a journal says.
    fn read_raw(&self) -> Result<Snapshot, StoreError> {
        let file = self.fs.open(&self.path, false).map_err(io_error("open", &self.path))?;
        let meta = self.fs.stat(&file).map_err(io_error("examine", &self.path))?;
        if !meta.regular {
            return Err(StoreError::NotRegular(self.path.clone()));
        }
        if meta.len > MAX_LEN {
            return Err(StoreError::TooLarge(self.path.clone()));
        }
        let bytes = self.read_file(&file, meta.len).map_err(io_error("read", &self.path))?;
        Ok(Snapshot { bytes, meta })
    }

    /// All bytes of a file of about `len` bytes.
    fn read_file(&self, file: &F::File, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut filled = 0;
        // One byte more than expected, so that the end is seen without growing the buffer.
        bytes.resize(usize::try_from(len).unwrap_or(0).saturating_add(1), 0);
        loop {
            match self.fs.read_at(file, &mut bytes[filled..], filled as u64)? {
                0 => break,
                n => filled += n,
            }
            if filled == bytes.len() {
                bytes.resize(filled + 65_536, 0);
            }
            if filled as u64 > 4 * MAX_LEN {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn write_all(&self, file: &F::File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = self.fs.write_at(file, bytes, offset)?;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero));
            }
            bytes = bytes.get(n..).unwrap_or_default();
            offset += n as u64;
        }
        Ok(())
    }

    /// Fails with [`Refused::Changed`] unless the file is still exactly the one of `before`.
    fn check_unchanged(&self, before: &Snapshot) -> Result<(), Refused> {
        match self.read_raw() {
            Ok(now) if now == *before => Ok(()),
            Ok(_) => Err(Refused::Changed),
            Err(error) => Err(error.into()),
        }
    }

    /// A hidden name beside the hosts file. Names are fixed, not random: under the lock there is one
    /// writer only, and the next one finds what a killed one left.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(suffix);
        self.dir.join(name)
    }

    fn temp(&self) -> PathBuf {
        self.beside(".v4shim-new")
    }

    /// Clears the temporary file of a run that was killed. If that fails, the next write will say so.
    fn remove_temp(&self) {
        let _ = self.fs.unlink(&self.temp());
    }
}

/// Makes an [`StoreError::Io`] of an [`io::Error`].
fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { doing, path: path.to_owned(), source }
}

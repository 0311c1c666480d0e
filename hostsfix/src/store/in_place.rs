//! The write in place, for files that are mount points, and the recovery from an interrupted one.

use std::io;
use std::path::{Path, PathBuf};

use super::journal::{Found, Journal, checksum};
use super::{Fs, MAX_LEN, Recovered, Refused, Snapshot, Store, StoreError, io_error};

/// A place for the journal: directory and file.
pub(super) struct Place {
    dir: PathBuf,
    file: PathBuf,
}

impl Place {
    /// The journal.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl<F: Fs> Store<F> {
    /// Where a journal may be: beside the hosts file, where it outlives a reboot; else, where that
    /// directory cannot be written (a container with a read-only root), in the run directory.
    pub(super) fn journal_places(&self) -> [Place; 2] {
        let name = format!("hostsfix-{:016x}.journal", checksum(self.path.as_os_str().as_encoded_bytes()));
        [
            Place { dir: self.dir.clone(), file: self.beside(".v4shim-journal") },
            Place { dir: self.run_dir.clone(), file: self.run_dir.join(name) },
        ]
    }

    /// Overwrites the file under a journal.
    pub(super) fn overwrite(&self, before: &Snapshot, new: &[u8]) -> Result<(), Refused> {
        let journal = Journal { old: before.bytes.clone(), new: new.to_vec() };
        let file = self.fs.open(&self.path, true).map_err(io_error("write", &self.path))?;
        let place = self.write_journal(&journal)?;
        // From here on the journal must go, whatever happens, except if the old content cannot be put back.
        if let Err(refused) = self.check_unchanged(before) {
            self.remove_journal(&place);
            return Err(refused);
        }
        let cause = match self.overwrite_journalled(&file, &journal) {
            Ok(()) => {
                self.remove_journal(&place);
                return Ok(());
            }
            Err(source) => StoreError::Io { doing: "write", path: self.path.clone(), source },
        };
        match self.put_back(&file, &journal) {
            Ok(()) => {
                self.remove_journal(&place);
                Err(cause.into())
            }
            Err(undo) => {
                Err(StoreError::HalfWritten { cause: Box::new(cause), undo, journal: place.file }.into())
            }
        }
    }

    fn overwrite_journalled(&self, file: &F::File, journal: &Journal) -> io::Result<()> {
        let padded = journal.padded();
        let first_change = common_prefix(&journal.old, &padded);
        if padded.len() > journal.old.len() {
            self.fs.reserve(file, padded.len() as u64)?;
        }
        self.write_all(file, &padded[first_change..], first_change as u64)?;
        if padded.len() != journal.new.len() {
            self.fs.truncate(file, journal.new.len() as u64)?;
        }
        self.fs.sync(file)
    }

    /// Gives the file its old content again. Needs no space that it does not have.
    fn put_back(&self, file: &F::File, journal: &Journal) -> io::Result<()> {
        self.write_all(file, &journal.old, 0)?;
        self.fs.truncate(file, journal.old.len() as u64)?;
        self.fs.sync(file)
    }

    fn write_journal(&self, journal: &Journal) -> Result<Place, StoreError> {
        let bytes = journal.encode();
        let mut last = None;
        for place in self.journal_places() {
            match self.write_journal_to(&place, &bytes) {
                Ok(()) => return Ok(place),
                Err(error) => {
                    let _ = self.fs.unlink(&place.file);
                    last = Some(error);
                }
            }
        }
        let last = Box::new(last.unwrap_or_else(|| StoreError::NotRegular(self.dir.clone())));
        Err(StoreError::NoJournal { path: self.path.clone(), last })
    }

    fn write_journal_to(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        let fs = &self.fs;
        let file = fs.create(&place.file).map_err(io_error("create the journal", &place.file))?;
        self.write_all(&file, bytes, 0).map_err(io_error("write the journal", &place.file))?;
        fs.sync(&file).map_err(io_error("flush the journal", &place.file))?;
        fs.sync_dir(&place.dir).map_err(io_error("flush", &place.dir))
    }

    /// The file has its final content; a journal that stays behind is harmless and removed by the next run.
    fn remove_journal(&self, place: &Place) {
        if let Err(error) = self.fs.unlink(&place.file) {
            tracing::warn!("cannot remove the journal {}: {error}", place.file.display());
            return;
        }
        // Also harmless if it fails: see above.
        let _ = self.fs.sync_dir(&place.dir);
    }

    /// The journal at `place`, if there is a complete one. Fails if it cannot be read.
    pub(super) fn read_journal(&self, place: &Place) -> io::Result<Option<Journal>> {
        let file = match self.fs.open(&place.file, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = self.fs.stat(&file)?;
        // Only a journal of one's own (or root's) is believed: it decides what stands in the hosts file.
        let trusted = meta.uid == 0 || meta.uid == rustix::process::geteuid().as_raw();
        if !meta.regular || !trusted || meta.mode & 0o022 != 0 || meta.len > 3 * MAX_LEN {
            tracing::warn!("{} is not a journal of hostsfix; ignored", place.file.display());
            return Ok(None);
        }
        Ok(Journal::decode(&self.read_file(&file, meta.len)?))
    }

    pub(super) fn recover_from(&self, place: &Place) -> Result<Option<Recovered>, StoreError> {
        if !self.exists(&place.file)? {
            return Ok(None);
        }
        let journal = self.read_journal(place).map_err(io_error("read the journal", &place.file))?;
        let found = match &journal {
            // Never completed: the hosts file has not been touched.
            None => Found::Old,
            Some(journal) => journal.judge(&self.read_raw()?.bytes),
        };
        if let (Found::Torn, Some(journal)) = (found, &journal) {
            let file = self.fs.open(&self.path, true).map_err(io_error("restore", &self.path))?;
            self.put_back(&file, journal).map_err(io_error("restore", &self.path))?;
        }
        self.remove_journal(place);
        Ok(Some(Recovered(found)))
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        match self.fs.open(path, false) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::Io { doing: "open the journal", path: path.to_owned(), source }),
        }
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

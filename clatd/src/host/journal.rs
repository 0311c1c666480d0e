//! What a crash would leave behind, written down before it is done.
//!
//! The device, its addresses and its routes vanish with the process. Kernel
//! settings do not, nor do netfilter tables on kernels before 5.12, nor filters
//! of the fast path on kernels before 6.6. Each of those is noted here first,
//! so that the next start, or `clatd --cleanup`, can undo it whatever happened
//! in between. The file is in the run directory and so, like what it
//! describes, gone after a reboot.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// File name in the run directory.
const FILE: &str = "journal.json";

/// One change that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A kernel setting below /proc/sys.
    Sysctl {
        /// Path below /proc/sys.
        key: String,
        /// The value before us.
        before: String,
        /// The value that we left.
        after: String,
    },
    /// A netfilter table of family ip6.
    Table {
        /// Its name.
        name: String,
    },
    /// Filters of ours in a clsact qdisc (kernels before 6.6).
    Clsact {
        /// The link's interface index.
        ifindex: u32,
        /// The qdisc was not there before us.
        created: bool,
    },
}

/// The journal of one run directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens the journal of a run directory and reads what an earlier process left.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(FILE);
        let entries = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let reason = format!("{} is damaged: {error} (remove it to go on)", path.display());
                io::Error::new(io::ErrorKind::InvalidData, reason)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, entries })
    }

    /// What is to be undone, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Notes changes that are about to be made.
    pub fn note(&mut self, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
        self.entries.extend(entries);
        self.save()
    }

    /// Notes a change in the place of others, in one step.
    pub fn replace(&mut self, old: impl Fn(&Entry) -> bool, new: Entry) -> io::Result<()> {
        self.entries.retain(|entry| !old(entry));
        self.note([new])
    }

    /// Forgets changes that were undone.
    pub fn forget(&mut self, undone: impl Fn(&Entry) -> bool) -> io::Result<()> {
        self.entries.retain(|entry| !undone(entry));
        self.save()
    }

    /// Replaces the file in one step; without entries there is no file.
    fn save(&self) -> io::Result<()> {
        if self.entries.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let next = self.path.with_extension("json.new");
        let mut file = fs::File::create(&next)?;
        serde_json::to_writer_pretty(&mut file, &self.entries)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&next, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u8) -> Entry {
        Entry::Sysctl { key: format!("net/{n}"), before: "0".into(), after: "1".into() }
    }

    #[test]
    fn entries_survive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.note([entry(1), Entry::Table { name: "t".into() }]).unwrap();
        journal.note([entry(2)]).unwrap();
        let again = Journal::open(dir.path()).unwrap();
        assert_eq!(again.entries(), [entry(1), Entry::Table { name: "t".into() }, entry(2)]);
    }

    #[test]
    fn an_empty_journal_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.note([entry(1)]).unwrap();
        journal.forget(|e| *e == entry(1)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        journal.forget(|_| true).unwrap();
    }

    #[test]
    fn a_damaged_journal_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"{").unwrap();
        let error = Journal::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("journal.json") && error.contains("damaged"), "{error}");
    }
}

//! A second copy of the wishes, for hosts files that other programs write anew.
//!
//! The managed block is the state of hostsfix; as long as the file has one, nothing else counts. But
//! cloud-init (`manage_etc_hosts`), container engines and provisioning tools replace the whole file.
//! So the block of the names that were added by hand is also kept in the state directory, and put
//! back when the file comes without any block. Names of the configuration need no copy.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::hosts::{Entry, HostsFile, Origin};

/// Where state that outlives a boot is kept unless `V4SHIM_STATE_DIR` says otherwise.
const DEFAULT_STATE_DIR: &str = "/var/lib/v4shim";

/// The copy that belongs to one hosts file.
#[derive(Clone, Debug)]
pub struct Saved {
    dir: PathBuf,
    file: PathBuf,
}

impl Saved {
    /// The copy for the hosts file at `path` (symbolic links followed).
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let dir = std::env::var_os("V4SHIM_STATE_DIR")
            .filter(|dir| !dir.is_empty())
            .map_or_else(|| PathBuf::from(DEFAULT_STATE_DIR), PathBuf::from);
        Self::in_dir(&dir, path)
    }

    fn in_dir(dir: &Path, path: &Path) -> Self {
        // "/etc/hosts" becomes "etc-hosts.pins", as systemd names mount units.
        let name = path.to_string_lossy().trim_start_matches('/').replace('-', "\\x2d").replace('/', "-");
        Self { dir: dir.to_owned(), file: dir.join(format!("{name}.pins")) }
    }

    /// The saved entries; none if there is no copy.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn load(&self) -> io::Result<Vec<Entry>> {
        let bytes = match std::fs::read(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result?,
        };
        // A damaged copy is worth nothing, and will be written anew.
        Ok(HostsFile::parse(&bytes).map(|file| file.entries().to_vec()).unwrap_or_default())
    }

    /// Keeps a copy of those of `entries` that were added by hand; removes it if there are none.
    /// Written only if a wish changed: expiries need not be up to date.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, entries: &[Entry]) -> io::Result<()> {
        let added: Vec<_> = entries.iter().filter(|entry| entry.origin == Origin::Add).cloned().collect();
        if added.is_empty() {
            return self.remove();
        }
        if wishes(&self.load().unwrap_or_default()) == wishes(&added) {
            return Ok(());
        }
        let empty = HostsFile::parse(b"").map_err(io::Error::other)?;
        std::fs::create_dir_all(&self.dir)?;
        let temp = self.file.with_extension("new");
        let result = (|| {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(&temp)?;
            file.write_all(&empty.with_entries(&added))?;
            file.sync_all()?;
            std::fs::rename(&temp, &self.file)
        })();
        if result.is_err() {
            let _ = std::fs::remove_file(&temp);
        }
        result
    }

    /// Removes the copy.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }
}

/// What the user asked for, without what became of it.
fn wishes(entries: &[Entry]) -> Vec<impl PartialEq + use<'_>> {
    entries.iter().map(|e| (&e.name, e.want_ttl, &e.want_a, &e.want_ports)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::{State, Waiting, Why};
    use crate::time::Instant;

    fn entry(origin: Origin, since: u64) -> Entry {
        Entry {
            name: "a.example".parse().unwrap(),
            origin,
            want_ttl: Some(600),
            want_a: vec![],
            want_ports: vec![25],
            state: State::Waiting(Waiting { why: Why::DnsDown, since: Instant::from_unix(since) }),
        }
    }

    #[test]
    fn kept_changed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::in_dir(&dir.path().join("state"), Path::new("/srv/my-root/etc/hosts"));
        assert!(saved.path().ends_with("srv-my\\x2droot-etc-hosts.pins"));
        assert!(saved.load().unwrap().is_empty());
        saved.store(&[entry(Origin::Config, 1)]).unwrap();
        assert!(!saved.path().exists());
        saved.store(&[entry(Origin::Add, 1), entry(Origin::Config, 1)]).unwrap();
        assert_eq!(saved.load().unwrap(), [entry(Origin::Add, 1)]);
        saved.store(&[entry(Origin::Add, 2)]).unwrap();
        assert_eq!(saved.load().unwrap(), [entry(Origin::Add, 1)], "the same wish is not written again");
        std::fs::write(saved.path(), b"# END v4shim hostsfix\n").unwrap();
        assert!(saved.load().unwrap().is_empty());
        saved.store(&[]).unwrap();
        assert!(!saved.path().exists());
        saved.store(&[]).unwrap();
    }
}

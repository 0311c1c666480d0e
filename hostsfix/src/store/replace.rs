//! The write by temporary file and rename().

use std::ffi::CString;
use std::path::Path;

use super::{Fs, Refused, Snapshot, Store, StoreError, io_error};

/// Attributes that belong to the content or the inode of the old file and would be wrong on the new one.
const NOT_COPIED: [&[u8]; 2] = [b"security.ima", b"security.evm"];

impl<F: Fs> Store<F> {
    /// Puts a new file with the content `new` in the place of `before`.
    pub(super) fn replace(&self, before: &Snapshot, new: &[u8]) -> Result<(), Refused> {
        let temp = self.temp();
        self.remove_temp();
        let made = self.make_temp(&temp, before, new).map_err(Refused::from);
        let renamed = made.and_then(|()| {
            self.check_unchanged(before)?;
            Ok(self.fs.rename(&temp, &self.path).map_err(io_error("replace", &self.path))?)
        });
        if renamed.is_err() {
            let _ = self.fs.unlink(&temp);
            return renamed;
        }
        if let Err(error) = self.fs.sync_dir(&self.dir) {
            // The new file is in place and complete; only a power failure could still bring back the old one.
            tracing::warn!(
                "{} is changed, but its directory could not be flushed: {error}",
                self.path.display()
            );
        }
        Ok(())
    }

    /// The new file under its temporary name, complete and on disk.
    fn make_temp(&self, temp: &Path, before: &Snapshot, new: &[u8]) -> Result<(), StoreError> {
        let fs = &self.fs;
        let file = fs.create(temp).map_err(io_error("create the temporary file", temp))?;
        self.write_all(&file, new, 0).map_err(io_error("write", temp))?;
        let meta = fs.stat(&file).map_err(io_error("examine", temp))?;
        if (meta.uid, meta.gid) != (before.meta.uid, before.meta.gid) {
            fs.chown(&file, before.meta.uid, before.meta.gid)
                .map_err(io_error("keep the owner of", &self.path))?;
        }
        // After chown(), which clears set-id bits.
        fs.chmod(&file, before.meta.mode).map_err(io_error("keep the mode of", &self.path))?;
        self.copy_xattrs(&file)?;
        fs.sync(&file).map_err(io_error("flush", temp))
    }

    /// Gives the new file the extended attributes of the old one (SELinux label, ACL, ...), no more and no less.
    fn copy_xattrs(&self, new: &F::File) -> Result<(), StoreError> {
        let fs = &self.fs;
        let old = fs.open(&self.path, false).map_err(io_error("open", &self.path))?;
        let keep = io_error("keep the extended attributes of", &self.path);
        let result = (|| {
            let wanted = fs.xattrs(&old)?;
            let present = fs.xattrs(new)?;
            for (name, value) in wanted.iter().filter(|(name, _)| copied(name)) {
                // Often it is there already (the label of the directory); setting it may need a privilege.
                if !present.iter().any(|(n, v)| n == name && v == value) {
                    fs.set_xattr(new, name, value)?;
                }
            }
            // What the new file inherited from its directory (a default ACL). Labels cannot be removed.
            let inherited = |name: &CString| !name.as_bytes().starts_with(b"security.");
            for (name, _) in present.iter().filter(|(name, _)| inherited(name)) {
                if !wanted.iter().any(|(n, _)| n == name) {
                    fs.remove_xattr(new, name)?;
                }
            }
            Ok(())
        })();
        result.map_err(keep)
    }
}

fn copied(name: &CString) -> bool {
    !NOT_COPIED.contains(&name.as_bytes())
}

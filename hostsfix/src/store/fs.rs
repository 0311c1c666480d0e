//! The system calls of a hosts file write, one method each, so that a test can make any of them fail.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxAttributes, StatxFlags, XattrFlags};
use rustix::io::Errno;

/// What is kept of a file when it is replaced, and what decides how to replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Device, as major and minor number, and inode: the identity of the file.
    pub id: (u32, u32, u64),
    /// Length in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// A regular file.
    pub regular: bool,
    /// Something is mounted exactly here (a bind mount of one file, as Docker makes them).
    pub mount_root: bool,
    /// `chattr +i`.
    pub immutable: bool,
    /// `chattr +a`.
    pub append_only: bool,
}

/// Name and value of extended attributes.
pub type Xattrs = Vec<(CString, Vec<u8>)>;

/// The file system. Files are closed when they are dropped.
#[allow(missing_docs, reason = "each method is the system call of that name")]
pub trait Fs {
    type File;

    /// The path without symbolic links. Fails if the file does not exist.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// Opens an existing file; never follows a symbolic link, never blocks.
    fn open(&self, path: &Path, write: bool) -> io::Result<Self::File>;
    /// Creates a file that did not exist, mode 0600, for writing.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    fn stat(&self, file: &Self::File) -> io::Result<Meta>;
    /// At most `buffer.len()` bytes; 0 at the end.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reserves blocks up to `len` without changing the length.
    fn reserve(&self, file: &Self::File, len: u64) -> io::Result<()>;
    fn truncate(&self, file: &Self::File, len: u64) -> io::Result<()>;
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    fn chmod(&self, file: &Self::File, mode: u32) -> io::Result<()>;
    fn chown(&self, file: &Self::File, uid: u32, gid: u32) -> io::Result<()>;
    /// All extended attributes that the caller may see; none where the file system has none.
    fn xattrs(&self, file: &Self::File) -> io::Result<Xattrs>;
    fn set_xattr(&self, file: &Self::File, name: &CString, value: &[u8]) -> io::Result<()>;
    fn remove_xattr(&self, file: &Self::File, name: &CString) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The kernel's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    type File = OwnedFd;

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<OwnedFd> {
        let access = if write { OFlags::WRONLY } else { OFlags::RDONLY };
        // O_NONBLOCK: a FIFO in the place of the file must not hang us.
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn create(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)
    }

    fn stat(&self, file: &OwnedFd) -> io::Result<Meta> {
        let wanted = StatxFlags::BASIC_STATS;
        let s = match rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, wanted) {
            Ok(s) => s,
            // Sandboxes older than statx() refuse it in one of these ways.
            Err(Errno::NOSYS | Errno::PERM) => return Ok(meta_from_stat(&rustix::fs::fstat(file)?)),
            Err(error) => return Err(error.into()),
        };
        let has = |attribute| s.stx_attributes.contains(attribute);
        Ok(Meta {
            id: (s.stx_dev_major, s.stx_dev_minor, s.stx_ino),
            len: s.stx_size,
            mode: u32::from(s.stx_mode) & 0o7777,
            uid: s.stx_uid,
            gid: s.stx_gid,
            regular: u32::from(s.stx_mode) & 0o170_000 == 0o100_000,
            mount_root: has(StatxAttributes::MOUNT_ROOT),
            immutable: has(StatxAttributes::IMMUTABLE),
            append_only: has(StatxAttributes::APPEND),
        })
    }

    fn read_at(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset))?)
    }

    fn write_at(&self, file: &OwnedFd, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?)
    }

    fn reserve(&self, file: &OwnedFd, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, len) {
            // Not every file system can; the write itself will then tell whether there is room.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    fn truncate(&self, file: &OwnedFd, len: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(file, len)?)
    }

    fn sync(&self, file: &OwnedFd) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }

    fn chmod(&self, file: &OwnedFd, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }

    fn chown(&self, file: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
        std::os::unix::fs::fchown(file, Some(uid), Some(gid))
    }

    fn xattrs(&self, file: &OwnedFd) -> io::Result<Xattrs> {
        let mut names = Vec::new();
        match grow(&mut names, |buffer| rustix::fs::flistxattr(file, buffer)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            result => result?,
        }
        let mut found = Vec::new();
        for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
            let name = CString::new(name)?;
            let mut value = Vec::new();
            match grow(&mut value, |buffer| rustix::fs::fgetxattr(file, &name, buffer)) {
                // Gone in between, or listed but not for us to read.
                Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
                result => result?,
            }
            found.push((name, value));
        }
        Ok(found)
    }

    fn set_xattr(&self, file: &OwnedFd, name: &CString, value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
    }

    fn remove_xattr(&self, file: &OwnedFd, name: &CString) -> io::Result<()> {
        Ok(rustix::fs::fremovexattr(file, name)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlink(path)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        match rustix::fs::fsync(dir) {
            // Some file systems have no such thing (and then nothing to lose).
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::ROFS) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Without statx() neither mount points nor flags are known; the calls that follow will show them.
fn meta_from_stat(s: &rustix::fs::Stat) -> Meta {
    Meta {
        id: (rustix::fs::major(s.st_dev), rustix::fs::minor(s.st_dev), s.st_ino),
        len: u64::try_from(s.st_size).unwrap_or(0),
        mode: s.st_mode & 0o7777,
        uid: s.st_uid,
        gid: s.st_gid,
        regular: s.st_mode & 0o170_000 == 0o100_000,
        mount_root: false,
        immutable: false,
        append_only: false,
    }
}

/// Calls `get` with larger and larger buffers until the value fits (at most 64 KiB, the kernel's own limit).
fn grow(out: &mut Vec<u8>, get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<()> {
    for size in [256, 4096, 65_536] {
        out.resize(size, 0);
        match get(out) {
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
            Ok(length) => {
                out.truncate(length);
                return Ok(());
            }
        }
    }
    Err(Errno::TOOBIG)
}

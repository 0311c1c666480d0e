//! The write against a file system that fails, and against a kill, at every single call.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::*;

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// This call fails, the next ones work.
    Once(Errno),
    /// This call and all later ones fail (a disk that is full, or gone).
    From(Errno),
    /// The process is killed: a write may have got half-way, and nothing happens after.
    Kill,
}

/// The kernel's file system with one fault; optionally the target is a mount point.
struct FaultFs {
    calls: Cell<usize>,
    at: usize,
    fault: Fault,
    /// rename() to this path gives EBUSY.
    busy: Option<PathBuf>,
    /// ... and statx() shows the mount point beforehand.
    visible: bool,
    /// Run right before the rename or the first byte in place: another program at work.
    intruder: RefCell<Option<Box<dyn FnMut()>>>,
    killed_write: Cell<bool>,
}

impl FaultFs {
    fn none() -> Self {
        Self {
            calls: Cell::new(0),
            at: usize::MAX,
            fault: Fault::Kill,
            busy: None,
            visible: false,
            intruder: RefCell::new(None),
            killed_write: Cell::new(false),
        }
    }

    fn step(&self) -> io::Result<()> {
        let call = self.calls.get();
        self.calls.set(call + 1);
        match self.fault {
            Fault::Once(errno) if call == self.at => Err(errno.into()),
            Fault::From(errno) if call >= self.at => Err(errno.into()),
            Fault::Kill if call >= self.at => {
                self.killed_write.set(call == self.at);
                Err(io::Error::other("killed"))
            }
            _ => Ok(()),
        }
    }
}

impl Fs for FaultFs {
    type File = OwnedFd;

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.step()?;
        RealFs.resolve(path)
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<OwnedFd> {
        self.step()?;
        RealFs.open(path, write)
    }
    fn create(&self, path: &Path) -> io::Result<OwnedFd> {
        self.step()?;
        RealFs.create(path)
    }
    fn stat(&self, file: &OwnedFd) -> io::Result<Meta> {
        self.step()?;
        let meta = RealFs.stat(file)?;
        Ok(Meta { mount_root: self.visible, ..meta })
    }
    fn read_at(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step()?;
        RealFs.read_at(file, buffer, offset)
    }
    fn write_at(&self, file: &OwnedFd, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let result = self.step();
        let half = &bytes[..bytes.len().div_ceil(2)];
        if result.is_err() && matches!(self.fault, Fault::From(_)) || self.killed_write.take() {
            let _ = RealFs.write_at(file, half, offset);
        }
        result?;
        // Short writes all the time: the caller must go on.
        RealFs.write_at(file, half, offset)
    }
    fn reserve(&self, file: &OwnedFd, len: u64) -> io::Result<()> {
        self.step()?;
        RealFs.reserve(file, len)
    }
    fn truncate(&self, file: &OwnedFd, len: u64) -> io::Result<()> {
        self.step()?;
        RealFs.truncate(file, len)
    }
    fn sync(&self, file: &OwnedFd) -> io::Result<()> {
        self.step()?;
        RealFs.sync(file)
    }
    fn chmod(&self, file: &OwnedFd, mode: u32) -> io::Result<()> {
        self.step()?;
        RealFs.chmod(file, mode)
    }
    fn chown(&self, file: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
        self.step()?;
        RealFs.chown(file, uid, gid)
    }
    fn xattrs(&self, file: &OwnedFd) -> io::Result<Xattrs> {
        self.step()?;
        RealFs.xattrs(file)
    }
    fn set_xattr(&self, file: &OwnedFd, name: &CString, value: &[u8]) -> io::Result<()> {
        self.step()?;
        RealFs.set_xattr(file, name, value)
    }
    fn remove_xattr(&self, file: &OwnedFd, name: &CString) -> io::Result<()> {
        self.step()?;
        RealFs.remove_xattr(file, name)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        if self.busy.as_deref() == Some(to) {
            return Err(Errno::BUSY.into());
        }
        RealFs.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.unlink(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        if let Some(intruder) = &mut *self.intruder.borrow_mut() {
            intruder();
        }
        RealFs.sync_dir(dir)
    }
}

/// A directory with a hosts file and a run directory beside it.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new(content: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let host = Self { dir };
        std::fs::write(host.hosts(), content).unwrap();
        host
    }
    fn hosts(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("etc/hosts")
    }
    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }
    fn content(&self) -> Vec<u8> {
        std::fs::read(self.hosts()).unwrap()
    }
    fn open<F: Fs>(&self, fs: F) -> Result<Store<F>, StoreError> {
        Store::open(fs, &self.hosts(), &self.run())
    }
    /// One whole run: recover, then write.
    fn write<F: Fs>(&self, fs: F, new: &[u8]) -> Result<Written, StoreError> {
        let store = self.open(fs)?;
        let lock = store.lock()?;
        store.recover(&lock)?;
        store.update(&lock, |_| Ok::<_, StoreError>(new.to_vec()))
    }
    fn recover(&self) -> Option<Recovered> {
        let store = self.open(RealFs).unwrap();
        let lock = store.lock().unwrap();
        store.recover(&lock).unwrap()
    }
    /// Files other than the hosts file and the lock.
    fn strays(&self) -> Vec<String> {
        ["etc", "run"]
            .iter()
            .flat_map(|dir| std::fs::read_dir(self.dir.path().join(dir)).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "hosts" && name != "hostsfix.lock")
            .collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mount {
    No,
    /// Shown by statx().
    Visible,
    /// Only rename() shows it.
    Hidden,
}

fn fault_fs(host: &Host, mount: Mount, at: usize, fault: Fault) -> FaultFs {
    FaultFs {
        at,
        fault,
        busy: (mount != Mount::No).then(|| host.hosts()),
        visible: mount == Mount::Visible,
        ..FaultFs::none()
    }
}

const SMALL: &[u8] = b"127.0.0.1 localhost\n";
const LARGE: &[u8] = b"127.0.0.1 localhost\n# BEGIN\n2001:db8::1 registry.example.org\n# END\n10.0.0.1 nas\n";
const OTHER: &[u8] = b"127.0.0.1 localhost\n# BEGIN\n2001:db8::2 registry.example.org\n# END\n10.0.0.1 nas\n";

/// Runs `check` with every old and new content, every kind of mount, and the fault at every call.
fn at_every_call(
    faults: &[Fault],
    mut check: impl FnMut(&Host, Mount, Fault, Result<Written, StoreError>, &[u8], &[u8]),
) {
    let mut runs = 0;
    for (old, new) in [(SMALL, LARGE), (LARGE, SMALL), (LARGE, OTHER), (b"", LARGE), (LARGE, b"")] {
        for mount in [Mount::No, Mount::Visible, Mount::Hidden] {
            let host = Host::new(old);
            let fs = fault_fs(&host, mount, usize::MAX, Fault::Kill);
            let store = host.open(fs).unwrap();
            let lock = store.lock().unwrap();
            store.recover(&lock).unwrap();
            let written = store.update(&lock, |_| Ok::<_, StoreError>(new.to_vec())).unwrap();
            assert_eq!(written == Written::Replaced, mount == Mount::No);
            assert_eq!((host.content(), host.strays()), (new.to_vec(), vec![]));
            let calls = store.fs.calls.get();
            assert!(calls > 15, "{calls}");
            for fault in faults {
                for at in 0..calls {
                    let host = Host::new(old);
                    let result = host.write(fault_fs(&host, mount, at, *fault), new);
                    check(&host, mount, *fault, result, old, new);
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 300 * faults.len(), "{runs}");
}

#[test]
fn one_failing_call_leaves_old_or_new_and_nothing_else() {
    let errnos = [Errno::IO, Errno::NOSPC, Errno::PERM, Errno::ACCESS, Errno::ROFS, Errno::DQUOT];
    at_every_call(&errnos.map(Fault::Once), |host, mount, fault, result, old, new| {
        let context = format!("{mount:?} {fault:?} {result:?}");
        match result {
            Ok(written) => {
                assert_ne!(written, Written::Unchanged, "{context}");
                assert_eq!(host.content(), new, "{context}");
            }
            Err(_) => assert_eq!(host.content(), old, "{context}"),
        }
        // One failed unlink may leave its file; the next run clears it.
        assert!(host.strays().len() <= 1, "{context}: {:?}", host.strays());
        let content = host.content();
        host.recover();
        assert_eq!((host.content(), host.strays()), (content, vec![]), "{context}");
    });
}

#[test]
fn a_disk_that_stays_broken_loses_nothing() {
    at_every_call(
        &[Errno::IO, Errno::NOSPC, Errno::ROFS].map(Fault::From),
        |host, mount, fault, result, old, new| {
            let context = format!("{mount:?} {fault:?} {result:?}");
            let content = host.content();
            let half_written = matches!(result, Err(StoreError::HalfWritten { .. }));
            assert!(content == old || content == new || half_written, "{context}");
            let seen = host.open(RealFs).unwrap().read().unwrap().bytes;
            assert!(seen == old || seen == new, "{context}: readers see whole content");
            host.recover();
            let content = host.content();
            assert!(content == old || content == new, "{context}");
            if result.is_ok() {
                assert_eq!(content, new, "{context}");
            }
            assert_eq!(host.strays(), Vec::<String>::new(), "{context}");
        },
    );
}

#[test]
fn a_kill_at_any_call_leaves_old_or_new() {
    at_every_call(&[Fault::Kill], |host, mount, _, result, old, new| {
        let context = format!("{mount:?} {result:?}");
        let content = host.content();
        if mount == Mount::No {
            assert!(content == old || content == new, "{context}: without any recovery");
        }
        let seen = host.open(RealFs).unwrap().read().unwrap().bytes;
        assert!(seen == old || seen == new, "{context}");
        host.recover();
        assert_eq!(host.content(), seen, "{context}: what was shown is what is restored");
        assert_eq!(host.strays(), Vec::<String>::new(), "{context}");
        // And the next run works.
        host.write(fault_fs(host, mount, usize::MAX, Fault::Kill), b"10.0.0.9 next\n").unwrap();
        assert_eq!((host.content(), host.strays()), (b"10.0.0.9 next\n".to_vec(), vec![]), "{context}");
    });
}

#[test]
fn a_kill_during_the_recovery_is_recovered_too() {
    for (old, new) in [(SMALL, LARGE), (LARGE, SMALL), (LARGE, OTHER)] {
        // More than a run has calls, as `at_every_call` counts them.
        for first in 0..50 {
            for second in 0..40 {
                let host = Host::new(old);
                let _ = host.write(fault_fs(&host, Mount::Visible, first, Fault::Kill), new);
                let _ = host.write(fault_fs(&host, Mount::Visible, second, Fault::Kill), new);
                host.recover();
                let content = host.content();
                assert!(content == old || content == new, "killed at {first}, then at {second}");
                assert_eq!(host.strays(), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn an_edit_after_the_kill_is_respected() {
    for at in 0..60 {
        let host = Host::new(SMALL);
        let killed = host.write(fault_fs(&host, Mount::Visible, at, Fault::Kill), LARGE).is_err();
        std::fs::write(host.hosts(), b"10.9.9.9 mine\n").unwrap();
        let had_journal = host.strays().contains(&".hosts.v4shim-journal".to_owned());
        let found = host.recover();
        assert_eq!(host.content(), b"10.9.9.9 mine\n");
        assert_eq!(host.strays(), Vec::<String>::new());
        assert!(found.is_some() == had_journal, "{killed}");
    }
}

#[test]
fn without_a_writable_directory_the_journal_goes_to_the_run_directory() {
    let host = Host::new(SMALL);
    let store = host.open(RealFs).unwrap();
    // A directory in the journal's place: it cannot be created there, also not by root.
    std::fs::create_dir(host.dir.path().join("etc/.hosts.v4shim-journal")).unwrap();
    let before = store.read_raw().unwrap();
    assert!(store.overwrite(&before, LARGE).is_ok());
    assert_eq!(host.content(), LARGE);
    std::fs::remove_dir(host.dir.path().join("etc/.hosts.v4shim-journal")).unwrap();
    assert_eq!(host.strays(), Vec::<String>::new());
}

#[test]
fn without_any_place_for_a_journal_nothing_is_written() {
    let host = Host::new(SMALL);
    let store = host.open(RealFs).unwrap();
    for place in store.journal_places() {
        std::fs::create_dir(place.file()).unwrap();
    }
    let before = store.read_raw().unwrap();
    let Err(Refused::Error(error)) = store.overwrite(&before, LARGE) else { panic!() };
    assert!(error.to_string().contains("no place for the journal"), "{error}");
    assert_eq!(host.content(), SMALL);
}

#[test]
fn another_programs_change_is_never_lost() {
    for mount in [Mount::No, Mount::Visible] {
        let host = Host::new(SMALL);
        let store = host.open(fault_fs(&host, mount, usize::MAX, Fault::Kill)).unwrap();
        let lock = store.lock().unwrap();
        let mut times = 0;
        let written = store
            .update(&lock, |before| {
                times += 1;
                if times <= 3 {
                    // Between our reading and our writing, somebody appends a line.
                    let more = [before, b"10.0.0.", times.to_string().as_bytes(), b" x\n"].concat();
                    std::fs::write(host.hosts(), more).unwrap();
                }
                Ok::<_, StoreError>([before, b"2001:db8::1 ours\n"].concat())
            })
            .unwrap();
        assert_ne!(written, Written::Unchanged);
        assert_eq!(times, 4);
        let expected = [SMALL, b"10.0.0.1 x\n10.0.0.2 x\n10.0.0.3 x\n2001:db8::1 ours\n"].concat();
        assert_eq!(host.content(), expected);
        assert_eq!(host.strays(), Vec::<String>::new());
    }
}

#[test]
fn a_file_that_never_rests_is_reported() {
    let host = Host::new(SMALL);
    let store = host.open(RealFs).unwrap();
    let lock = store.lock().unwrap();
    let error = store
        .update(&lock, |before| {
            std::fs::write(host.hosts(), [before, b"#\n"].concat()).unwrap();
            Ok::<_, StoreError>(b"new".to_vec())
        })
        .unwrap_err();
    assert!(matches!(error, StoreError::Busy { tries: 5, .. }), "{error}");
    assert_eq!(host.strays(), Vec::<String>::new());
}

#[test]
fn a_change_while_the_journal_is_written_is_seen() {
    let host = Host::new(SMALL);
    let fs = fault_fs(&host, Mount::Visible, usize::MAX, Fault::Kill);
    let (path, mut left) = (host.hosts(), 2);
    *fs.intruder.borrow_mut() = Some(Box::new(move || {
        if left > 0 {
            left -= 1;
            let before = std::fs::read(&path).unwrap();
            std::fs::write(&path, [&before[..], b"10.0.0.7 theirs\n"].concat()).unwrap();
        }
    }));
    let store = host.open(fs).unwrap();
    let lock = store.lock().unwrap();
    store.update(&lock, |before| Ok::<_, StoreError>([before, b"2001:db8::1 ours\n"].concat())).unwrap();
    let text = String::from_utf8(host.content()).unwrap();
    assert_eq!(text.matches("theirs").count(), 2, "{text}");
    assert!(text.ends_with("ours\n"), "{text}");
}

#[test]
fn mode_owner_xattrs_and_symlink_stay() {
    let host = Host::new(SMALL);
    std::fs::set_permissions(host.hosts(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(host.hosts(), Some(12), Some(34)).unwrap();
    }
    let file = RealFs.open(&host.hosts(), false).unwrap();
    let xattr = RealFs.set_xattr(&file, &c"user.note".to_owned(), b"kept\0bytes").is_ok();
    let link = host.dir.path().join("link");
    symlink("etc/hosts", &link).unwrap();
    let store = Store::open(RealFs, &link, &host.run()).unwrap();
    let lock = store.lock().unwrap();
    let written = store.update(&lock, |_| Ok::<_, StoreError>(LARGE.to_vec())).unwrap();
    assert_eq!(written, Written::Replaced);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read(&link).unwrap(), LARGE);
    let meta = std::fs::metadata(host.hosts()).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o640);
    if root {
        assert_eq!((meta.uid(), meta.gid()), (12, 34));
    }
    if xattr {
        let file = RealFs.open(&host.hosts(), false).unwrap();
        let xattrs = RealFs.xattrs(&file).unwrap();
        assert!(xattrs.contains(&(c"user.note".to_owned(), b"kept\0bytes".to_vec())), "{xattrs:?}");
    }
}

#[test]
fn nothing_is_written_when_nothing_changes() {
    let host = Host::new(SMALL);
    let before = std::fs::metadata(host.hosts()).unwrap();
    assert_eq!(host.write(RealFs, SMALL).unwrap(), Written::Unchanged);
    let after = std::fs::metadata(host.hosts()).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
}

#[test]
fn what_is_no_hosts_file_is_refused() {
    let host = Host::new(SMALL);
    let dir = host.dir.path();
    let open = |path: &Path| Store::open(RealFs, path, &host.run()).and_then(|store| store.read());
    let missing = open(&dir.join("missing")).unwrap_err();
    assert!(missing.to_string().contains("no such file"), "{missing}");
    symlink("nowhere", dir.join("dangling")).unwrap();
    assert!(open(&dir.join("dangling")).is_err());
    symlink("circle", dir.join("circle")).unwrap();
    assert!(open(&dir.join("circle")).is_err());
    assert!(matches!(open(&dir.join("etc")), Err(StoreError::NotRegular(_))));
    assert!(matches!(open(Path::new("/dev/null")), Err(StoreError::NotRegular(_))));
    assert!(matches!(open(Path::new("/")), Err(StoreError::NotRegular(_))));
}

#[test]
fn a_journal_of_another_user_is_not_believed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let host = Host::new(b"aaaa\n");
    let store = host.open(RealFs).unwrap();
    let planted = journal::Journal { old: b"evil\n".to_vec(), new: b"aaaa\n\n\n".to_vec() };
    for (mode, uid) in [(0o600, 1000), (0o666, 0)] {
        for place in store.journal_places() {
            std::fs::write(place.file(), planted.encode()).unwrap();
            std::fs::set_permissions(place.file(), std::fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(place.file(), Some(uid), Some(0)).unwrap();
        }
        assert_eq!(store.read().unwrap().bytes, b"aaaa\n");
        host.recover();
        assert_eq!((host.content(), host.strays()), (b"aaaa\n".to_vec(), vec![]));
    }
}

#[test]
fn errors_say_what_failed_and_what_to_do() {
    let error =
        |errno: Errno| StoreError::Io { doing: "replace", path: "/etc/hosts".into(), source: errno.into() };
    assert_eq!(
        error(Errno::NOSPC).to_string(),
        "cannot replace /etc/hosts: no space left on device (free some space)"
    );
    assert_eq!(
        error(Errno::ACCESS).to_string(),
        "cannot replace /etc/hosts: permission denied (run as root)"
    );
    assert!(error(Errno::PERM).is_permission());
    assert!(!error(Errno::ROFS).is_permission());
}

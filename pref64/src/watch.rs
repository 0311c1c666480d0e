//! Two things that change under a running daemon without a netlink message: the list of resolvers, and the wall clock.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::dns::resolvers::{BEHIND_STUB, RESOLV_CONF};

/// Tells when a file that lists the system's resolvers has changed.
///
/// Directories are watched, because files are replaced by renaming and the symbolic link in `/etc` may come to point
/// elsewhere, and the files themselves, because a container's is mounted from another directory and written in place.
/// A directory that does not exist when the watch begins is not seen to appear.
#[derive(Debug)]
pub(crate) struct ResolverWatch {
    inotify: Inotify,
    files: Vec<PathBuf>,
}

impl ResolverWatch {
    pub(crate) fn new() -> io::Result<Self> {
        Self::of(&files())
    }

    fn of(files: &[&Path]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        for directory in files.iter().filter_map(|file| file.parent()) {
            match inotify.add_watch(directory, events | AddWatchFlags::IN_ONLYDIR) {
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let this = Self { inotify, files: files.iter().map(|file| file.to_path_buf()).collect() };
        this.watch_files();
        Ok(this)
    }

    /// The files as they are now: a replaced one is another. The directories tell of those that are missing.
    fn watch_files(&self) {
        for file in &self.files {
            let _ = self.inotify.add_watch(file, AddWatchFlags::IN_CLOSE_WRITE);
        }
    }

    /// Whether one of the files changed since the last call.
    pub(crate) fn changed(&self) -> bool {
        let mut changed = false;
        // Ends: each call takes what is queued, and an empty queue is an error.
        while let Ok(events) = self.inotify.read_events() {
            changed |= events.iter().any(concerns);
        }
        if changed {
            self.watch_files();
        }
        changed
    }
}

impl AsFd for ResolverWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn files() -> [&'static Path; 3] {
    [Path::new(RESOLV_CONF), Path::new(BEHIND_STUB[0]), Path::new(BEHIND_STUB[1])]
}

fn concerns(event: &InotifyEvent) -> bool {
    let ours = |name: &OsStr| files().iter().any(|file| file.file_name() == Some(name));
    match event.name.as_deref() {
        Some(name) => ours(name),
        // One of the files themselves, or a queue that overflowed and may have held anything.
        None => event.mask.intersects(AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_Q_OVERFLOW),
    }
}

/// Tells when the wall clock was set: the live prefix file has times of day in it, and a machine without a battery
/// for its clock starts years in the past.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    timer: TimerFd,
}

impl ClockWatch {
    pub(crate) fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let this = Self { timer };
        this.arm()?;
        Ok(this)
    }

    /// A timer that never fires; only setting the clock ends it (timerfd_create(2)).
    fn arm(&self) -> io::Result<()> {
        let never = Expiration::OneShot(TimeSpec::new(libc::time_t::MAX, 0));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.timer.set(never, flags)?)
    }

    /// Whether the clock was set since the last call.
    ///
    /// # Errors
    /// When the timer cannot be armed again.
    pub(crate) fn was_set(&self) -> io::Result<bool> {
        match self.timer.wait() {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(Errno::ECANCELED) => self.arm().map(|()| true),
            Err(error) => Err(error.into()),
            // It fired: the end of time (in 2038 where seconds have 32 bits). It is not armed again.
            Ok(()) => Ok(true),
        }
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_noticed_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        let watch = ResolverWatch::of(&[&file, Path::new("/nonexistent/resolv.conf")]).unwrap();
        assert!(!watch.changed());
        std::fs::write(dir.path().join("passwd"), "").unwrap();
        assert!(!watch.changed());
        std::fs::write(&file, "nameserver ::1\n").unwrap();
        assert!(watch.changed());
        assert!(!watch.changed(), "once");
        std::fs::write(dir.path().join("new"), "").unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        assert!(watch.changed());
        assert!(!watch.changed(), "once");
        std::fs::write(&file, "nameserver ::2\n").unwrap();
        assert!(watch.changed());
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/run/elsewhere", &file).unwrap();
        assert!(watch.changed());
    }

    #[test]
    fn a_file_that_lives_elsewhere_is_noticed_too() {
        let dir = tempfile::tempdir().unwrap();
        let (link, real) = (dir.path().join("etc/resolv.conf"), dir.path().join("real"));
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let watch = ResolverWatch::of(&[&link]).unwrap();
        std::fs::write(&real, "nameserver ::1\n").unwrap();
        assert!(watch.changed());
        assert!(!watch.changed());
    }

    #[test]
    fn an_undisturbed_clock_is_quiet() {
        assert!(!ClockWatch::new().unwrap().was_set().unwrap());
    }
}

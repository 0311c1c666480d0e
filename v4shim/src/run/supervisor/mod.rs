//! The supervisor: what the preload library does from inside, from outside.
//!
//! The command runs under a seccomp filter that stops `connect`, `getpeername` and `getsockname` and asks this
//! process. Nearly always the answer is "go on". For an IPv4 destination without a route, the
//! supervisor puts an IPv6 socket at the command's descriptor (`SECCOMP_IOCTL_NOTIF_ADDFD`). It needs no
//! privilege: it only reaches into its own descendants.
//!
//! One loop, one call at a time, and no call that waits: a blocking connect is started here without
//! blocking, and then continued in the kernel, on the new socket, with the command's own timeouts and signals.
//!
//! Killing the supervisor makes the stopped calls of the command fail with ENOSYS; the kernel offers no
//! better. So it ends last: while a descendant of the command is left under the filter, it stays.

mod abi;
mod calls;
mod sys;
mod target;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use pref64::config::Config;
use swap::Policy;
use xlat::Pref64;

/// Why the command was not run.
#[derive(Debug)]
pub(super) enum Error {
    /// It could not be executed.
    Exec(io::Error),
    /// Supervision could not be set up; what failed and why.
    Setup(String),
}

/// What the supervisor goes by.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) always: bool,
    pub(super) verbose: bool,
    pub(super) prefixes: Prefixes,
}

/// The prefix: given, or looked for again from time to time.
#[derive(Debug)]
pub(super) struct Prefixes {
    given: Option<Pref64>,
    configured: Option<Pref64>,
    fallback: Option<Pref64>,
    private_ipv4: bool,
    /// Found by RFC 7050, which is asked when nothing else is known.
    discovered: Option<Pref64>,
    checked: Option<Instant>,
    /// All that were used, the current one last: established peers stay in the old one.
    used: Vec<Pref64>,
}

impl Prefixes {
    pub(super) fn new(given: Option<Pref64>, config: &Config) -> Self {
        Self {
            given,
            configured: config.nat64.prefix.first().copied(),
            fallback: config.nat64.fallback_prefix,
            private_ipv4: config.nat64.private_ipv4,
            discovered: None,
            checked: None,
            used: Vec::new(),
        }
    }

    fn policy(&mut self) -> Option<Policy> {
        const CHECK: Duration = Duration::from_secs(2);
        if self.used.is_empty() || self.checked.is_none_or(|at| at.elapsed() >= CHECK) {
            self.checked = Some(Instant::now());
            let prefix = self.look()?;
            self.used.retain(|&p| p != prefix);
            self.used.push(prefix);
        }
        self.used.last().map(|&prefix| Policy { prefix, private_ipv4: self.private_ipv4 })
    }

    fn look(&mut self) -> Option<Pref64> {
        let live = || {
            let state = pref64::state::read(&pref64::state::prefix_file()).ok()?;
            let now = SystemTime::now();
            state.entries.iter().find(|entry| !entry.expires.is_past(now)).map(|entry| entry.prefix)
        };
        if let Some(known) = self.given.or_else(live).or(self.configured) {
            return Some(known);
        }
        self.discovered = swap::discover::prefix().or(self.discovered);
        self.discovered.or(self.fallback)
    }

    fn extract(&self, ip: std::net::Ipv6Addr) -> Option<std::net::Ipv4Addr> {
        self.used.iter().rev().find_map(|p| p.extract(ip))
    }
}

/// Runs the command under supervision; its exit status as a shell gives it.
pub(super) fn run(mut command: Command, settings: Settings) -> Result<u8, Error> {
    if !sys::SUPPORTED {
        return unsupervised(command, "there is no supervisor for this machine");
    }
    let signals = sys::signals().map_err(|e| Error::Setup(format!("cannot receive signals: {e}")))?;
    let (ours, theirs) =
        io::pipe().map_err(|e| Error::Setup(format!("cannot make a pipe to the command: {e}")))?;
    let (go_theirs, go_ours) =
        io::pipe().map_err(|e| Error::Setup(format!("cannot make a pipe to the command: {e}")))?;
    let pipes =
        Pipes { report: theirs.as_raw_fd(), go: go_theirs.as_raw_fd(), go_other_end: go_ours.as_raw_fd() };
    let alone = Arc::new(AtomicBool::new(false));
    prepare(&mut command, pipes, Arc::clone(&alone));
    let mut listener = Listener::None;
    // The command waits in its pre-exec hook, so spawn() cannot return before it is served: a thread waits for it.
    // The child's ends stay open until then, and close when there is no child.
    let child = std::thread::scope(|scope| {
        let spawned = scope.spawn(|| {
            let child = command.spawn();
            drop((theirs, go_theirs));
            child
        });
        listener = take_listener(ours, go_ours);
        spawned.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    });
    match listener {
        Listener::Taken(listener) => {
            let supervisor = calls::Supervisor::new(sys::lift(listener), settings);
            Ok(supervisor.serve(child.map_err(Error::Exec)?, &sys::lift(signals)))
        }
        Listener::None => wait_only(child.map_err(Error::Exec)?, &signals),
        // Under a filter that nobody serves every connect fails, so that child did not become the command.
        Listener::Lost(why) => {
            alone.store(true, Ordering::Relaxed);
            unsupervised(command, &why)
        }
    }
}

fn unsupervised(mut command: Command, why: &str) -> Result<u8, Error> {
    without(why);
    Err(Error::Exec(command.exec()))
}

fn without(why: &str) {
    eprintln!("v4shim: run: {why}; running without supervision");
}

/// The command's ends of the pipes to it, and the end that it must not keep.
#[derive(Clone, Copy)]
struct Pipes {
    report: RawFd,
    go: RawFd,
    go_other_end: RawFd,
}

/// Between fork and exec: installs the filter, reports pid and listener number, waits until it was taken.
#[allow(unsafe_code)]
fn prepare(command: &mut Command, pipes: Pipes, alone: Arc<AtomicBool>) {
    let hook = move || {
        sys::unblock_signals();
        if alone.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Else we would wait for ourselves.
        swap::sys::close(pipes.go_other_end);
        let (listener, error) = match sys::install_filter() {
            Ok(fd) => (fd, 0),
            Err(e) => (-1, e.raw_os_error().unwrap_or(libc::EIO)),
        };
        let mut message = [0u8; 12];
        message[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        message[4..8].copy_from_slice(&listener.to_ne_bytes());
        message[8..].copy_from_slice(&error.to_ne_bytes());
        // A parent that is gone takes the pipe with it.
        let _ = swap::sys::write(pipes.report, &message);
        let served = matches!(swap::sys::read(pipes.go, &mut [0]), Ok(1));
        if listener >= 0 {
            if !served {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
            swap::sys::close(listener);
        }
        Ok(())
    };
    // SAFETY: the hook makes system calls and reads an atomic: no allocation, no lock.
    unsafe { command.pre_exec(hook) };
}

/// What became of the listener.
#[derive(Debug)]
enum Listener {
    /// It is ours.
    Taken(OwnedFd),
    /// There is none, and no filter: why was said, or the command was not even started.
    None,
    /// The filter is there, but the kernel does not let us have the listener.
    Lost(String),
}

/// Takes the listener out of the waiting command.
fn take_listener(mut report: io::PipeReader, mut go: io::PipeWriter) -> Listener {
    use std::io::{Read as _, Write as _};
    let mut message = [0u8; 12];
    if report.read_exact(&mut message).is_err() {
        return Listener::None;
    }
    let [pid, fd, error] = [0, 4, 8]
        .map(|at| i32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]));
    // Said before the command has its turn, so that its output comes after.
    match error {
        0 => {}
        libc::EBUSY => {
            without("another supervisor is at work already");
            return Listener::None;
        }
        e => {
            without(&format!("cannot install a seccomp filter: {}", io::Error::from_raw_os_error(e)));
            return Listener::None;
        }
    }
    let taken = sys::pidfd(pid, || Some(pid)).and_then(|pidfd| sys::take(&pidfd, fd));
    match taken.and_then(|listener| go.write_all(&[1]).map(|()| listener)) {
        Ok(listener) => Listener::Taken(listener),
        Err(e) => Listener::Lost(format!("cannot take over the seccomp listener: {e}")),
    }
}

/// Waits for the command and passes signals on.
fn wait_only(mut child: Child, signals: &OwnedFd) -> Result<u8, Error> {
    loop {
        sys::poll([signals.as_raw_fd()], -1);
        if let Some(code) = pass_signals(&mut child, signals) {
            return Ok(code);
        }
    }
}

/// Handles pending signals; the exit status when the command has ended.
fn pass_signals(child: &mut Child, signals: &OwnedFd) -> Option<u8> {
    while let Some((signal, sent)) = sys::next_signal(signals) {
        if signal != libc::SIGCHLD && sent {
            sys::kill(child.id() as i32, signal);
        }
    }
    // The shell that started us waits for us: it must see the command stop, or its terminal seems to hang.
    if sys::stopped_by_terminal(child.id() as i32) {
        sys::stop();
    }
    match child.try_wait() {
        Ok(None) => None,
        Ok(Some(status)) => Some(match (status.code(), status.signal()) {
            (Some(code), _) => code as u8,
            (None, Some(signal)) => {
                sys::die_of(signal);
                128u8.wrapping_add(signal as u8)
            }
            (None, None) => 1,
        }),
        Err(_) => Some(1),
    }
}

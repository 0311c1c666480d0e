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

mod calls;
mod sys;
mod target;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command};
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
    let started = start(&mut command, theirs.as_raw_fd(), go_theirs.as_raw_fd(), go_ours.as_raw_fd());
    let mut listener = None;
    // The command waits in its pre-exec hook, so spawn() cannot return before it is served: a thread waits for it.
    // The child's ends stay open until then, and close when there is no child.
    let child = std::thread::scope(|scope| {
        let spawned = scope.spawn(move || {
            let child = started.spawn();
            drop((theirs, go_theirs));
            child
        });
        listener = take_listener(ours, go_ours);
        spawned.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    });
    let child = child.map_err(Error::Exec)?;
    let listener = match listener {
        Some(Ok(listener)) => sys::lift(listener),
        Some(Err(Unsupervised)) | None => return wait_only(child, &signals),
    };
    Ok(calls::Supervisor::new(listener, settings).serve(child, &sys::lift(signals)))
}

/// The command runs, but on its own; why was said.
#[derive(Debug)]
struct Unsupervised;

fn unsupervised(mut command: Command, why: &str) -> Result<u8, Error> {
    eprintln!("v4shim: run: {why}; running without supervision");
    Err(Error::Exec(command.exec()))
}

/// Between fork and exec: installs the filter, reports pid and listener number, waits until it was taken.
#[allow(unsafe_code)]
fn start(command: &mut Command, report: RawFd, go: RawFd, go_other_end: RawFd) -> &mut Command {
    let hook = move || {
        sys::unblock_signals();
        // Else we would wait for ourselves.
        swap::sys::close(go_other_end);
        let (listener, error) = match sys::install_filter() {
            Ok(fd) => (fd, 0),
            Err(e) => (-1, e.raw_os_error().unwrap_or(libc::EIO)),
        };
        let mut message = [0u8; 12];
        message[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        message[4..8].copy_from_slice(&listener.to_ne_bytes());
        message[8..].copy_from_slice(&error.to_ne_bytes());
        // A parent that is gone takes the pipe with it; then the command runs on its own.
        let _ = swap::sys::write(report, &message);
        let _ = swap::sys::read(go, &mut [0]);
        if listener >= 0 {
            swap::sys::close(listener);
        }
        Ok(())
    };
    // SAFETY: the hook makes system calls and nothing else: no allocation, no lock.
    unsafe { command.pre_exec(hook) }
}

/// Takes the listener out of the waiting command. `None`: the command never came that far.
fn take_listener(mut report: io::PipeReader, go: io::PipeWriter) -> Option<Result<OwnedFd, Unsupervised>> {
    use std::io::Read as _;
    let mut message = [0u8; 12];
    report.read_exact(&mut message).ok()?;
    let [pid, fd, error] = [0, 4, 8]
        .map(|at| i32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]));
    let taken = match error {
        0 => sys::pidfd(pid, || Some(pid))
            .and_then(|pidfd| sys::take(&pidfd, fd))
            .map_err(|e| format!("cannot take over the seccomp listener: {e}")),
        libc::EBUSY => Err("another supervisor is at work already".to_owned()),
        e => Err(format!("cannot install a seccomp filter: {}", io::Error::from_raw_os_error(e))),
    };
    // Said before the command has its turn, so that its output comes after.
    let taken = taken.map_err(|why| {
        eprintln!("v4shim: run: {why}; running without supervision");
        Unsupervised
    });
    drop(go);
    Some(taken)
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

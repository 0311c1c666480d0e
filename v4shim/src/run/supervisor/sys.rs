//! System calls of the supervisor: seccomp, pidfd, the memory of another process.
#![allow(unsafe_code)]

use super::abi::{NARROW, SOCKETCALL};
use libc::{c_int, c_long, c_void, pid_t};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

const SECCOMP_FILTER_FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;
const SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u32 = 1;
const SECCOMP_ADDFD_FLAG_SETFD: u32 = 1;
const IOCTL_RECV: libc::c_ulong = 0xc050_2100;
const IOCTL_SEND: libc::c_ulong = 0xc018_2101;
const IOCTL_ID_VALID: libc::c_ulong = 0x4008_2102;
const IOCTL_ADDFD: libc::c_ulong = 0x4018_2103;
const IOCTL_SET_FLAGS: libc::c_ulong = 0x4008_2104;
const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: libc::c_ulong = 1;
const PIDFD_THREAD: c_int = libc::O_EXCL;

#[cfg(target_arch = "x86_64")]
pub(super) const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const ARCH: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const ARCH: u32 = 0;

/// Whether there is a supervisor for this machine.
pub(super) const SUPPORTED: bool = ARCH != 0;

/// A stopped system call.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Notification {
    pub(super) id: u64,
    pub(super) pid: u32,
    flags: u32,
    pub(super) nr: c_int,
    pub(super) arch: u32,
    instruction: u64,
    pub(super) args: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    srcfd: u32,
    newfd: u32,
    newfd_flags: u32,
}

/// What the stopped call shall give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// Let the kernel do it.
    Continue,
    /// This value.
    Value(i64),
    /// This errno.
    Errno(c_int),
}

fn check(r: c_long) -> io::Result<c_long> {
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

fn owned(r: c_long) -> io::Result<OwnedFd> {
    // SAFETY: a descriptor that the kernel has just made for us.
    check(r).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Puts this process, and all it will start, under a filter that reports the three calls. No undoing.
/// Async-signal-safe: called between fork and exec.
pub(super) fn install_filter() -> io::Result<RawFd> {
    const fn op(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let [(connect, _), (peer, _), (own, _)] = SOCKETCALL;
    // struct seccomp_data: call number at 0, architecture at 4, first argument at 16. Jumps count from the next
    // line. What is of neither architecture (and x32, whose numbers have a bit more) falls through.
    let mut program = [
        op(LOAD, 4, 0, 0),
        op(EQUAL, ARCH, 1, 0),
        op(EQUAL, NARROW.arch, 4, 14),
        op(LOAD, 0, 0, 0),
        op(EQUAL, libc::SYS_connect as u32, 11, 0),
        op(EQUAL, libc::SYS_getpeername as u32, 10, 0),
        op(EQUAL, libc::SYS_getsockname as u32, 9, 10),
        op(LOAD, 0, 0, 0),
        op(EQUAL, NARROW.connect, 7, 0),
        op(EQUAL, NARROW.getpeername, 6, 0),
        op(EQUAL, NARROW.getsockname, 5, 0),
        op(EQUAL, NARROW.socketcall, 0, 5),
        op(LOAD, 16, 0, 0),
        op(EQUAL, connect, 2, 0),
        op(EQUAL, peer, 1, 0),
        op(EQUAL, own, 0, 1),
        op(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: integer arguments only.
    check(c_long::from(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }))?;
    let install = |flags: libc::c_ulong| {
        // SAFETY: `program` and what it points to are live; the kernel copies it.
        check(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        })
    };
    match install(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        // Before Linux 5.19.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => install(SECCOMP_FILTER_FLAG_NEW_LISTENER),
        r => r,
    }
    .map(|fd| fd as RawFd)
}

/// Lets caller and supervisor hand the processor to each other, which halves the cost of a stop. Linux 6.6; before it
/// stops just take longer.
pub(super) fn hand_over(listener: RawFd) {
    // SAFETY: integer arguments only.
    unsafe { libc::ioctl(listener, IOCTL_SET_FLAGS as _, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) };
}

/// The next stopped call; `None` when its caller is gone already.
pub(super) fn receive(listener: RawFd) -> io::Result<Option<Notification>> {
    let mut n = Notification::default();
    // SAFETY: the kernel fills a struct of this layout, which must be zero.
    match check(c_long::from(unsafe { libc::ioctl(listener, IOCTL_RECV, &raw mut n) })) {
        Ok(_) => Ok(Some(n)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR | libc::EAGAIN)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the caller still waits: what was read of its memory before was its own.
pub(super) fn still_there(listener: RawFd, id: u64) -> bool {
    // SAFETY: the kernel reads eight bytes.
    unsafe { libc::ioctl(listener, IOCTL_ID_VALID, &raw const id) == 0 }
}

/// Lets the caller go on. It may be gone; then nobody waits for the answer.
pub(super) fn respond(listener: RawFd, id: u64, reply: Reply) {
    let (val, error, flags) = match reply {
        Reply::Continue => (0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE),
        Reply::Value(v) => (v, 0, 0),
        Reply::Errno(e) => (0, -e, 0),
    };
    let response = Response { id, val, error, flags };
    // SAFETY: the kernel reads a struct of this layout.
    unsafe { libc::ioctl(listener, IOCTL_SEND, &raw const response) };
}

/// Puts our descriptor `fd` at number `target` in the caller's table.
pub(super) fn put(listener: RawFd, id: u64, fd: RawFd, target: RawFd, cloexec: bool) -> io::Result<()> {
    let add = AddFd {
        id,
        flags: SECCOMP_ADDFD_FLAG_SETFD,
        srcfd: fd as u32,
        newfd: target as u32,
        newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the kernel reads a struct of this layout.
    check(c_long::from(unsafe { libc::ioctl(listener, IOCTL_ADDFD, &raw const add) })).map(drop)
}

/// A handle on the thread, or where the kernel has no such handles (before 6.9) on its process `tgid`.
pub(super) fn pidfd(thread: pid_t, tgid: impl FnOnce() -> Option<pid_t>) -> io::Result<OwnedFd> {
    // SAFETY: integer arguments only.
    let open = |pid: pid_t, flags: c_int| owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) });
    open(thread, PIDFD_THREAD).or_else(|e| match tgid() {
        Some(pid) if e.raw_os_error() == Some(libc::EINVAL) => open(pid, 0),
        _ => Err(e),
    })
}

/// A duplicate of another process's descriptor.
pub(super) fn take(pidfd: &OwnedFd, fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integer arguments only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Reads memory of another process: as much as there is.
pub(super) fn read_memory(pid: pid_t, at: u64, buf: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let remote = libc::iovec { iov_base: at as *mut c_void, iov_len: buf.len() };
    // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`; the remote address it checks itself.
    check(unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) } as c_long)
        .map(|n| n as usize)
}

/// Writes memory of another process.
pub(super) fn write_memory(pid: pid_t, at: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: at as *mut c_void, iov_len: bytes.len() };
    // SAFETY: the kernel only reads `bytes`; the remote address it checks itself.
    let n = check(
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) } as c_long
    )?;
    if n as usize == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Moves a descriptor out of the way of numbers that programs use.
pub(super) fn lift(fd: OwnedFd) -> OwnedFd {
    const HIGH: c_int = 700;
    // SAFETY: integer arguments only.
    let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
    // SAFETY: a descriptor that the kernel has just made for us.
    if high < 0 { fd } else { unsafe { OwnedFd::from_raw_fd(high) } }
}

/// Opens `fd` at exactly `number` here, if that is free.
pub(super) fn at_number(fd: RawFd, number: RawFd) -> Option<OwnedFd> {
    // SAFETY: integer arguments only; the number is free, so nothing of ours is closed.
    unsafe {
        if libc::fcntl(number, libc::F_GETFD) >= 0 || libc::dup3(fd, number, libc::O_CLOEXEC) != number {
            return None;
        }
        Some(OwnedFd::from_raw_fd(number))
    }
}

/// Blocks the signals that are passed on to the command, and gives them as a descriptor.
pub(super) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before use; other arguments are integers.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        owned(c_long::from(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)))
    }
}

const PASSED_ON: [c_int; 10] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// Whether the process was stopped by its terminal since the last call (Ctrl-Z, or I/O from the background).
pub(super) fn stopped_by_terminal(pid: pid_t) -> bool {
    // SAFETY: any bytes are a valid siginfo_t for the kernel to fill; si_pid and si_status are read as waitid(2) sets
    // them, and only if it did.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let r = libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, libc::WSTOPPED | libc::WNOHANG);
        r == 0
            && info.si_pid() == pid
            && matches!(info.si_status(), libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
    }
}

/// Stops this process until somebody continues it.
pub(super) fn stop() {
    // SAFETY: integer arguments only.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Undoes [`signals`] in the command, between fork and exec.
pub(super) fn unblock_signals() {
    // SAFETY: `set` is initialised by sigemptyset before use.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// The next signal: its number, and whether a process sent it (the terminal's reach the command by themselves).
pub(super) fn next_signal(fd: &OwnedFd) -> Option<(c_int, bool)> {
    // SAFETY: any bytes are a valid signalfd_siginfo; the kernel writes whole ones.
    let info = unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of_val(&info);
        if libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size) != size as isize {
            return None;
        }
        info
    };
    Some((info.ssi_signo as c_int, info.ssi_code <= 0))
}

/// Sends a signal; a process that is gone needs none.
pub(super) fn kill(pid: pid_t, signal: c_int) {
    // SAFETY: integer arguments only.
    unsafe { libc::kill(pid, signal) };
}

/// Ends this process as a signal ended the command, so that the caller sees the same.
pub(super) fn die_of(signal: c_int) {
    // SAFETY: integer arguments, and a set that sigemptyset initialises.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::signal(signal, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// Waits for input on one of `fds`: bits of `poll(2)` for each.
pub(super) fn poll<const N: usize>(fds: [RawFd; N], ms: c_int) -> [i16; N] {
    let mut poll = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: `N` live structs.
    if unsafe { libc::poll(poll.as_mut_ptr(), N as libc::nfds_t, ms) } < 0 {
        return [0; N];
    }
    poll.map(|p| p.revents)
}

/// Splits off a process that goes on serving what the command left behind. `true` in the new one.
pub(super) fn stay_behind() -> bool {
    // SAFETY: this process has one thread.
    unsafe {
        if libc::fork() != 0 {
            return false;
        }
        libc::setsid();
        for fd in 0..3 {
            libc::close(fd);
        }
        true
    }
}

//! The system calls, one thin function each.
//!
//! They go to the kernel directly and not through the named libc functions: inside the preload library those names
//! are our own hooks. `errno` is clobbered; hooks save and restore it around everything.
#![allow(unsafe_code)]

use libc::{c_int, c_long};

const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;

/// A file descriptor as the kernel numbers it. Not owned: most belong to the application.
pub type Fd = c_int;

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub c_int);

/// Result of a system call.
pub type Result<T> = core::result::Result<T, Errno>;

/// The current `errno` of this thread.
#[must_use]
pub fn errno() -> c_int {
    // SAFETY: glibc returns a valid pointer to this thread's errno.
    unsafe { *libc::__errno_location() }
}

/// Sets `errno` of this thread.
pub fn set_errno(value: c_int) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = value }
}

fn check(r: c_long) -> Result<usize> {
    if r < 0 { Err(Errno(errno())) } else { Ok(r.unsigned_abs() as usize) }
}

fn fd(r: c_long) -> Result<Fd> {
    check(r).map(|n| n as Fd)
}

/// `socket(2)`.
///
/// # Errors
/// As the kernel says; the same holds for every function here.
pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<Fd> {
    // SAFETY: no pointers.
    fd(unsafe { libc::syscall(libc::SYS_socket, domain, kind, protocol) })
}

/// `close(2)`; failure is of no interest to any caller.
pub fn close(fd: Fd) {
    // SAFETY: no pointers; callers close only what they opened.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// `connect(2)`.
///
/// # Errors
/// As the kernel says.
pub fn connect(fd: Fd, addr: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe a live slice that the kernel only reads.
    check(unsafe { libc::syscall(libc::SYS_connect, fd, addr.as_ptr(), addr.len()) }).map(drop)
}

/// `bind(2)`.
///
/// # Errors
/// As the kernel says.
pub fn bind(fd: Fd, addr: &[u8]) -> Result<()> {
    // SAFETY: as in `connect`.
    check(unsafe { libc::syscall(libc::SYS_bind, fd, addr.as_ptr(), addr.len()) }).map(drop)
}

/// `getsockname(2)` into `buf`; the address's full length (which may exceed `buf`).
///
/// # Errors
/// As the kernel says.
pub fn getsockname(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    let mut len = buf.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `buf`, which is live and exclusive.
    check(unsafe { libc::syscall(libc::SYS_getsockname, fd, buf.as_mut_ptr(), &raw mut len) })?;
    Ok(len as usize)
}

/// `getpeername(2)` into `buf`; the address's full length.
///
/// # Errors
/// As the kernel says.
pub fn getpeername(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    let mut len = buf.len() as libc::socklen_t;
    // SAFETY: as in `getsockname`.
    check(unsafe { libc::syscall(libc::SYS_getpeername, fd, buf.as_mut_ptr(), &raw mut len) })?;
    Ok(len as usize)
}

/// `getsockopt(2)` into `buf`; how many bytes the option has.
///
/// # Errors
/// As the kernel says.
pub fn getsockopt(fd: Fd, level: c_int, name: c_int, buf: &mut [u8]) -> Result<usize> {
    let mut len = buf.len() as libc::socklen_t;
    // SAFETY: as in `getsockname`.
    check(unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, buf.as_mut_ptr(), &raw mut len) })?;
    Ok(len as usize)
}

/// An option of type `int`.
///
/// # Errors
/// As the kernel says.
pub fn getsockopt_int(fd: Fd, level: c_int, name: c_int) -> Result<c_int> {
    let mut value = [0u8; size_of::<c_int>()];
    getsockopt(fd, level, name, &mut value)?;
    Ok(c_int::from_ne_bytes(value))
}

/// `setsockopt(2)`.
///
/// # Errors
/// As the kernel says.
pub fn setsockopt(fd: Fd, level: c_int, name: c_int, value: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe a live slice that the kernel only reads.
    check(unsafe {
        libc::syscall(libc::SYS_setsockopt, fd, level, name, value.as_ptr(), value.len() as libc::socklen_t)
    })
    .map(drop)
}

/// Sets an option of type `int`.
///
/// # Errors
/// As the kernel says.
pub fn setsockopt_int(fd: Fd, level: c_int, name: c_int, value: c_int) -> Result<()> {
    setsockopt(fd, level, name, &value.to_ne_bytes())
}

/// `SO_COOKIE`: a number no other socket of this boot has. Where the option is not known (qemu-user), the socket's
/// inode, which no other socket has at the same time.
///
/// # Errors
/// As the kernel says: not a socket.
pub fn cookie(fd: Fd) -> Result<u64> {
    let mut value = [0u8; 8];
    match getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, &mut value) {
        Ok(_) => Ok(u64::from_ne_bytes(value)),
        Err(Errno(libc::EINVAL | libc::ENOPROTOOPT)) => inode(fd),
        Err(e) => Err(e),
    }
}

fn inode(fd: Fd) -> Result<u64> {
    // SAFETY: all zeros is a valid stat64.
    let mut stat: libc::stat64 = unsafe { core::mem::zeroed() };
    // SAFETY: the call fills `stat`.
    check(c_long::from(unsafe { libc::fstat64(fd, &raw mut stat) }))?;
    Ok(stat.st_ino)
}

/// `fcntl(2)` with an integer argument.
///
/// # Errors
/// As the kernel says.
pub fn fcntl(fd: Fd, cmd: c_int, arg: usize) -> Result<usize> {
    // SAFETY: only called with commands whose argument is an integer (or, for F_GETOWN_EX, by `owner`).
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd, cmd, arg) })
}

/// Who gets SIGIO for `fd`: type and id as in `F_GETOWN_EX`; `None` when nobody does.
#[must_use]
pub fn owner(fd: Fd) -> Option<[c_int; 2]> {
    let mut owner = [0 as c_int; 2];
    // SAFETY: F_GETOWN_EX writes a struct of two ints to the pointer given.
    let r = unsafe { libc::syscall(libc::SYS_fcntl, fd, F_GETOWN_EX, owner.as_mut_ptr()) };
    (r == 0 && owner[1] != 0).then_some(owner)
}

/// Sets who gets SIGIO.
///
/// # Errors
/// As the kernel says.
pub fn set_owner(fd: Fd, owner: [c_int; 2]) -> Result<()> {
    // SAFETY: F_SETOWN_EX reads a struct of two ints from the pointer given.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd, F_SETOWN_EX, owner.as_ptr()) }).map(drop)
}

/// `dup3(2)`.
///
/// # Errors
/// As the kernel says.
pub fn dup3(old: Fd, new: Fd, flags: c_int) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_dup3, old, new, flags) }).map(drop)
}

/// Whether two descriptors of this process are the same open file; `None` where `kcmp(2)` is not allowed.
#[must_use]
pub fn same_file(a: Fd, b: Fd) -> Option<bool> {
    const KCMP_FILE: c_int = 0;
    // SAFETY: no pointers.
    let r = unsafe {
        let pid = libc::syscall(libc::SYS_getpid);
        libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, a as c_long, b as c_long)
    };
    if r < 0 { None } else { Some(r == 0) }
}

/// Opens a file for reading, close-on-exec, without waiting where it is a pipe. `path` must end in NUL.
///
/// # Errors
/// As the kernel says; EINVAL when the NUL is missing.
pub fn open_read(path: &[u8]) -> Result<Fd> {
    if path.last() != Some(&0) {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: `path` is NUL-terminated and live.
    fd(unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK,
            0,
        )
    })
}

/// `read(2)`.
///
/// # Errors
/// As the kernel says.
pub fn read(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most `buf.len()` bytes.
    check(unsafe { libc::syscall(libc::SYS_read, fd, buf.as_mut_ptr(), buf.len()) })
}

/// `write(2)`.
///
/// # Errors
/// As the kernel says.
pub fn write(fd: Fd, buf: &[u8]) -> Result<usize> {
    // SAFETY: the kernel only reads `buf`.
    check(unsafe { libc::syscall(libc::SYS_write, fd, buf.as_ptr(), buf.len()) })
}

/// `getdents64(2)`.
///
/// # Errors
/// As the kernel says.
pub fn getdents(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most `buf.len()` bytes.
    check(unsafe { libc::syscall(libc::SYS_getdents64, fd, buf.as_mut_ptr(), buf.len()) })
}

/// `epoll_ctl(2)` with `EPOLL_CTL_ADD`.
///
/// # Errors
/// As the kernel says.
pub fn epoll_add(epoll: Fd, fd: Fd, events: u32, data: u64) -> Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the kernel only reads `event`.
    check(unsafe { libc::syscall(libc::SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })
        .map(drop)
}

/// Waits until there is something to read; `false` when time (milliseconds) is up or a signal came.
#[must_use]
pub fn wait_readable(fd: Fd, ms: c_int) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let time = libc::timespec {
        tv_sec: libc::time_t::from(ms / 1000),
        tv_nsec: c_long::from(ms % 1000) * 1_000_000,
    };
    // SAFETY: one pollfd, and a timespec of this function, both live; no signal mask.
    let r = unsafe { libc::ppoll(&raw mut poll, 1, &raw const time, core::ptr::null()) };
    r == 1
}

/// Two random bytes; zero where there are none.
#[must_use]
pub fn random_u16() -> u16 {
    let mut bytes = [0u8; 2];
    // SAFETY: the kernel writes at most two bytes.
    unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), libc::GRND_NONBLOCK) };
    u16::from_ne_bytes(bytes)
}

fn clock_s(clock: libc::clockid_t) -> u64 {
    // SAFETY: all zeros is a valid timespec.
    let mut now: libc::timespec = unsafe { core::mem::zeroed() };
    // SAFETY: the call fills `now`.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0)
}

/// Seconds since boot, cheaply.
#[must_use]
pub fn monotonic_s() -> u64 {
    clock_s(libc::CLOCK_MONOTONIC_COARSE)
}

/// Seconds since 1970.
#[must_use]
pub fn realtime_s() -> u64 {
    clock_s(libc::CLOCK_REALTIME)
}

/// Asks for a route without sending anything, not even the connect that a supervisor would see: an empty datagram
/// with MSG_CONFIRM and MSG_PROBE ends after the look-up.
///
/// # Errors
/// As the kernel says: ENETUNREACH and its like when there is no route.
pub fn probe(fd: Fd, addr: &[u8]) -> Result<()> {
    const MSG_PROBE: c_int = 0x10;
    let flags = libc::MSG_CONFIRM | MSG_PROBE;
    // Empty, but of memory that is there: qemu-user refuses a null pointer even with length 0 (EFAULT).
    let message = addr.as_ptr();
    // SAFETY: an empty message; pointer and length of the address describe a live slice.
    check(unsafe { libc::syscall(libc::SYS_sendto, fd, message, 0usize, flags, addr.as_ptr(), addr.len()) })
        .map(drop)
}

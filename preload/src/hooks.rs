//! The exported functions. Their names and nothing else may be visible to the program.
//!
//! `C-unwind`: `pthread_cancel` unwinds out of the real call and through us; there is nothing to clean up here.

use crate::settings::{self, Mode};
use crate::{connect as connecting, names, real, receive, resolver, seen, send, table};
use core::ffi::{c_char, c_uint, c_void};
use libc::{addrinfo, c_int, epoll_event, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};

macro_rules! hooks {
    ($($(#[$meta:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $to:path;)*) => {
        $($(#[$meta])*
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the application's arguments, unchanged.
            unsafe { $to($($arg),*) }
        })*
    };
}

hooks! {
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = make;
    connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = connecting::connect;
    // Old binaries of threaded programs were linked with this name.
    __connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = connecting::connect;
    bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = names::bind;
    getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int = names::getpeername;
    getsockname(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int = names::getsockname;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int
        = names::getsockopt;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int
        = names::setsockopt;
    sendto(fd: c_int, buf: *const c_void, n: size_t, flags: c_int, addr: *const sockaddr, len: socklen_t) -> ssize_t
        = send::sendto;
    sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t = send::sendmsg;
    sendmmsg(fd: c_int, msgs: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int = send::sendmmsg;
    recvfrom(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t)
        -> ssize_t = receive::recvfrom;
    recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = receive::recvmsg;
    recvmmsg(fd: c_int, msgs: *mut mmsghdr, n: c_uint, flags: c_int, timeout: *mut timespec) -> c_int
        = receive::recvmmsg;
    epoll_ctl(epoll: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int = watch;
    dup(fd: c_int) -> c_int = duplicate;
    dup2(old: c_int, new: c_int) -> c_int = duplicate_to;
    dup3(old: c_int, new: c_int, flags: c_int) -> c_int = duplicate_to_with;
    // Variadic in C: on every ABI here, one integer more is passed as a named one is.
    fcntl(fd: c_int, cmd: c_int, arg: usize) -> c_int = control;
    fcntl64(fd: c_int, cmd: c_int, arg: usize) -> c_int = control64;
    getaddrinfo(node: *const c_char, service: *const c_char, hints: *const addrinfo, list: *mut *mut addrinfo) -> c_int
        = resolver::getaddrinfo;
    gethostbyname(name: *const c_char) -> *mut c_void = resolver::gethostbyname;
    gethostbyname2(name: *const c_char, family: c_int) -> *mut c_void = resolver::gethostbyname2;
    gethostbyname_r(name: *const c_char, host: *mut c_void, buf: *mut c_char, len: size_t, result: *mut *mut c_void,
        h_errno: *mut c_int) -> c_int = resolver::gethostbyname_r;
    gethostbyname2_r(name: *const c_char, family: c_int, host: *mut c_void, buf: *mut c_char, len: size_t,
        result: *mut *mut c_void, h_errno: *mut c_int) -> c_int = resolver::gethostbyname2_r;
}

// What glibc's headers make of the names in 32-bit programs with a 64-bit `time_t`.
#[cfg(target_pointer_width = "32")]
hooks! {
    __getsockopt64(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int
        = names::getsockopt64;
    __setsockopt64(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int
        = names::setsockopt64;
    __sendmsg64(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t = send::sendmsg;
    __sendmmsg64(fd: c_int, msgs: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int = send::sendmmsg;
    __recvmsg64(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = receive::recvmsg64;
    __recvmmsg64(fd: c_int, msgs: *mut mmsghdr, n: c_uint, flags: c_int, timeout: *mut c_void) -> c_int
        = receive::recvmmsg64;
    __fcntl_time64(fd: c_int, cmd: c_int, arg: usize) -> c_int = control_time64;
}

/// What `_FORTIFY_SOURCE` makes of `recvfrom`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    n: size_t,
    room: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
) -> ssize_t {
    if n > room {
        // SAFETY: libc's own function, which ends the program with its message.
        return unsafe { real::recvfrom_chk(fd, buf, n, room, flags, addr, len) };
    }
    // SAFETY: the application's arguments, unchanged.
    unsafe { receive::recvfrom(fd, buf, n, flags, addr, len) }
}

unsafe fn make(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: no pointers.
    let fd = unsafe { real::socket(domain, kind, protocol) };
    if fd >= 0 && settings::mode() != Mode::Off {
        seen::made(fd, domain, kind);
        table::note_made(fd);
    }
    fd
}

unsafe fn watch(epoll: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    let r = unsafe { real::epoll_ctl(epoll, op, fd, event) };
    if r == 0 && op == libc::EPOLL_CTL_ADD {
        table::note_watch(epoll, fd);
    }
    r
}

fn noted(old: c_int, new: c_int) -> c_int {
    if new >= 0 && new != old && settings::mode() != Mode::Off {
        table::note_duplicate(old, new);
        // An option set through one is set on the other.
        seen::forget(old);
        seen::forget(new);
    }
    new
}

unsafe fn duplicate(fd: c_int) -> c_int {
    // SAFETY: no pointers.
    noted(fd, unsafe { real::dup(fd) })
}

unsafe fn duplicate_to(old: c_int, new: c_int) -> c_int {
    // SAFETY: no pointers.
    noted(old, unsafe { real::dup2(old, new) })
}

unsafe fn duplicate_to_with(old: c_int, new: c_int, flags: c_int) -> c_int {
    // SAFETY: no pointers.
    noted(old, unsafe { real::dup3(old, new, flags) })
}

/// One of the names of `fcntl`; they differ in 32-bit programs.
type Fcntl = unsafe fn(c_int, c_int, usize) -> c_int;

unsafe fn control(fd: c_int, cmd: c_int, arg: usize) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { control_by(real::fcntl, fd, cmd, arg) }
}

unsafe fn control64(fd: c_int, cmd: c_int, arg: usize) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { control_by(real::fcntl64, fd, cmd, arg) }
}

#[cfg(target_pointer_width = "32")]
unsafe fn control_time64(fd: c_int, cmd: c_int, arg: usize) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { control_by(real::fcntl_time64, fd, cmd, arg) }
}

unsafe fn control_by(call: Fcntl, fd: c_int, cmd: c_int, arg: usize) -> c_int {
    const F_SETSIG: c_int = 10;
    if cmd == F_SETSIG {
        seen::signals(fd);
    }
    // SAFETY: the application's arguments, unchanged.
    let r = unsafe { call(fd, cmd, arg) };
    if matches!(cmd, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) { noted(fd, r) } else { r }
}

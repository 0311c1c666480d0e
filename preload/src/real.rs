//! The functions behind the hooks.
//!
//! Looked up once, in the constructor; until then, and where the look-up failed, the system call itself.
//! The libc functions are preferred because they are cancellation points, and because another preloaded library
//! may come next in line. They are `C-unwind` for the sake of the former: `pthread_cancel` unwinds through us.

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use libc::{epoll_event, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};

macro_rules! real {
    ($table:ident $resolve:ident
        $($(#[$doc:meta])* $name:ident / $symbol:literal ($($arg:ident: $ty:ty),*) -> $ret:ty = $fallback:expr;)*) => {
        #[allow(non_upper_case_globals)]
        mod $table {
            use super::*;
            $(pub(super) static $name: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());)*
        }

        fn $resolve() {
            $($table::$name.store(next($symbol), Ordering::Release);)*
        }

        $($(#[$doc])*
        #[inline]
        pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
            let f = $table::$name.load(Ordering::Relaxed);
            if f.is_null() {
                // SAFETY: the system call takes the arguments that the caller vouches for.
                return unsafe { libc::syscall($fallback, $($arg),*) } as $ret;
            }
            // SAFETY: `f` is libc's function of this name, which has this signature.
            let f: unsafe extern "C-unwind" fn($($ty),*) -> $ret = unsafe { core::mem::transmute(f) };
            // SAFETY: as the caller vouches.
            unsafe { f($($arg),*) }
        })*
    };
}

fn next(symbol: &CStr) -> *mut c_void {
    // SAFETY: a NUL-terminated name; RTLD_NEXT is a valid handle.
    unsafe { libc::dlsym(libc::RTLD_NEXT, symbol.as_ptr().cast::<c_char>()) }
}

/// `dup2(2)`; some architectures have no system call of this name.
pub(crate) unsafe fn dup2(old: c_int, new: c_int) -> c_int {
    let f = DUP2.load(Ordering::Relaxed);
    if f.is_null() {
        // SAFETY: no pointers.
        return unsafe {
            if old == new { fcntl(old, libc::F_GETFD, 0).min(0) | new } else { dup3(old, new, 0) }
        };
    }
    // SAFETY: `f` is libc's function of this name, which has this signature.
    let f: unsafe extern "C-unwind" fn(c_int, c_int) -> c_int = unsafe { core::mem::transmute(f) };
    // SAFETY: no pointers.
    unsafe { f(old, new) }
}

static DUP2: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Finds every function. Only for the constructor: `dlsym` allocates and locks.
pub(crate) fn resolve() {
    resolve_table();
    #[cfg(target_pointer_width = "32")]
    resolve_time64();
    DUP2.store(next(c"dup2"), Ordering::Release);
}

const fn nr(n: c_long) -> c_long {
    n
}

real! {
    at resolve_table
    socket / c"socket" (domain: c_int, kind: c_int, protocol: c_int) -> c_int = nr(libc::SYS_socket);
    connect / c"connect" (fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = nr(libc::SYS_connect);
    bind / c"bind" (fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = nr(libc::SYS_bind);
    getpeername / c"getpeername" (fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int
        = nr(libc::SYS_getpeername);
    getsockname / c"getsockname" (fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int
        = nr(libc::SYS_getsockname);
    getsockopt / c"getsockopt" (fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int
        = nr(libc::SYS_getsockopt);
    setsockopt / c"setsockopt" (fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int
        = nr(libc::SYS_setsockopt);
    sendto / c"sendto"
        (fd: c_int, buf: *const c_void, n: size_t, flags: c_int, addr: *const sockaddr, len: socklen_t) -> ssize_t
        = nr(libc::SYS_sendto);
    sendmsg / c"sendmsg" (fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t = nr(libc::SYS_sendmsg);
    sendmmsg / c"sendmmsg" (fd: c_int, msgs: *mut mmsghdr, n: core::ffi::c_uint, flags: c_int) -> c_int
        = nr(libc::SYS_sendmmsg);
    recvfrom / c"recvfrom"
        (fd: c_int, buf: *mut c_void, n: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> ssize_t
        = nr(libc::SYS_recvfrom);
    recvfrom_chk / c"__recvfrom_chk"
        (fd: c_int, buf: *mut c_void, n: size_t, room: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t)
        -> ssize_t = { let _ = room; -1 };
    recvmsg / c"recvmsg" (fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = nr(libc::SYS_recvmsg);
    recvmmsg / c"recvmmsg"
        (fd: c_int, msgs: *mut mmsghdr, n: core::ffi::c_uint, flags: c_int, timeout: *mut timespec) -> c_int
        = nr(libc::SYS_recvmmsg);
    epoll_ctl / c"epoll_ctl" (epoll: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int
        = nr(libc::SYS_epoll_ctl);
    dup / c"dup" (fd: c_int) -> c_int = nr(libc::SYS_dup);
    dup3 / c"dup3" (old: c_int, new: c_int, flags: c_int) -> c_int = nr(libc::SYS_dup3);
    fcntl / c"fcntl" (fd: c_int, cmd: c_int, arg: usize) -> c_int = nr(libc::SYS_fcntl);
    fcntl64 / c"fcntl64" (fd: c_int, cmd: c_int, arg: usize) -> c_int = nr(FCNTL64);
}

#[cfg(target_pointer_width = "64")]
const FCNTL64: c_long = libc::SYS_fcntl;
#[cfg(target_pointer_width = "32")]
const FCNTL64: c_long = libc::SYS_fcntl64;

#[cfg(target_pointer_width = "32")]
real! {
    at_time64 resolve_time64
    getsockopt64 / c"__getsockopt64"
        (fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int
        = nr(libc::SYS_getsockopt);
    setsockopt64 / c"__setsockopt64"
        (fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int
        = nr(libc::SYS_setsockopt);
    recvmsg64 / c"__recvmsg64" (fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = nr(libc::SYS_recvmsg);
    recvmmsg64 / c"__recvmmsg64"
        (fd: c_int, msgs: *mut mmsghdr, n: core::ffi::c_uint, flags: c_int, timeout: *mut c_void) -> c_int
        = nr(RECVMMSG_TIME64);
    fcntl_time64 / c"__fcntl_time64" (fd: c_int, cmd: c_int, arg: usize) -> c_int = nr(FCNTL64);
}

/// The same on every 32-bit architecture.
#[cfg(target_pointer_width = "32")]
const RECVMMSG_TIME64: c_long = 417;

//! Name servers with an IPv4 address, in `/etc/resolv.conf`.
//!
//! libc's resolver calls its own `connect`, which no library can stand in for. What can be reached is its list of name
//! servers, `_res`, which is public, and which libc leaves alone once a program has changed it. So: the real look-up
//! first. When it says that no name server answered, and there are some in IPv4 without a route, they get their
//! addresses under the NAT64 prefix, and the look-up is tried once more. `_res` belongs to the thread, and so does the change.
//!
//! Look-ups are not async-signal-safe anyway; this module may allocate. Programs that call `res_query` or keep a
//! `res_state` of their own are not helped, except after a look-up by one of the functions here in the same thread.
//! Programs with a resolver of their own (dig, c-ares, Go with cgo off) call `connect` or `sendto` as for any destination.

use crate::connect::translate;
use crate::settings::{self, Mode};
use core::ffi::{CStr, c_char, c_ulong, c_void};
use core::mem::offset_of;
use core::net::Ipv4Addr;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use libc::{addrinfo, c_int, size_t, sockaddr_in, sockaddr_in6};
use swap::route::{leads_nowhere, no_route_touched};
use swap::{Touched, sys};

const MAXNS: usize = 3;

/// `struct __res_state` of glibc, from `<resolv.h>`; part of its binary interface since 2.1 (the union since 2.26).
#[repr(C)]
struct ResState {
    retrans: c_int,
    retry: c_int,
    options: c_ulong,
    nscount: c_int,
    nsaddr_list: [sockaddr_in; MAXNS],
    id: u16,
    dnsrch: [*mut c_char; 7],
    defdname: [c_char; 256],
    pfcode: c_ulong,
    ndots_and_so_on: u32,
    sort_list: [[u32; 2]; 10],
    unused_hooks: [*mut c_void; 2],
    res_h_errno: c_int,
    vcsock: c_int,
    flags: u32,
    ext: ResExt,
}

#[repr(C)]
struct ResExt {
    nscount: u16,
    nsmap: [u16; MAXNS],
    nssocks: [c_int; MAXNS],
    nscount6: u16,
    nsinit: u16,
    /// Where `nsaddr_list` has the family 0; allocated by `malloc`.
    nsaddrs: [*mut sockaddr_in6; MAXNS],
    reserved: [u32; 2],
}

const _: () = assert!(offset_of!(ResState, ext.nsaddrs) == if size_of::<usize>() == 8 { 536 } else { 484 });

unsafe extern "C" {
    #[link_name = "__res_state"]
    fn res_state() -> *mut ResState;
    #[link_name = "__h_errno_location"]
    fn h_errno_location() -> *mut c_int;
}

/// Gives this thread's resolver the NAT64 addresses of those of its name servers that have no IPv4 route. `false`: there are none.
fn reroute() -> bool {
    const RES_INIT: c_ulong = 1;
    // SAFETY: libc's state of this thread, which nobody else uses meanwhile.
    let Some(state) = (unsafe { res_state().as_mut() }) else { return false };
    if state.options & RES_INIT == 0 {
        return false;
    }
    let n = usize::try_from(state.nscount).unwrap_or(0);
    let mut changed = false;
    for (four, six) in state.nsaddr_list.iter_mut().zip(&mut state.ext.nsaddrs).take(n) {
        if c_int::from(four.sin_family) != libc::AF_INET {
            continue;
        }
        let ip = Ipv4Addr::from_bits(u32::from_be(four.sin_addr.s_addr));
        let Some(to) = translate(ip).filter(|_| unreached(ip)) else { continue };
        if six.is_null() {
            // SAFETY: a plain allocation, which libc will free.
            *six = unsafe { libc::calloc(1, size_of::<sockaddr_in6>()) }.cast();
        }
        // SAFETY: libc allocates these of this size as well.
        let Some(six) = (unsafe { six.as_mut() }) else { continue };
        six.sin6_family = libc::AF_INET6 as u16;
        six.sin6_port = four.sin_port;
        six.sin6_flowinfo = 0;
        six.sin6_addr.s6_addr = to.octets();
        six.sin6_scope_id = 0;
        four.sin_family = 0;
        changed = true;
    }
    changed
}

fn unreached(ip: Ipv4Addr) -> bool {
    const NONE: c_int = -1;
    if settings::mode() == Mode::Always {
        leads_nowhere(NONE, ip)
    } else {
        no_route_touched(NONE, ip, Touched::from_bits(0))
    }
}

/// What [`reroute`] says where it may act. `errno` stays.
fn worth_another_try() -> bool {
    let entry = sys::errno();
    let worth = settings::mode() != Mode::Off && reroute();
    sys::set_errno(entry);
    worth
}

/// libc's function, looked up when it is first wanted: there is no system call to fall back on, and no hot path.
fn next(slot: &AtomicPtr<c_void>, symbol: &CStr) -> *mut c_void {
    let known = slot.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: a NUL-terminated name; RTLD_NEXT is a valid handle.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, symbol.as_ptr()) };
    slot.store(found, Ordering::Relaxed);
    found
}

macro_rules! lookups {
    ($($(#[$doc:meta])* $name:ident / $symbol:literal ($($arg:ident: $ty:ty),*) -> $ret:ty,
        no libc: $absent:expr, no answer: |$r:ident| $unanswered:expr;)*) => {
        $($(#[$doc])*
        pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
            static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
            let f = next(&NEXT, $symbol);
            if f.is_null() {
                return $absent;
            }
            // SAFETY: `f` is libc's function of this name, which has this signature.
            let f: unsafe extern "C-unwind" fn($($ty),*) -> $ret = unsafe { core::mem::transmute(f) };
            // SAFETY: the application's arguments, unchanged.
            let $r = unsafe { f($($arg),*) };
            if $unanswered && worth_another_try() {
                // SAFETY: the application's arguments, unchanged; the failed call left nothing behind.
                return unsafe { f($($arg),*) };
            }
            $r
        })*
    };
}

const TRY_AGAIN: c_int = 2;

fn h_errno() -> c_int {
    // SAFETY: libc returns a valid pointer to this thread's h_errno.
    unsafe { *h_errno_location() }
}

/// Whether `gethostbyname_r` found no name server. It has just written to these pointers.
unsafe fn none_answered(result: *mut *mut c_void, h_errno: *mut c_int) -> bool {
    // SAFETY: as the caller says.
    unsafe { !result.is_null() && (*result).is_null() && !h_errno.is_null() && *h_errno == TRY_AGAIN }
}

lookups! {
    /// The hook.
    ///
    /// # Safety
    /// As for `getaddrinfo(3)`; likewise for the others.
    getaddrinfo / c"getaddrinfo"
        (node: *const c_char, service: *const c_char, hints: *const addrinfo, list: *mut *mut addrinfo) -> c_int,
        no libc: libc::EAI_FAIL, no answer: |r| r == libc::EAI_AGAIN;
    /// The hook.
    gethostbyname / c"gethostbyname" (name: *const c_char) -> *mut c_void,
        no libc: null_mut(), no answer: |r| r.is_null() && h_errno() == TRY_AGAIN;
    /// The hook.
    gethostbyname2 / c"gethostbyname2" (name: *const c_char, family: c_int) -> *mut c_void,
        no libc: null_mut(), no answer: |r| r.is_null() && h_errno() == TRY_AGAIN;
    /// The hook.
    gethostbyname_r / c"gethostbyname_r"
        (name: *const c_char, host: *mut c_void, buf: *mut c_char, len: size_t, result: *mut *mut c_void,
            h_errno: *mut c_int) -> c_int,
        // SAFETY: libc's function has returned.
        no libc: libc::ENOSYS, no answer: |r| { let _ = r; unsafe { none_answered(result, h_errno) } };
    /// The hook.
    gethostbyname2_r / c"gethostbyname2_r"
        (name: *const c_char, family: c_int, host: *mut c_void, buf: *mut c_char, len: size_t, result: *mut *mut c_void,
            h_errno: *mut c_int) -> c_int,
        // SAFETY: libc's function has returned.
        no libc: libc::ENOSYS, no answer: |r| { let _ = r; unsafe { none_answered(result, h_errno) } };
}

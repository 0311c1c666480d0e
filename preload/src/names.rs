//! What the application is told about a socket of ours: addresses and family.

use crate::connect::parse;
use crate::settings::{self, Mode};
use crate::table::{self, Kind};
use crate::{prefix, real, seen, user};
use core::ffi::c_void;
use core::net::{Ipv4Addr, Ipv6Addr};
use libc::{c_int, sockaddr, socklen_t};
use swap::sockaddr::{DUMMY, LEN_IN6};
use swap::sys::{self, Errno, Fd};
use swap::{Dest, RawAddr};

/// An address of a socket of ours as the application must see it; `None`: as it is.
pub(crate) fn shown(kind: Kind, addr: Dest) -> Option<RawAddr> {
    match (kind, addr) {
        (Kind::Swapped, Dest::V6(ip, port)) => Some(RawAddr::v4(ipv4_of(ip), port)),
        (Kind::Swapped, Dest::Mapped(ip, port)) => Some(RawAddr::v4(ip, port)),
        (Kind::Mapped, Dest::V6(ip, port)) => {
            prefix::extract(ip).map(|v4| RawAddr::v6(v4.to_ipv6_mapped(), port))
        }
        (_, Dest::V4(..) | Dest::Mapped(..) | Dest::Other) => None,
    }
}

/// Peers under the prefix have an IPv4 address. Others, our own included, have none: the dummy address.
fn ipv4_of(ip: Ipv6Addr) -> Ipv4Addr {
    if ip.is_unspecified() { Ipv4Addr::UNSPECIFIED } else { prefix::extract(ip).unwrap_or(DUMMY) }
}

/// The local address of a socket of ours. That of a [`Kind::Mapped`] one is IPv6 unless it is connected to an IPv4
/// peer; then the application expects the same family on both ends.
fn shown_local(kind: Kind, fd: Fd, addr: Dest) -> Option<RawAddr> {
    match (kind, addr) {
        (Kind::Mapped, Dest::V6(ip, port)) if !ip.is_unspecified() => {
            let mut peer = [0; LEN_IN6];
            let len = sys::getpeername(fd, &mut peer).ok()?;
            let Dest::V6(peer, _) = Dest::parse(peer.get(..len)?) else { return None };
            prefix::extract(peer).map(|_| RawAddr::v6(DUMMY.to_ipv6_mapped(), port))
        }
        _ => shown(kind, addr),
    }
}

/// Stores an address as the kernel does: cut off at the room given, with its full length.
pub(crate) fn store(bytes: &[u8], room: usize, addr: *mut c_void, len: *mut socklen_t) -> Result<(), Errno> {
    let fits = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
    user::write_bytes(addr, fits)
        .and_then(|()| user::write(len, &(bytes.len() as socklen_t)))
        .ok_or(Errno(libc::EFAULT))
}

/// The hook.
///
/// # Safety
/// As for `getpeername(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn getpeername(fd: Fd, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { name(fd, addr, len, |fd, a, l| real::getpeername(fd, a, l), |kind, _, dest| shown(kind, dest)) }
}

/// The hook.
///
/// # Safety
/// As for `getsockname(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn getsockname(fd: Fd, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { name(fd, addr, len, |fd, a, l| real::getsockname(fd, a, l), shown_local) }
}

unsafe fn name(
    fd: Fd,
    addr: *mut sockaddr,
    len: *mut socklen_t,
    call: unsafe fn(Fd, *mut sockaddr, *mut socklen_t) -> c_int,
    show: fn(Kind, Fd, Dest) -> Option<RawAddr>,
) -> c_int {
    let entry = sys::errno();
    let ours = if settings::mode() != Mode::Off && table::maybe(fd) { table::kind(fd) } else { None };
    let room = ours.and_then(|_| user::read(len));
    sys::set_errno(entry);
    let (Some(kind), Some(room)) = (ours, room) else {
        // SAFETY: the application's arguments, unchanged.
        return unsafe { call(fd, addr, len) };
    };
    let mut bytes = [0u8; LEN_IN6];
    let mut full = bytes.len() as socklen_t;
    // SAFETY: our own buffer and its length.
    let r = unsafe { call(fd, bytes.as_mut_ptr().cast(), &raw mut full) };
    if r < 0 {
        return r;
    }
    let bytes = bytes.get(..full as usize).unwrap_or(&bytes);
    let seen = show(kind, fd, Dest::parse(bytes));
    let answer = store(seen.as_ref().map_or(bytes, RawAddr::as_bytes), room as usize, addr.cast(), len);
    crate::connect::give(answer.map(|()| 0), entry)
}

/// The hook: `SO_DOMAIN`.
///
/// # Safety
/// As for `getsockopt(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn getsockopt(
    fd: Fd,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    let r = unsafe { real::getsockopt(fd, level, name, value, len) };
    // SAFETY: the same.
    unsafe { show_domain(fd, level, name, value, len, r) }
}

/// The hook of `__getsockopt64`.
///
/// # Safety
/// As for [`getsockopt`].
#[cfg(target_pointer_width = "32")]
pub(crate) unsafe fn getsockopt64(
    fd: Fd,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    let r = unsafe { real::getsockopt64(fd, level, name, value, len) };
    // SAFETY: the same.
    unsafe { show_domain(fd, level, name, value, len, r) }
}

unsafe fn show_domain(
    fd: Fd,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
    r: c_int,
) -> c_int {
    if r == 0
        && level == libc::SOL_SOCKET
        && name == libc::SO_DOMAIN
        && settings::mode() != Mode::Off
        && table::maybe(fd)
    {
        let entry = sys::errno();
        if table::kind(fd) == Some(Kind::Swapped)
            && let Some(room) = user::read(len)
        {
            let domain = libc::AF_INET.to_ne_bytes();
            // The kernel has just written as many bytes there.
            let _ = user::write_bytes(value, domain.get(..room as usize).unwrap_or(&domain));
        }
        sys::set_errno(entry);
    }
    r
}

/// The hook: IPv4 options set on a socket that is IPv6 by now, and multicast memberships.
///
/// # Safety
/// As for `setsockopt(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn setsockopt(
    fd: Fd,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { setsockopt_by(real::setsockopt, fd, level, name, value, len) }
}

/// The hook of `__setsockopt64`.
///
/// # Safety
/// As for [`setsockopt`].
#[cfg(target_pointer_width = "32")]
pub(crate) unsafe fn setsockopt64(
    fd: Fd,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { setsockopt_by(real::setsockopt64, fd, level, name, value, len) }
}

unsafe fn setsockopt_by(
    call: unsafe fn(Fd, c_int, c_int, *const c_void, socklen_t) -> c_int,
    fd: Fd,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    seen::option(fd, level, name);
    // SAFETY: the application's arguments, unchanged.
    let r = unsafe { call(fd, level, name, value, len) };
    if r == 0 && level == libc::IPPROTO_IP && settings::mode() != Mode::Off {
        let entry = sys::errno();
        if swap::options::joins_group(name) {
            table::note_multicast(fd);
        } else if table::maybe(fd)
            && table::kind(fd) == Some(Kind::Swapped)
            && let Some((bytes, n)) = user::read_bytes::<16>(value, len as usize)
        {
            swap::options::mirror(fd, name, bytes.get(..n).unwrap_or(&bytes));
        }
        sys::set_errno(entry);
    }
    r
}

/// The hook: binding the address that [`getsockname`] made up means any address.
///
/// # Safety
/// As for `bind(2)`, except that the kernel's checks of `addr` hold here as well.
pub(crate) unsafe fn bind(fd: Fd, addr: *const sockaddr, len: socklen_t) -> c_int {
    let entry = sys::errno();
    // SAFETY: the application's arguments, unchanged.
    let r = unsafe { real::bind(fd, addr, len) };
    if r == 0 || sys::errno() != libc::EADDRNOTAVAIL || settings::mode() == Mode::Off {
        return r;
    }
    let any = match parse(addr, len) {
        Dest::V4(DUMMY, port) => RawAddr::v4(Ipv4Addr::UNSPECIFIED, port),
        Dest::Mapped(DUMMY, port) => RawAddr::v6(Ipv6Addr::UNSPECIFIED, port),
        _ => {
            sys::set_errno(libc::EADDRNOTAVAIL);
            return r;
        }
    };
    let bytes = any.as_bytes();
    // SAFETY: pointer and length describe a live slice.
    let r = unsafe { real::bind(fd, bytes.as_ptr().cast(), bytes.len() as socklen_t) };
    if r == 0 {
        sys::set_errno(entry);
    }
    r
}

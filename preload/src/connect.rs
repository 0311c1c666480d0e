//! `connect()` to an IPv4 destination that has no route.

use crate::seen::{self, Past};
use crate::settings::Mode;
use crate::table::{self, Kind};
use crate::{exchange, prefix, real, report, settings, user};
use core::net::{Ipv4Addr, Ipv6Addr};
use libc::{c_int, sockaddr, socklen_t};
use swap::route::{leads_nowhere, no_route, no_route_touched, unreachable};
use swap::sockaddr::LEN_IN6;
use swap::sys::{self, Errno, Fd};
use swap::{Dest, RawAddr, Replacement};

/// A `struct sockaddr` of AF_UNSPEC, which is zero.
const UNSPEC: [u8; 16] = [0; 16];

/// What a call gives: its value, or an errno.
pub(crate) type Answer<T> = Result<T, Errno>;

/// Hands an answer to C. `entry` is errno as it was when the hook was called: success leaves it alone.
pub(crate) fn give<T: From<i8>>(answer: Answer<T>, entry: c_int) -> T {
    match answer {
        Ok(value) => {
            sys::set_errno(entry);
            value
        }
        Err(Errno(e)) => {
            sys::set_errno(e);
            T::from(-1)
        }
    }
}

/// The hook.
///
/// # Safety
/// As for `connect(2)`, except that the kernel's checks of `addr` hold here as well.
pub(crate) unsafe fn connect(fd: Fd, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    let untouched = || unsafe { real::connect(fd, addr, len) };
    let mode = settings::mode();
    if mode == Mode::Off {
        return untouched();
    }
    let entry = sys::errno();
    if table::maybe(fd)
        && let Some(kind) = table::kind(fd)
        && let Some(answer) = again(fd, kind, parse(addr, len))
    {
        return give(answer, entry);
    }
    let past = seen::connecting(fd);
    if mode == Mode::Always {
        if let Some(answer) = divert(fd, parse(addr, len), past, leads_nowhere) {
            return give(answer, entry);
        }
        sys::set_errno(entry);
    }
    let r = untouched();
    if r >= 0 {
        return r;
    }
    let e = sys::errno();
    let no_route = |fd, ip| failed_at_once(fd, past) || no_route_touched(fd, ip, past.touched());
    if unreachable(e)
        && let Some(answer) = divert(fd, parse_read(addr, len), past, no_route)
    {
        return give(answer, entry);
    }
    sys::set_errno(e);
    r
}

/// The application's destination.
pub(crate) fn parse(addr: *const sockaddr, len: socklen_t) -> Dest {
    match user::read_bytes::<LEN_IN6>(addr.cast(), len as usize) {
        Some((bytes, n)) => bytes.get(..n).map_or(Dest::Other, Dest::parse),
        None => Dest::Other,
    }
}

/// The same, when the kernel has just read it.
fn parse_read(addr: *const sockaddr, len: socklen_t) -> Dest {
    let (bytes, n) = user::copy_bytes::<LEN_IN6>(addr.cast(), len as usize);
    bytes.get(..n).map_or(Dest::Other, Dest::parse)
}

/// Whether an "unreachable" that `connect` gave is the routing table's and not the network's: the first connect of
/// a non-blocking stream socket ends before the network can answer, and that of a datagram socket always does.
fn failed_at_once(fd: Fd, past: Past) -> bool {
    past.at_once().is_some_and(|in_any_case| {
        let flags = || sys::fcntl(fd, libc::F_GETFL, 0).unwrap_or(0);
        in_any_case || flags() as c_int & libc::O_NONBLOCK != 0
    })
}

/// A first connect. `None`: nothing was done, the real answer stands.
fn divert(fd: Fd, dest: Dest, past: Past, condition: impl Fn(Fd, Ipv4Addr) -> bool) -> Option<Answer<c_int>> {
    let (ip, port) = dest.ipv4()?;
    let to = translate(ip)?;
    if !condition(fd, ip) {
        return None;
    }
    if let Dest::Mapped(..) = dest {
        return mapped(fd, ip, to, port);
    }
    match exchange_for(fd, past, to, port) {
        Ok((answer, lost_address)) => {
            report::rewritten("connect", ip, to, port);
            if lost_address {
                report::note("connect", ip, port, "the local IPv4 address cannot be kept, only the port");
            }
            Some(answer)
        }
        Err(why) => {
            report::declined("connect", ip, port, why);
            None
        }
    }
}

/// Where a destination is under the NAT64 prefix; `None` when it stays IPv4.
pub(crate) fn translate(ip: Ipv4Addr) -> Option<Ipv6Addr> {
    // Before a prefix is looked for, which may take a while.
    if !swap::policy::leaves_the_host(ip) {
        return None;
    }
    prefix::policy()?.translate(ip)
}

/// Connects a new IPv6 socket and puts it in the place of `fd`.
fn exchange_for(fd: Fd, past: Past, to: Ipv6Addr, port: u16) -> Result<(Answer<c_int>, bool), swap::Decline> {
    let made = Replacement::prepare_touched(fd, past.touched())?;
    let connected = match made.connect(to, port) {
        Ok(done) => done,
        Err(e) if unreachable(e.0) || e.0 == libc::EADDRNOTAVAIL => return Err(e.into()),
        // An answer from the network, however early: the application may have it.
        Err(e) => return Ok((Err(e), false)),
    };
    let (blocking, lost) = (made.blocking(), made.lost_address());
    exchange::put(fd, made)?;
    let answer = match (connected, blocking) {
        (true, _) => Ok(0),
        (false, false) => Err(Errno(libc::EINPROGRESS)),
        (false, true) => wait(fd, to, port),
    };
    Ok((answer, lost))
}

/// Waits for a connect that is under way, on the application's own descriptor, so that its timeouts, signals and
/// other threads' `shutdown` act as ever.
pub(crate) fn wait(fd: Fd, to: Ipv6Addr, port: u16) -> Answer<c_int> {
    match real_connect(fd, &RawAddr::v6(to, port)) {
        // What a first connect says when SO_SNDTIMEO runs out.
        Err(Errno(libc::EALREADY)) => Err(Errno(libc::EINPROGRESS)),
        r => r,
    }
}

fn real_connect(fd: Fd, to: &RawAddr) -> Answer<c_int> {
    let bytes = to.as_bytes();
    // SAFETY: pointer and length describe a live slice.
    match unsafe { real::connect(fd, bytes.as_ptr().cast(), bytes.len() as socklen_t) } {
        r if r >= 0 => Ok(r),
        _ => Err(Errno(sys::errno())),
    }
}

/// An IPv6 socket and a v4-mapped destination: only the address changes.
fn mapped(fd: Fd, ip: Ipv4Addr, to: Ipv6Addr, port: u16) -> Option<Answer<c_int>> {
    // An IPv6-only socket has asked not to speak IPv4.
    if sys::getsockopt_int(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) != Ok(0) {
        return None;
    }
    let cookie = sys::cookie(fd).ok()?;
    let answer = real_connect(fd, &RawAddr::v6(to, port));
    match answer {
        Err(Errno(e)) if unreachable(e) || matches!(e, libc::EADDRNOTAVAIL | libc::EINVAL) => None,
        _ => {
            table::insert(fd, cookie, Kind::Mapped);
            report::rewritten("connect", ip, to, port);
            Some(answer)
        }
    }
}

/// A connect on a socket of ours: the state of the connection decides what it answers, as for any
/// socket. `None`: nothing was done, let the real call answer.
fn again(fd: Fd, kind: Kind, dest: Dest) -> Option<Answer<c_int>> {
    let (ip, port) = match (dest, kind) {
        (Dest::V4(ip, port), Kind::Swapped) | (Dest::Mapped(ip, port), Kind::Mapped) => (ip, port),
        // The kernel's answer to these on an AF_INET socket.
        (Dest::V6(..) | Dest::Mapped(..), Kind::Swapped) => return Some(Err(Errno(libc::EAFNOSUPPORT))),
        (Dest::V6(ip, port), Kind::Mapped) => {
            let answer = real_connect(fd, &RawAddr::v6(ip, port));
            if answer.is_ok() {
                table::remove(fd);
            }
            return Some(answer);
        }
        (Dest::V4(..) | Dest::Other, _) => return None,
    };
    let to = translate(ip).filter(|_| settings::mode() == Mode::Always || no_route(fd, ip));
    let to = RawAddr::v6(to.unwrap_or(ip.to_ipv6_mapped()), port);
    let answer = real_connect(fd, &to);
    // A datagram socket keeps the source of its first connect; between the families it must let go of it.
    if let Err(Errno(libc::EINVAL | libc::ENETUNREACH | libc::EADDRNOTAVAIL)) = answer
        && sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_DGRAM)
        && sys::connect(fd, &UNSPEC).is_ok()
    {
        return Some(real_connect(fd, &to));
    }
    Some(answer)
}

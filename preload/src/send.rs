//! Datagrams, and TCP Fast Open, to an IPv4 destination that has no route.
//!
//! An unconnected IPv4 socket is swapped on its first such datagram. The new one is dual-stack: the kernel takes
//! AF_INET destinations on it as before, so that one socket still reaches 127.0.0.1 and the LAN.

use crate::connect::{Answer, give, parse, translate, wait};
use crate::settings::Mode;
use crate::table::{self, Kind};
use crate::{exchange, real, report, seen, settings, user};
use core::ffi::{c_uint, c_void};
use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering};
use libc::{c_int, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use swap::route::{leads_nowhere, no_route, unreachable};
use swap::sys::{self, Errno, Fd};
use swap::{Decline, Dest, RawAddr, Replacement};

/// Destinations lately found without an IPv4 route: address in the high half, monotonic seconds in the low one.
static NO_ROUTE: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
/// How long that is believed. Then IPv4 gets its chance again.
const BELIEVED_S: u32 = 5;

fn known_slot(ip: Ipv4Addr) -> Option<&'static AtomicU64> {
    let [a, b, c, d] = ip.octets();
    NO_ROUTE.get(usize::from(a ^ b ^ c ^ d))
}

fn note_no_route(ip: Ipv4Addr) {
    if let Some(slot) = known_slot(ip) {
        slot.store(u64::from(ip.to_bits()) << 32 | sys::monotonic_s() & 0xffff_ffff, Ordering::Relaxed);
    }
}

fn known_no_route(ip: Ipv4Addr) -> bool {
    known_slot(ip).is_some_and(|slot| {
        let entry = slot.load(Ordering::Relaxed);
        (entry >> 32) as u32 == ip.to_bits()
            && (sys::monotonic_s() as u32).wrapping_sub(entry as u32) < BELIEVED_S
    })
}

/// A send call with its destination left open.
trait Send {
    /// Sends to `to`, through `fd`, with `flags` or-ed in.
    fn send(&self, fd: Fd, to: &RawAddr, flags: c_int) -> Answer<ssize_t>;
    /// Sends on a connected socket, without MSG_FASTOPEN.
    fn send_connected(&self, fd: Fd) -> Answer<ssize_t>;
    /// The application's flags.
    fn flags(&self) -> c_int;
}

fn answer(r: ssize_t) -> Answer<ssize_t> {
    if r >= 0 { Ok(r) } else { Err(Errno(sys::errno())) }
}

/// Arguments of `sendto`.
struct To {
    buf: *const c_void,
    n: size_t,
    flags: c_int,
}

impl Send for To {
    fn send(&self, fd: Fd, to: &RawAddr, flags: c_int) -> Answer<ssize_t> {
        let to = to.as_bytes();
        // SAFETY: the application's buffer, which the kernel checks, and a live address.
        answer(unsafe {
            real::sendto(fd, self.buf, self.n, self.flags | flags, to.as_ptr().cast(), to.len() as socklen_t)
        })
    }

    fn send_connected(&self, fd: Fd) -> Answer<ssize_t> {
        let flags = self.flags & !libc::MSG_FASTOPEN;
        // SAFETY: the application's buffer, which the kernel checks.
        answer(unsafe { real::sendto(fd, self.buf, self.n, flags, core::ptr::null(), 0) })
    }

    fn flags(&self) -> c_int {
        self.flags
    }
}

/// Arguments of `sendmsg`.
struct Message {
    msg: msghdr,
    flags: c_int,
}

impl Message {
    fn with(&self, name: &[u8]) -> msghdr {
        let mut msg = self.msg;
        msg.msg_name = if name.is_empty() { core::ptr::null_mut() } else { name.as_ptr().cast_mut().cast() };
        msg.msg_namelen = name.len() as socklen_t;
        msg
    }
}

impl Send for Message {
    fn send(&self, fd: Fd, to: &RawAddr, flags: c_int) -> Answer<ssize_t> {
        let msg = self.with(to.as_bytes());
        // SAFETY: the application's header with a live name; the kernel checks the rest.
        answer(unsafe { real::sendmsg(fd, &raw const msg, self.flags | flags) })
    }

    fn send_connected(&self, fd: Fd) -> Answer<ssize_t> {
        let msg = self.with(&[]);
        // SAFETY: the application's header without a name; the kernel checks the rest.
        answer(unsafe { real::sendmsg(fd, &raw const msg, self.flags & !libc::MSG_FASTOPEN) })
    }

    fn flags(&self) -> c_int {
        self.flags
    }
}

/// What to do before the real call: sockets of ours whose destination is known to have no route, and
/// everything in mode `always`. `None`: call it.
fn before(fd: Fd, dest: Dest, call: &impl Send) -> Option<Answer<ssize_t>> {
    let (ip, port) = dest.ipv4()?;
    if table::maybe(fd) && known_no_route(ip) {
        let to = translate(ip)?;
        return match call.send(fd, &RawAddr::v6(to, port), 0) {
            // Not a socket of ours after all.
            Err(Errno(libc::EAFNOSUPPORT | libc::EINVAL | libc::ENOTSOCK | libc::EISCONN)) => None,
            answer => Some(answer),
        };
    }
    if settings::mode() == Mode::Always { divert(fd, dest, call, leads_nowhere) } else { None }
}

/// The real call found no route. `None`: nothing was done, its answer stands.
fn divert(
    fd: Fd,
    dest: Dest,
    call: &impl Send,
    condition: fn(Fd, Ipv4Addr) -> bool,
) -> Option<Answer<ssize_t>> {
    let (ip, port) = dest.ipv4()?;
    let to = translate(ip)?;
    if !condition(fd, ip) {
        return None;
    }
    let rewritten = RawAddr::v6(to, port);
    let done = match (dest, table::kind(fd)) {
        // Dual-stack already: ours, or made so by the application.
        (Dest::V4(..), Some(Kind::Swapped)) | (Dest::Mapped(..), _) => {
            if let Dest::Mapped(..) = dest {
                if sys::getsockopt_int(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) != Ok(0) {
                    return None;
                }
                table::insert(fd, sys::cookie(fd).ok()?, Kind::Mapped);
            }
            Ok(call.send(fd, &rewritten, 0))
        }
        (Dest::V4(..), _) => swap_and_send(fd, to, port, call),
        _ => return None,
    };
    match done {
        Ok(answer) => {
            note_no_route(ip);
            report::rewritten("send", ip, to, port);
            Some(answer)
        }
        Err(why) => {
            report::declined("send", ip, port, why);
            None
        }
    }
}

/// Swaps the socket at `fd`; the first datagram leaves before the swap, because it may fail.
fn swap_and_send(fd: Fd, to: Ipv6Addr, port: u16, call: &impl Send) -> Result<Answer<ssize_t>, Decline> {
    if table::multicast(fd) || sys::getpeername(fd, &mut [0; 28]).is_ok() {
        // Memberships and an IPv4 peer would be lost.
        return Err(Decline::Tied);
    }
    let made = Replacement::prepare_touched(fd, seen::past(fd).touched())?;
    let blocking = made.blocking();
    let flags = if made.tcp() { libc::MSG_DONTWAIT } else { 0 };
    let sent = call.send(made.fd(), &RawAddr::v6(to, port), flags);
    match sent {
        Err(Errno(e)) if unreachable(e) || e == libc::EADDRNOTAVAIL => return Err(Decline::Failed(Errno(e))),
        _ => {}
    }
    exchange::put(fd, made)?;
    // TCP Fast Open without a cookie: the connection is under way, the data are not.
    if sent == Err(Errno(libc::EINPROGRESS)) && blocking && call.flags() & libc::MSG_DONTWAIT == 0 {
        return Ok(wait(fd, to, port).and_then(|_| call.send_connected(fd)));
    }
    Ok(sent)
}

/// The hook.
///
/// # Safety
/// As for `sendto(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn sendto(
    fd: Fd,
    buf: *const c_void,
    n: size_t,
    flags: c_int,
    addr: *const sockaddr,
    len: socklen_t,
) -> ssize_t {
    // SAFETY: the application's arguments, unchanged.
    let untouched = || unsafe { real::sendto(fd, buf, n, flags, addr, len) };
    let mode = settings::mode();
    if addr.is_null() || mode == Mode::Off {
        return untouched();
    }
    let entry = sys::errno();
    let call = To { buf, n, flags };
    if mode == Mode::Always || table::maybe(fd) {
        if let Some(answer) = before(fd, parse(addr, len), &call) {
            return give(answer, entry);
        }
        sys::set_errno(entry);
    }
    let r = untouched();
    if r >= 0 {
        return r;
    }
    let e = sys::errno();
    if unreachable(e)
        && let Some(answer) = divert(fd, parse(addr, len), &call, no_route)
    {
        return give(answer, entry);
    }
    sys::set_errno(e);
    r
}

/// The hook.
///
/// # Safety
/// As for `sendmsg(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn sendmsg(fd: Fd, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the application's arguments, unchanged.
    let untouched = || unsafe { real::sendmsg(fd, msg, flags) };
    let mode = settings::mode();
    if mode == Mode::Off {
        return untouched();
    }
    let entry = sys::errno();
    if mode == Mode::Always || table::maybe(fd) {
        if let Some(answer) = named(msg, flags).and_then(|(dest, call)| before(fd, dest, &call)) {
            return give(answer, entry);
        }
        sys::set_errno(entry);
    }
    let r = untouched();
    if r >= 0 {
        return r;
    }
    let e = sys::errno();
    if unreachable(e)
        && let Some(answer) = named(msg, flags).and_then(|(dest, call)| divert(fd, dest, &call, no_route))
    {
        return give(answer, entry);
    }
    sys::set_errno(e);
    r
}

/// A message with its destination, if it has one.
fn named(msg: *const msghdr, flags: c_int) -> Option<(Dest, Message)> {
    let msg = user::read(msg)?;
    (!msg.msg_name.is_null()).then(|| (parse(msg.msg_name.cast(), msg.msg_namelen), Message { msg, flags }))
}

/// The hook. The kernel stops at the first message that it cannot send; that one is ours, then it goes on.
///
/// # Safety
/// As for `sendmmsg(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn sendmmsg(fd: Fd, msgs: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int {
    if settings::mode() == Mode::Off {
        // SAFETY: the application's arguments, unchanged.
        return unsafe { real::sendmmsg(fd, msgs, n, flags) };
    }
    let entry = sys::errno();
    let mut done: c_uint = 0;
    while done < n {
        let rest = msgs.wrapping_add(done as usize);
        let head = if settings::mode() == Mode::Always || table::maybe(fd) { user::read(rest) } else { None };
        let early = head.and_then(|m| named_in(&m, flags)).and_then(|(dest, call)| before(fd, dest, &call));
        let one = match early {
            Some(answer) => answer,
            None => {
                sys::set_errno(entry);
                // SAFETY: the rest of the application's array; the kernel checks it.
                let r = unsafe { real::sendmmsg(fd, rest, n - done, flags) };
                if r > 0 {
                    // The kernel went as far as it could; the caller asks again for the rest, as ever.
                    return done as c_int + r;
                }
                let e = sys::errno();
                let ours = (r < 0 && unreachable(e)).then(|| user::read(rest)).flatten();
                match ours
                    .and_then(|m| named_in(&m, flags))
                    .and_then(|(dest, call)| divert(fd, dest, &call, no_route))
                {
                    Some(answer) => answer,
                    None => {
                        sys::set_errno(if done > 0 { entry } else { e });
                        return if done > 0 { done as c_int } else { r };
                    }
                }
            }
        };
        match one {
            Ok(sent) => {
                // SAFETY: only the address of the field is computed.
                let field = unsafe { &raw mut (*rest).msg_len };
                if user::write(field, &(sent as c_uint)).is_none() {
                    return give(Err(Errno(libc::EFAULT)), entry);
                }
                done += 1;
            }
            Err(_) if done > 0 => break,
            Err(e) => return give(Err(e), entry),
        }
    }
    give(Ok(done as c_int), entry)
}

fn named_in(m: &mmsghdr, flags: c_int) -> Option<(Dest, Message)> {
    let msg = m.msg_hdr;
    (!msg.msg_name.is_null()).then(|| (parse(msg.msg_name.cast(), msg.msg_namelen), Message { msg, flags }))
}

//! Carrying socket options from an IPv4 socket to the IPv6 one that replaces it.

use crate::sys::{self, Errno, Fd};
use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, c_int};

/// Missing from the libc crate on some targets; the numbers are the same on all that Linux runs on here.
const SO_BUF_LOCK: c_int = 72;
const SO_BINDTOIFINDEX: c_int = 62;
/// What 32-bit programs with a 64-bit `time_t` set instead of the options without `_NEW`.
const SO_TIMESTAMP_NEW: c_int = 63;
const SO_TIMESTAMPNS_NEW: c_int = 64;
const SO_TIMESTAMPING_NEW: c_int = 65;
const SO_RCVTIMEO_NEW: c_int = 66;
const SO_SNDTIMEO_NEW: c_int = 67;
const IP_UNICAST_IF: c_int = 50;
const IPV6_UNICAST_IF: c_int = 76;
const IPV6_FREEBIND: c_int = 78;
const IPV6_RECVTCLASS: c_int = 66;
const TCP_INQ: c_int = 36;
const TCP_TX_DELAY: c_int = 37;
const SO_RXQ_OVFL: c_int = 40;
const SO_BUSY_POLL: c_int = 46;
const SO_MAX_PACING_RATE: c_int = 47;
const SO_ZEROCOPY: c_int = 60;

/// Largest option that is carried: congestion control and device names have 16 bytes, and so have timeouts.
const LEN: usize = 16;

/// Which sockets have an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Any,
    Tcp,
    Udp,
}

/// One option to carry.
struct Row {
    of: Of,
    level: c_int,
    name: c_int,
    /// Its name on an IPv6 socket, set in addition, where IPv6 has another.
    v6: Option<c_int>,
    /// Zero unless the application changed it: saves looking at the new socket.
    zero: bool,
}

const fn row(of: Of, level: c_int, name: c_int) -> Row {
    Row { of, level, name, v6: None, zero: true }
}

/// The default is a sysctl's or not zero: compare with the new socket.
const fn compare(of: Of, level: c_int, name: c_int) -> Row {
    Row { of, level, name, v6: None, zero: false }
}

const fn ip(of: Of, name: c_int, v6: c_int, zero: bool) -> Row {
    Row { of, level: IPPROTO_IP, name, v6: Some(v6), zero }
}

/// Options whose loss nobody would notice at once. Failure to set one is not a reason to leave the destination
/// unreachable. An IPv6 socket takes `IPPROTO_IP` options as well, and gives them back when asked.
const TABLE: &[Row] = &[
    row(Of::Any, SOL_SOCKET, libc::SO_KEEPALIVE),
    row(Of::Any, SOL_SOCKET, libc::SO_REUSEADDR),
    row(Of::Any, SOL_SOCKET, libc::SO_REUSEPORT),
    row(Of::Any, SOL_SOCKET, libc::SO_BROADCAST),
    row(Of::Any, SOL_SOCKET, libc::SO_OOBINLINE),
    row(Of::Any, SOL_SOCKET, libc::SO_DONTROUTE),
    compare(Of::Any, SOL_SOCKET, libc::SO_RCVLOWAT),
    row(Of::Any, SOL_SOCKET, libc::SO_LINGER),
    row(Of::Any, SOL_SOCKET, libc::SO_RCVTIMEO),
    row(Of::Any, SOL_SOCKET, libc::SO_SNDTIMEO),
    row(Of::Any, SOL_SOCKET, libc::SO_TIMESTAMP),
    row(Of::Any, SOL_SOCKET, libc::SO_TIMESTAMPNS),
    row(Of::Any, SOL_SOCKET, libc::SO_TIMESTAMPING),
    row(Of::Any, SOL_SOCKET, SO_TIMESTAMP_NEW),
    row(Of::Any, SOL_SOCKET, SO_TIMESTAMPNS_NEW),
    row(Of::Any, SOL_SOCKET, SO_TIMESTAMPING_NEW),
    row(Of::Any, SOL_SOCKET, SO_RXQ_OVFL),
    compare(Of::Any, SOL_SOCKET, SO_BUSY_POLL),
    compare(Of::Any, SOL_SOCKET, SO_MAX_PACING_RATE),
    row(Of::Any, SOL_SOCKET, SO_ZEROCOPY),
    row(Of::Tcp, IPPROTO_TCP, libc::TCP_NODELAY),
    row(Of::Tcp, IPPROTO_TCP, libc::TCP_CORK),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_KEEPIDLE),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_KEEPINTVL),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_KEEPCNT),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_SYNCNT),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_MAXSEG),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_CONGESTION),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_LINGER2),
    row(Of::Tcp, IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    row(Of::Tcp, IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_QUICKACK),
    compare(Of::Tcp, IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    row(Of::Tcp, IPPROTO_TCP, TCP_INQ),
    row(Of::Tcp, IPPROTO_TCP, TCP_TX_DELAY),
    ip(Of::Any, libc::IP_TOS, libc::IPV6_TCLASS, true),
    ip(Of::Any, libc::IP_TTL, libc::IPV6_UNICAST_HOPS, false),
    ip(Of::Any, libc::IP_MTU_DISCOVER, libc::IPV6_MTU_DISCOVER, false),
    ip(Of::Any, libc::IP_RECVERR, libc::IPV6_RECVERR, true),
    ip(Of::Any, IP_UNICAST_IF, IPV6_UNICAST_IF, true),
    ip(Of::Any, libc::IP_FREEBIND, IPV6_FREEBIND, true),
    row(Of::Any, IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    ip(Of::Udp, libc::IP_PKTINFO, libc::IPV6_RECVPKTINFO, true),
    ip(Of::Udp, libc::IP_RECVTTL, libc::IPV6_RECVHOPLIMIT, true),
    ip(Of::Udp, libc::IP_RECVTOS, IPV6_RECVTCLASS, true),
    compare(Of::Udp, IPPROTO_IP, libc::IP_MULTICAST_TTL),
    compare(Of::Udp, IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    // Last: reading or setting IP_TOS changes it.
    row(Of::Any, SOL_SOCKET, libc::SO_PRIORITY),
];

/// Buffer sizes; device and mark; an attached filter; who gets SIGIO: what [`TABLE`] has no rows for.
const BUFFERS: u64 = 1 << 56;
const ROUTE: u64 = 1 << 57;
const FILTER: u64 = 1 << 58;
const SIGNALS: u64 = 1 << 59;
const _: () = assert!(TABLE.len() <= 56, "a row per bit below BUFFERS");

/// Which options of a socket may differ from those of a new one: a bit per row of the table in this module, and four more.
///
/// Reading them all takes some seventy system calls. Who saw the socket being made, and every option being set,
/// knows better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touched(u64);

impl Touched {
    /// Nobody knows.
    pub const ANYTHING: Self = Self(Self::BITS);
    /// The bits in use; those above are free for the caller's own.
    pub const BITS: u64 = (1 << 60) - 1;
    /// Owner and signal of SIGIO, which are no options but travel with them.
    pub const SIGNALS: Self = Self(SIGNALS);

    /// What a `setsockopt` of this option changes.
    #[must_use]
    pub fn by(level: c_int, name: c_int) -> Self {
        let name = match (level, name) {
            (
                SOL_SOCKET,
                libc::SO_SNDBUF | libc::SO_RCVBUF | libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE | SO_BUF_LOCK,
            ) => {
                return Self(BUFFERS);
            }
            (SOL_SOCKET, libc::SO_BINDTODEVICE | SO_BINDTOIFINDEX | libc::SO_MARK) => return Self(ROUTE),
            (SOL_SOCKET, libc::SO_ATTACH_FILTER | libc::SO_ATTACH_BPF) => return Self(FILTER),
            (SOL_SOCKET, SO_RCVTIMEO_NEW) => libc::SO_RCVTIMEO,
            (SOL_SOCKET, SO_SNDTIMEO_NEW) => libc::SO_SNDTIMEO,
            (_, name) => name,
        };
        Self(TABLE.iter().position(|row| row.level == level && row.name == name).map_or(0, |i| 1 << i))
    }

    /// From [`Self::bits`]; bits not in use are dropped.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & Self::BITS)
    }

    /// For a table of integers.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether a filter may be attached.
    #[must_use]
    pub fn filter(self) -> bool {
        self.has(FILTER)
    }

    /// Whether device or mark may be set.
    #[must_use]
    pub fn route(self) -> bool {
        self.has(ROUTE)
    }

    fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}

/// Copies what the application set on `old` to `new`. `flags` are the file status flags of `old`.
///
/// # Errors
/// Where the option decides the route (device, mark) and cannot be set on `new`: then the swap must not happen.
pub fn carry(old: Fd, new: Fd, tcp: bool, touched: Touched, flags: c_int) -> Result<(), Errno> {
    let mine = if tcp { Of::Tcp } else { Of::Udp };
    for (i, row) in TABLE.iter().enumerate() {
        if touched.has(1 << i) && (row.of == Of::Any || row.of == mine) {
            carry_one(row, old, new);
        }
    }
    if touched.has(BUFFERS) {
        carry_buffers(old, new);
    }
    if touched.has(ROUTE) {
        carry_route(old, new)?;
    }
    carry_signals(old, new, touched.has(SIGNALS) || flags & libc::O_ASYNC != 0)
}

/// Copies what decides the route besides the destination: device and mark.
///
/// # Errors
/// Where one is set on `old` and cannot be set on `new`.
pub fn carry_route(old: Fd, new: Fd) -> Result<(), Errno> {
    carry_device(old, new)?;
    match sys::getsockopt_int(old, SOL_SOCKET, libc::SO_MARK) {
        Ok(mark) if mark != 0 => sys::setsockopt_int(new, SOL_SOCKET, libc::SO_MARK, mark),
        _ => Ok(()),
    }
}

/// Sets the IPv6 counterpart of an IPv4 option that the application has set on a swapped socket.
pub fn mirror(fd: Fd, name: c_int, value: &[u8]) {
    let row = TABLE.iter().find(|row| row.level == IPPROTO_IP && row.name == name);
    if let Some(name) = row.and_then(|row| row.v6) {
        // Best effort by intent, see TABLE.
        let _ = sys::setsockopt(fd, IPPROTO_IPV6, name, value);
    }
}

/// Whether an `IPPROTO_IP` option joins a multicast group.
#[must_use]
pub fn joins_group(name: c_int) -> bool {
    const MCAST_JOIN_GROUP: c_int = 42;
    const MCAST_JOIN_SOURCE_GROUP: c_int = 46;
    matches!(
        name,
        libc::IP_ADD_MEMBERSHIP | libc::IP_ADD_SOURCE_MEMBERSHIP | MCAST_JOIN_GROUP | MCAST_JOIN_SOURCE_GROUP
    )
}

fn carry_one(row: &Row, old: Fd, new: Fd) {
    let (mut value, mut fresh) = ([0u8; LEN], [0u8; LEN]);
    let Ok(len) = sys::getsockopt(old, row.level, row.name, &mut value) else { return };
    let Some(value) = value.get(..len) else { return };
    if row.zero {
        // SO_LINGER keeps its time after it is switched off; the first word says whether it is on.
        if value.iter().take(if row.name == libc::SO_LINGER { 4 } else { LEN }).all(|&b| b == 0) {
            return;
        }
    } else if sys::getsockopt(new, row.level, row.name, &mut fresh) == Ok(len)
        && fresh.get(..len) == Some(value)
    {
        return;
    }
    // Best effort by intent, see TABLE.
    let _ = sys::setsockopt(new, row.level, row.name, value);
    if let Some(name) = row.v6 {
        let _ = sys::setsockopt(new, IPPROTO_IPV6, name, value);
    }
}

/// Buffer sizes, but only where the application fixed them: setting one switches autotuning off.
fn carry_buffers(old: Fd, new: Fd) {
    const SNDBUF_LOCK: c_int = 1;
    const RCVBUF_LOCK: c_int = 2;
    let locks = sys::getsockopt_int(old, SOL_SOCKET, SO_BUF_LOCK);
    for (name, lock) in [(libc::SO_SNDBUF, SNDBUF_LOCK), (libc::SO_RCVBUF, RCVBUF_LOCK)] {
        let Ok(size) = sys::getsockopt_int(old, SOL_SOCKET, name) else { continue };
        let fixed = match locks {
            Ok(locks) => locks & lock != 0,
            // Kernels before 5.14 do not tell; a size unlike a fresh socket's was fixed.
            Err(_) => sys::getsockopt_int(new, SOL_SOCKET, name) != Ok(size),
        };
        if fixed {
            // The kernel doubles what is set and reports the doubled value.
            let _ = sys::setsockopt_int(new, SOL_SOCKET, name, size / 2);
        }
    }
}

fn carry_device(old: Fd, new: Fd) -> Result<(), Errno> {
    let mut name = [0u8; LEN];
    match sys::getsockopt(old, SOL_SOCKET, libc::SO_BINDTODEVICE, &mut name) {
        Ok(len) if len > 0 => {
            sys::setsockopt(new, SOL_SOCKET, libc::SO_BINDTODEVICE, name.get(..len).unwrap_or(&name))
        }
        _ => Ok(()),
    }
}

/// Who gets SIGIO (and SIGURG), and which signal it is. O_ASYNC itself travels with the file status flags. The owner
/// is always asked for, because `ioctl` sets it as well.
fn carry_signals(old: Fd, new: Fd, signal_too: bool) -> Result<(), Errno> {
    const F_SETSIG: c_int = 10;
    const F_GETSIG: c_int = 11;
    if let Some(owner) = sys::owner(old) {
        sys::set_owner(new, owner)?;
    }
    if !signal_too {
        return Ok(());
    }
    match sys::fcntl(old, F_GETSIG, 0) {
        Ok(signal) if signal != 0 => sys::fcntl(new, F_SETSIG, signal).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_bit_of_its_own() {
        let bits = TABLE.iter().map(|row| Touched::by(row.level, row.name).bits());
        assert!(bits.clone().all(|b| b.count_ones() == 1));
        assert_eq!(bits.fold(0, |a, b| a ^ b), (1 << TABLE.len()) - 1);
    }

    #[test]
    fn options_that_are_not_carried_have_none() {
        for (level, name) in [(SOL_SOCKET, libc::SO_ERROR), (IPPROTO_IPV6, libc::IPV6_TCLASS), (-1, -1)] {
            assert_eq!(Touched::by(level, name).bits(), 0);
        }
        assert_eq!(Touched::by(SOL_SOCKET, SO_RCVTIMEO_NEW), Touched::by(SOL_SOCKET, libc::SO_RCVTIMEO));
    }
}

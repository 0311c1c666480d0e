//! What the hooks saw happen to a descriptor since its socket was made: which options need not be looked at.
//!
//! A number whose `socket()` was seen has [`SEEN`], and a bit per option that was set since. A number without it
//! (inherited, received over a Unix socket, a duplicate, made by a raw system call) holds anything.
//!
//! Not seen, and therefore not carried, is an option set past libc: by a raw system call, or by another process, on a
//! socket that this one made through libc.

use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;
use swap::{Fd, Touched};

/// Its making was seen, and everything since.
const SEEN: u64 = 1 << 63;
/// A datagram socket.
const DATAGRAM: u64 = 1 << 62;
/// `connect` was called.
const CONNECTED: u64 = 1 << 61;
const _: () = assert!(Touched::BITS & (SEEN | DATAGRAM | CONNECTED) == 0);

/// Descriptors above are not watched: nothing is known about them.
const FDS: usize = 1 << 16;

static STATE: [AtomicU64; FDS] = [const { AtomicU64::new(0) }; FDS];

fn slot(fd: Fd) -> Option<&'static AtomicU64> {
    STATE.get(usize::try_from(fd).ok()?)
}

fn add(fd: Fd, bits: u64) {
    if let Some(state) = slot(fd)
        && state.load(Ordering::Relaxed) & SEEN != 0
    {
        state.fetch_or(bits, Ordering::Relaxed);
    }
}

/// `socket()` gave `fd`.
pub(crate) fn made(fd: Fd, domain: c_int, kind: c_int) {
    const SOCK_TYPE_MASK: c_int = 0xf;
    if let Some(state) = slot(fd) {
        let datagram = if kind & SOCK_TYPE_MASK == libc::SOCK_DGRAM { DATAGRAM } else { 0 };
        state.store(if domain == libc::AF_INET { SEEN | datagram } else { 0 }, Ordering::Relaxed);
    }
}

/// From now on `fd` holds something whose past is not known.
pub(crate) fn forget(fd: Fd) {
    if let Some(state) = slot(fd)
        && state.load(Ordering::Relaxed) != 0
    {
        state.store(0, Ordering::Relaxed);
    }
}

/// An option is about to be set.
pub(crate) fn option(fd: Fd, level: c_int, name: c_int) {
    if slot(fd).is_some_and(|state| state.load(Ordering::Relaxed) & SEEN != 0) {
        add(fd, Touched::by(level, name).bits());
    }
}

/// The owner of SIGIO, or the signal itself, is about to be set.
pub(crate) fn signals(fd: Fd) {
    add(fd, Touched::SIGNALS.bits());
}

/// The past of a descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Past(u64);

impl Past {
    /// Which options may have been changed.
    pub(crate) fn touched(self) -> Touched {
        if self.0 & SEEN == 0 { Touched::ANYTHING } else { Touched::from_bits(self.0) }
    }

    /// Whether an error of `connect` can only have come at once, from the routing table, if the descriptor is
    /// non-blocking (`Some(false)`) or in any case (`Some(true)`); `None`: it may have come later, from the network.
    pub(crate) fn at_once(self) -> Option<bool> {
        if self.0 & SEEN == 0 {
            return None;
        }
        if self.0 & DATAGRAM != 0 { Some(true) } else { (self.0 & CONNECTED == 0).then_some(false) }
    }
}

/// What happened to `fd` so far.
pub(crate) fn past(fd: Fd) -> Past {
    Past(slot(fd).map_or(0, |state| state.load(Ordering::Relaxed)))
}

/// The same, before a `connect`, which is part of the past from then on.
pub(crate) fn connecting(fd: Fd) -> Past {
    let past = past(fd);
    if past.0 & CONNECTED == 0 {
        add(fd, CONNECTED);
    }
    past
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_seen_from_the_start_has_few_options() {
        let fd = FDS as Fd - 1;
        assert_eq!(past(fd).touched(), Touched::ANYTHING);
        option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE);
        assert_eq!(past(fd).touched(), Touched::ANYTHING);
        made(fd, libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK);
        assert_eq!(past(fd).touched().bits(), 0);
        option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE);
        assert_eq!(past(fd).touched(), Touched::by(libc::SOL_SOCKET, libc::SO_KEEPALIVE));
        assert_eq!(connecting(fd).at_once(), Some(false));
        assert_eq!(connecting(fd).at_once(), None, "the second connect may report what became of the first");
        made(fd, libc::AF_INET, libc::SOCK_DGRAM);
        connecting(fd);
        assert_eq!((connecting(fd).at_once(), past(fd).touched().bits()), (Some(true), 0));
        forget(fd);
        assert_eq!(past(fd).touched(), Touched::ANYTHING);
        made(fd, libc::AF_INET6, libc::SOCK_STREAM);
        assert_eq!(past(fd).touched(), Touched::ANYTHING);
    }

    #[test]
    fn numbers_out_of_range_are_unknown() {
        for fd in [-1, FDS as Fd, Fd::MAX] {
            made(fd, libc::AF_INET, libc::SOCK_STREAM);
            option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE);
            forget(fd);
            assert_eq!(past(fd).touched(), Touched::ANYTHING);
        }
    }
}

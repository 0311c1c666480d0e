//! Is there a way in IPv4?

use crate::options::{self, Touched};
use crate::sockaddr::RawAddr;
use crate::sys::{self, Errno, Fd};
use core::net::Ipv4Addr;
use libc::c_int;

/// Whether an errno says that there is no way to a destination.
#[must_use]
pub fn unreachable(errno: c_int) -> bool {
    matches!(errno, libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN)
}

/// Asks the routing table with a socket of our own, which has the device and mark of `fd`. The errno of the
/// application's call alone does not tell: a blocking connect gives the same numbers when a router or
/// neighbour could not be reached a while later. When in doubt there is a route.
#[must_use]
pub fn no_route(fd: Fd, ip: Ipv4Addr) -> bool {
    no_route_touched(fd, ip, Touched::ANYTHING)
}

/// The same, looking for device and mark only where they may have been set.
#[must_use]
pub fn no_route_touched(fd: Fd, ip: Ipv4Addr, touched: Touched) -> bool {
    matches!(probe(touched.route().then_some(fd), ip, false), Some(Err(Errno(e))) if unreachable(e))
}

/// For mode `always`: everything that is not on the link. A point-to-point default route puts everything on
/// the link; then nothing is.
#[must_use]
pub fn leads_nowhere(fd: Fd, ip: Ipv4Addr) -> bool {
    const NOWHERE: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
    !(probe(Some(fd), ip, true) == Some(Ok(())) && probe(Some(fd), NOWHERE, true) != Some(Ok(())))
}

fn probe(like: Option<Fd>, ip: Ipv4Addr, on_link: bool) -> Option<Result<(), Errno>> {
    const DISCARD: u16 = 9;
    let probe = sys::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).ok()?;
    if let Some(fd) = like {
        // Without the device the answer is for the whole host: still an answer.
        let _ = options::carry_route(fd, probe);
    }
    if on_link {
        let _ = sys::setsockopt_int(probe, libc::SOL_SOCKET, libc::SO_DONTROUTE, 1);
    }
    let answer = sys::probe(probe, RawAddr::v4(ip, DISCARD).as_bytes());
    sys::close(probe);
    Some(answer)
}

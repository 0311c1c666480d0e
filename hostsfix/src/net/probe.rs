//! Does an address accept a TCP connection? All candidates at once, without threads.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};

/// A server that takes longer to accept is no better than its NAT64 path: three SYNs at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// Those of `addresses` that accept a connection on one of `ports`, in the order given.
///
/// What cannot even be tried (no route, no socket) counts as not accepting.
#[must_use]
pub fn alive(addresses: &[Ipv6Addr], ports: &[u16]) -> Vec<Ipv6Addr> {
    let mut accepted = vec![false; addresses.len()];
    let mut pending: Vec<(usize, OwnedFd)> = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        for port in ports {
            match start(SocketAddrV6::new(*address, *port, 0, 0)) {
                Ok(Some(socket)) => pending.push((index, socket)),
                Ok(None) => accepted[index] = true,
                Err(error) => tracing::debug!("[{address}]:{port}: {error}"),
            }
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while accepted.contains(&false) && !pending.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait(&mut pending, &mut accepted, left) {
            break;
        }
    }
    addresses.iter().zip(accepted).filter_map(|(address, accepted)| accepted.then_some(*address)).collect()
}

/// Begins to connect. `None`: connected at once.
fn start(to: SocketAddrV6) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match connect(&socket, &to) {
        Ok(()) => Ok(None),
        Err(Errno::INPROGRESS) => Ok(Some(socket)),
        Err(error) => Err(error),
    }
}

/// Waits for any of the connections and takes those that are decided out of `pending`. False if time is up.
fn wait(pending: &mut Vec<(usize, OwnedFd)>, accepted: &mut [bool], left: Duration) -> bool {
    let mut fds: Vec<_> = pending.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::OUT)).collect();
    let left = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&left)) {
        Ok(0) => return false,
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => {
            tracing::debug!("poll: {error}");
            return false;
        }
    }
    let decided: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut decided = decided.into_iter();
    pending.retain(|(index, socket)| {
        let done = decided.next().unwrap_or(false);
        if done && sockopt::socket_error(socket).is_ok_and(|result| result.is_ok()) {
            accepted[*index] = true;
        }
        !done
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn open_closed_and_unroutable() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let open = listener.local_addr().unwrap().port();
        let closed = {
            let other = TcpListener::bind("[::1]:0").unwrap();
            other.local_addr().unwrap().port()
        };
        let me: Ipv6Addr = "::1".parse().unwrap();
        let nowhere: Ipv6Addr = "::ffff:255.255.255.255".parse().unwrap();
        assert_eq!(alive(&[nowhere, me], &[closed, open]), [me]);
        assert_eq!(alive(&[me], &[closed]), [] as [Ipv6Addr; 0]);
        assert_eq!(alive(&[], &[open]), [] as [Ipv6Addr; 0]);
    }
}

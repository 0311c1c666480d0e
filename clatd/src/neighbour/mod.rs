//! An IPv6 address on the uplink that is the CLAT's and not the host's: made
//! sure of (RFC 4862 §5.4), before it is used or while it is used already
//! (RFC 4429), and answered for, from user space, so that no setting of the
//! host changes and nothing is left of it when the process ends.

pub mod message;

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;

use crate::sys;
use message::Message;

/// How long nobody must object (RFC 4861 §10, RetransTimer).
const PATIENCE: Duration = Duration::from_secs(1);

/// ff02::1 on Ethernet.
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// What happened to the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody objected.
    Unique,
    /// Somebody else uses it.
    Duplicate,
}

/// One address on one link.
pub struct Guard {
    socket: OwnedFd,
    ifindex: u32,
    mac: [u8; 6],
    address: Ipv6Addr,
    /// While the address is being checked: until when.
    checking: Option<Instant>,
    /// It is in use meanwhile.
    optimistic: bool,
}

impl Guard {
    /// Begins to check the address. It is answered for once it has passed, or at once if it is used optimistically;
    /// `source` is the link-local address from which neighbours are told then.
    pub fn check(
        ifindex: u32,
        mac: [u8; 6],
        address: Ipv6Addr,
        optimistic: bool,
        source: Option<Ipv6Addr>,
        now: Instant,
    ) -> io::Result<Self> {
        let socket = sys::neighbour_discovery_socket(ifindex)?;
        let group = message::solicited_node(address);
        sys::packet_multicast(socket.as_fd(), ifindex, message::multicast_mac(group))?;
        let guard = Self { socket, ifindex, mac, address, checking: Some(now + PATIENCE), optimistic };
        let question = message::duplicate_detection(address);
        guard.send(message::multicast_mac(group), &question)?;
        if optimistic {
            // Routers that learn from it (RFC 9131) let the first answer through. Nobody's entry is overridden.
            guard.answer(source, Ipv6Addr::UNSPECIFIED, ALL_NODES);
        }
        Ok(guard)
    }

    /// The address.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// The interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// When to call [`Guard::process`] even if nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.checking
    }

    /// Takes in what has arrived and lets time pass. `source` is the link-local
    /// address from which answers are sent.
    pub fn process(&mut self, source: Option<Ipv6Addr>, now: Instant) -> Option<Outcome> {
        let mut packet = [0; 512];
        loop {
            let (length, from) = match sys::packet_receive(self.socket.as_fd(), &mut packet) {
                Ok(Some(received)) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nothing more; or the link is down, which the uplink's state tells.
                Ok(None) | Err(_) => break,
            };
            match message::parse(&packet[..length]) {
                Some(Message::Solicitation { source: asker, target }) if target == self.address => {
                    // Somebody else who checks the address is not told (RFC 4862 §5.4.3): neither of us has it.
                    if self.checking.is_some() && asker.is_unspecified() {
                        return Some(Outcome::Duplicate);
                    }
                    if self.checking.is_none() || self.optimistic {
                        self.answer(source, asker, from);
                    }
                }
                Some(Message::Advertisement { target })
                    if target == self.address && self.checking.is_some() =>
                {
                    return Some(Outcome::Duplicate);
                }
                _ => {}
            }
        }
        if self.checking.is_some_and(|until| until <= now) {
            self.checking = None;
            // Neighbours with an old entry for the address learn the new one.
            self.answer(source, Ipv6Addr::UNSPECIFIED, ALL_NODES);
            return Some(Outcome::Unique);
        }
        None
    }

    /// Tells `asker` (or everybody) where the address is.
    fn answer(&self, source: Option<Ipv6Addr>, asker: Ipv6Addr, mac: [u8; 6]) {
        let Some(source) = source else { return };
        let packet = message::advertisement(source, asker, self.address, self.mac, self.checking.is_none());
        if let Err(error) = self.send(mac, &packet) {
            tracing::debug!("cannot answer for {}: {error}", self.address);
        }
    }

    fn send(&self, mac: [u8; 6], packet: &[u8]) -> io::Result<()> {
        sys::packet_send(self.socket.as_fd(), self.ifindex, libc::ETH_P_IPV6 as u16, mac, packet)
    }
}

impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

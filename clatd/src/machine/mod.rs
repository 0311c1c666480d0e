//! The state machine: what the host looks like and which NAT64 is known go in,
//! what we want the host to look like comes out. No clock, no socket, no log.
//!
//! It is level-triggered: every event updates what is known, and
//! [`Machine::decision`] derives the whole answer from it. What has to be
//! remembered between two answers (the addresses that flows depend on, failed
//! attempts) is in `Memory`; everything else is recomputed, so that no
//! order of events can leave it inconsistent.

pub mod address;
mod decide;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use pref64::config::{Address as AddressMode, Clat};
use pref64::{Pref64, Source};

use crate::host::snapshot::Snapshot;
use address::Secret;

/// First pause after the host refused what we wanted; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between attempts.
const RETRY_MOST: Duration = Duration::from_secs(60);

/// The name of an address mode in configuration and status.
pub fn mode_name(mode: AddressMode) -> &'static str {
    match mode {
        AddressMode::Shared => "shared",
        AddressMode::Dedicated => "dedicated",
        AddressMode::Explicit(_) => "explicit",
    }
}

/// How the CLAT's packets leave the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// From an address that the host itself uses, too. `inner` is the address
    /// that stands for the CLAT inside the host where the kernel's NAT66 does
    /// the sharing (RFC 4193).
    Shared {
        /// The host's address.
        outer: Ipv6Addr,
        /// The CLAT's unique local address.
        inner: Ipv6Addr,
        /// True: use `outer` even if the kernel would choose another source.
        pinned: bool,
    },
    /// From an address that nobody else here uses; neighbour discovery is
    /// answered for it where the link needs that.
    Own {
        /// The address.
        address: Ipv6Addr,
        /// True on links with neighbour discovery.
        on_link: bool,
        /// True while duplicate address detection has not ended (RFC 4429).
        optimistic: bool,
    },
}

impl Identity {
    /// The source address that the network sees.
    pub fn outer(&self) -> Ipv6Addr {
        match *self {
            Self::Shared { outer, .. } => outer,
            Self::Own { address, .. } => address,
        }
    }

    /// True if somebody else may yet turn out to have that address.
    pub fn is_optimistic(&self) -> bool {
        matches!(self, Self::Own { optimistic: true, .. })
    }
}

/// The interface towards the NAT64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// IPv6 MTU in bytes.
    pub ipv6_mtu: u32,
    /// Link-layer address, on Ethernet.
    pub mac: Option<[u8; 6]>,
    /// True if it carries bare IP packets (TUN, WireGuard, PPP).
    pub raw_ip: bool,
    /// Next hop; `None` when the NAT64 is on-link or the link has no hops.
    pub gateway: Option<Ipv6Addr>,
}

/// The state of the host that we want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Name of our device.
    pub device: String,
    /// MTU of our device in bytes.
    pub mtu: u32,
    /// The CLAT's IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The CLAT's IPv6 address.
    pub identity: Identity,
    /// Where packets go.
    pub uplink: Uplink,
    /// The NAT64.
    pub pref64: Pref64,
    /// Metric of the IPv4 default route.
    pub route_metric: u32,
    /// True: a default route that leads nowhere would win over ours.
    pub over_dead_default: bool,
    /// Names of interfaces whose settings must stay as they are: the host has booted over them.
    pub untouchable: Vec<String>,
    /// True: translate also what nobody here asked for.
    pub inbound_allow: bool,
}

/// The state that users see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet.
    Starting,
    /// Something is missing.
    Waiting(String),
    /// Not needed now.
    StandingBy(String),
    /// Translating.
    Active,
    /// Should translate, cannot (wholly).
    Degraded(String),
}

impl State {
    /// The name in status and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting(_) => "waiting",
            Self::StandingBy(_) => "standing-by",
            Self::Active => "active",
            Self::Degraded(_) => "degraded",
        }
    }

    /// Why, where there is a reason.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Waiting(reason) | Self::StandingBy(reason) | Self::Degraded(reason) => Some(reason),
            Self::Starting | Self::Active => None,
        }
    }
}

/// A NAT64 prefix and who vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedPrefix {
    /// The prefix.
    pub pref64: Pref64,
    /// Who vouches for it.
    pub source: Source,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The host's network was read afresh.
    Host(Box<Snapshot>),
    /// The NAT64 prefix to use changed.
    Prefix(Option<UsedPrefix>),
    /// Our device exists under this index, or no longer.
    Device(Option<u32>),
    /// Duplicate address detection of an address of ours on the link with this index ended; true: unique.
    AddressChecked(u32, Ipv6Addr, bool),
    /// The host is as the last decision wanted it.
    Applied,
    /// The host refused.
    Refused(String),
    /// Time passed.
    Tick,
}

/// What follows from all that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What users see.
    pub state: State,
    /// What the host should look like; `None`: as if we had never run.
    pub desired: Option<Desired>,
    /// An address that needs duplicate address detection, and the link: before it is used, or while it is already in use
    /// if `desired` has it.
    pub check_address: Option<(Uplink, Ipv6Addr)>,
}

/// What has to survive from one decision to the next.
#[derive(Debug, Default)]
struct Memory {
    /// The IPv4 address that local sockets are bound to.
    ipv4: Option<Ipv4Addr>,
    /// How many addresses of our own turned out to be somebody else's.
    dad_counter: u8,
    /// An address that passed duplicate address detection, and its link.
    unique: Option<(u32, Ipv6Addr)>,
    /// The last refusal, its number in a row, and when to try again.
    refused: Option<(String, u32, Instant)>,
    /// The last decision was applied.
    applied: bool,
}

/// The state machine.
#[derive(Debug)]
pub struct Machine {
    settings: Clat,
    secret: Secret,
    host: Option<Snapshot>,
    prefix: Option<UsedPrefix>,
    device: Option<u32>,
    memory: Memory,
}

impl Machine {
    /// A machine that knows nothing yet. `secret` makes the addresses that it
    /// chooses stable on this host and unguessable elsewhere (RFC 7217 §5).
    pub fn new(settings: Clat, secret: Secret) -> Self {
        Self { settings, secret, host: None, prefix: None, device: None, memory: Memory::default() }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Host(snapshot) => {
                // A changed host may allow what it refused before.
                if self.host.as_ref() != Some(&snapshot) && self.memory.refused.is_some() {
                    self.retry_at(now);
                }
                self.host = Some(*snapshot);
            }
            Event::Prefix(prefix) => self.prefix = prefix,
            Event::Device(device) => {
                // What was tied to a device of ours that is gone must not be taken for somebody else's.
                let gone = self.device.filter(|_| device.is_none());
                if let (Some(gone), Some(host)) = (gone, &mut self.host) {
                    host.forget_link(gone);
                }
                self.device = device;
            }
            Event::AddressChecked(_, _, false) => {
                self.memory.dad_counter = self.memory.dad_counter.saturating_add(1);
                self.memory.unique = None;
            }
            Event::AddressChecked(ifindex, address, true) => self.memory.unique = Some((ifindex, address)),
            Event::Applied => {
                self.memory.applied = true;
                self.memory.refused = None;
            }
            Event::Refused(reason) => {
                let attempts = self.memory.refused.as_ref().map_or(0, |(_, n, _)| *n).saturating_add(1);
                let pause =
                    RETRY_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(6)).min(RETRY_MOST);
                self.memory.refused = Some((reason, attempts, now + pause));
                self.memory.applied = false;
            }
            Event::Tick => {}
        }
    }

    /// When to send [`Event::Tick`] and look at the decision again.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.memory.refused.as_ref().map(|(_, _, at)| *at)
    }

    /// The host as last read.
    pub fn host(&self) -> Option<&Snapshot> {
        self.host.as_ref()
    }

    /// The index of our device, if it exists.
    pub fn device(&self) -> Option<u32> {
        self.device
    }

    /// What follows from all that is known.
    pub fn decision(&mut self, now: Instant) -> Decision {
        let (state, desired, check_address) = match self.want() {
            Ok(desired) => {
                let (state, desired) = self.outcome(desired, now);
                let optimistic = desired.as_ref().filter(|desired| desired.identity.is_optimistic());
                let check_address =
                    optimistic.map(|desired| (desired.uplink.clone(), desired.identity.outer()));
                (state, desired, check_address)
            }
            Err(decide::Not::Yet(state)) => (state, None, None),
            Err(decide::Not::Checked(uplink, address)) => {
                let reason = format!("making sure that nobody else uses {address}");
                (State::Waiting(reason), None, Some((uplink, address)))
            }
        };
        if desired.is_none() {
            self.memory.applied = false;
            // An address that is given up is nobody's.
            self.memory.unique = None;
        }
        Decision { state, desired, check_address }
    }

    fn outcome(&self, desired: Desired, now: Instant) -> (State, Option<Desired>) {
        match &self.memory.refused {
            Some((reason, _, at)) if now < *at => (State::Degraded(reason.clone()), None),
            Some((reason, _, _)) => (State::Degraded(reason.clone()), Some(desired)),
            None if self.memory.applied => (State::Active, Some(desired)),
            None => (State::Starting, Some(desired)),
        }
    }

    fn retry_at(&mut self, at: Instant) {
        if let Some(refused) = &mut self.memory.refused {
            refused.2 = refused.2.min(at);
        }
    }
}

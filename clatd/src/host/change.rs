//! Everything that we change about the host, each change with its undo.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;

use super::clsact;
use super::journal::Journal;
use super::nft::{Netfilter, rules::Ruleset};
use super::snapshot::Snapshot;
use super::sysctl::Sysctl;
use crate::machine::{Desired, Identity};
use crate::netlink::{Handle, NetlinkError, Route};

/// The default route.
const EVERYTHING: [(Ipv4Addr, u8); 1] = [(Ipv4Addr::UNSPECIFIED, 0)];
/// The same in parts, which win over a default route whatever its metric, without multicast and class E.
const ALL_UNICAST: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::UNSPECIFIED, 1), (Ipv4Addr::new(128, 0, 0, 0), 2), (Ipv4Addr::new(192, 0, 0, 0), 3)];

/// One change. Equal changes are the same change: one that is wanted again is
/// left in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The device is up, with this MTU and without addresses of the kernel's making.
    DeviceUp {
        /// Our device.
        ifindex: u32,
        /// In bytes.
        mtu: u32,
    },
    /// The CLAT's IPv4 address.
    Ipv4Address {
        /// Our device.
        ifindex: u32,
        /// The address.
        address: Ipv4Addr,
    },
    /// The CLAT's IPv6 address leads to the device (fallback datapath).
    Ipv6ToDevice {
        /// Our device.
        ifindex: u32,
        /// The address.
        address: Ipv6Addr,
    },
    /// The netfilter table (fallback datapath).
    Netfilter(Ruleset),
    /// The kernel passes packets between device and uplink (fallback datapath).
    Forwarding {
        /// Our device.
        device: String,
        /// The uplink.
        uplink: String,
        /// Interfaces whose settings must stay as they are.
        untouchable: Vec<String>,
    },
    /// IPv4 goes to the device. Last, so that no packet comes before the way is open.
    Ipv4Route {
        /// All of IPv4, or a part of it.
        destination: (Ipv4Addr, u8),
        /// Our device.
        ifindex: u32,
        /// The source address.
        source: Ipv4Addr,
        /// The route's metric.
        metric: u32,
        /// In bytes.
        mtu: u32,
    },
}

/// What changes are made with.
pub struct Tools {
    /// Links, addresses, routes.
    pub netlink: Handle,
    /// Kernel settings.
    pub sysctl: Sysctl,
    /// What a crash would leave behind.
    pub journal: Journal,
    netfilter: Option<Netfilter>,
}

impl Tools {
    /// Opens what all datapaths need; netfilter is opened when it is needed.
    pub fn new(journal: Journal) -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Handle::new()?, sysctl: Sysctl::default(), journal, netfilter: None })
    }

    /// Undoes what an earlier process left behind. Gives back what failed.
    pub fn undo_journal(&mut self) -> Vec<anyhow::Error> {
        let mut errors = self.undo_settings();
        errors.extend(self.undo_clsact(&[]));
        errors
    }

    /// The same, without the filters of the fast path: until new ones are in their place they keep the host from
    /// answering the NAT64's packets with a reset.
    pub fn undo_settings(&mut self) -> Vec<anyhow::Error> {
        let mut errors = Netfilter::undo(&mut self.journal);
        errors.extend(self.sysctl.undo(&mut self.journal));
        errors
    }

    /// Sees to it that a link has a clsact qdisc.
    pub fn ensure_clsact(&mut self, ifindex: u32) -> anyhow::Result<()> {
        clsact::ensure(&mut self.netlink, &mut self.journal, ifindex)
    }

    /// Removes the filters of the fast path, and the qdiscs made for them, from all links but those in `keep`.
    pub fn undo_clsact(&mut self, keep: &[u32]) -> Vec<anyhow::Error> {
        clsact::undo(&mut self.netlink, &mut self.journal, keep)
    }
}

impl Change {
    /// The changes that make a wish come true, in the order in which they have
    /// to be made. `kernel_forwards` is true for the fallback datapath.
    pub fn plan(desired: &Desired, ifindex: u32, kernel_forwards: bool) -> Vec<Self> {
        // What the kernel forwards to the device is IPv6, which is 20 bytes longer, and which no device with an MTU
        // below 1280 has at all. IPv4 goes by the route's MTU.
        let mtu = if kernel_forwards { desired.uplink.ipv6_mtu } else { desired.mtu };
        let mut plan =
            vec![Self::DeviceUp { ifindex, mtu }, Self::Ipv4Address { ifindex, address: desired.ipv4 }];
        if kernel_forwards {
            let address = clat_ipv6(desired, kernel_forwards);
            plan.push(Self::Ipv6ToDevice { ifindex, address });
            plan.push(Self::Netfilter(Ruleset::of(desired)));
            plan.push(Self::Forwarding {
                device: desired.device.clone(),
                uplink: desired.uplink.name.clone(),
                untouchable: desired.untouchable.clone(),
            });
        }
        let destinations = if desired.over_dead_default { &ALL_UNICAST[..] } else { &EVERYTHING[..] };
        plan.extend(destinations.iter().map(|destination| Self::Ipv4Route {
            destination: *destination,
            ifindex,
            source: desired.ipv4,
            metric: desired.route_metric,
            mtu: desired.mtu,
        }));
        plan
    }

    /// Makes the change. On an error nothing is half done, or [`Change::revert`]
    /// undoes it.
    pub fn apply(&self, tools: &mut Tools) -> anyhow::Result<()> {
        match self {
            Self::DeviceUp { ifindex, mtu } => {
                // Without IPv6 in the kernel there is no such mode, and no need for it.
                if let Err(error) = tools.netlink.disable_address_generation(*ifindex) {
                    tracing::debug!("{error}");
                }
                tools.netlink.set_link_up(*ifindex, *mtu)?;
            }
            Self::Ipv4Address { ifindex, address } => tools.netlink.add_ipv4_address(*ifindex, *address)?,
            Self::Ipv6ToDevice { .. } | Self::Ipv4Route { .. } => {
                if let Some(route) = self.route() {
                    tools.netlink.add_route(&route)?;
                }
            }
            Self::Netfilter(rules) => {
                let netfilter = match &mut tools.netfilter {
                    Some(netfilter) => netfilter,
                    none => none.insert(Netfilter::new()?),
                };
                netfilter.create(rules, &mut tools.journal)?;
            }
            Self::Forwarding { device, uplink, untouchable } => {
                tools.sysctl.enable_forwarding(&mut tools.journal, device, uplink, untouchable)?;
            }
        }
        Ok(())
    }

    /// Undoes the change; what is gone already is no error.
    pub fn revert(&self, tools: &mut Tools) -> anyhow::Result<()> {
        match self {
            // The link goes with the device.
            Self::DeviceUp { .. } => Ok(()),
            Self::Ipv4Address { ifindex, address } => {
                unless_gone(tools.netlink.remove_ipv4_address(*ifindex, *address))
            }
            Self::Ipv6ToDevice { .. } | Self::Ipv4Route { .. } => match self.route() {
                Some(route) => unless_gone(tools.netlink.remove_route(&route)),
                None => Ok(()),
            },
            Self::Netfilter(rules) => match &mut tools.netfilter {
                Some(netfilter) => netfilter.delete_created(&rules.table, &mut tools.journal),
                None => Ok(()),
            },
            Self::Forwarding { .. } => match tools.sysctl.undo(&mut tools.journal).into_iter().next() {
                Some(error) => Err(error),
                None => Ok(()),
            },
        }
    }

    /// False if the host shows that the change is no longer in force. What
    /// cannot be seen in a snapshot counts as in force.
    pub fn is_visible(&self, host: &Snapshot) -> bool {
        match *self {
            Self::DeviceUp { ifindex, .. } => host.link(ifindex).is_some_and(|link| link.up),
            Self::Ipv4Address { ifindex, address } => host.holder(IpAddr::V4(address)) == Some(ifindex),
            Self::Ipv6ToDevice { ifindex, address } => {
                host.on_link.iter().any(|on| on.ifindex == ifindex && on.network == address && on.len == 128)
            }
            Self::Ipv4Route { ifindex, destination, .. } if destination.1 > 0 => {
                host.ipv4_parts.iter().filter(|part| **part == ifindex).count() == ALL_UNICAST.len()
            }
            Self::Ipv4Route { ifindex, metric, .. } => {
                host.ipv4_defaults.iter().any(|route| route.ifindex == ifindex && route.metric == metric)
            }
            Self::Netfilter(_) | Self::Forwarding { .. } => true,
        }
    }

    fn route(&self) -> Option<Route> {
        match *self {
            Self::Ipv6ToDevice { ifindex, address } => Some(Route::ipv6_host(ifindex, address)),
            Self::Ipv4Route { destination, ifindex, source, metric, mtu } => {
                Some(Route::ipv4(destination, ifindex, source, metric, mtu))
            }
            _ => None,
        }
    }
}

/// The IPv6 address that the translator uses: with NAT66 behind it the inner one.
pub fn clat_ipv6(desired: &Desired, kernel_forwards: bool) -> Ipv6Addr {
    match desired.identity {
        Identity::Shared { inner, .. } if kernel_forwards => inner,
        identity => identity.outer(),
    }
}

/// What is gone already is no error.
pub(super) fn unless_gone(result: Result<(), NetlinkError>) -> anyhow::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL | libc::ENOENT)
            ) =>
        {
            Ok(())
        }
        other => Ok(other?),
    }
}

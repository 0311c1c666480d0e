//! From facts to wishes: the questions in the order in which a person would
//! ask them. The first one without an answer is the reason that users see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{self, SERVICE_CONTINUITY, is_service_continuity};
use super::{Desired, Identity, Machine, State, Uplink, UsedPrefix};
use pref64::config::{Address as AddressMode, Inbound, WhenNativeIpv4};

use crate::host::nfs;
use crate::host::snapshot::{Link, LinkKind, RouteToPrefix, Snapshot, ipv6_contains};

/// An IPv6 header is 20 bytes longer than an IPv4 header.
const HEADER_GROWTH: u32 = 20;
/// Least MTU of an IPv6 link (RFC 8200 §5).
const IPV6_LEAST_MTU: u32 = 1280;

/// How many addresses are used before they are checked: no more than RFC 7217 §6 has a host try (IDGEN_RETRIES).
const OPTIMISTIC_TRIES: u8 = 3;

/// Why there is nothing to wish for.
#[derive(Debug)]
pub(super) enum Not {
    /// This is missing or makes us unneeded.
    Yet(State),
    /// The address must pass duplicate address detection first.
    Checked(Uplink, Ipv6Addr),
}

impl Not {
    fn waiting(reason: impl Into<String>) -> Self {
        Self::Yet(State::Waiting(reason.into()))
    }

    fn standing_by(reason: impl Into<String>) -> Self {
        Self::Yet(State::StandingBy(reason.into()))
    }

    fn degraded(reason: impl Into<String>) -> Self {
        Self::Yet(State::Degraded(reason.into()))
    }
}

impl Machine {
    /// The wished-for state of the host, or why there is none.
    pub(super) fn want(&mut self) -> Result<Desired, Not> {
        if !self.settings.enabled {
            return Err(Not::standing_by("disabled by clat.enabled = false"));
        }
        let Some(host) = self.host.take() else { return Err(Not::Yet(State::Starting)) };
        let wish = self.want_of(&host);
        self.host = Some(host);
        wish
    }

    fn want_of(&mut self, host: &Snapshot) -> Result<Desired, Not> {
        self.is_needed(host)?;
        let Some(prefix) = self.prefix else { return Err(Not::waiting("no NAT64 prefix")) };
        let (route, link) = self.way_out(host, &prefix)?;
        let uplink = Uplink {
            ifindex: link.index,
            name: link.name.clone(),
            ipv6_mtu: link.ipv6_mtu.max(IPV6_LEAST_MTU),
            mac: match link.kind {
                LinkKind::Ethernet(mac) => Some(mac),
                _ => None,
            },
            raw_ip: link.kind == LinkKind::RawIp,
            gateway: route.gateway,
        };
        let ipv4 = self.choose_ipv4(host)?;
        let identity = self.choose_identity(host, route, &uplink, &prefix, ipv4)?;
        let over_dead_default = self.is_dead_default_ahead(host);
        if let Some(server) = nfs::captured(&host.nfs, over_dead_default, self.settings.route_metric) {
            return Err(Not::degraded(format!(
                "the NFS server {} is reached by an IPv4 default route, which the CLAT's would replace: add a route \
                 to that server first",
                server.address
            )));
        }
        let most = uplink.ipv6_mtu - HEADER_GROWTH;
        Ok(Desired {
            device: self.settings.device.clone(),
            mtu: self.settings.mtu.map_or(most, |mtu| mtu.min(most)),
            ipv4,
            identity,
            uplink,
            pref64: prefix.pref64,
            route_metric: self.settings.route_metric,
            over_dead_default,
            untouchable: untouchable(host),
            inbound_allow: self.settings.inbound == Inbound::Allow,
        })
    }

    /// Does the host lack IPv4?
    fn is_needed(&self, host: &Snapshot) -> Result<(), Not> {
        for route in &host.ipv4_defaults {
            let name = host.link_name(route.ifindex);
            if Some(route.ifindex) == self.device || self.settings.dead_ipv4_defaults.contains(&name) {
                continue;
            }
            // Two CLATs on one host only take each other's packets, whatever the operator ignores.
            if let Some(ip) = clat_address(host, route.ifindex, route.source) {
                return Err(Not::standing_by(format!("another CLAT is active on {name} ({ip})")));
            }
            if self.settings.when_native_ipv4 == WhenNativeIpv4::StandBy {
                let via = route.gateway.map(|ip| format!(" via {ip}")).unwrap_or_default();
                return Err(Not::standing_by(format!("native IPv4: default route{via} on {name}")));
            }
        }
        Ok(())
    }

    /// Would a default route that is known to lead nowhere win over ours?
    fn is_dead_default_ahead(&self, host: &Snapshot) -> bool {
        host.ipv4_defaults.iter().any(|route| {
            Some(route.ifindex) != self.device
                && route.metric <= self.settings.route_metric
                && self.settings.dead_ipv4_defaults.contains(&host.link_name(route.ifindex))
        })
    }

    /// Which interface leads to the NAT64, and is it usable?
    fn way_out<'a>(
        &self,
        host: &'a Snapshot,
        prefix: &UsedPrefix,
    ) -> Result<(&'a RouteToPrefix, &'a Link), Not> {
        if let Some(name) = &self.settings.uplink {
            match host.link_named(name) {
                None => return Err(Not::waiting(format!("there is no interface {name} (clat.uplink)"))),
                Some(link) if !link.up => return Err(Not::waiting(format!("{name} is down"))),
                Some(_) => {}
            }
        }
        let nowhere = || Not::waiting(format!("no route to the NAT64 prefix {}", prefix.pref64));
        let route = host.to_prefix.as_ref().ok_or_else(nowhere)?;
        let link = host.link(route.ifindex).ok_or_else(nowhere)?;
        if Some(link.index) == self.device {
            return Err(Not::degraded(format!(
                "the route to the NAT64 prefix {} leads into {}: remove it",
                prefix.pref64, link.name
            )));
        }
        if link.kind == LinkKind::Loopback {
            return Err(nowhere());
        }
        if !link.up {
            return Err(Not::waiting(format!("{} is down", link.name)));
        }
        if let Some(wanted) = self.settings.uplink.as_ref().filter(|wanted| **wanted != link.name) {
            return Err(Not::waiting(format!(
                "the route to the NAT64 prefix {} leads to {}, not to {wanted} (clat.uplink)",
                prefix.pref64, link.name
            )));
        }
        Ok((route, link))
    }

    /// The first free address of 192.0.0.0/29, the same as before if it still is.
    fn choose_ipv4(&mut self, host: &Snapshot) -> Result<Ipv4Addr, Not> {
        let taken = |ip: Ipv4Addr| {
            host.addresses.iter().any(|a| a.ip == IpAddr::V4(ip) && Some(a.ifindex) != self.device)
        };
        if let Some(ip) = self.settings.ipv4 {
            if nfs::is_on_the_way(&host.nfs, ip) {
                return Err(Not::degraded(format!(
                    "{ip} (clat.ipv4) is an NFS server of this host, or on the way to one: choose another address"
                )));
            }
            return match host.holder(IpAddr::V4(ip)).filter(|holder| Some(*holder) != self.device) {
                Some(holder) => {
                    Err(Not::degraded(format!("{ip} (clat.ipv4) is in use on {}", host.link_name(holder))))
                }
                None => Ok(ip),
            };
        }
        let chosen = self
            .memory
            .ipv4
            .into_iter()
            .chain(SERVICE_CONTINUITY)
            .find(|ip| !taken(*ip))
            .ok_or_else(|| Not::degraded("all addresses of 192.0.0.0/29 are in use (set clat.ipv4)"))?;
        self.memory.ipv4 = Some(chosen);
        Ok(chosen)
    }

    fn choose_identity(
        &self,
        host: &Snapshot,
        route: &RouteToPrefix,
        uplink: &Uplink,
        prefix: &UsedPrefix,
        ipv4: Ipv4Addr,
    ) -> Result<Identity, Not> {
        let inner = address::inner(&self.secret, &self.settings.device);
        match self.settings.address {
            AddressMode::Shared => {
                let outer = source_address(host, route, uplink)
                    .ok_or_else(|| Not::waiting(format!("no usable IPv6 address on {}", uplink.name)))?;
                Ok(Identity::Shared { outer, inner, pinned: false })
            }
            AddressMode::Explicit(address) => match host.holder(IpAddr::V6(address)) {
                Some(holder) if host.usable_ipv6(holder).any(|ip| ip == address) => {
                    Ok(Identity::Shared { outer: address, inner, pinned: true })
                }
                Some(_) => Err(Not::waiting(format!("{address} (clat.address) is not usable yet"))),
                None => Err(Not::waiting(format!(
                    "{address} (clat.address) is not an address of this host: add it to an interface"
                ))),
            },
            AddressMode::Dedicated => {
                let network = slash_64(host, route, uplink).ok_or_else(|| {
                    Not::waiting(format!(
                        "no on-link /64 on {} for clat.address = \"dedicated\" (try \"shared\")",
                        uplink.name
                    ))
                })?;
                let (secret, counter) = (&self.secret, self.memory.dad_counter);
                let address =
                    address::dedicated(secret, network, &uplink.name, &prefix.pref64, ipv4, counter);
                self.own(uplink, address)
            }
        }
    }

    /// An address that is not the host's. On Ethernet duplicate address detection (RFC 4862 §5.4) goes on while it is
    /// used already (RFC 4429): it is pseudo-random, so hardly anybody has it. Where somebody objects again and again it
    /// comes first.
    fn own(&self, uplink: &Uplink, address: Ipv6Addr) -> Result<Identity, Not> {
        let on_link = uplink.mac.is_some();
        let unchecked = on_link && self.memory.unique != Some((uplink.ifindex, address));
        if unchecked && self.memory.dad_counter >= OPTIMISTIC_TRIES {
            return Err(Not::Checked(uplink.clone(), address));
        }
        Ok(Identity::Own { address, on_link, optimistic: unchecked })
    }
}

/// The interfaces over which the host has booted: its root file system comes that way, or the kernel says so.
fn untouchable(host: &Snapshot) -> Vec<String> {
    let carriers =
        host.nfs.iter().filter(|server| server.has_root).filter_map(|server| server.route.as_ref());
    let mut names: Vec<String> = carriers.map(|route| host.link_name(route.ifindex)).collect();
    names.extend(host.kernel_configured.iter().filter(|name| host.link_named(name).is_some()).cloned());
    names.sort();
    names.dedup();
    names
}

/// The address by which a link is a CLAT's, if it is one's.
fn clat_address(host: &Snapshot, ifindex: u32, source: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    if let Some(source) = source {
        return is_service_continuity(source).then_some(source);
    }
    let mut ipv4 = host.addresses.iter().filter(|a| a.ifindex == ifindex).filter_map(|a| match a.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    ipv4.find(|ip| is_service_continuity(*ip))
}

/// The kernel's choice (RFC 6724), or any usable address of the uplink.
fn source_address(host: &Snapshot, route: &RouteToPrefix, uplink: &Uplink) -> Option<Ipv6Addr> {
    let usable = |ip: &Ipv6Addr| host.addresses.iter().any(|a| a.ip == IpAddr::V6(*ip) && a.usable);
    route.source.filter(|ip| usable(ip) && !ip.is_unicast_link_local()).or_else(|| {
        let mut candidates: Vec<_> = host.usable_ipv6(uplink.ifindex).collect();
        candidates.retain(|ip| !ip.is_unicast_link_local());
        candidates.first().copied()
    })
}

/// A /64 of the uplink from which the CLAT can take an address: the one of the
/// source address that the kernel would choose, else any.
fn slash_64(host: &Snapshot, route: &RouteToPrefix, uplink: &Uplink) -> Option<Ipv6Addr> {
    let networks = || host.on_link.iter().filter(|on| on.ifindex == uplink.ifindex && on.len == 64);
    let usable =
        |network: &Ipv6Addr| host.usable_ipv6(uplink.ifindex).any(|ip| ipv6_contains(*network, 64, ip));
    networks()
        .map(|on| on.network)
        .find(|network| route.source.is_some_and(|ip| ipv6_contains(*network, 64, ip)))
        .or_else(|| networks().map(|on| on.network).find(usable))
}

//! Reading the host: links, addresses, default routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkFlags, LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Handle, NetlinkError};
use crate::host::nfs::{self, NfsRoute, NfsServer};
use crate::host::snapshot::{Address, Ipv4Default, Link, LinkKind, OnLink, RouteToPrefix, Snapshot};

/// Next-hop flags that mean "not now" (linux/rtnetlink.h).
const DEAD: RouteFlags = RouteFlags::Dead.union(RouteFlags::Linkdown);

impl Handle {
    /// Reads links, addresses and routes. `to_prefix` is left empty: see
    /// [`Handle::route_to`].
    pub fn snapshot(&mut self) -> Result<Snapshot, NetlinkError> {
        let links: Vec<Link> = self
            .dump("list the links", RouteNetlinkMessage::GetLink(LinkMessage::default()))?
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
                _ => None,
            })
            .collect();
        let addresses = self
            .dump("list the addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()))?
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(address) => read_address(&address),
                _ => None,
            })
            .collect();
        let ipv4_routes = self.main_routes(AddressFamily::Inet)?;
        let mut ipv4_defaults: Vec<Ipv4Default> = ipv4_routes.iter().flat_map(read_ipv4_defaults).collect();
        ipv4_defaults.retain(|route| links.iter().any(|link| link.index == route.ifindex && link.up));
        ipv4_defaults.sort_by_key(|route| route.metric);
        let on_link = self.main_routes(AddressFamily::Inet6)?.iter().filter_map(read_on_link).collect();
        Ok(Snapshot {
            links,
            addresses,
            ipv4_defaults,
            ipv4_parts: ipv4_routes.iter().filter_map(read_ipv4_part).collect(),
            on_link,
            to_prefix: None,
            nfs: self.nfs_servers()?,
            kernel_configured: nfs::kernel_configured(),
        })
    }

    /// The servers of mounted NFS file systems and how they are reached now.
    pub fn nfs_servers(&mut self) -> Result<Vec<NfsServer>, NetlinkError> {
        let found = nfs::servers().into_iter().map(|(address, has_root)| {
            Ok(NfsServer { address, has_root, route: self.matching_route(address)? })
        });
        found.collect()
    }

    /// The entry of the routing tables that packets to `destination` match; `None` if there is none, or if they do not
    /// leave the host.
    fn matching_route(&mut self, destination: IpAddr) -> Result<Option<NfsRoute>, NetlinkError> {
        let mut request = RouteMessage::default();
        (request.header.address_family, request.header.destination_prefix_length) = match destination {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        // IPv4 answers with the address that was asked for otherwise (Linux 4.13; IPv6 since 4.18).
        request.header.flags = RouteFlags::FibMatch;
        request.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
        let Some(route) = self.find_route(destination, request)? else { return Ok(None) };
        let prefix_len = route.header.destination_prefix_length;
        let mut found = NfsRoute { ifindex: 0, gateway: None, prefix_len, metric: 0 };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => found.ifindex = *index,
                RouteAttribute::Gateway(RouteAddress::Inet(ip)) => found.gateway = Some(IpAddr::V4(*ip)),
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => found.gateway = Some(IpAddr::V6(*ip)),
                RouteAttribute::Priority(metric) => found.metric = *metric,
                _ => {}
            }
        }
        Ok(Some(found))
    }

    /// The kernel's answer; `None` if there is no route, or none to another host.
    fn find_route(
        &mut self,
        destination: IpAddr,
        request: RouteMessage,
    ) -> Result<Option<RouteMessage>, NetlinkError> {
        let what = || format!("look up the route to {destination}");
        match self.get(what, RouteNetlinkMessage::GetRoute(request)) {
            Ok(Some(RouteNetlinkMessage::NewRoute(route))) => {
                Ok((route.header.kind == RouteType::Unicast).then_some(route))
            }
            Ok(_) => Ok(None),
            Err(error) if unroutable(error.errno()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn main_routes(&mut self, family: AddressFamily) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        let answers = match self.dump("list the routes", RouteNetlinkMessage::GetRoute(request)) {
            Ok(answers) => answers,
            // No such table: it has never held a route. No such family: IPv6 is disabled.
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(answers
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route)
                    if route.header.table == RouteHeader::RT_TABLE_MAIN
                        && route.header.address_family == family
                        && !route.header.flags.contains(RouteFlags::Cloned) =>
                {
                    Some(route)
                }
                _ => None,
            })
            .collect())
    }

    /// Asks the kernel where packets to `destination` go; `None` if nowhere.
    /// With `oif` only routes over that interface count.
    pub fn route_to(
        &mut self,
        destination: Ipv6Addr,
        oif: Option<u32>,
    ) -> Result<Option<RouteToPrefix>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet6;
        request.header.destination_prefix_length = 128;
        request.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(destination)));
        request.attributes.extend(oif.map(RouteAttribute::Oif));
        let Some(route) = self.find_route(IpAddr::V6(destination), request)? else { return Ok(None) };
        let mut found = RouteToPrefix { ifindex: 0, gateway: None, source: None };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => found.ifindex = *index,
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => found.gateway = Some(*ip),
                RouteAttribute::PrefSource(RouteAddress::Inet6(ip)) => found.source = Some(*ip),
                _ => {}
            }
        }
        Ok((found.ifindex != 0).then_some(found))
    }
}

/// The kernel's ways to say that a destination has no route.
fn unroutable(errno: Option<i32>) -> bool {
    matches!(
        errno,
        Some(
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ENODEV | libc::ESRCH
        )
    )
}

fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        ipv6_mtu: 0,
        kind: LinkKind::Other(0),
    };
    let mut mac = [0; 6];
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().unwrap_or(mac),
            LinkAttribute::AfSpecUnspec(specs) => {
                if let Some(mtu) = specs.iter().find_map(ipv6_mtu) {
                    link.ipv6_mtu = mtu;
                }
            }
            _ => {}
        }
    }
    link.ipv6_mtu = match link.ipv6_mtu {
        0 => link.mtu,
        mtu => mtu.min(link.mtu),
    };
    link.kind = match message.header.link_layer_type {
        LinkLayerType::Ether => LinkKind::Ethernet(mac),
        LinkLayerType::Loopback => LinkKind::Loopback,
        LinkLayerType::None
        | LinkLayerType::Ppp
        | LinkLayerType::Rawip
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => LinkKind::RawIp,
        other => LinkKind::Other(u16::from(other)),
    };
    link
}

fn ipv6_mtu(spec: &AfSpecUnspec) -> Option<u32> {
    let AfSpecUnspec::Inet6(attributes) = spec else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        AfSpecInet6::DevConf(conf) => u32::try_from(conf.mtu6).ok().filter(|mtu| *mtu > 0),
        _ => None,
    })
}

fn read_address(message: &AddressMessage) -> Option<Address> {
    let mut ip = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            // On point-to-point links ADDRESS is the peer; LOCAL is ours.
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let optimistic = flags.contains(AddressFlags::Optimistic);
    Some(Address {
        ifindex: message.header.index,
        ip: ip?,
        prefix_len: message.header.prefix_len,
        usable: message.header.scope == AddressScope::Universe && (optimistic || !flags.intersects(unusable)),
        deprecated: flags.contains(AddressFlags::Deprecated),
    })
}

fn read_ipv4_defaults(route: &RouteMessage) -> Vec<Ipv4Default> {
    let has_destination = route.attributes.iter().any(|a| matches!(a, RouteAttribute::Destination(_)));
    if route.header.destination_prefix_length != 0
        || has_destination
        || route.header.kind != RouteType::Unicast
        || route.header.flags.intersects(DEAD)
    {
        return Vec::new();
    }
    let mut single = Ipv4Default { ifindex: 0, gateway: None, source: None, metric: 0 };
    let mut found = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => single.ifindex = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => single.gateway = Some(*ip),
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => single.source = Some(*ip),
            RouteAttribute::Priority(metric) => single.metric = *metric,
            RouteAttribute::MultiPath(hops) => {
                found.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    if single.ifindex != 0 {
        return vec![single];
    }
    found.into_iter().map(|ifindex| Ipv4Default { ifindex, ..single.clone() }).collect()
}

fn read_ipv4_part(route: &RouteMessage) -> Option<u32> {
    if !(1..=3).contains(&route.header.destination_prefix_length) {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn read_on_link(route: &RouteMessage) -> Option<OnLink> {
    if route.header.kind != RouteType::Unicast || route.header.destination_prefix_length == 0 {
        return None;
    }
    let mut found =
        OnLink { ifindex: 0, network: Ipv6Addr::UNSPECIFIED, len: route.header.destination_prefix_length };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => found.network = *ip,
            RouteAttribute::Oif(index) => found.ifindex = *index,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                return None;
            }
            _ => {}
        }
    }
    let link_local = found.network.is_unicast_link_local() || found.network.is_multicast();
    (found.ifindex != 0 && !link_local).then_some(found)
}

/// The IPv4 addresses of the host apart from those of one link.
pub fn ipv4_addresses_except(snapshot: &Snapshot, ifindex: Option<u32>) -> Vec<Ipv4Addr> {
    snapshot
        .addresses
        .iter()
        .filter(|address| Some(address.ifindex) != ifindex)
        .filter_map(|address| match address.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect()
}

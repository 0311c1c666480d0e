//! Changing the host: our device, our addresses, our routes. Nothing here
//! replaces what is there already: every creation is exclusive, so that an
//! operator's route of the same key gives an error instead of vanishing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Handle, NetlinkError};

const EXCLUSIVE: u16 = NLM_F_CREATE | NLM_F_EXCL;

impl Handle {
    /// Keeps the kernel from giving a link an IPv6 link-local address of its own.
    pub fn disable_address_generation(&mut self, ifindex: u32) -> Result<(), NetlinkError> {
        let mut message = link(ifindex);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
            AfSpecInet6::AddrGenMode(In6AddrGenMode::None),
        ])]));
        let what = || format!("set addr_gen_mode of interface {ifindex}");
        self.acknowledge(what, RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets a link's MTU (bytes) and brings it up.
    pub fn set_link_up(&mut self, ifindex: u32, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = link(ifindex);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        let what = || format!("bring interface {ifindex} up with MTU {mtu}");
        self.acknowledge(what, RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Adds `address/32` to a link.
    pub fn add_ipv4_address(&mut self, ifindex: u32, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let what = || format!("add {address}/32 to interface {ifindex}");
        self.acknowledge(what, RouteNetlinkMessage::NewAddress(ipv4_address(ifindex, address)), EXCLUSIVE)
    }

    /// Removes `address/32` from a link.
    pub fn remove_ipv4_address(&mut self, ifindex: u32, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let what = || format!("remove {address}/32 from interface {ifindex}");
        self.acknowledge(what, RouteNetlinkMessage::DelAddress(ipv4_address(ifindex, address)), 0)
    }

    /// Adds a route; fails with EEXIST where one of the same key exists.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let what = || format!("add the route {route}");
        self.acknowledge(what, RouteNetlinkMessage::NewRoute(route.message()), EXCLUSIVE)
    }

    /// Removes a route.
    pub fn remove_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let what = || format!("remove the route {route}");
        self.acknowledge(what, RouteNetlinkMessage::DelRoute(route.message()), 0)
    }
}

/// A route of ours in the main table: always straight to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix.
    pub destination: (IpAddr, u8),
    /// Device that it leads to.
    pub ifindex: u32,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric.
    pub metric: Option<u32>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
}

impl Route {
    /// An IPv4 route to a device.
    pub fn ipv4(destination: (Ipv4Addr, u8), ifindex: u32, source: Ipv4Addr, metric: u32, mtu: u32) -> Self {
        Self {
            destination: (IpAddr::V4(destination.0), destination.1),
            ifindex,
            source: Some(IpAddr::V4(source)),
            metric: Some(metric),
            mtu: Some(mtu),
        }
    }

    /// A route for one IPv6 address to a device.
    pub fn ipv6_host(ifindex: u32, address: Ipv6Addr) -> Self {
        Self { destination: (IpAddr::V6(address), 128), ifindex, source: None, metric: None, mtu: None }
    }

    fn message(&self) -> RouteMessage {
        let (ip, len) = self.destination;
        let mut message = RouteMessage::default();
        message.header.address_family = match ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.destination_prefix_length = len;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if ip.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
        message.header.kind = RouteType::Unicast;
        if len > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(ip)));
        }
        message.attributes.push(RouteAttribute::Oif(self.ifindex));
        message.attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(RouteAddress::from(ip))));
        message.attributes.extend(self.metric.map(RouteAttribute::Priority));
        message.attributes.extend(self.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        message
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ip, len) = self.destination;
        write!(f, "{ip}/{len} dev {}", self.ifindex)?;
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

fn link(ifindex: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message
}

fn ipv4_address(ifindex: u32, address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = ifindex;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    message
}

//! What the host's network looks like, as plain data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nfs::NfsServer;

/// What kind of frames a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Ethernet frames; the address is ours.
    Ethernet([u8; 6]),
    /// Bare IP packets: TUN, WireGuard, PPP, tunnels.
    RawIp,
    /// The loopback device.
    Loopback,
    /// Anything else, by its ARPHRD number.
    Other(u16),
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Administratively up and with a carrier.
    pub up: bool,
    /// Link MTU in bytes.
    pub mtu: u32,
    /// IPv6 MTU in bytes; a Router Advertisement can make it smaller than the link's.
    pub ipv6_mtu: u32,
    /// What it carries.
    pub kind: LinkKind,
}

/// An address of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Interface index.
    pub ifindex: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its on-link prefix.
    pub prefix_len: u8,
    /// Usable as a source now: global scope, duplicate address detection passed.
    pub usable: bool,
    /// RFC 4862 deprecated: no new flows should use it.
    pub deprecated: bool,
}

/// An IPv4 default route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4Default {
    /// Outgoing interface.
    pub ifindex: u32,
    /// Next hop, if it has one.
    pub gateway: Option<Ipv4Addr>,
    /// Preferred source address, if it has one.
    pub source: Option<Ipv4Addr>,
    /// Metric; smaller wins.
    pub metric: u32,
}

/// Where packets to the NAT64 prefix go: the kernel's own answer, policy
/// routing included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteToPrefix {
    /// Outgoing interface.
    pub ifindex: u32,
    /// Next hop; `None` when the destination is on-link.
    pub gateway: Option<Ipv6Addr>,
    /// The source address that the kernel would choose.
    pub source: Option<Ipv6Addr>,
}

/// An IPv6 prefix that is on-link or routed to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnLink {
    /// Interface index.
    pub ifindex: u32,
    /// First address of the prefix.
    pub network: Ipv6Addr,
    /// Prefix length.
    pub len: u8,
}

/// Everything that the state machine wants to know about the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses of both families.
    pub addresses: Vec<Address>,
    /// IPv4 default routes over live links.
    pub ipv4_defaults: Vec<Ipv4Default>,
    /// Links that IPv4 routes with a prefix of one to three bits lead to: parts of a default route.
    pub ipv4_parts: Vec<u32>,
    /// IPv6 routes without a gateway.
    pub on_link: Vec<OnLink>,
    /// The route to the prefix in use, if there is one.
    pub to_prefix: Option<RouteToPrefix>,
    /// The servers of mounted NFS file systems.
    pub nfs: Vec<NfsServer>,
    /// Names of interfaces that the kernel configured at boot.
    pub kernel_configured: Vec<String>,
}

impl Snapshot {
    /// The link of that index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The link of that name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The name of that link, or its number where it is gone already.
    pub fn link_name(&self, index: u32) -> String {
        self.link(index).map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    }

    /// The IPv6 addresses of a link that can be used as a source now.
    pub fn usable_ipv6(&self, ifindex: u32) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.addresses.iter().filter(move |a| a.ifindex == ifindex && a.usable).filter_map(|a| match a.ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        })
    }

    /// Removes a link and all that was tied to it.
    pub fn forget_link(&mut self, index: u32) {
        self.links.retain(|link| link.index != index);
        self.addresses.retain(|address| address.ifindex != index);
        self.ipv4_defaults.retain(|route| route.ifindex != index);
        self.ipv4_parts.retain(|part| *part != index);
        self.on_link.retain(|on| on.ifindex != index);
    }

    /// The link that holds this address, if one does.
    pub fn holder(&self, ip: IpAddr) -> Option<u32> {
        self.addresses.iter().find(|address| address.ip == ip).map(|address| address.ifindex)
    }
}

/// True if `ip` lies in `network/len`.
pub fn ipv6_contains(network: Ipv6Addr, len: u8, ip: Ipv6Addr) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
    u128::from(network) & mask == u128::from(ip) & mask
}

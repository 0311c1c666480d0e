//! What a translator must know, checked once.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::{AddressClass, OwnIpv4, Pref64, is_translatable};

/// Every IPv6 link carries packets of this many bytes (RFC 8200 §5).
pub const MIN_IPV6_MTU: u16 = 1280;

/// Every IPv4 link carries packets of this many bytes (RFC 791).
pub const MIN_IPV4_MTU: u16 = 68;

/// `192.0.0.8`, the IPv4 dummy address (RFC 7600 §4.8): the source of ICMPv4 errors whose true origin has no IPv4
/// address, be it an IPv6 router or this translator.
pub const DUMMY_IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The configuration of a [`crate::Translator`]. [`Config::new`] gives the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The NAT64's prefix.
    pub pref64: Pref64,
    /// The CLAT's IPv4 address: the only source translated to IPv6.
    pub clat_ipv4: Ipv4Addr,
    /// The CLAT's IPv6 address: the only destination translated to IPv4.
    pub clat_ipv6: Ipv6Addr,
    /// Other IPv4 addresses of this host, refused as embedded sources.
    pub own_ipv4: OwnIpv4,
    /// The NAT64 serves private IPv4 addresses, too. No effect under the Well-Known Prefix (RFC 6052 §3.1).
    pub private_ipv4: bool,
    /// RFC 7915 §4 `lowest-ipv6-mtu`, in bytes: IPv4 packets without DF are fragmented to it. At least 1280.
    pub lowest_ipv6_mtu: u16,
    /// Carry the type of service octet over (RFC 7915 §4.1 and §5.1); else it is zero on the other side.
    pub copy_traffic_class: bool,
    /// Compute the checksum that a whole IPv4 UDP packet lacks; else drop the packet (RFC 7915 §4.5).
    pub compute_udp_checksum: bool,
}

impl Config {
    /// The defaults of RFC 7915 for these three addresses.
    #[must_use]
    pub const fn new(pref64: Pref64, clat_ipv4: Ipv4Addr, clat_ipv6: Ipv6Addr) -> Self {
        Self {
            pref64,
            clat_ipv4,
            clat_ipv6,
            own_ipv4: OwnIpv4::new(),
            private_ipv4: false,
            lowest_ipv6_mtu: MIN_IPV6_MTU,
            copy_traffic_class: true,
            compute_udp_checksum: true,
        }
    }

    /// Whether an IPv4 address behind the NAT64 may be the source of what reaches this host (RFC 6052 §5.1): it may be
    /// translated at all, and is not one of this host's own.
    pub(crate) fn is_acceptable_source(&self, ipv4: Ipv4Addr) -> bool {
        self.is_translatable(ipv4) && !self.own_ipv4.contains(ipv4)
    }

    /// Whether an IPv4 address is behind the NAT64.
    pub(crate) fn is_translatable(&self, ipv4: Ipv4Addr) -> bool {
        ipv4 != self.clat_ipv4 && is_translatable(ipv4, &self.pref64, self.private_ipv4)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match AddressClass::of(self.clat_ipv4) {
            AddressClass::ThisNetwork
            | AddressClass::Loopback
            | AddressClass::Multicast
            | AddressClass::Reserved
            | AddressClass::Broadcast => return Err(ConfigError::ClatIpv4(self.clat_ipv4)),
            _ if self.clat_ipv4 == DUMMY_IPV4 => return Err(ConfigError::ClatIpv4(self.clat_ipv4)),
            _ => {}
        }
        let ipv6 = self.clat_ipv6;
        if ipv6.is_unspecified()
            || ipv6.is_loopback()
            || ipv6.is_multicast()
            || ipv6.to_ipv4_mapped().is_some()
        {
            return Err(ConfigError::ClatIpv6(ipv6));
        }
        if self.pref64.contains(ipv6) {
            return Err(ConfigError::ClatIpv6InPref64(ipv6, self.pref64));
        }
        if self.lowest_ipv6_mtu < MIN_IPV6_MTU {
            return Err(ConfigError::LowestIpv6Mtu(self.lowest_ipv6_mtu));
        }
        Ok(())
    }
}

/// Why a [`Config`] cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The CLAT's IPv4 address cannot be a host's source address.
    ClatIpv4(Ipv4Addr),
    /// The CLAT's IPv6 address cannot be a host's source address.
    ClatIpv6(Ipv6Addr),
    /// The CLAT's IPv6 address lies under the NAT64 prefix, so both sides of a packet would look the same.
    ClatIpv6InPref64(Ipv6Addr, Pref64),
    /// `lowest_ipv6_mtu` is below the 1280 bytes that every IPv6 link carries.
    LowestIpv6Mtu(u16),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClatIpv4(address) => write!(f, "{address} cannot be the CLAT's IPv4 address"),
            Self::ClatIpv6(address) => write!(f, "{address} cannot be the CLAT's IPv6 address"),
            Self::ClatIpv6InPref64(address, pref64) => {
                write!(f, "the CLAT's IPv6 address {address} lies under the NAT64 prefix {pref64}")
            }
            Self::LowestIpv6Mtu(mtu) => write!(f, "lowest IPv6 MTU {mtu} is below {MIN_IPV6_MTU}"),
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;
    use crate::Translator;

    #[test]
    fn what_cannot_work_is_refused() {
        let pref64: Pref64 = "2001:db8:64::/96".parse().unwrap();
        let good = Config::new(pref64, Ipv4Addr::new(192, 0, 0, 1), "2001:db8::1".parse().unwrap());
        assert!(Translator::new(good).is_ok());
        // An address of the host's own in shared mode, or any that an operator chooses.
        assert!(Translator::new(Config { clat_ipv4: Ipv4Addr::new(10, 0, 0, 1), ..good }).is_ok());
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.8"] {
            let clat_ipv4 = address.parse().unwrap();
            let error = Translator::new(Config { clat_ipv4, ..good }).unwrap_err();
            assert_eq!(error, ConfigError::ClatIpv4(clat_ipv4));
            assert!(error.to_string().contains(address));
        }
        for address in ["::", "::1", "ff02::1", "::ffff:192.0.2.1"] {
            let clat_ipv6 = address.parse().unwrap();
            let error = Translator::new(Config { clat_ipv6, ..good }).unwrap_err();
            assert_eq!(error, ConfigError::ClatIpv6(clat_ipv6));
        }
        let clat_ipv6 = "2001:db8:64::1".parse().unwrap();
        let error = Translator::new(Config { clat_ipv6, ..good }).unwrap_err();
        assert_eq!(error, ConfigError::ClatIpv6InPref64(clat_ipv6, pref64));
        let error = Translator::new(Config { lowest_ipv6_mtu: 1279, ..good }).unwrap_err();
        assert_eq!(error, ConfigError::LowestIpv6Mtu(1279));
    }
}

//! Which IPv4 destinations may go to the NAT64.

use core::net::{Ipv4Addr, Ipv6Addr};
use xlat::{AddressClass, Pref64, is_translatable};

/// A NAT64 prefix and what its operator serves behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Where IPv4 destinations are embedded (RFC 6052).
    pub prefix: Pref64,
    /// Whether the NAT64 serves private IPv4 networks too. Never so under the well-known prefix (RFC 6052 §3.1).
    pub private_ipv4: bool,
}

impl Policy {
    /// The IPv6 address for `dst`, or `None` when `dst` stays IPv4.
    #[must_use]
    pub fn translate(&self, dst: Ipv4Addr) -> Option<Ipv6Addr> {
        is_translatable(dst, &self.prefix, self.private_ipv4).then(|| self.prefix.embed(dst))
    }
}

/// Whether `ip` may be behind some NAT64: a question that needs no prefix.
#[must_use]
pub fn leaves_the_host(ip: Ipv4Addr) -> bool {
    matches!(AddressClass::of(ip), AddressClass::Global | AddressClass::Documentation | AddressClass::Private)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(prefix: &str, private_ipv4: bool) -> Policy {
        Policy { prefix: prefix.parse().unwrap(), private_ipv4 }
    }

    #[test]
    fn global_addresses_are_embedded() {
        let p = policy("2001:db8:64::/96", false);
        assert_eq!(
            p.translate(Ipv4Addr::new(203, 0, 113, 80)),
            Some("2001:db8:64::cb00:7150".parse().unwrap())
        );
    }

    #[test]
    fn local_addresses_never_are() {
        let p = policy("2001:db8:64::/96", true);
        for ip in [
            "0.0.0.0",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "192.0.0.8",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(p.translate(ip), None, "{ip}");
            assert!(!leaves_the_host(ip), "{ip}");
        }
    }

    #[test]
    fn private_addresses_only_when_served_and_never_under_the_well_known_prefix() {
        for ip in ["10.77.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"] {
            let ip = ip.parse().unwrap();
            assert_eq!(policy("2001:db8:64::/96", false).translate(ip), None, "{ip}");
            assert!(policy("2001:db8:64::/96", true).translate(ip).is_some(), "{ip}");
            assert_eq!(policy("64:ff9b::/96", true).translate(ip), None, "{ip}");
        }
    }
}

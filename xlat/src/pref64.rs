//! The NAT64 prefix and the IPv4-embedded IPv6 addresses made with it (RFC 6052).

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// Where the octets of the IPv4 address sit for each prefix length: the figure of RFC 6052 §2.2, as octet positions.
/// Octet 8 (bits 64 to 71, "u") is never used.
const EMBEDDINGS: [(u8, [usize; 4]); 6] = [
    (32, [4, 5, 6, 7]),
    (40, [5, 6, 7, 9]),
    (48, [6, 7, 9, 10]),
    (56, [7, 9, 10, 11]),
    (64, [9, 10, 11, 12]),
    (96, [12, 13, 14, 15]),
];

/// The octet that RFC 6052 §2.2 keeps zero in every IPv4-embedded address (bits 64 to 71).
const U_OCTET: usize = 8;

/// A NAT64 prefix. A value of this type is always one that RFC 6052 §2.2 allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pref64 {
    network: Ipv6Addr,
    len: u8,
}

impl Pref64 {
    /// The Well-Known Prefix, `64:ff9b::/96` (RFC 6052 §2.1).
    pub const WELL_KNOWN: Self = Self { network: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), len: 96 };

    /// The prefix lengths of RFC 6052 §2.2, in bits.
    pub const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

    /// A prefix of `len` bits.
    ///
    /// # Errors
    /// When RFC 6052 does not allow it: see [`Pref64Error`].
    pub const fn new(network: Ipv6Addr, len: u8) -> Result<Self, Pref64Error> {
        if !matches!(len, 32 | 40 | 48 | 56 | 64 | 96) {
            return Err(Pref64Error::Length(len));
        }
        let octets = network.octets();
        if octets[U_OCTET] != 0 && len == 96 {
            return Err(Pref64Error::ReservedBits);
        }
        let mut i = (len / 8) as usize;
        while i < 16 {
            if octets[i] != 0 {
                return Err(Pref64Error::HostBits);
            }
            i += 1;
        }
        if !is_usable(&octets) {
            return Err(Pref64Error::NotGlobalUnicast);
        }
        Ok(Self { network, len })
    }

    /// The length of the prefix in bits: 32, 40, 48, 56, 64 or 96.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a prefix length, not a container's
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// The network part, all other bits zero.
    #[must_use]
    pub const fn network(&self) -> Ipv6Addr {
        self.network
    }

    /// Whether this is `64:ff9b::/96`, which must not carry non-global IPv4 addresses (RFC 6052 §3.1).
    #[must_use]
    pub fn is_well_known(&self) -> bool {
        *self == Self::WELL_KNOWN
    }

    /// The IPv6 address that stands for `ipv4` behind this prefix (RFC 6052 §2.3); the suffix is zero.
    #[must_use]
    pub fn embed(&self, ipv4: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.network.octets();
        for (position, octet) in self.positions().into_iter().zip(ipv4.octets()) {
            octets[position] = octet;
        }
        Ipv6Addr::from(octets)
    }

    /// The IPv4 address embedded in `ipv6`, if `ipv6` is under this prefix.
    ///
    /// The suffix is ignored and the "u" octet must be zero (RFC 6052 §2.2).
    #[must_use]
    pub fn extract(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = ipv6.octets();
        let prefix = usize::from(self.len / 8);
        if octets[..prefix] != self.network.octets()[..prefix] || octets[U_OCTET] != 0 {
            return None;
        }
        let [a, b, c, d] = self.positions();
        Some(Ipv4Addr::new(octets[a], octets[b], octets[c], octets[d]))
    }

    /// Whether `ipv6` lies in the network of this prefix (whatever its other bits say).
    #[must_use]
    pub fn contains(&self, ipv6: Ipv6Addr) -> bool {
        let prefix = usize::from(self.len / 8);
        ipv6.octets()[..prefix] == self.network.octets()[..prefix]
    }

    fn positions(&self) -> [usize; 4] {
        let row = match self.len {
            32 => 0,
            40 => 1,
            48 => 2,
            56 => 3,
            64 => 4,
            _ => 5,
        };
        EMBEDDINGS[row].1
    }
}

/// No multicast, link-local, unspecified, loopback, IPv4-compatible or IPv4-mapped prefix: packets to such addresses
/// would not reach a NAT64, or would come back into this host.
const fn is_usable(octets: &[u8; 16]) -> bool {
    let multicast = octets[0] == 0xff;
    let link_local = octets[0] == 0xfe && octets[1] & 0xc0 == 0x80;
    let mut zeros = 0;
    while zeros < 16 && octets[zeros] == 0 {
        zeros += 1;
    }
    !(multicast || link_local || zeros >= 10)
}

impl fmt::Display for Pref64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.len)
    }
}

impl fmt::Debug for Pref64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pref64 {
    type Err = Pref64Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (network, len) = text.split_once('/').ok_or(Pref64Error::Syntax)?;
        let network: Ipv6Addr = network.parse().map_err(|_| Pref64Error::Syntax)?;
        if len.is_empty() || !len.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Pref64Error::Syntax);
        }
        Self::new(network, len.parse().map_err(|_| Pref64Error::Syntax)?)
    }
}

/// Why a prefix cannot be a NAT64 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pref64Error {
    /// Not of the form `ADDRESS/LENGTH`.
    Syntax,
    /// A length that RFC 6052 §2.2 lacks.
    Length(u8),
    /// Bits set beyond the prefix length.
    HostBits,
    /// Bits 64 to 71 are not zero (RFC 6052 §2.2).
    ReservedBits,
    /// Multicast, link-local, unspecified, loopback or IPv4-mapped.
    NotGlobalUnicast,
}

impl fmt::Display for Pref64Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("not an IPv6 prefix (expected for example 2001:db8:64::/96)"),
            Self::Length(len) => {
                write!(f, "length /{len} is not one of /32, /40, /48, /56, /64, /96 (RFC 6052 section 2.2)")
            }
            Self::HostBits => f.write_str("bits are set beyond the prefix length"),
            Self::ReservedBits => f.write_str("bits 64 to 71 must be zero (RFC 6052 section 2.2)"),
            Self::NotGlobalUnicast => f.write_str(
                "a NAT64 prefix cannot be multicast, link-local, unspecified, loopback or IPv4-mapped",
            ),
        }
    }
}

impl core::error::Error for Pref64Error {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// RFC 6052 §2.4, tables 1 and 2.
    #[test]
    fn examples_of_the_rfc() {
        let ipv4 = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let prefix: Pref64 = prefix.parse().unwrap();
            assert_eq!(prefix.embed(ipv4), v6(address), "{prefix}");
            assert_eq!(prefix.extract(v6(address)), Some(ipv4), "{prefix}");
            assert!(prefix.contains(v6(address)));
        }
    }

    /// RFC 6052 §2.2: the suffix is ignored, the "u" octet is not.
    #[test]
    fn suffix_and_u_octet() {
        let prefix: Pref64 = "2001:db8:122:344::/64".parse().unwrap();
        assert_eq!(prefix.extract(v6("2001:db8:122:344:c0:2:21ff:ffff")), Some(Ipv4Addr::new(192, 0, 2, 33)));
        assert_eq!(prefix.extract(v6("2001:db8:122:344:1c0:2:2100::")), None);
        assert_eq!(prefix.extract(v6("2001:db8:122:345:c0:2:2100::")), None);
        assert!(prefix.contains(v6("2001:db8:122:344:1c0:2:2100::")));
    }

    #[test]
    fn what_is_no_prefix() {
        use Pref64Error::*;
        for (text, error) in [
            ("64:ff9b::", Syntax),
            ("64:ff9b::/", Syntax),
            ("64:ff9b::/+96", Syntax),
            ("64:ff9b::/256", Syntax),
            ("192.0.2.1/32", Syntax),
            ("64:ff9b::/95", Length(95)),
            ("64:ff9b::/128", Length(128)),
            ("2001:db8::1/96", HostBits),
            ("2001:db8:0:1::/48", HostBits),
            ("2001:db8:0:0:100::/96", ReservedBits),
            ("2001:db8:0:0:ff00::/96", ReservedBits),
            ("2001:db8:0:0:100::/64", HostBits),
            ("ff05::/96", NotGlobalUnicast),
            ("fe80::/64", NotGlobalUnicast),
            ("::/96", NotGlobalUnicast),
            ("::ffff:0:0/96", NotGlobalUnicast),
        ] {
            assert_eq!(text.parse::<Pref64>(), Err(error), "{text}");
            assert!(!error.to_string().is_empty());
        }
        // Not the "u" octet.
        assert!("2001:db8:0:0:ff::/96".parse::<Pref64>().is_ok());
        assert_eq!("2001:DB8:64:0::/96".parse::<Pref64>().unwrap().to_string(), "2001:db8:64::/96");
    }

    #[test]
    fn well_known() {
        assert!("64:ff9b::/96".parse::<Pref64>().unwrap().is_well_known());
        // RFC 8215, for local use.
        assert!(!"64:ff9b:1::/96".parse::<Pref64>().unwrap().is_well_known());
        assert!(!"64:ff9b:1::/48".parse::<Pref64>().unwrap().is_well_known());
    }
}

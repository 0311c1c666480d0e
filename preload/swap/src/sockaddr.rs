//! Socket addresses as the bytes that cross the system call boundary.
//!
//! `struct sockaddr_in`: family (host order), port (network order), address, eight bytes of padding.
//! `struct sockaddr_in6`: family, port, flow information, address, scope.

use core::net::{Ipv4Addr, Ipv6Addr};

/// `AF_INET` as it stands in `sa_family`.
pub const AF_INET: u16 = libc::AF_INET as u16;
/// `AF_INET6` as it stands in `sa_family`.
pub const AF_INET6: u16 = libc::AF_INET6 as u16;
/// Size of `struct sockaddr_in`.
pub const LEN_IN: usize = 16;
/// Size of `struct sockaddr_in6`.
pub const LEN_IN6: usize = 28;
/// The smallest `sockaddr_in6` that the kernel takes (RFC 2133: without a scope).
const LEN_IN6_RFC2133: usize = 24;

/// What a swapped socket gives as its own IPv4 address: the IPv4 dummy address (RFC 7600 §4.8).
pub const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// A socket address with room for either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawAddr {
    bytes: [u8; LEN_IN6],
    len: usize,
}

impl RawAddr {
    /// `struct sockaddr_in`.
    #[must_use]
    pub fn v4(ip: Ipv4Addr, port: u16) -> Self {
        let mut bytes = [0; LEN_IN6];
        bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[4..8].copy_from_slice(&ip.octets());
        Self { bytes, len: LEN_IN }
    }

    /// `struct sockaddr_in6` without flow label and scope.
    #[must_use]
    pub fn v6(ip: Ipv6Addr, port: u16) -> Self {
        let mut bytes = [0; LEN_IN6];
        bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[8..24].copy_from_slice(&ip.octets());
        Self { bytes, len: LEN_IN6 }
    }

    /// The bytes as the kernel takes them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // `len` is one of the two constants, both within the array.
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// A destination or source, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dest {
    /// `AF_INET`.
    V4(Ipv4Addr, u16),
    /// `AF_INET6` with a v4-mapped address, `::ffff:a.b.c.d`.
    Mapped(Ipv4Addr, u16),
    /// `AF_INET6`, any other address.
    V6(Ipv6Addr, u16),
    /// Another family, or too short to be an address.
    Other,
}

impl Dest {
    /// Reads a `struct sockaddr` of `bytes.len()` bytes. Total: what the kernel would refuse is [`Dest::Other`].
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let Some((family, port)) = head(bytes) else { return Self::Other };
        match family {
            AF_INET if bytes.len() >= LEN_IN => match bytes.get(4..8) {
                Some(&[a, b, c, d]) => Self::V4(Ipv4Addr::new(a, b, c, d), port),
                _ => Self::Other,
            },
            AF_INET6 if bytes.len() >= LEN_IN6_RFC2133 => {
                let Some(octets) = bytes.get(8..24).and_then(|b| <[u8; 16]>::try_from(b).ok()) else {
                    return Self::Other;
                };
                let ip = Ipv6Addr::from(octets);
                match ip.to_ipv4_mapped() {
                    Some(v4) => Self::Mapped(v4, port),
                    None => Self::V6(ip, port),
                }
            }
            _ => Self::Other,
        }
    }

    /// The IPv4 destination in either form.
    #[must_use]
    pub fn ipv4(self) -> Option<(Ipv4Addr, u16)> {
        match self {
            Self::V4(ip, port) | Self::Mapped(ip, port) => Some((ip, port)),
            Self::V6(..) | Self::Other => None,
        }
    }
}

fn head(bytes: &[u8]) -> Option<(u16, u16)> {
    match *bytes {
        [f0, f1, p0, p1, ..] => Some((u16::from_ne_bytes([f0, f1]), u16::from_be_bytes([p0, p1]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(Dest::parse(RawAddr::v4(IP, 80).as_bytes()), Dest::V4(IP, 80));
        assert_eq!(Dest::parse(RawAddr::v6(IP.to_ipv6_mapped(), 81).as_bytes()), Dest::Mapped(IP, 81));
        let v6 = "2001:db8::1".parse().unwrap();
        assert_eq!(Dest::parse(RawAddr::v6(v6, 82).as_bytes()), Dest::V6(v6, 82));
    }

    #[test]
    fn short_addresses_are_other() {
        let raw = RawAddr::v4(IP, 80);
        for n in 0..LEN_IN {
            assert_eq!(Dest::parse(&raw.as_bytes()[..n]), Dest::Other, "{n} bytes");
        }
        let raw = RawAddr::v6(IP.to_ipv6_mapped(), 80);
        assert_eq!(Dest::parse(&raw.as_bytes()[..23]), Dest::Other);
        assert_eq!(Dest::parse(&raw.as_bytes()[..24]), Dest::Mapped(IP, 80));
    }

    #[test]
    fn other_families_are_other() {
        let mut unix = [0u8; 110];
        unix[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
        assert_eq!(Dest::parse(&unix), Dest::Other);
    }
}

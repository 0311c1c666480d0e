//! Neighbor Solicitations and Advertisements (RFC 4861 §4.3, §4.4) as bytes.

use std::net::Ipv6Addr;

use xlat::checksum::{Sum, ipv6_pseudo_header};

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// RFC 4861 §7.1: a message that crossed a router has less.
const HOP_LIMIT: u8 = 255;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// The messages that concern an address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Somebody asks who has `target`. From the unspecified address: somebody wants to use it (RFC 4862 §5.4.3).
    Solicitation {
        /// Who asks.
        source: Ipv6Addr,
        /// For what.
        target: Ipv6Addr,
    },
    /// Somebody says that they have `target`.
    Advertisement {
        /// What they have.
        target: Ipv6Addr,
    },
}

/// Reads an IPv6 packet; `None` if it is not a valid message of these two kinds.
pub fn parse(packet: &[u8]) -> Option<Message> {
    let (header, body) = packet.split_at_checked(40)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let body = body.get(..length)?;
    let [kind, code, _, _, ..] = *body else { return None };
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != HOP_LIMIT || code != 0 {
        return None;
    }
    let address = |at: usize| -> Option<Ipv6Addr> {
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?))
    };
    let (source, destination) = (address(8)?, address(24)?);
    let sum = ipv6_pseudo_header(source, destination, u32::try_from(length).ok()?, ICMPV6);
    let target = address(48)?;
    if sum.plus(Sum::of(body)).fold() != 0xffff || body.len() < 24 || target.is_multicast() {
        return None;
    }
    match kind {
        SOLICITATION => Some(Message::Solicitation { source, target }),
        ADVERTISEMENT => Some(Message::Advertisement { target }),
        _ => None,
    }
}

/// Asks whether anybody uses `target` (RFC 4862 §5.4.2).
pub fn duplicate_detection(target: Ipv6Addr) -> Vec<u8> {
    packet(Ipv6Addr::UNSPECIFIED, solicited_node(target), SOLICITATION, 0, target, &[])
}

/// Says that `target` is at `mac`: to `destination`, or to everybody if that is unspecified. `sure` once the address has
/// passed duplicate address detection.
pub fn advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: [u8; 6],
    sure: bool,
) -> Vec<u8> {
    let everybody = destination.is_unspecified();
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // It is ours, and no proxy's: without the override flag a neighbour that knew it elsewhere would go on sending there
    // until that fails (RFC 4861 §7.2.5). Before we are sure, that is what shall be (RFC 4429 §3.3).
    let flags = if sure { FLAG_OVERRIDE } else { 0 } | if everybody { 0 } else { FLAG_SOLICITED };
    let to = if everybody { all_nodes } else { destination };
    let [a, b, c, d, e, f] = mac;
    packet(source, to, ADVERTISEMENT, flags, target, &[OPTION_TARGET, 1, a, b, c, d, e, f])
}

/// Asks who has `target`, on behalf of `source` at `mac`.
pub fn solicitation(source: Ipv6Addr, target: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let [a, b, c, d, e, f] = mac;
    packet(source, solicited_node(target), SOLICITATION, 0, target, &[OPTION_SOURCE, 1, a, b, c, d, e, f])
}

/// Where questions about an address go (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 multicast group (RFC 2464 §7).
pub fn multicast_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: &[u8],
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend(option);
    // 24 or 32 bytes.
    let length = body.len() as u16;
    let sum = ipv6_pseudo_header(source, destination, u32::from(length), ICMPV6).plus(Sum::of(&body));
    body[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, HOP_LIMIT]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_built_is_understood() {
        let target = ip("2001:db8::12:3456");
        let source = Ipv6Addr::UNSPECIFIED;
        assert_eq!(parse(&duplicate_detection(target)), Some(Message::Solicitation { source, target }));
        let source = ip("fe80::1");
        let asked = solicitation(source, target, MAC);
        assert_eq!(parse(&asked), Some(Message::Solicitation { source, target }));
        for to in [ip("fe80::2"), Ipv6Addr::UNSPECIFIED] {
            for sure in [true, false] {
                let told = advertisement(ip("fe80::1"), to, target, MAC, sure);
                assert_eq!(parse(&told), Some(Message::Advertisement { target }));
                // Override if we are sure; solicited only if somebody asked (RFC 4861 §4.4).
                let solicited = if to.is_unspecified() { 0 } else { 0x40 };
                assert_eq!(told[44], solicited | if sure { 0x20 } else { 0 });
            }
        }
    }

    #[test]
    fn what_is_not_valid_is_ignored() {
        let good = duplicate_detection(ip("2001:db8::1"));
        for at in [0, 6, 7, 41, 42, 50] {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            assert_eq!(parse(&bad), None, "byte {at}");
        }
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn multicast_groups() {
        let group = solicited_node(ip("2001:db8::12:3456"));
        assert_eq!(group, ip("ff02::1:ff12:3456"));
        assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }
}

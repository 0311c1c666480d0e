//! Transport checksums that cover the pseudo-header (RFC 7915 §4.5 and §5.5).

use core::net::Ipv6Addr;

use crate::DropReason;
use crate::checksum::{self, Sum};

pub(crate) mod protocol {
    pub(crate) const ICMPV4: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const DCCP: u8 = 33;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const UDP_LITE: u8 = 136;
}

/// Shortest header and offset of the checksum field of the protocols whose checksum covers the addresses. All others,
/// such as SCTP (CRC over itself), GRE, ESP and unknown ones, pass unchanged.
const fn layout(protocol: u8) -> Option<(usize, usize)> {
    match protocol {
        protocol::TCP => Some((20, 16)),
        protocol::UDP => Some((8, 6)),
        // Covers at least its header and the pseudo-header, whatever its coverage field says (RFC 3828 §3.1).
        protocol::UDP_LITE => Some((8, 6)),
        // Likewise (RFC 4340 §9.1).
        protocol::DCCP => Some((12, 6)),
        _ => None,
    }
}

/// The offset of the checksum field in the transport header.
pub(crate) const fn checksum_offset(protocol: u8) -> Option<usize> {
    match layout(protocol) {
        Some((_, offset)) => Some(offset),
        None => None,
    }
}

/// Refuses a transport header whose checksum cannot be corrected: too short if it is `whole`, without the checksum
/// field if it is the first fragment of several.
#[inline]
pub(crate) fn check(protocol: u8, transport: &[u8], whole: bool) -> Result<(), DropReason> {
    match layout(protocol) {
        Some((min_len, _)) if whole && transport.len() < min_len => Err(DropReason::MalformedTransport),
        Some((_, offset)) if transport.len() < offset + 2 => Err(DropReason::MalformedTransport),
        _ => Ok(()),
    }
}

/// Corrects the checksum for addresses whose sum changed from `old` to `new`. A quoted header may end before its
/// checksum field: then there is nothing to do.
#[inline]
pub(crate) fn update_checksum(protocol: u8, transport: &mut [u8], partial: bool, old: Sum, new: Sum) {
    let Some(offset) = checksum_offset(protocol) else { return };
    let Some(field) = transport.get_mut(offset..offset + 2) else { return };
    let before = u16::from_be_bytes([field[0], field[1]]);
    let zero_means_none = matches!(protocol, protocol::UDP | protocol::UDP_LITE);
    let after = if partial {
        checksum::update_partial(before, old, new)
    } else if before == 0 && zero_means_none {
        return;
    } else {
        match checksum::update(before, old, new) {
            0 if zero_means_none => 0xffff,
            after => after,
        }
    };
    field.copy_from_slice(&after.to_be_bytes());
}

/// Whether this is a UDP header without checksum.
#[inline]
pub(crate) fn lacks_udp_checksum(protocol: u8, transport: &[u8]) -> bool {
    protocol == protocol::UDP && matches!(transport, [_, _, _, _, _, _, 0, 0, ..])
}

/// Computes the checksum that a UDP datagram of `len` bytes lacks, for its way over IPv6 (RFC 7915 §4.5).
pub(crate) fn compute_udp_checksum(datagram: &mut [u8], len: usize, source: Ipv6Addr, destination: Ipv6Addr) {
    let Some(covered) = datagram.get(..len) else { return };
    // A UDP length fits 16 bits.
    let sum =
        checksum::ipv6_pseudo_header(source, destination, len as u32, protocol::UDP).plus(Sum::of(covered));
    let value = match sum.checksum() {
        0 => 0xffff,
        value => value,
    };
    if let Some(field) = datagram.get_mut(6..8) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// The bytes that a whole UDP datagram says it has, if that can be.
pub(crate) fn udp_len(transport: &[u8]) -> Result<usize, DropReason> {
    match *transport {
        [_, _, _, _, high, low, _, _, ..] => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            if (8..=transport.len()).contains(&len) { Ok(len) } else { Err(DropReason::MalformedTransport) }
        }
        _ => Err(DropReason::MalformedTransport),
    }
}

/// The length of the transport header of a super-packet.
pub(crate) fn gso_header_len(protocol: u8, transport: &[u8]) -> Result<usize, DropReason> {
    match protocol {
        protocol::TCP => {
            let len = transport.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
            if (20..=transport.len()).contains(&len) { Ok(len) } else { Err(DropReason::MalformedTransport) }
        }
        protocol::UDP => Ok(8),
        _ => Err(DropReason::Offload),
    }
}

/// An echo message between families: the type changes, and the ICMPv6 pseudo-header comes or goes (RFC 7915 §4.2
/// and §5.2). `without` and `with` are the pseudo-header sums before and after; a missing one is [`Sum::ZERO`].
pub(crate) fn translate_echo(message: &mut [u8], new_type: u8, without: Sum, with: Sum) {
    let [kind, code, rest @ ..] = message else { return };
    let old = without.plus_word(u16::from_be_bytes([*kind, *code]));
    let new = with.plus_word(u16::from_be_bytes([new_type, *code]));
    *kind = new_type;
    if let [high, low, ..] = rest {
        let [new_high, new_low] = checksum::update(u16::from_be_bytes([*high, *low]), old, new).to_be_bytes();
        (*high, *low) = (new_high, new_low);
    }
}

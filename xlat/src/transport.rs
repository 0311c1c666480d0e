//! Transport checksums that cover the pseudo-header (RFC 7915 §4.5 and §5.5).

use crate::checksum::{self, Sum};
use crate::{DropReason, Offload};

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

/// Writes the checksum of a UDP datagram that has none.
pub(crate) fn compute_udp_checksum(transport: &mut [u8], udp_len: usize, pseudo_header: Sum) {
    let covered = transport.get(..udp_len).unwrap_or(&[]);
    let checksum = match pseudo_header.plus(Sum::of(covered)).checksum() {
        0 => 0xffff,
        checksum => checksum,
    };
    if let Some(field) = transport.get_mut(6..8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Finishes a partial checksum, as fragments cannot be left to a device.
pub(crate) fn complete_checksum(protocol: u8, transport: &mut [u8]) {
    if let Some(offset) = checksum_offset(protocol) {
        // True: `check` has seen to it that the field is there.
        let _ = checksum::complete(transport, 0, offset);
    }
}

/// Refuses offloads that the kernel never asks for: other protocols than TCP and UDP, and fragments.
#[inline]
pub(crate) fn check_offload(protocol: u8, is_fragment: bool, offload: Offload) -> Result<(), DropReason> {
    let possible = matches!(protocol, protocol::TCP | protocol::UDP) && !is_fragment;
    if offload == Offload::NONE || possible { Ok(()) } else { Err(DropReason::Offload) }
}

/// The longest segment, transport header included, of a TCP or UDP super-packet.
#[inline]
pub(crate) fn segment_len(protocol: u8, transport: &[u8], gso_size: u16) -> usize {
    let header_len = match (protocol, transport.get(12)) {
        (protocol::TCP, Some(byte)) => usize::from(byte >> 4) * 4,
        _ => 8,
    };
    transport.len().min(header_len + usize::from(gso_size))
}

/// An echo message between families: the type changes, and the ICMPv6 pseudo-header comes or goes (RFC 7915 §4.2
/// and §5.2). `before` and `after` are the sums of the pseudo-header; ICMPv4 has none, that is [`Sum::ZERO`].
#[inline]
pub(crate) fn translate_echo(message: &mut [u8], new_type: u8, before: Sum, after: Sum) {
    let [kind, code, rest @ ..] = message else { return };
    let old = before.plus_word(u16::from_be_bytes([*kind, *code]));
    let new = after.plus_word(u16::from_be_bytes([new_type, *code]));
    *kind = new_type;
    if let [high, low, ..] = rest {
        let [new_high, new_low] = checksum::update(u16::from_be_bytes([*high, *low]), old, new).to_be_bytes();
        (*high, *low) = (new_high, new_low);
    }
}

//! The IPv6 header, the extension headers in front of the upper layer, and the Fragment header (RFC 8200).
//!
//! [`Ipv6Header::parse`] guarantees that the first 40 bytes exist; [`upper_layer`] that `offset` lies within the packet.

use core::net::Ipv6Addr;

use crate::DropReason;
use crate::checksum::{self, Sum};

mod field {
    use core::ops::Range;

    pub(super) const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: Range<usize> = 8..24;
    pub(super) const DESTINATION: Range<usize> = 24..40;
}

/// Next header values of extension headers.
pub(crate) mod extension {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const MOBILITY: u8 = 135;
    pub(crate) const HIP: u8 = 139;
    pub(crate) const SHIM6: u8 = 140;
}

/// The fields of an IPv6 header. The flow label is neither read nor set: it is always 0 (RFC 7915 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv6Header {
    pub(crate) traffic_class: u8,
    pub(crate) payload_len: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
}

impl Ipv6Header {
    pub(crate) const LEN: usize = 40;

    /// Reads the header at the start of `bytes`, which may hold less than `payload_len` bytes more.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let fixed: &[u8; Self::LEN] = bytes.first_chunk().ok_or(DropReason::Truncated)?;
        if fixed[0] >> 4 != 6 {
            return Err(DropReason::MalformedHeader);
        }
        Ok(Self {
            traffic_class: fixed[0] << 4 | fixed[1] >> 4,
            payload_len: u16::from_be_bytes([fixed[4], fixed[5]]),
            next_header: fixed[field::NEXT_HEADER],
            hop_limit: fixed[field::HOP_LIMIT],
            source: address_at(fixed, field::SOURCE.start),
            destination: address_at(fixed, field::DESTINATION.start),
        })
    }

    /// Length of the whole packet, according to the header.
    pub(crate) fn total_len(&self) -> usize {
        Self::LEN + usize::from(self.payload_len)
    }

    /// The sum of the pseudo-header for an upper layer of `len` bytes (RFC 8200 §8.1).
    pub(crate) fn pseudo_header(&self, len: u32, protocol: u8) -> Sum {
        checksum::ipv6_pseudo_header(self.source, self.destination, len, protocol)
    }

    /// Writes the header.
    #[inline]
    pub(crate) fn emit(&self, out: &mut [u8; Self::LEN]) {
        out[0] = 6 << 4 | self.traffic_class >> 4;
        out[1] = self.traffic_class << 4;
        out[2] = 0;
        out[3] = 0;
        out[field::PAYLOAD_LENGTH].copy_from_slice(&self.payload_len.to_be_bytes());
        out[field::NEXT_HEADER] = self.next_header;
        out[field::HOP_LIMIT] = self.hop_limit;
        out[field::SOURCE].copy_from_slice(&self.source.octets());
        out[field::DESTINATION].copy_from_slice(&self.destination.octets());
    }
}

fn address_at(header: &[u8; Ipv6Header::LEN], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// The Fragment header (RFC 8200 §4.5) without its next header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentHeader {
    /// In units of 8 bytes.
    pub(crate) offset: u16,
    pub(crate) more: bool,
    pub(crate) identification: u32,
}

impl FragmentHeader {
    pub(crate) const LEN: usize = 8;

    fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let offset_more = u16::from_be_bytes([bytes[2], bytes[3]]);
        Self {
            offset: offset_more >> 3,
            more: offset_more & 1 != 0,
            identification: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// Writes the header in front of `next_header`.
    pub(crate) fn emit(&self, next_header: u8, out: &mut [u8; Self::LEN]) {
        let [high, low] = (self.offset << 3 | u16::from(self.more)).to_be_bytes();
        let [i0, i1, i2, i3] = self.identification.to_be_bytes();
        *out = [next_header, 0, high, low, i0, i1, i2, i3];
    }

    /// A whole packet with a needless Fragment header (RFC 6946).
    pub(crate) const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// What the extension headers lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpperLayer {
    pub(crate) protocol: u8,
    /// From the start of the IPv6 header; within the packet.
    pub(crate) offset: usize,
    pub(crate) fragment: Option<FragmentHeader>,
    /// Where the Segments Left field of a routing header that has some lies (RFC 7915 §5.1).
    pub(crate) segments_left: Option<usize>,
}

/// Skips Hop-by-Hop Options, Routing and Destination Options headers up to the upper layer (RFC 7915 §5.1); a
/// Fragment header ends the search, as nothing but the upper layer may follow it (RFC 7915 §5.1.1).
#[inline]
pub(crate) fn upper_layer(header: &Ipv6Header, packet: &[u8]) -> Result<UpperLayer, DropReason> {
    let mut upper = UpperLayer {
        protocol: header.next_header,
        offset: Ipv6Header::LEN,
        fragment: None,
        segments_left: None,
    };
    loop {
        match upper.protocol {
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION_OPTIONS => {
                let rest = packet.get(upper.offset..).unwrap_or(&[]);
                let [next_header, len, _, segments_left, ..] = *rest else {
                    return Err(DropReason::Truncated);
                };
                if upper.protocol == extension::ROUTING && segments_left != 0 && upper.segments_left.is_none()
                {
                    upper.segments_left = Some(upper.offset + 3);
                }
                upper.offset += (usize::from(len) + 1) * 8;
                upper.protocol = next_header;
            }
            extension::FRAGMENT => {
                let rest = packet.get(upper.offset..).unwrap_or(&[]);
                let bytes = rest.first_chunk().ok_or(DropReason::Truncated)?;
                upper.fragment = Some(FragmentHeader::parse(bytes));
                upper.offset += FragmentHeader::LEN;
                upper.protocol = bytes[0];
                if matches!(
                    upper.protocol,
                    extension::HOP_BY_HOP
                        | extension::ROUTING
                        | extension::FRAGMENT
                        | extension::AUTHENTICATION
                        | extension::DESTINATION_OPTIONS
                        | extension::MOBILITY
                        | extension::HIP
                        | extension::SHIM6
                ) {
                    return Err(DropReason::FragmentedExtension);
                }
                return Ok(upper);
            }
            _ if upper.offset > packet.len() => return Err(DropReason::Truncated),
            _ => return Ok(upper),
        }
    }
}

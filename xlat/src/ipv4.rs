//! The IPv4 header (RFC 791).
//!
//! [`Ipv4Header::parse`] checks everything that the accessors and callers rely on: after it has succeeded, the first
//! `header_len` bytes exist and `total_len` is not less than `header_len`.

use core::net::Ipv4Addr;

use crate::DropReason;
use crate::checksum::Sum;

mod field {
    use core::ops::Range;

    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const TOS: usize = 1;
    pub(super) const TOTAL_LENGTH: Range<usize> = 2..4;
    pub(super) const IDENTIFICATION: Range<usize> = 4..6;
    pub(super) const FLAGS_OFFSET: Range<usize> = 6..8;
    pub(super) const TTL: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: Range<usize> = 10..12;
    pub(super) const SOURCE: Range<usize> = 12..16;
    pub(super) const DESTINATION: Range<usize> = 16..20;
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The fields of an IPv4 header; options are known by their length only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv4Header {
    /// With options.
    pub(crate) header_len: usize,
    pub(crate) total_len: usize,
    pub(crate) tos: u8,
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) more_fragments: bool,
    /// In units of 8 bytes.
    pub(crate) fragment_offset: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
}

impl Ipv4Header {
    /// Without options.
    pub(crate) const LEN: usize = 20;

    /// Reads the header at the start of `bytes`, which may hold less than `total_len` bytes.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let fixed: &[u8; Self::LEN] = bytes.first_chunk().ok_or(DropReason::Truncated)?;
        let header_len = usize::from(fixed[field::VERSION_IHL] & 0x0f) * 4;
        let total_len = usize::from(u16_at(fixed, field::TOTAL_LENGTH));
        if fixed[field::VERSION_IHL] >> 4 != 4 || header_len < Self::LEN || total_len < header_len {
            return Err(DropReason::MalformedHeader);
        }
        if bytes.len() < header_len {
            return Err(DropReason::Truncated);
        }
        let flags_offset = u16_at(fixed, field::FLAGS_OFFSET);
        Ok(Self {
            header_len,
            total_len,
            tos: fixed[field::TOS],
            identification: u16_at(fixed, field::IDENTIFICATION),
            dont_fragment: flags_offset & DONT_FRAGMENT != 0,
            more_fragments: flags_offset & MORE_FRAGMENTS != 0,
            fragment_offset: flags_offset & OFFSET_MASK,
            ttl: fixed[field::TTL],
            protocol: fixed[field::PROTOCOL],
            source: address_at(fixed, field::SOURCE),
            destination: address_at(fixed, field::DESTINATION),
        })
    }

    /// Bytes that follow the header, according to the header.
    pub(crate) const fn payload_len(&self) -> usize {
        self.total_len - self.header_len
    }

    pub(crate) const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes the header without options and with its checksum. `total_len` must fit 16 bits.
    #[inline]
    pub(crate) fn emit(&self, out: &mut [u8; Self::LEN]) {
        let mut flags_offset = self.fragment_offset & OFFSET_MASK;
        if self.dont_fragment {
            flags_offset |= DONT_FRAGMENT;
        }
        if self.more_fragments {
            flags_offset |= MORE_FRAGMENTS;
        }
        out[field::VERSION_IHL] = 0x45;
        out[field::TOS] = self.tos;
        out[field::TOTAL_LENGTH].copy_from_slice(&(self.total_len as u16).to_be_bytes());
        out[field::IDENTIFICATION].copy_from_slice(&self.identification.to_be_bytes());
        out[field::FLAGS_OFFSET].copy_from_slice(&flags_offset.to_be_bytes());
        out[field::TTL] = self.ttl;
        out[field::PROTOCOL] = self.protocol;
        out[field::CHECKSUM].fill(0);
        out[field::SOURCE].copy_from_slice(&self.source.octets());
        out[field::DESTINATION].copy_from_slice(&self.destination.octets());
        let checksum = Sum::of(out).checksum();
        out[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Whether the checksum of this header, options included, is right.
#[inline]
pub(crate) fn checksum_is_valid(header: &[u8]) -> bool {
    Sum::of(header).fold() == 0xffff
}

/// Whether there is a source route that still has hops to visit (RFC 791 §3.1): its pointer is not beyond its length.
pub(crate) fn has_unexpired_source_route(mut options: &[u8]) -> bool {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    loop {
        options = match *options {
            [] | [END, ..] => return false,
            [NO_OPERATION, ref rest @ ..] => rest,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, len, pointer, ..] if pointer <= len => return true,
            // A length that cannot be ends the search: what follows cannot be told apart.
            [_, len, ..] if len >= 2 => options.get(usize::from(len)..).unwrap_or(&[]),
            _ => return false,
        };
    }
}

fn u16_at(header: &[u8; Ipv4Header::LEN], field: core::ops::Range<usize>) -> u16 {
    u16::from_be_bytes([header[field.start], header[field.start + 1]])
}

fn address_at(header: &[u8; Ipv4Header::LEN], field: core::ops::Range<usize>) -> Ipv4Addr {
    let at = field.start;
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_routes_expire() {
        // type, length 7, pointer, one address
        assert!(has_unexpired_source_route(&[131, 7, 4, 192, 0, 2, 1, 0]));
        assert!(has_unexpired_source_route(&[1, 137, 7, 7, 192, 0, 2, 1]));
        assert!(!has_unexpired_source_route(&[131, 7, 8, 192, 0, 2, 1, 0]));
        // Behind another option (record route), behind the end of the list.
        assert!(has_unexpired_source_route(&[7, 3, 4, 131, 7, 4, 192, 0, 2, 1]));
        assert!(!has_unexpired_source_route(&[0, 131, 7, 4, 192, 0, 2, 1]));
        // Lengths that cannot be.
        assert!(!has_unexpired_source_route(&[7, 0, 0, 131, 7, 4, 1, 1]));
        assert!(!has_unexpired_source_route(&[7, 200, 0, 0]));
        assert!(!has_unexpired_source_route(&[131]));
        assert!(!has_unexpired_source_route(&[131, 3]));
    }
}

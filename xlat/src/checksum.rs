//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! # The arithmetic, once
//!
//! The checksum of a header is the one's complement sum of its 16-bit words, inverted. One's complement addition is
//! addition modulo 65535: the carry out of the top comes back in at the bottom. Three facts follow, and everything
//! in this crate rests on them:
//!
//! * Order and grouping do not matter. So a *sum* ([`Sum`]) is kept in a wide integer, where carries cannot be
//!   lost, and folded to 16 bits once at the end.
//! * The negative of a word is its inverse: `-x = !x`. So a word that changes from `old` to `new` changes the sum by
//!   `new + !old`, whatever else the sum covers. That is why a checksum can be corrected without reading the
//!   payload, and why it can be corrected even in a fragment or a quoted packet that has been cut short; and a
//!   checksum that was wrong stays wrong by the same amount, so that the receiver still notices.
//!   RFC 1624 eqn. 3: `HC' = !(!HC + !m + m')`. Its predecessor, RFC 1141, is not used: it can yield 0xffff where
//!   0x0000 is meant.
//! * Zero has two faces, 0x0000 and 0xffff. A sum folds to 0x0000 only if every word in it was zero. The face
//!   matters in one place: a UDP checksum field of 0x0000 means "no checksum", so a computed 0x0000 is sent as
//!   0xffff (RFC 768, RFC 8200 §8.1).
//!
//! TCP, UDP, UDP-Lite and DCCP cover a pseudo-header of both addresses, the length and the protocol number. The
//! latter two add up to the same in IPv4 and IPv6, so only the addresses matter in a translation. ICMPv4 covers no
//! pseudo-header, ICMPv6 does: there the whole pseudo-header comes or goes.
//!
//! A *partial* checksum (see [`crate::Offload`]) is the folded sum of the pseudo-header itself, not inverted.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A one's complement sum that has not been folded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// The sum of these bytes, taken as 16-bit words; an odd last byte is followed by a zero (RFC 1071 §1).
    pub fn of(bytes: &[u8]) -> Self {
        // Thirty-two bits at a time: 2^16 and 2^32 are both 1 modulo 65535, so wider words add up to the same.
        let (chunks, rest) = bytes.as_chunks::<4>();
        let mut sum = chunks.iter().map(|chunk| u64::from(u32::from_be_bytes(*chunk))).sum::<u64>();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        sum += u64::from(u32::from_be_bytes(last));
        Self(sum)
    }

    /// Adds another sum.
    pub const fn plus(self, other: Self) -> Self {
        // Folded to 32 bits each, two sums cannot overflow, however often this is repeated.
        Self(fold32(self.0) + fold32(other.0))
    }

    /// Subtracts another sum.
    pub const fn minus(self, other: Self) -> Self {
        Self(fold32(self.0) + (0xffff - other.fold() as u64))
    }

    /// Adds one 16-bit word.
    pub const fn plus_word(self, word: u16) -> Self {
        self.plus(Self(word as u64))
    }

    /// Adds a number of up to 32 bits, such as a length.
    pub const fn plus_u32(self, value: u32) -> Self {
        self.plus(Self(value as u64))
    }

    /// The sum as 16 bits.
    #[must_use]
    pub const fn fold(self) -> u16 {
        let sum = fold32(self.0);
        // From at most 33 bits to 18, to 17, to 16.
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum: the inverse of the folded sum.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// Folds to at most 33 bits, which no later addition of such values can overflow.
const fn fold32(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

impl From<Ipv4Addr> for Sum {
    fn from(address: Ipv4Addr) -> Self {
        Self(u64::from(address.to_bits()))
    }
}

impl From<Ipv6Addr> for Sum {
    fn from(address: Ipv6Addr) -> Self {
        Self::of(&address.octets())
    }
}

/// Corrects a checksum whose covered words changed from the sum `old` to the sum `new` (RFC 1624 eqn. 3).
#[must_use]
pub const fn update(checksum: u16, old: Sum, new: Sum) -> u16 {
    Sum(!checksum as u64).minus(old).plus(new).checksum()
}

/// Corrects a partial checksum, which is a sum and not inverted.
#[must_use]
pub const fn update_partial(partial: u16, old: Sum, new: Sum) -> u16 {
    Sum(partial as u64).minus(old).plus(new).fold()
}

/// The sum of an IPv6 pseudo-header (RFC 8200 §8.1).
pub fn ipv6_pseudo_header(source: Ipv6Addr, destination: Ipv6Addr, length: u32, next_header: u8) -> Sum {
    Sum::from(source).plus(destination.into()).plus_u32(length).plus_word(u16::from(next_header))
}

/// The sum of an IPv4 pseudo-header (RFC 768, RFC 9293 §3.1).
pub fn ipv4_pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, length: u16, protocol: u8) -> Sum {
    Sum::from(source).plus(destination.into()).plus_word(length).plus_word(u16::from(protocol))
}

/// Finishes a partial checksum in software, as a device would: sums `packet[start..]` and stores the checksum at
/// `start + offset` (the virtio `csum_start` and `csum_offset`). A result of 0 is stored as 0xffff, which is right
/// for UDP and harmless elsewhere. False, and nothing done, if the field is not inside the packet.
#[must_use]
pub fn complete(packet: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(covered) = packet.get_mut(start..) else { return false };
    let checksum = match Sum::of(covered).checksum() {
        0 => 0xffff,
        checksum => checksum,
    };
    let Some(field) = offset.checked_add(2).and_then(|end| covered.get_mut(offset..end)) else {
        return false;
    };
    field.copy_from_slice(&checksum.to_be_bytes());
    true
}

/// The 16 bits that make an IPv6 address checksum-neutral: with them in octets `at` and `at + 1` (which must be even)
/// of `template`, and the NAT64's address for any destination, pseudo-header sums equal those of IPv4 (RFC 6052 §4.1
/// describes the idea). A CLAT with such an address leaves transport checksums alone.
///
/// For every destination `d`: `sum(address) + sum(pref64.embed(d)) = sum(ipv4) + sum(d)`. That can hold for all `d`
/// only if the prefix is 32 or 96 bits long; `None` with other lengths, or if `at` is odd or beyond 14.
#[must_use]
pub fn neutral_word(
    template: Ipv6Addr,
    at: usize,
    pref64: &crate::Pref64,
    ipv4: Ipv4Addr,
) -> Option<[u8; 2]> {
    // Lengths at which both halves of the IPv4 address fall on 16-bit words. Elsewhere the "u" octet or an odd
    // offset swaps bytes of the destination, and no constant makes up for that.
    if !matches!(pref64.len(), 32 | 96) || at > 14 || !at.is_multiple_of(2) {
        return None;
    }
    let mut octets = template.octets();
    octets.get_mut(at..at + 2)?.fill(0);
    let rest = Sum::of(&octets).plus(Sum::from(pref64.network()));
    Some(Sum::from(ipv4).minus(rest).fold().to_be_bytes())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// RFC 1071 §3.
    #[test]
    fn sums() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::of(&[]).fold(), 0);
        assert_eq!(Sum::of(&[0xab]).fold(), 0xab00);
        for len in 0..9 {
            // However the words fall on chunks of four bytes, the sum is that of the halves.
            let bytes: Vec<u8> = (0..len).map(|i| 0xf0 | i).collect();
            let halves = bytes.chunks(2).map(Sum::of).fold(Sum::ZERO, Sum::plus);
            assert_eq!(Sum::of(&bytes).fold(), halves.fold(), "{len} bytes");
        }
    }

    #[test]
    fn folding_carries_to_the_end() {
        for sum in
            [0x1_0000_ffff, 0x1_ffff_fffe, u64::MAX, u64::MAX - 1, 0xffff_0000_0000_ffff, 0x1_ffff, 0x2_fffe]
        {
            let expected = match sum % 0xffff {
                0 => 0xffff,
                rest => rest,
            };
            assert_eq!(u64::from(Sum(sum).fold()), expected, "{sum:x}");
        }
    }

    #[test]
    fn long_sums_do_not_overflow() {
        let sum = Sum::of(&[0xff; 65536]);
        assert_eq!(sum.fold(), 0xffff);
        let sum =
            (0..100_000).fold(sum, |sum, _| sum.plus(sum).plus_u32(u32::MAX).minus(Sum::of(&[0x12, 0x34])));
        assert!(sum.fold() > 0);
    }

    /// RFC 1624 §4: where RFC 1141 would yield 0xffff.
    #[test]
    fn example_of_rfc_1624() {
        let old = Sum::of(&[0x55, 0x55]);
        let new = Sum::of(&[0x32, 0x85]);
        assert_eq!(update(0xdd2f, old, new), 0x0000);
    }

    #[test]
    fn updates_equal_recomputation_for_every_word() {
        let rest = Sum::of(&[0x12, 0x34, 0x56, 0x78]);
        for old in (0..=0xffffu16).step_by(251) {
            for new in [0, 1, 0x7fff, 0xfffe, 0xffff, old, !old] {
                let was = rest.plus_word(old).checksum();
                let is = update(was, Sum::ZERO.plus_word(old), Sum::ZERO.plus_word(new));
                assert_eq!(is % 0xffff, rest.plus_word(new).checksum() % 0xffff, "{old:04x} to {new:04x}");
                let partial = update_partial(!was, Sum::ZERO.plus_word(old), Sum::ZERO.plus_word(new));
                assert_eq!(partial % 0xffff, !is % 0xffff);
            }
        }
    }

    #[test]
    fn completing_needs_room() {
        let mut packet = [0; 8];
        assert!(!complete(&mut packet, 9, 0));
        assert!(!complete(&mut packet, 4, 3));
        assert!(!complete(&mut packet, 0, usize::MAX));
        assert_eq!(packet, [0; 8]);
        assert!(complete(&mut packet, 4, 2));
        assert_eq!(packet, [0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        // A sum of 0xffff gives 0, which is stored as 0xffff.
        let mut packet = [0xff, 0xff, 0, 0];
        assert!(complete(&mut packet, 0, 2));
        assert_eq!(packet, [0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn neutral_words_exist_for_aligned_prefixes_only() {
        let template = Ipv6Addr::LOCALHOST;
        let ipv4 = Ipv4Addr::new(192, 0, 0, 1);
        for (prefix, possible) in [
            ("2001:db8::/32", true),
            ("2001:db8::/40", false),
            ("2001:db8::/48", false),
            ("2001:db8::/56", false),
        ] {
            let found = neutral_word(template, 14, &prefix.parse().unwrap(), ipv4);
            assert_eq!(found.is_some(), possible, "{prefix}");
        }
        assert!(neutral_word(template, 15, &crate::Pref64::WELL_KNOWN, ipv4).is_none());
        assert!(neutral_word(template, 16, &crate::Pref64::WELL_KNOWN, ipv4).is_none());
        assert!(neutral_word(template, usize::MAX, &crate::Pref64::WELL_KNOWN, ipv4).is_none());
    }
}

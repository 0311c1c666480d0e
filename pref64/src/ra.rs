//! Router Advertisements (RFC 4861 §4.2) and their PREF64 option (RFC 8781), as total functions over bytes.
//!
//! ```text
//!  0      1      2             4              6              8              12            16
//!  +------+------+-------------+------+-------+--------------+--------------+-------------+---------
//!  | 134  | code |  checksum   | hops | M O H | router       | reachable    | retrans     | options
//!  |      |      |             |      | Prf P | lifetime (s) | time (ms)    | timer (ms)  | ...
//!  +------+------+-------------+------+-------+--------------+--------------+-------------+---------
//! ```

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat::Pref64;

/// ICMPv6 type of a Router Solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a Router Advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// The all-routers multicast address, to which solicitations go.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Neighbour discovery messages carry this hop limit; another one came through a router (RFC 4861 §6.1.2).
pub const HOP_LIMIT: u8 = 255;
/// More PREF64 options than this in one advertisement are ignored.
pub const MAX_PREFIXES: usize = 16;

/// The fixed part of an advertisement, in bytes.
const HEADER_LEN: usize = 16;
/// Options are counted in units of this many bytes.
const OPTION_UNIT: usize = 8;
/// Option type of PREF64 (RFC 8781 §4).
const OPTION_PREF64: u8 = 38;
/// Option type of a source link-layer address (RFC 4861 §4.6.1).
const OPTION_SOURCE_LINK_LAYER: u8 = 1;
/// The length field of a PREF64 option (RFC 8781 §4).
const PREF64_UNITS: u8 = 2;
/// Prefix lengths by Prefix Length Code (RFC 8781 §4).
const PREFIX_LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

/// Default router preference (RFC 4191 §2.1); greater is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preference {
    /// Prf 11.
    Low,
    /// Prf 00, and the reserved 10.
    #[default]
    Medium,
    /// Prf 01.
    High,
}

/// What this project needs to know of an advertisement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterAdvert {
    /// How long the sender is a default router; zero: it is none.
    pub router_lifetime: Duration,
    /// How it ranks among routers.
    pub preference: Preference,
    /// Its PREF64 options in order; a prefix that appears twice keeps its last lifetime.
    pub prefixes: Vec<Pref64Option>,
    /// PREF64 options that were ignored, and why.
    pub ignored: Vec<IgnoredOption>,
}

/// A good PREF64 option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pref64Option {
    /// The NAT64 prefix.
    pub prefix: Pref64,
    /// How long it may be used, at most 65528 s; zero: no longer (RFC 8781 §4.1).
    pub lifetime: Duration,
}

/// Why a PREF64 option was ignored; the rest of the advertisement is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IgnoredOption {
    /// RFC 8781 §4: the length must be 2.
    #[error("PREF64 option of {0} octets instead of 16")]
    Length(usize),
    /// RFC 8781 §4: codes 6 and 7 are unassigned.
    #[error("PREF64 option with the unassigned prefix length code {0}")]
    PrefixLengthCode(u8),
    /// Not a prefix that a NAT64 can have.
    #[error("PREF64 option with an impossible prefix: {0}")]
    Prefix(xlat::Pref64Error),
    /// More than [`MAX_PREFIXES`].
    #[error("more than {MAX_PREFIXES} PREF64 options")]
    TooMany,
}

/// Why a message is no valid Router Advertisement (RFC 4861 §6.1.2): it is discarded as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAdvert {
    /// The source must be link-local.
    #[error("source {0} is not link-local")]
    Source(Ipv6Addr),
    /// The hop limit must be 255.
    #[error("hop limit {0} instead of 255: it came through a router")]
    HopLimit(u8),
    /// Another ICMPv6 message.
    #[error("ICMPv6 type {0} is no Router Advertisement")]
    Type(u8),
    /// The code must be 0.
    #[error("code {0} instead of 0")]
    Code(u8),
    /// Shorter than the fixed part.
    #[error("{0} octets are too short for a Router Advertisement")]
    TooShort(usize),
    /// An option of length 0 or longer than what is left.
    #[error("option at octet {0} has an impossible length")]
    OptionLength(usize),
}

/// Parses and validates an ICMPv6 message (RFC 4861 §6.1.2).
///
/// `source` and `hop_limit` come from the IPv6 header. The checksum is the kernel's concern: raw ICMPv6 sockets
/// deliver only messages whose checksum is right (RFC 3542 §3.1).
///
/// # Errors
/// When the advertisement must be discarded.
pub fn parse(message: &[u8], source: Ipv6Addr, hop_limit: u8) -> Result<RouterAdvert, InvalidAdvert> {
    if !crate::server::is_link_local(source) {
        return Err(InvalidAdvert::Source(source));
    }
    if hop_limit != HOP_LIMIT {
        return Err(InvalidAdvert::HopLimit(hop_limit));
    }
    let Some((header, mut options)) = message.split_first_chunk::<HEADER_LEN>() else {
        return Err(InvalidAdvert::TooShort(message.len()));
    };
    if header[0] != ROUTER_ADVERTISEMENT {
        return Err(InvalidAdvert::Type(header[0]));
    }
    if header[1] != 0 {
        return Err(InvalidAdvert::Code(header[1]));
    }
    let router_lifetime = Duration::from_secs(u16::from_be_bytes([header[6], header[7]]).into());
    let mut advert = RouterAdvert {
        router_lifetime,
        preference: preference(header[5], router_lifetime),
        ..Default::default()
    };
    while !options.is_empty() {
        let offset = message.len() - options.len();
        let (option, rest) = split_option(options).ok_or(InvalidAdvert::OptionLength(offset))?;
        if option[0] == OPTION_PREF64 {
            match pref64_option(option) {
                Ok(option) => advert.add(option),
                Err(why) => advert.ignore(why),
            }
        }
        options = rest;
    }
    Ok(advert)
}

impl RouterAdvert {
    fn add(&mut self, option: Pref64Option) {
        if let Some(known) = self.prefixes.iter_mut().find(|known| known.prefix == option.prefix) {
            known.lifetime = option.lifetime;
        } else if self.prefixes.len() < MAX_PREFIXES {
            self.prefixes.push(option);
        } else {
            self.ignore(IgnoredOption::TooMany);
        }
    }

    fn ignore(&mut self, why: IgnoredOption) {
        // Bounded: the list is for a log line.
        if self.ignored.len() < MAX_PREFIXES {
            self.ignored.push(why);
        }
    }
}

/// RFC 4191 §2.2: bits 3 and 4 of the flags; the reserved value counts as medium, and so does the preference of a
/// router that is no default router.
fn preference(flags: u8, router_lifetime: Duration) -> Preference {
    match flags >> 3 & 0b11 {
        0b01 if !router_lifetime.is_zero() => Preference::High,
        0b11 if !router_lifetime.is_zero() => Preference::Low,
        _ => Preference::Medium,
    }
}

/// Takes one option off the front: never shorter than 8 bytes.
fn split_option(options: &[u8]) -> Option<(&[u8], &[u8])> {
    let units = usize::from(*options.get(1)?);
    if units == 0 {
        return None;
    }
    options.split_at_checked(units * OPTION_UNIT)
}

fn pref64_option(option: &[u8]) -> Result<Pref64Option, IgnoredOption> {
    let Ok(option) = <&[u8; OPTION_UNIT * PREF64_UNITS as usize]>::try_from(option) else {
        return Err(IgnoredOption::Length(option.len()));
    };
    let scaled = u16::from_be_bytes([option[2], option[3]]);
    let code = (scaled & 0b111) as u8;
    let Some(&len) = PREFIX_LENGTHS.get(usize::from(code)) else {
        return Err(IgnoredOption::PrefixLengthCode(code));
    };
    let mut octets = [0; 16];
    octets[..12].copy_from_slice(&option[4..]);
    // What follows the prefix is not part of it (as with the Prefix Information option, RFC 4861 §4.6.2).
    octets[usize::from(len / 8)..].fill(0);
    let prefix = Pref64::new(octets.into(), len).map_err(IgnoredOption::Prefix)?;
    // The upper 13 bits count units of 8 seconds: masking the code off multiplies (RFC 8781 §4.1).
    Ok(Pref64Option { prefix, lifetime: Duration::from_secs((scaled & !0b111).into()) })
}

/// Builds a Router Solicitation (RFC 4861 §4.1), with the sender's Ethernet address where it has one.
///
/// The checksum is left zero: the kernel fills it in on a raw ICMPv6 socket (RFC 3542 §3.1).
pub fn solicitation(link_layer: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    if let Some(address) = link_layer {
        message.extend([OPTION_SOURCE_LINK_LAYER, 1]);
        message.extend(address);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    /// Type, code, checksum, hop limit 64, flags, router lifetime 1800 s, reachable time, retrans timer.
    fn advert(flags: u8, options: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![134, 0, 0x12, 0x34, 64, flags, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        options.iter().for_each(|option| message.extend(*option));
        message
    }

    fn pref64(scaled: u16, code: u8, octets: [u8; 12]) -> Vec<u8> {
        let mut option = vec![38, 2];
        option.extend((scaled << 3 | u16::from(code)).to_be_bytes());
        option.extend(octets);
        option
    }

    fn good(message: &[u8]) -> RouterAdvert {
        parse(message, ROUTER, 255).unwrap()
    }

    #[test]
    fn every_prefix_length_code() {
        let octets = [0x20, 0x01, 0x0d, 0xb8, 1, 2, 3, 4, 0, 0, 0, 0];
        for (code, expected) in [
            (0, "2001:db8:102:304::/96"),
            (1, "2001:db8:102:304::/64"),
            (2, "2001:db8:102:300::/56"),
            (3, "2001:db8:102::/48"),
            (4, "2001:db8:100::/40"),
            (5, "2001:db8::/32"),
        ] {
            let advert = good(&advert(0, &[&pref64(225, code, octets)]));
            assert_eq!(advert.prefixes.len(), 1);
            assert_eq!(advert.prefixes[0].prefix.to_string(), expected);
            assert_eq!(advert.prefixes[0].lifetime, Duration::from_secs(1800));
        }
        for code in [6, 7] {
            let advert = good(&advert(0, &[&pref64(225, code, octets)]));
            assert_eq!(
                (advert.prefixes, advert.ignored),
                (vec![], vec![IgnoredOption::PrefixLengthCode(code)])
            );
        }
    }

    #[test]
    fn lifetimes_are_scaled_by_eight() {
        let octets = [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
        for (scaled, seconds) in [(0, 0), (1, 8), (8191, 65528)] {
            let advert = good(&advert(0, &[&pref64(scaled, 0, octets)]));
            assert_eq!(advert.prefixes[0].lifetime.as_secs(), seconds);
            assert_eq!(advert.prefixes[0].prefix, Pref64::WELL_KNOWN);
        }
    }

    #[test]
    fn bad_options_are_ignored_and_good_ones_kept() {
        let u_octet = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 1, 0, 0, 0];
        let multicast = [0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let short = [38, 1, 0, 8, 0, 0, 0, 0];
        let mut long = pref64(1, 0, [0x20; 12]);
        long[1] = 3;
        long.extend([0; 8]);
        let unknown = [200, 1, 1, 2, 3, 4, 5, 6];
        let good_one = pref64(1, 1, [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        let advert = good(&advert(
            0,
            &[&pref64(1, 0, u_octet), &pref64(1, 0, multicast), &short, &long, &unknown, &good_one],
        ));
        assert_eq!(
            advert.ignored,
            [
                IgnoredOption::Prefix(xlat::Pref64Error::ReservedBits),
                IgnoredOption::Prefix(xlat::Pref64Error::NotGlobalUnicast),
                IgnoredOption::Length(8),
                IgnoredOption::Length(24)
            ]
        );
        assert_eq!(advert.prefixes.len(), 1);
        assert_eq!(
            advert.prefixes[0].prefix.to_string(),
            "2001:db8:0:1::/64",
            "bits after the prefix are not part of it"
        );
    }

    #[test]
    fn the_last_lifetime_of_a_prefix_counts_and_the_number_is_bounded() {
        let one = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];
        let twice = good(&advert(0, &[&pref64(9, 0, one), &pref64(0, 0, one)]));
        assert_eq!(twice.prefixes.iter().map(|p| p.lifetime.as_secs()).collect::<Vec<_>>(), [0]);
        let many: Vec<Vec<u8>> =
            (0..40).map(|n| pref64(1, 0, [0x20, 1, 0x0d, 0xb8, n, 0, 0, 0, 0, 0, 0, 0])).collect();
        let many = good(&advert(0, &many.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        assert_eq!((many.prefixes.len(), many.ignored[0]), (MAX_PREFIXES, IgnoredOption::TooMany));
    }

    #[test]
    fn router_lifetime_and_preference() {
        for (flags, expected) in [
            (0b0000_0000, Preference::Medium),
            (0b0000_1000, Preference::High),
            (0b0001_1000, Preference::Low),
            (0b0001_0000, Preference::Medium),
        ] {
            assert_eq!(good(&advert(flags, &[])).preference, expected);
        }
        let mut message = advert(0b0000_1000, &[]);
        assert_eq!(good(&message).router_lifetime, Duration::from_secs(1800));
        message[6..8].fill(0);
        assert_eq!(
            good(&message).preference,
            Preference::Medium,
            "no default router has no preference (RFC 4191 §2.2)"
        );
    }

    #[test]
    fn what_rfc_4861_tells_to_discard_is_discarded() {
        let message = advert(0, &[]);
        let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_eq!(parse(&message, global, 255), Err(InvalidAdvert::Source(global)));
        assert_eq!(parse(&message, ROUTER, 254), Err(InvalidAdvert::HopLimit(254)));
        assert_eq!(parse(&message[..15], ROUTER, 255), Err(InvalidAdvert::TooShort(15)));
        let mut code = message.clone();
        code[1] = 1;
        assert_eq!(parse(&code, ROUTER, 255), Err(InvalidAdvert::Code(1)));
        code[0] = 136;
        assert_eq!(parse(&code, ROUTER, 255), Err(InvalidAdvert::Type(136)));
        for bad in [&[38, 0, 0, 0, 0, 0, 0, 0][..], &[38, 2, 0, 0, 0, 0, 0, 0], &[38]] {
            assert_eq!(parse(&advert(0, &[bad]), ROUTER, 255), Err(InvalidAdvert::OptionLength(16)));
        }
    }

    #[test]
    fn solicitations() {
        assert_eq!(solicitation(None), [133, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(solicitation(Some([2, 3, 4, 5, 6, 7]))[8..], [1, 1, 2, 3, 4, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, ROUTER, 255);
            let mut framed = advert(0, &[]);
            framed.extend(&bytes);
            let _ = parse(&framed, ROUTER, 255);
        }

        #[test]
        fn any_pref64_option_gives_a_prefix_or_a_reason(scaled in 0u16..8192, code in 0u8..8, octets: [u8; 12]) {
            let advert = good(&advert(0, &[&pref64(scaled, code, octets)]));
            prop_assert_eq!(advert.prefixes.len() + advert.ignored.len(), 1);
            for option in advert.prefixes {
                prop_assert_eq!(option.lifetime.as_secs(), u64::from(scaled) * 8);
                let len = usize::from(option.prefix.len()) / 8;
                prop_assert_eq!(&option.prefix.network().octets()[..len], &octets[..len]);
            }
        }
    }
}

//! From the addresses of `ipv4only.arpa` to NAT64 prefixes (RFC 7050 §3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xlat::Pref64;

/// The well-known IPv4 addresses (RFC 7050 §2.2).
pub const WELL_KNOWN_ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// One way to read an address: this prefix in front of this well-known address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    prefix: Pref64,
    well_known: usize,
    /// Whether what follows the embedded address is zero, as RFC 6052 §2.2 wants it.
    clean: bool,
}

/// Every prefix in the AAAA records of `ipv4only.arpa`, in the order received, without duplicates.
///
/// Addresses without a well-known IPv4 address at a place that RFC 6052 allows (a captive portal's, say) give none.
/// Where a well-known address occurs at several places in one record, the other one decides (RFC 7050 §3): a prefix
/// that appears before both of them in the answer is right. What remains ambiguous gives none: nothing is guessed.
pub fn prefixes(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Pref64> {
    let records: Vec<(Ipv6Addr, Vec<Reading>)> = addresses
        .into_iter()
        .filter_map(|address| match address {
            IpAddr::V6(address) => Some((address, readings(address))),
            IpAddr::V4(_) => None,
        })
        .collect();
    let with_other = |reading: &Reading| {
        records
            .iter()
            .flat_map(|(_, readings)| readings)
            .any(|other| other.prefix == reading.prefix && other.well_known != reading.well_known)
    };
    let mut found = Vec::new();
    for (address, readings) in &records {
        if let Some(prefix) = decide(*address, readings, with_other)
            && !found.contains(&prefix)
        {
            found.push(prefix);
        }
    }
    found
}

fn readings(address: Ipv6Addr) -> Vec<Reading> {
    let mut readings = Vec::new();
    for len in Pref64::LENGTHS {
        let mask = u128::MAX << (128 - u32::from(len));
        let network = Ipv6Addr::from(u128::from(address) & mask);
        let Ok(prefix) = Pref64::new(network, len) else { continue };
        let well_known = prefix
            .extract(address)
            .and_then(|embedded| WELL_KNOWN_ADDRESSES.iter().position(|known| *known == embedded));
        if let Some(well_known) = well_known {
            let clean = prefix.embed(WELL_KNOWN_ADDRESSES[well_known]) == address;
            readings.push(Reading { prefix, well_known, clean });
        }
    }
    readings
}

/// How often a well-known address occurs on octet boundaries, at allowed places or not.
fn occurrences(address: Ipv6Addr, well_known: usize) -> usize {
    let wanted = WELL_KNOWN_ADDRESSES[well_known].octets();
    address.octets().windows(4).filter(|window| *window == wanted).count()
}

fn decide(address: Ipv6Addr, readings: &[Reading], with_other: impl Fn(&Reading) -> bool) -> Option<Pref64> {
    let only = |keep: &dyn Fn(&Reading) -> bool| {
        let mut kept = readings.iter().filter(|reading| keep(reading));
        match (kept.next(), kept.next()) {
            (Some(reading), None) => Some(reading.prefix),
            _ => None,
        }
    };
    if let [reading] = readings
        && occurrences(address, reading.well_known) <= 1
    {
        return Some(reading.prefix);
    }
    // The other well-known address, in this answer, behind the same prefix.
    only(&with_other)
        // Only one of the two occurs just once in this record.
        .or_else(|| only(&|reading| occurrences(address, reading.well_known) == 1))
        // A zero suffix.
        .or_else(|| only(&|reading| reading.clean && occurrences(address, reading.well_known) <= 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(addresses: &[&str]) -> Vec<String> {
        prefixes(addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_length_with_both_addresses() {
        for prefix in [
            "2001:db8::/32",
            "2001:db8:100::/40",
            "2001:db8:122::/48",
            "2001:db8:122:300::/56",
            "2001:db8:122:344::/64",
            "2001:db8:122:344::/96",
            "64:ff9b::/96",
        ] {
            let pref64: Pref64 = prefix.parse().unwrap();
            for addresses in
                [&WELL_KNOWN_ADDRESSES[..], &WELL_KNOWN_ADDRESSES[..1], &WELL_KNOWN_ADDRESSES[1..]]
            {
                let addresses = addresses.iter().map(|known| IpAddr::V6(pref64.embed(*known)));
                assert_eq!(prefixes(addresses), [pref64], "{prefix}");
            }
        }
    }

    #[test]
    fn the_examples_of_rfc_7050_and_their_order() {
        assert_eq!(
            found(&[
                "2001:db8:42::192.0.0.170",
                "2001:db8:43::192.0.0.170",
                "64:ff9b::192.0.0.170",
                "2001:db8:42::192.0.0.171"
            ]),
            ["2001:db8:42::/96", "2001:db8:43::/96", "64:ff9b::/96"]
        );
    }

    #[test]
    fn hijacked_answers_give_nothing() {
        assert_eq!(found(&["2001:db8::1", "::1", "::ffff:192.0.0.170", "192.0.0.170"]), [""; 0]);
        // At an octet boundary, but not at a place of RFC 6052.
        assert_eq!(found(&["2001:c000:aa::1"]), [""; 0]);
        // The u octet is not zero.
        assert_eq!(found(&["2001:db8:1:2:ffc0:0:aa00:0"]), [""; 0]);
        assert_eq!(found(&["ff02::192.0.0.170"]), [""; 0]);
    }

    #[test]
    fn a_prefix_that_contains_a_well_known_address_itself() {
        // 2001:db8:c000:aa::/96: 192.0.0.170 sits in the /32 place and, behind the prefix, in the last octets.
        let both = ["2001:db8:c000:aa::192.0.0.170", "2001:db8:c000:aa::192.0.0.171"];
        assert_eq!(found(&both), ["2001:db8:c000:aa::/96"]);
        // One record with both addresses in it once: the suffix decides.
        assert_eq!(found(&both[1..]), ["2001:db8:c000:aa::/96"]);
        // The same address twice in the only record: not decidable.
        assert_eq!(found(&both[..1]), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_prefix_is_found_again(octets: [u8; 16], index in 0usize..6, reverse: bool) {
            let len = Pref64::LENGTHS[index];
            let mut octets = octets;
            octets[usize::from(len / 8)..].fill(0);
            octets[8] = 0;
            if let Ok(prefix) = Pref64::new(octets.into(), len) {
                let mut addresses = WELL_KNOWN_ADDRESSES.map(|known| IpAddr::V6(prefix.embed(known)));
                if reverse {
                    addresses.reverse();
                }
                prop_assert_eq!(prefixes(addresses), [prefix]);
            }
        }

        #[test]
        fn any_addresses_are_read_without_panic(addresses in proptest::collection::vec(any::<[u8; 16]>(), 0..8)) {
            let found = prefixes(addresses.iter().map(|octets| IpAddr::from(*octets)));
            prop_assert!(found.len() <= addresses.len());
        }
    }
}

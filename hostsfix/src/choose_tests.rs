//! Tests of the choice of address.

use super::*;
use crate::time::Instant;

const SERVER: &str = "203.0.113.25";

fn v4(list: &[&str]) -> Vec<Ipv4Addr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn v6(list: &[&str]) -> Vec<Ipv6Addr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn prefix(text: &str) -> Pref64 {
    text.parse().unwrap()
}

fn prefixes(list: &[&str]) -> Prefixes {
    let known: Vec<_> = list.iter().map(|text| prefix(text)).collect();
    Prefixes { used: known.first().copied(), known }
}

fn lookup(aaaa: &[&str], a: &[&str]) -> Lookup {
    Lookup {
        aaaa: Ok(Records { addresses: v6(aaaa), ttl: 100 }),
        a: Ok(Records { addresses: v4(a), ttl: 200 }),
    }
}

fn down() -> DnsDown {
    DnsDown("timed out".into())
}

fn pin(source: Source, addresses: &[&str]) -> Pin {
    Pin { addresses: v6(addresses), source, ttl: 300, expires: Instant::from_unix(1000) }
}

fn native(addresses: &[&str]) -> Choice {
    Choice::Pin { addresses: v6(addresses), source: Source::Native, ttl: Some(100) }
}

fn nat64(addresses: &[&str], text: &str) -> Choice {
    Choice::Pin { addresses: v6(addresses), source: Source::Nat64(prefix(text)), ttl: Some(200) }
}

/// With these prefixes and this previous pin; `alive` lists the addresses that answer.
fn pick(lookup: Lookup, prefixes: &Prefixes, previous: Option<&Pin>, alive: &[&str]) -> Choice {
    let policy = Policy { prefixes, private_ipv4: false, want_a: &[], previous };
    choose(|| lookup, policy, |_| v6(alive))
}

const P: &str = "2001:db8:64::/96";

#[test]
fn native_that_answers_comes_first() {
    let both = lookup(&["2001:db8:1::80"], &[SERVER]);
    assert_eq!(pick(both.clone(), &prefixes(&[P]), None, &["2001:db8:1::80"]), native(&["2001:db8:1::80"]));
    assert_eq!(pick(both, &prefixes(&[P]), None, &[]), nat64(&["2001:db8:64::cb00:7119"], P));
    let two = lookup(&["2001:db8:1::80", "2001:db8:1::81"], &[]);
    assert_eq!(pick(two, &prefixes(&[]), None, &["2001:db8:1::81"]), native(&["2001:db8:1::81"]));
}

#[test]
fn what_a_dns64_made_up_is_not_native() {
    // Under the prefix, and under the well-known one although nobody told us of it.
    let alive = ["2001:db8:64::cb00:7119", "64:ff9b::cb00:7119"];
    for aaaa in alive {
        assert_eq!(
            pick(lookup(&[aaaa], &[SERVER]), &prefixes(&[P]), None, &alive),
            nat64(&["2001:db8:64::cb00:7119"], P)
        );
    }
    // Without A records (hidden by the resolver) what the DNS64 embedded counts.
    let Choice::Pin { addresses, .. } =
        pick(lookup(&["64:ff9b::cb00:7119"], &[]), &prefixes(&[P]), None, &[])
    else {
        panic!()
    };
    assert_eq!(addresses, v6(&["2001:db8:64::cb00:7119"]));
    let hidden = Lookup { a: Err(down()), ..lookup(&["2001:db8:64::cb00:7119"], &[]) };
    assert!(matches!(pick(hidden, &prefixes(&[P]), None, &[]), Choice::Pin { ttl: Some(100), .. }));
    assert_eq!(
        pick(lookup(&["64:ff9b::cb00:7119"], &[SERVER]), &prefixes(&[]), None, &alive),
        Choice::Refused(Why::NoNat64)
    );
}

#[test]
fn refusals() {
    let with = prefixes(&[P]);
    assert_eq!(pick(lookup(&[], &[SERVER]), &prefixes(&[]), None, &[]), Choice::Refused(Why::NoNat64));
    assert_eq!(pick(lookup(&[], &[]), &with, None, &[]), Choice::Refused(Why::NoAddress));
    assert_eq!(pick(lookup(&["2001:db8:1::80"], &[]), &with, None, &[]), Choice::Refused(Why::Unreachable));
    for private in
        ["10.0.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0"]
    {
        assert_eq!(
            pick(lookup(&[], &[private]), &with, None, &[]),
            Choice::Refused(Why::NotGlobal),
            "{private}"
        );
        assert_eq!(pick(lookup(&[], &[private]), &prefixes(&[]), None, &[]), Choice::Refused(Why::NotGlobal));
    }
    for odd in ["::1", "::", "fe80::1", "ff02::1", "::ffff:203.0.113.1"] {
        assert_eq!(pick(lookup(&[odd], &[]), &with, None, &[odd]), Choice::Refused(Why::NoAddress), "{odd}");
    }
}

#[test]
fn private_ones_only_if_configured_and_never_under_the_well_known_prefix() {
    let choose_private = |text: &str| {
        let prefixes = prefixes(&[text]);
        let policy = Policy { prefixes: &prefixes, private_ipv4: true, want_a: &[], previous: None };
        choose(|| lookup(&[], &["10.0.0.1"]), policy, |_| vec![])
    };
    assert_eq!(choose_private(P), nat64(&["2001:db8:64::a00:1"], P));
    assert_eq!(choose_private("64:ff9b::/96"), Choice::Refused(Why::NotGlobal));
    let mixed = pick(lookup(&[], &["10.0.0.1", SERVER]), &prefixes(&[P]), None, &[]);
    assert_eq!(mixed, nat64(&["2001:db8:64::cb00:7119"], P));
}

#[test]
fn a_given_address_needs_no_dns() {
    let (prefixes, want_a) = (prefixes(&[P]), v4(&[SERVER]));
    let policy = Policy { prefixes: &prefixes, private_ipv4: false, want_a: &want_a, previous: None };
    let choice = choose(|| panic!("the DNS is not asked"), policy, |_| panic!("nothing is probed"));
    let source = Source::Nat64(prefix(P));
    assert_eq!(choice, Choice::Pin { addresses: v6(&["2001:db8:64::cb00:7119"]), source, ttl: None });
}

#[test]
fn the_order_is_stable() {
    let with = prefixes(&[P]);
    let first = pick(lookup(&[], &["203.0.113.2", "203.0.113.1"]), &with, None, &[]);
    let Choice::Pin { addresses, source, .. } = first else { panic!() };
    let before = Pin { addresses: addresses.clone(), source, ttl: 1, expires: Instant::from_unix(1) };
    let again = pick(lookup(&[], &["203.0.113.3", "203.0.113.1", "203.0.113.2"]), &with, Some(&before), &[]);
    let Choice::Pin { addresses: later, .. } = again else { panic!() };
    assert_eq!(later, [&addresses[..], &v6(&["2001:db8:64::cb00:7103"])].concat());
    let many: Vec<_> = (0..100).map(|i| format!("203.0.113.{i}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let Choice::Pin { addresses, .. } = pick(lookup(&[], &many), &with, None, &[]) else { panic!() };
    assert_eq!(addresses.len(), MAX_ADDRESSES);
}

#[test]
fn a_resting_server_keeps_its_native_pin_unless_there_is_ipv4() {
    let before = pin(Source::Native, &["2001:db8:1::80"]);
    let with = prefixes(&[P]);
    assert_eq!(
        pick(lookup(&["2001:db8:1::80"], &[]), &with, Some(&before), &[]),
        native(&["2001:db8:1::80"])
    );
    let both = lookup(&["2001:db8:1::80"], &[SERVER]);
    assert_eq!(pick(both.clone(), &with, Some(&before), &[]), nat64(&["2001:db8:64::cb00:7119"], P));
    assert_eq!(pick(both, &prefixes(&[]), Some(&before), &[]), native(&["2001:db8:1::80"]));
    // But not if the DNS has another address now.
    let moved = lookup(&["2001:db8:1::99"], &[]);
    assert_eq!(pick(moved, &with, Some(&before), &[]), Choice::Refused(Why::Unreachable));
}

#[test]
fn when_the_dns_is_down() {
    let silent = Lookup { aaaa: Err(down()), a: Err(down()) };
    let with = prefixes(&[P]);
    assert_eq!(pick(silent.clone(), &with, None, &[]), Choice::Unknown(down()));
    let same = pin(Source::Nat64(prefix(P)), &["2001:db8:64::cb00:7119"]);
    assert_eq!(pick(silent.clone(), &with, Some(&same), &[]), Choice::Unknown(down()));
    // A new prefix needs no DNS to be used.
    let old = pin(Source::Nat64(prefix("2001:db8:99::/96")), &["2001:db8:99::cb00:7119"]);
    assert_eq!(
        pick(silent.clone(), &with, Some(&old), &[]),
        Choice::Moved { addresses: v6(&["2001:db8:64::cb00:7119"]), prefix: prefix(P) }
    );
    assert_eq!(pick(silent, &prefixes(&[]), Some(&old), &[]), Choice::Unknown(down()));
    // Half an answer: IPv6 unknown, IPv4 known.
    let half = Lookup { aaaa: Err(down()), ..lookup(&[], &[SERVER]) };
    assert_eq!(pick(half, &with, None, &[]), nat64(&["2001:db8:64::cb00:7119"], P));
    let other_half = Lookup { a: Err(down()), ..lookup(&["2001:db8:1::80"], &[]) };
    assert_eq!(pick(other_half, &with, None, &[]), Choice::Unknown(down()));
}

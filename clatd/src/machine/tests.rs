use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use pref64::Source;
use pref64::config::{Address as AddressMode, Clat, WhenNativeIpv4};

use super::address::Secret;
use super::*;
use crate::host::nfs::{NfsRoute, NfsServer};
use crate::host::snapshot::{Address, Ipv4Default, Link, LinkKind, OnLink, RouteToPrefix, Snapshot};

const ETH0: u32 = 2;
const CLAT: u32 = 9;

fn ip6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str) -> Link {
    let kind = LinkKind::Ethernet([2, 0, 0, 0, 0, 1]);
    Link { index, name: name.into(), up: true, mtu: 1500, ipv6_mtu: 1500, kind }
}

/// The default configuration but for one thing.
fn clat(change: impl FnOnce(&mut Clat)) -> Clat {
    let mut clat = Clat::default();
    change(&mut clat);
    clat
}

/// An IPv6-only host with SLAAC.
fn host() -> Snapshot {
    let address = Address {
        ifindex: ETH0,
        ip: IpAddr::V6(ip6("2001:db8:1::10")),
        prefix_len: 64,
        usable: true,
        deprecated: false,
    };
    Snapshot {
        links: vec![link(ETH0, "eth0")],
        addresses: vec![address],
        ipv4_defaults: Vec::new(),
        ipv4_parts: Vec::new(),
        on_link: vec![OnLink { ifindex: ETH0, network: ip6("2001:db8:1::"), len: 64 }],
        to_prefix: Some(RouteToPrefix {
            ifindex: ETH0,
            gateway: Some(ip6("fe80::1")),
            source: Some(ip6("2001:db8:1::10")),
        }),
        nfs: Vec::new(),
        kernel_configured: Vec::new(),
    }
}

fn prefix() -> Option<UsedPrefix> {
    Some(UsedPrefix { pref64: "2001:db8:64::/96".parse().unwrap(), source: Source::Ra })
}

fn machine(settings: Clat) -> Machine {
    Machine::new(settings, Secret::from_machine_id(b"test"))
}

/// A machine that has seen this host and this prefix.
fn knowing(settings: Clat, host: Snapshot) -> (Machine, Instant) {
    let now = Instant::now();
    let mut machine = machine(settings);
    machine.handle(Event::Host(Box::new(host)), now);
    machine.handle(Event::Prefix(prefix()), now);
    (machine, now)
}

fn native_default(ifindex: u32) -> Ipv4Default {
    Ipv4Default { ifindex, gateway: Some(Ipv4Addr::new(10, 0, 0, 1)), source: None, metric: 100 }
}

#[test]
fn starts_waits_and_becomes_active() {
    let now = Instant::now();
    let mut machine = machine(Clat::default());
    assert_eq!(machine.decision(now).state, State::Starting);
    machine.handle(Event::Host(Box::new(host())), now);
    assert_eq!(machine.decision(now).state, State::Waiting("no NAT64 prefix".into()));
    machine.handle(Event::Prefix(prefix()), now);
    let decision = machine.decision(now);
    assert_eq!(decision.state, State::Starting);
    let desired = decision.desired.unwrap();
    assert_eq!(desired.ipv4, Ipv4Addr::new(192, 0, 0, 1));
    assert_eq!(desired.mtu, 1480);
    assert_eq!(desired.identity.outer(), ip6("2001:db8:1::10"));
    machine.handle(Event::Applied, now);
    assert_eq!(machine.decision(now).state, State::Active);
}

#[test]
fn a_native_default_route_means_standing_by_until_it_goes() {
    let mut with_native = host();
    with_native.ipv4_defaults.push(native_default(ETH0));
    let (mut machine, now) = knowing(Clat::default(), with_native.clone());
    let decision = machine.decision(now);
    assert!(matches!(decision.state, State::StandingBy(ref why) if why.contains("eth0")), "{decision:?}");
    assert_eq!(decision.desired, None);
    machine.handle(Event::Host(Box::new(host())), now);
    assert!(machine.decision(now).desired.is_some());

    let ignore = clat(|clat| clat.when_native_ipv4 = WhenNativeIpv4::Ignore);
    assert!(knowing(ignore, with_native.clone()).0.decision(now).desired.is_some());
    let dead = clat(|clat| clat.dead_ipv4_defaults = vec!["eth0".into()]);
    assert!(knowing(dead, with_native).0.decision(now).desired.is_some());
}

#[test]
fn a_dead_default_route_that_would_win_is_passed_over() {
    let mut netboot = host();
    let dead = |clat: &mut Clat| clat.dead_ipv4_defaults = vec!["eth0".into()];
    assert!(
        !knowing(clat(dead), netboot.clone()).0.decision(Instant::now()).desired.unwrap().over_dead_default
    );
    for (metric, wins) in [(0, true), (2048, true), (2049, false)] {
        netboot.ipv4_defaults = vec![Ipv4Default { metric, ..native_default(ETH0) }];
        let desired = knowing(clat(dead), netboot.clone()).0.decision(Instant::now()).desired.unwrap();
        assert_eq!(desired.over_dead_default, wins, "metric {metric}");
    }
    // One that may lead somewhere keeps its right.
    let ignore = clat(|clat| clat.when_native_ipv4 = WhenNativeIpv4::Ignore);
    netboot.ipv4_defaults = vec![native_default(ETH0)];
    assert!(!knowing(ignore, netboot).0.decision(Instant::now()).desired.unwrap().over_dead_default);
}

#[test]
fn the_way_to_an_nfs_server_is_not_put_at_risk() {
    let server = |prefix_len, metric| NfsServer {
        address: "10.99.0.5".parse().unwrap(),
        has_root: true,
        route: Some(NfsRoute { ifindex: ETH0, gateway: "10.77.0.1".parse().ok(), prefix_len, metric }),
    };
    let mut netboot = host();
    netboot.ipv4_defaults = vec![Ipv4Default { metric: 0, ..native_default(ETH0) }];
    netboot.nfs = vec![server(0, 0)];
    let degraded = |settings: Clat, host: &Snapshot, what: &str| {
        let (mut machine, now) = knowing(settings, host.clone());
        let decision = machine.decision(now);
        assert!(decision.desired.is_none(), "{decision:?}");
        assert!(matches!(decision.state, State::Degraded(ref why) if why.contains(what)), "{decision:?}");
    };
    let dead = || clat(|clat| clat.dead_ipv4_defaults = vec!["eth0".into()]);
    degraded(dead(), &netboot, "10.99.0.5");
    for on_the_way in ["10.99.0.5", "10.77.0.1"] {
        let ip = on_the_way.parse().ok();
        degraded(
            clat(|clat| (clat.ipv4, clat.when_native_ipv4) = (ip, WhenNativeIpv4::Ignore)),
            &netboot,
            on_the_way,
        );
    }
    // Its own route to the server wins over ours.
    netboot.nfs = vec![server(30, 0)];
    let desired = knowing(dead(), netboot.clone()).0.decision(Instant::now()).desired.unwrap();
    assert!(desired.over_dead_default);
    assert_eq!(desired.untouchable, ["eth0"]);
    // A file system that is not the root's, on a link that the kernel did not configure, ties nothing.
    netboot.nfs[0].has_root = false;
    netboot.kernel_configured = vec!["eth9".into()];
    assert!(knowing(dead(), netboot).0.decision(Instant::now()).desired.unwrap().untouchable.is_empty());
}

#[test]
fn our_own_default_route_is_not_native() {
    let (mut machine, now) = knowing(Clat::default(), host());
    machine.handle(Event::Device(Some(CLAT)), now);
    let mut active = host();
    active.links.push(link(CLAT, "clat"));
    active.ipv4_defaults.push(native_default(CLAT));
    active.addresses.push(Address {
        ifindex: CLAT,
        ip: IpAddr::V4(Ipv4Addr::new(192, 0, 0, 1)),
        prefix_len: 32,
        usable: true,
        deprecated: false,
    });
    machine.handle(Event::Host(Box::new(active)), now);
    assert_eq!(machine.decision(now).desired.unwrap().ipv4, Ipv4Addr::new(192, 0, 0, 1));
    // Nor is what is left of it in the last picture of the host once it is gone.
    machine.handle(Event::Device(None), now);
    assert!(machine.decision(now).desired.is_some());
}

#[test]
fn another_clat_is_recognised_by_its_address_and_wins_even_over_ignore() {
    let mut other = host();
    other.links.push(link(7, "clat-nm"));
    other.ipv4_defaults.push(native_default(7));
    other.addresses.push(Address {
        ifindex: 7,
        ip: IpAddr::V4(Ipv4Addr::new(192, 0, 0, 5)),
        prefix_len: 32,
        usable: true,
        deprecated: false,
    });
    let ignore = clat(|clat| clat.when_native_ipv4 = WhenNativeIpv4::Ignore);
    let (mut machine, now) = knowing(ignore, other);
    let state = machine.decision(now).state;
    assert!(matches!(state, State::StandingBy(ref why) if why.contains("another CLAT")), "{state:?}");
}

#[test]
fn takes_the_first_free_ipv4_address_and_keeps_it() {
    let mut busy = host();
    busy.addresses.push(Address {
        ifindex: ETH0,
        ip: IpAddr::V4(Ipv4Addr::new(192, 0, 0, 1)),
        prefix_len: 29,
        usable: true,
        deprecated: false,
    });
    let (mut machine, now) = knowing(Clat::default(), busy);
    assert_eq!(machine.decision(now).desired.unwrap().ipv4, Ipv4Addr::new(192, 0, 0, 2));
    machine.handle(Event::Host(Box::new(host())), now);
    assert_eq!(
        machine.decision(now).desired.unwrap().ipv4,
        Ipv4Addr::new(192, 0, 0, 2),
        "flows depend on it"
    );
}

#[test]
fn a_missing_route_link_or_address_is_waited_for_and_named() {
    let now = Instant::now();
    let state = |change: fn(&mut Snapshot)| {
        let mut changed = host();
        change(&mut changed);
        match knowing(Clat::default(), changed).0.decision(now).state {
            State::Waiting(why) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(state(|h| h.to_prefix = None).contains("no route to the NAT64 prefix 2001:db8:64::/96"));
    assert!(state(|h| h.links[0].up = false).contains("eth0 is down"));
    assert!(state(|h| h.addresses[0].usable = false).contains("no usable IPv6 address on eth0"));
}

#[test]
fn the_configured_uplink_is_the_only_one() {
    let settings = clat(|clat| clat.uplink = Some("wan0".into()));
    let (mut machine, now) = knowing(settings.clone(), host());
    assert!(matches!(machine.decision(now).state, State::Waiting(why) if why.contains("no interface wan0")));
    let mut two = host();
    two.links.push(link(3, "wan0"));
    let (mut machine, now) = knowing(settings, two);
    assert!(
        matches!(machine.decision(now).state, State::Waiting(why) if why.contains("leads to eth0, not to wan0"))
    );
}

/// A machine for an address of its own.
fn dedicated() -> (Machine, Instant) {
    knowing(clat(|clat| clat.address = AddressMode::Dedicated), host())
}

/// The address that is in use while it is checked.
fn in_use_and_checked(machine: &mut Machine, now: Instant) -> Ipv6Addr {
    let decision = machine.decision(now);
    let (uplink, address) = decision.check_address.unwrap();
    assert_eq!(uplink.ifindex, ETH0);
    let identity = decision.desired.unwrap().identity;
    assert_eq!(identity, Identity::Own { address, on_link: true, optimistic: true });
    address
}

#[test]
fn a_dedicated_address_is_used_while_it_is_checked() {
    let (mut machine, now) = dedicated();
    let address = in_use_and_checked(&mut machine, now);
    machine.handle(Event::Applied, now);
    assert_eq!(machine.decision(now).state, State::Active);
    machine.handle(Event::AddressChecked(ETH0, address, true), now);
    let decision = machine.decision(now);
    assert_eq!(decision.check_address, None);
    let identity = decision.desired.unwrap().identity;
    assert_eq!(identity, Identity::Own { address, on_link: true, optimistic: false });
}

#[test]
fn after_a_conflict_another_address_is_used_and_after_many_it_is_checked_first() {
    let (mut machine, now) = dedicated();
    let mut tried = Vec::new();
    for _ in 0..3 {
        let address = in_use_and_checked(&mut machine, now);
        machine.handle(Event::Applied, now);
        machine.handle(Event::AddressChecked(ETH0, address, false), now);
        assert!(!tried.contains(&address));
        tried.push(address);
    }
    let decision = machine.decision(now);
    assert_eq!(decision.desired, None);
    assert!(matches!(decision.state, State::Waiting(why) if why.contains("nobody else uses")));
    let (_, address) = decision.check_address.unwrap();
    assert!(!tried.contains(&address));
    machine.handle(Event::AddressChecked(ETH0, address, true), now);
    let identity = machine.decision(now).desired.unwrap().identity;
    assert_eq!(identity, Identity::Own { address, on_link: true, optimistic: false });
}

#[test]
fn an_address_that_was_given_up_is_checked_again() {
    let (mut machine, now) = dedicated();
    let address = in_use_and_checked(&mut machine, now);
    machine.handle(Event::AddressChecked(ETH0, address, true), now);
    assert_eq!(machine.decision(now).check_address, None);
    let mut down = host();
    down.links[0].up = false;
    machine.handle(Event::Host(Box::new(down)), now);
    assert_eq!(machine.decision(now).desired, None);
    machine.handle(Event::Host(Box::new(host())), now);
    assert_eq!(in_use_and_checked(&mut machine, now), address);
}

#[test]
fn a_dedicated_address_needs_a_slash_64() {
    let mut routed = host();
    routed.on_link.clear();
    let settings = clat(|clat| clat.address = AddressMode::Dedicated);
    let (mut machine, now) = knowing(settings, routed);
    assert!(matches!(machine.decision(now).state, State::Waiting(why) if why.contains("no on-link /64")));
}

#[test]
fn an_explicit_address_is_the_hosts() {
    let with = |address: &str| {
        let settings = clat(|clat| clat.address = AddressMode::Explicit(ip6(address)));
        let (mut machine, now) = knowing(settings, host());
        machine.decision(now)
    };
    let own = with("2001:db8:1::10").desired.unwrap().identity;
    assert!(matches!(own, Identity::Shared { pinned: true, .. }));
    for elsewhere in ["2001:db8:1::abcd", "2001:db8:ffff::1"] {
        let state = with(elsewhere).state;
        assert!(
            matches!(state, State::Waiting(ref why) if why.contains("not an address of this host")),
            "{state:?}"
        );
    }
}

#[test]
fn a_refusal_is_retried_later_and_later() {
    let (mut machine, mut now) = knowing(Clat::default(), host());
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert!(machine.decision(now).desired.is_some());
        machine.handle(Event::Refused("no".into()), now);
        let decision = machine.decision(now);
        assert_eq!((decision.state, decision.desired), (State::Degraded("no".into()), None));
        let at = machine.next_deadline().unwrap();
        pauses.push((at - now).as_secs());
        now = at;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    machine.handle(Event::Applied, now);
    assert_eq!(machine.decision(now).state, State::Active);
    assert_eq!(machine.next_deadline(), None);
}

#[test]
fn a_changed_host_is_tried_at_once() {
    let (mut machine, now) = knowing(Clat::default(), host());
    machine.handle(Event::Refused("no".into()), now);
    let later = now + Duration::from_millis(10);
    let mut changed = host();
    changed.links.push(link(3, "eth1"));
    machine.handle(Event::Host(Box::new(changed)), later);
    assert!(machine.decision(later).desired.is_some());
}

#[test]
fn a_route_into_ourselves_is_an_error_not_a_loop() {
    let (mut machine, now) = knowing(Clat::default(), host());
    machine.handle(Event::Device(Some(CLAT)), now);
    let mut looped = host();
    looped.links.push(link(CLAT, "clat"));
    looped.to_prefix = Some(RouteToPrefix { ifindex: CLAT, gateway: None, source: None });
    machine.handle(Event::Host(Box::new(looped)), now);
    assert!(matches!(machine.decision(now).state, State::Degraded(why) if why.contains("leads into clat")));
}

//! How long flow records live, what an expired one is good for (nothing), and what happens when two flows want one port.
//!
//! The programs run under BPF_PROG_TEST_RUN; time passes by making records older.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray};
use clatd::datapath::bpf::{Attachment, Event, LinkKind, Mode, Params, records_for_test};
use nix::time::{ClockId, clock_gettime};
use xlat::Pref64;
use xlat::checksum::{Sum, ipv6_pseudo_header};

const CLAT_IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const CLAT_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const PORT: u16 = 443;

/// TC_ACT_UNSPEC: other programs, then the native stack.
const PASS: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

const OWNER_CLAT: u8 = 1;
const OWNER_NATIVE: u8 = 2;

/// `struct flow_key` and `struct flow` of `bpf/flow.h`.
type Key = [u8; 24];
type Record = [u8; 16];

fn pref64() -> Pref64 {
    "2001:db8:64::/96".parse().unwrap()
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

fn timeout(record: &Record) -> u64 {
    u64::from(u32::from_ne_bytes(record[12..].try_into().unwrap()))
}

struct Bench(Ebpf);

impl Bench {
    /// `None` if this process may not load programs.
    fn new(mode: Mode) -> Option<Self> {
        Self::with(mode, false)
    }

    fn with(mode: Mode, inbound_allowed: bool) -> Option<Self> {
        let params = Params {
            clat_ifindex: 0x7000,
            uplink_ifindex: 0x7001,
            link_kind: LinkKind::Ethernet { mac: [2, 0, 0, 0, 0, 1] },
            next_hop: Some("fe80::1".parse().unwrap()),
            pref64: pref64(),
            clat_ipv4: CLAT_IPV4,
            clat_ipv6: CLAT_IPV6,
            mode,
            private_ipv4: false,
            copy_traffic_class: true,
            optimistic: false,
            inbound_allowed,
            own_ipv4: Vec::new(),
            ipv6_mtu: 1500,
            lowest_ipv6_mtu: 1280,
            pin_directory: None,
            attachment: Attachment::Auto,
        };
        let ebpf = common::load(&params)?;
        Some(Self(ebpf))
    }

    fn run(&self, program: &str, protocol: u16, packet: &[u8]) -> (u32, Vec<u8>) {
        common::run(&self.0, program, protocol, packet)
    }

    /// The host sends; the verdict and the port on the wire.
    fn send(&self, protocol: u8, port: u16, flags: u8) -> (u32, u16) {
        let body = transport(protocol, port, PORT, flags, |_| Sum::ZERO);
        let mut packet = vec![0x45, 0];
        packet.extend((20 + body.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        packet.extend(CLAT_IPV4.octets());
        packet.extend(SERVER.octets());
        let sum = Sum::of(&packet).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(body);
        let (verdict, got) = self.run("v4shim_out_tst", 0x0800, &packet);
        let at = if verdict == TC_ACT_REDIRECT { 40 } else { 20 } + if protocol == ICMP { 4 } else { 0 };
        (verdict, u16::from_be_bytes([got[at], got[at + 1]]))
    }

    /// The server answers to a port on the wire; the verdict, and the port that the host's socket sees.
    fn answer(&self, protocol: u8, port: u16, flags: u8) -> (u32, u16) {
        let source = pref64().embed(SERVER);
        let protocol = if protocol == ICMP { ICMPV6 } else { protocol };
        let body = transport(protocol, PORT, port, flags, |len| {
            ipv6_pseudo_header(source, CLAT_IPV6, len, protocol)
        });
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend(source.octets());
        packet.extend(CLAT_IPV6.octets());
        packet.extend(body);
        let (verdict, got) = self.run("v4shim_in_eth", 0x86dd, &packet);
        let at = if verdict == TC_ACT_REDIRECT { 20 } else { 40 } + if protocol == ICMPV6 { 4 } else { 2 };
        (verdict, u16::from_be_bytes([got[at], got[at + 1]]))
    }

    /// One of two fragments of a UDP datagram to the host, the later one with a single byte; the verdict.
    fn fragment(&self, port: u16, first: bool) -> u32 {
        let mut packet = vec![0x60, 0, 0, 0, 0, if first { 16 } else { 9 }, FRAGMENT, 64];
        packet.extend(pref64().embed(SERVER).octets());
        packet.extend(CLAT_IPV6.octets());
        let offset_more: u16 = if first { 1 } else { 8 };
        packet.extend([UDP, 0]);
        packet.extend(offset_more.to_be_bytes());
        packet.extend([1, 2, 3, 4]);
        packet.extend(match first {
            true => [PORT.to_be_bytes(), port.to_be_bytes(), [0, 9], [1, 2]].concat(),
            false => vec![7],
        });
        self.run("v4shim_in_eth", 0x86dd, &packet).0
    }

    /// Makes what is known of the only fragmented datagram `seconds` old.
    fn age_fragments(&mut self, seconds: u64) {
        let map = self.0.map_mut("FRAGMENTS").unwrap();
        let mut map: HashMap<_, [u8; 24], [u8; 8]> = map.try_into().unwrap();
        let keys = map.keys().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(keys.len(), 1, "{keys:x?}");
        map.insert(keys[0], now_ns().wrapping_sub(seconds * 1_000_000_000).to_ne_bytes(), 0).unwrap();
    }

    fn flows(&mut self) -> HashMap<&mut MapData, Key, Record> {
        self.0.map_mut("FLOWS").unwrap().try_into().unwrap()
    }

    /// The only record there is.
    fn record(&mut self) -> (Key, Record) {
        let mut all = self.flows().iter().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(all.len(), 1, "{all:x?}");
        all.remove(0)
    }

    /// Makes the last packet of the only flow `seconds` old. The kernel's clock may be younger: it wraps.
    fn age(&mut self, seconds: u64) {
        let (key, mut record) = self.record();
        record[..8].copy_from_slice(&now_ns().wrapping_sub(seconds * 1_000_000_000).to_ne_bytes());
        self.flows().insert(key, record, 0).unwrap();
    }

    /// A native IPv6 flow to the same server and port.
    fn native(&mut self, protocol: u8, port: u16) {
        let mut record = [0; 16];
        record[..8].copy_from_slice(&now_ns().to_ne_bytes());
        record[8..10].copy_from_slice(&port.to_be_bytes());
        record[10] = OWNER_NATIVE;
        record[12..].copy_from_slice(&300u32.to_ne_bytes());
        self.flows().insert(key(protocol, port), record, 0).unwrap();
    }

    fn counted(&self, event: Event) -> u64 {
        let map: PerCpuArray<_, [u64; 2]> = self.0.map("COUNTS").unwrap().try_into().unwrap();
        let first = event as u32 * 8;
        (first..first + 8).flat_map(|at| map.get(&at, 0).unwrap().to_vec()).map(|[packets, _]| packets).sum()
    }
}

fn key(protocol: u8, port: u16) -> Key {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&pref64().embed(SERVER).octets());
    let remote_port = if protocol == ICMPV6 { 0 } else { PORT };
    key[16..18].copy_from_slice(&remote_port.to_be_bytes());
    key[18..20].copy_from_slice(&port.to_be_bytes());
    key[20] = protocol;
    key
}

/// A header with 8 bytes of data behind it. For ICMP, the port that is not [`PORT`] is the identifier.
fn transport(protocol: u8, from: u16, to: u16, flags: u8, pseudo: impl Fn(u32) -> Sum) -> Vec<u8> {
    let mut bytes = match protocol {
        ICMP => vec![8, 0, 0, 0],
        ICMPV6 => vec![129, 0, 0, 0],
        _ => [from.to_be_bytes(), to.to_be_bytes()].concat(),
    };
    let checksum = match protocol {
        TCP => {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
            16
        }
        UDP => {
            bytes.extend([0, 16, 0, 0]);
            6
        }
        _ => {
            let identifier = if from == PORT { to } else { from };
            bytes.extend(identifier.to_be_bytes());
            bytes.extend([0, 1]);
            2
        }
    };
    bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    let sum = pseudo(bytes.len() as u32).plus(Sum::of(&bytes)).checksum();
    bytes[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// One packet of a conversation.
#[derive(Clone, Copy, Debug)]
enum Step {
    Out(u8),
    In(u8),
}
use Step::{In, Out};

/// A conversation, and for how many seconds of silence after it an answer must still be let in.
const LIVES: [(&str, u8, &[Step], u64); 11] = [
    // RFC 5382 REQ-5: established 2 h 4 min, else 4 min.
    ("TCP, SYN sent", TCP, &[Out(SYN)], 240),
    ("TCP, SYN answered", TCP, &[Out(SYN), In(SYN | ACK)], 240),
    ("TCP, established", TCP, &[Out(SYN), In(SYN | ACK), Out(ACK)], 7440),
    ("TCP, established before the record was made", TCP, &[Out(ACK)], 7440),
    ("TCP, half closed by the host", TCP, &[Out(SYN), In(SYN | ACK), Out(ACK), Out(FIN | ACK)], 7440),
    ("TCP, half closed by the server", TCP, &[Out(SYN), In(SYN | ACK), Out(ACK), In(FIN | ACK)], 7440),
    ("TCP, closed", TCP, &[Out(SYN), In(SYN | ACK), Out(ACK), Out(FIN | ACK), In(FIN | ACK)], 240),
    ("TCP, reset", TCP, &[Out(SYN), In(SYN | ACK), Out(ACK), In(RST)], 240),
    ("TCP, opened again", TCP, &[Out(ACK), In(RST), Out(SYN), In(SYN | ACK), Out(ACK)], 7440),
    // RFC 4787 REQ-5: 2 minutes, 5 recommended.
    ("UDP", UDP, &[Out(0)], 299),
    // RFC 5508 REQ-1.
    ("ping", ICMP, &[Out(0)], 59),
];

#[test]
fn records_live_as_long_as_the_standards_ask_and_not_longer() {
    for (what, protocol, steps, least) in LIVES {
        let Some(mut bench) = Bench::new(Mode::Dedicated) else { return };
        assert_eq!(bench.answer(protocol, 5000, ACK).0, TC_ACT_SHOT, "{what}: let in without a record");
        for step in steps {
            let verdict = match *step {
                Out(flags) => bench.send(protocol, 5000, flags).0,
                In(flags) => bench.answer(protocol, 5000, flags).0,
            };
            assert_eq!(verdict, TC_ACT_REDIRECT, "{what}: {step:?}");
        }
        // Flags that tell nothing new: a record's timeout follows from its state.
        let quiet = if protocol == TCP { SYN | ACK } else { 0 };
        let (_, record) = bench.record();
        assert_eq!(record[10], OWNER_CLAT, "{what}");
        let timeout = timeout(&record);
        assert!(timeout > least && timeout <= least * 13 / 10 + 2, "{what}: {timeout} s");

        bench.age(least);
        assert_eq!(bench.answer(protocol, 5000, ACK), (TC_ACT_REDIRECT, 5000), "{what}: too early");
        let before = bench.counted(Event::Unsolicited);
        bench.age(timeout + 1);
        assert_eq!(bench.answer(protocol, 5000, quiet).0, TC_ACT_SHOT, "{what}: let in after its time");
        assert_eq!(bench.counted(Event::Unsolicited), before + 1, "{what}: not counted");

        // The host goes on: a new record, and its answers get in again.
        assert_eq!(bench.send(protocol, 5000, ACK), (TC_ACT_REDIRECT, 5000), "{what}: not taken up again");
        assert_eq!(bench.answer(protocol, 5000, ACK), (TC_ACT_REDIRECT, 5000), "{what}: not taken up again");
    }
}

/// Protocols without ports: half an hour, as their keep-alives are slow.
#[test]
fn a_record_of_another_protocol_lives_for_half_an_hour() {
    let Some(mut open) = Bench::with(Mode::Dedicated, true) else { return };
    assert_eq!(open.answer(ESP, 0, 0).0, TC_ACT_REDIRECT);
    let (key, record) = open.record();
    assert_eq!((key[20], timeout(&record)), (ESP, 1800));

    let Some(mut bench) = Bench::new(Mode::Dedicated) else { return };
    assert_eq!(bench.answer(ESP, 0, 0).0, TC_ACT_SHOT, "without a record");
    bench.flows().insert(key, record, 0).unwrap();
    bench.age(1799);
    assert_eq!(bench.answer(ESP, 0, 0).0, TC_ACT_REDIRECT, "too early");
    bench.age(1801);
    assert_eq!(bench.answer(ESP, 0, 0).0, TC_ACT_SHOT, "let in after its time");
}

/// RFC 8200 §4.5: later fragments follow the first one for 60 s, and without it nowhere.
#[test]
fn later_fragments_follow_the_first_one_for_a_minute() {
    let Some(mut bench) = Bench::new(Mode::Dedicated) else { return };
    assert_eq!(bench.fragment(5000, true), TC_ACT_SHOT, "of a flow that nobody knows");
    assert_eq!(bench.send(UDP, 5000, 0).0, TC_ACT_REDIRECT);
    assert_eq!(bench.fragment(5000, false), TC_ACT_SHOT, "before the first one");
    assert_eq!(bench.fragment(5000, true), TC_ACT_REDIRECT);
    bench.age_fragments(59);
    assert_eq!(bench.fragment(5000, false), TC_ACT_REDIRECT, "too early");
    bench.age_fragments(61);
    assert_eq!(bench.fragment(5000, false), TC_ACT_SHOT, "let in after its time");
    assert_eq!(bench.fragment(5000, true), TC_ACT_REDIRECT, "a new datagram with an old identification");
    assert_eq!(bench.fragment(5000, false), TC_ACT_REDIRECT);
}

/// RFC 4787 REQ-6: what the host sends keeps the record alive.
#[test]
fn packets_keep_records_alive() {
    for protocol in [TCP, UDP, ICMP] {
        let Some(mut bench) = Bench::new(Mode::Dedicated) else { return };
        for _ in 0..3 {
            assert_eq!(bench.send(protocol, 5000, ACK).0, TC_ACT_REDIRECT);
            let (_, record) = bench.record();
            let seen = u64::from_ne_bytes(record[..8].try_into().unwrap());
            assert!(now_ns().wrapping_sub(seen) < 2_000_000_000, "protocol {protocol}");
            bench.age(timeout(&record) - 1);
        }
    }
}

/// The clock is read before the record, and another CPU may have written the record in between.
#[test]
fn a_record_written_a_moment_later_is_in_use() {
    for protocol in [TCP, UDP, ICMP] {
        let Some(mut bench) = Bench::new(Mode::Dedicated) else { return };
        assert_eq!(bench.send(protocol, 5000, ACK).0, TC_ACT_REDIRECT);
        let (key, mut record) = bench.record();
        record[..8].copy_from_slice(&(now_ns() + 1_000_000_000).to_ne_bytes());
        bench.flows().insert(key, record, 0).unwrap();
        assert_eq!(bench.answer(protocol, 5000, ACK), (TC_ACT_REDIRECT, 5000), "protocol {protocol}");
        assert_eq!(bench.record(), (key, record), "protocol {protocol}: the later time is the right one");
    }
}

/// An expired record is no owner: the port is free for the other kind of flow.
#[test]
fn an_expired_record_does_not_keep_its_port() {
    for protocol in [TCP, UDP, ICMP] {
        let Some(mut bench) = Bench::new(Mode::Shared) else { return };
        let wire = if protocol == ICMP { ICMPV6 } else { protocol };
        bench.native(wire, 5000);
        bench.age(301);
        assert_eq!(bench.send(protocol, 5000, SYN), (TC_ACT_REDIRECT, 5000), "protocol {protocol}");
        assert_eq!(bench.record().1[10], OWNER_CLAT, "protocol {protocol}");
        assert_eq!(bench.counted(Event::PortMapped), 0);
    }
}

#[test]
fn a_taken_port_gives_another_one_and_is_counted() {
    for protocol in [TCP, UDP, ICMP] {
        let Some(mut bench) = Bench::new(Mode::Shared) else { return };
        let wire = if protocol == ICMP { ICMPV6 } else { protocol };
        bench.native(wire, 5001);
        let (verdict, port) = bench.send(protocol, 5001, SYN);
        assert_eq!(verdict, TC_ACT_REDIRECT);
        assert!(port != 5001 && port >= 1024 && port % 2 == 1, "protocol {protocol}: port {port}");
        assert_eq!(bench.counted(Event::PortMapped), 1, "protocol {protocol}");
        // It keeps that port, and is counted once.
        for _ in 0..3 {
            assert_eq!(bench.send(protocol, 5001, ACK), (TC_ACT_REDIRECT, port));
            assert_eq!(bench.answer(protocol, port, ACK), (TC_ACT_REDIRECT, 5001));
            assert_eq!(bench.answer(protocol, 5001, ACK), (PASS, 5001), "the native flow's own");
        }
        assert_eq!(bench.counted(Event::PortMapped), 1, "protocol {protocol}");
        assert_eq!(bench.counted(Event::NoPort), 0);
        // Nobody else's.
        assert_eq!(bench.answer(protocol, port ^ 2, ACK).0, PASS);
    }
}

#[test]
fn without_a_free_port_a_flow_fails_at_once_and_is_counted() {
    for protocol in [TCP, UDP, ICMP] {
        let Some(mut bench) = Bench::new(Mode::Shared) else { return };
        let wire = if protocol == ICMP { ICMPV6 } else { protocol };
        for port in 1024..=u16::MAX {
            bench.native(wire, port);
        }
        assert_eq!(bench.send(protocol, 5000, SYN).0, TC_ACT_SHOT, "protocol {protocol}");
        assert_eq!(bench.counted(Event::NoPort), 1, "protocol {protocol}");
        // Ports that nobody has are still to be had.
        assert_eq!(bench.send(protocol, 500, SYN), (TC_ACT_REDIRECT, 500), "protocol {protocol}");
    }
}

#[test]
fn expired_records_are_deleted_and_living_ones_are_not() {
    let Some(mut bench) = Bench::new(Mode::Shared) else { return };
    let key = |port: u16, owner: u8| -> Key {
        let mut key = [0; 24];
        key[..16].copy_from_slice(&pref64().embed(SERVER).octets());
        key[16..18].copy_from_slice(&PORT.to_be_bytes());
        key[18..20].copy_from_slice(&port.to_be_bytes());
        (key[20], key[21]) = (UDP, owner);
        key
    };
    // Later than it is, for machines that have just been started.
    let now = std::time::Duration::from_nanos(now_ns()) + std::time::Duration::from_secs(1000);
    // How old its last packet is, in seconds, and the port inside.
    let flow = |age: u64, port: u16| -> Record {
        let mut record = [0; 16];
        let seen = now.as_nanos() as u64 - age * 1_000_000_000;
        record[..8].copy_from_slice(&seen.to_ne_bytes());
        record[8..10].copy_from_slice(&port.to_be_bytes());
        record[10] = OWNER_CLAT;
        record[12..].copy_from_slice(&300_u32.to_ne_bytes());
        record
    };
    // Of each three ports one expired flow, one that lives, and one that lives with another port on the wire.
    let (mut kept, mut kept_mapped) = (Vec::new(), Vec::new());
    for port in (3000..3300).step_by(3) {
        let [expired, living, other] = [port, port + 1, port + 2];
        bench.flows().insert(key(expired, 0), flow(301, expired), 0).unwrap();
        bench.flows().insert(key(living, 0), flow(290, living), 0).unwrap();
        bench.flows().insert(key(other, 0), flow(1, other + 10_000), 0).unwrap();
        kept.extend([key(living, 0), key(other, 0)]);
        kept_mapped.push(key(other + 10_000, OWNER_CLAT));
        let mut mapped: HashMap<_, Key, [u8; 2]> = bench.0.map_mut("MAPPED").unwrap().try_into().unwrap();
        mapped.insert(key(other + 10_000, OWNER_CLAT), other.to_be_bytes(), 0).unwrap();
        // To a record that is gone, to one that expires, and to somebody else's.
        mapped.insert(key(expired + 20_000, OWNER_CLAT), (expired + 30_000).to_be_bytes(), 0).unwrap();
        mapped.insert(key(expired + 10_000, OWNER_CLAT), expired.to_be_bytes(), 0).unwrap();
        mapped.insert(key(other + 10_000, OWNER_NATIVE), other.to_be_bytes(), 0).unwrap();
    }
    let deleted = records_for_test(&bench.0).unwrap().expire(now).unwrap();
    assert_eq!(deleted, 100 + 300);
    let mut left: Vec<_> = bench.flows().keys().map(Result::unwrap).collect();
    left.sort_unstable();
    kept.sort_unstable();
    assert_eq!(left, kept);
    let mapped: HashMap<_, Key, [u8; 2]> = bench.0.map_mut("MAPPED").unwrap().try_into().unwrap();
    let mut left: Vec<_> = mapped.keys().map(Result::unwrap).collect();
    left.sort_unstable();
    kept_mapped.sort_unstable();
    assert_eq!(left, kept_mapped);
}

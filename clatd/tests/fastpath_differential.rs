//! One truth: what the kernel fast path translates, it translates to the same bytes as `xlat`.
//!
//! Packets of every kind, well-formed and not, go through the eBPF programs (BPF_PROG_TEST_RUN) and through the
//! translator. The fast path may leave a packet to the daemon; what it forwards must be what `xlat` forwards, and what
//! it drops, `xlat` must not forward.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use aya::Ebpf;
use clatd::datapath::bpf::{Attachment, LinkKind, Mode, Params};
use xlat::checksum::{self, Sum};
use xlat::{Config, HEADROOM, LinkMtu, Offload, Pref64, Translator, Verdict};

const CLAT_IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const CLAT_IFINDEX: u32 = 0x7000;
const MTU: LinkMtu = LinkMtu { ipv4: 1480, ipv6: 1500 };

const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

const PREFIXES: [&str; 7] = [
    "2001:db8::/32",
    "2001:db8:100::/40",
    "2001:db8:122::/48",
    "2001:db8:122:300::/56",
    "2001:db8:122:344::/64",
    "2001:db8:122:344::/96",
    "64:ff9b::/96",
];

/// A small repeatable generator (splitmix64): a failure names its round, and the round makes the packet.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `n`.
    fn rarely(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

struct Bench {
    ebpf: Ebpf,
    translator: Translator,
    config: Config,
}

impl Bench {
    /// `None` if this process may not load programs.
    fn new(pref64: Pref64, private_ipv4: bool, copy_traffic_class: bool) -> Option<Self> {
        let clat_ipv6: Ipv6Addr = "fd00:1:2:3:4:5:6:7".parse().unwrap();
        let params = Params {
            clat_ifindex: CLAT_IFINDEX,
            uplink_ifindex: 0x7001,
            link_kind: LinkKind::Ethernet { mac: [2, 0, 0, 0, 0, 1] },
            next_hop: Some("fe80::1".parse().unwrap()),
            pref64,
            clat_ipv4: CLAT_IPV4,
            clat_ipv6,
            mode: Mode::Dedicated,
            private_ipv4,
            copy_traffic_class,
            optimistic: false,
            inbound_allowed: true,
            own_ipv4: vec![Ipv4Addr::new(203, 0, 113, 77)],
            ipv6_mtu: MTU.ipv6,
            lowest_ipv6_mtu: 1280,
            pin_directory: None,
            attachment: Attachment::Auto,
        };
        let ebpf = common::load(&params)?;
        let mut config = Config::new(pref64, CLAT_IPV4, clat_ipv6);
        config.private_ipv4 = private_ipv4;
        config.copy_traffic_class = copy_traffic_class;
        config.own_ipv4.insert(Ipv4Addr::new(203, 0, 113, 77)).unwrap();
        Some(Self { ebpf, translator: Translator::new(config).unwrap(), config })
    }

    fn run(&self, program: &str, protocol: u16, packet: &[u8]) -> (u32, Vec<u8>) {
        common::run(&self.ebpf, program, protocol, packet)
    }

    fn xlat(&self, packet: &[u8], out: bool) -> Option<Vec<u8>> {
        let mut buf = vec![0; HEADROOM];
        buf.extend_from_slice(packet);
        let range = HEADROOM..buf.len();
        let verdict = if out {
            self.translator.v4_to_v6(&mut buf, range, Offload::NONE, MTU)
        } else {
            self.translator.v6_to_v4(&mut buf, range, Offload::NONE, MTU)
        };
        match verdict {
            Verdict::Forward(range) => Some(buf[range].to_vec()),
            _ => None,
        }
    }
}

/// TCP, UDP, ICMP or something else, with a right checksum more often than not.
fn transport(random: &mut Random, pseudo: impl Fn(u32, u8) -> Sum, v6: bool) -> (u8, Vec<u8>) {
    let icmp = if v6 { 58 } else { 1 };
    let protocol = random.pick(&[6, 6, 6, 17, 17, 17, icmp, icmp, 47, 50, 132, 136]);
    let payload = random.pick(&[0, 1, 2, 7, 8, 100, 1199, 1201, 1231, 1240, 1241, 1300, 1412]);
    let mut bytes: Vec<u8> = (0..40 + payload).map(|_| random.next() as u8).collect();
    bytes.truncate(if random.rarely(20) { random.below(24) as usize } else { 20 + payload });
    let len = bytes.len();
    match protocol {
        6 if len >= 20 && !random.rarely(10) => bytes[12] = 5 << 4,
        17 if len >= 8 => {
            let said = if random.rarely(10) { random.next() as u16 } else { len as u16 };
            bytes[4..6].copy_from_slice(&said.to_be_bytes());
        }
        1 if len >= 8 => {
            bytes[0] = random.pick(&[0, 8, 8, 8, 8, 13, 3]);
            bytes[1] = u8::from(random.rarely(10));
        }
        58 if len >= 8 => {
            bytes[0] = random.pick(&[128, 129, 129, 129, 1, 2, 135]);
            bytes[1] = u8::from(random.rarely(10));
        }
        _ => {}
    }
    let at = match protocol {
        6 => 16,
        17 | 136 => 6,
        1 | 58 => 2,
        _ => return (protocol, bytes),
    };
    if len >= at + 2 {
        bytes[at..at + 2].fill(0);
        match random.below(8) {
            0 => bytes[at..at + 2].copy_from_slice(&(random.next() as u16).to_be_bytes()),
            1 if protocol == 17 => {}
            _ => {
                let mut value = pseudo(len as u32, protocol).plus(Sum::of(&bytes)).checksum();
                if value == 0 && protocol == 17 {
                    value = 0xffff;
                }
                bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            }
        }
    }
    (protocol, bytes)
}

fn remote(random: &mut Random) -> Ipv4Addr {
    match random.below(8) {
        0 => Ipv4Addr::from(random.next() as u32),
        1 => random.pick(&[
            Ipv4Addr::new(10, 1, 2, 3),
            Ipv4Addr::new(172, 31, 255, 255),
            Ipv4Addr::new(172, 32, 0, 0),
            Ipv4Addr::new(100, 127, 1, 1),
            Ipv4Addr::new(100, 128, 1, 1),
            Ipv4Addr::new(192, 168, 0, 1),
            Ipv4Addr::new(198, 19, 0, 1),
            Ipv4Addr::new(192, 0, 0, 9),
            Ipv4Addr::new(192, 0, 0, 8),
            Ipv4Addr::new(192, 0, 0, 2),
            Ipv4Addr::new(192, 0, 2, 1),
            Ipv4Addr::new(192, 88, 99, 1),
            Ipv4Addr::new(169, 254, 169, 254),
            Ipv4Addr::new(127, 0, 0, 1),
            Ipv4Addr::new(0, 1, 2, 3),
            Ipv4Addr::new(224, 0, 0, 251),
            Ipv4Addr::new(240, 0, 0, 1),
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(203, 0, 113, 77),
        ]),
        _ => Ipv4Addr::new(8, random.next() as u8, random.next() as u8, random.next() as u8),
    }
}

fn ipv4_packet(random: &mut Random) -> Vec<u8> {
    let source = if random.rarely(20) { remote(random) } else { CLAT_IPV4 };
    let destination = remote(random);
    let pseudo = |len: u32, protocol: u8| {
        if protocol == 1 {
            return Sum::ZERO;
        }
        Sum::of(&source.octets())
            .plus(Sum::of(&destination.octets()))
            .plus(Sum::of(&[0, protocol]))
            .plus(Sum::of(&(len as u16).to_be_bytes()))
    };
    let (protocol, body) = transport(random, pseudo, false);
    let options = if random.rarely(12) { 4 } else { 0 };
    let total = 20 + options + body.len();
    let total = if random.rarely(20) { random.below(1600) as usize } else { total };
    let fragment: u16 = match random.below(8) {
        0 => random.pick(&[0x2000, 0x0010, 0x8000, 0x6000]),
        1 | 2 => 0,
        _ => 0x4000,
    };
    let mut packet = vec![0x45 + options as u8 / 4, random.next() as u8];
    packet.extend_from_slice(&(total as u16).to_be_bytes());
    packet.extend_from_slice(&(random.next() as u16).to_be_bytes());
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[if random.rarely(15) { 0 } else { random.next() as u8 }, protocol, 0, 0]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.resize(20 + options, 1);
    let sum = if random.rarely(20) { random.next() as u16 } else { Sum::of(&packet).checksum() };
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(body);
    packet
}

fn ipv6_packet(random: &mut Random, config: &Config) -> Vec<u8> {
    let mut source = config.pref64.embed(remote(random));
    if random.rarely(12) {
        let mut octets = source.octets();
        octets[random.below(16) as usize] ^= 1 << random.below(8);
        source = Ipv6Addr::from(octets);
    }
    let destination = if random.rarely(20) { "fd00::9".parse().unwrap() } else { config.clat_ipv6 };
    let pseudo = |len: u32, protocol: u8| checksum::ipv6_pseudo_header(source, destination, len, protocol);
    let (mut protocol, mut body) = transport(random, pseudo, true);
    if random.rarely(8) {
        let kind = random.pick(&[0, 43, 44, 60]);
        let mut extension = vec![protocol, 0, 0, 0, 0, 0, 0, 0];
        extension[3] = if random.rarely(2) { 0 } else { random.next() as u8 };
        extension.extend(body);
        body = extension;
        protocol = kind;
    }
    let len = if random.rarely(20) { random.below(1600) as usize } else { body.len() };
    let mut packet = (0x6000_0000 | random.next() as u32 & 0x0fff_ffff).to_be_bytes().to_vec();
    packet.extend_from_slice(&(len as u16).to_be_bytes());
    packet.extend_from_slice(&[protocol, if random.rarely(15) { 0 } else { random.next() as u8 }]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend(body);
    packet
}

const ROUNDS: u64 = 6000;

#[test]
fn ipv4_to_ipv6_is_what_xlat_says() {
    for (number, prefix) in (0u64..).zip(PREFIXES) {
        let Some(bench) = Bench::new(prefix.parse().unwrap(), number % 2 == 0, number % 3 != 0) else {
            return;
        };
        let [mut fast, mut slow, mut missed] = [0u64; 3];
        for round in 0..ROUNDS {
            let packet = ipv4_packet(&mut Random(number << 32 | round));
            let expected = bench.xlat(&packet, true);
            let (verdict, got) = bench.run("v4shim_out_tst", 0x0800, &packet);
            match verdict {
                TC_ACT_REDIRECT => {
                    fast += 1;
                    assert_eq!(Some(&got), expected.as_ref(), "{prefix} round {round}: {packet:02x?}");
                }
                TC_ACT_UNSPEC => {
                    slow += 1;
                    missed += u64::from(expected.is_some());
                    assert_eq!(got, packet, "{prefix} round {round}: changed, then declined");
                }
                other => panic!("{prefix} round {round}: verdict {other}: {packet:02x?}"),
            }
        }
        eprintln!("{prefix}: {fast} fast, {slow} left to the daemon, which forwards {missed} of them");
        assert!(fast > ROUNDS / 4, "{prefix}: only {fast} packets took the fast path");
    }
}

#[test]
fn ipv6_to_ipv4_is_what_xlat_says() {
    for (number, prefix) in (0u64..).zip(PREFIXES) {
        let Some(bench) = Bench::new(prefix.parse().unwrap(), number % 2 == 0, number % 3 != 0) else {
            return;
        };
        let [mut fast, mut slow, mut passed, mut dropped] = [0u64; 4];
        for round in 0..ROUNDS {
            let packet = ipv6_packet(&mut Random(number << 32 | round | 1 << 31), &bench.config);
            let mut expected = bench.xlat(&packet, false);
            let (verdict, got) = bench.run("v4shim_in_eth", 0x86dd, &packet);
            let what = || format!("{prefix} round {round}: {packet:02x?}");
            match verdict {
                TC_ACT_REDIRECT if got[0] >> 4 == 4 => {
                    fast += 1;
                    if let Some(expected) = expected.as_mut().filter(|expected| expected.len() >= 20) {
                        // The identification is any number; the header checksum follows it.
                        assert!(Sum::of(&got[..20]).fold() == 0xffff, "header checksum: {}", what());
                        for at in [4..6, 10..12] {
                            expected[at.clone()].copy_from_slice(&got[at]);
                        }
                    }
                    assert_eq!(Some(&got), expected.as_ref(), "{}", what());
                }
                TC_ACT_REDIRECT => {
                    slow += 1;
                    assert_eq!(got, packet, "changed, then declined: {}", what());
                }
                TC_ACT_UNSPEC => {
                    passed += 1;
                    assert_eq!(got, packet, "changed, then passed: {}", what());
                    assert!(expected.is_none(), "passed to the native stack: {}", what());
                }
                TC_ACT_SHOT => {
                    dropped += 1;
                    assert!(expected.is_none(), "dropped: {}", what());
                }
                other => panic!("verdict {other}: {}", what()),
            }
        }
        eprintln!("{prefix}: {fast} fast, {slow} to the daemon, {passed} native, {dropped} dropped");
        assert!(fast > ROUNDS / 4, "{prefix}: only {fast} packets took the fast path");
    }
}

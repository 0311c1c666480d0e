//! Both directions of the translator under arbitrary input, with what must hold of every outcome.
//!
//! The checks know the formats but share no code with the translator. An input is a head of 11 bytes (see [`Setup`])
//! and a packet; the head can ask for the packet's lengths, addresses and checksums to be put right, as no amount of
//! mutation finds a valid checksum.
#![allow(unreachable_pub)] // included by path into a test, too

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use xlat::{
    Config, HEADROOM, LinkMtu, MAX_REPLY_LEN, Offload, Pref64, Reply, Translator, Verdict, is_translatable,
};

#[path = "packet.rs"] // also where this file is included by path
mod packet;
use packet::{ICMP4, ICMP6, Ip, UDP, fix_checksum, parse4, parse6, sum, word};

const CLAT4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const CLAT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc1a7, 0, 0, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const PREFIXES: [&str; 7] = [
    "2001:db8:64::/96",
    "64:ff9b::/96",
    "2001:db9::/32",
    "2001:db8:100::/40",
    "2001:db8:122::/48",
    "2001:db8:122:300::/56",
    "2001:db8:122:344::/64",
];

/// What the head of an input says.
struct Setup {
    config: Config,
    offload: Offload,
    mtu: LinkMtu,
    /// Put lengths and IP header checksum right.
    fix_header: bool,
    fix_addresses: bool,
    fix_checksum: bool,
    fix_quoted: bool,
    start: usize,
}

impl Setup {
    fn read(data: &[u8]) -> Option<(Self, &[u8])> {
        let (head, packet) = data.split_first_chunk::<11>()?;
        let [flags, fixes, prefix, rest @ ..] = *head;
        let word = |i: usize| u16::from_be_bytes([rest[i * 2], rest[i * 2 + 1]]);
        let pref64: Pref64 = PREFIXES[usize::from(prefix) % PREFIXES.len()].parse().unwrap();
        let mut config = Config::new(pref64, CLAT4, CLAT6);
        config.private_ipv4 = flags & 2 != 0;
        config.copy_traffic_class = flags & 4 == 0;
        config.compute_udp_checksum = flags & 8 == 0;
        config.lowest_ipv6_mtu = word(3).max(1280);
        let setup = Self {
            config,
            offload: Offload { partial_checksum: flags & 1 != 0, gso_size: word(0) },
            mtu: LinkMtu { ipv4: u32::from(word(1)), ipv6: u32::from(word(2)) },
            fix_header: fixes & 1 != 0,
            fix_addresses: fixes & 2 != 0,
            fix_checksum: fixes & 4 != 0,
            fix_quoted: fixes & 8 != 0,
            start: HEADROOM + usize::from(fixes >> 4),
        };
        Some((setup, packet))
    }

    fn translator(&self) -> Translator {
        Translator::new(self.config).unwrap()
    }

    fn link4(&self) -> usize {
        self.mtu.ipv4.max(68) as usize
    }

    fn link6(&self) -> usize {
        self.mtu.ipv6.max(1280) as usize
    }
}

// --- preparation ---------------------------------------------------------------------------------------------------

fn prepare4(setup: &Setup, packet: &mut [u8]) {
    if packet.len() < 20 {
        return;
    }
    if setup.fix_addresses {
        packet[12..16].copy_from_slice(&CLAT4.octets());
        if !setup.config.pref64.is_well_known() && packet[19] & 1 == 0 {
            packet[16..20].copy_from_slice(&SERVER.octets());
        }
    }
    let header_len = (usize::from(packet[0] & 15) * 4).clamp(20, 60).min(packet.len() & !3);
    if setup.fix_header {
        packet[0] = 4 << 4 | (header_len / 4) as u8;
        let total = packet.len().min(65535) as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
    }
    if setup.fix_quoted && packet.len() >= header_len + 28 {
        let quoted = &mut packet[header_len + 8..];
        quoted[0] = 0x45;
        let source = if setup.config.pref64.is_well_known() { Ipv4Addr::new(8, 8, 8, 8) } else { SERVER };
        quoted[12..16].copy_from_slice(&source.octets());
        quoted[16..20].copy_from_slice(&CLAT4.octets());
    }
    if setup.fix_checksum {
        fix_checksum(packet, false, setup.offload.partial_checksum);
    }
    if setup.fix_header {
        packet[10..12].fill(0);
        let value = !sum(&[&packet[..header_len]]);
        packet[10..12].copy_from_slice(&value.to_be_bytes());
    }
}

fn prepare6(setup: &Setup, packet: &mut [u8]) {
    if packet.len() < 40 {
        return;
    }
    let server = setup.config.pref64.embed(if setup.config.pref64.is_well_known() {
        Ipv4Addr::new(8, 8, 8, 8)
    } else {
        SERVER
    });
    if setup.fix_addresses {
        packet[24..40].copy_from_slice(&CLAT6.octets());
        if packet[23] & 1 == 0 {
            packet[8..24].copy_from_slice(&server.octets());
        }
    }
    if setup.fix_header {
        packet[0] = 0x60 | packet[0] & 15;
        let length = (packet.len() - 40).min(65535) as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
    }
    if setup.fix_quoted && packet.len() >= 88 {
        let quoted = &mut packet[48..];
        quoted[0] = 0x60;
        quoted[8..24].copy_from_slice(&CLAT6.octets());
        quoted[24..40].copy_from_slice(&server.octets());
    }
    if setup.fix_checksum {
        fix_checksum(packet, true, setup.offload.partial_checksum);
    }
}

// --- the targets ---------------------------------------------------------------------------------------------------

/// IPv4 to IPv6.
pub fn v4_to_v6(data: &[u8]) {
    let Some((setup, bytes)) = Setup::read(data) else { return };
    let mut packet = bytes.to_vec();
    prepare4(&setup, &mut packet);
    let mut buf = buffer(&setup, &packet);
    let before = buf.clone();
    let range = setup.start..setup.start + packet.len();
    let translator = setup.translator();
    match translator.v4_to_v6(&mut buf, range.clone(), setup.offload, setup.mtu) {
        Verdict::Forward(out) => {
            assert_surroundings(&before, &buf, &range, &out);
            let (old, new) = (parse4(&packet).unwrap(), parse6(&buf[out.clone()]).unwrap());
            assert_eq!(
                new.header_len + new.upper.len(),
                out.len(),
                "the payload length is that of the packet"
            );
            check_headers4(&setup, &old, &new);
            assert_eq!(old.fragment, new.fragment, "no atomic fragments, and fragments stay what they were");
            if setup.offload.gso_size == 0 {
                let fits = if old.dont_fragment { setup.link6() } else { limit6(&setup) };
                assert!(out.len() <= fits.max(1280), "{} bytes", out.len());
            }
            if old.is_icmp_error() {
                check_error6(&setup, &new, out.len());
            } else {
                check_upper(&setup, &old, &new);
                round_trip(&setup, &old, &buf[out]);
            }
        }
        Verdict::Fragment(mut fragments) => {
            assert_eq!(setup.offload.gso_size, 0);
            let old = parse4(&packet).unwrap();
            assert!(!old.dont_fragment);
            let limit = limit6(&setup);
            let mut whole = Vec::new();
            let mut out = vec![0; fragments.max_len()];
            let (base, last_more) = old.fragment.map_or((0, false), |(offset, more, _)| (offset, more));
            let mut more = true;
            while let Some(len) = fragments.next(&buf, &mut out) {
                assert!(more && len <= limit);
                let piece = parse6(&out[..len]).unwrap();
                check_headers4(&setup, &old, &piece);
                let (offset, piece_more, identification) = piece.fragment.unwrap();
                assert_eq!(offset, base + whole.len());
                assert_eq!(identification, word(&packet, 4) as u32);
                whole.extend(piece.upper);
                more = piece_more;
                let complete = whole.len() == old.upper.len();
                assert_eq!(more, last_more || !complete);
                if complete {
                    more = false;
                }
            }
            assert_eq!(whole.len(), old.upper.len());
            let source = CLAT6.octets();
            let destination = setup.config.pref64.embed(address4(old.destination)).octets();
            let joined = Ip {
                v6: true,
                source: &source,
                destination: &destination,
                protocol: if old.protocol == ICMP4 { ICMP6 } else { old.protocol },
                upper: &whole,
                ..old.clone()
            };
            // A partial checksum has been completed.
            let settled = Setup { offload: Offload::NONE, ..setup };
            if setup.offload.partial_checksum {
                assert_eq!(old.essence(), joined.essence());
                assert!(!setup.fix_checksum || joined.checksum_is_valid() != Some(false));
            } else {
                check_upper(&settled, &old, &joined);
            }
        }
        Verdict::Reply(reply) => {
            assert_eq!(buf, before);
            assert!(matches!(reply, Reply::V4(_)));
            let old = parse4(&packet).unwrap();
            assert!(old.is_first() && !old.is_icmp_error(), "no error about an error or a later fragment");
            let mut out = [0; MAX_REPLY_LEN];
            let len = translator.write_reply(&reply, &packet, &mut out);
            assert!(len <= 576);
            let error = parse4(&out[..len]).unwrap();
            assert_eq!(sum(&[&out[..20]]), 0xffff);
            assert_eq!(error.checksum_is_valid(), Some(true));
            assert_eq!(error.destination, old.source);
            assert!(packet.starts_with(&error.upper[8..]));
            assert_eq!(error.upper.len() - 8, (old.header_len + old.upper.len()).min(548));
        }
        Verdict::Drop(_) => assert_eq!(buf, before),
    }
}

/// IPv6 to IPv4.
pub fn v6_to_v4(data: &[u8]) {
    let Some((setup, bytes)) = Setup::read(data) else { return };
    let mut packet = bytes.to_vec();
    prepare6(&setup, &mut packet);
    let mut buf = buffer(&setup, &packet);
    let before = buf.clone();
    let range = setup.start..setup.start + packet.len();
    let translator = setup.translator();
    match translator.v6_to_v4(&mut buf, range.clone(), setup.offload, setup.mtu) {
        Verdict::Forward(out) => {
            assert_surroundings(&before, &buf, &range, &out);
            let (old, new) = (parse6(&packet).unwrap(), parse4(&buf[out.clone()]).unwrap());
            assert_eq!(new.header_len + new.upper.len(), out.len(), "the total length is that of the packet");
            check_headers6(&setup, &old, &new, &buf[out.clone()]);
            assert_eq!(strip(old.fragment), strip(new.fragment));
            if setup.offload.gso_size == 0 {
                assert!(out.len() <= setup.link4() || new.is_icmp_error(), "{} bytes", out.len());
                assert_eq!(new.dont_fragment, old.fragment.is_none() && out.len() > 1260, "RFC 7915 §5.1");
            }
            if old.is_icmp_error() {
                check_error4(&setup, &new, out.len());
            } else {
                check_upper(&setup, &old, &new);
            }
        }
        Verdict::Fragment(mut fragments) => {
            assert_eq!(setup.offload.gso_size, 0);
            let old = parse6(&packet).unwrap();
            assert!(old.fragment.is_some() || old.header_len + old.upper.len() <= 1280, "RFC 7915 §5.1.1");
            let mut whole = Vec::new();
            let mut out = vec![0; fragments.max_len()];
            let (base, last_more) = old.fragment.map_or((0, false), |(offset, more, _)| (offset, more));
            let mut identifications = Vec::new();
            let mut source = Vec::new();
            while let Some(len) = fragments.next(&buf, &mut out) {
                assert!(len <= setup.link4());
                let piece = parse4(&out[..len]).unwrap();
                check_headers6(&setup, &old, &piece, &out[..len]);
                let (offset, more, identification) = piece.fragment.unwrap();
                assert_eq!(offset, base + whole.len());
                identifications.push(identification);
                source = piece.source.to_vec();
                whole.extend(piece.upper);
                assert_eq!(more, last_more || whole.len() < old.upper.len());
                assert!(!piece.dont_fragment);
            }
            assert_eq!(whole.len(), old.upper.len());
            identifications.dedup();
            assert_eq!(identifications.len(), 1);
            let destination = CLAT4.octets();
            let joined = Ip {
                v6: false,
                source: &source,
                destination: &destination,
                protocol: if old.protocol == ICMP6 { ICMP4 } else { old.protocol },
                upper: &whole,
                ..old.clone()
            };
            if setup.offload.partial_checksum {
                assert_eq!(old.essence(), joined.essence());
                assert!(!setup.fix_checksum || joined.checksum_is_valid() != Some(false));
            } else {
                check_upper(&setup, &old, &joined);
            }
        }
        Verdict::Reply(reply) => {
            assert_eq!(buf, before);
            assert!(matches!(reply, Reply::V6(_)));
            let old = parse6(&packet).unwrap();
            assert!(old.is_first() && !old.is_icmp_error(), "no error about an error or a later fragment");
            let mut out = [0; MAX_REPLY_LEN];
            let len = translator.write_reply(&reply, &packet, &mut out);
            assert!(len <= 1280);
            let error = parse6(&out[..len]).unwrap();
            assert_eq!(error.checksum_is_valid(), Some(true));
            assert_eq!((error.source, error.destination), (&CLAT6.octets()[..], old.source));
            assert!(packet.starts_with(&error.upper[8..]));
        }
        Verdict::Drop(_) => assert_eq!(buf, before),
    }
}

// --- what must hold ------------------------------------------------------------------------------------------------

fn buffer(setup: &Setup, packet: &[u8]) -> Vec<u8> {
    let mut buf = vec![0xa5; setup.start];
    buf.extend(packet);
    buf.extend([0x5a; 8]);
    buf
}

/// Nothing changes but the packet and its headroom.
fn assert_surroundings(before: &[u8], after: &[u8], packet: &Range<usize>, out: &Range<usize>) {
    assert!(out.start + HEADROOM >= packet.start && out.end <= packet.end);
    let first = out.start.min(packet.start);
    assert_eq!(before[..first], after[..first]);
    assert_eq!(before[packet.end..], after[packet.end..]);
}

fn address4(octets: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(octets).unwrap())
}

fn address6(octets: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(octets).unwrap())
}

fn limit6(setup: &Setup) -> usize {
    setup.link6().min(usize::from(setup.config.lowest_ipv6_mtu))
}

/// A fragment as both families can express it; an atomic one is none.
fn strip(fragment: Option<(usize, bool, u32)>) -> Option<(usize, bool, u32)> {
    fragment
        .filter(|(offset, more, _)| *offset != 0 || *more)
        .map(|(offset, more, identification)| (offset, more, identification & 0xffff))
}

fn check_headers4(setup: &Setup, old: &Ip<'_>, new: &Ip<'_>) {
    assert_eq!(old.source, CLAT4.octets());
    assert_eq!(new.source, CLAT6.octets());
    let destination = address4(old.destination);
    assert!(is_translatable(destination, &setup.config.pref64, setup.config.private_ipv4));
    assert_eq!(address6(new.destination), setup.config.pref64.embed(destination));
    assert_eq!((new.hops, new.hops == 0), (old.hops, false));
    assert_eq!(new.traffic_class, if setup.config.copy_traffic_class { old.traffic_class } else { 0 });
    assert_eq!(new.protocol, if old.protocol == ICMP4 { ICMP6 } else { old.protocol });
    assert!(!matches!(old.protocol, 0 | 2 | 43 | 44 | 58 | 60 | 135 | 139 | 140));
}

fn check_headers6(setup: &Setup, old: &Ip<'_>, new: &Ip<'_>, packet: &[u8]) {
    assert_eq!(sum(&[&packet[..20]]), 0xffff, "IPv4 header checksum");
    assert_eq!((old.destination, new.destination), (&CLAT6.octets()[..], &CLAT4.octets()[..]));
    let source = address4(new.source);
    if source == xlat::DUMMY_IPV4 {
        assert!(old.is_icmp_error());
    } else {
        assert_eq!(setup.config.pref64.extract(address6(old.source)), Some(source));
        assert!(is_translatable(source, &setup.config.pref64, setup.config.private_ipv4));
    }
    assert_eq!((new.hops, new.hops == 0), (old.hops, false));
    assert_eq!(new.traffic_class, if setup.config.copy_traffic_class { old.traffic_class } else { 0 });
    assert_eq!(new.protocol, if old.protocol == ICMP6 { ICMP4 } else { old.protocol });
    assert!(!matches!(old.protocol, 1 | 2));
}

/// The payload is what it was, and the checksum as right or wrong as it was.
fn check_upper(setup: &Setup, old: &Ip<'_>, new: &Ip<'_>) {
    assert_eq!(old.essence(), new.essence());
    let lacks_checksum = old.protocol == UDP && old.upper.get(6..8) == Some(&[0, 0]);
    if setup.offload.partial_checksum {
        if let (true, Some(at)) = (setup.fix_checksum && old.is_whole(), new.checksum_at()) {
            let length = (new.upper.len() as u32).to_be_bytes();
            let pseudo = sum(&[new.source, new.destination, &length, &[0, new.protocol]]);
            let field = word(new.upper, at) as u16;
            assert_eq!(
                field % 0xffff,
                pseudo % 0xffff,
                "a partial checksum is the sum of the new pseudo-header"
            );
        }
    } else if !lacks_checksum {
        assert_eq!(old.checksum_is_valid(), new.checksum_is_valid());
    } else if old.is_whole() && !old.v6 {
        assert_ne!(new.upper[6..8], [0, 0], "IPv6 UDP has a checksum (RFC 8200 §8.1)");
        assert_ne!(new.checksum_is_valid(), Some(false));
    }
    if new.protocol == UDP && new.is_first() && !lacks_checksum && !setup.offload.partial_checksum {
        assert_ne!(new.upper[6..8], [0, 0], "a checksum does not turn into none");
    }
}

/// What has been translated to IPv6 comes back the same if its addresses are exchanged.
fn round_trip(setup: &Setup, old: &Ip<'_>, packet: &[u8]) {
    let mut buf = buffer(setup, packet);
    let start = setup.start;
    let (source, destination) = (packet[8..24].to_vec(), packet[24..40].to_vec());
    buf[start + 8..start + 24].copy_from_slice(&destination);
    buf[start + 24..start + 40].copy_from_slice(&source);
    let mtu = LinkMtu { ipv4: 65535, ipv6: 65535 };
    let translator = setup.translator();
    let Verdict::Forward(out) =
        translator.v6_to_v4(&mut buf, start..start + packet.len(), setup.offload, mtu)
    else {
        // RFC 7915 §5.1.1 wants this checked inbound, but not outbound.
        assert!(old.fragment.is_some() && old.protocol == 51);
        return;
    };
    let back = parse4(&buf[out]).unwrap();
    assert_eq!((back.source, back.destination), (old.destination, old.source));
    assert_eq!((back.protocol, back.hops), (old.protocol, old.hops));
    assert_eq!(strip(back.fragment), strip(old.fragment));
    let mut upper = old.upper.to_vec();
    if let (Some(at), true) = (old.checksum_at(), old.is_first()) {
        // Zero has two faces, and a missing checksum has been computed.
        let (was, is) = (word(&upper, at), word(back.upper, at));
        if was % 0xffff == 0 && (is % 0xffff == 0 || old.protocol == UDP) {
            upper[at..at + 2].copy_from_slice(&back.upper[at..at + 2]);
        }
    } else if matches!(old.protocol, 33 | 136) || !old.is_whole() {
        assert_eq!(back.upper.len(), upper.len());
        return;
    }
    assert_eq!(back.upper, upper);
}

fn check_error6(setup: &Setup, error: &Ip<'_>, len: usize) {
    assert!(len <= 1280);
    assert_eq!(error.checksum_is_valid(), Some(true));
    let (kind, quoted) = (error.upper[0], &error.upper[8..]);
    assert!((1..=4).contains(&kind));
    assert!(quoted.len() >= 40 && quoted[0] >> 4 == 6);
    assert_eq!(quoted[24..40], CLAT6.octets());
    assert!(setup.config.pref64.extract(address6(&quoted[8..24])).is_some());
    match kind {
        2 => assert!(word(error.upper, 4) > 0 || word(error.upper, 6) >= 1280),
        1 | 3 if error.upper[4] != 0 => {
            let datagram = usize::from(error.upper[4]) * 8;
            assert!(datagram >= 128 && datagram < quoted.len(), "RFC 4884 §4");
        }
        _ => {}
    }
}

fn check_error4(setup: &Setup, error: &Ip<'_>, len: usize) {
    assert!(len <= 576);
    assert_eq!(error.checksum_is_valid(), Some(true));
    let (kind, quoted) = (error.upper[0], &error.upper[8..]);
    assert!(matches!(kind, 3 | 11 | 12));
    assert!(quoted.len() >= 20 && quoted[0] == 0x45);
    assert_eq!(sum(&[&quoted[..20]]), 0xffff);
    assert_eq!(quoted[12..16], CLAT4.octets());
    assert!(is_translatable(address4(&quoted[16..20]), &setup.config.pref64, setup.config.private_ipv4));
    if kind == 3 && error.upper[1] == 4 {
        assert!(word(error.upper, 6) >= 68);
    }
    if error.upper[5] != 0 {
        let datagram = usize::from(error.upper[5]) * 4;
        assert!(datagram >= 128 && datagram < quoted.len(), "RFC 4884 §4");
    }
}

//! There and back again: what goes out as IPv4 and comes back as IPv6 is the same packet, and every checksum on the
//! way is right in the eyes of an independent library.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use xlat::{Config, HEADROOM, LinkMtu, Offload, Pref64, Translator, Verdict, checksum};

const CLAT4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const CLAT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);
const MTU: LinkMtu = LinkMtu { ipv4: 1480, ipv6: 1500 };

fn prefixes() -> impl Strategy<Value = Pref64> {
    prop::sample::select(vec![
        "2001:db8:64::/96",
        "2001:db8:64:64::/64",
        "2001:db8:64:6400::/56",
        "2001:db8:64::/48",
        "2001:db8:6400::/40",
        "3fff:64::/32",
        "64:ff9b::/96",
    ])
    .prop_map(|prefix| prefix.parse().unwrap())
}

/// Global addresses: translatable under every prefix.
fn servers() -> impl Strategy<Value = Ipv4Addr> {
    (1u8..=9, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tcp,
    Udp,
    Echo,
    Unknown,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Tcp, Kind::Udp, Kind::Echo, Kind::Unknown])
}

fn ipv4_packet(kind: Kind, to: Ipv4Addr, ttl: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let mut header =
        etherparse::Ipv4Header::new(0, ttl, etherparse::IpNumber(0), CLAT4.octets(), to.octets()).unwrap();
    header.dont_fragment = true;
    header.dscp = etherparse::IpDscp::try_new(tos >> 2).unwrap();
    header.ecn = etherparse::IpEcn::try_new(tos & 3).unwrap();
    let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
    let mut bytes = Vec::new();
    match kind {
        Kind::Tcp => builder.tcp(4000, 80, 7, 1000).write(&mut bytes, payload).unwrap(),
        Kind::Udp => builder.udp(4000, 53).write(&mut bytes, payload).unwrap(),
        Kind::Echo => builder.icmpv4_echo_request(7, 9).write(&mut bytes, payload).unwrap(),
        Kind::Unknown => builder.write(&mut bytes, etherparse::IpNumber(132), payload).unwrap(),
    }
    bytes
}

fn in_buffer(packet: &[u8]) -> (Vec<u8>, Range<usize>) {
    let mut buffer = vec![0xa5; HEADROOM];
    buffer.extend(packet);
    let range = HEADROOM..buffer.len();
    (buffer, range)
}

/// Checks every checksum that the packet has.
fn assert_valid(packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    match (sliced.net.as_ref().unwrap(), sliced.transport.as_ref()) {
        (NetSlice::Ipv4(ip), transport) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), packet.len());
            match transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    let header = tcp.to_header();
                    let value = header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()).unwrap();
                    assert_eq!(value, header.checksum);
                }
                Some(TransportSlice::Udp(udp)) => {
                    let header = udp.to_header();
                    let value = header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap();
                    assert_eq!(value, header.checksum);
                }
                Some(TransportSlice::Icmpv4(icmp)) => {
                    assert_eq!(icmp.header().icmp_type.calc_checksum(icmp.payload()), icmp.checksum());
                }
                _ => {}
            }
        }
        (NetSlice::Ipv6(ip), transport) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.payload_length) + 40, packet.len());
            let addresses = (header.source, header.destination);
            match transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    let value =
                        tcp.to_header().calc_checksum_ipv6_raw(addresses.0, addresses.1, tcp.payload());
                    assert_eq!(value.unwrap(), tcp.checksum());
                }
                Some(TransportSlice::Udp(udp)) => {
                    let value =
                        udp.to_header().calc_checksum_ipv6_raw(addresses.0, addresses.1, udp.payload());
                    assert_eq!(value.unwrap(), udp.checksum());
                }
                Some(TransportSlice::Icmpv6(icmp)) => {
                    assert!(icmp.is_checksum_valid(addresses.0, addresses.1));
                }
                _ => {}
            }
        }
        other => panic!("not IP: {other:?}"),
    }
}

fn forwarded(verdict: Verdict) -> Range<usize> {
    match verdict {
        Verdict::Forward(range) => range,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn out_and_back(
        pref64 in prefixes(),
        to in servers(),
        kind in kinds(),
        ttl in 1u8..,
        tos in any::<u8>(),
        payload in prop::collection::vec(any::<u8>(), 0..1400),
    ) {
        let translator = Translator::new(Config::new(pref64, CLAT4, CLAT6)).unwrap();
        let original = ipv4_packet(kind, to, ttl, tos, &payload);
        let (mut buffer, range) = in_buffer(&original);
        let out = forwarded(translator.v4_to_v6(&mut buffer, range, Offload::NONE, MTU));
        prop_assert_eq!(out.len(), original.len() + 20);
        assert_valid(&buffer[out.clone()]);
        let six = &buffer[out.clone()];
        prop_assert_eq!(six[0] << 4 | six[1] >> 4, tos);
        prop_assert_eq!(six[7], ttl, "the CLAT is not a hop");
        prop_assert_eq!(&six[8..24], &CLAT6.octets());
        prop_assert_eq!(&six[24..40], &pref64.embed(to).octets());

        // The server's answer: the same packet with the addresses changed over.
        let mut answer = six.to_vec();
        answer.copy_within(8..24, 24);
        answer[8..24].copy_from_slice(&pref64.embed(to).octets());
        if matches!(kind, Kind::Echo) {
            // An echo reply, one type further; its checksum is one less.
            answer[40] = 129;
            let before = u16::from_be_bytes([answer[42], answer[43]]);
            let after = checksum::update(before, checksum::Sum::of(&[128, 0]), checksum::Sum::of(&[129, 0]));
            answer[42..44].copy_from_slice(&after.to_be_bytes());
        }
        assert_valid(&answer);
        let (mut buffer, range) = in_buffer(&answer);
        let back = forwarded(translator.v6_to_v4(&mut buffer, range, Offload::NONE, MTU));
        let four = &buffer[back];
        assert_valid(four);
        prop_assert_eq!(four.len(), original.len());
        prop_assert_eq!(four[1], tos);
        prop_assert_eq!(four[8], ttl);
        prop_assert_eq!(&four[12..16], &to.octets());
        prop_assert_eq!(&four[16..20], &CLAT4.octets());
        let body = if matches!(kind, Kind::Echo) { 24 } else { 20 };
        prop_assert_eq!(&four[body..], &original[body..]);
    }

    #[test]
    fn a_partial_checksum_leads_to_the_same_packet(
        pref64 in prefixes(),
        to in servers(),
        udp in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..1400),
    ) {
        let translator = Translator::new(Config::new(pref64, CLAT4, CLAT6)).unwrap();
        let (kind, number, at) = if udp { (Kind::Udp, 17, 6) } else { (Kind::Tcp, 6, 16) };
        let original = ipv4_packet(kind, to, 64, 0, &payload);
        let (mut whole, range) = in_buffer(&original);
        let out = forwarded(translator.v4_to_v6(&mut whole, range, Offload::NONE, MTU));

        let mut partial = original.clone();
        let length = (original.len() - 20) as u16;
        let sum = checksum::ipv4_pseudo_header(CLAT4, to, length, number).fold();
        partial[20 + at..22 + at].copy_from_slice(&sum.to_be_bytes());
        let (mut buffer, range) = in_buffer(&partial);
        let offload = Offload { partial_checksum: true, gso_size: 0 };
        let out2 = forwarded(translator.v4_to_v6(&mut buffer, range, offload, MTU));
        prop_assert!(checksum::complete(&mut buffer[out2.clone()], 40, at));
        // In TCP, 0 and 0xffff are the same checksum.
        for field in [&mut buffer[out2.start + 40 + at..][..2], &mut whole[out.start + 40 + at..][..2]] {
            if !udp && field == [0xff, 0xff] {
                field.fill(0);
            }
        }
        prop_assert_eq!(&buffer[out2], &whole[out]);
    }

    #[test]
    fn no_bytes_make_it_panic_and_refusals_change_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        version in prop::sample::select(vec![4u8, 6, 0]),
        start in 0usize..200,
        length in 0usize..2000,
        partial in any::<bool>(),
        gso in prop::sample::select(vec![0u16, 1, 1000]),
        ipv4 in any::<u32>(),
        ipv6 in any::<u32>(),
    ) {
        let pref64: Pref64 = "2001:db8:64::/96".parse().unwrap();
        let translator = Translator::new(Config::new(pref64, CLAT4, CLAT6)).unwrap();
        let mut buffer = bytes.clone();
        if let Some(byte) = buffer.get_mut(start).filter(|_| version != 0) {
            *byte = version << 4 | 5;
        }
        let before = buffer.clone();
        let offload = Offload { partial_checksum: partial, gso_size: gso };
        let mtu = LinkMtu { ipv4, ipv6 };
        for four in [true, false] {
            let mut buffer = before.clone();
            let range = start..start.saturating_add(length);
            let verdict = if four {
                translator.v4_to_v6(&mut buffer, range.clone(), offload, mtu)
            } else {
                translator.v6_to_v4(&mut buffer, range.clone(), offload, mtu)
            };
            match verdict {
                Verdict::Forward(out) => prop_assert!(out.end <= buffer.len()),
                Verdict::Fragment(mut fragments) => {
                    let mut out = vec![0; 65536];
                    while let Some(length) = fragments.next(&buffer, &mut out) {
                        prop_assert!(length > 20);
                    }
                }
                Verdict::Reply(reply) => {
                    prop_assert_eq!(&buffer, &before);
                    let mut out = [0; 1280];
                    let _ = translator.write_reply(&reply, &before[range], &mut out);
                }
                Verdict::Drop(_) => prop_assert_eq!(&buffer, &before),
            }
        }
    }
}

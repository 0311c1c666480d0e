//! What holds for all packets: mutated vectors through the checks of the fuzz targets, fragments, offloads.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpSlice, LaxPacketHeaders, NetHeaders};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use xlat::checksum::{self, Sum};
use xlat::{Config, HEADROOM, LinkMtu, Offload, Pref64, Translator, Verdict};

#[path = "../../tests/fuzz/src/translator.rs"]
mod translator;
#[path = "vectors/mod.rs"]
mod vectors;

const CLAT4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const CLAT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc1a7, 0, 0, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn pref64() -> Pref64 {
    "2001:db8:64::/96".parse().unwrap()
}

/// A vector with some bytes changed, cut or repeated, behind a random head for the fuzz target.
fn mutants(packets: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    let head = (
        any::<[u8; 3]>(),
        select(vec![0u16, 0, 0, 1, 500, 1440]),
        select(vec![68u16, 576, 1280, 1480, 65535]),
    );
    let mtu6 = (select(vec![1280u16, 1300, 1500, 65535]), select(vec![1280u16, 1500]));
    (select(packets), changes, head, mtu6, any::<Option<Index>>()).prop_map(
        |(mut packet, changes, (mut bytes, gso, mtu4), (mtu6, lowest), cut)| {
            for (index, value) in changes {
                if !packet.is_empty() {
                    let at = index.index(packet.len().min(120));
                    packet[at] = value;
                }
            }
            if let Some(cut) = cut.filter(|_| bytes[2] % 4 == 0) {
                packet.truncate(cut.index(packet.len() + 1));
            }
            bytes[2] %= 7;
            let words = [gso, mtu4, mtu6, lowest];
            bytes.into_iter().chain(words.into_iter().flat_map(u16::to_be_bytes)).chain(packet).collect()
        },
    )
}

fn out_of_4() -> impl Strategy<Value = Vec<u8>> {
    mutants(vectors::v4_to_v6().into_iter().map(|vector| vector.input).collect())
}

fn out_of_6() -> impl Strategy<Value = Vec<u8>> {
    mutants(vectors::v6_to_v4().into_iter().map(|vector| vector.input).collect())
}

fn in_buffer(packet: &[u8]) -> Vec<u8> {
    [&[0xa5; HEADROOM], packet].concat()
}

/// A UDP datagram with the right checksum.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = etherparse::PacketBuilder::ipv4(CLAT4.octets(), SERVER.octets(), 64);
    builder.udp(4000, 53).write(&mut bytes, payload).unwrap();
    bytes[6] &= !0x40; // without DF
    bytes[10..12].fill(0);
    let sum = Sum::of(&bytes[..20]).checksum();
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn mutated_vectors_to_ipv6(data in out_of_4()) {
        translator::v4_to_v6(&data);
    }

    #[test]
    fn mutated_vectors_to_ipv4(data in out_of_6()) {
        translator::v6_to_v4(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// IPv6 fragments, put together by an independent library, are the datagram; and each of them, translated back,
    /// is an IPv4 fragment of it.
    #[test]
    fn fragments_make_the_whole(
        payload in prop::collection::vec(any::<u8>(), 1233..9000),
        lowest in 1280u16..3000,
        partial in any::<bool>(),
        reversed in any::<bool>(),
    ) {
        let config = Config { lowest_ipv6_mtu: lowest, ..Config::new(pref64(), CLAT4, CLAT6) };
        let translator = Translator::new(config).unwrap();
        let mut original = udp(&payload);
        let wanted = original.clone();
        let udp_len = original.len() - 20;
        if partial {
            let sum = checksum::ipv4_pseudo_header(CLAT4, SERVER, udp_len as u16, 17).fold();
            original[26..28].copy_from_slice(&sum.to_be_bytes());
        }
        let mut buf = in_buffer(&original);
        let range = HEADROOM..buf.len();
        let offload = Offload { partial_checksum: partial, gso_size: 0 };
        let mtu = LinkMtu { ipv4: 1480, ipv6: 9000 };
        let mut pieces = match translator.v4_to_v6(&mut buf, range, offload, mtu) {
            Verdict::Fragment(mut fragments) => {
                let mut out = vec![0; fragments.max_len()];
                std::iter::from_fn(|| fragments.next(&buf, &mut out).map(|len| out[..len].to_vec())).collect::<Vec<_>>()
            }
            Verdict::Forward(range) => {
                prop_assert!(range.len() <= usize::from(lowest));
                return Ok(());
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        if reversed {
            pieces.reverse();
        }
        let mut pool = etherparse::defrag::IpDefragPool::<(), ()>::new();
        let mut whole = None;
        for piece in &pieces {
            prop_assert!(piece.len() <= usize::from(lowest));
            let sliced = etherparse::SlicedPacket::from_ip(piece).unwrap();
            whole = whole.or(pool.process_sliced_packet(&sliced, (), ()).unwrap());
        }
        let whole = whole.expect("complete").payload;
        prop_assert_eq!(whole.len(), udp_len);
        let pseudo = checksum::ipv6_pseudo_header(CLAT6, pref64().embed(SERVER), udp_len as u32, 17);
        prop_assert_eq!(pseudo.plus(Sum::of(&whole)).fold(), 0xffff);
        prop_assert_eq!(&whole[..6], &wanted[20..26]);
        prop_assert_eq!(&whole[8..], &payload[..]);

        // And back, as if the server had sent them.
        let mut back = etherparse::defrag::IpDefragPool::<(), ()>::new();
        let mut whole = None;
        for piece in &pieces {
            let mut buf = in_buffer(piece);
            let (source, destination) = (piece[8..24].to_vec(), piece[24..40].to_vec());
            buf[HEADROOM + 8..HEADROOM + 24].copy_from_slice(&destination);
            buf[HEADROOM + 24..HEADROOM + 40].copy_from_slice(&source);
            let range = HEADROOM..buf.len();
            let mtu = LinkMtu { ipv4: 9000, ipv6: 9000 };
            let Verdict::Forward(range) = translator.v6_to_v4(&mut buf, range, Offload::NONE, mtu) else {
                return Err(TestCaseError::fail("not forwarded"));
            };
            prop_assert!(matches!(IpSlice::from_slice(&buf[range.clone()]), Ok(IpSlice::Ipv4(_))));
            let sliced = etherparse::SlicedPacket::from_ip(&buf[range]).unwrap();
            whole = whole.or(back.process_sliced_packet(&sliced, (), ()).unwrap());
        }
        prop_assert_eq!(&whole.expect("complete").payload, &wanted[20..]);
    }

    /// A quoted packet that has been translated is one that an independent library can read.
    #[test]
    fn quoted_packets_can_be_read(payload in prop::collection::vec(any::<u8>(), 0..1400), cut in any::<Index>()) {
        let translator = Translator::new(Config::new(pref64(), CLAT4, CLAT6)).unwrap();
        let mut quoted = Vec::new();
        let builder = etherparse::PacketBuilder::ipv6(CLAT6.octets(), pref64().embed(SERVER).octets(), 3);
        builder.udp(4000, 33434).write(&mut quoted, &payload).unwrap();
        quoted.truncate(48 + cut.index(quoted.len() - 47));
        quoted.truncate(1232);
        let router: Ipv6Addr = "2001:db8:ffff::1".parse().unwrap();
        let mut packet = Vec::new();
        let error = etherparse::Icmpv6Type::TimeExceeded(etherparse::icmpv6::TimeExceededCode::HopLimitExceeded);
        etherparse::PacketBuilder::ipv6(router.octets(), CLAT6.octets(), 60).icmpv6(error).write(&mut packet, &quoted).unwrap();
        let mut buf = in_buffer(&packet);
        let range = HEADROOM..buf.len();
        let Verdict::Forward(range) = translator.v6_to_v4(&mut buf, range, Offload::NONE, LinkMtu { ipv4: 1480, ipv6: 1500 }) else {
            return Err(TestCaseError::fail("not forwarded"));
        };
        let out = etherparse::SlicedPacket::from_ip(&buf[range]).unwrap();
        let Some(etherparse::TransportSlice::Icmpv4(icmp)) = out.transport else {
            return Err(TestCaseError::fail("not ICMPv4"));
        };
        let inner = LaxPacketHeaders::from_ip(icmp.payload()).unwrap();
        let Some(NetHeaders::Ipv4(header, _)) = inner.net else {
            return Err(TestCaseError::fail("no IPv4 header quoted"));
        };
        prop_assert_eq!((header.source, header.destination), (CLAT4.octets(), SERVER.octets()));
        prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
        prop_assert_eq!(usize::from(header.total_len), 28 + payload.len());
        prop_assert_eq!(header.time_to_live, 3);
        let udp = inner.transport.and_then(|transport| transport.udp()).expect("a UDP header");
        prop_assert_eq!(udp.destination_port, 33434);
        prop_assert_eq!(Ok(udp.checksum), udp.calc_checksum_ipv4(&header, &payload));
    }

    /// With a checksum-neutral address no transport checksum changes.
    #[test]
    fn neutral_addresses_leave_checksums_alone(
        interface in any::<[u8; 8]>(),
        prefix in select(vec!["2001:db8:64::/96", "64:ff9b::/96", "3fff:64::/32"]),
        server in (1u8..=9, any::<[u8; 3]>()),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        at in select(vec![8usize, 10, 12, 14]),
    ) {
        let pref64: Pref64 = prefix.parse().unwrap();
        let (a, [b, c, d]) = server;
        let server = Ipv4Addr::new(a, b, c, d);
        let mut octets = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        octets[8..].copy_from_slice(&interface);
        let word = checksum::neutral_word(Ipv6Addr::from(octets), at, &pref64, CLAT4).unwrap();
        octets[at..at + 2].copy_from_slice(&word);
        let clat6 = Ipv6Addr::from(octets);
        let sum6 = Sum::from(clat6).plus(pref64.embed(server).into()).fold() % 0xffff;
        prop_assert_eq!(sum6, Sum::from(CLAT4).plus(server.into()).fold() % 0xffff);

        let mut packet = Vec::new();
        let builder = etherparse::PacketBuilder::ipv4(CLAT4.octets(), server.octets(), 64);
        builder.tcp(1, 2, 3, 4).write(&mut packet, &payload).unwrap();
        let translator = Translator::new(Config::new(pref64, CLAT4, clat6)).unwrap();
        let mut buf = in_buffer(&packet);
        let range = HEADROOM..buf.len();
        let Verdict::Forward(out) = translator.v4_to_v6(&mut buf, range, Offload::NONE, LinkMtu { ipv4: 1480, ipv6: 1500 }) else {
            return Err(TestCaseError::fail("not forwarded"));
        };
        let word = |bytes: &[u8]| u16::from_be_bytes([bytes[16], bytes[17]]) % 0xffff;
        prop_assert_eq!(word(&buf[out][40..]), word(&packet[20..]));
    }
}

//! Against an independent library, which writes the messages with compressed names.

use super::super::*;
use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name as DomainName, Ttl};
use domain::rdata::{A, Aaaa, Cname, Soa};
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn dname(text: &str) -> DomainName<Vec<u8>> {
    text.parse().unwrap()
}

fn question(record_type: RecordType) -> Question {
    Question::new(0x1234, &name("www.example.org"), record_type, None)
}

fn ttl(seconds: u32) -> Ttl {
    Ttl::from_secs(seconds)
}

/// A response to `question`, built by an independent library (with name compression).
fn response(
    question: &Question,
    rcode: Rcode,
    fill: impl FnOnce(
        domain::base::message_builder::AnswerBuilder<domain::base::StaticCompressor<Vec<u8>>>,
    )
        -> domain::base::message_builder::AdditionalBuilder<domain::base::StaticCompressor<Vec<u8>>>,
) -> Vec<u8> {
    let bytes = question.to_bytes(false);
    let query = Message::from_octets(bytes.as_slice()).unwrap();
    let target = domain::base::StaticCompressor::new(Vec::new());
    let builder = MessageBuilder::from_target(target).unwrap().start_answer(&query, rcode).unwrap();
    fill(builder).finish().into_target()
}

#[test]
fn questions_are_what_a_library_reads() {
    for (record_type, expected) in [(RecordType::A, Rtype::A), (RecordType::Aaaa, Rtype::AAAA)] {
        let bytes =
            Question::new(0xbeef, &name("ipv4only.arpa"), record_type, Some(0xaaaa_aaaa)).to_bytes(true);
        let message = Message::from_octets(bytes).unwrap();
        assert_eq!(message.header().id(), 0xbeef);
        assert!(message.header().rd() && !message.header().cd() && !message.header().qr());
        let asked = message.sole_question().unwrap();
        assert_eq!((asked.qtype(), asked.qclass()), (expected, Class::IN));
        assert_eq!(asked.qname().to_string().to_lowercase(), "ipv4only.arpa");
        assert_ne!(asked.qname().to_string(), "ipv4only.arpa", "mixed case");
        let opt = message.opt().unwrap();
        assert_eq!((opt.udp_payload_size(), opt.dnssec_ok()), (1232, false));
    }
}

#[test]
fn addresses_through_a_chain_of_aliases() {
    let asked = question(RecordType::Aaaa);
    let message = response(&asked, Rcode::NOERROR, |mut answer| {
        let records = [("2001:db8::1", 300), ("2001:db8::2", 40), ("2001:db8::1", 300)];
        for (address, seconds) in records {
            let owner = dname("edge.cdn.example.net");
            answer.push((owner, Class::IN, ttl(seconds), Aaaa::new(address.parse().unwrap()))).unwrap();
        }
        // Out of order, in another case, and something that nobody asked for.
        let alias = Cname::new(dname("EDGE.cdn.example.net"));
        answer.push((dname("cdn.example.net"), Class::IN, ttl(100), alias)).unwrap();
        let alias = Cname::new(dname("cdn.example.net"));
        answer.push((dname("WWW.example.org"), Class::IN, ttl(3600), alias)).unwrap();
        answer
            .push((dname("edge.cdn.example.net"), Class::IN, ttl(1), A::from_octets(192, 0, 2, 1)))
            .unwrap();
        answer
            .push((dname("evil.example"), Class::IN, ttl(1), Aaaa::new("2001:db8::bad".parse().unwrap())))
            .unwrap();
        answer.additional()
    });
    assert_eq!(
        parse(&message, &asked),
        Ok(Reply::Addresses {
            addresses: vec!["2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()],
            aliases: vec!["cdn.example.net".into(), "edge.cdn.example.net".into()],
            ttl: Duration::from_secs(40),
        })
    );
}

#[test]
fn negative_answers_take_their_ttl_from_the_soa() {
    let asked = question(RecordType::A);
    for (rcode, own, minimum, expected) in [
        (Rcode::NOERROR, 3600, 900, 900),
        (Rcode::NXDOMAIN, 60, 900, 60),
        (Rcode::NOERROR, 0x8000_0001, 900, 0),
    ] {
        let message = response(&asked, rcode, |answer| {
            let mut authority = answer.authority();
            let soa = Soa::new(
                dname("ns.example.org"),
                dname("hostmaster.example.org"),
                1.into(),
                ttl(2),
                ttl(3),
                ttl(4),
                ttl(minimum),
            );
            authority.push((dname("example.org"), Class::IN, ttl(own), soa)).unwrap();
            authority.additional()
        });
        let ttl = Some(Duration::from_secs(expected));
        let reply = match rcode {
            Rcode::NXDOMAIN => Reply::NxDomain { ttl },
            _ => Reply::NoData { aliases: vec![], ttl },
        };
        assert_eq!(parse(&message, &asked), Ok(reply));
    }
    let bare = response(&asked, Rcode::NOERROR, |answer| answer.additional());
    assert_eq!(parse(&bare, &asked), Ok(Reply::NoData { aliases: vec![], ttl: None }));
}

proptest! {
    #[test]
    fn good_answers_survive_any_damage_without_panic(position in 0usize..120, value: u8, cut in 0usize..120) {
        let asked = question(RecordType::A);
        let mut message = response(&asked, Rcode::NOERROR, |mut answer| {
            let alias = Cname::new(dname("cdn.example.net"));
            answer.push((dname("www.example.org"), Class::IN, ttl(9), alias)).unwrap();
            answer.push((dname("cdn.example.net"), Class::IN, ttl(9), A::from_octets(192, 0, 2, 1))).unwrap();
            answer.additional()
        });
        if let Some(byte) = message.get_mut(position) {
            *byte = value;
        }
        message.truncate(message.len().saturating_sub(cut % 64));
        let _ = parse(&message, &asked);
    }

    #[test]
    fn every_address_that_a_library_writes_is_read(octets in proptest::collection::vec(any::<[u8; 16]>(), 1..20), seconds in 0u32..0x7fff_ffff) {
        let asked = question(RecordType::Aaaa);
        let message = response(&asked, Rcode::NOERROR, |mut answer| {
            for octets in &octets {
                answer.push((dname("www.example.org"), Class::IN, ttl(seconds), Aaaa::new((*octets).into()))).unwrap();
            }
            answer.additional()
        });
        let Ok(Reply::Addresses { addresses, ttl, .. }) = parse(&message, &asked) else {
            return Err(TestCaseError::fail("no addresses"));
        };
        prop_assert_eq!(ttl, Duration::from_secs(seconds.into()));
        prop_assert!(octets.iter().all(|octets| addresses.contains(&IpAddr::from(*octets))));
    }
}

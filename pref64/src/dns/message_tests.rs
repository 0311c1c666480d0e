use proptest::prelude::*;

use super::*;

#[path = "message_library_tests.rs"]
mod library;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn question() -> Question {
    Question::new(0x1234, &name("www.example.org"), RecordType::Aaaa, None)
}

/// A response to [`question`] with these counts of answers and authorities, and what follows the question.
fn response(flags: u16, answers: u16, authority: u16, records: &[u8]) -> Vec<u8> {
    let mut message = question().to_bytes(false);
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    message[6..8].copy_from_slice(&answers.to_be_bytes());
    message[8..10].copy_from_slice(&authority.to_be_bytes());
    message.extend(records);
    message
}

/// A record; `owner` in wire format.
fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A pointer to the question's name.
const OWNER: [u8; 2] = [0xc0, 12];

#[test]
fn a_question_is_what_an_independent_library_reads() {
    let bytes = question().to_bytes(true);
    let message = domain::base::Message::from_octets(bytes).unwrap();
    assert_eq!(message.header().id(), 0x1234);
    assert!(message.header().rd() && !message.header().cd());
    let read = message.sole_question().unwrap();
    assert_eq!(read.qname().to_string(), "www.example.org");
    assert_eq!(read.qtype(), domain::base::iana::Rtype::AAAA);
    assert_eq!(message.opt().unwrap().udp_payload_size(), UDP_SIZE);
}

#[test]
fn addresses_behind_a_chain_of_names_with_the_smallest_ttl() {
    let target = b"\x03cdn\x07example\x03net\0";
    let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let mut records = record(&OWNER, TYPE_CNAME, 300, target);
    records.extend(record(target, 28, 60, &address.octets()));
    records.extend(record(target, 28, 90, &address.octets()));
    let reply = parse(&response(0x8180, 3, 0, &records), &question()).unwrap();
    assert_eq!(
        reply,
        Reply::Addresses {
            addresses: vec![IpAddr::V6(address)],
            aliases: vec!["cdn.example.net".into()],
            ttl: Duration::from_secs(60)
        }
    );
}

#[test]
fn names_that_lead_in_circles_are_an_error() {
    let records = record(&OWNER, TYPE_CNAME, 300, &OWNER);
    assert_eq!(parse(&response(0x8180, 1, 0, &records), &question()), Err(MessageError::Chain));
    // A compression pointer to itself.
    let at = response(0x8180, 1, 0, &[]).len() as u16;
    let loops = record(&(0xc000 | at).to_be_bytes(), TYPE_CNAME, 300, &OWNER);
    assert_eq!(parse(&response(0x8180, 1, 0, &loops), &question()), Err(MessageError::Name));
}

#[test]
fn negative_answers_carry_the_smaller_of_the_two_ttls_of_the_soa() {
    let mut soa = vec![0, 0];
    for number in [1u32, 2, 3, 4, 30] {
        soa.extend(number.to_be_bytes());
    }
    let records = record(&OWNER, TYPE_SOA, 600, &soa);
    let ttl = Some(Duration::from_secs(30));
    assert_eq!(parse(&response(0x8183, 0, 1, &records), &question()), Ok(Reply::NxDomain { ttl }));
    let no_data = parse(&response(0x8180, 0, 1, &records), &question());
    assert!(matches!(no_data, Ok(Reply::NoData { ttl: Some(t), .. }) if t == Duration::from_secs(30)));
}

#[test]
fn other_codes_truncation_and_strangers() {
    assert_eq!(parse(&response(0x8182, 0, 0, &[]), &question()), Ok(Reply::Error(2)));
    assert_eq!(parse(&response(0x8380, 0, 0, &[]), &question()), Ok(Reply::Truncated));
    assert_eq!(parse(&response(0x0100, 0, 0, &[]), &question()), Err(MessageError::Mismatch), "a question");
    let mut other_id = response(0x8180, 0, 0, &[]);
    other_id[0] ^= 1;
    assert_eq!(parse(&other_id, &question()), Err(MessageError::Mismatch));
    let mut other_name = response(0x8180, 0, 0, &[]);
    other_name[13] ^= 1;
    assert_eq!(parse(&other_name, &question()), Err(MessageError::Mismatch));
}

#[test]
fn the_case_of_a_question_must_come_back_if_it_was_random() {
    let noisy = Question::new(7, &name("ipv4only.arpa"), RecordType::Aaaa, Some(0b1011));
    let mut answer = noisy.to_bytes(false);
    answer[2] |= 0x80;
    assert!(parse(&answer, &noisy).is_ok());
    answer[13] ^= 0x20;
    assert_eq!(parse(&answer, &noisy), Err(MessageError::Mismatch));
}

#[test]
fn bad_names_are_refused() {
    assert_eq!(Name::parse(""), Err(NameError::EmptyLabel));
    assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
    assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LongLabel));
    assert_eq!(Name::parse(&"abcdefg.".repeat(32)), Err(NameError::LongName));
    assert_eq!(Name::parse("a b"), Err(NameError::Character));
    assert_eq!(Name::parse("Example.ORG.").unwrap(), name("example.org"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(tail in prop::collection::vec(any::<u8>(), 0..600), counts: [u8; 2]) {
        let _ = parse(&tail, &question());
        let _ = parse(&response(0x8180, counts[0].into(), counts[1].into(), &tail), &question());
    }
}

//! What must hold for any bytes as an answer to a question for `ipv4only.arpa`.

use std::net::IpAddr;
use std::time::Duration;

use pref64::dns::message::{self, Question, Reply};
use pref64::dns::nat64::{self, WELL_KNOWN_ADDRESSES};
use pref64::dns::{IPV4ONLY, Name, RecordType};

/// The identifier that an answer must repeat to be looked at.
const ID: u16 = 0x7f7f;

/// Panics if one of the properties does not hold.
pub fn check(bytes: &[u8]) {
    let name = Name::parse(IPV4ONLY).expect("a valid name");
    for record_type in [RecordType::Aaaa, RecordType::A] {
        let question = Question::new(ID, &name, record_type, None);
        as_answer(bytes, &question);
        // The same bytes behind a question that matches, where most of the parser is.
        let mut framed = question.to_bytes(false);
        if let Some((counts, rest)) = bytes.split_first_chunk::<3>() {
            framed[2..4].copy_from_slice(&[0x81, 0x80 | (counts[0] & 3)]);
            framed[7] = counts[1];
            framed[9] = counts[2];
            framed.extend(rest);
        }
        as_answer(&framed, &question);
    }
}

fn as_answer(bytes: &[u8], question: &Question) {
    // RFC 2181 §8: no TTL is longer.
    const LONGEST: Duration = Duration::from_secs(i32::MAX as u64);
    let Ok(reply) = message::parse(bytes, question) else { return };
    assert_eq!(bytes[..2], ID.to_be_bytes(), "an answer to another question");
    match reply {
        Reply::Addresses { addresses, aliases, ttl } => {
            assert!(!addresses.is_empty() && ttl <= LONGEST && aliases.len() <= 16);
            assert!(aliases.iter().all(|alias| alias.is_ascii() && !alias.contains(char::is_control)));
            for address in &addresses {
                let there = match address {
                    IpAddr::V4(address) => bytes.windows(4).any(|window| window == address.octets()),
                    IpAddr::V6(address) => bytes.windows(16).any(|window| window == address.octets()),
                };
                assert!(there, "nothing is invented");
            }
            for prefix in nat64::prefixes(addresses.iter().copied()) {
                let from_answer = WELL_KNOWN_ADDRESSES.iter().any(|known| {
                    addresses.iter().any(|address| match address {
                        IpAddr::V6(address) => prefix.extract(*address) == Some(*known),
                        IpAddr::V4(_) => false,
                    })
                });
                assert!(from_answer, "a prefix stands before a well-known address");
            }
        }
        Reply::NoData { ttl, .. } | Reply::NxDomain { ttl } => assert!(ttl.is_none_or(|ttl| ttl <= LONGEST)),
        Reply::Truncated | Reply::Error(_) => {}
    }
}

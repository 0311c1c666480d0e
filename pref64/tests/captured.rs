//! Messages captured from real programs (unbound 1.17 with its dns64 module, radvd 2.19): they are part of the fuzz
//! corpora, and here is what they mean.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use pref64::dns::message::{Question, Reply, parse};
use pref64::dns::{Name, RecordType, nat64};
use pref64::ra::{self, Preference};

fn captured(target: &str, file: &str) -> Vec<u8> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    std::fs::read(corpus.join(target).join(file)).unwrap()
}

fn reply(file: &str, name: &str, record_type: RecordType) -> Reply {
    let question = Question::new(0x7f7f, &Name::parse(name).unwrap(), record_type, None);
    parse(&captured("dns_answer", file), &question).unwrap()
}

#[test]
fn dns64_answers_reveal_the_prefix() {
    for (file, expected) in
        [("wkp-96", "64:ff9b::/96"), ("nsp-64", "2001:db8:64::/64"), ("nsp-40", "2001:db8:100::/40")]
    {
        let file = format!("unbound-{file}-ipv4only.arpa-aaaa");
        let Reply::Addresses { addresses, ttl, .. } = reply(&file, "ipv4only.arpa", RecordType::Aaaa) else {
            panic!("{file}: no addresses");
        };
        assert_eq!((addresses.len(), ttl), (2, Duration::from_secs(3600)));
        let prefixes: Vec<String> = nat64::prefixes(addresses).iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, [expected]);
    }
}

#[test]
fn other_answers() {
    let Reply::Addresses { addresses, .. } =
        reply("unbound-wkp-96-ipv4only.arpa-a", "ipv4only.arpa", RecordType::A)
    else {
        panic!("no addresses");
    };
    assert!(addresses.iter().all(|address| nat64::WELL_KNOWN_ADDRESSES.map(IpAddr::V4).contains(address)));
    assert_eq!(
        reply("unbound-wkp-96-www.test-aaaa", "www.test", RecordType::Aaaa),
        Reply::Addresses {
            addresses: vec!["64:ff9b::203.0.113.80".parse().unwrap()],
            aliases: vec!["real.test".to_owned()],
            ttl: Duration::from_secs(50),
        }
    );
    let ttl = Some(Duration::from_secs(555));
    assert_eq!(reply("unbound-wkp-96-nx.test-aaaa", "nx.test", RecordType::Aaaa), Reply::NxDomain { ttl });
    assert_eq!(reply("unbound-wkp-96-big.test-a", "big.test", RecordType::A), Reply::Truncated);
}

#[test]
fn an_advertisement_with_everything_but_pref64() {
    let advert = ra::parse(&captured("ra", "radvd-plain"), "fe80::1".parse().unwrap(), 255).unwrap();
    assert_eq!(advert.preference, Preference::High);
    assert_eq!(advert.router_lifetime, Duration::from_secs(12));
    assert!(advert.prefixes.is_empty() && advert.ignored.is_empty());
}

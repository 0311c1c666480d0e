//! What must hold for any bytes as a Router Advertisement.

use std::net::Ipv6Addr;
use std::time::Duration;

use pref64::Pref64;
use pref64::discovery::{Discovery, Router, Settings};
use pref64::jitter::Jitter;
use pref64::ra;

/// Panics if one of the properties does not hold.
pub fn check(bytes: &[u8]) {
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let Ok(advert) = ra::parse(bytes, address, ra::HOP_LIMIT) else { return };
    assert!(bytes.len() >= 16 && bytes[0] == ra::ROUTER_ADVERTISEMENT && bytes[1] == 0);
    assert!(advert.prefixes.len() <= ra::MAX_PREFIXES && advert.ignored.len() <= ra::MAX_PREFIXES);
    for option in &advert.prefixes {
        assert!(option.lifetime <= Duration::from_secs(65528) && option.lifetime.as_secs() % 8 == 0);
        let again = Pref64::new(option.prefix.network(), option.prefix.len());
        assert_eq!(again, Ok(option.prefix), "only RFC 6052 prefixes come out");
        let network = option.prefix.network().octets();
        let len = usize::from(option.prefix.len() / 8);
        assert!(bytes.windows(len).any(|window| *window == network[..len]), "nothing is invented");
    }

    // Nobody but a router on the link is believed.
    assert!(ra::parse(bytes, address, 254).is_err());
    assert!(ra::parse(bytes, Ipv6Addr::LOCALHOST, ra::HOP_LIMIT).is_err());

    // What the state machine makes of it, twice, and after everything has expired.
    let settings = Settings { methods: vec![pref64::config::Method::Ra], ..Settings::default() };
    let mut discovery = Discovery::new(settings, Jitter::new(1), Duration::ZERO);
    discovery.on_links(Duration::ZERO, &[2]);
    let router = Router { address, ifindex: 2 };
    discovery.on_advert(Duration::ZERO, router, &advert);
    let known = discovery.known().to_vec();
    assert_eq!(known.len(), advert.prefixes.iter().filter(|option| !option.lifetime.is_zero()).count());
    assert!(!discovery.on_advert(Duration::ZERO, router, &advert), "the same again changes nothing");
    assert_eq!(discovery.known(), known);
    discovery.tick(Duration::from_secs(65528));
    assert!(discovery.known().is_empty(), "every lifetime ends");
}

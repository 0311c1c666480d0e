//! How long a pin lives and when it is looked up again.
//!
//! A pin is looked up again when the DNS answer behind it has run out, but goes on living for a while
//! if the DNS does not answer then: an outage of the resolver must not take away what still works.
//! And because a hosts file often lies on a flash card, a pin that is confirmed unchanged is written
//! anew only when half of its life is over.

use crate::hosts::{Entry, Pin};
use crate::time::Instant;

/// The life of a pin without `--ttl` is the TTL of the DNS, but not less than this: 6 hours.
pub const SHORTEST_LIFE: u32 = 6 * 3600;
/// ... and not more than this: 1 day.
pub const LONGEST_LIFE: u32 = 24 * 3600;
/// Bounds of `--ttl`: 1 minute ...
pub const SHORTEST_WISH: u32 = 60;
/// ... and 7 days.
pub const LONGEST_WISH: u32 = 7 * 24 * 3600;
/// No name is looked up more often than this, whatever its TTL: 1 minute.
const SHORTEST_RENEWAL: u32 = 60;

/// Seconds that a pin lives after it was confirmed.
#[must_use]
pub fn life(want_ttl: Option<u32>, dns_ttl: u32) -> u32 {
    match want_ttl {
        Some(wish) => wish.clamp(SHORTEST_WISH, LONGEST_WISH),
        None => dns_ttl.clamp(SHORTEST_LIFE, LONGEST_LIFE),
    }
}

/// Whether the pin is to be looked up again.
#[must_use]
pub fn is_due(entry: &Entry, pin: &Pin, now: Instant) -> bool {
    let life = life(entry.want_ttl, pin.ttl);
    let left = pin.expires.since(now);
    if left > u64::from(life) {
        // Written under a clock that was ahead.
        return true;
    }
    let age = u64::from(life) - left;
    age >= u64::from(pin.ttl.max(SHORTEST_RENEWAL).min(life / 2))
}

/// Whether a pin that was just confirmed unchanged gets a new expiry in the file.
#[must_use]
pub fn is_rewritten(entry: &Entry, pin: &Pin, now: Instant) -> bool {
    let life = u64::from(life(entry.want_ttl, pin.ttl));
    let left = pin.expires.since(now);
    left > life || left <= life / 2
}

/// Whether the pin must go unless something confirms it now.
#[must_use]
pub fn is_expired(pin: &Pin, now: Instant) -> bool {
    pin.expires <= now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::{Origin, Source, State};

    fn entry(want_ttl: Option<u32>, ttl: u32, expires: u64) -> (Entry, Pin) {
        let pin = Pin {
            addresses: vec!["2001:db8::1".parse().unwrap()],
            source: Source::Native,
            ttl,
            expires: Instant::from_unix(expires),
        };
        let entry = Entry {
            name: "a.example".parse().unwrap(),
            origin: Origin::Add,
            want_ttl,
            want_a: vec![],
            want_ports: vec![],
            state: State::Pinned(pin.clone()),
        };
        (entry, pin)
    }

    fn due(want_ttl: Option<u32>, ttl: u32, age: u64) -> bool {
        let (entry, pin) = entry(want_ttl, ttl, 1_000_000);
        let life = u64::from(life(want_ttl, ttl));
        is_due(&entry, &pin, Instant::from_unix(1_000_000 - life + age))
    }

    #[test]
    fn bounds() {
        assert_eq!(life(None, 0), SHORTEST_LIFE);
        assert_eq!(life(None, 30_000), 30_000);
        assert_eq!(life(None, u32::MAX), LONGEST_LIFE);
        assert_eq!(life(Some(600), 30), 600);
        assert_eq!(life(Some(0), 30), SHORTEST_WISH);
        assert_eq!(life(Some(u32::MAX), 30), LONGEST_WISH);
    }

    #[test]
    fn renewed_when_the_dns_answer_has_run_out() {
        assert!(!due(None, 300, 299));
        assert!(due(None, 300, 300));
        assert!(!due(None, 0, 59), "at most once a minute");
        assert!(due(None, 0, 60));
        assert!(due(None, u32::MAX, u64::from(LONGEST_LIFE) / 2), "at half-life at the latest");
        assert!(!due(Some(600), 300, 299));
        assert!(due(Some(600), 3600, 300));
    }

    #[test]
    fn clocks_jump() {
        let (entry, pin) = entry(None, 300, 2_000_000);
        assert!(is_due(&entry, &pin, Instant::from_unix(0)), "the clock was ahead when this was written");
        assert!(is_rewritten(&entry, &pin, Instant::from_unix(0)));
        assert!(!is_expired(&pin, Instant::from_unix(0)));
        assert!(is_due(&entry, &pin, Instant::from_unix(9_000_000)));
        assert!(is_expired(&pin, Instant::from_unix(2_000_000)));
    }

    #[test]
    fn written_at_half_life() {
        let (entry, pin) = entry(None, 300, 1_000_000);
        let half = 1_000_000 - u64::from(SHORTEST_LIFE) / 2;
        assert!(!is_rewritten(&entry, &pin, Instant::from_unix(half - 1)));
        assert!(is_rewritten(&entry, &pin, Instant::from_unix(half)));
    }
}

//! The uplink candidates and when to solicit on them (RFC 4861 §6.3.7, RFC 7559).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::jitter::Jitter;

/// RTR_SOLICITATION_INTERVAL and MAX_RTR_SOLICITATIONS (RFC 4861 §10).
const INTERVAL: Duration = Duration::from_secs(4);
const SOLICITATIONS: u32 = 3;
/// After those, RFC 7559 §2 goes on with ever longer pauses up to this one, until a router is heard.
const LONGEST: Duration = Duration::from_secs(3600);
/// A solicitation that could not be sent (no link-local address yet, link flapping) is tried again after this, then
/// ever later: a link may have IPv6 turned off for good.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// When nothing refreshes a prefix, its routers are solicited this long before it expires.
const REFRESH: Duration = Duration::from_secs(32);

#[derive(Debug, Clone, Default)]
pub(super) struct Links(BTreeMap<u32, Link>);

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// When to solicit next; `None`: no need.
    next: Option<Duration>,
    /// Solicitations sent since a router was last heard.
    sent: u32,
    /// Solicitations in a row that could not be sent.
    failures: u32,
}

impl Links {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, ifindex: u32) -> bool {
        self.0.contains_key(&ifindex)
    }

    /// Makes `up` the set of links. New ones are solicited within `delay`, or never if it is `None`.
    /// Returns whether the set changed.
    pub(super) fn set(
        &mut self,
        now: Duration,
        up: &[u32],
        delay: Option<Duration>,
        jitter: &mut Jitter,
    ) -> bool {
        let before = self.0.len();
        self.0.retain(|ifindex, _| up.contains(ifindex));
        let mut changed = self.0.len() != before;
        for ifindex in up {
            self.0.entry(*ifindex).or_insert_with(|| {
                changed = true;
                Link { next: delay.map(|delay| now + jitter.below(delay)), ..Link::default() }
            });
        }
        changed
    }

    /// A router was heard. `last`: when the last prefix of this link expires.
    pub(super) fn heard(&mut self, now: Duration, ifindex: u32, last: Option<Duration>, jitter: &mut Jitter) {
        if let Some(link) = self.0.get_mut(&ifindex) {
            link.sent = 0;
            link.failures = 0;
            link.next = last
                .map(|last| last.saturating_sub(REFRESH) + jitter.below(REFRESH / 4))
                .filter(|refresh| *refresh > now + INTERVAL);
        }
    }

    pub(super) fn failed(&mut self, now: Duration, ifindex: u32, jitter: &mut Jitter) {
        if let Some(link) = self.0.get_mut(&ifindex) {
            link.sent = link.sent.saturating_sub(1);
            link.next = Some(now + jitter.around((RETRY * (1 << link.failures.min(9))).min(LONGEST_RETRY)));
            link.failures = link.failures.saturating_add(1);
        }
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.0.values().filter_map(|link| link.next).min()
    }

    /// The links to solicit now.
    pub(super) fn due(&mut self, now: Duration, jitter: &mut Jitter) -> Vec<u32> {
        let mut due = Vec::new();
        for (ifindex, link) in &mut self.0 {
            if link.next.is_some_and(|next| next <= now) {
                due.push(*ifindex);
                link.sent += 1;
                let doublings = link.sent.saturating_sub(SOLICITATIONS - 1).min(10);
                link.next = Some(now + jitter.around((INTERVAL * (1 << doublings)).min(LONGEST)));
            }
        }
        due
    }
}

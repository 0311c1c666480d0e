//! What the resolver said about `ipv4only.arpa`, and when to ask again (RFC 7050 §3).

use std::time::Duration;

use xlat::Pref64;

use super::Action;
use crate::jitter::Jitter;

/// The resolver is asked this long before the last prefix of a better source expires.
pub(super) const LEAD: Duration = Duration::from_secs(30);
/// RFC 7050 §3: repeat the discovery ten seconds before the TTL expires.
const BEFORE_EXPIRY: Duration = Duration::from_secs(10);
/// Shorter lifetimes are stretched to this, longer ones cut: a TTL of 0 must not become a flood.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Negative answers are believed for at most this long (RFC 2308 §5 suggests one to three hours).
const LONGEST_NEGATIVE: Duration = Duration::from_secs(3 * 3600);
/// First and longest pause after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// A resolver that does not answer says nothing about the NAT64: what it said last holds for so long after its TTL
/// (the idea of RFC 8767). A negative answer ends it at once.
const STALE: Duration = Duration::from_secs(3600);
/// A query under way, with all its retries, takes no longer than this.
const IN_FLIGHT: Duration = Duration::from_secs(60);

/// How a query for `ipv4only.arpa` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsOutcome {
    /// AAAA records with at least one prefix; `ttl` is the smallest of their TTLs.
    Found {
        /// In the order received.
        prefixes: Vec<Pref64>,
        /// How long they hold.
        ttl: Duration,
    },
    /// The resolver answered that it synthesises nothing (NODATA, NXDOMAIN, or addresses without a well-known IPv4
    /// address in them); to be believed for `ttl`.
    Negative {
        /// How long the answer holds.
        ttl: Duration,
    },
    /// No usable answer: timeout, SERVFAIL, no resolver.
    Failed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Schedule {
    #[default]
    Idle,
    Waiting(Duration),
    Running,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Dns {
    prefixes: Vec<Pref64>,
    expires: Duration,
    /// The TTL's own end plus [`STALE`].
    stale_until: Duration,
    schedule: Schedule,
    failures: u32,
    /// A query must be abandoned.
    cancel: bool,
}

impl Dns {
    pub(super) fn prefixes(&self) -> impl Iterator<Item = (Pref64, Duration)> {
        self.prefixes.iter().map(|prefix| (*prefix, self.expires))
    }

    /// Whether a query is under way or scheduled.
    pub(super) fn is_active(&self) -> bool {
        self.schedule != Schedule::Idle
    }

    pub(super) fn next(&self) -> Option<Duration> {
        match self.schedule {
            Schedule::Waiting(at) => Some(at),
            // Abandoning a query cannot wait.
            _ if self.cancel => Some(Duration::ZERO),
            _ => None,
        }
    }

    pub(super) fn start(&mut self, at: Duration) {
        if self.schedule == Schedule::Idle {
            self.schedule = Schedule::Waiting(at);
        }
    }

    /// Asks anew at `at`, whatever was said or is being asked before. What is known stays until the answer.
    pub(super) fn restart(&mut self, at: Duration) {
        self.failures = 0;
        self.schedule = Schedule::Waiting(at);
    }

    /// A better source knows a prefix: no further query. What is known stays until its TTL ends.
    pub(super) fn pause(&mut self) {
        if matches!(self.schedule, Schedule::Waiting(_)) {
            self.schedule = Schedule::Idle;
        }
    }

    /// The network is gone: forget everything.
    pub(super) fn stop(&mut self) {
        let running = self.schedule == Schedule::Running;
        *self = Self { cancel: running || self.cancel, ..Self::default() };
    }

    pub(super) fn restore(&mut self, prefix: Pref64, expires: Duration) {
        if !self.prefixes.contains(&prefix) {
            self.prefixes.push(prefix);
            self.expires = self.expires.max(expires);
            self.stale_until = self.expires;
        }
    }

    pub(super) fn expire(&mut self, now: Duration) {
        if self.expires <= now {
            self.prefixes.clear();
        }
    }

    pub(super) fn due(&mut self, now: Duration) -> Option<Action> {
        match self.schedule {
            Schedule::Waiting(at) if at <= now => {
                self.schedule = Schedule::Running;
                self.cancel = false;
                self.hold_until(now + IN_FLIGHT);
                Some(Action::QueryDns)
            }
            _ if core::mem::take(&mut self.cancel) => Some(Action::CancelDns),
            _ => None,
        }
    }

    pub(super) fn ended(&mut self, now: Duration, outcome: &DnsOutcome, jitter: &mut Jitter) {
        if self.schedule != Schedule::Running {
            // Abandoned meanwhile.
            return;
        }
        let pause = match outcome {
            DnsOutcome::Found { prefixes, ttl } => {
                let ttl = (*ttl).clamp(SHORTEST, LONGEST);
                self.prefixes.clone_from(prefixes);
                self.expires = now + ttl;
                self.stale_until = self.expires + STALE;
                self.failures = 0;
                // Machines that got the answer from one cache must not come back all at once.
                ttl - BEFORE_EXPIRY - jitter.below((ttl / 10).min(SHORTEST))
            }
            DnsOutcome::Negative { ttl } => {
                self.prefixes.clear();
                self.failures = 0;
                let ttl = (*ttl).clamp(SHORTEST, LONGEST_NEGATIVE);
                ttl + jitter.below((ttl / 10).min(SHORTEST))
            }
            DnsOutcome::Failed => {
                let pause = jitter.around((FIRST_RETRY * (1 << self.failures.min(9))).min(LONGEST_RETRY));
                self.failures = self.failures.saturating_add(1);
                self.hold_until(now + pause + IN_FLIGHT);
                pause
            }
        };
        self.schedule = Schedule::Waiting(now + pause);
    }

    /// Keeps what is known until `at`, within the limit for stale answers.
    fn hold_until(&mut self, at: Duration) {
        if !self.prefixes.is_empty() {
            self.expires = self.expires.max(at.min(self.stale_until));
        }
    }
}

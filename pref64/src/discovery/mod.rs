//! Which NAT64 prefixes are known, and which one is used: a pure state machine.
//!
//! Events and the time go in; the ordered list of [`Known`] prefixes, [`Action`]s and the next wake-up come out.
//! It knows no socket and no clock. Times are `Duration`s since boot, suspend included (`CLOCK_BOOTTIME`), so that a
//! lifetime runs out while the machine sleeps.
//!
//! Order (RFC 9872): configuration, then the methods of `nat64.discover` (RA before DNS by default), then the
//! configured fallback. The prefix in use changes only when
//! - a better source knows another one,
//! - nobody vouches for it any longer, or
//! - a router withdrew it and no source of the same rank still vouches for it.
//!
//! So neither a reordering of answers nor a second router makes it flap, and a prefix that expires in one source is
//! kept while another source still vouches for it.

mod dns;
mod links;
#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat::Pref64;

use crate::Source;
use crate::config::{Method, Nat64};
use crate::jitter::Jitter;
use crate::ra::{Preference, RouterAdvert};

pub use dns::DnsOutcome;

/// More prefixes than this from Router Advertisements are ignored: nobody honest needs them.
const MAX_RA_PREFIXES: usize = 32;
/// How long discovery may take before the configured fallback is used.
const FALLBACK_AFTER: Duration = Duration::from_secs(4);
/// How long a prefix restored from the state file may be used before its router confirms it.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// What the state machine needs to know of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `nat64.prefix`.
    pub prefixes: Vec<Pref64>,
    /// `nat64.discover`.
    pub methods: Vec<Method>,
    /// `nat64.fallback_prefix`.
    pub fallback: Option<Pref64>,
    /// Ask every source even when a better one has answered: for diagnosis. A daemon leaves it off and asks the
    /// resolver only when no better source knows a prefix.
    pub ask_all: bool,
    /// Actions at the start of a link are spread over this time (RFC 4861 §6.3.7: 1 s).
    pub start_delay: Duration,
}

impl From<&Nat64> for Settings {
    fn from(nat64: &Nat64) -> Self {
        Self {
            prefixes: nat64.prefix.clone(),
            methods: nat64.discover.clone(),
            fallback: nat64.fallback_prefix,
            ask_all: false,
            start_delay: Duration::from_secs(1),
        }
    }
}

/// The router that advertised a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Router {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// The interface it was heard on.
    pub ifindex: u32,
}

/// A known prefix and who vouches for it. The same prefix appears once for each that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The prefix.
    pub prefix: Pref64,
    /// Who vouches for it.
    pub source: Source,
    /// The advertising router, for [`Source::Ra`].
    pub router: Option<Router>,
    /// When it expires, as time since boot; `None`: never.
    pub expires: Option<Duration>,
    /// Whether this is the prefix in use (only its best voucher is marked).
    pub used: bool,
}

/// What the shell must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a Router Solicitation on this interface.
    Solicit {
        /// The interface.
        ifindex: u32,
    },
    /// Ask for `ipv4only.arpa`; a query under way is abandoned. Report with [`Discovery::on_dns`].
    QueryDns,
    /// Abandon the query under way, if any: the network is gone.
    CancelDns,
}

#[derive(Debug, Clone)]
struct RaPrefix {
    prefix: Pref64,
    router: Router,
    preference: Preference,
    expires: Duration,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Discovery {
    settings: Settings,
    jitter: Jitter,
    links: links::Links,
    /// In the order first seen, which breaks ties between routers of equal preference.
    ra: Vec<RaPrefix>,
    dns: dns::Dns,
    /// From when on the fallback may be used; `None` without a link.
    fallback_from: Option<Duration>,
    known: Vec<Known>,
    /// The prefix in use and the best rank that has vouched for it meanwhile.
    used: Option<(Pref64, usize)>,
}

impl Discovery {
    /// A state machine that knows only what is configured. `jitter` spreads its timers.
    pub fn new(settings: Settings, jitter: Jitter, now: Duration) -> Self {
        let mut this = Self {
            settings,
            jitter,
            links: links::Links::default(),
            ra: Vec::new(),
            dns: dns::Dns::default(),
            fallback_from: None,
            known: Vec::new(),
            used: None,
        };
        this.update(now);
        this
    }

    /// Every known prefix: the used one first, then by preference.
    pub fn known(&self) -> &[Known] {
        &self.known
    }

    /// The prefix in use, with its best voucher.
    pub fn used(&self) -> Option<&Known> {
        self.known.first().filter(|known| known.used)
    }

    /// The set of uplink candidates that are up. What was learnt from one that is gone is forgotten; a new one is
    /// solicited, and the resolver is asked anew (RFC 7050 §3).
    ///
    /// Report a link that went down and came up again as such, in two calls: it may lead to another network.
    pub fn on_links(&mut self, now: Duration, up: &[u32]) -> bool {
        let delay = if self.uses(Method::Ra) { Some(self.settings.start_delay) } else { None };
        if self.links.set(now, up, delay, &mut self.jitter) {
            let links = &self.links;
            self.ra.retain(|known| links.contains(known.router.ifindex));
            if self.links.is_empty() {
                self.fallback_from = None;
                self.dns.stop();
            } else {
                if self.fallback_from.is_none() {
                    self.fallback_from = Some(now + FALLBACK_AFTER);
                }
                self.restart_dns(now);
            }
        }
        self.update(now)
    }

    /// The system's resolvers changed: ask them anew.
    pub fn on_resolvers(&mut self, now: Duration) -> bool {
        self.restart_dns(now);
        self.update(now)
    }

    fn restart_dns(&mut self, now: Duration) {
        if self.uses(Method::Dns) && !self.links.is_empty() {
            self.dns.restart(now + self.jitter.below(self.settings.start_delay));
        }
    }

    /// A solicitation that [`Action::Solicit`] asked for could not be sent: it is tried again soon.
    pub fn on_solicit_failed(&mut self, now: Duration, ifindex: u32) {
        self.links.failed(now, ifindex, &mut self.jitter);
    }

    /// A valid Router Advertisement came in.
    pub fn on_advert(&mut self, now: Duration, router: Router, advert: &RouterAdvert) -> bool {
        if !self.uses(Method::Ra) || !self.links.contains(router.ifindex) {
            return false;
        }
        for known in self.ra.iter_mut().filter(|known| known.router == router) {
            known.preference = advert.preference;
        }
        for option in &advert.prefixes {
            let expires = now + option.lifetime;
            let position =
                self.ra.iter().position(|known| known.router == router && known.prefix == option.prefix);
            match position {
                Some(index) if option.lifetime.is_zero() => {
                    self.ra.remove(index);
                    self.withdrawn(option.prefix);
                }
                Some(index) => self.ra[index].expires = expires,
                None if option.lifetime.is_zero() || self.ra.len() >= MAX_RA_PREFIXES => {}
                None => self.ra.push(RaPrefix {
                    prefix: option.prefix,
                    router,
                    preference: advert.preference,
                    expires,
                }),
            }
        }
        let last = self
            .ra
            .iter()
            .filter(|known| known.router.ifindex == router.ifindex)
            .map(|known| known.expires)
            .max();
        self.links.heard(now, router.ifindex, last, &mut self.jitter);
        self.update(now)
    }

    /// A DNS query that [`Action::QueryDns`] asked for has ended.
    pub fn on_dns(&mut self, now: Duration, outcome: &DnsOutcome) -> bool {
        if self.links.is_empty() {
            return false;
        }
        self.dns.ended(now, outcome, &mut self.jitter);
        self.update(now)
    }

    /// Takes over what an earlier process knew, so that a restart interrupts nothing.
    ///
    /// `lifetime` is what was left of it (`None`: never expires). A prefix from an advertisement must be confirmed
    /// by its router within half a minute; one from DNS stays until the resolver says otherwise or it expires.
    /// Call it after the first [`Discovery::on_links`]; prefixes of links that are not up are dropped.
    pub fn restore(&mut self, now: Duration, known: &Known, lifetime: Option<Duration>) -> bool {
        let expires = now + lifetime.unwrap_or_default();
        match (known.source, known.router) {
            (Source::Ra, Some(router)) if self.uses(Method::Ra) && self.links.contains(router.ifindex) => {
                let seen = self.ra.iter().any(|old| old.router == router && old.prefix == known.prefix);
                if !seen && self.ra.len() < MAX_RA_PREFIXES {
                    self.ra.push(RaPrefix {
                        prefix: known.prefix,
                        router,
                        preference: Preference::Medium,
                        expires: expires.min(now + CONFIRM_WITHIN),
                    });
                }
            }
            (Source::Dns, _) if self.uses(Method::Dns) && !self.links.is_empty() => {
                self.dns.restore(known.prefix, expires);
            }
            // What is configured is known already, or no longer configured.
            _ => return false,
        }
        if known.used && self.used.is_none() {
            self.used = Some((known.prefix, self.rank(known.source)));
        }
        self.update(now)
    }

    /// Lets time pass: drops what has expired. Returns what to do now.
    pub fn tick(&mut self, now: Duration) -> (bool, Vec<Action>) {
        let changed = self.update(now);
        let mut actions = Vec::new();
        if self.uses(Method::Ra) && (self.settings.prefixes.is_empty() || self.settings.ask_all) {
            actions.extend(
                self.links.due(now, &mut self.jitter).into_iter().map(|ifindex| Action::Solicit { ifindex }),
            );
        }
        actions.extend(self.dns.due(now));
        (changed, actions)
    }

    /// When [`Discovery::tick`] must be called next; `None`: only after an event.
    pub fn next_wake(&self) -> Option<Duration> {
        let soliciting =
            self.uses(Method::Ra) && (self.settings.prefixes.is_empty() || self.settings.ask_all);
        let solicit = if soliciting { self.links.next() } else { None };
        let expiry = self.known.iter().filter_map(|known| known.expires).min();
        let fallback = match (self.settings.fallback, self.used) {
            (Some(_), None) => self.fallback_from,
            _ => None,
        };
        let dns = self.dns.next().or_else(|| self.dns_needed_from());
        [solicit, expiry, fallback, dns].into_iter().flatten().min()
    }

    fn uses(&self, method: Method) -> bool {
        self.settings.methods.contains(&method)
    }

    /// Smaller is better.
    fn rank(&self, source: Source) -> usize {
        let method = |wanted| {
            self.settings.methods.iter().position(|method| *method == wanted).map_or(98, |at| at + 1)
        };
        match source {
            Source::Config => 0,
            Source::Ra => method(Method::Ra),
            Source::Dns => method(Method::Dns),
            Source::Fallback => 99,
        }
    }

    /// A router took `prefix` back: what keeps it in use now is only the rank of those who still vouch for it.
    fn withdrawn(&mut self, prefix: Pref64) {
        if let Some((used, rank)) = &mut self.used
            && *used == prefix
        {
            *rank = usize::MAX;
        }
    }

    /// From when on the resolver must be asked because no better source will know a prefix; `None`: not foreseeable.
    fn dns_needed_from(&self) -> Option<Duration> {
        if !self.uses(Method::Dns) || self.links.is_empty() || self.dns.is_active() {
            return None;
        }
        if self.settings.ask_all {
            return Some(Duration::ZERO);
        }
        let rank = self.rank(Source::Dns);
        let mut needed = Some(Duration::ZERO);
        for known in self.known.iter().filter(|known| self.rank(known.source) < rank) {
            match known.expires {
                None => return None,
                Some(at) => needed = needed.max(Some(at.saturating_sub(dns::LEAD))),
            }
        }
        needed
    }

    /// Brings the list, the choice and the DNS schedule up to date. Returns whether [`Discovery::known`] differs.
    fn update(&mut self, now: Duration) -> bool {
        self.ra.retain(|known| known.expires > now);
        self.dns.expire(now);
        let before = core::mem::take(&mut self.known);
        self.known = self.collect(now);
        self.choose();
        // The resolver is asked only while it matters (fleet manners, RFC 7050 §3 "only when needed").
        match self.dns_needed_from() {
            Some(from) if from <= now => self.dns.start(now + self.jitter.below(self.settings.start_delay)),
            _ if self.better_than_dns(now) && !self.settings.ask_all => self.dns.pause(),
            _ => {}
        }
        before != self.known
    }

    /// Whether a better source than DNS knows a prefix that will last.
    fn better_than_dns(&self, now: Duration) -> bool {
        let rank = self.rank(Source::Dns);
        self.known.iter().any(|known| {
            self.rank(known.source) < rank
                && known.expires.is_none_or(|at| at.saturating_sub(dns::LEAD) > now)
        })
    }

    fn collect(&self, now: Duration) -> Vec<Known> {
        let entry = |prefix, source, router, expires| Known { prefix, source, router, expires, used: false };
        let mut known: Vec<Known> =
            self.settings.prefixes.iter().map(|prefix| entry(*prefix, Source::Config, None, None)).collect();
        let mut ra: Vec<&RaPrefix> = self.ra.iter().collect();
        // Stable: equal preference keeps the order first seen.
        ra.sort_by_key(|known| core::cmp::Reverse(known.preference));
        known.extend(ra.iter().map(|ra| entry(ra.prefix, Source::Ra, Some(ra.router), Some(ra.expires))));
        known.extend(
            self.dns.prefixes().map(|(prefix, expires)| entry(prefix, Source::Dns, None, Some(expires))),
        );
        if let Some(prefix) = self.settings.fallback
            && (self.settings.methods.is_empty() || self.fallback_from.is_some_and(|from| from <= now))
        {
            known.push(entry(prefix, Source::Fallback, None, None));
        }
        known.sort_by_key(|known| self.rank(known.source));
        known
    }

    fn choose(&mut self) {
        let Some(best) = self.known.first().map(|known| self.rank(known.source)) else {
            self.used = None;
            return;
        };
        // The best rank that vouches for the prefix in use today, and in its time.
        let vouched = self.used.and_then(|(prefix, adopted)| {
            let voucher = self.known.iter().find(|known| known.prefix == prefix)?;
            let today = self.rank(voucher.source);
            Some((prefix, if adopted == usize::MAX { today } else { adopted.min(today) }))
        });
        self.used = match vouched {
            Some((prefix, rank)) if rank <= best => Some((prefix, rank)),
            _ => self.known.first().map(|known| (known.prefix, best)),
        };
        if let Some((prefix, _)) = self.used
            && let Some(index) = self.known.iter().position(|known| known.prefix == prefix)
        {
            self.known[..=index].rotate_right(1);
            self.known[0].used = true;
        }
    }
}

//! Which NAT64 prefixes are known: the discovery of the `pref64` crate, in the
//! daemon's terms.

use std::os::fd::BorrowedFd;
use std::time::{Instant, SystemTime};

use nix::poll::PollFlags;
use pref64::config::Nat64;
use pref64::discoverer::Discoverer;
use pref64::discovery::{Known, Settings};
use pref64::dns::now;
use pref64::state::{Entry, Expiry};
use serde_json::{Value, json};

use crate::host::snapshot::{LinkKind, Snapshot};

/// The known prefixes.
pub struct Prefixes {
    discoverer: Discoverer,
}

impl Prefixes {
    /// Begins to look for prefixes. What an earlier daemon knew and what is not expired holds until routers and
    /// resolvers, who are asked at once, say otherwise: a restart interrupts nothing.
    pub fn new(nat64: &Nat64, earlier: Vec<Entry>) -> Self {
        let mut discoverer = Discoverer::new(nat64, Settings::from(nat64));
        discoverer.resume(earlier);
        Self { discoverer }
    }

    /// What to poll, and for what.
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        self.discoverer.fds()
    }

    /// When to call [`Prefixes::process`] even if nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let wake = self.discoverer.deadline()?;
        Some(Instant::now() + wake.saturating_sub(now()))
    }

    /// Takes in what has arrived; true if what is known changed.
    pub fn process(&mut self) -> bool {
        let changed = self.discoverer.process();
        for problem in self.discoverer.problems() {
            tracing::info!("{problem}");
        }
        changed
    }

    /// Tells which links can lead to a NAT64: all that are up, but for ours.
    pub fn links_changed(&mut self, host: &Snapshot, device: Option<u32>) {
        let up: Vec<u32> = host
            .links
            .iter()
            .filter(|link| link.up && link.kind != LinkKind::Loopback && Some(link.index) != device)
            .map(|link| link.index)
            .collect();
        self.discoverer.links(&up);
    }

    /// Asks the resolvers afresh.
    pub fn resolvers_changed(&mut self) {
        self.discoverer.resolvers_changed();
    }

    /// The prefix to use.
    pub fn used(&self) -> Option<&Known> {
        self.discoverer.used()
    }

    /// Lines for the live prefix file.
    pub fn entries(&self, host: &Snapshot) -> Vec<Entry> {
        let (since_boot, wall) = (now(), SystemTime::now());
        self.discoverer
            .known()
            .iter()
            .map(|known| Entry {
                prefix: known.prefix,
                source: known.source,
                expires: match known.expires {
                    None => Expiry::Never,
                    Some(at) => Expiry::after(wall, at.saturating_sub(since_boot)),
                },
                router: known.router.map(|r| format!("{}%{}", r.address, host.link_name(r.ifindex))),
                used: known.used,
            })
            .collect()
    }

    /// The used prefix for the status document.
    pub fn describe_used(&self, host: Option<&Snapshot>) -> Value {
        self.used().map_or(Value::Null, |known| describe(known, host))
    }

    /// All known prefixes for the status document.
    pub fn describe(&self, host: Option<&Snapshot>) -> Value {
        self.discoverer.known().iter().map(|known| describe(known, host)).collect()
    }
}

fn describe(known: &Known, host: Option<&Snapshot>) -> Value {
    json!({
        "prefix": known.prefix.to_string(),
        "source": known.source.as_str(),
        "expires_s": known.expires.map(|at| at.saturating_sub(now()).as_secs()),
        "router": known.router.map(|r| match host {
            Some(host) => format!("{}%{}", r.address, host.link_name(r.ifindex)),
            None => format!("{}%{}", r.address, r.ifindex),
        }),
        "used": known.used,
    })
}

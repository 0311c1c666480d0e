//! Which NAT64 prefixes are known: the discovery of the `pref64` crate, in the
//! daemon's terms.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use pref64::config::Nat64;
use pref64::discovery::{Discovery, Known, Settings};
use pref64::jitter::Jitter;
use pref64::state::{Entry, Expiry};
use serde_json::{Value, json};

use crate::host::snapshot::{LinkKind, Snapshot};

/// The known prefixes.
pub struct Prefixes {
    discovery: Discovery,
    changed: bool,
}

fn now() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

impl Prefixes {
    /// Begins to look for prefixes.
    pub fn new(nat64: &Nat64) -> anyhow::Result<Self> {
        Ok(Self { discovery: Discovery::new(Settings::from(nat64), Jitter::new(1), now()), changed: true })
    }

    /// What to poll for reading.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// When to call [`Prefixes::process`] even if nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let wake = self.discovery.next_wake()?;
        Some(Instant::now() + wake.saturating_sub(now()))
    }

    /// Takes in what has arrived; true if what is known changed.
    pub fn process(&mut self) -> bool {
        let (changed, _) = self.discovery.tick(now());
        std::mem::take(&mut self.changed) | changed
    }

    /// Tells which links can lead to a NAT64: all that are up, but for ours.
    pub fn links_changed(&mut self, host: &Snapshot, device: Option<u32>) {
        let up: Vec<u32> = host
            .links
            .iter()
            .filter(|link| link.up && link.kind != LinkKind::Loopback && Some(link.index) != device)
            .map(|link| link.index)
            .collect();
        self.changed |= self.discovery.on_links(now(), &up);
    }

    /// Asks the resolvers afresh.
    pub fn resolvers_changed(&mut self) {
        self.changed |= self.discovery.on_resolvers(now());
    }

    /// The prefix to use.
    pub fn used(&self) -> Option<&Known> {
        self.discovery.used()
    }

    /// Lines for the live prefix file.
    pub fn entries(&self, host: &Snapshot) -> Vec<Entry> {
        let (since_boot, wall) = (now(), SystemTime::now());
        self.discovery
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
    pub fn describe_used(&self) -> Value {
        self.used().map_or(Value::Null, |known| describe(known, None))
    }

    /// All known prefixes for the status document.
    pub fn describe(&self, host: Option<&Snapshot>) -> Value {
        self.discovery.known().iter().map(|known| describe(known, host)).collect()
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

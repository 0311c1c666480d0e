//! The NAT64 prefixes in force: what clatd knows, else what is configured, else what the DNS says (RFC 7050).

use std::time::SystemTime;

use pref64::config::{Method, Nat64};

use super::dns::Dns;
use crate::choose::Prefixes;

/// Finds the prefixes. Never guesses: without a source there is none.
pub fn discover(config: &Nat64, dns: &mut Dns) -> Prefixes {
    let now = SystemTime::now();
    let path = pref64::state::prefix_file();
    let state = pref64::state::read(&path).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        pref64::state::State::default()
    });
    let mut known: Vec<_> =
        state.entries.iter().filter(|entry| !entry.expires.is_past(now)).map(|entry| entry.prefix).collect();
    let mut used = state.used(now).map(|entry| entry.prefix);
    let mut source = path.display().to_string();
    if used.is_none() {
        used = config.prefix.first().copied();
        known.extend(&config.prefix);
        source = "nat64.prefix of the configuration".into();
    }
    if used.is_none() && config.discover.contains(&Method::Dns) {
        let found = dns.nat64_prefixes();
        used = found.first().copied();
        known.extend(found);
        source = "the DNS (RFC 7050)".into();
    }
    if used.is_none() {
        used = config.fallback_prefix;
        known.extend(config.fallback_prefix);
        source = "nat64.fallback_prefix of the configuration".into();
    }
    match used {
        Some(prefix) => tracing::debug!("NAT64 prefix {prefix} from {source}"),
        None => tracing::debug!("no NAT64 prefix is known"),
    }
    Prefixes { used, known }
}

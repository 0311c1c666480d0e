//! What happened to each name: for the log, and as JSON.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::comma;
use crate::hosts::{Pin, Source, Why};
use crate::name::HostName;
use crate::plan::Event;

/// One name in a JSON document.
#[derive(Default, serde::Serialize)]
pub(super) struct NameReport {
    pub(super) name: String,
    /// `pinned`, `renewed`, `confirmed`, `kept`, `unpinned`, `failed`, `own-line`, `removed`, `not-pinned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<&'static str>,
    #[serde(flatten)]
    pub(super) pin: Option<PinReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Vec<Ipv6Addr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
    /// Number of the user's own line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) own_line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) in_config: Option<bool>,
}

/// A pin in a JSON document.
#[derive(serde::Serialize)]
pub(super) struct PinReport {
    addresses: Vec<Ipv6Addr>,
    /// `native` or `nat64`.
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ipv4: Vec<Ipv4Addr>,
    ttl: u32,
    expires: String,
}

impl From<&Pin> for PinReport {
    fn from(pin: &Pin) -> Self {
        let (source, prefix) = match pin.source {
            Source::Native => ("native", None),
            Source::Nat64(prefix) => ("nat64", Some(prefix.to_string())),
        };
        Self {
            addresses: pin.addresses.clone(),
            source,
            prefix,
            ipv4: pin.behind(),
            ttl: pin.ttl,
            expires: pin.expires.to_string(),
        }
    }
}

/// "native", or "203.0.113.25 through 2001:db8:64::/96".
pub(super) fn source(pin: &Pin) -> String {
    match pin.source {
        Source::Native => "native".into(),
        Source::Nat64(prefix) => format!("{} through {prefix}", comma(&pin.behind())),
    }
}

pub(super) fn names(events: &[(HostName, Event)]) -> Vec<NameReport> {
    events
        .iter()
        .map(|(name, event)| {
            let report = NameReport { name: name.to_string(), ..NameReport::default() };
            match event {
                Event::Pinned { pin, before } => NameReport {
                    event: Some("pinned"),
                    pin: Some(pin.into()),
                    before: before.clone(),
                    ..report
                },
                Event::Renewed(until) => {
                    NameReport { event: Some("renewed"), until: Some(until.to_string()), ..report }
                }
                Event::Confirmed => NameReport { event: Some("confirmed"), ..report },
                Event::Unpinned(why) => NameReport { event: Some("unpinned"), reason: Some(*why), ..report },
                Event::Kept { why, until } => NameReport {
                    event: Some("kept"),
                    reason: Some(*why),
                    until: Some(until.to_string()),
                    ..report
                },
                Event::Failed(why) => NameReport { event: Some("failed"), reason: Some(*why), ..report },
                Event::OwnLine(line) => {
                    NameReport { event: Some("own-line"), own_line: Some(*line), ..report }
                }
                Event::Removed { in_config } => {
                    NameReport { event: Some("removed"), in_config: Some(*in_config), ..report }
                }
                Event::NotPinned => NameReport { event: Some("not-pinned"), ..report },
            }
        })
        .collect()
}

/// One line per event.
pub(super) fn log(events: &[(HostName, Event)]) {
    for (name, event) in events {
        match event {
            Event::Pinned { pin, before: None } => {
                tracing::info!("{name}: pinned to {} ({})", comma(&pin.addresses), source(pin));
            }
            Event::Pinned { pin, before: Some(before) } => tracing::info!(
                "{name}: pinned to {} ({}), before that to {}",
                comma(&pin.addresses),
                source(pin),
                comma(before)
            ),
            Event::Renewed(until) => tracing::info!("{name}: unchanged, now good until {until}"),
            Event::Confirmed => tracing::debug!("{name}: confirmed"),
            Event::Removed { in_config: false } => tracing::info!("{name}: pin removed"),
            Event::Removed { in_config: true } => tracing::warn!(
                "{name}: pin removed, but it stands in hosts.pin of the configuration: the next sync pins it again"
            ),
            Event::NotPinned => tracing::info!("{name}: was not pinned"),
            _ => log_failure(name, event),
        }
    }
}

/// Only what did not go as wished.
pub(super) fn log_failures(events: &[(HostName, Event)]) {
    events.iter().for_each(|(name, event)| log_failure(name, event));
}

fn log_failure(name: &HostName, event: &Event) {
    match event {
        Event::Unpinned(why) => {
            tracing::warn!("{name}: unpinned, because {why}; sync pins it again when it can")
        }
        Event::Kept { why, until } => tracing::warn!("{name}: not confirmed ({why}); stays until {until}"),
        Event::Failed(why) => tracing::warn!("{name}: not pinned, because {why}"),
        Event::OwnLine(line) => {
            tracing::warn!(
                "{name}: not pinned, because line {line} of the hosts file is your own entry for it, which counts"
            );
        }
        _ => {}
    }
}

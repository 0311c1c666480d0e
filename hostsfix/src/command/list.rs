//! `list`: the pins as they stand in the file.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::report::{NameReport, PinReport, source};
use super::{Error, Exit, JSON_SCHEMA, Session, comma, parse};
use crate::hosts::{Entry, Origin, State};

#[derive(serde::Serialize)]
struct Report {
    schema: u32,
    command: &'static str,
    file: String,
    pins: Vec<ListedPin>,
}

#[derive(serde::Serialize)]
struct ListedPin {
    #[serde(flatten)]
    name: NameReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    unicode: Option<String>,
    by: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    want_ttl: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    want_a: Vec<std::net::Ipv4Addr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl Session {
    pub(super) fn list(&self) -> Result<Exit, Error> {
        let store = self.open()?;
        let bytes = store.read()?.bytes;
        let file = parse(store.path(), &bytes)?;
        let own = file.own_lines(&file.entries().iter().map(|e| e.name.clone()).collect::<BTreeSet<_>>());
        if self.json {
            let pins = file
                .entries()
                .iter()
                .map(|entry| ListedPin {
                    name: name_report(entry, own.get(&entry.name).copied()),
                    ..listed(entry)
                })
                .collect();
            self.print_json(&Report {
                schema: JSON_SCHEMA,
                command: "list",
                file: store.path().display().to_string(),
                pins,
            })?;
            return Ok(Exit::Ok);
        }
        let mut text = String::new();
        for entry in file.entries() {
            let by = match entry.origin {
                Origin::Add => "",
                Origin::Config => ", from the configuration",
            };
            let unicode = entry.name.unicode().map(|name| format!(" ({name})")).unwrap_or_default();
            let line = match &entry.state {
                State::Pinned(pin) => {
                    format!("{} ({}), good until {}{by}", comma(&pin.addresses), source(pin), pin.expires)
                }
                State::Waiting(waiting) => format!("not pinned since {}: {}{by}", waiting.since, waiting.why),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}{unicode}: {line}", entry.name);
            if let Some(own_line) = own.get(&entry.name) {
                let _ = writeln!(
                    text,
                    "    but line {own_line} of the file is your own entry for it, which counts"
                );
            }
        }
        self.print(text.as_bytes())?;
        Ok(Exit::Ok)
    }
}

fn name_report(entry: &Entry, own_line: Option<usize>) -> NameReport {
    let reason = match &entry.state {
        State::Pinned(_) => None,
        State::Waiting(waiting) => Some(waiting.why),
    };
    let pin = entry.pin().map(PinReport::from);
    NameReport { name: entry.name.to_string(), pin, reason, own_line, ..NameReport::default() }
}

fn listed(entry: &Entry) -> ListedPin {
    ListedPin {
        name: NameReport::default(),
        unicode: entry.name.unicode(),
        by: entry.origin,
        want_ttl: entry.want_ttl,
        want_a: entry.want_a.clone(),
        ports: entry.want_ports.clone(),
        since: match &entry.state {
            State::Pinned(_) => None,
            State::Waiting(waiting) => Some(waiting.since.to_string()),
        },
    }
}

//! `check`: is each pin reachable, and still what the DNS says?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv6Addr;

use super::{Error, Exit, JSON_SCHEMA, Session, comma, parse};
use crate::choose::Choice;
use crate::hosts::{Entry, Pin, State};
use crate::lifetime;
use crate::name::HostName;
use crate::net::{Network, ports_of, resolve};
use crate::plan::Query;
use crate::time::Instant;

#[derive(serde::Serialize)]
struct Report {
    schema: u32,
    command: &'static str,
    file: String,
    pins: Vec<Checked>,
}

#[derive(serde::Serialize)]
struct Checked {
    name: String,
    ok: bool,
    addresses: Vec<Ipv6Addr>,
    /// Those that accept a connection.
    reachable: Vec<Ipv6Addr>,
    /// What is wrong, in words; empty if nothing is.
    problems: Vec<String>,
}

impl Session {
    pub(super) fn check(
        &self,
        names: &[HostName],
        ports: &[u16],
        network: &mut impl Network,
    ) -> Result<Exit, Error> {
        let store = self.open()?;
        let bytes = store.read()?.bytes;
        let file = parse(store.path(), &bytes)?;
        let own = file.own_lines(&file.entries().iter().map(|e| e.name.clone()).collect::<BTreeSet<_>>());
        let mut checked: Vec<_> = file
            .entries()
            .iter()
            .filter(|entry| names.is_empty() || names.contains(&entry.name))
            .map(|entry| self.check_one(entry, own.get(&entry.name).copied(), ports, network))
            .collect();
        for name in names.iter().filter(|name| !file.entries().iter().any(|e| e.name == **name)) {
            checked.push(Checked {
                name: name.to_string(),
                ok: false,
                addresses: vec![],
                reachable: vec![],
                problems: vec!["not pinned".into()],
            });
        }
        let failed = checked.iter().filter(|pin| !pin.ok).count();
        let exit = Exit::of(failed, checked.len());
        if self.json {
            let file = store.path().display().to_string();
            self.print_json(&Report { schema: JSON_SCHEMA, command: "check", file, pins: checked })?;
            return Ok(exit);
        }
        let mut text = String::new();
        for pin in &checked {
            let verdict = if pin.ok {
                format!("ok, {} answers", comma(&pin.reachable))
            } else {
                pin.problems.join("; ")
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}: {verdict}", pin.name);
        }
        self.print(text.as_bytes())?;
        Ok(exit)
    }

    fn check_one(
        &self,
        entry: &Entry,
        own_line: Option<usize>,
        ports: &[u16],
        network: &mut impl Network,
    ) -> Checked {
        let mut problems = Vec::new();
        if let Some(line) = own_line {
            problems.push(format!("line {line} of the file is your own entry for it, which counts"));
        }
        let ports = if ports.is_empty() { ports_of(&entry.want_ports) } else { ports };
        let (addresses, reachable) = match &entry.state {
            State::Waiting(waiting) => {
                problems.push(format!("not pinned since {}: {}", waiting.since, waiting.why));
                (vec![], vec![])
            }
            State::Pinned(pin) => {
                let reachable = network.alive(&pin.addresses, ports);
                if reachable.is_empty() {
                    problems.push(format!(
                        "{} accepts no connection on port {}",
                        comma(&pin.addresses),
                        comma(ports)
                    ));
                }
                if lifetime::is_expired(pin, Instant::now()) {
                    problems.push(format!("expired at {}", pin.expires));
                }
                problems.extend(self.differs(entry, pin, network));
                (pin.addresses.clone(), reachable)
            }
        };
        Checked { name: entry.name.to_string(), ok: problems.is_empty(), addresses, reachable, problems }
    }

    /// How the pin differs from what would be chosen now.
    fn differs(&self, entry: &Entry, pin: &Pin, network: &mut impl Network) -> Option<String> {
        let query = Query {
            name: entry.name.clone(),
            want_a: entry.want_a.clone(),
            ports: entry.want_ports.clone(),
            previous: Some(pin.clone()),
        };
        match resolve(network, &query, self.private_ipv4) {
            Choice::Pin { addresses, source, .. } if addresses == pin.addresses && source == pin.source => {
                None
            }
            Choice::Pin { addresses, .. } | Choice::Moved { addresses, .. } => {
                Some(format!("sync would pin it to {}", comma(&addresses)))
            }
            Choice::Refused(why) => Some(format!("would not be pinned now, because {why}")),
            Choice::Unknown(down) => Some(format!("no DNS server answered ({})", down.0)),
        }
    }
}

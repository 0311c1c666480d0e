//! What a run makes of the entries of the managed block.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::choose::{Choice, Prefixes};
use crate::hosts::{Entry, HostsFile, Origin, Pin, Source, State, Waiting, Why};
use crate::lifetime;
use crate::name::HostName;
use crate::time::Instant;

/// What was asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// `add`.
    Add {
        /// The names.
        names: Vec<HostName>,
        /// `--ttl`.
        ttl: Option<u32>,
        /// `--a`.
        a: Vec<Ipv4Addr>,
        /// `--port`.
        ports: Vec<u16>,
    },
    /// `rm`; `None` is `--all`.
    Rm(Option<Vec<HostName>>),
    /// `sync`, with the names of `[hosts] pin`.
    Sync {
        /// The names.
        config: Vec<HostName>,
        /// `--force`.
        force: bool,
    },
}

/// A name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name.
    pub name: HostName,
    /// `--a`.
    pub want_a: Vec<Ipv4Addr>,
    /// `--port`.
    pub ports: Vec<u16>,
    /// The pin it has.
    pub previous: Option<Pin>,
}

/// What happened to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has these addresses now.
    Pinned {
        /// The pin.
        pin: Pin,
        /// What it had before, if it was pinned.
        before: Option<Vec<Ipv6Addr>>,
    },
    /// Confirmed; only its expiry moves.
    Renewed(Instant),
    /// Confirmed, nothing to write.
    Confirmed,
    /// It lost its addresses; the wish stands.
    Unpinned(Why),
    /// It could not be confirmed, and stays until it expires.
    Kept {
        /// Why.
        why: Why,
        /// Until when.
        until: Instant,
    },
    /// It could not be pinned.
    Failed(Why),
    /// The user has a line for it, which counts.
    OwnLine(usize),
    /// Taken out.
    Removed {
        /// The configuration asks for it, so that the next `sync` pins it again.
        in_config: bool,
    },
    /// `rm` of a name that is not pinned.
    NotPinned,
}

impl Event {
    /// Whether the name is not as the user wants it.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Unpinned(_) | Self::Failed(_) | Self::Kept { .. })
    }
}

/// The new entries and what happened on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For [`HostsFile::with_entries`].
    pub entries: Vec<Entry>,
    /// In the order of the entries.
    pub events: Vec<(HostName, Event)>,
}

impl Request {
    /// The names to look up, given the entries there are.
    #[must_use]
    pub fn queries(&self, entries: &[Entry], prefixes: &Prefixes, now: Instant) -> Vec<Query> {
        let find = |name: &HostName| entries.iter().find(|entry| entry.name == *name);
        let query = |entry: &Entry| Query {
            name: entry.name.clone(),
            want_a: entry.want_a.clone(),
            ports: entry.want_ports.clone(),
            previous: entry.pin().cloned(),
        };
        match self {
            Self::Rm(_) => Vec::new(),
            Self::Add { names, a, ports, .. } => names
                .iter()
                .map(|name| Query {
                    name: name.clone(),
                    want_a: a.clone(),
                    ports: ports.clone(),
                    previous: find(name).and_then(Entry::pin).cloned(),
                })
                .collect(),
            Self::Sync { config, force } => {
                let due = |entry: &&Entry| match &entry.state {
                    State::Waiting(_) => true,
                    State::Pinned(pin) => {
                        *force || has_other_prefix(pin, prefixes) || lifetime::is_due(entry, pin, now)
                    }
                };
                let stays = |entry: &&Entry| entry.origin == Origin::Add || config.contains(&entry.name);
                let new = config.iter().filter(|name| find(name).is_none());
                let new = new.map(|name| query(&new_entry(name.clone(), Origin::Config, now)));
                entries.iter().filter(stays).filter(due).map(query).chain(new).collect()
            }
        }
    }

    /// Applies the request. `answers` holds the choices for [`Request::queries`]; a name that has no
    /// answer (it was not due, or came into the file meanwhile) stays as it is.
    #[must_use]
    pub fn apply(
        &self,
        file: &HostsFile<'_>,
        entries: &[Entry],
        answers: &BTreeMap<HostName, Choice>,
        config: &[HostName],
        now: Instant,
    ) -> Outcome {
        let mut outcome = Outcome { entries: entries.to_vec(), events: Vec::new() };
        let names: BTreeSet<_> =
            entries.iter().map(|entry| entry.name.clone()).chain(answers.keys().cloned()).collect();
        let own = file.own_lines(&names);
        match self {
            Self::Add { names, ttl, a, ports } => {
                for name in names {
                    let Some(choice) = answers.get(name) else { continue };
                    outcome.add(name, choice, own.get(name).copied(), now, |entry| {
                        entry.want_ttl = *ttl;
                        entry.want_a.clone_from(a);
                        entry.want_ports.clone_from(ports);
                    });
                }
            }
            Self::Rm(names) => outcome.remove(names.as_deref(), config),
            Self::Sync { config, .. } => {
                outcome.sync(answers, &own, config, now);
            }
        }
        outcome
    }
}

impl Outcome {
    fn event(&mut self, name: &HostName, event: Event) {
        self.events.push((name.clone(), event));
    }

    fn add(
        &mut self,
        name: &HostName,
        choice: &Choice,
        own_line: Option<usize>,
        now: Instant,
        wish: impl FnOnce(&mut Entry),
    ) {
        if let Some(line) = own_line {
            return self.event(name, Event::OwnLine(line));
        }
        let at = self.entries.iter().position(|entry| entry.name == *name);
        let mut entry = match at {
            Some(at) => self.entries[at].clone(),
            None => new_entry(name.clone(), Origin::Add, now),
        };
        entry.origin = Origin::Add;
        wish(&mut entry);
        let before = entry.pin().cloned();
        let Choice::Pin { addresses, source, ttl } = choice else {
            return self.event(name, Event::Failed(reason(choice)));
        };
        let pin = new_pin(&entry, addresses, *source, *ttl, now);
        let event = match &before {
            Some(old) if same_addresses(old, &pin) => Event::Renewed(pin.expires),
            _ => Event::Pinned { pin: pin.clone(), before: before.map(|old| old.addresses) },
        };
        entry.state = State::Pinned(pin);
        match at {
            Some(at) => self.entries[at] = entry,
            None => self.entries.push(entry),
        }
        self.event(name, event);
    }

    fn remove(&mut self, names: Option<&[HostName]>, config: &[HostName]) {
        let in_config = |name: &HostName| config.contains(name);
        let gone = |entry: &Entry| names.is_none_or(|names| names.contains(&entry.name));
        for name in names.unwrap_or_default() {
            if !self.entries.iter().any(|entry| entry.name == *name) {
                self.event(name, Event::NotPinned);
            }
        }
        let removed: Vec<_> = self.entries.iter().filter(|e| gone(e)).map(|e| e.name.clone()).collect();
        for name in removed {
            let event = Event::Removed { in_config: in_config(&name) };
            self.event(&name, event);
        }
        self.entries.retain(|entry| !gone(entry));
    }

    fn sync(
        &mut self,
        answers: &BTreeMap<HostName, Choice>,
        own: &BTreeMap<HostName, usize>,
        config: &[HostName],
        now: Instant,
    ) {
        for mut entry in std::mem::take(&mut self.entries) {
            let name = entry.name.clone();
            if entry.origin == Origin::Config && !config.contains(&name) {
                self.event(&name, Event::Removed { in_config: false });
                continue;
            }
            let event = match (own.get(&name), answers.get(&name)) {
                (Some(line), _) => {
                    let news = wait(&mut entry, Why::OwnLine, now);
                    news.then_some(Event::OwnLine(*line))
                }
                (None, Some(choice)) => Some(refresh(&mut entry, choice, now)),
                (None, None) => None,
            };
            if let Some(event) = event {
                self.event(&name, event);
            }
            // The configuration remembers its wishes itself.
            if entry.pin().is_some() || entry.origin == Origin::Add {
                self.entries.push(entry);
            }
        }
        for name in config {
            let known =
                self.events.iter().any(|(n, _)| n == name) || self.entries.iter().any(|e| e.name == *name);
            match (answers.get(name), own.get(name)) {
                _ if known => {}
                (Some(_), Some(line)) => self.event(name, Event::OwnLine(*line)),
                (Some(Choice::Pin { addresses, source, ttl }), None) => {
                    let mut entry = new_entry(name.clone(), Origin::Config, now);
                    let pin = new_pin(&entry, addresses, *source, *ttl, now);
                    entry.state = State::Pinned(pin.clone());
                    self.entries.push(entry);
                    self.event(name, Event::Pinned { pin, before: None });
                }
                (Some(choice), None) => self.event(name, Event::Failed(reason(choice))),
                (None, _) => {}
            }
        }
    }
}

/// Applies a new choice to an entry.
fn refresh(entry: &mut Entry, choice: &Choice, now: Instant) -> Event {
    let previous = entry.pin().cloned();
    match (choice, previous) {
        (Choice::Pin { addresses, source, ttl }, previous) => {
            let pin = new_pin(entry, addresses, *source, *ttl, now);
            match previous {
                Some(old) if same_addresses(&old, &pin) => {
                    if !lifetime::is_rewritten(entry, &old, now) {
                        return Event::Confirmed;
                    }
                    let expires = pin.expires;
                    entry.state = State::Pinned(pin);
                    Event::Renewed(expires)
                }
                previous => {
                    entry.state = State::Pinned(pin.clone());
                    Event::Pinned { pin, before: previous.map(|old| old.addresses) }
                }
            }
        }
        (Choice::Moved { addresses, prefix }, Some(old)) if !lifetime::is_expired(&old, now) => {
            let pin = Pin { addresses: addresses.clone(), source: Source::Nat64(*prefix), ..old.clone() };
            entry.state = State::Pinned(pin.clone());
            Event::Pinned { pin, before: Some(old.addresses) }
        }
        // A resolver or a NAT64 that is not there at the moment says nothing about the name.
        (Choice::Unknown(_) | Choice::Moved { .. } | Choice::Refused(Why::NoNat64), Some(old))
            if !lifetime::is_expired(&old, now) =>
        {
            Event::Kept { why: reason(choice), until: old.expires }
        }
        (choice, previous) => {
            let why = reason(choice);
            wait(entry, why, now);
            if previous.is_some() { Event::Unpinned(why) } else { Event::Failed(why) }
        }
    }
}

/// Takes the addresses of an entry away. Returns whether that, or its reason, is new.
fn wait(entry: &mut Entry, why: Why, now: Instant) -> bool {
    let news = !matches!(&entry.state, State::Waiting(waiting) if waiting.why == why);
    if news {
        entry.state = State::Waiting(Waiting { why, since: now });
    }
    news
}

fn reason(choice: &Choice) -> Why {
    match choice {
        Choice::Refused(why) => *why,
        Choice::Unknown(_) | Choice::Moved { .. } | Choice::Pin { .. } => Why::DnsDown,
    }
}

fn same_addresses(old: &Pin, new: &Pin) -> bool {
    old.addresses == new.addresses && old.source == new.source
}

fn has_other_prefix(pin: &Pin, prefixes: &Prefixes) -> bool {
    matches!((pin.source, prefixes.used), (Source::Nat64(old), Some(used)) if old != used)
}

fn new_pin(entry: &Entry, addresses: &[Ipv6Addr], source: Source, ttl: Option<u32>, now: Instant) -> Pin {
    // An address that the user gave is good for as long as a pin may live.
    let ttl = ttl.unwrap_or(entry.want_ttl.unwrap_or(lifetime::LONGEST_LIFE));
    let expires = now.plus(lifetime::life(entry.want_ttl, ttl));
    Pin { addresses: addresses.to_vec(), source, ttl, expires }
}

fn new_entry(name: HostName, origin: Origin, now: Instant) -> Entry {
    let state = State::Waiting(Waiting { why: Why::NoAddress, since: now });
    Entry { name, origin, want_ttl: None, want_a: Vec::new(), want_ports: Vec::new(), state }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! `add`, `rm`, `sync` and `diff`: all that change the file, or would.

use std::collections::BTreeMap;

use super::report::{self, NameReport};
use super::{Error, Exit, JSON_SCHEMA, Session, entries_of, parse, recover};
use crate::choose::Choice;
use crate::diff;
use crate::hosts::{Entry, Origin};
use crate::name::HostName;
use crate::net::{Network, resolve};
use crate::plan::{Event, Outcome, Request};
use crate::saved::Saved;
use crate::store::{RealFs, Store, Written};
use crate::time::Instant;

#[derive(serde::Serialize)]
struct Report<'a> {
    schema: u32,
    command: &'a str,
    file: String,
    /// `replaced`, `in-place`, `unchanged`, or `no` for a dry run.
    written: &'a str,
    changed: bool,
    names: Vec<NameReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

impl Session {
    pub(super) fn change(
        &self,
        command: &str,
        request: &Request,
        dry_run: bool,
        network: &mut impl Network,
    ) -> Result<Exit, Error> {
        // A dry run leaves everything as it is, also what a killed run left behind.
        let store = if dry_run {
            Store::open(RealFs, &self.hosts_file, &pref64::state::run_dir()).map_err(Error::from)
        } else {
            self.open()
        };
        let store = match (store, request) {
            (Err(Error::Store(error)), Request::Rm(_)) if error.is_missing() => {
                return self.nothing_to_remove(dry_run);
            }
            (store, _) => store?,
        };
        let saved = Saved::of(store.path());
        let before = store.read()?.bytes;
        let answers = self.look_up(request, &entries_of(&parse(store.path(), &before)?, &saved), network);
        if dry_run {
            let (outcome, new) = self.apply(&store, &saved, request, &answers, &before)?;
            return self.show_diff(command, &store, &outcome, &before, &new);
        }
        let lock = store.lock()?;
        recover(&store, &lock)?;
        let mut outcome = Outcome::default();
        let written = store.update(&lock, |bytes| {
            let (now, new) = self.apply(&store, &saved, request, &answers, bytes)?;
            if !now.entries.iter().any(|entry| entry.origin == Origin::Add) {
                // Before the block goes, so that a kill in between cannot bring it back.
                keep(&saved, &now.entries);
            }
            outcome = now;
            Ok::<_, Error>(new)
        })?;
        keep(&saved, &outcome.entries);
        drop(lock);
        report::log(&outcome.events);
        if self.json {
            let written = match written {
                Written::Unchanged => "unchanged",
                Written::Replaced => "replaced",
                Written::InPlace => "in-place",
            };
            self.print_json(&Report {
                schema: JSON_SCHEMA,
                command,
                file: store.path().display().to_string(),
                written,
                changed: written != "unchanged",
                names: report::names(&outcome.events),
                diff: None,
            })?;
        }
        Ok(exit(request, &outcome))
    }

    /// Looks up what the request needs, without holding the lock.
    fn look_up(
        &self,
        request: &Request,
        entries: &[Entry],
        network: &mut impl Network,
    ) -> BTreeMap<HostName, Choice> {
        let nothing = match request {
            Request::Rm(_) => true,
            Request::Sync { config, .. } => entries.is_empty() && config.is_empty(),
            Request::Add { .. } => false,
        };
        if nothing {
            return BTreeMap::new();
        }
        let queries = request.queries(entries, network.prefixes(), Instant::now());
        queries
            .into_iter()
            .map(|query| {
                let choice = resolve(network, &query, self.private_ipv4);
                if let Choice::Unknown(down) = &choice {
                    tracing::debug!("{}: {}", query.name, down.0);
                }
                (query.name, choice)
            })
            .collect()
    }

    fn apply(
        &self,
        store: &Store,
        saved: &Saved,
        request: &Request,
        answers: &BTreeMap<HostName, Choice>,
        bytes: &[u8],
    ) -> Result<(Outcome, Vec<u8>), Error> {
        let file = parse(store.path(), bytes)?;
        let entries = entries_of(&file, saved);
        if !file.has_block() && !entries.is_empty() && !matches!(request, Request::Rm(_)) {
            tracing::info!(
                "{}: written anew by another program; putting {} pins back",
                store.path().display(),
                entries.len()
            );
        }
        for line in file.stray_lines() {
            tracing::warn!(
                "{}: line {line} inside the managed block is not of hostsfix; the next change moves it below the block",
                store.path().display()
            );
        }
        let outcome = request.apply(&file, &entries, answers, &self.pins, Instant::now());
        let new = file.with_entries(&outcome.entries);
        Ok((outcome, new))
    }

    fn show_diff(
        &self,
        command: &str,
        store: &Store,
        outcome: &Outcome,
        before: &[u8],
        new: &[u8],
    ) -> Result<Exit, Error> {
        let path = store.path().display().to_string();
        let diff = diff::unified(before, new, &path, &path);
        if self.json {
            self.print_json(&Report {
                schema: JSON_SCHEMA,
                command,
                file: path,
                written: "no",
                changed: before != new,
                names: report::names(&outcome.events),
                diff: Some(String::from_utf8_lossy(&diff).into_owned()),
            })?;
        } else {
            self.print(&diff)?;
        }
        report::log_failures(&outcome.events);
        let failed = outcome.events.iter().filter(|(_, event)| event.is_failure()).count();
        Ok(if command == "diff" { Exit::Ok } else { Exit::of(failed, outcome.events.len()) })
    }

    /// `rm` without a hosts file.
    fn nothing_to_remove(&self, dry_run: bool) -> Result<Exit, Error> {
        let saved = Saved::of(&self.hosts_file);
        tracing::info!("{} does not exist; nothing to remove", self.hosts_file.display());
        if !dry_run {
            keep(&saved, &[]);
        }
        Ok(Exit::Ok)
    }
}

/// Keeps the copy of the wishes. Without it, pins work all the same.
fn keep(saved: &Saved, entries: &[Entry]) {
    if let Err(error) = saved.store(entries) {
        let path = saved.path().display();
        // Other users than root have hosts files that nobody writes anew behind their back.
        if rustix::process::geteuid().is_root() {
            tracing::warn!(
                "cannot keep a copy of the pins in {path}: {error}; they will be lost if another program writes \
                 the hosts file anew"
            );
        } else {
            tracing::debug!("cannot keep a copy of the pins in {path}: {error}");
        }
    }
}

fn exit(request: &Request, outcome: &Outcome) -> Exit {
    let failed = outcome.events.iter().filter(|(_, event)| event.is_failure()).count();
    match request {
        Request::Rm(_) => Exit::Ok,
        Request::Add { .. } => Exit::of(failed, outcome.events.len()),
        Request::Sync { .. } => {
            let kept = outcome.events.iter().any(|(_, event)| matches!(event, Event::Kept { .. }));
            let fine = outcome.entries.iter().any(|entry| entry.pin().is_some()) || kept;
            Exit::of(failed, failed + usize::from(fine))
        }
    }
}

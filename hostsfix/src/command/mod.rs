//! The commands: read, look up without the lock, then decide and write under it.

mod change;
mod check;
mod list;
mod report;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use pref64::config::{Config, ConfigError};

use crate::cli::{Cli, Command, Global};
use crate::hosts::{Entry, HostsFile, MarkerError};
use crate::name::HostName;
use crate::net::Network;
use crate::plan::Request;
use crate::saved::Saved;
use crate::store::journal::Found;
use crate::store::{Lock, RealFs, Store, StoreError};

/// Version of every JSON document that hostsfix prints. Keys may be added; a change of meaning raises it.
pub const JSON_SCHEMA: u32 = 1;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Ok = 0,
    /// Nothing of what was asked could be done.
    Failed = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// Some names failed.
    Degraded = 3,
    /// A permission is lacking.
    Permission = 4,
}

impl Exit {
    /// From the number of names and how many of them failed.
    fn of(failed: usize, total: usize) -> Self {
        match failed {
            0 => Self::Ok,
            _ if failed < total => Self::Degraded,
            _ => Self::Failed,
        }
    }
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name that cannot be pinned.
    #[error("{origin}{name:?}: {reason}")]
    Name {
        /// "" for the command line, else the key.
        origin: &'static str,
        /// As given.
        name: String,
        /// Why not.
        reason: crate::name::NameError,
    },
    /// The hosts file or its lock.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Markers that make no block.
    #[error("{path}: {error}; nothing was changed (repair or delete these markers by hand)", path = path.display())]
    Marker {
        /// The hosts file.
        path: PathBuf,
        /// Where and what.
        error: MarkerError,
    },
    /// Standard output.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// The exit code for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Name { .. } => Exit::Usage,
            Self::Store(error) if error.is_permission() => Exit::Permission,
            Self::Store(_) | Self::Marker { .. } | Self::Output(_) => Exit::Failed,
        }
    }
}

/// Loads the configuration that the options name.
///
/// # Errors
/// When it is wrong or unreadable.
pub fn load_config(global: &Global) -> Result<Config, Error> {
    Ok(Config::load(global.config.as_deref(), &global.sets)?)
}

/// Runs a command.
///
/// # Errors
/// When nothing of it could be done.
pub fn run(cli: &Cli, config: &Config, network: &mut impl Network) -> Result<Exit, Error> {
    let session = Session::new(cli, config)?;
    match &cli.command {
        Command::Add(args) => {
            let request = Request::Add {
                names: names("", &args.names)?,
                ttl: args.ttl,
                a: args.a.clone(),
                ports: args.ports.clone(),
            };
            session.change("add", &request, args.dry_run, network)
        }
        Command::Rm(args) => {
            let request = Request::Rm(if args.all { None } else { Some(names("", &args.names)?) });
            session.change("rm", &request, args.dry_run, network)
        }
        Command::Sync(args) => {
            let request = Request::Sync { config: session.pins.clone(), force: args.force };
            session.change("sync", &request, args.dry_run, network)
        }
        Command::Diff => {
            let request = Request::Sync { config: session.pins.clone(), force: false };
            session.change("diff", &request, true, network)
        }
        Command::List => session.list(),
        Command::Check(args) => session.check(&names("", &args.names)?, &args.ports, network),
    }
}

/// Configuration and options of one run.
struct Session {
    hosts_file: PathBuf,
    json: bool,
    private_ipv4: bool,
    /// `[hosts] pin`.
    pins: Vec<HostName>,
}

impl Session {
    fn new(cli: &Cli, config: &Config) -> Result<Self, Error> {
        Ok(Self {
            hosts_file: cli.global.hosts_file.clone().unwrap_or_else(|| config.hosts.file.clone()),
            json: cli.global.json,
            private_ipv4: config.nat64.private_ipv4,
            pins: names("hosts.pin: ", &config.hosts.pin)?,
        })
    }

    /// The hosts file; a write that was cut short is undone first if this user may do that.
    fn open(&self) -> Result<Store, Error> {
        let store = Store::open(RealFs, &self.hosts_file, &pref64::state::run_dir())?;
        if store.has_leftovers() {
            let recovered = store.lock().and_then(|lock| recover(&store, &lock));
            if let Err(error) = recovered {
                if !error.is_permission() {
                    return Err(error.into());
                }
                tracing::warn!("an earlier write was cut short, and only root can clear that up: {error}");
            }
        }
        Ok(store)
    }

    fn print(&self, text: &[u8]) -> Result<(), Error> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text).and_then(|()| out.flush()) {
            // The reader has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    fn print_json(&self, document: &impl serde::Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_vec(document).map_err(std::io::Error::other)?;
        text.push(b'\n');
        self.print(&text)
    }
}

/// Clears up after a run that was killed, and says so.
fn recover(store: &Store, lock: &Lock) -> Result<(), StoreError> {
    let path = store.path().display();
    match store.recover(lock)?.map(|recovered| recovered.0) {
        None => {}
        Some(Found::Torn) => {
            tracing::warn!("{path}: an earlier write was cut short; the content before it is back")
        }
        Some(Found::Foreign) => {
            tracing::warn!(
                "{path}: an earlier write was cut short, and the file was edited since; the edit stays"
            );
        }
        Some(found @ (Found::Old | Found::New)) => {
            tracing::info!("{path}: cleared up after a killed run ({found:?})")
        }
    }
    Ok(())
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<HostsFile<'a>, Error> {
    HostsFile::parse(bytes).map_err(|error| Error::Marker { path: path.to_owned(), error })
}

/// The entries to work on: those of the block; if the file has none, because something wrote it anew,
/// those of the copy.
fn entries_of(file: &HostsFile<'_>, saved: &Saved) -> Vec<Entry> {
    if file.has_block() {
        return file.entries().to_vec();
    }
    match saved.load() {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(
                "cannot read {}: {error}; pins that were in the file are not put back",
                saved.path().display()
            );
            Vec::new()
        }
    }
}

/// Parses names, without duplicates.
fn names(origin: &'static str, texts: &[String]) -> Result<Vec<HostName>, Error> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for text in texts {
        let name: HostName =
            text.parse().map_err(|reason| Error::Name { origin, name: text.clone(), reason })?;
        if seen.insert(name.clone()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// "a, b, c".
fn comma(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

//! The shell around [`Discovery`]: owns the sockets, does what it asks for, tells it what came of that.
//!
//! An event loop polls [`Discoverer::fds`] until [`Discoverer::deadline`] and then calls [`Discoverer::process`]. Errors
//! of sockets are never final: what is broken is opened again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use crate::config::{Method, Nat64};
use crate::discovery::{Action, Discovery, DnsOutcome, Known, Router, Settings};
use crate::dns::{self, Answer, Name, Options, Query, RecordType, nat64, system_resolvers};
use crate::jitter::Jitter;
use crate::ra;
use crate::ra_socket::RaSocket;
use crate::server::Server;
use crate::state;
use crate::watch::{ClockWatch, ResolverWatch};

/// How long to wait before a broken RA socket is opened again.
const REOPEN: Duration = Duration::from_secs(30);
/// An answer without a TTL is believed for this long (RFC 2308 §5 wants one; some servers leave it out).
const DEFAULT_NEGATIVE_TTL: Duration = Duration::from_secs(300);

/// Messages taken in at once: a flood must not keep the event loop from its other work.
const BATCH: usize = 64;

/// What the resolver said last about `ipv4only.arpa`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsReport {
    /// It synthesises addresses: a DNS64, with these prefixes.
    Dns64,
    /// It answered without a single AAAA record: no DNS64.
    NoDns64,
    /// It answered with addresses that hide no well-known IPv4 address: not a DNS64, perhaps a captive portal.
    Strange,
    /// There was no answer; the reason.
    Failed(String),
}

/// Discovery with its sockets.
pub struct Discoverer {
    discovery: Discovery,
    servers: Vec<Server>,
    listens: bool,
    ra: Option<RaSocket>,
    reopen: Option<Duration>,
    query: Option<Query>,
    changed: bool,
    problems: Vec<String>,
    dns_report: Option<DnsReport>,
    /// `None` where the kernel refuses it, or where there is nothing to watch for.
    resolvers: Option<ResolverWatch>,
    clock: Option<ClockWatch>,
    /// What an earlier process knew, until there are links to tie it to.
    resume: Vec<state::Entry>,
}

impl Discoverer {
    /// Begins to discover as configured. `settings` are usually `Settings::from(nat64)`. Without the privilege for a
    /// raw socket, Router Advertisements are not heard; [`Discoverer::problems`] says so.
    pub fn new(nat64: &Nat64, settings: Settings) -> Self {
        let listens =
            settings.methods.contains(&Method::Ra) && (settings.prefixes.is_empty() || settings.ask_all);
        let jitter = Jitter::new(dns::random());
        let mut this = Self {
            discovery: Discovery::new(settings, jitter, dns::now()),
            servers: nat64.dns_servers.clone(),
            listens,
            ra: None,
            reopen: None,
            query: None,
            changed: true,
            problems: Vec::new(),
            dns_report: None,
            resolvers: None,
            clock: None,
            resume: Vec::new(),
        };
        if nat64.dns_servers.is_empty() && nat64.discover.contains(&Method::Dns) {
            this.resolvers = this.or_problem("watch /etc/resolv.conf", ResolverWatch::new());
        }
        this.clock = this.or_problem("watch the clock", ClockWatch::new());
        this.open_ra(dns::now());
        this
    }

    /// Every known prefix: the used one first, then by preference.
    pub fn known(&self) -> &[Known] {
        self.discovery.known()
    }

    /// The prefix in use.
    pub fn used(&self) -> Option<&Known> {
        self.discovery.used()
    }

    /// Whether advertisements are heard.
    pub fn hears_advertisements(&self) -> bool {
        self.ra.is_some()
    }

    /// What went wrong since the last call, a line each; nothing of it is final.
    pub fn problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// What the resolver said last; `None`: nothing yet.
    pub fn dns_report(&self) -> Option<&DnsReport> {
        self.dns_report.as_ref()
    }

    /// What to poll, and for what. It changes: ask before every wait.
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let readable = [
            self.ra.as_ref().map(AsFd::as_fd),
            self.resolvers.as_ref().map(AsFd::as_fd),
            self.clock.as_ref().map(AsFd::as_fd),
        ];
        let query = self.query.as_ref().and_then(|query| Some((query.fd()?, query.events())));
        readable.into_iter().flatten().map(|fd| (fd, PollFlags::POLLIN)).chain(query).collect()
    }

    /// When to call [`Discoverer::process`] even if nothing arrives, on the clock of [`dns::now`].
    pub fn deadline(&self) -> Option<Duration> {
        let query = self.query.as_ref().map(Query::deadline);
        [self.discovery.next_wake(), query, self.reopen].into_iter().flatten().min()
    }

    /// The links that can lead to a NAT64 and are up.
    pub fn links(&mut self, up: &[u32]) {
        self.changed |= self.discovery.on_links(dns::now(), up);
        if !up.is_empty() {
            for entry in std::mem::take(&mut self.resume) {
                self.resume_entry(&entry);
            }
        }
    }

    /// Takes over what an earlier process wrote to the live prefix file, so that a restart interrupts nothing: call it
    /// before the first [`Discoverer::links`], which puts it to use. What is expired or configured otherwise is left
    /// out; routers and resolvers are asked at once and have the last word ([`Discovery::restore`]).
    pub fn resume(&mut self, entries: Vec<state::Entry>) {
        self.resume = entries;
    }

    fn resume_entry(&mut self, entry: &state::Entry) {
        let wall = std::time::SystemTime::now();
        if entry.expires.is_past(wall) {
            return;
        }
        let router = entry.router.as_deref().and_then(|text| {
            let (address, interface) = text.split_once('%')?;
            let ifindex = nix::net::if_::if_nametoindex(interface).ok()?;
            Some(Router { address: address.parse().ok()?, ifindex })
        });
        let known =
            Known { prefix: entry.prefix, source: entry.source, router, expires: None, used: entry.used };
        self.restore(&known, entry.expires.remaining(wall));
    }

    /// The resolvers changed, or somebody wants to know afresh. Changes of resolv.conf are noticed without this.
    pub fn resolvers_changed(&mut self) {
        self.changed |= self.discovery.on_resolvers(dns::now());
    }

    /// Takes over what an earlier process knew; see [`Discovery::restore`].
    pub fn restore(&mut self, known: &Known, lifetime: Option<Duration>) {
        self.changed |= self.discovery.restore(dns::now(), known, lifetime);
    }

    /// Takes in what has arrived and lets time pass. True if what is known has changed since the last call.
    pub fn process(&mut self) -> bool {
        let now = dns::now();
        if self.reopen.is_some_and(|at| at <= now) {
            self.open_ra(now);
        }
        if self.resolvers.as_ref().is_some_and(ResolverWatch::changed) {
            tracing::debug!("the resolvers may have changed: asking them");
            self.resolvers_changed();
        }
        self.look_at_clock();
        self.hear(now);
        self.hear_resolver();
        let (changed, actions) = self.discovery.tick(dns::now());
        self.changed |= changed;
        for action in actions {
            self.act(action);
        }
        std::mem::take(&mut self.changed)
    }

    fn open_ra(&mut self, now: Duration) {
        self.reopen = None;
        if !self.listens {
            return;
        }
        match RaSocket::open() {
            Ok(socket) => self.ra = Some(socket),
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => " (needs CAP_NET_RAW, or run as root)",
                    _ => "",
                };
                self.problems.push(format!("cannot listen for Router Advertisements: {error}{hint}"));
                self.reopen = Some(now + REOPEN);
            }
        }
    }

    /// Times of day derived from what is known are other ones now.
    fn look_at_clock(&mut self) {
        let set = self.clock.as_ref().map(ClockWatch::was_set);
        match set.transpose() {
            Ok(set) => self.changed |= set.unwrap_or(false),
            Err(error) => {
                self.problems.push(format!("cannot watch the clock: {error}"));
                self.clock = None;
            }
        }
    }

    fn or_problem<T>(&mut self, what: &str, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.problems.push(format!("cannot {what}: {error}"))).ok()
    }

    fn hear(&mut self, now: Duration) {
        let Some(socket) = &self.ra else { return };
        for _ in 0..BATCH {
            let received = match socket.receive() {
                Ok(Some(received)) => received,
                Ok(None) => return,
                Err(error) => {
                    self.problems.push(format!("cannot hear Router Advertisements: {error}"));
                    self.ra = None;
                    self.reopen = Some(now + REOPEN);
                    return;
                }
            };
            let router = received.router;
            match ra::parse(&received.message, router.address, received.hop_limit) {
                Ok(advert) => {
                    for ignored in &advert.ignored {
                        tracing::debug!("from router {}: ignored {ignored}", router.address);
                    }
                    self.changed |= self.discovery.on_advert(now, router, &advert);
                }
                Err(error) => tracing::debug!("ignored a Router Advertisement: {error}"),
            }
        }
    }

    fn hear_resolver(&mut self) {
        let Some(outcome) = self.query.as_mut().and_then(Query::process) else { return };
        self.query = None;
        let outcome = match outcome {
            Ok(Answer::Found(found)) => {
                let prefixes = nat64::prefixes(found.addresses);
                if prefixes.is_empty() {
                    self.dns_report = Some(DnsReport::Strange);
                    DnsOutcome::Negative { ttl: found.ttl }
                } else {
                    self.dns_report = Some(DnsReport::Dns64);
                    DnsOutcome::Found { prefixes, ttl: found.ttl }
                }
            }
            Ok(Answer::NoData { ttl } | Answer::NxDomain { ttl }) => {
                self.dns_report = Some(DnsReport::NoDns64);
                DnsOutcome::Negative { ttl: ttl.unwrap_or(DEFAULT_NEGATIVE_TTL) }
            }
            Err(error) => {
                self.dns_report = Some(DnsReport::Failed(error.to_string()));
                self.problems.push(format!("cannot ask for {}: {error}", dns::IPV4ONLY));
                DnsOutcome::Failed
            }
        };
        self.changed |= self.discovery.on_dns(dns::now(), &outcome);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Solicit { ifindex } => {
                let Some(socket) = &self.ra else { return };
                if let Err(error) = socket.solicit(ifindex) {
                    tracing::debug!("cannot send a Router Solicitation on interface {ifindex}: {error}");
                    self.discovery.on_solicit_failed(dns::now(), ifindex);
                }
            }
            Action::QueryDns => match self.start_query() {
                Ok(query) => self.query = Some(query),
                Err(error) => {
                    self.dns_report = Some(DnsReport::Failed(error.clone()));
                    self.problems.push(error);
                    self.query = None;
                    self.changed |= self.discovery.on_dns(dns::now(), &DnsOutcome::Failed);
                }
            },
            Action::CancelDns => self.query = None,
        }
    }

    fn start_query(&self) -> Result<Query, String> {
        let servers = match self.servers.as_slice() {
            // Read each time: the file changes with the network.
            [] => system_resolvers().map_err(|error| error.to_string())?.servers,
            configured => configured.to_vec(),
        };
        let name = Name::parse(dns::IPV4ONLY).map_err(|error| error.to_string())?;
        Ok(Query::start(&servers, &name, RecordType::Aaaa, Options::default()))
    }
}

//! The daemon: events come in through one `poll`, go through the state
//! machine, and what it wants is done to the host. This is the only place
//! where the parts meet.

mod handover;
pub mod preflight;
mod report;

use std::fs;
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use pref64::config::Config;
use pref64::{Pref64, Source, state};
use xlat::OwnIpv4;

use crate::counters::Counters;
use crate::datapath::bpf::{FastPathError, TcxLink};
use crate::datapath::tun::TunError;
use crate::datapath::{Datapath, PacketSettings, remove_flow_records};
use crate::exit::{FAILED, Fatal, PERMISSION};
use crate::host::change::{Change, Tools};
use crate::host::journal::Journal;
use crate::host::reconcile::Reconciler;
use crate::host::snapshot::Snapshot;
use crate::machine::address::Secret;
use crate::machine::{Decision, Desired, Event, Identity, Machine, State, UsedPrefix};
use crate::neighbour::{Guard, Outcome};
use crate::netlink::{Monitor, ipv4_addresses_except};
use crate::notify::Notifier;
use crate::prefixes::Prefixes;
use crate::status::StatusSocket;
pub use handover::predecessor;
use handover::{INGRESS, LONGEST_PREDECESSOR};
use preflight::RunDir;

/// Changes of the host that come within this time of each other are looked at together.
const SETTLE: Duration = Duration::from_millis(20);
/// The host is read afresh this often even if it says nothing (a lost notification must not matter for ever).
const RECHECK: Duration = Duration::from_secs(300);

/// Expired flow records are deleted this often.
const SWEEP: Duration = Duration::from_secs(300);
/// While the operator is still looking, a taken name ends the program.
const JUST_STARTED: Duration = Duration::from_secs(1);

/// Reads the configuration as it is now.
pub type Reread = Box<dyn Fn() -> Result<Config, String>>;

/// Why a daemon ended.
#[derive(Debug)]
pub enum End {
    /// A signal asked for it.
    Stop,
    /// A signal asked for it, and another process follows.
    Restart,
    /// The configuration changed: start again with this one, and with what holds the place on the uplink meanwhile.
    Reload(Box<Config>, Option<TcxLink>),
}

/// The daemon.
pub struct Daemon {
    config: Config,
    run_dir: PathBuf,
    counters: Arc<Counters>,
    machine: Machine,
    tools: Tools,
    reconciler: Reconciler,
    datapath: Option<Datapath>,
    /// What an earlier daemon left on the uplink, until ours is there.
    predecessor: Option<TcxLink>,
    /// It may have left filters, too.
    leftovers: bool,
    /// Filters of ours are left to the next daemon.
    handing_over: bool,
    /// What the host was last brought to.
    reached: Option<(Desired, OwnIpv4)>,
    guard: Option<Guard>,
    prefixes: Prefixes,
    /// What the log says is in use.
    logged_prefix: Option<(Pref64, Source)>,
    monitor: Monitor,
    status: StatusSocket,
    signals: SignalFd,
    failed: Arc<EventFd>,
    decision: Decision,
    since: Instant,
    /// When to read the host again.
    look: Instant,
    /// When to delete expired flow records.
    sweep: Instant,
    started: Instant,
    notifier: Notifier,
    /// How to read the configuration again.
    reread: Reread,
    /// Why the event loop ends, once it shall.
    end: Option<End>,
    // Last: the lock outlives everything that it protects.
    _lock: RunDir,
}

/// Undoes what a killed clatd left behind; says what was done.
pub fn cleanup(run_dir: PathBuf) -> Result<(), Fatal> {
    let _lock = RunDir::lock(&run_dir)?;
    let mut tools = tools(&run_dir)?;
    let noted = tools.journal.entries().len();
    let mut errors = tools.undo_journal();
    remove_leftovers(&run_dir);
    let _ = fs::remove_file(run_dir.join(EARLIER_PREFIXES));
    let records = remove_flow_records().unwrap_or_else(|error| {
        errors.push(anyhow::Error::from(error).context("cannot remove the flow records"));
        false
    });
    match errors.first() {
        None => {
            let records = if records { ", flow records removed" } else { "" };
            println!("clatd: {noted} leftover change(s) undone{records}");
            Ok(())
        }
        Some(error) => Err(Fatal::failed(format!("cannot undo everything: {error:#}"))),
    }
}

/// What was known when the daemon stopped. Others read the live file only, which a stopped daemon must not leave.
const EARLIER_PREFIXES: &str = "prefix.last";

/// The prefixes that an earlier daemon knew: of one that was killed, or of one that stopped.
fn earlier_prefixes(run_dir: &Path) -> Vec<state::Entry> {
    [state::PREFIX_FILE, EARLIER_PREFIXES]
        .iter()
        .find_map(|name| state::read(&run_dir.join(name)).ok())
        .map(|state| state.entries)
        .unwrap_or_default()
}

/// Files in the run directory that belong to a running daemon only.
fn remove_leftovers(run_dir: &Path) {
    let _ = state::remove(&run_dir.join(state::PREFIX_FILE));
    let _ = fs::remove_file(run_dir.join(crate::status::SOCKET));
}

fn tools(run_dir: &Path) -> Result<Tools, Fatal> {
    let journal = Journal::open(run_dir)
        .map_err(|error| Fatal::failed(format!("cannot read the journal of changes: {error}")))?;
    Tools::new(journal).map_err(|error| Fatal::failed(error.to_string()))
}

impl Daemon {
    /// Checks what must be right, undoes what a predecessor left, and gets ready. Nothing of the host is changed yet.
    ///
    /// `reread` is what SIGHUP does to the configuration.
    ///
    /// `predecessor` holds the place on the uplink until this daemon has it.
    pub fn new(
        config: Config,
        run_dir: PathBuf,
        predecessor: Option<TcxLink>,
        reread: Reread,
    ) -> Result<Self, Fatal> {
        preflight::privileges()?;
        let lock = RunDir::lock(&run_dir)?;
        let mut tools = tools(&run_dir)?;
        for error in tools.undo_settings() {
            tracing::warn!("while undoing what an earlier clatd left: {error:#}");
        }
        // Before the first look, so that nothing is missed in between.
        let monitor = Monitor::new().map_err(|error| Fatal::failed(error.to_string()))?;
        let host = tools.netlink.snapshot().map_err(|error| Fatal::failed(error.to_string()))?;
        preflight::host(&config, &host)?;
        let setup = || -> anyhow::Result<(StatusSocket, SignalFd, EventFd, Prefixes)> {
            let mut mask = SigSet::empty();
            for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
                mask.add(signal);
            }
            mask.thread_block().context("cannot block signals")?;
            let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .context("cannot receive signals")?;
            let failed = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .context("cannot create an eventfd")?;
            let status = StatusSocket::bind(&run_dir)
                .with_context(|| format!("cannot create the status socket in {}", run_dir.display()))?;
            Ok((status, signals, failed, Prefixes::new(&config.nat64, earlier_prefixes(&run_dir))))
        };
        let (status, signals, failed, prefixes) =
            setup().map_err(|error| Fatal::failed(format!("{error:#}")))?;
        let machine_id = fs::read("/etc/machine-id").unwrap_or_default();
        let now = Instant::now();
        let decision = Decision { state: State::Starting, desired: None, check_address: None };
        Ok(Self {
            machine: Machine::new(config.clat.clone(), Secret::from_machine_id(&machine_id)),
            config,
            run_dir,
            counters: Arc::default(),
            tools,
            reconciler: Reconciler::default(),
            datapath: None,
            predecessor,
            leftovers: true,
            handing_over: false,
            reached: None,
            guard: None,
            prefixes,
            logged_prefix: None,
            monitor,
            status,
            signals,
            failed: Arc::new(failed),
            decision,
            since: now,
            look: now,
            sweep: now + SWEEP,
            started: now,
            notifier: Notifier::from_environment(),
            reread,
            end: None,
            _lock: lock,
        })
    }

    /// Runs until a signal ends it, and undoes everything.
    pub fn run(mut self) -> Result<End, Fatal> {
        let outcome = self.events();
        match &outcome {
            Ok(End::Reload(..)) => self.notifier.reloading(),
            _ => self.notifier.stopping(),
        }
        self.handing_over = matches!(outcome, Ok(End::Reload(..) | End::Restart));
        // Whether it will be needed is the manager's to know; without one, all goes.
        let ingress = self.datapath.as_mut().and_then(Datapath::take_ingress).or(self.predecessor.take());
        let errors = self.leave();
        let end = match (outcome, ingress) {
            (Ok(End::Reload(config, _)), ingress) => End::Reload(config, ingress),
            (outcome, Some(ingress)) if self.notifier.is_present() => {
                ingress.leave_attached();
                outcome?
            }
            (outcome, _) => outcome?,
        };
        match errors.first() {
            None => Ok(end),
            Some(error) => Err(Fatal::failed(format!("stopped, but cannot undo everything: {error:#}"))),
        }
    }

    fn events(&mut self) -> Result<End, Fatal> {
        let mut announced = false;
        loop {
            if let Some(end) = self.end.take() {
                return Ok(end);
            }
            let now = Instant::now();
            if now >= self.look {
                self.look_at_host(now)?;
            }
            if self.prefixes.process() {
                self.prefixes_changed(now)?;
            }
            self.check_guard(now);
            self.converge(now)?;
            self.mind_predecessor(now);
            self.sweep_records(now);
            self.notifier.status(&self.summary());
            self.notifier.sign_of_life(now);
            if !announced {
                // Whatever the state: what can be done now is done, the rest waits for the network.
                self.notifier.ready();
                announced = true;
            }
            self.wait()?;
        }
    }

    /// Sleeps until something happens, and takes in what only has to be taken in.
    fn wait(&mut self) -> Result<(), Fatal> {
        let deadlines = [
            Some(self.look),
            Some(self.sweep),
            self.machine.next_deadline(),
            self.prefixes.deadline(),
            self.guard.as_ref().and_then(Guard::deadline),
            (self.predecessor.is_some() || self.leftovers).then(|| self.started + LONGEST_PREDECESSOR),
            self.notifier.deadline(),
        ];
        let now = Instant::now();
        let until = deadlines.into_iter().flatten().min().unwrap_or(self.look).saturating_duration_since(now);
        // Rounded up: a wake-up before the deadline would only be followed by another.
        let ms = u32::try_from(until.as_micros().div_ceil(1000)).unwrap_or(60_000).min(60_000);
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);

        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.status.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.failed.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.guard.iter().map(|guard| PollFd::new(guard.as_fd(), PollFlags::POLLIN)));
        let own = fds.len();
        fds.extend(self.prefixes.fds().into_iter().map(|(fd, events)| PollFd::new(fd, events)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Fatal::failed(format!("cannot wait for events: {error}"))),
        }
        let ready: Vec<bool> = fds[..own].iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        if ready[0] {
            self.take_signals();
        }
        if ready[1] {
            let changed = self.monitor.drain().map_err(|error| Fatal::failed(error.to_string()))?;
            if changed {
                self.look = self.look.min(Instant::now() + SETTLE);
            }
        }
        if ready[2] {
            self.status.serve(|| self.document());
        }
        if ready[3] {
            self.datapath_failed();
        }
        Ok(())
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGHUP) => self.reload(),
                Ok(Signal::SIGUSR1) => {
                    tracing::info!("SIGUSR1: stopping, to be started again");
                    self.end = Some(End::Restart);
                }
                Ok(name) => {
                    tracing::info!("{name}: stopping");
                    self.end = Some(End::Stop);
                }
                Err(_) => {}
            }
        }
    }

    /// SIGHUP: a changed configuration is put in force, a broken one is not; else the world is looked at afresh.
    fn reload(&mut self) {
        match (self.reread)() {
            Ok(config) if config != self.config => {
                tracing::info!("SIGHUP: the configuration changed, starting again with it");
                if !matches!(self.end, Some(End::Stop | End::Restart)) {
                    self.end = Some(End::Reload(Box::new(config), None));
                }
                return;
            }
            Ok(_) => tracing::info!("SIGHUP: looking at the host and the resolvers afresh"),
            Err(error) => tracing::error!("SIGHUP: keeping the configuration in force: {error}"),
        }
        self.notifier.reloading();
        self.look = Instant::now();
        self.prefixes.resolvers_changed();
        self.notifier.ready();
    }

    fn look_at_host(&mut self, now: Instant) -> Result<(), Fatal> {
        self.look = now + RECHECK;
        let mut host = match self.tools.netlink.snapshot() {
            Ok(host) => host,
            Err(error) => {
                tracing::warn!("cannot read the host's network: {error}");
                self.look = now + Duration::from_secs(1);
                return Ok(());
            }
        };
        if self.datapath.as_ref().is_some_and(|datapath| host.link(datapath.ifindex()).is_none()) {
            tracing::warn!("somebody removed the device {}", self.config.clat.device);
            self.take_down();
        }
        if self.datapath.is_some() && self.reconciler.notice(&host) {
            tracing::warn!("somebody undid a change of ours: making it again");
            self.reached = None;
        }
        let device = self.machine.device();
        self.prefixes.links_changed(&host, device);
        if self.prefixes.process() {
            self.write_prefix_file(&host);
        }
        self.find_way_out(&mut host);
        self.machine.handle(Event::Prefix(self.used_prefix()), now);
        self.machine.handle(Event::Host(Box::new(host)), now);
        Ok(())
    }

    /// Where do packets to the prefix go?
    fn find_way_out(&mut self, host: &mut Snapshot) {
        let Some(used) = self.prefixes.used() else { return };
        let oif =
            self.config.clat.uplink.as_ref().and_then(|name| host.link_named(name)).map(|link| link.index);
        // Any destination under the prefix will do.
        let somewhere = used.prefix.embed(std::net::Ipv4Addr::new(192, 88, 99, 1));
        host.to_prefix = match self.tools.netlink.route_to(somewhere, oif) {
            Ok(route) => route,
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        };
    }

    fn used_prefix(&self) -> Option<UsedPrefix> {
        self.prefixes.used().map(|known| UsedPrefix { pref64: known.prefix, source: known.source })
    }

    fn prefixes_changed(&mut self, now: Instant) -> Result<(), Fatal> {
        let used = self.prefixes.used().map(|known| (known.prefix, known.source));
        // Every advertisement renews its prefixes; only another one is news.
        if used != self.logged_prefix {
            match used {
                Some((prefix, source)) => tracing::info!("NAT64 prefix {prefix} ({source})"),
                None => tracing::info!("no NAT64 prefix is known"),
            }
            self.logged_prefix = used;
        }
        if let Some(host) = self.machine.host().cloned() {
            self.write_prefix_file(&host);
        }
        self.look_at_host(now)
    }

    fn write_prefix_file(&self, host: &Snapshot) {
        let entries = self.prefixes.entries(host);
        if let Err(error) = state::write(&self.run_dir.join(state::PREFIX_FILE), &entries) {
            tracing::warn!("{error}");
        }
    }

    /// Does what the state machine wants.
    fn converge(&mut self, now: Instant) -> Result<(), Fatal> {
        let mut decision = self.machine.decision(now);
        if !self.mind_address(&decision, now) {
            // What it wants may be something else now.
            decision = self.machine.decision(now);
        }
        match &decision.desired {
            None => {
                if self.datapath.is_some() {
                    self.take_down();
                }
            }
            Some(desired) => {
                let wanted = (desired.clone(), self.own_ipv4());
                if self.reached.as_ref() != Some(&wanted) {
                    let (desired, own_ipv4) = wanted;
                    self.reach(desired, own_ipv4, now)?;
                    decision = self.machine.decision(now);
                }
            }
        }
        self.announce(decision, now);
        Ok(())
    }

    fn reach(&mut self, desired: Desired, own_ipv4: OwnIpv4, now: Instant) -> Result<(), Fatal> {
        match self.try_reach(&desired, own_ipv4, now) {
            Ok(()) => {
                self.reached = Some((desired, own_ipv4));
                self.undo_clsact();
                self.machine.handle(Event::Applied, now);
            }
            Err(error) => {
                self.take_down();
                let message = format!("{error:#}");
                // Before the first success the operator is looking: say so and end. Later, keep trying.
                if error.downcast_ref::<FastPathError>().is_some_and(FastPathError::is_permission) {
                    return Err(Fatal::new(PERMISSION, message));
                }
                match error.downcast_ref::<TunError>() {
                    Some(tun) if tun.is_permission() => return Err(Fatal::new(PERMISSION, message)),
                    Some(TunError::NameTaken { .. }) if self.started.elapsed() < JUST_STARTED => {
                        return Err(Fatal::new(FAILED, message));
                    }
                    _ => {}
                }
                self.machine.handle(Event::Refused(message), now);
            }
        }
        Ok(())
    }

    fn try_reach(&mut self, desired: &Desired, own_ipv4: OwnIpv4, now: Instant) -> anyhow::Result<()> {
        let settings = PacketSettings {
            private_ipv4: self.config.nat64.private_ipv4,
            lowest_ipv6_mtu: u16::try_from(self.config.clat.lowest_ipv6_mtu).unwrap_or(u16::MAX),
            copy_traffic_class: self.config.clat.copy_traffic_class,
        };
        let tools = &mut self.tools;
        let mut clsact = |ifindex| tools.ensure_clsact(ifindex);
        let (ifindex, kind, attached_anew) = match &mut self.datapath {
            Some(datapath) => {
                let attached_anew = datapath.update(desired, own_ipv4, &mut clsact)?;
                (datapath.ifindex(), datapath.kind(), attached_anew)
            }
            None => {
                let failed = Arc::clone(&self.failed);
                let counters = Arc::clone(&self.counters);
                let wanted = self.config.clat.datapath;
                let started =
                    Datapath::start(wanted, desired, settings, own_ipv4, counters, failed, &mut clsact)?;
                tracing::info!(
                    "datapath {} ({}): {}",
                    started.kind().as_str(),
                    started.reason(),
                    started.details()
                );
                if let Some(why) = started.pin_failure() {
                    tracing::info!("flow records will not survive a restart: {why}");
                }
                let found = (started.ifindex(), started.kind(), true);
                self.datapath = Some(started);
                self.machine.handle(Event::Device(Some(found.0)), now);
                found
            }
        };
        if attached_anew {
            self.hand_on();
        }
        let plan = Change::plan(desired, ifindex, kind.kernel_forwards());
        self.reconciler.reach(&mut self.tools, &plan)?;
        if let Some(datapath) = &mut self.datapath {
            datapath.complete()?;
        }
        if attached_anew {
            crate::sys::give_back_memory();
        }
        Ok(())
    }

    /// Undoes everything that is in force, and removes the device.
    fn take_down(&mut self) -> Vec<anyhow::Error> {
        let mut errors = self.reconciler.leave(&mut self.tools);
        for error in &errors {
            tracing::warn!("while undoing: {error:#}");
        }
        if self.datapath.as_ref().is_some_and(|datapath| datapath.ingress().is_some()) {
            self.notifier.remove_stored(INGRESS);
        }
        if let Some(datapath) = self.datapath.as_mut().filter(|_| self.handing_over) {
            datapath.leave_filters();
        }
        self.datapath = None;
        errors.extend(self.undo_clsact());
        self.reached = None;
        self.machine.handle(Event::Device(None), Instant::now());
        errors
    }

    /// Deletes expired flow records now and then, in a thread of its own: there may be many.
    fn sweep_records(&mut self, now: Instant) {
        if now < self.sweep {
            return;
        }
        self.sweep = now + SWEEP;
        let Some(records) = self.datapath.as_ref().and_then(Datapath::records) else { return };
        let sweep = move || -> anyhow::Result<usize> {
            Ok(records?.expire(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())?)
        };
        let spawned = std::thread::Builder::new().name("records".into()).spawn(move || match sweep() {
            Ok(deleted) => tracing::debug!("{deleted} expired flow record(s) deleted"),
            Err(error) => tracing::warn!("cannot delete expired flow records: {error:#}"),
        });
        if let Err(error) = spawned {
            tracing::warn!("cannot delete expired flow records: cannot start a thread: {error}");
        }
    }

    fn datapath_failed(&mut self) {
        let _ = self.failed.read();
        if let Some(reason) = self.datapath.as_ref().and_then(Datapath::failure) {
            tracing::warn!("{reason}");
            self.take_down();
            self.machine.handle(Event::Refused(reason), Instant::now());
            self.look = Instant::now();
        }
    }

    /// Checks and defends an address of the CLAT's own. False if that is impossible.
    fn mind_address(&mut self, decision: &Decision, now: Instant) -> bool {
        let wanted = match (&decision.check_address, &decision.desired) {
            (Some((uplink, address)), _) => Some((uplink.clone(), *address)),
            (None, Some(desired)) => match desired.identity {
                Identity::Own { address, on_link: true, .. } => Some((desired.uplink.clone(), address)),
                _ => None,
            },
            (None, None) => None,
        };
        let Some((uplink, address)) = wanted else {
            self.guard = None;
            return true;
        };
        // One that has checked the address is not enough if it has to be checked again.
        let serves = |guard: &Guard| guard.deadline().is_some() || decision.check_address.is_none();
        if self.guard.as_ref().is_some_and(|guard| {
            guard.address() == address && guard.ifindex() == uplink.ifindex && serves(guard)
        }) {
            return true;
        }
        let Some(mac) = uplink.mac else { return true };
        let source = self.machine.host().and_then(|host| link_local(host, uplink.ifindex));
        match Guard::check(uplink.ifindex, mac, address, decision.desired.is_some(), source, now) {
            Ok(guard) => {
                self.guard = Some(guard);
                true
            }
            Err(error) => {
                let reason = format!("cannot check {address} on {}: {error}", uplink.name);
                self.machine.handle(Event::Refused(reason), now);
                false
            }
        }
    }

    fn check_guard(&mut self, now: Instant) {
        let Some(guard) = &mut self.guard else { return };
        let ifindex = guard.ifindex();
        let source = self.machine.host().and_then(|host| link_local(host, ifindex));
        match guard.process(source, now) {
            Some(Outcome::Unique) => {
                tracing::debug!("nobody else uses {}", guard.address());
                self.machine.handle(Event::AddressChecked(ifindex, guard.address(), true), now);
            }
            Some(Outcome::Duplicate) => {
                let address = guard.address();
                tracing::warn!("{address} is in use by another host");
                self.guard = None;
                self.machine.handle(Event::AddressChecked(ifindex, address, false), now);
            }
            None => {}
        }
    }

    /// The host's IPv4 addresses that must not come from outside.
    fn own_ipv4(&self) -> OwnIpv4 {
        let mut own = OwnIpv4::new();
        if let Some(host) = self.machine.host() {
            for ip in ipv4_addresses_except(host, self.machine.device()) {
                if own.insert(ip).is_err() {
                    break;
                }
            }
        }
        own
    }

    /// Logs a change of state, or of the address in use, once.
    fn announce(&mut self, decision: Decision, now: Instant) {
        let outer = |decision: &Decision| decision.desired.as_ref().map(|desired| desired.identity.outer());
        let changed = decision.state != self.decision.state;
        if changed || (decision.state == State::Active && outer(&decision) != outer(&self.decision)) {
            match (&decision.state, &decision.desired) {
                (State::Active, Some(desired)) => tracing::info!(
                    "active: {} is {} towards {} on {}",
                    desired.ipv4,
                    desired.identity.outer(),
                    desired.pref64,
                    desired.uplink.name
                ),
                (State::Degraded(reason), _) => tracing::warn!("degraded: {reason}"),
                (state, _) => match state.reason() {
                    Some(reason) => tracing::info!("{}: {reason}", state.as_str()),
                    None => tracing::info!("{}", state.as_str()),
                },
            }
        }
        if changed {
            self.since = now;
        }
        self.decision = decision;
    }

    /// The end: the host as it was, but for filters that the next daemon finds in the journal.
    fn leave(&mut self) -> Vec<anyhow::Error> {
        let mut errors = self.take_down();
        errors.extend(self.tools.undo_settings());
        self.guard = None;
        let _ = fs::rename(self.run_dir.join(state::PREFIX_FILE), self.run_dir.join(EARLIER_PREFIXES));
        remove_leftovers(&self.run_dir);
        errors
    }
}

fn link_local(host: &Snapshot, ifindex: u32) -> Option<Ipv6Addr> {
    host.addresses.iter().find_map(|address| match address.ip {
        std::net::IpAddr::V6(ip) if address.ifindex == ifindex && ip.is_unicast_link_local() => Some(ip),
        _ => None,
    })
}

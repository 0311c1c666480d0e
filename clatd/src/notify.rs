//! What the service manager is told (sd_notify(3)): one datagram per message, to the socket that the environment
//! names. Without a service manager nothing is sent, and nothing here can fail the daemon.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// How often a sign of life is due, and when the next one is.
    watchdog: Option<(Duration, Instant)>,
    ready: bool,
    reloading: bool,
    status: String,
}

impl Notifier {
    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say.
    pub fn from_environment(now: Instant) -> Self {
        let manager = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            open(name.as_bytes())
                .inspect_err(|error| tracing::warn!("cannot notify the service manager: {error}"))
                .ok()
        });
        let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| ours && *limit > 0);
        Self { manager, ..Self::new(limit.map(Duration::from_micros), now) }
    }

    /// Nobody to notify, with a watchdog's limit.
    fn new(limit: Option<Duration>, now: Instant) -> Self {
        // Half the limit, as sd_watchdog_enabled(3) recommends.
        let watchdog = limit.map(|limit| (limit / 2, now));
        Self { manager: None, watchdog, ready: false, reloading: false, status: String::new() }
    }

    /// The state of the daemon, for `systemctl status`. The first one also says that the daemon is ready; the first
    /// one after [`Self::reloading`] that the reload is over.
    pub fn status(&mut self, status: &str) {
        let mut message = String::new();
        if !self.ready || self.reloading {
            (self.ready, self.reloading) = (true, false);
            message.push_str("READY=1\n");
        }
        if self.status != status {
            status.clone_into(&mut self.status);
            // One line: a line break would end the assignment.
            message.push_str(&format!("STATUS={}\n", status.replace('\n', " ")));
        }
        if !message.is_empty() {
            self.send(&message);
        }
    }

    /// The configuration is being read again.
    pub fn reloading(&mut self) {
        self.reloading = true;
        // The time tells this reload from an earlier one (Type=notify-reload).
        let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .map_or(0, |t| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic}\n"));
    }

    /// The daemon undoes what it did, and ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Stopping\n");
    }

    /// When the next sign of life is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.watchdog.map(|(_, due)| due)
    }

    /// Gives a sign of life if one is due. Called from the event loop, so that a daemon that is stuck gives none.
    pub fn alive(&mut self, now: Instant) {
        if let Some((interval, due)) = &mut self.watchdog
            && now >= *due
        {
            *due = now + *interval;
            self.send("WATCHDOG=1\n");
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), manager) {
            tracing::debug!("cannot notify the service manager: {error}");
        }
    }
}

/// The manager's address: a path, or after an `@` a name in the abstract namespace.
fn open(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path)))?,
    };
    Ok((UnixDatagram::unbound()?, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(limit: Option<Duration>, now: Instant) -> (Notifier, UnixDatagram, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let to = open(path.as_os_str().as_bytes()).unwrap();
        (Notifier { manager: Some(to), ..Notifier::new(limit, now) }, manager, dir)
    }

    fn received(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| manager.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec()))
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }

    #[test]
    fn ready_once_and_status_when_it_changes() {
        let (mut notifier, manager, _dir) = notifier(None, Instant::now());
        notifier.status("waiting: no NAT64 prefix");
        notifier.status("waiting: no NAT64 prefix");
        notifier.status("active:\nline");
        assert_eq!(
            received(&manager),
            ["READY=1\nSTATUS=waiting: no NAT64 prefix\n", "STATUS=active: line\n"]
        );
    }

    #[test]
    fn a_reload_ends_with_the_next_status() {
        let (mut notifier, manager, _dir) = notifier(None, Instant::now());
        notifier.status("active");
        notifier.reloading();
        notifier.status("active");
        let got = received(&manager);
        assert!(got[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{got:?}");
        assert_eq!(got[2], "READY=1\n");
    }

    #[test]
    fn a_sign_of_life_each_half_limit() {
        let start = Instant::now();
        let (mut notifier, manager, _dir) = notifier(Some(Duration::from_secs(10)), start);
        for second in 0..=10 {
            notifier.alive(start + Duration::from_secs(second));
        }
        assert_eq!(received(&manager).len(), 3);
        assert_eq!(notifier.deadline(), Some(start + Duration::from_secs(15)));
    }

    #[test]
    fn abstract_names_are_understood() {
        let name = format!("v4shim-notify-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        let to = open(format!("@{name}").as_bytes()).unwrap();
        let notifier = Notifier { manager: Some(to), ..Notifier::new(None, Instant::now()) };
        notifier.stopping();
        let mut buffer = [0; 64];
        let len = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"STOPPING=1\nSTATUS=Stopping\n");
    }
}

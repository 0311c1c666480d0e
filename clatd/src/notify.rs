//! Words to the service manager: the `sd_notify` protocol of sd_notify(3),
//! datagrams to the Unix socket that `NOTIFY_SOCKET` names. Without a service
//! manager nothing is said and nothing fails.

use std::env;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::time::{ClockId, clock_gettime};

use crate::sys::inherited_descriptor;

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often a sign of life is due: half of what the manager waits for.
    interval: Option<Duration>,
    next_sign: Option<Instant>,
    status: String,
}

impl Notifier {
    /// What the environment says. A socket that cannot be reached is logged and left alone.
    pub fn from_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let interval = env::var("WATCHDOG_USEC")
            .ok()
            .filter(|_| ours)
            .and_then(|us| us.parse().ok())
            .filter(|us| *us > 0)
            .map(|us| Duration::from_micros(us) / 2);
        match connect(address.as_bytes()) {
            Ok(socket) => Self { socket: Some(socket), interval, ..Self::default() },
            Err(error) => {
                tracing::warn!("cannot reach the service manager at {}: {error}", address.display());
                Self::default()
            }
        }
    }

    /// The daemon does its work (again).
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is being read again; [`Notifier::ready`] must follow.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The daemon is on its way out.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for people; only a change is sent.
    pub fn status(&mut self, line: &str) {
        if self.status != line {
            line.clone_into(&mut self.status);
            self.send(&format!("STATUS={}", line.replace('\n', " ")));
        }
    }

    /// When the next sign of life is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.interval.map(|_| self.next_sign.unwrap_or_else(Instant::now))
    }

    /// Sends a sign of life if one is due.
    pub fn sign_of_life(&mut self, now: Instant) {
        let Some(interval) = self.interval else { return };
        if self.next_sign.is_none_or(|next| now >= next) {
            self.send("WATCHDOG=1");
            self.next_sign = Some(now + interval);
        }
    }

    /// Whether somebody listens.
    pub fn is_present(&self) -> bool {
        self.socket.is_some()
    }

    /// Leaves a descriptor with the manager, which hands it to the next process of this service ([`stored`]) and closes
    /// it when the service is stopped for good.
    pub fn store(&self, name: &str, fd: BorrowedFd<'_>) {
        let Some(socket) = &self.socket else { return };
        let message = format!("FDSTORE=1\nFDNAME={name}");
        let fds = [fd.as_raw_fd()];
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(message.as_bytes())],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        if let Err(error) = sent {
            tracing::debug!("cannot leave {name} with the service manager: {error}");
        }
    }

    /// Takes back what [`Notifier::store`] left.
    pub fn remove_stored(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!("cannot tell the service manager {message:?}: {error}");
        }
    }
}

/// The descriptors that an earlier process of this service left under a name: sd_listen_fds_with_names(3). All others that
/// the manager passed are closed. Call it once, before anything is opened.
pub fn stored(name: &str) -> Vec<OwnedFd> {
    let var = |name| env::var(name).unwrap_or_default();
    if var("LISTEN_PID") != std::process::id().to_string() {
        return Vec::new();
    }
    let names = var("LISTEN_FDNAMES");
    let count: RawFd = var("LISTEN_FDS").parse().unwrap_or(0);
    (FIRST_PASSED..FIRST_PASSED.saturating_add(count))
        .zip(names.split(':'))
        .filter_map(|(number, found)| Some((inherited_descriptor(number)?, found)))
        .filter(|(_, found)| *found == name)
        .map(|(fd, _)| fd)
        .collect()
}

/// `SD_LISTEN_FDS_START`
const FIRST_PASSED: RawFd = 3;

/// `@name` is a name in the abstract namespace, anything else a path.
fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match address {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    socket.connect_addr(&address)?;
    // The manager reads slowly at boot; the daemon has better things to do than to wait for it.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (Notifier, UnixDatagram) {
        let (here, manager) = UnixDatagram::pair().unwrap();
        manager.set_nonblocking(true).unwrap();
        (Notifier { socket: Some(here), ..Notifier::default() }, manager)
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 256];
        std::iter::from_fn(|| {
            manager.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into())
        })
        .collect()
    }

    #[test]
    fn status_is_sent_when_it_changes() {
        let (mut notifier, manager) = pair();
        notifier.status("active");
        notifier.status("active");
        notifier.status("two\nlines");
        assert_eq!(heard(&manager), ["STATUS=active", "STATUS=two lines"]);
    }

    #[test]
    fn a_descriptor_goes_to_the_manager() {
        use nix::sys::socket::{ControlMessageOwned, recvmsg};
        use std::io::{IoSliceMut, Read, Write};

        let (notifier, manager) = pair();
        let (mut there, here) = std::os::unix::net::UnixStream::pair().unwrap();
        notifier.store("name", here.as_fd());
        drop(here);
        let (mut text, mut space) = ([0; 64], nix::cmsg_space!(RawFd));
        let mut parts = [IoSliceMut::new(&mut text)];
        let got =
            recvmsg::<()>(manager.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
        let fd = got.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let bytes = got.bytes;
        assert_eq!(&text[..bytes], b"FDSTORE=1\nFDNAME=name");
        // The same open socket, not just any number.
        let copy = inherited_descriptor(fd.unwrap()).unwrap();
        std::os::unix::net::UnixStream::from(copy).write_all(b"x").unwrap();
        let mut byte = [0];
        there.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn signs_of_life_come_when_due_and_not_without_a_watchdog() {
        let (mut notifier, manager) = pair();
        let start = Instant::now();
        notifier.sign_of_life(start);
        assert_eq!((heard(&manager).len(), notifier.deadline()), (0, None));
        notifier.interval = Some(Duration::from_secs(10));
        notifier.sign_of_life(start);
        notifier.sign_of_life(start + Duration::from_secs(9));
        assert_eq!(heard(&manager), ["WATCHDOG=1"]);
        assert_eq!(notifier.deadline(), Some(start + Duration::from_secs(10)));
        notifier.sign_of_life(start + Duration::from_secs(10));
        assert_eq!(heard(&manager), ["WATCHDOG=1"]);
    }

    #[test]
    fn both_kinds_of_address_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        connect(path.as_os_str().as_bytes()).unwrap().send(b"READY=1").unwrap();
        assert_eq!(heard_one(&by_path), "READY=1");
        let name = format!("clatd-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_address).unwrap();
        connect(format!("@{name}").as_bytes()).unwrap().send(b"READY=1").unwrap();
        assert_eq!(heard_one(&by_name), "READY=1");
        assert!(connect(dir.path().join("none").as_os_str().as_bytes()).is_err());
    }

    fn heard_one(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into()
    }
}

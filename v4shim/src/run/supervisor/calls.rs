//! The loop, and the answers to the stopped calls.

use super::abi::{self, Call};
use super::sys::{self, Notification, Reply};
use super::{Settings, pass_signals, target};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::process::Child;
use swap::route::{leads_nowhere, no_route, unreachable};
use swap::sockaddr::{DUMMY, LEN_IN6};
use swap::{Dest, Errno, RawAddr, Replacement};

/// How a socket of ours must be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Swapped,
    Mapped,
}

pub(super) struct Supervisor {
    listener: OwnedFd,
    settings: Settings,
    /// Sockets of ours by cookie, with the order they came in.
    ours: HashMap<u64, Kind>,
    order: std::collections::VecDeque<u64>,
}

/// Sockets remembered; the oldest are forgotten first, which only shows in the address a peer is said to have.
const MOST: usize = 65536;

impl Supervisor {
    pub(super) fn new(listener: OwnedFd, settings: Settings) -> Self {
        sys::hand_over(listener.as_raw_fd());
        Self { listener, settings, ours: HashMap::new(), order: std::collections::VecDeque::new() }
    }

    /// Serves until the command has ended; its exit status.
    pub(super) fn serve(mut self, mut child: Child, signals: &OwnedFd) -> u8 {
        loop {
            let [call, signal] = sys::poll([self.listener.as_raw_fd(), signals.as_raw_fd()], -1);
            if call & libc::POLLIN != 0 {
                self.one();
            }
            // POLLHUP: nobody is left under the filter; the command's end follows at once.
            if (signal != 0 || call & libc::POLLHUP != 0)
                && let Some(code) = pass_signals(&mut child, signals)
            {
                self.remain();
                return code;
            }
            if call & libc::POLLHUP != 0 && call & libc::POLLIN == 0 {
                sys::poll([signals.as_raw_fd()], 50);
            }
        }
    }

    /// The command has ended. What it left in the background is still under the filter: stay for it.
    fn remain(mut self) {
        let left = |fd: &OwnedFd, ms| sys::poll([fd.as_raw_fd()], ms)[0] & libc::POLLHUP == 0;
        if !left(&self.listener, 0) || !sys::stay_behind() {
            return;
        }
        self.settings.verbose = false;
        while left(&self.listener, -1) {
            self.one();
        }
        std::process::exit(0);
    }

    /// Answers one stopped call.
    fn one(&mut self) {
        let listener = self.listener.as_raw_fd();
        let Ok(Some(n)) = sys::receive(listener) else { return };
        let words = |at| {
            let mut bytes = [0u8; 12];
            let read = sys::read_memory(n.pid as i32, at, &mut bytes).ok()?;
            let word =
                |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            (read == bytes.len()).then(|| [0, 4, 8].map(word))
        };
        let reply = abi::decode(&n, words).and_then(|(call, args)| match call {
            Call::Connect => self.connect(&n, args),
            Call::PeerName => self.name(&n, args, swap::sys::getpeername),
            Call::OwnName => self.name(&n, args, swap::sys::getsockname),
        });
        sys::respond(listener, n.id, reply.unwrap_or(Reply::Continue));
    }

    /// `None`: the kernel shall do it.
    fn connect(&mut self, n: &Notification, [fd, at, len]: [u64; 3]) -> Option<Reply> {
        let pid = n.pid as i32;
        let mut bytes = [0u8; LEN_IN6];
        let len = usize::try_from(len as u32).ok()?.min(LEN_IN6);
        let read = sys::read_memory(pid, at, bytes.get_mut(..len)?).ok()?;
        let dest = Dest::parse(bytes.get(..read)?);
        let (ip, port) = dest.ipv4()?;
        if !swap::policy::leaves_the_host(ip) && self.ours.is_empty() {
            return None;
        }
        if !sys::still_there(self.listener.as_raw_fd(), n.id) {
            return None;
        }
        let fd = fd as RawFd;
        let pidfd = sys::lift(sys::pidfd(pid, || target::tgid(pid)).ok()?);
        let socket = sys::lift(sys::take(&pidfd, fd).ok()?);
        let known = self.kind(&socket);
        let condition = if self.settings.always { leads_nowhere } else { no_route };
        let to = if swap::policy::leaves_the_host(ip) { self.translate(ip) } else { None };
        let to = to.filter(|_| condition(socket.as_raw_fd(), ip));
        match (dest, known, to) {
            (Dest::V4(..), Some(Kind::Swapped), to) => {
                Some(self.again(&socket, RawAddr::v6(to.unwrap_or(ip.to_ipv6_mapped()), port)))
            }
            (Dest::V4(..), _, Some(to)) => self.swap(n, fd, &pidfd, socket, (ip, to, port)),
            (Dest::Mapped(..), _, Some(to)) => self.mapped(&socket, ip, to, port),
            _ => None,
        }
    }

    fn translate(&mut self, ip: Ipv4Addr) -> Option<Ipv6Addr> {
        self.settings.prefixes.policy()?.translate(ip)
    }

    fn swap(
        &mut self,
        n: &Notification,
        fd: RawFd,
        pidfd: &OwnedFd,
        old: OwnedFd,
        (ip, to, port): (Ipv4Addr, Ipv6Addr, u16),
    ) -> Option<Reply> {
        let pid = n.pid as i32;
        let made = match Replacement::prepare(old.as_raw_fd()) {
            Ok(made) => made,
            Err(why) => {
                self.say(format_args!("connect {ip}:{port} left alone: {}", why.reason()));
                return None;
            }
        };
        let done = match made.connect(to, port) {
            Ok(done) => done,
            Err(Errno(e)) if unreachable(e) || e == libc::EADDRNOTAVAIL => return None,
            Err(Errno(e)) => return Some(Reply::Errno(e)),
        };
        let cookie = swap::sys::cookie(made.fd()).ok()?;
        let table = target::Table::of(pid, fd)?;
        let listener = self.listener.as_raw_fd();
        sys::put(listener, n.id, made.fd(), fd, target::cloexec(pid, fd)?).ok()?;
        // Duplicates that were made before are the same connection. What took their numbers meanwhile is not touched.
        for &other in table.duplicates.iter().filter(|&&other| table.still_same(other)) {
            if let Some(cloexec) = target::cloexec(pid, other) {
                let _ = sys::put(listener, n.id, made.fd(), other, cloexec);
            }
        }
        // Our duplicate would keep the old socket, and its registrations, alive.
        drop(old);
        for (set, registration) in table.watches {
            if let Ok(set) = sys::take(pidfd, set) {
                watch(&sys::lift(set), made.fd(), &registration);
            }
        }
        self.remember(cookie, Kind::Swapped);
        self.say(format_args!("connect {ip}:{port} -> [{to}]:{port}"));
        let blocking = made.blocking();
        made.finish();
        match (done, blocking) {
            (true, _) => Some(Reply::Value(0)),
            (false, false) => Some(Reply::Errno(libc::EINPROGRESS)),
            // The kernel waits for the connect that is under way; it no longer looks at the address.
            (false, true) => None,
        }
    }

    /// A v4-mapped destination: only the address changes.
    fn mapped(&mut self, socket: &OwnedFd, ip: Ipv4Addr, to: Ipv6Addr, port: u16) -> Option<Reply> {
        if swap::sys::getsockopt_int(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) != Ok(0) {
            return None;
        }
        let cookie = swap::sys::cookie(socket.as_raw_fd()).ok()?;
        let reply = self.again(socket, RawAddr::v6(to, port));
        if matches!(reply, Reply::Errno(e) if unreachable(e) || e == libc::EADDRNOTAVAIL || e == libc::EINVAL)
        {
            return None;
        }
        self.remember(cookie, Kind::Mapped);
        self.say(format_args!("connect {ip}:{port} -> [{to}]:{port}"));
        Some(reply)
    }

    /// Connects the command's own socket, without waiting here.
    fn again(&self, socket: &OwnedFd, to: RawAddr) -> Reply {
        let fd = socket.as_raw_fd();
        let Ok(flags) = swap::sys::fcntl(fd, libc::F_GETFL, 0) else { return Reply::Continue };
        let blocking = flags & libc::O_NONBLOCK as usize == 0;
        if blocking {
            let _ = swap::sys::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK as usize);
        }
        let connected = swap::sys::connect(fd, to.as_bytes());
        if blocking {
            let _ = swap::sys::fcntl(fd, libc::F_SETFL, flags);
        }
        match connected {
            Ok(()) => Reply::Value(0),
            Err(Errno(libc::EINPROGRESS | libc::EALREADY)) if blocking => Reply::Continue,
            Err(Errno(e)) => Reply::Errno(e),
        }
    }

    /// `getpeername` and `getsockname` of a socket of ours, in IPv4.
    fn name(
        &mut self,
        n: &Notification,
        [fd, at, room_at]: [u64; 3],
        call: fn(RawFd, &mut [u8]) -> swap::sys::Result<usize>,
    ) -> Option<Reply> {
        if self.ours.is_empty() {
            return None;
        }
        let pid = n.pid as i32;
        let pidfd = sys::lift(sys::pidfd(pid, || target::tgid(pid)).ok()?);
        let socket = sys::take(&pidfd, fd as RawFd).ok()?;
        let kind = self.kind(&socket)?;
        let mut bytes = [0u8; LEN_IN6];
        let len = call(socket.as_raw_fd(), &mut bytes).ok()?;
        let seen = self.shown(kind, Dest::parse(bytes.get(..len)?))?;
        let mut room = [0u8; 4];
        sys::read_memory(pid, room_at, &mut room).ok()?;
        let (room, seen) = (u32::from_ne_bytes(room) as usize, seen.as_bytes());
        sys::write_memory(pid, at, seen.get(..room.min(seen.len()))?).ok()?;
        sys::write_memory(pid, room_at, &(seen.len() as u32).to_ne_bytes()).ok()?;
        Some(Reply::Value(0))
    }

    fn shown(&self, kind: Kind, addr: Dest) -> Option<RawAddr> {
        let (v4, port) = match addr {
            Dest::Mapped(ip, port) => (ip, port),
            Dest::V6(ip, port) if ip.is_unspecified() => (Ipv4Addr::UNSPECIFIED, port),
            Dest::V6(ip, port) => (self.settings.prefixes.extract(ip).unwrap_or(DUMMY), port),
            Dest::V4(..) | Dest::Other => return None,
        };
        Some(match kind {
            Kind::Swapped => RawAddr::v4(v4, port),
            Kind::Mapped => RawAddr::v6(v4.to_ipv6_mapped(), port),
        })
    }

    fn kind(&self, socket: &OwnedFd) -> Option<Kind> {
        self.ours.get(&swap::sys::cookie(socket.as_raw_fd()).ok()?).copied()
    }

    fn remember(&mut self, cookie: u64, kind: Kind) {
        if self.ours.insert(cookie, kind).is_none() {
            self.order.push_back(cookie);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ours.remove(&oldest);
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.settings.verbose {
            eprintln!("v4shim: {what}");
        }
    }
}

/// Adds a registration to an epoll set of the command. The kernel's key is file *and* number, so the socket must have
/// the same number here for the moment.
fn watch(set: &OwnedFd, new: RawFd, registration: &swap::epoll::Registration) {
    let add = |fd| swap::sys::epoll_add(set.as_raw_fd(), fd, registration.events, registration.data);
    if new == registration.target {
        let _ = add(new);
    } else if let Some(here) = sys::at_number(new, registration.target) {
        let _ = add(here.as_raw_fd());
    }
}

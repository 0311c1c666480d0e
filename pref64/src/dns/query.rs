//! One question to a list of servers: UDP first, TCP where the answer does not fit, the next server where one fails.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage};

use super::message::{self, FORMERR, NOTIMP, Name, Question, RecordType, Reply, UDP_SIZE};
use super::{now, random};
use crate::server::Server;

/// How patient a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long to wait for one server, each time.
    pub timeout: Duration,
    /// How often the whole list of servers is gone through.
    pub rounds: u32,
}

impl Default for Options {
    /// Two seconds, twice: a lost packet costs two seconds, a dead network four per server.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(2), rounds: 2 }
    }
}

/// Addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order received, without duplicates.
    pub addresses: Vec<IpAddr>,
    /// CNAME targets on the way, in order.
    pub aliases: Vec<String>,
    /// How long they hold: the smallest TTL of all records used.
    pub ttl: Duration,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name has such records.
    Found(Found),
    /// The name exists but has no such record.
    NoData {
        /// How long to believe it (RFC 2308 §5); `None`: the server did not say.
        ttl: Option<Duration>,
    },
    /// The name does not exist.
    NxDomain {
        /// As with `NoData`.
        ttl: Option<Duration>,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The list of servers is empty.
    #[error("no DNS server is known (see /etc/resolv.conf)")]
    NoServer,
    /// Every server failed; the last one's failure.
    #[error("DNS server {server}: {reason}")]
    Server {
        /// Which.
        server: String,
        /// Why.
        reason: String,
    },
}

enum Transport {
    Udp(UdpSocket),
    /// The stream, what is still to be sent, what has arrived.
    Tcp(TcpStream, Vec<u8>, Vec<u8>),
}

/// A question under way, for an event loop: poll [`Query::fd`] for [`Query::events`] until [`Query::deadline`], then
/// call [`Query::process`]; repeat until it gives an answer.
pub struct Query {
    servers: Vec<Server>,
    name: Name,
    record_type: RecordType,
    options: Options,
    /// How many attempts were begun.
    attempt: usize,
    question: Question,
    edns: bool,
    transport: Option<Transport>,
    deadline: Duration,
    last_failure: Option<Failure>,
}

impl Query {
    /// Begins to ask. Failures show up in [`Query::process`].
    pub fn start(servers: &[Server], name: &Name, record_type: RecordType, options: Options) -> Self {
        let mut query = Self {
            servers: servers.to_vec(),
            name: name.clone(),
            record_type,
            options,
            attempt: 0,
            question: Question::new(0, name, record_type, None),
            edns: true,
            transport: None,
            deadline: now(),
            last_failure: None,
        };
        query.next_attempt();
        query
    }

    /// What to poll; `None` between attempts.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self.transport.as_ref()? {
            Transport::Udp(socket) => Some(socket.as_fd()),
            Transport::Tcp(stream, ..) => Some(stream.as_fd()),
        }
    }

    /// What to poll it for.
    pub fn events(&self) -> PollFlags {
        match &self.transport {
            Some(Transport::Tcp(_, unsent, _)) if !unsent.is_empty() => PollFlags::POLLOUT,
            _ => PollFlags::POLLIN,
        }
    }

    /// When to call [`Query::process`] even if nothing arrives, on the clock of [`now`].
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Takes in what has arrived and lets time pass. Once it has given an answer, it gives no other.
    ///
    /// # Errors
    /// When every server has failed in every round.
    pub fn process(&mut self) -> Option<Result<Answer, Failure>> {
        loop {
            if self.transport.is_none() {
                let failure = self.last_failure.take().unwrap_or(Failure::NoServer);
                return Some(Err(failure));
            }
            match self.receive() {
                Ok(Some(reply)) => {
                    if let Some(answer) = self.take(reply) {
                        return Some(Ok(answer));
                    }
                }
                Ok(None) if now() < self.deadline => return None,
                Ok(None) => self.failed("no answer".to_owned()),
                Err(error) => self.failed(error.to_string()),
            }
        }
    }

    /// The server of the current attempt.
    fn server(&self) -> Option<&Server> {
        let index = self.attempt.checked_sub(1)?.checked_rem(self.servers.len())?;
        self.servers.get(index)
    }

    fn failed(&mut self, reason: String) {
        let server = self.server().map(ToString::to_string).unwrap_or_default();
        self.last_failure = Some(Failure::Server { server, reason });
        self.next_attempt();
    }

    fn next_attempt(&mut self) {
        self.transport = None;
        self.edns = true;
        let most = self.servers.len().saturating_mul(self.options.rounds.max(1) as usize);
        while self.attempt < most && self.transport.is_none() {
            self.attempt += 1;
            if let Err(error) = self.ask_udp() {
                let server = self.server().map(ToString::to_string).unwrap_or_default();
                self.last_failure = Some(Failure::Server { server, reason: error.to_string() });
            }
        }
    }

    fn new_question(&mut self) -> io::Result<SocketAddr> {
        self.question = Question::new(random() as u16, &self.name, self.record_type, None);
        self.deadline = now() + self.options.timeout;
        let server = self.server().ok_or(io::ErrorKind::NotFound)?;
        socket_address(server)
    }

    fn ask_udp(&mut self) -> io::Result<()> {
        let address = self.new_question()?;
        let any: IpAddr = if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { [0, 0, 0, 0].into() };
        // A port of its own for each question, and answers from nobody but the server.
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(address)?;
        socket.send(&self.question.to_bytes(self.edns))?;
        self.transport = Some(Transport::Udp(socket));
        Ok(())
    }

    fn ask_tcp(&mut self) -> io::Result<()> {
        let address = self.new_question()?;
        let stream = connect(address)?;
        let question = self.question.to_bytes(false);
        let mut unsent = (question.len() as u16).to_be_bytes().to_vec();
        unsent.extend(question);
        self.transport = Some(Transport::Tcp(stream, unsent, Vec::new()));
        Ok(())
    }

    /// A reply to the question, if a whole one has arrived.
    fn receive(&mut self) -> io::Result<Option<Reply>> {
        match self.transport.as_mut() {
            Some(Transport::Udp(socket)) => {
                let mut buffer = [0; UDP_SIZE as usize + 1];
                loop {
                    match socket.recv(&mut buffer) {
                        // Whatever does not answer the question may be somebody's guess.
                        Ok(length) => {
                            if let Ok(reply) = message::parse(&buffer[..length], &self.question) {
                                return Ok(Some(reply));
                            }
                        }
                        Err(error) => return again(error).map(|()| None),
                    }
                }
            }
            Some(Transport::Tcp(stream, unsent, received)) => {
                // A connection that could not be made.
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                while !unsent.is_empty() {
                    match stream.write(unsent) {
                        Ok(length) => drop(unsent.drain(..length)),
                        Err(error) => return again(error).map(|()| None),
                    }
                }
                let mut buffer = [0; 4096];
                loop {
                    if let [high, low, rest @ ..] = received.as_slice()
                        && let Some(whole) = rest.get(..usize::from(u16::from_be_bytes([*high, *low])))
                    {
                        return message::parse(whole, &self.question).map(Some).map_err(io::Error::other);
                    }
                    match stream.read(&mut buffer) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(length) => received.extend(&buffer[..length]),
                        Err(error) => return again(error).map(|()| None),
                    }
                }
            }
            None => Ok(None),
        }
    }

    /// What a reply means; `None`: ask on.
    fn take(&mut self, reply: Reply) -> Option<Answer> {
        match reply {
            Reply::Addresses { addresses, aliases, ttl } => {
                Some(Answer::Found(Found { addresses, aliases, ttl }))
            }
            Reply::NoData { ttl, .. } => Some(Answer::NoData { ttl }),
            Reply::NxDomain { ttl } => Some(Answer::NxDomain { ttl }),
            Reply::Truncated => {
                if matches!(self.transport, Some(Transport::Tcp(..))) {
                    self.failed("the answer is cut off even over TCP".to_owned());
                } else if let Err(error) = self.ask_tcp() {
                    self.failed(format!("over TCP: {error}"));
                }
                None
            }
            Reply::Error(FORMERR | NOTIMP) if self.edns => {
                self.edns = false;
                if let Err(error) = self.ask_udp() {
                    self.failed(error.to_string());
                }
                None
            }
            Reply::Error(code) => {
                self.failed(match code {
                    2 => "SERVFAIL".to_owned(),
                    5 => "REFUSED".to_owned(),
                    code => format!("response code {code}"),
                });
                None
            }
        }
    }
}

/// Asks and waits for the answer.
///
/// # Errors
/// When every server has failed in every round.
pub fn lookup(
    servers: &[Server],
    name: &Name,
    record_type: RecordType,
    options: Options,
) -> Result<Answer, Failure> {
    let mut query = Query::start(servers, name, record_type, options);
    loop {
        if let Some(outcome) = query.process() {
            return outcome;
        }
        let left = query.deadline().saturating_sub(now());
        // Rounded up: a wake-up before the deadline would only be followed by another.
        let timeout = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        if let Some(fd) = query.fd() {
            let mut fds = [PollFd::new(fd, query.events())];
            // Interrupted or not: `process` looks.
            let _ = poll(&mut fds, PollTimeout::from(timeout));
        }
    }
}

/// Begins a connection without waiting for it: the event loop that asks may be moving packets meanwhile.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(family, SockType::Stream, flags, None)?;
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// "Nothing now" is no error; a connection that is still being made refuses to be written to with ENOTCONN.
fn again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}

fn socket_address(server: &Server) -> io::Result<SocketAddr> {
    match server.addr {
        IpAddr::V4(addr) => Ok(SocketAddrV4::new(addr, server.port).into()),
        IpAddr::V6(addr) => {
            let scope = match server.scope.as_deref() {
                None => 0,
                Some(zone) => match zone.parse() {
                    Ok(index) => index,
                    Err(_) => nix::net::if_::if_nametoindex(zone)?,
                },
            };
            Ok(SocketAddrV6::new(addr, server.port, 0, scope).into())
        }
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;

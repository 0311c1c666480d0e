//! A small synchronous rtnetlink handle.
//!
//! One request at a time, sequence numbers checked, kernel errors named after
//! the request that caused them. [`Monitor`] is the one asynchronous part: it
//! only says *that* something changed; what the host looks like is then read
//! afresh by [`Handle::snapshot`], so that a lost notification can never leave us with a
//! stale picture.

mod change;
mod monitor;
mod read;
mod tc;

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use change::Route;
pub use monitor::Monitor;
pub use read::ipv4_addresses_except;
pub use tc::{CLSACT, Filter, Filters};

/// How often a dump that the kernel marks as interrupted is repeated.
const DUMP_ATTEMPTS: usize = 5;

/// What went wrong between us and the kernel's routing tables.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the netlink socket failed.
    #[error("netlink: cannot {call}: {source}")]
    Syscall {
        /// Which call.
        call: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("netlink: cannot {what}: {source}")]
    Kernel {
        /// What was asked for, in words.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An answer that does not parse.
    #[error("netlink: cannot understand the kernel's answer to \"{what}\": {reason}")]
    Malformed {
        /// What was asked for, in words.
        what: String,
        /// Why the answer does not parse.
        reason: String,
    },
}

impl NetlinkError {
    /// The kernel's errno, if the kernel refused the request.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } | Self::Syscall { source, .. } => source.raw_os_error(),
            Self::Malformed { .. } => None,
        }
    }
}

/// A request/answer socket to the kernel's routing tables.
pub struct Handle {
    socket: Socket,
    sequence: u32,
}

impl Handle {
    /// Opens the socket in the calling thread's network namespace.
    pub fn new() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(syscall("open a netlink socket"))?;
        socket.bind_auto().map_err(syscall("bind the netlink socket"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(syscall("connect the netlink socket"))?;
        // Old kernels lack these two; they only make errors and dumps better.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a change and waits for the kernel's acknowledgement.
    pub(crate) fn acknowledge(
        &mut self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.exchange(&what, message, NLM_F_ACK | flags).map(drop)
    }

    /// Asks for one object.
    pub(crate) fn get(
        &mut self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        Ok(self.exchange(&what, message, NLM_F_ACK)?.messages.pop())
    }

    /// Asks for all objects of a kind; a dump that was interrupted by a change
    /// is repeated.
    pub(crate) fn dump(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        Ok(self.dump_counting(what, message)?.0)
    }

    /// The same, with the number of objects that the library could not read.
    pub(crate) fn dump_counting(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<(Vec<RouteNetlinkMessage>, usize), NetlinkError> {
        let mut answers = Answers::default();
        for _ in 0..DUMP_ATTEMPTS {
            answers = self.exchange(&|| what.to_owned(), message.clone(), NLM_F_DUMP)?;
            if !answers.interrupted {
                break;
            }
        }
        Ok((answers.messages, answers.unread))
    }

    /// One request and all its answers.
    fn exchange(
        &mut self,
        what: &dyn Fn() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answers, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(syscall("send"))?;

        let mut answers = Answers::default();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(syscall("receive"))?;
            let mut rest = datagram.as_slice();
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                if length < 16 || length > rest.len() {
                    return Err(malformed(what, format!("message length {length} of {}", rest.len())));
                }
                let one = &rest[..length];
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
                // An answer to an earlier, abandoned request.
                if u32::from_ne_bytes([one[8], one[9], one[10], one[11]]) != self.sequence {
                    continue;
                }
                answers.interrupted |= u16::from_ne_bytes([one[6], one[7]]) & NLM_F_DUMP_INTR != 0;
                let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
                    Ok(message) => message,
                    // One object of a kind that the library does not know must not hide the others.
                    Err(error) if flags & NLM_F_DUMP == NLM_F_DUMP => {
                        answers.unread += 1;
                        tracing::debug!("netlink: skipped an object while asked to {}: {error}", what());
                        continue;
                    }
                    Err(error) => return Err(malformed(what, error.to_string())),
                };
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(_) => Err(NetlinkError::Kernel { what: what(), source: error.to_io() }),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => answers.messages.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// What the kernel says to one request.
#[derive(Default)]
struct Answers {
    messages: Vec<RouteNetlinkMessage>,
    /// A dump was interrupted by a change.
    interrupted: bool,
    /// Objects of a dump that the library does not know.
    unread: usize,
}

fn syscall(call: &'static str) -> impl Fn(io::Error) -> NetlinkError {
    move |source| NetlinkError::Syscall { call, source }
}

fn malformed(what: &dyn Fn() -> String, reason: String) -> NetlinkError {
    NetlinkError::Malformed { what: what(), reason }
}

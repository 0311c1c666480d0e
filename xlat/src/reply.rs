//! ICMP errors that the translator makes itself (RFC 7915 §4.4 and §5.4).

use crate::checksum::Sum;
use crate::icmp::{self, HEADER_LEN};
use crate::icmp_error::{MAX_V4_ERROR, MAX_V6_ERROR};
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::transport::protocol;
use crate::{Config, DUMMY_IPV4, DropReason};

/// No reply is longer than this many bytes: the minimum IPv6 MTU (RFC 4443 §2.4 c).
pub const MAX_REPLY_LEN: usize = MAX_V6_ERROR;

/// An ICMP error that the sender of a packet deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To this host, about an IPv4 packet.
    V4(Icmpv4Error),
    /// To the other side, about an IPv6 packet.
    V6(Icmpv6Error),
}

/// An ICMPv4 error about a packet that was to be translated to IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv4Error {
    /// Type 3 code 13, Communication Administratively Prohibited (RFC 7915 §4.4), for this reason.
    Prohibited(DropReason),
    /// Type 3 code 5, Source Route Failed (RFC 7915 §4.1).
    SourceRouteFailed,
    /// Type 3 code 4, Fragmentation Needed (RFC 7915 §4.1).
    FragmentationNeeded {
        /// The IPv4 packet length that would have fitted, in bytes.
        mtu: u16,
    },
}

/// An ICMPv6 error about a packet that was to be translated to IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Error {
    /// Type 1 code 1, Communication with Destination Administratively Prohibited (RFC 7915 §5.4), for this reason.
    Prohibited(DropReason),
    /// Type 4 code 0, Erroneous Header Field Encountered (RFC 7915 §5.1).
    ParameterProblem {
        /// The offset in the packet of the first erroneous byte.
        pointer: u32,
    },
    /// Type 2 code 0, Packet Too Big (RFC 7915 §1.4).
    PacketTooBig {
        /// The IPv6 packet length that would have fitted, in bytes.
        mtu: u32,
    },
}

impl Reply {
    /// Why the packet was not translated, for the counters.
    #[must_use]
    pub const fn reason(&self) -> DropReason {
        match self {
            Self::V4(Icmpv4Error::Prohibited(reason)) | Self::V6(Icmpv6Error::Prohibited(reason)) => *reason,
            Self::V4(Icmpv4Error::SourceRouteFailed) => DropReason::SourceRoute,
            Self::V6(Icmpv6Error::ParameterProblem { .. }) => DropReason::RoutingHeader,
            Self::V4(Icmpv4Error::FragmentationNeeded { .. })
            | Self::V6(Icmpv6Error::PacketTooBig { .. }) => DropReason::TooBig,
        }
    }
}

/// The TTL and hop limit of what this host sends.
const HOPS: u8 = 64;
/// Internetwork Control, the precedence of ICMPv4 errors (RFC 1812 §4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// Bytes of transport header that every error quotes at least (RFC 792), unless the packet has less.
const MIN_QUOTED_TRANSPORT: usize = 8;

/// Writes the error; `None` if `out` is too short or `original` is not the packet it is about.
pub(crate) fn write(
    config: &Config,
    reply: &Reply,
    original: &[u8],
    out: &mut [u8],
    identification: impl FnOnce() -> u16,
) -> Option<usize> {
    match reply {
        Reply::V4(error) => write_v4(error, original, out, identification),
        Reply::V6(error) => write_v6(config, error, original, out),
    }
}

/// RFC 7915 §4.4. The translator has no IPv4 address but the one that this host owns, and a host drops packets that
/// come in from its own address; so the error comes from the dummy address, as those of IPv6 routers do.
fn write_v4(
    error: &Icmpv4Error,
    original: &[u8],
    out: &mut [u8],
    identification: impl FnOnce() -> u16,
) -> Option<usize> {
    let about = Ipv4Header::parse(original).ok()?;
    let quoted = original.get(..about.total_len).unwrap_or(original);
    let (code, rest) = match *error {
        Icmpv4Error::Prohibited(_) => (icmp::v4::PROHIBITED, [0; 4]),
        Icmpv4Error::SourceRouteFailed => (icmp::v4::SOURCE_ROUTE_FAILED, [0; 4]),
        Icmpv4Error::FragmentationNeeded { mtu } => {
            let [high, low] = mtu.to_be_bytes();
            (icmp::v4::FRAGMENTATION_NEEDED, [0, 0, high, low])
        }
    };
    let head = [icmp::v4::DESTINATION_UNREACHABLE, code, 0, 0, rest[0], rest[1], rest[2], rest[3]];
    let room = out.len().min(MAX_V4_ERROR);
    let out = out.get_mut(..room)?;
    let min_quote = about.header_len + MIN_QUOTED_TRANSPORT;
    let len = write_message(out, Ipv4Header::LEN, head, quoted, min_quote)?;
    let (ip, message) = out.get_mut(..len)?.split_first_chunk_mut()?;
    let header = Ipv4Header {
        header_len: Ipv4Header::LEN,
        total_len: len,
        tos: INTERNETWORK_CONTROL,
        identification: identification(),
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOPS,
        protocol: protocol::ICMPV4,
        source: DUMMY_IPV4,
        destination: about.source,
    };
    header.emit(ip);
    put_checksum(message, Sum::ZERO)?;
    Some(len)
}

/// RFC 7915 §5.4.
fn write_v6(config: &Config, error: &Icmpv6Error, original: &[u8], out: &mut [u8]) -> Option<usize> {
    let about = Ipv6Header::parse(original).ok()?;
    let quoted = original.get(..about.total_len()).unwrap_or(original);
    let (kind, code, rest) = match *error {
        Icmpv6Error::Prohibited(_) => (icmp::v6::DESTINATION_UNREACHABLE, icmp::v6::PROHIBITED, [0; 4]),
        Icmpv6Error::ParameterProblem { pointer } => (icmp::v6::PARAMETER_PROBLEM, 0, pointer.to_be_bytes()),
        Icmpv6Error::PacketTooBig { mtu } => (icmp::v6::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
    };
    let head = [kind, code, 0, 0, rest[0], rest[1], rest[2], rest[3]];
    let room = out.len().min(MAX_V6_ERROR);
    let out = out.get_mut(..room)?;
    let min_quote = Ipv6Header::LEN + MIN_QUOTED_TRANSPORT;
    let len = write_message(out, Ipv6Header::LEN, head, quoted, min_quote)?;
    let (ip, message) = out.get_mut(..len)?.split_first_chunk_mut()?;
    let header = Ipv6Header {
        traffic_class: 0,
        // At most 1240.
        payload_len: message.len() as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOPS,
        source: config.clat_ipv6,
        destination: about.source,
    };
    header.emit(ip);
    put_checksum(message, header.pseudo_header(u32::from(header.payload_len), protocol::ICMPV6))?;
    Some(len)
}

/// Writes the ICMP header behind `ip_len` bytes and quotes as much as fits behind it. The length of it all.
fn write_message(
    out: &mut [u8],
    ip_len: usize,
    head: [u8; HEADER_LEN],
    quoted: &[u8],
    min_quote: usize,
) -> Option<usize> {
    let start = ip_len + HEADER_LEN;
    let room = out.len().checked_sub(start)?;
    let quoted = quoted.get(..room).unwrap_or(quoted);
    if quoted.len() == room && room < min_quote {
        return None;
    }
    out.get_mut(ip_len..start)?.copy_from_slice(&head);
    out.get_mut(start..start + quoted.len())?.copy_from_slice(quoted);
    Some(start + quoted.len())
}

fn put_checksum(message: &mut [u8], pseudo_header: Sum) -> Option<()> {
    let checksum = pseudo_header.plus(Sum::of(message)).checksum();
    message.get_mut(2..4)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

//! ICMP errors that the translator makes itself (RFC 7915 §4.4 and §5.4).

use crate::checksum::{self, Sum};
use crate::icmp;
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::transport::protocol;
use crate::{Config, DUMMY_IPV4, DropReason};

/// No reply is longer than this many bytes: the minimum IPv6 MTU (RFC 4443 §2.4 c).
pub const MAX_REPLY_LEN: usize = 1280;

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

/// Hop limit and TTL of the translator's own packets (RFC 1700's recommended default).
const HOPS: u8 = 64;
/// Internetwork control, as routers send their errors (RFC 1812 §4.3.2.5).
const CONTROL_TOS: u8 = 0xc0;
/// The longest ICMPv4 error (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;

/// Writes the error about `original`; see [`crate::Translator::write_reply`].
pub(crate) fn write(config: &Config, reply: &Reply, original: &[u8], out: &mut [u8]) -> usize {
    let written = match reply {
        Reply::V4(error) => write_v4(config, error, original, out),
        Reply::V6(error) => write_v6(config, error, original, out),
    };
    written.unwrap_or(0)
}

fn write_v4(config: &Config, error: &Icmpv4Error, original: &[u8], out: &mut [u8]) -> Option<usize> {
    let about = Ipv4Header::parse(original).ok()?;
    let (code, mtu) = match *error {
        Icmpv4Error::Prohibited(_) => (icmp::v4::PROHIBITED, 0),
        Icmpv4Error::SourceRouteFailed => (icmp::v4::SOURCE_ROUTE_FAILED, 0),
        Icmpv4Error::FragmentationNeeded { mtu } => (icmp::v4::FRAGMENTATION_NEEDED, mtu),
    };
    let [high, low] = mtu.to_be_bytes();
    let start = [icmp::v4::DESTINATION_UNREACHABLE, code, 0, 0, 0, 0, high, low];
    let quote = original.get(..original.len().min(MAX_V4 - Ipv4Header::LEN - icmp::HEADER_LEN))?;
    let message_len = icmp::HEADER_LEN + quote.len();
    let (header, rest) = out.split_first_chunk_mut()?;
    let message = rest.get_mut(..message_len)?;
    put(message, start, quote, Sum::ZERO)?;
    let total_len = Ipv4Header::LEN + message_len;
    let ip = Ipv4Header {
        header_len: Ipv4Header::LEN,
        total_len,
        tos: CONTROL_TOS,
        identification: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOPS,
        protocol: protocol::ICMPV4,
        source: DUMMY_IPV4,
        destination: about.source,
    };
    // The sender of a packet that claims to come from somewhere else hears nothing.
    (about.source == config.clat_ipv4).then(|| ip.emit(header))?;
    Some(total_len)
}

fn write_v6(config: &Config, error: &Icmpv6Error, original: &[u8], out: &mut [u8]) -> Option<usize> {
    let about = Ipv6Header::parse(original).ok()?;
    let (kind, code, rest) = match *error {
        Icmpv6Error::Prohibited(_) => (icmp::v6::DESTINATION_UNREACHABLE, icmp::v6::PROHIBITED, 0),
        Icmpv6Error::ParameterProblem { pointer } => (icmp::v6::PARAMETER_PROBLEM, 0, pointer),
        Icmpv6Error::PacketTooBig { mtu } => (icmp::v6::PACKET_TOO_BIG, 0, mtu),
    };
    let [a, b, c, d] = rest.to_be_bytes();
    let quote = original.get(..original.len().min(MAX_REPLY_LEN - Ipv6Header::LEN - icmp::HEADER_LEN))?;
    let message_len = icmp::HEADER_LEN + quote.len();
    let (header, rest) = out.split_first_chunk_mut()?;
    let message = rest.get_mut(..message_len)?;
    // At most 1240 bytes.
    let payload_len = message_len as u16;
    let ip = Ipv6Header {
        traffic_class: CONTROL_TOS,
        payload_len,
        next_header: protocol::ICMPV6,
        hop_limit: HOPS,
        source: config.clat_ipv6,
        destination: about.source,
    };
    let pseudo =
        checksum::ipv6_pseudo_header(ip.source, ip.destination, u32::from(payload_len), protocol::ICMPV6);
    put(message, [kind, code, 0, 0, a, b, c, d], quote, pseudo)?;
    ip.emit(header);
    Some(Ipv6Header::LEN + message_len)
}

/// An ICMP message: its first eight bytes, the quoted packet, the checksum over both.
fn put(message: &mut [u8], start: [u8; 8], quote: &[u8], pseudo_header: Sum) -> Option<()> {
    let (head, body) = message.split_first_chunk_mut::<8>()?;
    *head = start;
    body.get_mut(..quote.len())?.copy_from_slice(quote);
    let value = pseudo_header.plus(Sum::of(message)).checksum();
    message.get_mut(2..4)?.copy_from_slice(&value.to_be_bytes());
    Some(())
}

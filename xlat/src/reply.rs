//! ICMP errors that the translator makes itself (RFC 7915 §4.4 and §5.4).

use crate::DropReason;

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

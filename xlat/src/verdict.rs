//! What becomes of a packet.

use core::fmt;
use core::ops::Range;

use crate::{Fragments, MIN_IPV4_MTU, MIN_IPV6_MTU, Reply};

/// Free bytes that the caller must leave in front of a packet.
///
/// The largest growth is that of an ICMPv4 error: its own header (20 to 40 bytes), that of the packet it quotes
/// (20 to 40, and a fragment header of 8), and up to 7 bytes of padding in front of an RFC 4884 extension.
pub const HEADROOM: usize = 64;

/// What the kernel left for a device to do (`struct virtio_net_hdr`).
///
/// A forwarded packet keeps these properties. The caller adapts its header to the new packet: `csum_start` and
/// `hdr_len` move by the difference of the IP header lengths, that is, the new IP header is 40 bytes (IPv6) or
/// 20 bytes (IPv4) and nothing else precedes the transport header; `gso_type` swaps TCPV4 and TCPV6 (the ECN bit
/// stays); `gso_size` and `csum_offset` stay. What comes out of [`Fragments`] or
/// [`crate::Translator::write_reply`] is complete and needs no offload.
///
/// `gso_size` must be zero unless the packet is TCP or UDP, and `partial_checksum` says that `csum_start` is the
/// transport header that directly follows the IP headers. A partial checksum elsewhere (inside a tunnel) must be
/// completed first, for example with [`crate::checksum::complete`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the transport checksum field holds the folded sum of the pseudo-header, not
    /// inverted; a device or the kernel will finish it.
    pub partial_checksum: bool,
    /// Transport payload bytes per segment; 0 if the packet is one segment.
    pub gso_size: u16,
}

impl Offload {
    /// A packet as it appears on the wire.
    pub const NONE: Self = Self { partial_checksum: false, gso_size: 0 };
}

/// The MTU of the link on either side, in bytes. RFC 7915 wants both, to correct the MTU in ICMP errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkMtu {
    /// Of the IPv4 link: the CLAT's device. Values below 68 count as 68.
    pub ipv4: u32,
    /// Of the IPv6 link, or the path MTU if the caller knows it. Values below 1280 count as 1280.
    pub ipv6: u32,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Translated: the packet is now at this range of the buffer.
    Forward(Range<usize>),
    /// Translated, but too long for the other side: to be cut with [`Fragments::next`].
    Fragment(Fragments),
    /// Not translated; the sender deserves an ICMP error. The packet is as it was.
    ///
    /// The caller limits the rate ([`crate::RateLimiter`]) and writes it with [`crate::Translator::write_reply`].
    Reply(Reply),
    /// Not translated, silently. The packet is as it was.
    Drop(DropReason),
}

/// A packet that is not translated, on its way to becoming a [`Verdict`] by way of `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Reply(Reply),
    Drop(DropReason),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl From<Result<Self, Refusal>> for Verdict {
    fn from(result: Result<Self, Refusal>) -> Self {
        match result {
            Ok(verdict) => verdict,
            Err(Refusal::Reply(reply)) => Self::Reply(reply),
            Err(Refusal::Drop(reason)) => Self::Drop(reason),
        }
    }
}

impl LinkMtu {
    /// No less than what every link of the family carries.
    pub(crate) fn clamped(self) -> Self {
        Self { ipv4: self.ipv4.max(u32::from(MIN_IPV4_MTU)), ipv6: self.ipv6.max(u32::from(MIN_IPV6_MTU)) }
    }
}

/// Declares the reasons once: variant, name for people and counters, explanation.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a packet was not translated. Counters come from this type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant,)+ }

        impl DropReason {
            /// Every reason, in the order of [`DropReason::index`].
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in kebab-case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

drop_reasons! {
    /// The caller's range does not fit the buffer or leaves less than [`HEADROOM`].
    NoHeadroom = "no-headroom",
    /// Not an IP packet of the expected version, or a header length that cannot be.
    MalformedHeader = "malformed-header",
    /// Shorter than its header says.
    Truncated = "truncated",
    /// The IPv4 header checksum is wrong.
    Ipv4Checksum = "bad-ipv4-checksum",
    /// Longer than 65535 bytes: an IPv6 jumbogram or a "BIG TCP" super-packet.
    Jumbogram = "jumbogram",
    /// TTL or hop limit 0.
    HopLimit = "hop-limit-zero",
    /// IPv4 source other than the CLAT's.
    Ipv4Source = "not-clat-ipv4-source",
    /// IPv6 destination other than the CLAT's.
    Ipv6Destination = "not-clat-ipv6-destination",
    /// IPv6 source that is not under the NAT64 prefix.
    Ipv6Source = "source-outside-pref64",
    /// IPv6 source under the NAT64 prefix whose IPv4 address must not come from there (RFC 6052 §3.1, §5.1).
    EmbeddedSource = "refused-embedded-source",
    /// IPv4 destination that must not be sent to the NAT64.
    Ipv4Destination = "refused-ipv4-destination",
    /// Multicast or broadcast destination.
    Multicast = "multicast-destination",
    /// Unexpired IPv4 source route option (RFC 7915 §4.1).
    SourceRoute = "source-route",
    /// IPv6 routing header with segments left (RFC 7915 §5.1).
    RoutingHeader = "routing-header",
    /// A protocol number that means something else on the other side.
    Protocol = "untranslatable-protocol",
    /// An IPv6 extension header inside a fragment (RFC 7915 §5.1.1).
    FragmentedExtension = "fragmented-extension-header",
    /// IGMP is single-hop.
    Igmp = "igmp",
    /// A fragment that ends beyond 65535 bytes, or that is not the last and not a multiple of 8 bytes long.
    MalformedFragment = "malformed-fragment",
    /// An ICMP message that RFC 7915 §4.2 and §5.2 have no row for.
    IcmpType = "untranslatable-icmp",
    /// ICMP in fragments (RFC 7915 §1.2).
    FragmentedIcmp = "fragmented-icmp",
    /// An ICMP error whose checksum is wrong.
    IcmpChecksum = "bad-icmp-checksum",
    /// An ICMP error about a packet that cannot have come through this translator.
    EmbeddedPacket = "bad-embedded-packet",
    /// An ICMP error about an ICMP error.
    NestedError = "nested-icmp-error",
    /// UDP without checksum in a fragment, whose checksum cannot be computed (RFC 7915 §4.5).
    UdpZeroChecksum = "udp-zero-checksum",
    /// A transport header too short to hold its checksum, or a UDP length that cannot be.
    MalformedTransport = "malformed-transport",
    /// An offload that makes no sense for this packet.
    Offload = "unsupported-offload",
    /// Too long for the other side and not to be fragmented.
    TooBig = "too-big",
}

impl DropReason {
    /// The position in [`DropReason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_named_once_and_in_order() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(
                reason
                    .as_str()
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
            let same = DropReason::ALL.iter().filter(|other| other.as_str() == reason.as_str()).count();
            assert_eq!(same, 1, "{reason}");
        }
    }
}

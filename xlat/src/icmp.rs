//! The ICMP type, code and pointer tables of RFC 7915 §4.2 and §5.2, and its MTU arithmetic.

use crate::{LinkMtu, MIN_IPV4_MTU, MIN_IPV6_MTU};

/// ICMPv4 types (RFC 792).
pub(crate) mod v4 {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const DESTINATION_UNREACHABLE: u8 = 3;
    pub(crate) const SOURCE_QUENCH: u8 = 4;
    pub(crate) const REDIRECT: u8 = 5;
    pub(crate) const ECHO: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;

    /// Destination Unreachable codes that have names of their own here.
    pub(crate) const SOURCE_ROUTE_FAILED: u8 = 5;
    pub(crate) const FRAGMENTATION_NEEDED: u8 = 4;
    pub(crate) const PROHIBITED: u8 = 13;
}

/// ICMPv6 types (RFC 4443).
pub(crate) mod v6 {
    pub(crate) const DESTINATION_UNREACHABLE: u8 = 1;
    pub(crate) const PACKET_TOO_BIG: u8 = 2;
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    pub(crate) const PARAMETER_PROBLEM: u8 = 4;
    pub(crate) const ECHO_REQUEST: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const REDIRECT: u8 = 137;

    /// Destination Unreachable: communication with destination administratively prohibited.
    pub(crate) const PROHIBITED: u8 = 1;
}

/// The ICMP header length in both families.
pub(crate) const HEADER_LEN: usize = 8;

/// ICMPv4 messages that are errors or as good as: never to be answered with an error (RFC 1122 §3.2.2).
pub(crate) const fn is_v4_error(kind: u8) -> bool {
    matches!(
        kind,
        v4::DESTINATION_UNREACHABLE
            | v4::SOURCE_QUENCH
            | v4::REDIRECT
            | v4::TIME_EXCEEDED
            | v4::PARAMETER_PROBLEM
    )
}

/// ICMPv6 errors have types below 128 (RFC 4443 §2.1).
pub(crate) const fn is_v6_error(kind: u8) -> bool {
    kind < 128
}

/// The ICMPv6 type of an ICMPv4 query (RFC 7915 §4.2); those without a row are dropped silently.
pub(crate) const fn query_to_v6(kind: u8) -> Option<u8> {
    match kind {
        v4::ECHO => Some(v6::ECHO_REQUEST),
        v4::ECHO_REPLY => Some(v6::ECHO_REPLY),
        _ => None,
    }
}

/// The ICMPv4 type of an ICMPv6 informational message (RFC 7915 §5.2); those without a row are dropped silently.
pub(crate) const fn query_to_v4(kind: u8) -> Option<u8> {
    match kind {
        v6::ECHO_REQUEST => Some(v4::ECHO),
        v6::ECHO_REPLY => Some(v4::ECHO_REPLY),
        _ => None,
    }
}

/// The first eight bytes of a translated error without checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorHeader {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// Bytes 4 to 7, without the RFC 4884 length.
    pub(crate) rest: [u8; 4],
}

impl ErrorHeader {
    const fn unused(kind: u8, code: u8) -> Self {
        Self { kind, code, rest: [0; 4] }
    }
}

/// RFC 7915 §4.2, "ICMPv4 error messages". `rest` is bytes 4 to 7; `total_len` that of the quoted packet.
pub(crate) fn error_to_v6(
    kind: u8,
    code: u8,
    rest: [u8; 4],
    total_len: usize,
    mtu: LinkMtu,
) -> Option<ErrorHeader> {
    const NO_ROUTE: u8 = 0;
    const PROHIBITED: u8 = 1;
    const PORT_UNREACHABLE: u8 = 4;
    let unreachable = |code| Some(ErrorHeader::unused(v6::DESTINATION_UNREACHABLE, code));
    let parameter_problem = |code, pointer: u8| {
        Some(ErrorHeader { kind: v6::PARAMETER_PROBLEM, code, rest: u32::from(pointer).to_be_bytes() })
    };
    match (kind, code) {
        (v4::DESTINATION_UNREACHABLE, code) => match code {
            0 | 1 => unreachable(NO_ROUTE),
            2 => parameter_problem(1, 6), // protocol unreachable: the pointer shows the Next Header field
            3 => unreachable(PORT_UNREACHABLE),
            v4::FRAGMENTATION_NEEDED => {
                let reported = u16::from_be_bytes([rest[2], rest[3]]);
                let mtu = mtu_to_v6(reported, total_len, mtu);
                Some(ErrorHeader { kind: v6::PACKET_TOO_BIG, code: 0, rest: mtu.to_be_bytes() })
            }
            5 => unreachable(NO_ROUTE),
            6..=8 => unreachable(NO_ROUTE),
            9 | 10 => unreachable(PROHIBITED),
            11 | 12 => unreachable(NO_ROUTE),
            13 => unreachable(PROHIBITED),
            14 => None, // host precedence violation
            15 => unreachable(PROHIBITED),
            _ => None,
        },
        (v4::TIME_EXCEEDED, code) => Some(ErrorHeader::unused(v6::TIME_EXCEEDED, code)),
        (v4::PARAMETER_PROBLEM, 0 | 2) => parameter_problem(0, pointer_to_v6(rest[0])?),
        _ => None,
    }
}

/// RFC 7915 §5.2, "ICMPv6 error messages". `rest` is bytes 4 to 7; `fragmented` whether the quoted packet has a
/// Fragment header.
pub(crate) fn error_to_v4(
    kind: u8,
    code: u8,
    rest: [u8; 4],
    fragmented: bool,
    mtu: LinkMtu,
) -> Option<ErrorHeader> {
    const HOST_UNREACHABLE: u8 = 1;
    const PROTOCOL_UNREACHABLE: u8 = 2;
    const PORT_UNREACHABLE: u8 = 3;
    const HOST_PROHIBITED: u8 = 10;
    let unreachable = |code| Some(ErrorHeader::unused(v4::DESTINATION_UNREACHABLE, code));
    match (kind, code) {
        (v6::DESTINATION_UNREACHABLE, code) => match code {
            0 => unreachable(HOST_UNREACHABLE),
            1 => unreachable(HOST_PROHIBITED),
            2 => unreachable(HOST_UNREACHABLE),
            3 => unreachable(HOST_UNREACHABLE),
            4 => unreachable(PORT_UNREACHABLE),
            _ => None,
        },
        (v6::PACKET_TOO_BIG, _) => {
            let [high, low] = mtu_to_v4(u32::from_be_bytes(rest), fragmented, mtu).to_be_bytes();
            Some(ErrorHeader {
                kind: v4::DESTINATION_UNREACHABLE,
                code: v4::FRAGMENTATION_NEEDED,
                rest: [0, 0, high, low],
            })
        }
        (v6::TIME_EXCEEDED, code) => Some(ErrorHeader::unused(v4::TIME_EXCEEDED, code)),
        (v6::PARAMETER_PROBLEM, 0) => {
            let pointer = pointer_to_v4(u32::from_be_bytes(rest))?;
            Some(ErrorHeader { kind: v4::PARAMETER_PROBLEM, code: 0, rest: [pointer, 0, 0, 0] })
        }
        (v6::PARAMETER_PROBLEM, 1) => unreachable(PROTOCOL_UNREACHABLE),
        (v6::PARAMETER_PROBLEM, 2) => None, // unrecognized IPv6 option
        _ => None,
    }
}

/// RFC 7915 Figure 3.
const fn pointer_to_v6(pointer: u8) -> Option<u8> {
    match pointer {
        0 => Some(0),        // Version/IHL → Version/Traffic Class
        1 => Some(1),        // Type Of Service → Traffic Class/Flow Label
        2 | 3 => Some(4),    // Total Length → Payload Length
        4 | 5 => None,       // Identification
        6 => None,           // Flags/Fragment Offset
        7 => None,           // Fragment Offset
        8 => Some(7),        // Time to Live → Hop Limit
        9 => Some(6),        // Protocol → Next Header
        10 | 11 => None,     // Header Checksum
        12..=15 => Some(8),  // Source Address
        16..=19 => Some(24), // Destination Address
        _ => None,
    }
}

/// RFC 7915 Figure 6.
const fn pointer_to_v4(pointer: u32) -> Option<u8> {
    match pointer {
        0 => Some(0),        // Version/Traffic Class → Version/IHL, Type Of Service
        1 => Some(1),        // Traffic Class/Flow Label → Type Of Service
        2 | 3 => None,       // Flow Label
        4 | 5 => Some(2),    // Payload Length → Total Length
        6 => Some(9),        // Next Header → Protocol
        7 => Some(8),        // Hop Limit → Time to Live
        8..=23 => Some(12),  // Source Address
        24..=39 => Some(16), // Destination Address
        _ => None,
    }
}

/// RFC 1191 §7.1, largest first.
const PLATEAUS: [u16; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// RFC 7915 §4.2, code 4: the MTU of a Packet Too Big.
fn mtu_to_v6(reported: u16, total_len: usize, mtu: LinkMtu) -> u32 {
    let path = match reported {
        // A router older than RFC 1191. The plateau goes into the message as it is, says RFC 7915.
        0 => {
            let plateau = PLATEAUS
                .into_iter()
                .find(|plateau| usize::from(*plateau) < total_len && *plateau >= MIN_IPV6_MTU)
                .unwrap_or(MIN_IPV6_MTU);
            u32::from(plateau)
        }
        reported => u32::from(reported) + 20,
    };
    path.min(mtu.ipv6).min(mtu.ipv4.saturating_add(20)).max(u32::from(MIN_IPV6_MTU))
}

/// RFC 7915 §5.2, Packet Too Big: the MTU of a Fragmentation Needed.
///
/// A reported MTU below 1280 counts as 1280: every IPv6 path carries that much, so smaller values are errors or
/// attacks (RFC 8201 §4). A Fragment header takes 8 more bytes of the IPv6 packet.
fn mtu_to_v4(reported: u32, fragmented: bool, mtu: LinkMtu) -> u16 {
    let path = reported.max(u32::from(MIN_IPV6_MTU)) - 20 - if fragmented { 8 } else { 0 };
    let mtu = path.min(mtu.ipv4).min(mtu.ipv6.saturating_sub(20)).max(u32::from(MIN_IPV4_MTU));
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// How a quoted packet and RFC 4884 extensions share an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    /// Bytes of the quoted packet, with padding.
    pub(crate) datagram: usize,
    /// Bytes of the extension structure behind it.
    pub(crate) extension: usize,
}

/// "The original datagram field MUST contain at least 128 octets" if an extension follows (RFC 4884 §4).
pub(crate) const MIN_EXTENDED_DATAGRAM: usize = 128;

impl Quote {
    /// Divides the `len` bytes behind the ICMP header. `datagram` is the RFC 4884 length in bytes, 0 if absent.
    ///
    /// A length that reaches beyond the message says nothing, so all is the quoted packet. One that is too short for
    /// an extension to follow is no reason to lose the error, only the extension.
    pub(crate) const fn split(len: usize, datagram: usize) -> Self {
        if datagram == 0 || datagram >= len {
            Self { datagram: len, extension: 0 }
        } else if datagram < MIN_EXTENDED_DATAGRAM {
            Self { datagram, extension: 0 }
        } else {
            Self { datagram, extension: len - datagram }
        }
    }

    /// How a quoted packet of now `datagram` bytes and an extension of `extension` bytes share `room` bytes, where the
    /// length attribute counts words of `word` bytes: kept bytes of the quoted packet, padding, kept bytes of the
    /// extension.
    ///
    /// Where RFC 7915 §4.2 would cut the extension, the quoted packet is cut first: an extension that has been cut
    /// fails its own checksum. One that leaves less than 128 bytes goes as a whole.
    pub(crate) const fn fit(datagram: usize, extension: usize, room: usize, word: usize) -> Fit {
        if extension == 0 || extension + MIN_EXTENDED_DATAGRAM > room {
            let kept = if datagram < room { datagram } else { room };
            return Fit { datagram: kept, padding: 0, extension: 0 };
        }
        let most = (room - extension) / word * word;
        let kept = if datagram < most { datagram } else { most };
        let mut padded = kept.next_multiple_of(word);
        if padded < MIN_EXTENDED_DATAGRAM {
            padded = MIN_EXTENDED_DATAGRAM;
        }
        Fit { datagram: kept, padding: padded - kept, extension }
    }
}

/// See [`Quote::fit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) datagram: usize,
    pub(crate) padding: usize,
    pub(crate) extension: usize,
}

impl Fit {
    /// The RFC 4884 length attribute in words of `word` bytes: 0 if nothing follows the quoted packet.
    pub(crate) const fn length_attribute(&self, word: usize) -> u8 {
        // At most 1232 / 8 or 548 / 4 words.
        if self.extension == 0 { 0 } else { ((self.datagram + self.padding) / word) as u8 }
    }
}

//! ICMP errors and the packets they quote: RFC 7915 §4.2, §4.3, §5.2, §5.3, and RFC 4884.
//!
//! An error is rewritten from the inside out: the quoted transport header where it stands (moved a little if RFC 4884
//! padding asks for it), then, in front of it, the quoted IP header, the ICMP header and the outer IP header. All
//! checks come first; the packet is untouched if one fails.
//!
//! ```text
//!   before   [IPv4 20..60][ICMP 8][IPv4 20..60][transport ..][padding][extension]
//!   after  [IPv6 40][ICMP 8][IPv6 40, Fragment 0|8][transport ..][padding][extension]
//! ```
//!
//! Errors are rare, so the ICMP checksum is verified first and then computed anew. Otherwise a damaged error would
//! leave here with a valid checksum.

use core::ops::Range;

use crate::checksum::Sum;
use crate::icmp::{self, ErrorHeader, Fit, HEADER_LEN, Quote};
use crate::ipv4::Ipv4Header;
use crate::ipv6::{self, FragmentHeader, Ipv6Header, extension};
use crate::transport::{self, protocol};
use crate::{Config, DropReason, LinkMtu, MIN_IPV6_MTU};

/// ICMPv4 errors are at most this long (RFC 1812 §4.3.2.3).
pub(crate) const MAX_V4_ERROR: usize = 576;
/// ICMPv6 errors are at most this long (RFC 4443 §2.4 c).
pub(crate) const MAX_V6_ERROR: usize = MIN_IPV6_MTU as usize;

/// Where the RFC 4884 length is in the ICMP header, and in words of how many bytes.
const V4_LENGTH: (usize, usize) = (5, 4);
const V6_LENGTH: (usize, usize) = (4, 8);

/// The message at `message` of `buf`, from this host about a packet that it has received (RFC 7915 §4.2, §4.3).
pub(crate) fn v4_to_v6(
    config: &Config,
    buf: &mut [u8],
    outer: &Ipv4Header,
    message: Range<usize>,
    mtu: LinkMtu,
) -> Result<Range<usize>, DropReason> {
    let bytes = &buf[message.clone()];
    let (head, quoted) = split(bytes)?;
    if Sum::of(bytes).fold() != 0xffff {
        return Err(DropReason::IcmpChecksum);
    }
    let [kind, code, _, _, rest @ ..] = *head;
    // RFC 4884 §4.1 to §4.3: all three types have the length attribute.
    let quote = Quote::split(quoted.len(), usize::from(head[V4_LENGTH.0]) * V4_LENGTH.1);
    let quoted = &quoted[..quote.datagram];

    let inner = Ipv4Header::parse(quoted).map_err(|_| DropReason::EmbeddedPacket)?;
    if inner.destination != config.clat_ipv4 || !config.is_acceptable_source(inner.source) {
        return Err(DropReason::EmbeddedPacket);
    }
    let header = icmp::error_to_v6(kind, code, rest, inner.total_len, mtu).ok_or(DropReason::IcmpType)?;
    let inner_kind = inner_kind(
        (inner.protocol, protocol::ICMPV4),
        inner.fragment_offset,
        &quoted[inner.header_len..],
        icmp::is_v4_error,
        icmp::query_to_v6,
    )?;
    let inner_protocol = match inner.protocol {
        protocol::ICMPV4 => protocol::ICMPV6,
        protocol::ICMPV6 | protocol::IGMP => return Err(DropReason::EmbeddedPacket),
        // On the way in, these have been skipped.
        extension::HOP_BY_HOP | extension::ROUTING | extension::FRAGMENT | extension::DESTINATION_OPTIONS => {
            return Err(DropReason::EmbeddedPacket);
        }
        other => other,
    };
    let fragment_len = if inner.is_fragment() { FragmentHeader::LEN } else { 0 };
    let Ok(inner_payload_len) = u16::try_from(inner.payload_len() + fragment_len) else {
        return Err(DropReason::EmbeddedPacket);
    };
    let new = Ipv6Header {
        traffic_class: if config.copy_traffic_class { inner.tos } else { 0 },
        payload_len: inner_payload_len,
        next_header: if inner.is_fragment() { extension::FRAGMENT } else { inner_protocol },
        hop_limit: inner.ttl,
        source: config.pref64.embed(inner.source),
        destination: config.clat_ipv6,
    };

    // Nothing can fail any more.
    let transport = Transport {
        at: message.start + HEADER_LEN + inner.header_len,
        len: (quote.datagram - inner.header_len).min(inner.payload_len()),
    };
    let slice = &mut buf[transport.range()];
    if let Some(new_type) = inner_kind {
        // At most 65515.
        let after = new.pseudo_header(inner.payload_len() as u32, protocol::ICMPV6);
        transport::translate_echo(slice, new_type, Sum::ZERO, after);
    } else if inner.fragment_offset == 0 {
        let old = Sum::from(inner.source).plus(inner.destination.into());
        let sum = Sum::from(new.source).plus(new.destination.into());
        transport::update_checksum(inner.protocol, slice, false, old, sum);
    }
    let extension = extension_len(quote, has_length_v6(header.kind));
    let inner_header_len = Ipv6Header::LEN + fragment_len;
    let room = MAX_V6_ERROR - Ipv6Header::LEN - HEADER_LEN;
    let layout = Layout::new(message.end, transport, inner_header_len, extension, room, V6_LENGTH.1);
    layout.arrange(buf);
    if inner.is_fragment() {
        let fragment = FragmentHeader {
            offset: inner.fragment_offset,
            more: inner.more_fragments,
            identification: u32::from(inner.identification),
        };
        if let Some(out) = buf[..layout.transport.start].last_chunk_mut() {
            fragment.emit(inner_protocol, out);
        }
    }
    if let Some(out) = buf[layout.quote..].first_chunk_mut() {
        new.emit(out);
    }
    let outer = Ipv6Header {
        traffic_class: if config.copy_traffic_class { outer.tos } else { 0 },
        // At most 1240.
        payload_len: (layout.end - layout.icmp()) as u16,
        next_header: protocol::ICMPV6,
        hop_limit: outer.ttl,
        source: config.clat_ipv6,
        destination: config.pref64.embed(outer.destination),
    };
    let pseudo_header = outer.pseudo_header(u32::from(outer.payload_len), protocol::ICMPV6);
    layout.write_icmp(buf, header, V6_LENGTH, pseudo_header);
    let start = layout.icmp() - Ipv6Header::LEN;
    if let Some(out) = buf[start..].first_chunk_mut() {
        outer.emit(out);
    }
    Ok(start..layout.end)
}

/// The message at `message` of `buf`, about a packet that this host has sent (RFC 7915 §5.2, §5.3).
///
/// `header` is the outer IPv6 header and `outer` the IPv4 header that takes its place, but for its length.
pub(crate) fn v6_to_v4(
    config: &Config,
    buf: &mut [u8],
    header: &Ipv6Header,
    outer: Ipv4Header,
    message: Range<usize>,
    mtu: LinkMtu,
    identification: impl FnOnce() -> u16,
) -> Result<Range<usize>, DropReason> {
    let bytes = &buf[message.clone()];
    let (head, quoted) = split(bytes)?;
    // At most 65535.
    let pseudo_header = header.pseudo_header(bytes.len() as u32, protocol::ICMPV6);
    if pseudo_header.plus(Sum::of(bytes)).fold() != 0xffff {
        return Err(DropReason::IcmpChecksum);
    }
    let [kind, code, _, _, rest @ ..] = *head;
    let attribute = if has_length_v6(kind) { usize::from(head[V6_LENGTH.0]) * V6_LENGTH.1 } else { 0 };
    let quote = Quote::split(quoted.len(), attribute);
    let quoted = &quoted[..quote.datagram];

    let embedded = |_| DropReason::EmbeddedPacket;
    let inner = Ipv6Header::parse(quoted).map_err(embedded)?;
    let upper = ipv6::upper_layer(&inner, quoted).map_err(embedded)?;
    let destination = config.pref64.extract(inner.destination).ok_or(DropReason::EmbeddedPacket)?;
    if inner.source != config.clat_ipv6 || !config.is_translatable(destination) {
        return Err(DropReason::EmbeddedPacket);
    }
    let fragment = upper.fragment.filter(|fragment| !fragment.is_atomic());
    let translated =
        icmp::error_to_v4(kind, code, rest, upper.fragment.is_some(), mtu).ok_or(DropReason::IcmpType)?;
    let fragment_offset = fragment.map_or(0, |fragment| fragment.offset);
    let inner_kind = inner_kind(
        (upper.protocol, protocol::ICMPV6),
        fragment_offset,
        &quoted[upper.offset..],
        icmp::is_v6_error,
        icmp::query_to_v4,
    )?;
    let inner_protocol = match upper.protocol {
        protocol::ICMPV6 => protocol::ICMPV4,
        protocol::ICMPV4 | protocol::IGMP => return Err(DropReason::EmbeddedPacket),
        other => other,
    };
    let inner_payload_len = inner.total_len().checked_sub(upper.offset).ok_or(DropReason::EmbeddedPacket)?;
    let total_len = Ipv4Header::LEN + inner_payload_len;
    if total_len > usize::from(u16::MAX) {
        return Err(DropReason::EmbeddedPacket);
    }
    let new = Ipv4Header {
        header_len: Ipv4Header::LEN,
        total_len,
        tos: if config.copy_traffic_class { inner.traffic_class } else { 0 },
        // The identification of a packet that was whole has been lost on the way out.
        identification: upper.fragment.map_or(0, |fragment| fragment.identification as u16),
        dont_fragment: upper.fragment.is_none() && total_len > crate::v6_to_v4::MAX_LEN_WITHOUT_DF,
        more_fragments: fragment.is_some_and(|fragment| fragment.more),
        fragment_offset,
        ttl: inner.hop_limit,
        protocol: inner_protocol,
        source: config.clat_ipv4,
        destination,
    };

    // Nothing can fail any more.
    let transport = Transport {
        at: message.start + HEADER_LEN + upper.offset,
        len: (quote.datagram - upper.offset).min(inner_payload_len),
    };
    let slice = &mut buf[transport.range()];
    if let Some(new_type) = inner_kind {
        // At most 65515.
        let before = inner.pseudo_header(inner_payload_len as u32, protocol::ICMPV6);
        transport::translate_echo(slice, new_type, before, Sum::ZERO);
    } else if fragment_offset == 0 {
        let old = Sum::from(inner.source).plus(inner.destination.into());
        let sum = Sum::from(new.source).plus(new.destination.into());
        transport::update_checksum(upper.protocol, slice, false, old, sum);
    }
    let extension = extension_len(quote, has_length_v6(kind));
    let room = MAX_V4_ERROR - Ipv4Header::LEN - HEADER_LEN;
    let layout = Layout::new(message.end, transport, Ipv4Header::LEN, extension, room, V4_LENGTH.1);
    layout.arrange(buf);
    if let Some(out) = buf[layout.quote..].first_chunk_mut() {
        new.emit(out);
    }
    layout.write_icmp(buf, translated, V4_LENGTH, Sum::ZERO);
    let start = layout.icmp() - Ipv4Header::LEN;
    if let Some(out) = buf[start..].first_chunk_mut() {
        // At most 576 bytes, so without DF (RFC 7915 §5.1).
        Ipv4Header { total_len: layout.end - start, identification: identification(), ..outer }.emit(out);
    }
    Ok(start..layout.end)
}

/// ICMPv6 types whose header has room for the RFC 4884 length: Destination Unreachable and Time Exceeded.
const fn has_length_v6(kind: u8) -> bool {
    matches!(kind, icmp::v6::DESTINATION_UNREACHABLE | icmp::v6::TIME_EXCEEDED)
}

/// An extension cannot go into a message whose header has no room for the length attribute (RFC 4884 §4.6).
const fn extension_len(quote: Quote, has_length: bool) -> usize {
    if has_length { quote.extension } else { 0 }
}

/// The ICMP header and what it quotes.
fn split(message: &[u8]) -> Result<(&[u8; HEADER_LEN], &[u8]), DropReason> {
    message.split_first_chunk().ok_or(DropReason::MalformedTransport)
}

/// The new type if the quoted packet is an echo message; `protocol` is its protocol and the number of ICMP.
///
/// RFC 7915 §4.3: a quoted error would quote yet another packet; such messages are dropped.
fn inner_kind(
    (protocol, icmp): (u8, u8),
    fragment_offset: u16,
    transport: &[u8],
    is_error: impl Fn(u8) -> bool,
    query: impl Fn(u8) -> Option<u8>,
) -> Result<Option<u8>, DropReason> {
    match transport.first() {
        Some(kind) if protocol == icmp && fragment_offset == 0 => {
            if is_error(*kind) {
                return Err(DropReason::NestedError);
            }
            query(*kind).map(Some).ok_or(DropReason::EmbeddedPacket)
        }
        _ => Ok(None),
    }
}

/// The quoted bytes behind the quoted IP headers.
#[derive(Clone, Copy)]
struct Transport {
    at: usize,
    len: usize,
}

impl Transport {
    const fn range(self) -> Range<usize> {
        self.at..self.at + self.len
    }
}

/// Where the parts of the translated message go.
struct Layout {
    fit: Fit,
    /// The quoted transport bytes that are kept, where they are now.
    from: Range<usize>,
    /// And where they go.
    transport: Range<usize>,
    /// The quoted IP header; the ICMP header ends here.
    quote: usize,
    end: usize,
}

impl Layout {
    fn new(
        message_end: usize,
        transport: Transport,
        inner_header_len: usize,
        extension: usize,
        room: usize,
        word: usize,
    ) -> Self {
        let fit = Quote::fit(inner_header_len + transport.len, extension, room, word);
        let kept = fit.datagram - inner_header_len;
        let from = transport.at..transport.at + kept;
        // The extension stays where it is, and what precedes it moves up to it. Without one, nothing moves.
        let (start, end) = if fit.extension == 0 {
            (from.start, from.end)
        } else {
            (message_end - fit.extension - fit.padding - kept, message_end)
        };
        Self { fit, from, transport: start..start + kept, quote: start - inner_header_len, end }
    }

    const fn icmp(&self) -> usize {
        self.quote - HEADER_LEN
    }

    fn arrange(&self, buf: &mut [u8]) {
        if self.from.start != self.transport.start {
            buf.copy_within(self.from.clone(), self.transport.start);
        }
        buf[self.transport.end..self.transport.end + self.fit.padding].fill(0);
    }

    /// Writes the ICMP header; everything that its checksum covers is in place.
    fn write_icmp(&self, buf: &mut [u8], header: ErrorHeader, length: (usize, usize), pseudo_header: Sum) {
        let (at, word) = length;
        let [r0, r1, r2, r3] = header.rest;
        let mut head = [header.kind, header.code, 0, 0, r0, r1, r2, r3];
        if self.fit.extension != 0 {
            head[at] = self.fit.length_attribute(word);
        }
        let message = &mut buf[self.icmp()..self.end];
        message[..HEADER_LEN].copy_from_slice(&head);
        let checksum = pseudo_header.plus(Sum::of(message)).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
}

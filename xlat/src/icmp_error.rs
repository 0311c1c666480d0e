//! ICMP errors and the packets that they quote (RFC 7915 §4.2, §4.3, §5.2, §5.3; RFC 4884).
//!
//! The quoted packet is translated like any other, except that it may end anywhere. An error is short and rare, so
//! it is put together in a scratch array and copied over the original.

use core::net::Ipv4Addr;
use core::ops::Range;

use crate::checksum::{self, Sum};
use crate::icmp::{self, ErrorHeader, HEADER_LEN, Quote};
use crate::ipv4::Ipv4Header;
use crate::ipv6::{self, FragmentHeader, Ipv6Header, extension};
use crate::transport::{self, protocol};
use crate::v6_to_v4::LONGEST_WITHOUT_DF;
use crate::{Config, DropReason, LinkMtu, Verdict};

/// The longest ICMPv6 error: it must fit the smallest IPv6 MTU (RFC 4443 §2.4 c).
const MAX_V6: usize = 1280;
/// The longest ICMPv4 error: what every IPv4 host can receive (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;

/// A packet of at most [`MAX_V6`] bytes in the making.
struct Scratch {
    bytes: [u8; MAX_V6],
    len: usize,
}

impl Scratch {
    fn new() -> Self {
        Self { bytes: [0; MAX_V6], len: 0 }
    }

    /// Appends what fits below `limit`.
    fn push(&mut self, bytes: &[u8], limit: usize) {
        let end = limit.min(MAX_V6).min(self.len + bytes.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes.get(..room.len()).unwrap_or(&[]));
            self.len = end;
        }
    }

    fn filled(&mut self, from: usize) -> &mut [u8] {
        self.bytes.get_mut(from..self.len).unwrap_or(&mut [])
    }

    /// Copies the packet over the original, whose end stays where it was: all growth goes into the headroom.
    fn copy_to(&self, buf: &mut [u8], end: usize) -> Result<Verdict, DropReason> {
        let start = end.checked_sub(self.len).ok_or(DropReason::NoHeadroom)?;
        let out = buf.get_mut(start..end).ok_or(DropReason::NoHeadroom)?;
        out.copy_from_slice(self.bytes.get(..self.len).ok_or(DropReason::NoHeadroom)?);
        Ok(Verdict::Forward(start..end))
    }
}

/// Translates the ICMPv4 error at `message` of `buf`; `outer` is the IPv6 header for it, but for its length.
pub(crate) fn to_v6(
    config: &Config,
    buf: &mut [u8],
    outer: Ipv6Header,
    message: Range<usize>,
    mtu: LinkMtu,
) -> Result<Verdict, DropReason> {
    let error = buf.get(message.clone()).ok_or(DropReason::NoHeadroom)?;
    let [kind, code, _, _, a, b, c, d, ref body @ ..] = *error else {
        return Err(DropReason::MalformedTransport);
    };
    if Sum::of(error).fold() != 0xffff {
        return Err(DropReason::IcmpChecksum);
    }
    let rest = [a, b, c, d];
    let quote = Quote::split(body.len(), usize::from(length_in_v4(kind, rest)) * 4);
    let (datagram, extension) = body.split_at(quote.datagram);
    let extension = extension.get(..quote.extension).unwrap_or(&[]);
    let inner = Ipv4Header::parse(datagram).map_err(|_| DropReason::EmbeddedPacket)?;
    let header = icmp::error_to_v6(kind, code, rest, inner.total_len, mtu).ok_or(DropReason::IcmpType)?;

    let mut quoted = Scratch::new();
    quote_v4(config, &inner, datagram, &mut quoted)?;

    let mut out = Scratch::new();
    out.len = Ipv6Header::LEN;
    assemble(
        &mut out,
        header,
        &mut quoted,
        extension,
        8,
        MAX_V6 - Ipv6Header::LEN - HEADER_LEN,
        |rest, n| {
            // Only these two have a place for the length (RFC 4884 §4.2, §4.3).
            if matches!(header.kind, icmp::v6::DESTINATION_UNREACHABLE | icmp::v6::TIME_EXCEEDED) {
                rest[0] = n;
                true
            } else {
                false
            }
        },
    );
    let payload_len = out.len - Ipv6Header::LEN;
    let outer = Ipv6Header { payload_len: payload_len as u16, ..outer };
    let pseudo =
        checksum::ipv6_pseudo_header(outer.source, outer.destination, payload_len as u32, protocol::ICMPV6);
    set_checksum(out.filled(Ipv6Header::LEN), pseudo);
    outer.emit(out.bytes.first_chunk_mut().ok_or(DropReason::NoHeadroom)?);
    out.copy_to(buf, message.end)
}

/// Translates the ICMPv6 error at `message` of `buf`, which came with the header `outer`, to an error from `source`.
pub(crate) fn to_v4(
    config: &Config,
    buf: &mut [u8],
    outer: &Ipv6Header,
    source: Ipv4Addr,
    message: Range<usize>,
    mtu: LinkMtu,
) -> Result<Verdict, DropReason> {
    let error = buf.get(message.clone()).ok_or(DropReason::NoHeadroom)?;
    let [kind, code, _, _, a, b, c, d, ref body @ ..] = *error else {
        return Err(DropReason::MalformedTransport);
    };
    // At most 65535 bytes.
    let length = error.len() as u32;
    let pseudo = checksum::ipv6_pseudo_header(outer.source, outer.destination, length, protocol::ICMPV6);
    if pseudo.plus(Sum::of(error)).fold() != 0xffff {
        return Err(DropReason::IcmpChecksum);
    }
    let rest = [a, b, c, d];
    let quote = Quote::split(body.len(), usize::from(length_in_v6(kind, rest)) * 8);
    let (datagram, extension) = body.split_at(quote.datagram);
    let extension = extension.get(..quote.extension).unwrap_or(&[]);
    let inner = Ipv6Header::parse(datagram).map_err(|_| DropReason::EmbeddedPacket)?;
    let mut quoted = Scratch::new();
    let fragmented = quote_v6(config, &inner, datagram, &mut quoted)?;
    let header = icmp::error_to_v4(kind, code, rest, fragmented, mtu).ok_or(DropReason::IcmpType)?;

    let mut out = Scratch::new();
    out.len = Ipv4Header::LEN;
    assemble(
        &mut out,
        header,
        &mut quoted,
        extension,
        4,
        MAX_V4 - Ipv4Header::LEN - HEADER_LEN,
        |rest, n| {
            // All three that have a row in the table have a place for the length (RFC 4884 §4.1), and only these.
            rest[1] = n;
            true
        },
    );
    set_checksum(out.filled(Ipv4Header::LEN), Sum::ZERO);
    let header = Ipv4Header {
        header_len: Ipv4Header::LEN,
        total_len: out.len,
        tos: if config.copy_traffic_class { outer.traffic_class } else { 0 },
        identification: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: outer.hop_limit,
        protocol: protocol::ICMPV4,
        source,
        destination: config.clat_ipv4,
    };
    header.emit(out.bytes.first_chunk_mut().ok_or(DropReason::NoHeadroom)?);
    out.copy_to(buf, message.end)
}

/// ICMP header without checksum, quoted packet, padding, extension. `set_length` stores the RFC 4884 length in words
/// of `word` bytes, or says that this message has no place for it.
fn assemble(
    out: &mut Scratch,
    header: ErrorHeader,
    quoted: &mut Scratch,
    extension: &[u8],
    word: usize,
    room: usize,
    set_length: impl Fn(&mut [u8; 4], u8) -> bool,
) {
    let mut rest = header.rest;
    let extension = if set_length(&mut [0; 4], 0) { extension } else { &[] };
    let fit = Quote::fit(quoted.len, extension.len(), room, word);
    if fit.extension > 0 {
        set_length(&mut rest, fit.length_attribute(word));
    }
    let limit = out.len + HEADER_LEN + fit.len();
    out.push(&[header.kind, header.code, 0, 0], limit);
    out.push(&rest, limit);
    quoted.len = fit.datagram;
    out.push(quoted.filled(0), limit);
    out.push([0; MAX_V6].get(..fit.padding).unwrap_or(&[]), limit);
    out.push(extension.get(..fit.extension).unwrap_or(&[]), limit);
}

fn set_checksum(message: &mut [u8], pseudo_header: Sum) {
    let value = pseudo_header.plus(Sum::of(message)).checksum();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// The RFC 4884 length of an ICMPv4 error in words of 4 bytes.
const fn length_in_v4(kind: u8, rest: [u8; 4]) -> u8 {
    match kind {
        icmp::v4::DESTINATION_UNREACHABLE | icmp::v4::TIME_EXCEEDED | icmp::v4::PARAMETER_PROBLEM => rest[1],
        _ => 0,
    }
}

/// The RFC 4884 length of an ICMPv6 error in words of 8 bytes.
const fn length_in_v6(kind: u8, rest: [u8; 4]) -> u8 {
    match kind {
        icmp::v6::DESTINATION_UNREACHABLE | icmp::v6::TIME_EXCEEDED => rest[0],
        _ => 0,
    }
}

/// A quoted packet that the CLAT brought here from the NAT64 (RFC 7915 §4.3).
fn quote_v4(
    config: &Config,
    inner: &Ipv4Header,
    datagram: &[u8],
    out: &mut Scratch,
) -> Result<(), DropReason> {
    if inner.destination != config.clat_ipv4 {
        return Err(DropReason::EmbeddedPacket);
    }
    let payload = datagram.get(inner.header_len..).unwrap_or(&[]);
    // Bytes behind the quoted packet are none of it.
    let payload = payload.get(..inner.payload_len()).unwrap_or(payload);
    let fragment_len = if inner.is_fragment() { FragmentHeader::LEN } else { 0 };
    let next_header = if inner.protocol == protocol::ICMPV4 { protocol::ICMPV6 } else { inner.protocol };
    let header = Ipv6Header {
        traffic_class: if config.copy_traffic_class { inner.tos } else { 0 },
        payload_len: u16::try_from(inner.payload_len() + fragment_len).unwrap_or(u16::MAX),
        next_header: if inner.is_fragment() { extension::FRAGMENT } else { next_header },
        hop_limit: inner.ttl,
        source: config.pref64.embed(inner.source),
        destination: config.clat_ipv6,
    };
    let mut bytes = [0; Ipv6Header::LEN];
    header.emit(&mut bytes);
    out.push(&bytes, MAX_V6);
    if inner.is_fragment() {
        let fragment = FragmentHeader {
            offset: inner.fragment_offset,
            more: inner.more_fragments,
            identification: u32::from(inner.identification),
        };
        let mut bytes = [0; FragmentHeader::LEN];
        fragment.emit(next_header, &mut bytes);
        out.push(&bytes, MAX_V6);
    }
    let at = out.len;
    out.push(payload, MAX_V6);
    if inner.fragment_offset != 0 {
        return Ok(());
    }
    if inner.protocol == protocol::ICMPV4 {
        let kind = quoted_query(payload, icmp::is_v4_error, icmp::query_to_v6)?;
        // At most 65515 bytes.
        let length = inner.payload_len() as u32;
        let pseudo =
            checksum::ipv6_pseudo_header(header.source, header.destination, length, protocol::ICMPV6);
        transport::translate_echo(out.filled(at), kind, Sum::ZERO, pseudo);
    } else {
        let old = Sum::from(inner.source).plus(inner.destination.into());
        let new = Sum::from(header.source).plus(header.destination.into());
        transport::update_checksum(inner.protocol, out.filled(at), false, old, new);
    }
    Ok(())
}

/// A quoted packet that the CLAT sent to the NAT64 (RFC 7915 §5.3). True if it has a Fragment header.
fn quote_v6(
    config: &Config,
    inner: &Ipv6Header,
    datagram: &[u8],
    out: &mut Scratch,
) -> Result<bool, DropReason> {
    let destination = config.pref64.extract(inner.destination).ok_or(DropReason::EmbeddedPacket)?;
    if inner.source != config.clat_ipv6 {
        return Err(DropReason::EmbeddedPacket);
    }
    let datagram = datagram.get(..inner.total_len()).unwrap_or(datagram);
    let upper = ipv6::upper_layer(inner, datagram).map_err(|_| DropReason::EmbeddedPacket)?;
    let headers_len = upper.offset - Ipv6Header::LEN;
    let payload_len =
        usize::from(inner.payload_len).checked_sub(headers_len).ok_or(DropReason::EmbeddedPacket)?;
    let payload = datagram.get(upper.offset..).unwrap_or(&[]);
    let total_len = (Ipv4Header::LEN + payload_len).min(usize::from(u16::MAX));
    let header = Ipv4Header {
        header_len: Ipv4Header::LEN,
        total_len,
        tos: if config.copy_traffic_class { inner.traffic_class } else { 0 },
        // The low-order 16 bits (RFC 7915 §5.1.1).
        identification: upper.fragment.map_or(0, |fragment| fragment.identification as u16),
        dont_fragment: upper.fragment.is_none() && total_len > LONGEST_WITHOUT_DF,
        more_fragments: upper.fragment.is_some_and(|fragment| fragment.more),
        fragment_offset: upper.fragment.map_or(0, |fragment| fragment.offset),
        ttl: inner.hop_limit,
        protocol: if upper.protocol == protocol::ICMPV6 { protocol::ICMPV4 } else { upper.protocol },
        source: config.clat_ipv4,
        destination,
    };
    let mut bytes = [0; Ipv4Header::LEN];
    header.emit(&mut bytes);
    out.push(&bytes, MAX_V4);
    let at = out.len;
    out.push(payload, MAX_V6);
    let fragmented = upper.fragment.is_some();
    if upper.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return Ok(fragmented);
    }
    if upper.protocol == protocol::ICMPV6 {
        let kind = quoted_query(payload, icmp::is_v6_error, icmp::query_to_v4)?;
        // At most 65535 bytes.
        let length = payload_len as u32;
        let pseudo = checksum::ipv6_pseudo_header(inner.source, inner.destination, length, protocol::ICMPV6);
        transport::translate_echo(out.filled(at), kind, pseudo, Sum::ZERO);
    } else {
        let old = Sum::from(inner.source).plus(inner.destination.into());
        let new = Sum::from(header.source).plus(header.destination.into());
        transport::update_checksum(upper.protocol, out.filled(at), false, old, new);
    }
    Ok(fragmented)
}

/// The new type of a quoted ICMP query. An error about an error does not exist (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
fn quoted_query(
    message: &[u8],
    is_error: fn(u8) -> bool,
    translate: fn(u8) -> Option<u8>,
) -> Result<u8, DropReason> {
    let kind = *message.first().ok_or(DropReason::EmbeddedPacket)?;
    if is_error(kind) {
        return Err(DropReason::NestedError);
    }
    translate(kind).ok_or(DropReason::EmbeddedPacket)
}

//! From IPv4 to IPv6: RFC 7915 §4. Outbound, from this host to the NAT64.

use core::ops::Range;

use crate::checksum::Sum;
use crate::ipv4::{self, Ipv4Header};
use crate::ipv6::{FragmentHeader, Ipv6Header, extension};
use crate::reply::{Icmpv4Error, Reply};
use crate::transport::{self, protocol};
use crate::verdict::Refusal;
use crate::{AddressClass, Config, DropReason, Fragments, HEADROOM, LinkMtu, Offload, Verdict};
use crate::{fragment, icmp, icmp_error};

pub(crate) fn translate(
    config: &Config,
    buf: &mut [u8],
    packet: Range<usize>,
    offload: Offload,
    mtu: LinkMtu,
) -> Result<Verdict, Refusal> {
    let mtu = mtu.clamped();
    let bytes = buf.get(packet.clone()).ok_or(DropReason::NoHeadroom)?;
    if packet.start < HEADROOM {
        return Err(DropReason::NoHeadroom.into());
    }
    let header = check_header(config, bytes, offload)?;
    // What follows the packet is link-layer padding.
    let bytes = bytes.get(..header.total_len).ok_or(DropReason::Truncated)?;
    let transport = &bytes[header.header_len..];

    // Nobody may be answered beyond this point but the sender of a packet that deserves it.
    let refuse = |error: Icmpv4Error| {
        let reply = Reply::V4(error);
        if may_answer(&header, transport) { Refusal::Reply(reply) } else { Refusal::Drop(reply.reason()) }
    };
    let next_header = match header.protocol {
        protocol::ICMPV4 => protocol::ICMPV6,
        protocol::IGMP => return Err(DropReason::Igmp.into()),
        other if is_misleading(other) => return Err(refuse(Icmpv4Error::Prohibited(DropReason::Protocol))),
        other => other,
    };
    if !config.is_translatable(header.destination) {
        return Err(refuse(Icmpv4Error::Prohibited(DropReason::Ipv4Destination)));
    }
    if ipv4::has_unexpired_source_route(&bytes[Ipv4Header::LEN..header.header_len]) {
        return Err(refuse(Icmpv4Error::SourceRouteFailed));
    }

    let payload = packet.start + header.header_len..packet.start + header.total_len;
    let echo = match header.protocol {
        protocol::ICMPV4 => {
            check_icmp(&header, offload)?;
            let kind = *transport.first().ok_or(DropReason::MalformedTransport)?;
            if icmp::is_v4_error(kind) {
                return Ok(Verdict::Forward(icmp_error::v4_to_v6(config, buf, &header, payload, mtu)?));
            }
            if transport.len() < icmp::HEADER_LEN {
                return Err(DropReason::MalformedTransport.into());
            }
            Some(icmp::query_to_v6(kind).ok_or(DropReason::IcmpType)?)
        }
        _ => None,
    };
    let checksum = check_transport(config, &header, transport, offload)?;
    let cut = fit(config, &header, transport, offload, mtu).map_err(refuse)?;

    // From here on the packet changes, and nothing can fail any more.
    let outer = Ipv6Header {
        traffic_class: if config.copy_traffic_class { header.tos } else { 0 },
        // At most 65515.
        payload_len: payload.len() as u16,
        next_header,
        hop_limit: header.ttl,
        source: config.clat_ipv6,
        destination: config.pref64.embed(header.destination),
    };
    let transport = &mut buf[payload.clone()];
    if let Some(new_type) = echo {
        let pseudo_header = outer.pseudo_header(u32::from(outer.payload_len), protocol::ICMPV6);
        transport::translate_echo(transport, new_type, Sum::ZERO, pseudo_header);
    } else if header.fragment_offset == 0 {
        match checksum {
            ChecksumWork::Update => {
                let old = Sum::from(header.source).plus(header.destination.into());
                let new = Sum::from(outer.source).plus(outer.destination.into());
                transport::update_checksum(header.protocol, transport, offload.partial_checksum, old, new);
            }
            ChecksumWork::Compute { udp_len } => {
                // Never more than 65515 bytes.
                let pseudo_header = outer.pseudo_header(udp_len as u32, protocol::UDP);
                transport::compute_udp_checksum(transport, udp_len, pseudo_header);
            }
        }
    }
    Ok(write_header(buf, &header, outer, payload, offload, cut))
}

/// What makes a packet none of our business: answered with silence.
#[inline]
fn check_header(config: &Config, bytes: &[u8], offload: Offload) -> Result<Ipv4Header, DropReason> {
    if offload.gso_size != 0 && matches!(bytes, [_, _, 0, 0, ..]) {
        // "BIG TCP": longer than a total length can say. An IPv6 payload length could not say it either.
        return Err(DropReason::Jumbogram);
    }
    let header = Ipv4Header::parse(bytes)?;
    if header.total_len > bytes.len() {
        return Err(DropReason::Truncated);
    }
    // The IPv6 header has no checksum: damage must be found here (RFC 1812 §5.2.2).
    if !ipv4::checksum_is_valid(&bytes[..header.header_len]) {
        return Err(DropReason::Ipv4Checksum);
    }
    // The CLAT is not a hop and does not decrement; a packet that has expired is not sent on all the same.
    if header.ttl == 0 {
        return Err(DropReason::HopLimit);
    }
    if header.source != config.clat_ipv4 {
        return Err(DropReason::Ipv4Source);
    }
    if matches!(AddressClass::of(header.destination), AddressClass::Multicast | AddressClass::Broadcast) {
        return Err(DropReason::Multicast);
    }
    if header.is_fragment() {
        fragment::check(header.fragment_offset, header.more_fragments, header.payload_len())?;
    }
    Ok(header)
}

/// Never an error about an error, nor about a fragment but the first (RFC 1122 §3.2.2, RFC 7915 §4.4). Multicast,
/// broadcast and sources other than the CLAT have been dropped before.
fn may_answer(header: &Ipv4Header, transport: &[u8]) -> bool {
    let is_error = match (header.protocol, transport.first()) {
        (protocol::ICMPV4, Some(kind)) => icmp::is_v4_error(*kind),
        (protocol::ICMPV4, None) => true,
        _ => false,
    };
    header.fragment_offset == 0 && !is_error
}

/// Protocol numbers that an IPv6 host would read as extension headers, or as ICMPv6 without a valid checksum.
const fn is_misleading(protocol: u8) -> bool {
    matches!(
        protocol,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::DESTINATION_OPTIONS
            | extension::MOBILITY
            | extension::HIP
            | extension::SHIM6
            | protocol::ICMPV6
    )
}

/// ICMPv6 needs the length of the whole message for its checksum, so fragments cannot be translated (RFC 7915 §1.2).
fn check_icmp(header: &Ipv4Header, offload: Offload) -> Result<(), DropReason> {
    if header.is_fragment() {
        return Err(DropReason::FragmentedIcmp);
    }
    if offload != Offload::NONE {
        return Err(DropReason::Offload);
    }
    Ok(())
}

/// What the transport checksum needs.
enum ChecksumWork {
    Update,
    Compute { udp_len: usize },
}

#[inline]
fn check_transport(
    config: &Config,
    header: &Ipv4Header,
    transport: &[u8],
    offload: Offload,
) -> Result<ChecksumWork, DropReason> {
    transport::check_offload(header.protocol, header.is_fragment(), offload)?;
    if header.fragment_offset != 0 {
        return Ok(ChecksumWork::Update);
    }
    transport::check(header.protocol, transport, !header.more_fragments)?;
    if offload.partial_checksum || !transport::lacks_udp_checksum(header.protocol, transport) {
        return Ok(ChecksumWork::Update);
    }
    // RFC 7915 §4.5: a checksum can be computed only over the whole datagram, and only one datagram at a time.
    if header.more_fragments || !config.compute_udp_checksum {
        return Err(DropReason::UdpZeroChecksum);
    }
    if offload.gso_size != 0 {
        return Err(DropReason::Offload);
    }
    Ok(ChecksumWork::Compute { udp_len: transport::udp_len(transport)? })
}

/// RFC 7915 §4.1: what DF and the lengths ask for. `Some` is the length to cut the packet to.
#[inline]
fn fit(
    config: &Config,
    header: &Ipv4Header,
    transport: &[u8],
    offload: Offload,
    mtu: LinkMtu,
) -> Result<Option<usize>, Icmpv4Error> {
    let fragment_header = if header.is_fragment() { FragmentHeader::LEN } else { 0 };
    let len = Ipv6Header::LEN + fragment_header + transport.len();
    let link = mtu.ipv6 as usize;
    let too_big = Icmpv4Error::FragmentationNeeded {
        mtu: u16::try_from(link - Ipv6Header::LEN + Ipv4Header::LEN - fragment_header).unwrap_or(u16::MAX),
    };
    if offload.gso_size != 0 {
        // The device cuts a super-packet into segments, so each segment must fit. One that does not cannot be cut
        // into fragments here, so its sender hears of it even if it has not set DF; that sender is this host.
        let segment = transport::segment_len(header.protocol, transport, offload.gso_size);
        return if Ipv6Header::LEN + segment > link { Err(too_big) } else { Ok(None) };
    }
    if header.dont_fragment {
        return if len > link { Err(too_big) } else { Ok(None) };
    }
    let limit = link.min(usize::from(config.lowest_ipv6_mtu));
    Ok((len > limit).then_some(limit))
}

/// Writes the IPv6 header, and the Fragment header if the packet was a fragment, in front of the payload.
#[inline]
fn write_header(
    buf: &mut [u8],
    header: &Ipv4Header,
    outer: Ipv6Header,
    payload: Range<usize>,
    offload: Offload,
    cut: Option<usize>,
) -> Verdict {
    let fragment = FragmentHeader {
        offset: header.fragment_offset,
        more: header.more_fragments,
        identification: u32::from(header.identification),
    };
    if let Some(mtu) = cut {
        if offload.partial_checksum {
            transport::complete_checksum(outer.next_header, &mut buf[payload.clone()]);
        }
        let whole = Ipv6Header { next_header: extension::FRAGMENT, ..outer };
        return Verdict::Fragment(Fragments::v6(whole, outer.next_header, fragment, payload, mtu));
    }
    let front = &mut buf[..payload.start];
    if !header.is_fragment() {
        let start = front.len() - Ipv6Header::LEN;
        if let Some(out) = front.last_chunk_mut() {
            outer.emit(out);
        }
        return Verdict::Forward(start..payload.end);
    }
    if let Some(out) = front.last_chunk_mut() {
        fragment.emit(outer.next_header, out);
    }
    let front_len = front.len() - FragmentHeader::LEN;
    let start = front_len - Ipv6Header::LEN;
    if let Some(out) = front[..front_len].last_chunk_mut() {
        // A fragment ends below 65536 (`fragment::check`) and begins with at least 20 bytes less.
        let payload_len = (FragmentHeader::LEN + payload.len()) as u16;
        Ipv6Header { payload_len, next_header: extension::FRAGMENT, ..outer }.emit(out);
    }
    Verdict::Forward(start..payload.end)
}

//! IPv4 to IPv6 (RFC 7915 §4).

use core::ops::Range;

use crate::checksum::{self, Sum};
use crate::fragment::check_end;
use crate::icmp::{self, HEADER_LEN as ICMP_LEN};
use crate::icmp_error;
use crate::ipv4::{self, Ipv4Header};
use crate::ipv6::{FragmentHeader, Ipv6Header, extension};
use crate::transport::{self, protocol};
use crate::{
    AddressClass, Config, DropReason, Fragments, HEADROOM, Icmpv4Error, LinkMtu, MIN_IPV6_MTU, Offload,
    Reply, Verdict, is_translatable,
};

pub(crate) fn translate(
    config: &Config,
    buf: &mut [u8],
    packet: Range<usize>,
    offload: Offload,
    mtu: LinkMtu,
) -> Verdict {
    try_translate(config, buf, packet, offload, mtu).unwrap_or_else(Verdict::Drop)
}

fn try_translate(
    config: &Config,
    buf: &mut [u8],
    packet: Range<usize>,
    offload: Offload,
    mtu: LinkMtu,
) -> Result<Verdict, DropReason> {
    if packet.start < HEADROOM {
        return Err(DropReason::NoHeadroom);
    }
    let bytes = buf.get(packet.clone()).ok_or(DropReason::NoHeadroom)?;
    let header = Ipv4Header::parse(bytes)?;
    // What follows the datagram is padding of some link layer.
    let bytes = bytes.get(..header.total_len).ok_or(DropReason::Truncated)?;
    let (head, payload) = bytes.split_at(header.header_len);
    if !ipv4::checksum_is_valid(head) {
        return Err(DropReason::Ipv4Checksum);
    }
    if header.ttl == 0 {
        return Err(DropReason::HopLimit);
    }
    if header.source != config.clat_ipv4 {
        return Err(DropReason::Ipv4Source);
    }
    if header.protocol == protocol::IGMP {
        return Err(DropReason::Igmp);
    }
    if matches!(AddressClass::of(header.destination), AddressClass::Multicast | AddressClass::Broadcast) {
        return Err(DropReason::Multicast);
    }
    let refuse = |error: Icmpv4Error| {
        let reply = Reply::V4(error);
        if deserves_error(&header, payload) { Ok(Verdict::Reply(reply)) } else { Err(reply.reason()) }
    };
    if !is_translatable(header.destination, &config.pref64, config.private_ipv4) {
        return refuse(Icmpv4Error::Prohibited(DropReason::Ipv4Destination));
    }
    // RFC 7915 §4.1: other options are ignored.
    if ipv4::has_unexpired_source_route(head.get(Ipv4Header::LEN..).unwrap_or(&[])) {
        return refuse(Icmpv4Error::SourceRouteFailed);
    }
    if means_something_else_in_ipv6(header.protocol) {
        return refuse(Icmpv4Error::Prohibited(DropReason::Protocol));
    }

    let fragment = header.is_fragment().then_some(FragmentHeader {
        offset: header.fragment_offset,
        more: header.more_fragments,
        identification: u32::from(header.identification),
    });
    if let Some(fragment) = fragment {
        check_fragment(&fragment, payload.len())?;
        if offload.gso_size != 0 || offload.partial_checksum {
            return Err(DropReason::Offload);
        }
    }
    let ipv6 = Ipv6Header {
        traffic_class: if config.copy_traffic_class { header.tos } else { 0 },
        payload_len: 0,
        next_header: if header.protocol == protocol::ICMPV4 { protocol::ICMPV6 } else { header.protocol },
        hop_limit: header.ttl,
        source: config.clat_ipv6,
        destination: config.pref64.embed(header.destination),
    };
    let transport = packet.start + header.header_len..packet.start + header.total_len;

    if header.protocol == protocol::ICMPV4 {
        check_icmp(payload, fragment.is_some(), offload)?;
        if icmp::is_v4_error(payload[0]) {
            return icmp_error::to_v6(config, buf, ipv6, transport, mtu);
        }
        icmp::query_to_v6(payload[0]).ok_or(DropReason::IcmpType)?;
    } else if header.fragment_offset == 0 {
        transport::check(header.protocol, payload, fragment.is_none())?;
        check_offload(header.protocol, offload)?;
    }
    let zero_checksum = header.fragment_offset == 0
        && !offload.partial_checksum
        && transport::lacks_udp_checksum(header.protocol, payload);
    if zero_checksum && (fragment.is_some() || !config.compute_udp_checksum) {
        return Err(DropReason::UdpZeroChecksum);
    }
    let udp_len = if zero_checksum { transport::udp_len(payload)? } else { 0 };

    // RFC 7915 §4: does it fit?
    let fragment_len = if fragment.is_some() { FragmentHeader::LEN } else { 0 };
    let segment_len = match offload.gso_size {
        0 => payload.len(),
        size => transport::gso_header_len(header.protocol, payload)? + usize::from(size).min(payload.len()),
    };
    let ipv6_len = Ipv6Header::LEN + fragment_len + segment_len;
    let link_mtu = mtu.ipv6.max(u32::from(MIN_IPV6_MTU)) as usize;
    let may_fragment = !header.dont_fragment && offload.gso_size == 0;
    if !may_fragment && ipv6_len > link_mtu {
        let fits = link_mtu - (Ipv6Header::LEN - Ipv4Header::LEN) - fragment_len;
        return refuse(Icmpv4Error::FragmentationNeeded { mtu: u16::try_from(fits).unwrap_or(u16::MAX) });
    }
    let fragment_mtu = usize::from(config.lowest_ipv6_mtu).min(link_mtu);
    let cut = may_fragment && ipv6_len > fragment_mtu;

    // From here on the packet is changed, and nothing can fail any more.
    let old = Sum::from(header.source).plus(header.destination.into());
    let new = Sum::from(ipv6.source).plus(ipv6.destination.into());
    let body = buf.get_mut(transport.clone()).ok_or(DropReason::NoHeadroom)?;
    if header.protocol == protocol::ICMPV4 {
        // At most 65515 bytes.
        let pseudo =
            checksum::ipv6_pseudo_header(ipv6.source, ipv6.destination, body.len() as u32, protocol::ICMPV6);
        if let Some(kind) = body.first().copied().and_then(icmp::query_to_v6) {
            transport::translate_echo(body, kind, Sum::ZERO, pseudo);
        }
    } else if zero_checksum {
        transport::compute_udp_checksum(body, udp_len, ipv6.source, ipv6.destination);
    } else if header.fragment_offset == 0 {
        transport::update_checksum(header.protocol, body, offload.partial_checksum, old, new);
        if cut && offload.partial_checksum {
            // No device finishes the checksum of fragments.
            let offset = transport::checksum_offset(header.protocol).ok_or(DropReason::Offload)?;
            let _ = checksum::complete(body, 0, offset);
        }
    }
    if cut {
        // RFC 7915 §4.1: the identification of the fragments is that of the IPv4 packet.
        let whole =
            FragmentHeader { offset: 0, more: false, identification: u32::from(header.identification) };
        let fragment = fragment.unwrap_or(whole);
        let next_header = ipv6.next_header;
        let header = Ipv6Header { next_header: extension::FRAGMENT, ..ipv6 };
        return Ok(Verdict::Fragment(Fragments::v6(header, next_header, fragment, transport, fragment_mtu)));
    }
    let start = transport.start - Ipv6Header::LEN - fragment_len;
    let payload_len = (fragment_len + transport.len()) as u16;
    let out = buf.get_mut(start..transport.start).ok_or(DropReason::NoHeadroom)?;
    let (first, rest) = out.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    match (fragment, rest.first_chunk_mut()) {
        (Some(fragment), Some(place)) => {
            Ipv6Header { payload_len, next_header: extension::FRAGMENT, ..ipv6 }.emit(first);
            fragment.emit(ipv6.next_header, place);
        }
        _ => Ipv6Header { payload_len, ..ipv6 }.emit(first),
    }
    Ok(Verdict::Forward(start..transport.end))
}

/// An ICMP error may answer only the first piece of something that is no error itself (RFC 1122 §3.2.2).
fn deserves_error(header: &Ipv4Header, payload: &[u8]) -> bool {
    let is_error =
        header.protocol == protocol::ICMPV4 && payload.first().is_none_or(|kind| icmp::is_v4_error(*kind));
    header.fragment_offset == 0 && !is_error
}

/// Protocol numbers that an IPv6 host takes for extension headers, and ICMPv6, which no IPv4 host sends.
///
/// ESP (50) is an extension header in name only: it passes, as RFC 7915 §4.5 wants of IPsec. The Authentication
/// Header covers the addresses and cannot survive.
const fn means_something_else_in_ipv6(number: u8) -> bool {
    matches!(
        number,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::AUTHENTICATION
            | protocol::ICMPV6
            | extension::NO_NEXT_HEADER
            | extension::DESTINATION_OPTIONS
            | extension::MOBILITY
            | extension::HIP
            | extension::SHIM6
    )
}

/// A fragment that is not the last one carries a multiple of 8 bytes (RFC 791); none ends beyond 65535.
pub(crate) fn check_fragment(fragment: &FragmentHeader, len: usize) -> Result<(), DropReason> {
    if fragment.more && (len == 0 || !len.is_multiple_of(8)) {
        return Err(DropReason::MalformedHeader);
    }
    check_end(fragment.offset, len)
}

/// What both ICMP versions have in common: no fragments (RFC 7915 §1.2), no offloads, a whole header.
pub(crate) fn check_icmp(message: &[u8], fragmented: bool, offload: Offload) -> Result<(), DropReason> {
    if fragmented {
        Err(DropReason::FragmentedIcmp)
    } else if offload != Offload::NONE {
        Err(DropReason::Offload)
    } else if message.len() < ICMP_LEN {
        Err(DropReason::MalformedTransport)
    } else {
        Ok(())
    }
}

/// Offloads exist for TCP and UDP (and checksums of what is laid out like them).
pub(crate) fn check_offload(number: u8, offload: Offload) -> Result<(), DropReason> {
    let segmented = matches!(number, protocol::TCP | protocol::UDP);
    if (offload.gso_size != 0 && !segmented)
        || (offload.partial_checksum && transport::checksum_offset(number).is_none())
    {
        return Err(DropReason::Offload);
    }
    Ok(())
}

//! IPv6 to IPv4 (RFC 7915 §5).

use core::net::Ipv6Addr;
use core::ops::Range;

use crate::checksum::{self, Sum};
use crate::icmp;
use crate::icmp_error;
use crate::ipv4::Ipv4Header;
use crate::ipv6::{self, FragmentHeader, Ipv6Header, UpperLayer, extension};
use crate::transport::{self, protocol};
use crate::v4_to_v6::{check_fragment, check_icmp, check_offload};
use crate::{
    Config, DUMMY_IPV4, DropReason, Fragments, HEADROOM, Icmpv6Error, LinkMtu, MIN_IPV4_MTU, MIN_IPV6_MTU,
    Offload, Reply, Verdict, is_translatable,
};

/// Packets of up to this many bytes may be fragmented on their way, longer ones not (RFC 7915 §5.1): what fits
/// the smallest IPv6 MTU gains nothing from path MTU discovery.
pub(crate) const LONGEST_WITHOUT_DF: usize = 1260;

pub(crate) fn translate(
    config: &Config,
    identification: u16,
    buf: &mut [u8],
    packet: Range<usize>,
    offload: Offload,
    mtu: LinkMtu,
) -> Verdict {
    try_translate(config, identification, buf, packet, offload, mtu).unwrap_or_else(Verdict::Drop)
}

fn try_translate(
    config: &Config,
    identification: u16,
    buf: &mut [u8],
    packet: Range<usize>,
    offload: Offload,
    mtu: LinkMtu,
) -> Result<Verdict, DropReason> {
    if packet.start < HEADROOM {
        return Err(DropReason::NoHeadroom);
    }
    let bytes = buf.get(packet.clone()).ok_or(DropReason::NoHeadroom)?;
    let header = Ipv6Header::parse(bytes)?;
    // Jumbograms (RFC 2675) and super-packets beyond 64 KiB say 0.
    if header.payload_len == 0 && bytes.len() > Ipv6Header::LEN + usize::from(u16::MAX) {
        return Err(DropReason::Jumbogram);
    }
    let bytes = bytes.get(..header.total_len()).ok_or(DropReason::Truncated)?;
    if header.hop_limit == 0 {
        return Err(DropReason::HopLimit);
    }
    if header.destination.is_multicast() {
        return Err(DropReason::Multicast);
    }
    if header.destination != config.clat_ipv6 {
        return Err(DropReason::Ipv6Destination);
    }
    let upper = ipv6::upper_layer(&header, bytes)?;
    let payload = bytes.get(upper.offset..).ok_or(DropReason::Truncated)?;
    let icmp_error = upper.protocol == protocol::ICMPV6
        && upper.fragment.is_none()
        && payload.first().is_some_and(|kind| icmp::is_v6_error(*kind));
    let source = match config.pref64.extract(header.source) {
        Some(embedded) => {
            let own = embedded == config.clat_ipv4 || config.own_ipv4.contains(embedded);
            if own || !is_translatable(embedded, &config.pref64, config.private_ipv4) {
                return Err(DropReason::EmbeddedSource);
            }
            embedded
        }
        // A router on the way has no IPv4 address; without its errors there is neither path MTU discovery nor
        // traceroute (RFC 7915 §5.1, RFC 6791, draft-ietf-v6ops-icmpext-xlat-v6only-source).
        None if icmp_error && is_router_address(header.source) => DUMMY_IPV4,
        None => return Err(DropReason::Ipv6Source),
    };
    let refuse = |error: Icmpv6Error| {
        let reply = Reply::V6(error);
        let first = upper.fragment.is_none_or(|fragment| fragment.offset == 0);
        if first && !icmp_error { Ok(Verdict::Reply(reply)) } else { Err(reply.reason()) }
    };
    // RFC 7915 §5.1: routing headers that still lead elsewhere.
    if let Some(pointer) = upper.segments_left {
        return refuse(Icmpv6Error::ParameterProblem { pointer: pointer as u32 });
    }
    if means_something_else_in_ipv4(upper.protocol) {
        return Err(DropReason::Protocol);
    }
    if let Some(fragment) = &upper.fragment {
        check_fragment(fragment, payload.len())?;
        if offload.gso_size != 0 || offload.partial_checksum {
            return Err(DropReason::Offload);
        }
    }
    // A whole packet with a needless Fragment header is whole (RFC 6946).
    let piece = upper.fragment.filter(|fragment| !fragment.is_atomic());
    let first = piece.is_none_or(|fragment| fragment.offset == 0);
    let transport = packet.start + upper.offset..packet.start + bytes.len();

    if upper.protocol == protocol::ICMPV6 {
        check_icmp(payload, piece.is_some(), offload)?;
        if icmp::is_v6_error(payload[0]) {
            return icmp_error::to_v4(config, buf, &header, source, transport, mtu);
        }
        icmp::query_to_v4(payload[0]).ok_or(DropReason::IcmpType)?;
    } else if first {
        transport::check(upper.protocol, payload, piece.is_none())?;
        check_offload(upper.protocol, offload)?;
    }

    // RFC 7915 §5.1 and §5.1.1: does it fit, and may it be cut?
    let segment_len = match offload.gso_size {
        0 => payload.len(),
        size => transport::gso_header_len(upper.protocol, payload)? + usize::from(size).min(payload.len()),
    };
    let ipv4_len = Ipv4Header::LEN + segment_len;
    let link_mtu = mtu.ipv4.max(u32::from(MIN_IPV4_MTU)) as usize;
    let ipv4 = ipv4_header(config, &header, &upper, source, identification, segment_len, payload.len())?;
    let may_fragment = !ipv4.dont_fragment && offload.gso_size == 0;
    if ipv4_len > link_mtu && !may_fragment {
        let fits = mtu.ipv4.saturating_add(20).max(u32::from(MIN_IPV6_MTU));
        return refuse(Icmpv6Error::PacketTooBig { mtu: fits });
    }

    // From here on the packet is changed, and nothing can fail any more.
    let old = Sum::from(header.source).plus(header.destination.into());
    let new = Sum::from(ipv4.source).plus(ipv4.destination.into());
    let cut = ipv4_len > link_mtu;
    let body = buf.get_mut(transport.clone()).ok_or(DropReason::NoHeadroom)?;
    if upper.protocol == protocol::ICMPV6 {
        // At most 65535 bytes.
        let length = body.len() as u32;
        let pseudo =
            checksum::ipv6_pseudo_header(header.source, header.destination, length, protocol::ICMPV6);
        if let Some(kind) = body.first().copied().and_then(icmp::query_to_v4) {
            transport::translate_echo(body, kind, pseudo, Sum::ZERO);
        }
    } else if first {
        transport::update_checksum(upper.protocol, body, offload.partial_checksum, old, new);
        if cut && offload.partial_checksum {
            // No device finishes the checksum of fragments.
            let offset = transport::checksum_offset(upper.protocol).ok_or(DropReason::Offload)?;
            let _ = checksum::complete(body, 0, offset);
        }
    }
    if cut {
        return Ok(Verdict::Fragment(Fragments::v4(ipv4, transport, link_mtu)));
    }
    let start = transport.start - Ipv4Header::LEN;
    let out = buf.get_mut(start..transport.start).ok_or(DropReason::NoHeadroom)?;
    ipv4.emit(out.first_chunk_mut().ok_or(DropReason::NoHeadroom)?);
    Ok(Verdict::Forward(start..transport.end))
}

/// The IPv4 header of a whole packet or of a fragment (RFC 7915 §5.1, §5.1.1).
fn ipv4_header(
    config: &Config,
    header: &Ipv6Header,
    upper: &UpperLayer,
    source: core::net::Ipv4Addr,
    identification: u16,
    segment_len: usize,
    payload_len: usize,
) -> Result<Ipv4Header, DropReason> {
    let total_len = Ipv4Header::LEN + payload_len;
    if total_len > usize::from(u16::MAX) {
        return Err(DropReason::Jumbogram);
    }
    let fragment = upper.fragment.unwrap_or(FragmentHeader { offset: 0, more: false, identification: 0 });
    let dont_fragment = upper.fragment.is_none() && Ipv4Header::LEN + segment_len > LONGEST_WITHOUT_DF;
    Ok(Ipv4Header {
        header_len: Ipv4Header::LEN,
        total_len,
        tos: if config.copy_traffic_class { header.traffic_class } else { 0 },
        identification: match upper.fragment {
            // The low-order 16 bits.
            Some(fragment) => fragment.identification as u16,
            None if dont_fragment => 0,
            None => identification,
        },
        dont_fragment,
        more_fragments: fragment.more,
        fragment_offset: fragment.offset,
        ttl: header.hop_limit,
        protocol: if upper.protocol == protocol::ICMPV6 { protocol::ICMPV4 } else { upper.protocol },
        source,
        destination: config.clat_ipv4,
    })
}

/// Whether an ICMPv6 error may come from there.
fn is_router_address(source: Ipv6Addr) -> bool {
    !(source.is_unspecified()
        || source.is_loopback()
        || source.is_multicast()
        || source.to_ipv4_mapped().is_some())
}

/// Next headers that have no meaning, or another one, in IPv4. The Authentication Header covers the addresses and
/// cannot survive.
const fn means_something_else_in_ipv4(number: u8) -> bool {
    matches!(
        number,
        protocol::ICMPV4
            | protocol::IGMP
            | extension::AUTHENTICATION
            | extension::NO_NEXT_HEADER
            | extension::MOBILITY
            | extension::HIP
            | extension::SHIM6
    )
}

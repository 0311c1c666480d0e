//! From IPv6 to IPv4: RFC 7915 §5. Inbound, from the NAT64 (or a router on the way to it) to this host.

use core::net::Ipv4Addr;
use core::ops::Range;

use crate::checksum::Sum;
use crate::ipv4::Ipv4Header;
use crate::ipv6::{self, Ipv6Header, UpperLayer, extension};
use crate::reply::{Icmpv6Error, Reply};
use crate::transport::{self, protocol};
use crate::verdict::Refusal;
use crate::{AddressClass, Config, DUMMY_IPV4, DropReason, Fragments, HEADROOM, LinkMtu, MIN_IPV6_MTU};
use crate::{Offload, Verdict};
use crate::{fragment, icmp, icmp_error};

/// IPv4 packets up to this length are sent without DF (RFC 7915 §5.1): 1280 minus the difference of the headers.
pub(crate) const MAX_LEN_WITHOUT_DF: usize = 1260;

pub(crate) fn translate(
    config: &Config,
    buf: &mut [u8],
    packet: Range<usize>,
    offload: Offload,
    mtu: LinkMtu,
    identification: impl FnOnce() -> u16,
) -> Result<Verdict, Refusal> {
    let mtu = mtu.clamped();
    let bytes = buf.get(packet.clone()).ok_or(DropReason::NoHeadroom)?;
    if packet.start < HEADROOM {
        return Err(DropReason::NoHeadroom.into());
    }
    let header = check_header(config, bytes, offload)?;
    // What follows the packet is link-layer padding.
    let bytes = bytes.get(..header.total_len()).ok_or(DropReason::Truncated)?;
    let upper = ipv6::upper_layer(&header, bytes)?;
    let transport = &bytes[upper.offset..];
    let source = source(config, &header, &upper, transport)?;

    // Nobody may be answered beyond this point but the sender of a packet that deserves it.
    let refuse = |error: Icmpv6Error| {
        let reply = Reply::V6(error);
        if may_answer(&upper, transport, error) {
            Refusal::Reply(reply)
        } else {
            Refusal::Drop(reply.reason())
        }
    };
    if let Some(segments_left) = upper.segments_left {
        // Well below 65536.
        return Err(refuse(Icmpv6Error::ParameterProblem { pointer: segments_left as u32 }));
    }
    let ipv4_protocol = match upper.protocol {
        protocol::ICMPV6 => protocol::ICMPV4,
        // Would become ICMPv4 that nobody has checked.
        protocol::ICMPV4 => return Err(refuse(Icmpv6Error::Prohibited(DropReason::Protocol))),
        protocol::IGMP => return Err(DropReason::Igmp.into()),
        other => other,
    };

    let payload = packet.start + upper.offset..packet.start + header.total_len();
    let fragment = upper.fragment.filter(|fragment| !fragment.is_atomic());
    let is_first = fragment.is_none_or(|fragment| fragment.offset == 0);
    if let Some(fragment) = fragment {
        fragment::check(fragment.offset, fragment.more, payload.len())?;
    }
    let mut outer = Ipv4Header {
        header_len: Ipv4Header::LEN,
        total_len: Ipv4Header::LEN + payload.len(),
        tos: if config.copy_traffic_class { header.traffic_class } else { 0 },
        identification: 0,
        dont_fragment: false,
        more_fragments: fragment.is_some_and(|fragment| fragment.more),
        fragment_offset: fragment.map_or(0, |fragment| fragment.offset),
        ttl: header.hop_limit,
        protocol: ipv4_protocol,
        source,
        destination: config.clat_ipv4,
    };
    let echo = match upper.protocol {
        protocol::ICMPV6 => {
            check_icmp(&outer, offload)?;
            let kind = *transport.first().ok_or(DropReason::MalformedTransport)?;
            if icmp::is_v6_error(kind) {
                let forward =
                    icmp_error::v6_to_v4(config, buf, &header, outer, payload, mtu, identification)?;
                return Ok(Verdict::Forward(forward));
            }
            if transport.len() < icmp::HEADER_LEN {
                return Err(DropReason::MalformedTransport.into());
            }
            Some(icmp::query_to_v4(kind).ok_or(DropReason::IcmpType)?)
        }
        _ => None,
    };
    transport::check_offload(upper.protocol, fragment.is_some(), offload)?;
    if is_first {
        transport::check(upper.protocol, transport, fragment.is_none())?;
    }
    let size = fit(&outer, &header, &upper, transport, offload, mtu)?.map_err(refuse)?;

    // From here on the packet changes, and nothing can fail any more.
    let transport = &mut buf[payload.clone()];
    if let Some(new_type) = echo {
        // At most 65515.
        let pseudo_header = header.pseudo_header(payload.len() as u32, protocol::ICMPV6);
        transport::translate_echo(transport, new_type, pseudo_header, Sum::ZERO);
    } else if is_first {
        let old = Sum::from(header.source).plus(header.destination.into());
        let new = Sum::from(outer.source).plus(outer.destination.into());
        transport::update_checksum(upper.protocol, transport, offload.partial_checksum, old, new);
    }
    outer.identification = match upper.fragment {
        // RFC 7915 §5.1.1: the low-order 16 bits.
        Some(fragment) => fragment.identification as u16,
        None => identification(),
    };
    match size {
        Size::Cut(mtu) => {
            if offload.partial_checksum {
                transport::complete_checksum(upper.protocol, &mut buf[payload.clone()]);
            }
            Ok(Verdict::Fragment(Fragments::v4(outer, payload, mtu)))
        }
        Size::Fits { dont_fragment } => {
            outer.dont_fragment = dont_fragment;
            let start = payload.start - Ipv4Header::LEN;
            if let Some(out) = buf[..payload.start].last_chunk_mut() {
                outer.emit(out);
            }
            Ok(Verdict::Forward(start..payload.end))
        }
    }
}

/// What makes a packet none of our business: answered with silence.
#[inline]
fn check_header(config: &Config, bytes: &[u8], offload: Offload) -> Result<Ipv6Header, DropReason> {
    let header = Ipv6Header::parse(bytes)?;
    let jumbo = header.next_header == extension::HOP_BY_HOP || offload.gso_size != 0;
    if header.payload_len == 0 && jumbo && bytes.len() > Ipv6Header::LEN {
        // A jumbo payload option (RFC 2675) or "BIG TCP": longer than an IPv4 packet can be.
        return Err(DropReason::Jumbogram);
    }
    if header.total_len() > bytes.len() {
        return Err(DropReason::Truncated);
    }
    if header.destination != config.clat_ipv6 {
        return Err(DropReason::Ipv6Destination);
    }
    // The CLAT is not a hop and does not decrement; a packet that has expired is not sent on all the same.
    if header.hop_limit == 0 {
        return Err(DropReason::HopLimit);
    }
    Ok(header)
}

/// The IPv4 source, or why there is none.
///
/// An ICMPv6 error may come from any router: one without an IPv4 address appears as 192.0.0.8, so that traceroute and
/// path MTU discovery work (RFC 6791 §3.2). So does, under a provider's prefix, an IPv4 router with a private
/// address, which by itself must not appear here (RFC 6052 §5.1). Under the Well-Known Prefix it is dropped
/// (RFC 6052 §3.1).
#[inline]
fn source(
    config: &Config,
    header: &Ipv6Header,
    upper: &UpperLayer,
    transport: &[u8],
) -> Result<Ipv4Addr, DropReason> {
    let is_error = || {
        upper.protocol == protocol::ICMPV6 && transport.first().is_some_and(|kind| icmp::is_v6_error(*kind))
    };
    match config.pref64.extract(header.source) {
        Some(ipv4) if config.is_acceptable_source(ipv4) => Ok(ipv4),
        Some(ipv4)
            if AddressClass::of(ipv4) == AddressClass::Private
                && !config.pref64.is_well_known()
                && is_error() =>
        {
            Ok(DUMMY_IPV4)
        }
        Some(_) => Err(DropReason::EmbeddedSource),
        None => {
            let source = header.source;
            let illegal = source.is_unspecified()
                || source.is_loopback()
                || source.is_multicast()
                || source.to_ipv4_mapped().is_some()
                || source == config.clat_ipv6;
            if is_error() && !illegal { Ok(DUMMY_IPV4) } else { Err(DropReason::Ipv6Source) }
        }
    }
}

/// Never an error about an error, a redirect, or a fragment but the first (RFC 4443 §2.4 e); a prohibition never about
/// any ICMPv6 message (RFC 7915 §5.4). Multicast and other destinations than the CLAT have been dropped before, as
/// have sources that are not a single host behind the NAT64.
fn may_answer(upper: &UpperLayer, transport: &[u8], error: Icmpv6Error) -> bool {
    let is_first = upper.fragment.is_none_or(|fragment| fragment.offset == 0);
    if upper.protocol != protocol::ICMPV6 {
        return is_first;
    }
    let is_informational =
        transport.first().is_some_and(|kind| !icmp::is_v6_error(*kind) && *kind != icmp::v6::REDIRECT);
    is_first && is_informational && !matches!(error, Icmpv6Error::Prohibited(_))
}

/// ICMPv6 covers the length of the whole message with its checksum, so fragments cannot be translated (RFC 7915 §1.2).
fn check_icmp(outer: &Ipv4Header, offload: Offload) -> Result<(), DropReason> {
    if outer.is_fragment() {
        return Err(DropReason::FragmentedIcmp);
    }
    if offload != Offload::NONE {
        return Err(DropReason::Offload);
    }
    Ok(())
}

/// What the lengths ask for.
enum Size {
    Fits { dont_fragment: bool },
    Cut(usize),
}

/// RFC 7915 §1.4, §5.1 and §5.1.1. The inner error is for the sender, the outer one for nobody.
#[inline]
fn fit(
    outer: &Ipv4Header,
    header: &Ipv6Header,
    upper: &UpperLayer,
    transport: &[u8],
    offload: Offload,
    mtu: LinkMtu,
) -> Result<Result<Size, Icmpv6Error>, DropReason> {
    // Longer than an IPv4 packet can be is longer than any link.
    let link = mtu.ipv4.min(u32::from(u16::MAX));
    let too_big = Icmpv6Error::PacketTooBig { mtu: (link + 20).max(u32::from(MIN_IPV6_MTU)) };
    let link = link as usize;
    if offload.gso_size != 0 {
        if outer.total_len > usize::from(u16::MAX) {
            return Err(DropReason::Jumbogram);
        }
        let segment = transport::segment_len(upper.protocol, transport, offload.gso_size);
        let segment_v4 = Ipv4Header::LEN + segment;
        // A segment of up to 1280 bytes of IPv6 cannot be refused and, being part of a super-packet, not be cut
        // here. It passes: it can exceed the link only where somebody has set an MTU below 1260.
        if segment_v4 > link && Ipv6Header::LEN + segment > usize::from(MIN_IPV6_MTU) {
            return Ok(Err(too_big));
        }
        return Ok(Ok(Size::Fits {
            dont_fragment: upper.fragment.is_none() && segment_v4 > MAX_LEN_WITHOUT_DF,
        }));
    }
    if outer.total_len <= link {
        return Ok(Ok(Size::Fits {
            dont_fragment: upper.fragment.is_none() && outer.total_len > MAX_LEN_WITHOUT_DF,
        }));
    }
    // RFC 7915 §5.1.1: what was up to 1280 bytes must be cut, as its sender cannot send less; what was a fragment has
    // DF cleared and may be cut by any router, so also by this one.
    if upper.fragment.is_some() || header.total_len() <= usize::from(MIN_IPV6_MTU) {
        return Ok(Ok(Size::Cut(link)));
    }
    Ok(Err(too_big))
}

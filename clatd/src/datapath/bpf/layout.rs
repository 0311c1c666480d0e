//! What the maps hold, byte for byte as in `bpf/clat.h` and `bpf/flow.h`.
//!
//! Encoded by hand: no `unsafe` cast, and the layout is visible.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{LinkKind, Mode, Params};

/// `struct config`.
pub(super) type ConfigBytes = [u8; 100];
/// `struct flow_key`.
pub(super) type FlowKeyBytes = [u8; 24];
/// `struct flow`.
pub(super) type FlowBytes = [u8; 16];
/// `struct counter`: packets, bytes.
pub(super) type CounterWords = [u64; 2];

const FLAG_SHARED: u32 = 1 << 0;
const FLAG_PRIVATE_IPV4: u32 = 1 << 1;
const FLAG_WELL_KNOWN: u32 = 1 << 2;
const FLAG_COPY_CLASS: u32 = 1 << 3;
const FLAG_INBOUND: u32 = 1 << 4;
const FLAG_NEXT_HOP: u32 = 1 << 5;
const FLAG_OPTIMISTIC: u32 = 1 << 6;

pub(super) fn config(params: &Params) -> ConfigBytes {
    let mut flags = 0;
    let mut set = |flag, on: bool| {
        if on {
            flags |= flag;
        }
    };
    set(FLAG_SHARED, params.mode == Mode::Shared);
    set(FLAG_PRIVATE_IPV4, params.private_ipv4);
    set(FLAG_WELL_KNOWN, params.pref64.is_well_known());
    set(FLAG_COPY_CLASS, params.copy_traffic_class);
    set(FLAG_INBOUND, params.inbound_allowed);
    set(FLAG_NEXT_HOP, params.next_hop.is_some());
    set(FLAG_OPTIMISTIC, params.optimistic);
    let mac = match params.link_kind {
        LinkKind::Ethernet { mac } => mac,
        LinkKind::RawIp => [0; 6],
    };

    let mut bytes = [0; size_of::<ConfigBytes>()];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(&params.pref64.network().octets());
    put(&(u128::MAX << (128 - u32::from(params.pref64.len()))).to_be_bytes());
    put(&params.clat_ipv6.octets());
    put(&params.next_hop.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
    put(&params.clat_ipv4.octets());
    for word in [
        u32::from(params.pref64.len()),
        params.clat_ifindex,
        params.uplink_ifindex,
        flags,
        params.ipv6_mtu,
        params.lowest_ipv6_mtu,
    ] {
        put(&word.to_ne_bytes());
    }
    put(&mac);
    bytes
}

/// Who a flow belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An IPv4 flow through the CLAT.
    Clat,
    /// A native IPv6 flow of the host to the same prefix, from the shared address.
    Native,
}

/// A flow record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who it belongs to.
    pub owner: Owner,
    /// IP protocol number; 58 for ICMP on either side.
    pub protocol: u8,
    /// Port (or echo identifier) as the socket knows it.
    pub inner_port: u16,
    /// Port (or echo identifier) on the wire.
    pub outer_port: u16,
    /// The other end.
    pub remote: Ipv6Addr,
    /// Its port; 0 for protocols without.
    pub remote_port: u16,
    /// Time since boot (CLOCK_MONOTONIC) of the last packet, to about a quarter of a second.
    pub seen: Duration,
    /// How long it lives without a packet: at least what RFC 5382 REQ-5, RFC 4787 REQ-5 and RFC 5508 REQ-1 ask.
    pub timeout: Duration,
}

const OWNER_CLAT: u8 = 1;

impl Flow {
    pub(super) fn decode(key: &FlowKeyBytes, flow: &FlowBytes) -> Self {
        let be16 = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut remote = [0; 16];
        remote.copy_from_slice(&key[..16]);
        let mut seen = [0; 8];
        seen.copy_from_slice(&flow[..8]);
        Self {
            owner: if flow[10] == OWNER_CLAT { Owner::Clat } else { Owner::Native },
            protocol: key[20],
            inner_port: be16(flow, 8),
            outer_port: be16(key, 18),
            remote: Ipv6Addr::from(remote),
            remote_port: be16(key, 16),
            seen: Duration::from_nanos(u64::from_ne_bytes(seen)),
            timeout: Duration::from_secs(u64::from(u32::from_ne_bytes([
                flow[12], flow[13], flow[14], flow[15],
            ]))),
        }
    }

    /// Whether the record is past its timeout; `now` is CLOCK_MONOTONIC.
    pub fn is_expired(&self, now: Duration) -> bool {
        now.saturating_sub(self.seen) > self.timeout
    }
}

/// For an entry of MAPPED: the key of the record that it leads to, and whether a record is that one.
pub(super) fn mapped_flow(
    key: &FlowKeyBytes,
    outside: [u8; 2],
) -> (FlowKeyBytes, impl Fn(&FlowBytes) -> bool) {
    let (inside, owner) = ([key[18], key[19]], key[21]);
    let mut outer = *key;
    outer[18..20].copy_from_slice(&outside);
    outer[21] = 0;
    (outer, move |flow| flow[8..10] == inside && flow[10] == owner)
}

/// The key of an own IPv4 address.
pub(super) fn own_key(address: Ipv4Addr) -> [u8; 4] {
    address.octets()
}

//! Which addresses a name is pinned to.
//!
//! A native AAAA that accepts a TCP connection comes first; else the A records through the NAT64.
//! What a DNS64 made up is not native: AAAA records under a NAT64 prefix count as the A records that
//! they embed.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat::{Pref64, is_translatable};

use crate::hosts::{Pin, Source, Why};

/// More addresses than this per name are of no use to anybody.
const MAX_ADDRESSES: usize = 8;

/// Records of one type, all CNAMEs followed. None: the name has no such record, or does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records<T> {
    /// The addresses in the order of the answer.
    pub addresses: Vec<T>,
    /// The smallest TTL on the way to them, in seconds.
    pub ttl: u32,
}

/// No DNS server gave an answer; the text says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsDown(pub String);

/// What the DNS says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// AAAA records, native or made by a DNS64.
    pub aaaa: Result<Records<Ipv6Addr>, DnsDown>,
    /// A records.
    pub a: Result<Records<Ipv4Addr>, DnsDown>,
}

/// The NAT64 prefixes in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// The one to use.
    pub used: Option<Pref64>,
    /// All that are known, the used one included.
    pub known: Vec<Pref64>,
}

impl Prefixes {
    /// The IPv4 address behind an address that a DNS64 may have made.
    fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        self.known.iter().chain([&Pref64::WELL_KNOWN]).find_map(|prefix| prefix.extract(address))
    }
}

/// What the choice depends on besides the DNS.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The NAT64 prefixes.
    pub prefixes: &'a Prefixes,
    /// `nat64.private_ipv4`.
    pub private_ipv4: bool,
    /// `--a`.
    pub want_a: &'a [Ipv4Addr],
    /// The pin that the name has now.
    pub previous: Option<&'a Pin>,
}

/// The outcome for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Pin it to these.
    Pin {
        /// At least one.
        addresses: Vec<Ipv6Addr>,
        /// Where they come from.
        source: Source,
        /// For how long the DNS vouches for them; `None` if it was not asked.
        ttl: Option<u32>,
    },
    /// The prefix changed while the DNS is silent: the same IPv4 addresses behind the new prefix. This
    /// does not prolong the pin.
    Moved {
        /// At least one.
        addresses: Vec<Ipv6Addr>,
        /// The new prefix.
        prefix: Pref64,
    },
    /// It cannot be pinned.
    Refused(Why),
    /// The DNS did not say.
    Unknown(DnsDown),
}

/// Chooses. `alive` returns those of the given addresses that accept a TCP connection.
pub fn choose(
    lookup: impl FnOnce() -> Lookup,
    policy: Policy<'_>,
    alive: impl FnOnce(&[Ipv6Addr]) -> Vec<Ipv6Addr>,
) -> Choice {
    if !policy.want_a.is_empty() {
        return through_nat64(policy.want_a, None, policy);
    }
    let Lookup { aaaa, a } = lookup();
    let (mut native, mut made_up) = (Vec::new(), Vec::new());
    let aaaa_ttl = aaaa.as_ref().map_or(0, |records| records.ttl);
    for address in aaaa.as_ref().map(|records| records.addresses.as_slice()).unwrap_or_default() {
        match policy.prefixes.extract(*address) {
            Some(ipv4) => made_up.push(ipv4),
            None if is_pinnable(*address) => native.push(*address),
            None => {}
        }
    }
    if !native.is_empty() {
        let alive = alive(&native);
        let addresses: Vec<_> = native.iter().copied().filter(|address| alive.contains(address)).collect();
        if !addresses.is_empty() {
            let addresses = in_stable_order(addresses, policy.previous);
            return Choice::Pin { addresses, source: Source::Native, ttl: Some(aaaa_ttl) };
        }
    }
    let (ipv4, ttl) = match &a {
        Ok(records) if !records.addresses.is_empty() => (records.addresses.clone(), records.ttl),
        // Some resolvers hide A records, or fail on them, and still have a DNS64.
        _ => (made_up, aaaa_ttl),
    };
    let choice = match (ipv4.is_empty(), aaaa, a) {
        (false, ..) => through_nat64(&ipv4, Some(ttl), policy),
        (true, Err(down), _) | (true, _, Err(down)) => return while_dns_is_down(down, policy),
        (true, Ok(_), Ok(_)) if native.is_empty() => Choice::Refused(Why::NoAddress),
        (true, Ok(_), Ok(_)) => Choice::Refused(Why::Unreachable),
    };
    match (&choice, still_native(&native, policy.previous)) {
        // The server rests, but the DNS still gives the address of the pin and there is nothing better.
        (Choice::Refused(_), Some(addresses)) => {
            Choice::Pin { addresses, source: Source::Native, ttl: Some(aaaa_ttl) }
        }
        _ => choice,
    }
}

fn through_nat64(ipv4: &[Ipv4Addr], ttl: Option<u32>, policy: Policy<'_>) -> Choice {
    let Some(prefix) = policy.prefixes.used else {
        // Private addresses would be refused with any prefix; say so rather than "no prefix".
        let hopeless = ipv4.iter().all(|a| !could_be_translatable(*a, policy.private_ipv4));
        return Choice::Refused(if hopeless { Why::NotGlobal } else { Why::NoNat64 });
    };
    let addresses: Vec<_> = ipv4
        .iter()
        .filter(|a| is_translatable(**a, &prefix, policy.private_ipv4))
        .map(|a| prefix.embed(*a))
        .collect();
    if addresses.is_empty() {
        return Choice::Refused(Why::NotGlobal);
    }
    Choice::Pin { addresses: in_stable_order(addresses, policy.previous), source: Source::Nat64(prefix), ttl }
}

/// Whether some provider's prefix could carry `ipv4`.
fn could_be_translatable(ipv4: Ipv4Addr, private_ipv4: bool) -> bool {
    // Any prefix that is not the well-known one decides alike.
    const SOME: Result<Pref64, xlat::Pref64Error> =
        Pref64::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 96);
    SOME.is_ok_and(|prefix| is_translatable(ipv4, &prefix, private_ipv4))
}

fn while_dns_is_down(down: DnsDown, policy: Policy<'_>) -> Choice {
    let Some((pin, new)) = policy.previous.zip(policy.prefixes.used) else {
        return Choice::Unknown(down);
    };
    match pin.source {
        Source::Nat64(old) if old != new => match through_nat64(&pin.behind(), None, policy) {
            Choice::Pin { addresses, .. } => Choice::Moved { addresses, prefix: new },
            _ => Choice::Unknown(down),
        },
        _ => Choice::Unknown(down),
    }
}

/// The addresses of a native pin that the DNS still gives.
fn still_native(native: &[Ipv6Addr], previous: Option<&Pin>) -> Option<Vec<Ipv6Addr>> {
    let pin = previous.filter(|pin| pin.source == Source::Native)?;
    let addresses: Vec<_> = pin.addresses.iter().copied().filter(|a| native.contains(a)).collect();
    (!addresses.is_empty()).then_some(addresses)
}

/// First what is pinned already, in its order; then what is new, in the order of the answer. So a pin
/// does not change when the server rotates its answers, and a fleet spreads over the addresses.
fn in_stable_order(addresses: Vec<Ipv6Addr>, previous: Option<&Pin>) -> Vec<Ipv6Addr> {
    let before = previous.map(|pin| pin.addresses.as_slice()).unwrap_or_default();
    let mut ordered: Vec<_> = before.iter().copied().filter(|a| addresses.contains(a)).collect();
    for address in addresses {
        if !ordered.contains(&address) {
            ordered.push(address);
        }
    }
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

/// Addresses that mean the same on every machine. A hosts file has no zones, and nobody's server is `::1`.
fn is_pinnable(address: Ipv6Addr) -> bool {
    let link_local = address.segments()[0] & 0xffc0 == 0xfe80;
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || link_local
        || address.to_ipv4_mapped().is_some())
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;

//! The network as hostsfix needs it: look a name up, know the NAT64 prefix, try a TCP connection.

pub mod dns;
pub mod prefix;
pub mod probe;

use std::net::Ipv6Addr;

use pref64::config::Nat64;

use crate::choose::{Choice, Lookup, Policy, Prefixes, choose};
use crate::name::HostName;
use crate::plan::Query;

/// Ports that show whether a native address is alive, unless `--port` names others: HTTPS and HTTP.
pub const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// The network; a test puts its own in this place.
pub trait Network {
    /// The NAT64 prefixes in force.
    fn prefixes(&mut self) -> &Prefixes;
    /// What the DNS says, asked directly, never through a hosts file.
    fn lookup(&mut self, name: &HostName) -> Lookup;
    /// Those of `addresses` that accept a TCP connection on one of `ports`.
    fn alive(&mut self, addresses: &[Ipv6Addr], ports: &[u16]) -> Vec<Ipv6Addr>;
}

/// The real network. The prefixes are found when they are first needed, and once per run.
pub struct RealNetwork {
    config: Nat64,
    dns: dns::Dns,
    prefixes: Option<Prefixes>,
}

impl RealNetwork {
    /// With the servers and the prefixes of the configuration.
    #[must_use]
    pub fn new(config: &Nat64) -> Self {
        Self { config: config.clone(), dns: dns::Dns::new(config), prefixes: None }
    }
}

impl Network for RealNetwork {
    fn prefixes(&mut self) -> &Prefixes {
        let (config, dns) = (&self.config, &mut self.dns);
        self.prefixes.get_or_insert_with(|| prefix::discover(config, dns))
    }

    fn lookup(&mut self, name: &HostName) -> Lookup {
        self.dns.lookup(name)
    }

    fn alive(&mut self, addresses: &[Ipv6Addr], ports: &[u16]) -> Vec<Ipv6Addr> {
        probe::alive(addresses, ports)
    }
}

/// Looks one name up and chooses its addresses.
pub fn resolve(network: &mut impl Network, query: &Query, private_ipv4: bool) -> Choice {
    let prefixes = network.prefixes().clone();
    let policy = Policy {
        prefixes: &prefixes,
        private_ipv4,
        want_a: &query.want_a,
        previous: query.previous.as_ref(),
    };
    // Both closures need the network, one after the other.
    let network = std::cell::RefCell::new(network);
    choose(
        || network.borrow_mut().lookup(&query.name),
        policy,
        |addresses| network.borrow_mut().alive(addresses, ports_of(&query.ports)),
    )
}

/// The ports to try.
#[must_use]
pub fn ports_of(wanted: &[u16]) -> &[u16] {
    if wanted.is_empty() { &DEFAULT_PORTS } else { wanted }
}

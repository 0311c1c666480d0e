//! The network as hostsfix needs it: look a name up, know the NAT64 prefix, try a TCP connection.

pub mod dns;
pub mod prefix;
pub mod probe;

use std::net::Ipv6Addr;

use pref64::Pref64;
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
    /// The prefixes that the DNS64, if there is one, puts into its answers. Often the same; but clatd
    /// may use another one, and what the DNS64 makes must not be taken for native.
    fn dns64_prefixes(&mut self) -> Vec<Pref64>;
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

    fn dns64_prefixes(&mut self) -> Vec<Pref64> {
        self.dns.nat64_prefixes()
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
    let mut prefixes = network.prefixes().clone();
    if query.want_a.is_empty() {
        prefixes.known.extend(network.dns64_prefixes());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::Records;
    use crate::hosts::{Source, Why};

    /// A DNS64 with this prefix in front of one IPv4-only name; everything answers.
    struct Fake {
        prefixes: Prefixes,
        dns64: Pref64,
        asked: u32,
    }

    impl Network for Fake {
        fn prefixes(&mut self) -> &Prefixes {
            &self.prefixes
        }
        fn dns64_prefixes(&mut self) -> Vec<Pref64> {
            self.asked += 1;
            vec![self.dns64]
        }
        fn lookup(&mut self, _: &HostName) -> Lookup {
            let a = std::net::Ipv4Addr::new(203, 0, 113, 25);
            Lookup {
                aaaa: Ok(Records { addresses: vec![self.dns64.embed(a)], ttl: 60 }),
                a: Ok(Records { addresses: vec![a], ttl: 60 }),
            }
        }
        fn alive(&mut self, addresses: &[Ipv6Addr], _: &[u16]) -> Vec<Ipv6Addr> {
            addresses.to_vec()
        }
    }

    #[test]
    fn another_prefix_than_that_of_the_dns64() {
        let prefix: Pref64 = "2001:db8:65::/96".parse().unwrap();
        let dns64 = "2001:db8:64::/96".parse().unwrap();
        let prefixes = Prefixes { used: Some(prefix), known: vec![prefix] };
        let mut network = Fake { prefixes, dns64, asked: 0 };
        let mut query =
            Query { name: "a.example".parse().unwrap(), want_a: vec![], ports: vec![], previous: None };
        let Choice::Pin { source, .. } = resolve(&mut network, &query, false) else { panic!() };
        assert_eq!(source, Source::Nat64(prefix), "alive, but not native");
        network.prefixes = Prefixes::default();
        assert_eq!(resolve(&mut network, &query, false), Choice::Refused(Why::NoNat64));
        assert_eq!(network.asked, 2);
        query.want_a = vec![std::net::Ipv4Addr::new(203, 0, 113, 25)];
        assert_eq!(resolve(&mut network, &query, false), Choice::Refused(Why::NoNat64));
        assert_eq!(network.asked, 2, "--a needs no DNS at all");
    }
}

//! The DNS, asked directly: never through nsswitch, so that a pin does not confirm itself.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pref64::Pref64;
use pref64::config::Nat64;
use pref64::dns::{Answer, IPV4ONLY, Name, Options, RecordType, nat64, system_resolvers};
use pref64::server::Server;

use crate::choose::{DnsDown, Lookup, Records};
use crate::name::HostName;

/// A server that has not answered by then is passed over.
const PATIENCE: Options = Options { timeout: Duration::from_secs(2), rounds: 2 };
/// After so many questions in a row that nobody answered, the rest of the run does not ask: a hundred
/// pins on a machine without network must not take an hour.
const GIVE_UP_AFTER: u32 = 2;

/// The DNS servers of this run.
pub struct Dns {
    servers: Result<Vec<Server>, DnsDown>,
    silent: u32,
    prefixes: Option<Vec<Pref64>>,
}

impl Dns {
    /// The servers of `nat64.dns_servers`, else the system's.
    #[must_use]
    pub fn new(config: &Nat64) -> Self {
        let servers = if config.dns_servers.is_empty() {
            system_resolvers().map(|found| found.servers).map_err(|error| DnsDown(error.to_string()))
        } else {
            Ok(config.dns_servers.clone())
        };
        Self { servers, silent: 0, prefixes: None }
    }

    /// AAAA and A records of a name; CNAMEs are followed by the server.
    pub fn lookup(&mut self, name: &HostName) -> Lookup {
        let aaaa = self.ask(name.as_str(), RecordType::Aaaa);
        let a = self.ask(name.as_str(), RecordType::A);
        Lookup {
            aaaa: aaaa.map(|records| {
                records.only(|address| match address {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                })
            }),
            a: a.map(|records| {
                records.only(|address| match address {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                })
            }),
        }
    }

    /// The prefixes that the DNS64 uses (RFC 7050), best first. Asked once.
    pub fn nat64_prefixes(&mut self) -> Vec<Pref64> {
        if let Some(known) = &self.prefixes {
            return known.clone();
        }
        let found = match self.ask(IPV4ONLY, RecordType::Aaaa) {
            Ok(records) => nat64::prefixes(records.addresses),
            Err(DnsDown(reason)) => {
                tracing::debug!("{IPV4ONLY}: {reason}");
                Vec::new()
            }
        };
        self.prefixes.insert(found).clone()
    }

    fn ask(&mut self, name: &str, record_type: RecordType) -> Result<Records<IpAddr>, DnsDown> {
        let servers = self.servers.as_ref().map_err(Clone::clone)?;
        if self.silent >= GIVE_UP_AFTER {
            return Err(DnsDown("no DNS server answered the questions before".into()));
        }
        let wire = Name::parse(name).map_err(|error| DnsDown(error.to_string()))?;
        let start = Instant::now();
        let answer = pref64::dns::lookup(servers, &wire, record_type, PATIENCE);
        match &answer {
            // A SERVFAIL is quick, and about this name only.
            Err(_) if start.elapsed() >= PATIENCE.timeout => self.silent += 1,
            _ => self.silent = 0,
        }
        match answer {
            Ok(Answer::Found(found)) => {
                let ttl = u32::try_from(found.ttl.as_secs()).unwrap_or(u32::MAX);
                Ok(Records { addresses: found.addresses, ttl })
            }
            Ok(Answer::NoData { .. } | Answer::NxDomain { .. }) => {
                Ok(Records { addresses: Vec::new(), ttl: 0 })
            }
            Err(failure) => Err(DnsDown(failure.to_string())),
        }
    }
}

impl Records<IpAddr> {
    /// The addresses of one family.
    fn only<T>(self, family: impl Fn(IpAddr) -> Option<T>) -> Records<T> {
        Records { addresses: self.addresses.into_iter().filter_map(family).collect(), ttl: self.ttl }
    }
}

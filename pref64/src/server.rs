//! The address of a DNS server, as configuration and resolv.conf write it.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The DNS port.
pub const DNS_PORT: u16 = 53;

/// A DNS server: address, scope of a link-local address, port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// The server's address.
    pub addr: IpAddr,
    /// UDP and TCP port, usually [`DNS_PORT`].
    pub port: u16,
    /// The zone after `%`: an interface name or index; only for IPv6 link-local addresses.
    pub scope: Option<String>,
}

impl Server {
    /// A server on port 53 without a scope.
    pub fn new(addr: IpAddr) -> Self {
        Self { addr, port: DNS_PORT, scope: None }
    }

    /// The stub resolvers of systemd-resolved: not servers of the network (RFC 8880 §7.1).
    pub fn is_resolved_stub(&self) -> bool {
        matches!(self.addr, IpAddr::V4(addr) if addr == Ipv4Addr::new(127, 0, 0, 53) || addr == Ipv4Addr::new(127, 0, 0, 54))
    }
}

impl From<IpAddr> for Server {
    fn from(addr: IpAddr) -> Self {
        Self::new(addr)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = self.scope.as_deref().map_or(String::new(), |scope| format!("%{scope}"));
        match (self.addr, self.port) {
            (addr, DNS_PORT) => write!(f, "{addr}{scope}"),
            (IpAddr::V4(addr), port) => write!(f, "{addr}:{port}"),
            (IpAddr::V6(addr), port) => write!(f, "[{addr}{scope}]:{port}"),
        }
    }
}

/// Text that is not a DNS server address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseServerError {
    /// Neither an IPv4 nor an IPv6 address.
    #[error("not an IPv4 or IPv6 address (names are not allowed: resolving them needs a server)")]
    Address,
    /// A port that is not 1–65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// A `%scope` behind something other than an IPv6 link-local address.
    #[error("only IPv6 link-local addresses take a %interface")]
    Scope,
    /// A link-local address without `%interface`.
    #[error("a link-local address needs its interface, as in fe80::1%eth0")]
    NoScope,
    /// The unspecified or a multicast address.
    #[error("an unspecified or multicast address cannot be a server")]
    NotUnicast,
}

impl FromStr for Server {
    type Err = ParseServerError;

    /// `2001:db8::53`, `fe80::1%eth0`, `192.0.2.53`, `192.0.2.53:5353`, `[2001:db8::53]:5353`, `[fe80::1%eth0]:53`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = split_port(text)?;
        let port = match port {
            None => DNS_PORT,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(ParseServerError::Port),
                Ok(port) => port,
            },
        };
        let (addr, scope) = match host.split_once('%') {
            None => (host, None),
            Some((addr, scope)) => (addr, Some(scope)),
        };
        let addr: IpAddr = addr.parse().map_err(|_| ParseServerError::Address)?;
        let link_local = matches!(addr, IpAddr::V6(v6) if is_link_local(v6));
        match scope {
            None if link_local => return Err(ParseServerError::NoScope),
            Some(scope) if !link_local || scope.is_empty() => return Err(ParseServerError::Scope),
            _ => {}
        }
        if addr.is_unspecified() || addr.is_multicast() {
            return Err(ParseServerError::NotUnicast);
        }
        Ok(Self { addr, port, scope: scope.map(str::to_owned) })
    }
}

/// fe80::/10 (`Ipv6Addr::is_unicast_link_local` is newer than our minimum compiler only in `const`).
pub(crate) fn is_link_local(addr: Ipv6Addr) -> bool {
    addr.segments()[0] & 0xffc0 == 0xfe80
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), ParseServerError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(ParseServerError::Address)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(ParseServerError::Address),
        };
    }
    match text.split_once(':') {
        // Exactly one colon: IPv4 and a port. More: an IPv6 address.
        Some((host, port)) if !port.contains(':') => Ok((host, Some(port))),
        _ => Ok((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_parses_and_prints_the_same() {
        for text in [
            "2001:db8::53",
            "fe80::1%eth0",
            "192.0.2.53",
            "192.0.2.53:5353",
            "[2001:db8::53]:5353",
            "[fe80::1%eth0]:5353",
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!(server.to_string(), text);
        }
        assert_eq!("[2001:db8::53]".parse::<Server>().unwrap().to_string(), "2001:db8::53");
    }

    #[test]
    fn what_is_not_a_server_is_refused_with_its_reason() {
        for (text, error) in [
            ("dns.example", ParseServerError::Address),
            ("", ParseServerError::Address),
            ("[2001:db8::1", ParseServerError::Address),
            ("[2001:db8::1]x", ParseServerError::Address),
            ("192.0.2.1:0", ParseServerError::Port),
            ("192.0.2.1:65536", ParseServerError::Port),
            ("192.0.2.1%eth0", ParseServerError::Scope),
            ("fe80::1%", ParseServerError::Scope),
            ("2001:db8::1%eth0", ParseServerError::Scope),
            ("fe80::1", ParseServerError::NoScope),
            ("::", ParseServerError::NotUnicast),
            ("224.0.0.251", ParseServerError::NotUnicast),
        ] {
            assert_eq!(text.parse::<Server>(), Err(error), "{text}");
        }
    }
}

//! The managed block: its entries, and how they stand in the file.
//!
//! ```text
//! # BEGIN v4shim hostsfix (managed: change it with hostsfix, undo with "hostsfix rm --all")
//! # pin registry.example.org by=add source=native ttl=300 expires=2026-11-21T03:00:00Z
//! 2001:db8:1::80 registry.example.org
//! # pin smtp.example.net by=config ports=587 source=nat64 prefix=2001:db8:64::/96 a=203.0.113.25 ttl=3600 expires=2026-11-21T03:00:00Z
//! 2001:db8:64::cb00:7119 smtp.example.net
//! # pin git.example.com by=add source=none why=dns-down since=2026-11-21T02:00:00Z
//! # END v4shim hostsfix
//! ```
//!
//! One comment line per name holds all that hostsfix knows about it; the lines below it hold its
//! addresses. A line of the block that does not fit this is the user's own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use xlat::Pref64;

use super::line::Line;
use crate::name::HostName;
use crate::time::Instant;

/// Content of the first line of the block.
pub(super) const BEGIN: &str =
    "# BEGIN v4shim hostsfix (managed: change it with hostsfix, undo with \"hostsfix rm --all\")";
/// Content of the last line of the block.
pub(super) const END: &str = "# END v4shim hostsfix";

/// Who asked for a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `hostsfix add`: stays until `hostsfix rm`.
    Add,
    /// `[hosts] pin` in the configuration: stays as long as the name stands there.
    Config,
}

/// Where the addresses of a pin come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The name's own AAAA records.
    Native,
    /// Its A records through this NAT64 prefix (RFC 6052).
    Nat64(Pref64),
}

/// Addresses of a name, and how long to trust them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// At least one; all within the prefix if the source is a NAT64.
    pub addresses: Vec<Ipv6Addr>,
    /// Where they come from.
    pub source: Source,
    /// Seconds for which the DNS answer was good.
    pub ttl: u32,
    /// When the pin is dropped unless the DNS has confirmed it by then.
    pub expires: Instant,
}

/// Why a name that is wanted has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// No DNS server answered until the pin expired.
    DnsDown,
    /// The DNS has no address for the name.
    NoAddress,
    /// IPv4 only, and no NAT64 prefix is known.
    NoNat64,
    /// IPv4 only, and that is an address which must not go through a NAT64.
    NotGlobal,
    /// Only native IPv6, and nothing there accepts a connection.
    Unreachable,
    /// The user has a line for this name.
    OwnLine,
}

/// A wanted name without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The reason.
    pub why: Why,
    /// Since when.
    pub since: Instant,
}

/// What a name has at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Addresses.
    Pinned(Pin),
    /// None, but the wish stands.
    Waiting(Waiting),
}

/// One name of the managed block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: HostName,
    /// Who asked for it.
    pub origin: Origin,
    /// `--ttl`: seconds that a pin lives, instead of what the DNS says.
    pub want_ttl: Option<u32>,
    /// `--a`: IPv4 addresses to use instead of the DNS.
    pub want_a: Vec<Ipv4Addr>,
    /// `--port`: TCP ports that show whether a native address is alive; empty for the default.
    pub want_ports: Vec<u16>,
    /// What it has.
    pub state: State,
}

impl Entry {
    /// The pin, if there is one.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        match &self.state {
            State::Pinned(pin) => Some(pin),
            State::Waiting(_) => None,
        }
    }
}

impl Pin {
    /// The IPv4 addresses behind the pin; empty if it is native.
    #[must_use]
    pub fn behind(&self) -> Vec<Ipv4Addr> {
        match self.source {
            Source::Native => Vec::new(),
            Source::Nat64(prefix) => self.addresses.iter().filter_map(|a| prefix.extract(*a)).collect(),
        }
    }
}

impl Why {
    const ALL: [Self; 6] =
        [Self::DnsDown, Self::NoAddress, Self::NoNat64, Self::NotGlobal, Self::Unreachable, Self::OwnLine];

    /// The word in the file.
    #[must_use]
    pub fn keyword(self) -> &'static str {
        match self {
            Self::DnsDown => "dns-down",
            Self::NoAddress => "no-address",
            Self::NoNat64 => "no-nat64",
            Self::NotGlobal => "not-global",
            Self::Unreachable => "unreachable",
            Self::OwnLine => "own-line",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DnsDown => "no DNS server answered",
            Self::NoAddress => "the DNS has no address for it",
            Self::NoNat64 => "it has IPv4 only, and no NAT64 prefix is known",
            Self::NotGlobal => {
                "its IPv4 address is private or otherwise not global, which a NAT64 does not serve"
            }
            Self::Unreachable => "its IPv6 address accepts no connection, and it has no IPv4 address",
            Self::OwnLine => "the hosts file has a line of its own for it",
        })
    }
}

/// The comment line of an entry, without terminator.
fn print_meta(entry: &Entry) -> String {
    let mut text = format!(
        "# pin {} by={}",
        entry.name,
        match entry.origin {
            Origin::Add => "add",
            Origin::Config => "config",
        }
    );
    let mut put = |key: &str, value: String| {
        text.push(' ');
        text.push_str(key);
        text.push('=');
        text.push_str(&value);
    };
    if let Some(ttl) = entry.want_ttl {
        put("want-ttl", ttl.to_string());
    }
    if !entry.want_a.is_empty() {
        put("want-a", join(&entry.want_a));
    }
    if !entry.want_ports.is_empty() {
        put("ports", join(&entry.want_ports));
    }
    match &entry.state {
        State::Pinned(pin) => {
            match pin.source {
                Source::Native => put("source", "native".into()),
                Source::Nat64(prefix) => {
                    put("source", "nat64".into());
                    put("prefix", prefix.to_string());
                    put("a", join(&pin.behind()));
                }
            }
            put("ttl", pin.ttl.to_string());
            put("expires", pin.expires.to_string());
        }
        State::Waiting(waiting) => {
            put("source", "none".into());
            put("why", waiting.why.keyword().into());
            put("since", waiting.since.to_string());
        }
    }
    text
}

/// All content lines of the block for `entries`, markers included, without terminators.
pub(super) fn print(entries: &[Entry]) -> Vec<String> {
    let mut out = vec![BEGIN.to_owned()];
    for entry in entries {
        out.push(print_meta(entry));
        let addresses = entry.pin().map(|pin| pin.addresses.as_slice()).unwrap_or_default();
        out.extend(addresses.iter().map(|address| format!("{address} {}", entry.name)));
    }
    out.push(END.to_owned());
    out
}

/// A comment line of the block, before its addresses are known.
struct Meta {
    entry: Entry,
    /// Source, TTL and expiry of the pin, if it is one.
    pin: Option<(Source, u32, Instant)>,
}

/// Reads the lines between the markers: the entries, and the indices of lines that are not ours.
pub(super) fn parse(lines: &[Line<'_>]) -> (Vec<Entry>, Vec<usize>) {
    let (mut entries, mut strays): (Vec<Entry>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut index = 0;
    while index < lines.len() {
        let known = |name: &HostName| entries.iter().any(|e| e.name == *name);
        let Some(meta) = parse_meta(lines[index]).filter(|meta| !known(&meta.entry.name)) else {
            strays.push(index);
            index += 1;
            continue;
        };
        let at = index;
        index += 1;
        let Meta { mut entry, pin } = meta;
        let Some((source, ttl, expires)) = pin else {
            entries.push(entry);
            continue;
        };
        let mut addresses = Vec::new();
        while let Some(address) = lines.get(index).and_then(|line| pin_line(*line, &entry.name, source)) {
            // A line twice is harmless, and printed once.
            if !addresses.contains(&address) {
                addresses.push(address);
            }
            index += 1;
        }
        if addresses.is_empty() {
            // Somebody removed or edited the address: nothing here is to be trusted.
            strays.push(at);
        } else {
            entry.state = State::Pinned(Pin { addresses, source, ttl, expires });
            entries.push(entry);
        }
    }
    (entries, strays)
}

/// The address of a line that belongs to the pin of `name`.
fn pin_line(line: Line<'_>, name: &HostName, source: Source) -> Option<Ipv6Addr> {
    let (IpAddr::V6(address), mut words) = line.entry()? else { return None };
    let ours = words.next()? == name.as_str().as_bytes() && words.next().is_none();
    let within = match source {
        Source::Native => true,
        Source::Nat64(prefix) => prefix.extract(address).is_some(),
    };
    // A zone or a comment after the name is not something hostsfix writes.
    let plain = !line.content().iter().any(|b| matches!(b, b'%' | b'#'));
    (ours && within && plain).then_some(address)
}

/// Reads a comment line of the block. Unknown keys (of a later version) are skipped.
fn parse_meta(line: Line<'_>) -> Option<Meta> {
    let text = std::str::from_utf8(line.comment()?).ok()?;
    let mut words = text.split_ascii_whitespace();
    if words.next()? != "pin" {
        return None;
    }
    let written = words.next()?;
    let name: HostName = written.parse().ok().filter(|name: &HostName| name.as_str() == written)?;
    let mut origin = None;
    let (mut want_ttl, mut want_a, mut want_ports) = (None, Vec::new(), Vec::new());
    let (mut source, mut prefix, mut ttl, mut expires) = (None, None, None, None);
    let (mut why, mut since) = (None, None);
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "by" => {
                origin = Some(match value {
                    "add" => Origin::Add,
                    "config" => Origin::Config,
                    _ => return None,
                });
            }
            "want-ttl" => want_ttl = Some(value.parse().ok()?),
            "want-a" => want_a = split(value)?,
            "ports" => want_ports = split(value)?,
            "source" => source = Some(value),
            "prefix" => prefix = Some(value.parse::<Pref64>().ok()?),
            "ttl" => ttl = Some(value.parse().ok()?),
            "expires" => expires = Some(value.parse().ok()?),
            "why" => why = Some(Why::ALL.into_iter().find(|why| why.keyword() == value)?),
            "since" => since = Some(value.parse().ok()?),
            _ => {}
        }
    }
    let pin = match source? {
        "native" => Some((Source::Native, ttl?, expires?)),
        "nat64" => Some((Source::Nat64(prefix?), ttl?, expires?)),
        "none" => None,
        _ => return None,
    };
    // While its addresses are being read, a pin waits; `parse` replaces this.
    let waiting = match pin {
        None => Waiting { why: why?, since: since? },
        Some((_, _, expires)) => Waiting { why: Why::NoAddress, since: expires },
    };
    let state = State::Waiting(waiting);
    Some(Meta { entry: Entry { name, origin: origin?, want_ttl, want_a, want_ports, state }, pin })
}

fn join<T: fmt::Display>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn split<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').map(|word| word.parse().ok()).collect()
}

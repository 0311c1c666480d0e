//! What a valid value is, one function per kind of value.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use xlat::Pref64;

use super::Config;
use super::value::{Refusal, Value};
use crate::server::Server;

type Checked<T> = Result<T, Refusal>;

fn wrong_type<T>(value: &Value, expected: &str, example: &str) -> Checked<T> {
    Err(Refusal::new(format!("expected {expected}, found {}", value.type_name()), format!("write {example}")))
}

pub(super) fn boolean(value: &Value) -> Checked<bool> {
    match value {
        Value::Boolean(value) => Ok(*value),
        _ => wrong_type(value, "a boolean", "true or false, without quotes"),
    }
}

pub(super) fn integer(value: &Value, min: u32, max: u32, unit: &str) -> Checked<u32> {
    let Value::Integer(number) = value else {
        return wrong_type(
            value,
            "an integer",
            &format!("a whole number from {min} to {max}, without quotes"),
        );
    };
    match u32::try_from(*number) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Refusal::new(
            format!("must be from {min} to {max}{unit}"),
            format!("use a number from {min} to {max}, or leave the key out"),
        )),
    }
}

pub(super) fn string<'a>(value: &'a Value, example: &str) -> Checked<&'a str> {
    match value {
        Value::String(text) => Ok(text),
        _ => wrong_type(value, "a string", example),
    }
}

/// One of a fixed set of words.
pub(super) fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Checked<T> {
    let list = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let text = string(value, &format!("one of {list}"))?;
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let remedy = match super::keys::closest(text, words.iter().map(|(word, _)| *word)) {
                Some(near) => format!("did you mean {near:?}? The choices are {list}"),
                None => format!("use one of {list}"),
            };
            Err(Refusal::new("not one of the choices", remedy))
        }
    }
}

/// A list of strings; a single string stands for a list of one.
fn list<T>(value: &Value, example: &str, item: impl Fn(&str) -> Checked<T>) -> Checked<Vec<T>> {
    match value {
        Value::String(text) => Ok(vec![item(text)?]),
        Value::Array(items) => items
            .iter()
            .map(|value| match value {
                Value::String(text) => item(text),
                _ => wrong_type(value, "an array of strings", example),
            })
            .collect(),
        _ => wrong_type(value, "an array of strings", example),
    }
}

fn without_duplicates<T: PartialEq + ToString>(items: Vec<T>) -> Checked<Vec<T>> {
    for (index, item) in items.iter().enumerate() {
        if items[..index].contains(item) {
            return Err(Refusal::new(format!("{} is listed twice", item.to_string()), "remove one of them"));
        }
    }
    Ok(items)
}

pub(super) fn pref64(text: &str) -> Checked<Pref64> {
    text.parse().map_err(|error| {
        Refusal::new(
            format!("{text:?} is no NAT64 prefix: {error}"),
            "write the provider's prefix, with length 32, 40, 48, 56, 64 or 96 and zeros after it, such as 2001:db8:64::/96",
        )
    })
}

pub(super) fn pref64_list(value: &Value) -> Checked<Vec<Pref64>> {
    without_duplicates(list(value, r#"["2001:db8:64::/96"]"#, pref64)?)
}

pub(super) fn words<T: Copy + PartialEq>(value: &Value, choices: &[(&str, T)]) -> Checked<Vec<T>> {
    let names = list(value, &format!("[{:?}]", choices[0].0), |text| {
        word(&Value::String(text.to_owned()), choices).map(|_| text.to_owned())
    })?;
    without_duplicates(names)?.into_iter().map(|text| word(&Value::String(text), choices)).collect()
}

pub(super) fn servers(value: &Value) -> Checked<Vec<Server>> {
    let servers = list(value, r#"["2001:db8::53"]"#, |text| {
        text.parse::<Server>().map_err(|error| {
            Refusal::new(
                format!("{text:?}: {error}"),
                r#"write addresses such as "2001:db8::53", "fe80::1%eth0" or "[2001:db8::53]:5353""#,
            )
        })
    })?;
    without_duplicates(servers)
}

/// Interface names as the kernel accepts them (`dev_valid_name`), and as the rest of the system can handle them.
pub(super) fn device(text: &str) -> Checked<String> {
    let reason = if text.is_empty() {
        "an interface name cannot be empty"
    } else if text.len() > 15 {
        "an interface name has at most 15 bytes"
    } else if text == "." || text == ".." || text == "all" || text == "default" {
        "this name is reserved by the kernel"
    } else if let Some(bad) =
        text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '%' | '"'))
    {
        return Err(Refusal::new(
            format!("an interface name cannot contain {bad:?}"),
            "use letters, digits, '-', '_' and '.'",
        ));
    } else {
        return Ok(text.to_owned());
    };
    Err(Refusal::new(reason, "use a name such as \"clat\" or \"eth0\""))
}

pub(super) fn devices(value: &Value) -> Checked<Vec<String>> {
    without_duplicates(list(value, r#"["eth1"]"#, device)?)
}

pub(super) fn ipv4(value: &Value) -> Checked<Ipv4Addr> {
    const REMEDY: &str = "use one of 192.0.0.1 to 192.0.0.6 (RFC 7335), or leave the key out";
    let text = string(value, r#""192.0.0.1""#)?;
    let addr: Ipv4Addr = text.parse().map_err(|_| Refusal::new("not an IPv4 address", REMEDY))?;
    let octets = addr.octets();
    let reason = if octets[0] == 0 || octets[0] >= 240 {
        "not a host address"
    } else if addr.is_loopback() {
        "a loopback address cannot reach a network"
    } else if addr.is_multicast() {
        "a multicast address cannot be a source"
    } else if addr.is_link_local() {
        "a link-local address cannot reach a network"
    } else if octets[..3] == [192, 0, 0] && matches!(octets[3], 8..=10 | 170 | 171) {
        "this address has a meaning of its own in the IANA registry"
    } else {
        return Ok(addr);
    };
    Err(Refusal::new(reason, REMEDY))
}

pub(super) fn ipv6(text: &str) -> Checked<Ipv6Addr> {
    const REMEDY: &str = "use \"shared\", \"dedicated\", or a global address that is routed to this host";
    let addr: Ipv6Addr = text
        .parse()
        .map_err(|_| Refusal::new("neither \"shared\" nor \"dedicated\" nor an IPv6 address", REMEDY))?;
    let reason = if addr.is_unspecified() || addr.is_loopback() {
        "this address cannot appear on a network"
    } else if addr.is_multicast() {
        "a multicast address cannot be a source"
    } else if crate::server::is_link_local(addr) {
        "a link-local address cannot reach the NAT64"
    } else if addr.to_ipv4_mapped().is_some() || addr.segments()[..6] == [0; 6] {
        "an IPv4-mapped or IPv4-compatible address cannot appear on a network"
    } else if addr.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        "this address belongs to the NAT64 (64:ff9b::/96)"
    } else {
        return Ok(addr);
    };
    Err(Refusal::new(reason, REMEDY))
}

pub(super) fn file(value: &Value) -> Checked<PathBuf> {
    let text = string(value, r#""/etc/hosts""#)?;
    if !Path::new(text).is_absolute() || text.contains('\0') {
        return Err(Refusal::new("not an absolute path", "start it with /"));
    }
    if text.ends_with('/') {
        return Err(Refusal::new("a directory, not a file", "name the file in it"));
    }
    Ok(text.into())
}

/// Host names as RFC 1123 §2.1 has them, with the underscore that real zones use. A final dot is dropped.
pub(super) fn host_name(text: &str) -> Checked<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            // What is not ASCII is an internationalised name (RFC 5890); hostsfix maps it, or refuses it.
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || !b.is_ascii())
    };
    let reason = if name.is_empty() || name.len() > 253 {
        "a host name has 1 to 253 characters"
    } else if text.parse::<std::net::IpAddr>().is_ok() {
        "an address, not a host name"
    } else if name == "localhost" || name.ends_with(".localhost") {
        "localhost is never pinned"
    } else if !name.split('.').all(label_ok) {
        "not a host name: labels of letters, digits and inner hyphens, 1 to 63 each"
    } else {
        return Ok(name);
    };
    Err(Refusal::new(format!("{text:?}: {reason}"), "write names such as \"registry.example.org\""))
}

pub(super) fn host_names(value: &Value) -> Checked<Vec<String>> {
    without_duplicates(list(value, r#"["registry.example.org"]"#, host_name)?)
}

/// Rules between keys. Returns the key to blame with the refusal.
pub(super) fn whole(config: &Config) -> Result<(), (&'static str, Refusal)> {
    let clat = &config.clat;
    if clat.uplink.as_ref() == Some(&clat.device) {
        return Err((
            "clat.uplink",
            Refusal::new("the uplink is the CLAT's own device", "name the IPv6 interface"),
        ));
    }
    if clat.dead_ipv4_defaults.contains(&clat.device) {
        return Err((
            "clat.dead_ipv4_defaults",
            Refusal::new(
                format!("{:?} is the CLAT's own device", clat.device),
                "name the interfaces whose IPv4 default route is dead",
            ),
        ));
    }
    if let super::Address::Explicit(addr) = clat.address {
        let prefixes = config.nat64.prefix.iter().chain(&config.nat64.fallback_prefix);
        if let Some(prefix) = prefixes.into_iter().find(|prefix| prefix.contains(addr)) {
            return Err((
                "clat.address",
                Refusal::new(
                    format!("this address belongs to the NAT64 ({prefix})"),
                    "use \"shared\", \"dedicated\", or a global address that is routed to this host",
                ),
            ));
        }
    }
    Ok(())
}

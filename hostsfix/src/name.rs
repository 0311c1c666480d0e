//! Names that a hosts file can pin: full host names, in the form in which resolvers compare them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host name as it stands in the hosts file: ASCII (A-labels), lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

/// Why a string cannot be pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A `*` anywhere.
    #[error("a hosts file has no wildcards: give each name singly, or use the CLAT, which serves them all")]
    Wildcard,
    /// An IPv4 or IPv6 address.
    #[error(
        "this is an address, and a hosts file only maps names: for IPv4 literals use the CLAT or `v4shim run`"
    )]
    Address,
    /// `localhost` and names below it (RFC 6761 §6.3).
    #[error("localhost always means this machine (RFC 6761 section 6.3)")]
    Localhost,
    /// One label only.
    #[error("not a full name (no dot): DNS is asked directly, without a search list")]
    SingleLabel,
    /// More than 253 characters, or a label that is empty or longer than 63.
    #[error("too long, or with an empty or overlong label (253 characters in all, 1 to 63 between dots)")]
    Length,
    /// Characters that no host name has.
    #[error("contains {0:?}, which no host name contains")]
    Character(char),
    /// A label that begins or ends with a hyphen.
    #[error("a label begins or ends with a hyphen")]
    Hyphen,
    /// Not valid under UTS #46.
    #[error("not a valid internationalised name (UTS #46)")]
    Idna,
}

impl HostName {
    /// The name, ASCII, lower case, no final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for people: U-labels where the name is internationalised, else `None`.
    #[must_use]
    pub fn unicode(&self) -> Option<String> {
        if !self.0.split('.').any(|label| label.starts_with("xn--")) {
            return None;
        }
        let (unicode, valid) = idna::domain_to_unicode(&self.0);
        (valid.is_ok() && unicode != self.0).then_some(unicode)
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains('*') {
            return Err(NameError::Wildcard);
        }
        if text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() {
            return Err(NameError::Address);
        }
        if let Some(odd) = text.chars().find(|c| c.is_ascii() && !is_host_char(*c) && *c != '.') {
            return Err(NameError::Character(odd));
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| NameError::Idna)?;
        let ascii = ascii.strip_suffix('.').unwrap_or(&ascii).to_ascii_lowercase();
        if ascii.len() > 253 || ascii.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err(NameError::Length);
        }
        if let Some(odd) = ascii.chars().find(|c| !is_host_char(*c) && *c != '.') {
            return Err(NameError::Character(odd));
        }
        if ascii.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
            return Err(NameError::Hyphen);
        }
        if ascii == "localhost" || ascii.ends_with(".localhost") {
            return Err(NameError::Localhost);
        }
        // "127.1" and "0x7f.1" are addresses to inet_aton(), and so to most programs.
        if ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(NameError::Address);
        }
        if !ascii.contains('.') {
            return Err(NameError::SingleLabel);
        }
        Ok(Self(ascii))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Letters, digits, hyphen; and the underscore, which real host names in the DNS have.
fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> String {
        text.parse::<HostName>().unwrap().to_string()
    }

    fn err(text: &str) -> NameError {
        text.parse::<HostName>().unwrap_err()
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(ok("Registry.Example.ORG."), "registry.example.org");
        assert_eq!(ok("a_b.example"), "a_b.example");
        assert_eq!(ok("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(ok("BÜCHER。example"), "xn--bcher-kva.example");
        assert_eq!(ok("xn--bcher-kva.example"), "xn--bcher-kva.example");
        assert_eq!("bücher.example".parse::<HostName>().unwrap().unicode().unwrap(), "bücher.example");
        assert_eq!("example.org".parse::<HostName>().unwrap().unicode(), None);
    }

    #[test]
    fn what_cannot_be_pinned_says_why() {
        assert_eq!(err("*.example.org"), NameError::Wildcard);
        assert_eq!(err("192.0.2.1"), NameError::Address);
        assert_eq!(err("127.1"), NameError::Address);
        assert_eq!(err("example.7"), NameError::Address);
        assert_eq!(err("2001:db8::1"), NameError::Address);
        assert_eq!(err("[2001:db8::1]"), NameError::Address);
        assert_eq!(err("localhost"), NameError::Localhost);
        assert_eq!(err("a.localhost."), NameError::Localhost);
        assert_eq!(err("nas"), NameError::SingleLabel);
        assert_eq!(err("a..b"), NameError::Length);
        assert_eq!(err(".a.b"), NameError::Length);
        assert_eq!(err(&format!("{}.example", "a".repeat(64))), NameError::Length);
        assert_eq!(err(&"abcdefg.".repeat(40)), NameError::Length);
        assert_eq!(err("a b.example"), NameError::Character(' '));
        assert_eq!(err("a\n.example"), NameError::Character('\n'));
        assert_eq!(err("a#.example"), NameError::Character('#'));
        assert_eq!(err("-a.example"), NameError::Hyphen);
        assert_eq!(err("xn--a.example"), NameError::Idna);
        assert_eq!(err(""), NameError::Length);
    }
}

//! Where a prefix comes from.

use core::fmt;
use core::str::FromStr;

/// Where a NAT64 prefix comes from.
///
/// The derived order is not the order of preference: that is configurable (`nat64.discover`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `nat64.prefix` in the configuration.
    Config,
    /// The PREF64 option of a Router Advertisement (RFC 8781).
    Ra,
    /// AAAA records of `ipv4only.arpa` (RFC 7050).
    Dns,
    /// `nat64.fallback_prefix` in the configuration: used when no other source knows anything.
    Fallback,
}

impl Source {
    /// The word used in the state file, in JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Ra => "ra",
            Self::Dns => "dns",
            Self::Fallback => "fallback",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseSourceError;

impl fmt::Display for ParseSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source must be config, ra, dns or fallback")
    }
}

impl std::error::Error for ParseSourceError {}

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "config" => Ok(Self::Config),
            "ra" => Ok(Self::Ra),
            "dns" => Ok(Self::Dns),
            "fallback" => Ok(Self::Fallback),
            _ => Err(ParseSourceError),
        }
    }
}

//! The public face: one configured translator, two directions.

use core::ops::Range;

use crate::{Config, ConfigError, DropReason, LinkMtu, Offload, Reply, Verdict};

/// An RFC 7915 translator for one CLAT. Cheap to make; make a new one when the configuration changes.
#[derive(Debug)]
pub struct Translator {
    config: Config,
}

impl Translator {
    /// A translator with this configuration.
    ///
    /// # Errors
    /// When the configuration cannot work; see [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { config })
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Translates the IPv4 packet at `packet` of `buf`, which begins at [`crate::HEADROOM`] or later (RFC 7915 §4).
    pub fn v4_to_v6(
        &self,
        _buf: &mut [u8],
        _packet: Range<usize>,
        _offload: Offload,
        _mtu: LinkMtu,
    ) -> Verdict {
        Verdict::Drop(DropReason::Protocol)
    }

    /// Translates the IPv6 packet at `packet` of `buf`, which begins at [`crate::HEADROOM`] or later (RFC 7915 §5).
    pub fn v6_to_v4(
        &self,
        _buf: &mut [u8],
        _packet: Range<usize>,
        _offload: Offload,
        _mtu: LinkMtu,
    ) -> Verdict {
        Verdict::Drop(DropReason::Protocol)
    }

    /// Writes the ICMP error about `original` (the untouched packet) to the start of `out` and returns its length,
    /// at most [`crate::MAX_REPLY_LEN`]; 0 if `out` is too short.
    #[must_use]
    pub fn write_reply(&self, _reply: &Reply, _original: &[u8], _out: &mut [u8]) -> usize {
        0
    }
}

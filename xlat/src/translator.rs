//! The public face: one configured translator, two directions.

use core::ops::Range;
use core::sync::atomic::{AtomicU16, Ordering};

use crate::{Config, ConfigError, LinkMtu, Offload, Reply, Verdict};
use crate::{reply, v4_to_v6, v6_to_v4};

/// An RFC 7915 translator for one CLAT. Cheap to make; make a new one when the configuration changes.
#[derive(Debug)]
pub struct Translator {
    config: Config,
    /// RFC 7915 §5.1, "Fragment Identification generator".
    identification: AtomicU16,
}

impl Translator {
    /// A translator with this configuration.
    ///
    /// # Errors
    /// When the configuration cannot work; see [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { config, identification: AtomicU16::new(1) })
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Translates the IPv4 packet at `packet` of `buf`, which begins at [`crate::HEADROOM`] or later (RFC 7915 §4).
    ///
    /// A packet with an offload is at most one super-packet of 65535 bytes; each of its segments is held against the
    /// MTU. Bytes behind the length that the IP header states are cut off.
    pub fn v4_to_v6(&self, buf: &mut [u8], packet: Range<usize>, offload: Offload, mtu: LinkMtu) -> Verdict {
        v4_to_v6::translate(&self.config, buf, packet, offload, mtu).into()
    }

    /// Translates the IPv6 packet at `packet` of `buf`, which begins at [`crate::HEADROOM`] or later (RFC 7915 §5).
    ///
    /// As for [`Translator::v4_to_v6`]; jumbograms and super-packets beyond 65535 bytes are dropped.
    pub fn v6_to_v4(&self, buf: &mut [u8], packet: Range<usize>, offload: Offload, mtu: LinkMtu) -> Verdict {
        v6_to_v4::translate(&self.config, buf, packet, offload, mtu, || self.next_identification()).into()
    }

    /// Writes the ICMP error about `original` (the untouched packet) to the start of `out` and returns its length,
    /// at most [`crate::MAX_REPLY_LEN`]; 0 if `out` is too short to quote 8 bytes of transport header.
    #[must_use]
    pub fn write_reply(&self, reply: &Reply, original: &[u8], out: &mut [u8]) -> usize {
        reply::write(&self.config, reply, original, out, || self.next_identification()).unwrap_or(0)
    }

    fn next_identification(&self) -> u16 {
        self.identification.fetch_add(1, Ordering::Relaxed)
    }
}

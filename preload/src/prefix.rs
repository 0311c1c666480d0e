//! Which NAT64 prefix holds now.
//!
//! In this order: `V4SHIM_PREFIX`; the live state that the daemon keeps; the configuration; RFC 7050, once.
//! The live state is read again every few seconds, when a prefix is needed at all, because prefixes change while
//! programs run. Prefixes once used are remembered: an established socket's peer is still in the old one.

use crate::{report, settings};
use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use pref64::config::Config;
use pref64::state::Expiry;
use std::sync::OnceLock;
use swap::{Policy, sys};
use xlat::Pref64;

/// Seconds between looks at the live state.
const LIVE_CHECK_S: u64 = 2;

/// A prefix, written once.
struct Slot {
    /// 0 empty, 1 being written, 2 valid.
    state: AtomicU8,
    high: AtomicU64,
    low: AtomicU64,
    len: AtomicU8,
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: AtomicU8::new(0),
            high: AtomicU64::new(0),
            low: AtomicU64::new(0),
            len: AtomicU8::new(0),
        }
    }

    fn get(&self) -> Option<Pref64> {
        if self.state.load(Ordering::Acquire) != 2 {
            return None;
        }
        let bits = u128::from(self.high.load(Ordering::Relaxed)) << 64
            | u128::from(self.low.load(Ordering::Relaxed));
        Pref64::new(Ipv6Addr::from_bits(bits), self.len.load(Ordering::Relaxed)).ok()
    }

    fn set(&self, prefix: &Pref64) -> bool {
        if self.state.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        let bits = prefix.network().to_bits();
        self.high.store((bits >> 64) as u64, Ordering::Relaxed);
        self.low.store(bits as u64, Ordering::Relaxed);
        self.len.store(prefix.len(), Ordering::Relaxed);
        self.state.store(2, Ordering::Release);
        true
    }
}

/// Every prefix that this process has used. A process that outlives sixteen keeps to the sixteenth.
static KNOWN: [Slot; 16] = [const { Slot::new() }; 16];
/// Index of the one in use, plus one.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
/// Set by hand: never looked up again.
static FIXED: AtomicBool = AtomicBool::new(false);
/// When the live state was last looked at, in monotonic seconds, plus one.
static CHECKED_S: AtomicU64 = AtomicU64::new(0);
/// From the configuration: index plus one.
static CONFIGURED: AtomicUsize = AtomicUsize::new(0);
/// The configuration's last resort: index plus one.
static FALLBACK: AtomicUsize = AtomicUsize::new(0);
static PRIVATE_IPV4: AtomicBool = AtomicBool::new(false);
/// Path of the live state file, with its NUL.
static LIVE: OnceLock<Vec<u8>> = OnceLock::new();

/// Index plus one of `prefix` among the known ones; 0 when there is no more room.
fn remember(prefix: &Pref64) -> usize {
    for (i, slot) in KNOWN.iter().enumerate() {
        if slot.get().as_ref() == Some(prefix) || slot.set(prefix) {
            return i + 1;
        }
    }
    0
}

fn known(index_plus_one: usize) -> Option<Pref64> {
    KNOWN.get(index_plus_one.checked_sub(1)?)?.get()
}

fn policy_of(prefix: Pref64) -> Policy {
    Policy { prefix, private_ipv4: PRIVATE_IPV4.load(Ordering::Relaxed) }
}

/// Reads environment and configuration. Only for the constructor. `false`: broken, and said so.
pub(crate) fn configure() -> bool {
    if let Some(value) = settings::env(c"V4SHIM_PREFIX").filter(|v| !v.is_empty()) {
        let Some(prefix) = value.to_str().ok().and_then(|v| v.parse::<Pref64>().ok()) else {
            report::line("V4SHIM_PREFIX is not a NAT64 prefix such as 2001:db8:64::/96; IPv4 is left alone");
            return false;
        };
        CURRENT.store(remember(&prefix), Ordering::Release);
        FIXED.store(true, Ordering::Release);
    }
    if let Some(value) = settings::env(c"V4SHIM_PRIVATE_IPV4") {
        PRIVATE_IPV4.store(value.to_bytes() == b"1", Ordering::Relaxed);
    }
    if CURRENT.load(Ordering::Acquire) == 0 && !from_configuration() {
        return false;
    }
    let dir = settings::env(c"V4SHIM_RUN_DIR").map_or(&b"/run/v4shim"[..], |d| d.to_bytes());
    LIVE.get_or_init(|| [dir, b"/prefix\0"].concat());
    true
}

/// Prefix and policy of the configuration. `false`: broken, and said so.
fn from_configuration() -> bool {
    let path = settings::env(c"V4SHIM_CONFIG").filter(|v| !v.is_empty()).unwrap_or(c"/etc/v4shim.toml");
    // The ordinary case costs one system call and no parser.
    let Ok(fd) = sys::open_read(path.to_bytes_with_nul()) else { return true };
    sys::close(fd);
    let config = match Config::load(None, &[]) {
        Ok(config) => config,
        Err(error) => {
            report::line(&format!("{error}; IPv4 is left alone"));
            return false;
        }
    };
    if let Some(prefix) = config.nat64.prefix.first() {
        CONFIGURED.store(remember(prefix), Ordering::Release);
    }
    if let Some(prefix) = &config.nat64.fallback_prefix {
        FALLBACK.store(remember(prefix), Ordering::Release);
    }
    PRIVATE_IPV4.store(config.nat64.private_ipv4, Ordering::Relaxed);
    settings::configured_mode(config.preload.mode);
    true
}

/// The prefix to use now. Looks for it where that is due; the first look may ask a name server.
pub(crate) fn policy() -> Option<Policy> {
    let now = sys::monotonic_s() + 1;
    let fresh = FIXED.load(Ordering::Acquire)
        || now.saturating_sub(CHECKED_S.load(Ordering::Relaxed)) < LIVE_CHECK_S
            && CURRENT.load(Ordering::Acquire) != 0;
    if !fresh {
        CHECKED_S.store(now, Ordering::Relaxed);
        let found = live().map(|p| remember(&p)).or_else(|| Some(CONFIGURED.load(Ordering::Acquire)));
        let found = found.filter(|&i| i != 0).or_else(|| swap::discover::prefix().map(|p| remember(&p)));
        let found = found.or_else(|| Some(FALLBACK.load(Ordering::Acquire)));
        CURRENT.store(found.unwrap_or(0), Ordering::Release);
    }
    known(CURRENT.load(Ordering::Acquire)).map(policy_of)
}

/// The IPv4 address in `ip`, under any prefix used so far.
pub(crate) fn extract(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    KNOWN.iter().map_while(Slot::get).find_map(|p| p.extract(ip))
}

/// The first prefix in the daemon's state file that has not expired.
fn live() -> Option<Pref64> {
    let fd = sys::open_read(LIVE.get()?).ok()?;
    let mut text = [0u8; 2048];
    let n = sys::read(fd, &mut text);
    sys::close(fd);
    let text = core::str::from_utf8(text.get(..n.ok()?)?).ok()?;
    first_valid(text, sys::realtime_s())
}

fn first_valid(text: &str, now_s: u64) -> Option<Pref64> {
    // A line that a newer daemon wrote and we do not understand is passed over.
    let mut entries = pref64::state::entries(text).filter_map(Result::ok);
    let valid = entries.find(|entry| match entry.expires {
        Expiry::Never => true,
        Expiry::At(s) => s > now_s,
    });
    valid.map(|entry| entry.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_unexpired_line_counts() {
        let text = "# written by clatd\n\
            2001:db8:1::/96 source=ra expires=100 router=fe80::1%eth0\n\
            2001:db8:2::/96 source=dns expires=300 used\n\
            2001:db8:3::/96 source=config expires=never\n";
        let at = |now| first_valid(text, now).map(|p| p.network().to_string());
        assert_eq!(at(50).as_deref(), Some("2001:db8:1::"));
        assert_eq!(at(100).as_deref(), Some("2001:db8:2::"));
        assert_eq!(at(300).as_deref(), Some("2001:db8:3::"));
    }

    #[test]
    fn rubbish_is_no_prefix() {
        for text in
            ["", "rubbish", "2001:db8::/96", "2001:db8::/96 source=ra expires=", "x expires=never", "\u{0}"]
        {
            assert_eq!(first_valid(text, 0), None, "{text:?}");
        }
    }
}

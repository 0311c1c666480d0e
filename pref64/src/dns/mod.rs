//! A small DNS client that asks given servers directly, and RFC 7050's prefix discovery on top of it.
//!
//! - [`message`]: the wire format, as total functions over bytes. Names, A, AAAA, CNAME and the SOA of negative
//!   answers are all that is needed, so no DNS library is: the preload library is injected into every process and
//!   should bring as little along as it can. The tests check it against one.
//! - [`query`]: one question to a list of servers, non-blocking, for an event loop: [`Query`].
//! - [`lookup`]: the same, blocking.
//! - [`nat64`]: from the addresses of `ipv4only.arpa` to prefixes.
//! - [`resolvers`]: which servers the system uses.
//!
//! `/etc/hosts`, search domains and caches are not consulted: what is asked is what the network says.

pub mod message;
pub mod nat64;
pub mod query;
pub mod resolvers;

use std::time::Duration;

pub use message::{Name, RecordType};
pub use query::{Answer, Failure, Found, Options, Query, lookup};
pub use resolvers::system_resolvers;

/// The well-known IPv4-only name (RFC 7050 §2.2).
pub const IPV4ONLY: &str = "ipv4only.arpa";

/// An unpredictable number: a hash under a key from the operating system.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u128(now().as_nanos());
    hasher.finish()
}

/// Time since boot, suspend included (`CLOCK_BOOTTIME`): the clock of every deadline in this crate.
pub fn now() -> Duration {
    // Every Linux since 2.6.39 has the clock; zero would only make deadlines late, never early.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

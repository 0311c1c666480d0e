//! RFC 7915 IP/ICMP translation and RFC 6052 addresses for a CLAT (RFC 6877), as total functions over bytes.
//!
//! The crate is pure: no clock, no socket, no allocation, no dependency, no unsafe code. Whatever bytes come in,
//! a [`Verdict`] comes out; nothing here panics.
//!
//! ```text
//!             Translator::v4_to_v6                            Translator::v6_to_v4
//!   IPv4 ──► v4_to_v6.rs ──► Verdict::Forward     IPv6 ──► v6_to_v4.rs ──► Verdict::Forward
//!                 │     └──► Verdict::Fragment                   │    └──► Verdict::Fragment   fragment.rs
//!                 │     └──► Verdict::Reply                      │    └──► Verdict::Reply      reply.rs
//!                 │     └──► Verdict::Drop                       │    └──► Verdict::Drop       verdict.rs
//!                 └─ ICMP: icmp.rs (the tables), icmp_error.rs ──┘
//! ```
//!
//! Packets are translated in place: the caller leaves [`HEADROOM`] free bytes in front of each packet, because an
//! IPv6 header is longer than an IPv4 header. The transport payload never moves.
#![no_std]
#![forbid(unsafe_code)]

mod address;
pub mod checksum;
mod config;
mod fragment;
mod icmp;
mod icmp_error;
mod ipv4;
mod ipv6;
mod pref64;
mod rate_limit;
mod reply;
mod translator;
mod transport;
mod v4_to_v6;
mod v6_to_v4;
mod verdict;

pub use address::{AddressClass, OwnIpv4, OwnIpv4Full, is_translatable};
pub use config::{Config, ConfigError, DUMMY_IPV4, MIN_IPV4_MTU, MIN_IPV6_MTU};
pub use fragment::Fragments;
pub use pref64::{Pref64, Pref64Error};
pub use rate_limit::RateLimiter;
pub use reply::{Icmpv4Error, Icmpv6Error, MAX_REPLY_LEN, Reply};
pub use translator::Translator;
pub use verdict::{DropReason, HEADROOM, LinkMtu, Offload, Verdict};

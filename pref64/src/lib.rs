//! Where is the NAT64? Everything that clatd, hostsfix, preload and `v4shim` share around that question.
//!
//! | module | concern | feature |
//! |---|---|---|
//! | [`config`] | the one configuration loader | types always, loader with `config` |
//! | [`state`] | the live prefix file in the run directory | always |
//! | [`ra`] | Router Advertisements and their PREF64 option (RFC 8781), pure | always |
//! | [`dns`] | a small DNS client, resolvers, RFC 7050's `ipv4only.arpa` | `dns` |
//! | [`discoverer`], [`ra_socket`] | discovery with its sockets, for an event loop | `discover` |
//! | [`discovery`] | which prefixes are known and which one is used: pure state machine | always |

pub mod config;
#[cfg(feature = "discover")]
pub mod discoverer;
pub mod discovery;
#[cfg(feature = "dns")]
pub mod dns;
pub mod jitter;
pub mod ra;
#[cfg(feature = "discover")]
pub mod ra_socket;
pub mod server;
mod source;
pub mod state;
#[cfg(feature = "discover")]
mod watch;

pub use source::{ParseSourceError, Source};
pub use xlat::Pref64;

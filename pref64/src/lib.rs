//! Where is the NAT64? Everything that clatd, hostsfix, preload and `v4shim` share around that question.
//!
//! | module | concern | feature |
//! |---|---|---|
//! | [`config`] | the one configuration loader | types always, loader with `config` |
//! | [`state`] | the live prefix file in the run directory | always |
//! | [`ra`] | Router Advertisements and their PREF64 option (RFC 8781), pure | always |
//! | [`discovery`] | which prefixes are known and which one is used: pure state machine | always |

pub mod config;
pub mod discovery;
pub mod jitter;
pub mod ra;
pub mod server;
mod source;
pub mod state;

pub use source::{ParseSourceError, Source};
pub use xlat::Pref64;

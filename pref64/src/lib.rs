//! Where is the NAT64? Everything that clatd, hostsfix, preload and `v4shim` share around that question.
//!
//! | module | concern | feature |
//! |---|---|---|
//! | [`config`] | the one configuration loader | types always, loader with `config` |
//! | [`state`] | the live prefix file in the run directory | always |

pub mod config;
pub mod server;
mod source;
pub mod state;

pub use source::{ParseSourceError, Source};
pub use xlat::Pref64;

//! `hostsfix`: AAAA pins in a hosts file that an operator can trust.
//!
//! | module | what |
//! |---|---|
//! | [`cli`] | the command line, as plain data |
//! | [`name`], [`time`], [`lifetime`], [`choose`], [`plan`], [`diff`] | pure: names, instants, how long a pin lives, which address it gets, what a run changes, unified diffs |
//! | [`hosts`] | pure: the lossless hosts file editor and the managed block |
//! | [`store`] | the crash-safe write: lock, re-check, rename or journalled in-place write |
//! | [`saved`] | a copy of the wishes, for hosts files that other programs write anew |
//! | [`net`] | DNS, the NAT64 prefix and the TCP probe |
//! | [`command`] | the commands: the shell around all this |
#![forbid(unsafe_code)]

pub mod choose;
pub mod cli;
pub mod command;
pub mod diff;
pub mod hosts;
pub mod lifetime;
pub mod log;
pub mod name;
pub mod net;
pub mod plan;
pub mod saved;
pub mod store;
pub mod time;

//! `hostsfix`: AAAA pins in a hosts file that an operator can trust.
//!
//! | module | what |
//! |---|---|
//! | [`name`], [`time`] | pure: names and instants |
//! | [`hosts`] | pure: the lossless hosts file editor and the managed block |
//! | [`store`] | the crash-safe write: lock, re-check, rename or journalled in-place write |
#![forbid(unsafe_code)]

pub mod hosts;
pub mod name;
pub mod store;
pub mod time;

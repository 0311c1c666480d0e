//! The host: what it looks like ([`snapshot`]), what we change about it
//! ([`change`]), how it gets from one wished-for state to the next
//! ([`reconcile`]), what must be undone after a crash ([`journal`]), and what
//! must not be put at risk ([`nfs`]).

pub mod change;
pub mod clsact;
pub mod journal;
pub mod nfs;
pub mod nft;
pub mod reconcile;
pub mod snapshot;
pub mod sysctl;

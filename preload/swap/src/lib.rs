//! How an IPv6 socket takes the place of an IPv4 one.
//!
//! Two programs do this: the `LD_PRELOAD` library from inside a process, and the supervisor of
//! `v4shim run` from outside. What they share is here: which destinations go to the NAT64
//! ([`policy`]) and when ([`route`]), socket addresses as bytes ([`sockaddr`]), the replacement socket with its
//! options ([`replace`], [`options`]), epoll registrations ([`epoll`]), and the prefix when nobody knows it ([`discover`]).
//!
//! The library runs in signal handlers, in vfork children and between `malloc` and its lock, so this
//! crate is `no_std` with no allocator: nothing here allocates, locks, prints, or can panic on any input.
//! All system calls go through [`sys`].
#![no_std]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

pub mod discover;
pub mod epoll;
pub mod options;
pub mod policy;
pub mod replace;
pub mod route;
pub mod sockaddr;
pub mod sys;

pub use options::Touched;
pub use policy::Policy;
pub use replace::{Decline, Replacement};
pub use sockaddr::{Dest, RawAddr};
pub use sys::{Errno, Fd};

//! LD_PRELOAD library: IPv4 for one process on an IPv6-only host, through the provider's NAT64.
//!
//! The real call comes first, always. Only when the kernel says at once that there is no route does
//! the library act: it puts an IPv6 socket in the place of the application's IPv4 one, and shows the
//! application IPv4 addresses from then on. A host with IPv4 sees its own system calls and nothing else.
//!
//! | module | what |
//! |---|---|
//! | `hooks` | the exported functions: trampolines |
//! | `real` | what they would have called without us |
//! | `connect`, `send`, `receive`, `names` | what the hooks do when the real call cannot |
//! | `resolver` | name servers with an IPv4 address |
//! | `exchange` | one socket put in the place of another: epoll, duplicates, `dup3` |
//! | `seen` | which options need not be carried, because nobody set them |
//! | `table` | which descriptors are ours, without locks |
//! | `settings`, `prefix` | mode and prefix |
//! | `user` | the application's memory, which may be anything |
//!
//! Rules for every line that runs in a hook, because a hook may run in a signal handler that
//! interrupted `malloc`, in a vfork child, or before any constructor: no allocation, no lock, no stdio, no symbol
//! look-up, no panic; `errno` as the real call left it; anything unexpected falls back to the real
//! call's answer.
//!
//! Interposition is unsafe by nature: the functions take raw pointers from C. `unsafe` is
//! confined to the hooks and to reading and writing what they were given.
#![allow(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod connect;
mod exchange;
mod hooks;
mod names;
mod prefix;
mod real;
mod receive;
mod report;
mod resolver;
mod seen;
mod send;
mod settings;
mod table;
mod user;

//! The v4shim CLAT daemon: a 464XLAT customer-side translator (RFC 6877).
//!
//! | module | concern |
//! |---|---|
//! | [`daemon`] | the one event loop, where the parts below meet |
//! | [`machine`] | pure: what is known → what the host should look like |
//! | [`host`] | what the host looks like, each change to it with its undo |
//! | [`netlink`] | the kernel's routing tables |
//! | [`prefixes`] | which NAT64 prefixes are known |
//! | [`neighbour`] | an address on the uplink that is not the host's |
//! | [`datapath`] | the device, the translating thread, the fast path |
//! | [`counters`], [`status`] | what passed and what did not; who wants to know |
//! | [`notify`] | words to the service manager |
//! | [`cli`], [`exit`] | command line, exit codes |
//! | [`sys`] | system calls without a safe library |

pub mod cli;
pub mod counters;
pub mod daemon;
pub mod datapath;
pub mod exit;
pub mod host;
pub mod machine;
pub mod neighbour;
pub mod netlink;
pub mod notify;
pub mod prefixes;
pub mod status;
pub mod sys;

//! The v4shim CLAT daemon: a 464XLAT customer-side translator (RFC 6877).
//!
//! | module | concern |
//! |---|---|
//! | [`machine`] | pure: what is known → what the host should look like |
//! | [`host`] | what the host looks like, each change to it with its undo |
//! | [`netlink`] | the kernel's routing tables |
//! | [`datapath`] | the device, the translating thread, the fast path |
//! | [`counters`] | what passed and what did not |
//! | [`sys`] | system calls without a safe library |

pub mod counters;
pub mod datapath;
pub mod host;
pub mod machine;
pub mod netlink;
pub mod sys;

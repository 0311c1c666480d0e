//! How packets get through the host.

pub mod tun;

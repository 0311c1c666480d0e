//! How packets get through the host.

pub mod bpf;
pub mod tun;

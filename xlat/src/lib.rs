//! RFC 7915 IP/ICMP translation and RFC 6052 addresses, as total functions over bytes.
#![no_std]
#![forbid(unsafe_code)]

//! The one configuration: `/etc/v4shim.toml`, its drop-ins, and `--set`.
//!
//! [`Config`] exists only if it is valid. One table ([`KEYS`]) holds every key with its documentation, its
//! default and the code that checks it; the loader, the commented default file and the man page are all
//! made from it.

#[cfg(feature = "config")]
mod check;
#[cfg(feature = "config")]
mod error;
#[cfg(feature = "config")]
mod keys;
#[cfg(feature = "config")]
mod load;
#[cfg(feature = "config")]
mod render;
#[cfg(feature = "config")]
mod value;

#[cfg(feature = "config")]
pub use error::{ConfigError, Origin};
#[cfg(feature = "config")]
pub use keys::{KEYS, Key, SECTIONS, Section};
#[cfg(feature = "config")]
pub use render::default_file;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use xlat::Pref64;

use crate::server::Server;

/// The main configuration file unless `--config` or [`CONFIG_ENV`] says otherwise.
pub const DEFAULT_FILE: &str = "/etc/v4shim.toml";
/// Environment variable that names another main configuration file.
pub const CONFIG_ENV: &str = "V4SHIM_CONFIG";

/// A valid configuration. [`Config::default`] is what an empty file means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `[nat64]`: where the NAT64 is.
    pub nat64: Nat64,
    /// `[clat]`: the daemon.
    pub clat: Clat,
    /// `[preload]`: the preload library.
    pub preload: Preload,
    /// `[hosts]`: hostsfix.
    pub hosts: Hosts,
}

/// `[nat64]`: where the NAT64 is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Nat64 {
    /// Prefixes that need no discovery, best first; empty: discover.
    pub prefix: Vec<Pref64>,
    /// Discovery methods after `prefix`, in order of preference.
    pub discover: Vec<Method>,
    /// Servers to ask for `ipv4only.arpa`; empty: the system's resolvers.
    pub dns_servers: Vec<Server>,
    /// Used when nothing else is known.
    pub fallback_prefix: Option<Pref64>,
    /// Whether the NAT64 also serves private IPv4 destinations (never under the well-known prefix).
    pub private_ipv4: bool,
}

impl Default for Nat64 {
    fn default() -> Self {
        Self {
            prefix: Vec::new(),
            discover: vec![Method::Ra, Method::Dns],
            dns_servers: Vec::new(),
            fallback_prefix: None,
            private_ipv4: false,
        }
    }
}

/// A way to discover the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Router Advertisements (RFC 8781).
    Ra,
    /// `ipv4only.arpa` (RFC 7050).
    Dns,
}

/// `[clat]`: the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Clat {
    /// Whether clatd does anything at all.
    pub enabled: bool,
    /// Name of the CLAT's network device.
    pub device: String,
    /// The IPv6 interface to use; `None`: where the route to the prefix points.
    pub uplink: Option<String>,
    /// The CLAT's IPv4 address; `None`: the first free one of 192.0.0.0/29 (RFC 7335).
    pub ipv4: Option<Ipv4Addr>,
    /// Which IPv6 address the translated packets carry.
    pub address: Address,
    /// Which datapath to use.
    pub datapath: Datapath,
    /// MTU of the device (IPv4); `None`: the uplink's MTU less 20.
    pub mtu: Option<u32>,
    /// What may come in.
    pub inbound: Inbound,
    /// What a native IPv4 default route means.
    pub when_native_ipv4: WhenNativeIpv4,
    /// Interfaces whose IPv4 default route leads nowhere and is no reason to stand by.
    pub dead_ipv4_defaults: Vec<String>,
    /// Metric of the IPv4 default route.
    pub route_metric: u32,
    /// The smallest IPv6 MTU to expect on the path (RFC 7915 §4).
    pub lowest_ipv6_mtu: u32,
    /// Whether TOS and traffic class are copied (RFC 7915 §4.1), or zero.
    pub copy_traffic_class: bool,
}

impl Default for Clat {
    fn default() -> Self {
        Self {
            enabled: true,
            device: "clat".to_owned(),
            uplink: None,
            ipv4: None,
            address: Address::Shared,
            datapath: Datapath::Auto,
            mtu: None,
            inbound: Inbound::Replies,
            when_native_ipv4: WhenNativeIpv4::StandBy,
            dead_ipv4_defaults: Vec::new(),
            route_metric: 2048,
            lowest_ipv6_mtu: 1280,
            copy_traffic_class: true,
        }
    }
}

/// Which IPv6 address the translated packets carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// The host's own address.
    Shared,
    /// An address of its own in a /64 of the uplink.
    Dedicated,
    /// This address.
    Explicit(Ipv6Addr),
}

/// Which datapath to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datapath {
    /// The fastest that works here.
    Auto,
    /// eBPF or fail.
    Bpf,
    /// The TUN device and user space.
    Tun,
}

/// What may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inbound {
    /// Only replies to what this host started.
    Replies,
    /// Everything the NAT64 sends.
    Allow,
}

/// What a native IPv4 default route means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenNativeIpv4 {
    /// Stand by until it goes.
    StandBy,
    /// Nothing: run anyway.
    Ignore,
}

/// `[preload]`: the preload library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preload {
    /// When connections are sent to the NAT64.
    pub mode: PreloadMode,
}

impl Default for Preload {
    fn default() -> Self {
        Self { mode: PreloadMode::Auto }
    }
}

/// When the preload library sends a connection to the NAT64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PreloadMode {
    /// When the kernel has no IPv4 route for it.
    Auto,
    /// Always, except for local destinations.
    Always,
    /// Never.
    Off,
}

/// `[hosts]`: hostsfix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hosts {
    /// The file to edit.
    pub file: PathBuf,
    /// Names to keep pinned.
    pub pin: Vec<String>,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { file: "/etc/hosts".into(), pin: Vec::new() }
    }
}

#[cfg(all(test, feature = "config"))]
mod tests;

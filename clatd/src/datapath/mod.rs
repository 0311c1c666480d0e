//! How packets get through the host: our device, and who carries packets
//! between it and the uplink.

pub mod bpf;
pub mod tun;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use nix::sys::eventfd::EventFd;
use pref64::config::Datapath as Wanted;
use xlat::{LinkMtu, OwnIpv4, Translator};

use crate::counters::Counters;
use crate::host::change::clat_ipv6;
use crate::machine::{Desired, Identity};
use bpf::{
    Attachment, EnsureClsact, FastCounters, FastPath, FastPathError, LinkKind, Mode, Params, Records, TcxLink,
};
use tun::{Device, Offloads, Pump, Rules};

/// Who carries packets between device and uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// eBPF programs, which translate most packets themselves.
    Bpf,
    /// The kernel's forwarding.
    Tun,
}

impl Kind {
    /// The name in configuration and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Tun => "tun",
        }
    }

    /// True if the kernel forwards between device and uplink.
    pub fn kernel_forwards(self) -> bool {
        self == Self::Tun
    }
}

/// What of the configuration matters to each packet.
#[derive(Debug, Clone, Copy)]
pub struct PacketSettings {
    /// `nat64.private_ipv4`.
    pub private_ipv4: bool,
    /// `clat.lowest_ipv6_mtu`.
    pub lowest_ipv6_mtu: u16,
    /// `clat.copy_traffic_class`.
    pub copy_traffic_class: bool,
}

/// A device with its translating thread, and the fast path if it can be had.
pub struct Datapath {
    // Dropped in this order: nothing is translated any more, nobody reads any more, the device goes.
    fast: Option<FastPath>,
    pump: Pump,
    device: Device,
    settings: PacketSettings,
    reason: String,
}

impl Datapath {
    /// Creates the device and starts to translate. `failed` is written to if
    /// that ends by itself; `clsact` is for [`FastPath::attach`]. To be followed
    /// by [`Datapath::complete`], once the device is configured.
    pub fn start(
        wanted: Wanted,
        desired: &Desired,
        settings: PacketSettings,
        own_ipv4: OwnIpv4,
        counters: Arc<Counters>,
        failed: Arc<EventFd>,
        clsact: &mut EnsureClsact<'_>,
    ) -> anyhow::Result<Self> {
        let device = Device::create(&desired.device, Offloads::TcpAndUdp)?;
        let (fast, reason) = match wanted {
            Wanted::Tun => (None, "configured".to_owned()),
            Wanted::Bpf => {
                let fast = attach(&device, desired, settings, own_ipv4, clsact)
                    .context("clat.datapath = \"bpf\"")?;
                (Some(fast), "configured".to_owned())
            }
            Wanted::Auto => match attach(&device, desired, settings, own_ipv4, clsact) {
                Ok(fast) => (Some(fast), "automatic choice".to_owned()),
                Err(error) => (None, format!("no fast path: {error:#}")),
            },
        };
        let kind = if fast.is_some() { Kind::Bpf } else { Kind::Tun };
        let rules = rules(kind, desired, settings, own_ipv4)?;
        let pump = Pump::start(&device, rules, counters, failed).context("cannot start to translate")?;
        Ok(Self { fast, pump, device, settings, reason })
    }

    /// Takes the last steps of [`Datapath::start`] or [`Datapath::update`], which
    /// packets need not wait for.
    pub fn complete(&mut self) -> Result<(), FastPathError> {
        self.fast.as_mut().map_or(Ok(()), FastPath::complete)
    }

    /// Translates by other addresses from the next packet on. True if the programs had to be attached anew; then
    /// [`Datapath::complete`] has to follow.
    pub fn update(
        &mut self,
        desired: &Desired,
        own_ipv4: OwnIpv4,
        clsact: &mut EnsureClsact<'_>,
    ) -> anyhow::Result<bool> {
        self.pump.set_rules(rules(self.kind(), desired, self.settings, own_ipv4)?);
        if let Some(fast) = &mut self.fast {
            let params = params(&self.device, desired, self.settings, own_ipv4)?;
            match fast.update(&params) {
                Err(FastPathError::NeedsAttach) => {
                    // The old programs go first: two translators would take each other's packets.
                    self.fast = None;
                    self.fast = Some(FastPath::attach(&params, clsact)?);
                    return Ok(true);
                }
                other => other?,
            }
        }
        Ok(false)
    }

    /// Who carries packets.
    pub fn kind(&self) -> Kind {
        if self.fast.is_some() { Kind::Bpf } else { Kind::Tun }
    }

    /// Why it is this datapath.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The device's interface index.
    pub fn ifindex(&self) -> u32 {
        self.device.ifindex
    }

    /// How it works in detail, for the status.
    pub fn details(&self) -> String {
        match &self.fast {
            None => self.device.offloads.to_string(),
            Some(fast) => {
                let how = match fast.attachment() {
                    Attachment::Clsact => "clsact filters",
                    Attachment::Tcx | Attachment::Auto => "TCX links",
                };
                let pins =
                    if fast.pin_failure().is_some() { ", flow records end with the process" } else { "" };
                format!("{how}{pins}; the rest by {}", self.device.offloads)
            }
        }
    }

    /// The interfaces (by index) with filters of ours in a clsact qdisc.
    pub fn clsact_interfaces(&self) -> Vec<u32> {
        self.fast.as_ref().map(FastPath::clsact_interfaces).unwrap_or_default()
    }

    /// Leaves the filters on the uplink where they are when this ends: see [`FastPath::leave_filters`].
    pub fn leave_filters(&mut self) {
        if let Some(fast) = &mut self.fast {
            fast.leave_filters();
        }
    }

    /// What the kernel counted, with the fast path.
    pub fn fast_counters(&self) -> Option<FastCounters> {
        self.fast.as_ref()?.counters().ok()
    }

    /// The flow records of the fast path.
    pub fn records(&self) -> Option<Result<Records, FastPathError>> {
        self.fast.as_ref().map(FastPath::records)
    }

    /// Why flow records will not outlive this process.
    pub fn pin_failure(&self) -> Option<&str> {
        self.fast.as_ref()?.pin_failure()
    }

    /// What can be handed on to a next process: see [`TcxLink`].
    pub fn ingress(&self) -> Option<&TcxLink> {
        self.fast.as_ref()?.ingress()
    }

    /// Takes it out of the datapath, whose end it then outlives.
    pub fn take_ingress(&mut self) -> Option<TcxLink> {
        self.fast.as_mut()?.take_ingress()
    }

    /// Why translation ended by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        self.pump.failure()
    }
}

fn attach(
    device: &Device,
    desired: &Desired,
    settings: PacketSettings,
    own_ipv4: OwnIpv4,
    clsact: &mut EnsureClsact<'_>,
) -> anyhow::Result<FastPath> {
    Ok(FastPath::attach(&params(device, desired, settings, own_ipv4)?, clsact)?)
}

fn params(
    device: &Device,
    desired: &Desired,
    settings: PacketSettings,
    own_ipv4: OwnIpv4,
) -> anyhow::Result<Params> {
    let uplink = &desired.uplink;
    let link_kind = match uplink.mac {
        Some(mac) => LinkKind::Ethernet { mac },
        None if uplink.raw_ip => LinkKind::RawIp,
        None => anyhow::bail!("{} is neither Ethernet nor a link of bare IP packets", uplink.name),
    };
    Ok(Params {
        clat_ifindex: device.ifindex,
        uplink_ifindex: uplink.ifindex,
        link_kind,
        next_hop: uplink.gateway,
        pref64: desired.pref64,
        clat_ipv4: desired.ipv4,
        clat_ipv6: desired.identity.outer(),
        mode: match desired.identity {
            Identity::Shared { .. } => Mode::Shared,
            Identity::Own { .. } => Mode::Dedicated,
        },
        optimistic: desired.identity.is_optimistic(),
        private_ipv4: settings.private_ipv4,
        copy_traffic_class: settings.copy_traffic_class,
        inbound_allowed: desired.inbound_allow,
        own_ipv4: own_ipv4.as_slice().to_vec(),
        ipv6_mtu: uplink.ipv6_mtu,
        lowest_ipv6_mtu: u32::from(settings.lowest_ipv6_mtu),
        pin_directory: pin_directory(&desired.device),
        attachment: Attachment::Auto,
    })
}

/// Where flow records outlive the process.
const PINS: &str = "/sys/fs/bpf/v4shim";
/// Names that directory where the process sees it elsewhere: /sys/fs/bpf itself may be root's alone, and a service
/// manager can bind the directory to a place that the daemon's own user can reach.
const PINS_ENV: &str = "V4SHIM_FLOW_RECORDS";

fn pins() -> PathBuf {
    std::env::var_os(PINS_ENV).filter(|path| !path.is_empty()).map_or_else(|| PINS.into(), PathBuf::from)
}

/// One directory for each device of each network namespace: the file system is
/// shared by all of them.
fn pin_directory(device: &str) -> Option<PathBuf> {
    Some(pins().join(format!("{}-{device}", network_namespace()?)))
}

/// The number of this process's network namespace. Read from the link's name: a security module may forbid to
/// look at the namespace itself.
fn network_namespace() -> Option<u64> {
    let link = std::fs::read_link("/proc/self/ns/net").ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Removes the flow records of this network namespace. A stop leaves them, so
/// that the connections in flight survive a restart. True if there were any.
pub fn remove_flow_records() -> std::io::Result<bool> {
    let Some(namespace) = network_namespace() else { return Ok(false) };
    let entries = match std::fs::read_dir(pins()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut any = false;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&format!("{namespace}-")) {
            std::fs::remove_dir_all(entry.path())?;
            any = true;
        }
    }
    // Other namespaces may still need it.
    let _ = std::fs::remove_dir(pins());
    Ok(any)
}

fn rules(
    kind: Kind,
    desired: &Desired,
    settings: PacketSettings,
    own_ipv4: OwnIpv4,
) -> anyhow::Result<Rules> {
    let mut config =
        xlat::Config::new(desired.pref64, desired.ipv4, clat_ipv6(desired, kind.kernel_forwards()));
    config.own_ipv4 = own_ipv4;
    config.private_ipv4 = settings.private_ipv4;
    config.lowest_ipv6_mtu = settings.lowest_ipv6_mtu;
    config.copy_traffic_class = settings.copy_traffic_class;
    let translator = Translator::new(config).map_err(|error| anyhow::anyhow!("cannot translate: {error}"))?;
    let mtu = LinkMtu { ipv4: desired.mtu, ipv6: desired.uplink.ipv6_mtu };
    Ok(Rules { translator, mtu, kernel_forwards: kind.kernel_forwards() })
}

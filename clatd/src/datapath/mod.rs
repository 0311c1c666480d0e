//! How packets get through the host: our device, and who carries packets
//! between it and the uplink.

pub mod bpf;
pub mod tun;

use std::sync::Arc;

use anyhow::Context;
use nix::sys::eventfd::EventFd;
use pref64::config::Datapath as Wanted;
use xlat::{LinkMtu, OwnIpv4, Translator};

use crate::counters::Counters;
use crate::host::change::clat_ipv6;
use crate::machine::Desired;
use tun::{Device, Offloads, Pump, Rules};

/// Who carries packets between device and uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's forwarding.
    Tun,
}

impl Kind {
    /// The name in configuration and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tun => "tun",
        }
    }

    /// True if the kernel forwards between device and uplink.
    pub fn kernel_forwards(self) -> bool {
        match self {
            Self::Tun => true,
        }
    }
}

/// The datapath of this build and configuration, and why it is that one.
pub fn choose(wanted: Wanted) -> anyhow::Result<(Kind, String)> {
    match wanted {
        Wanted::Tun => Ok((Kind::Tun, "configured".to_owned())),
        Wanted::Auto => Ok((Kind::Tun, "the eBPF fast path is not part of this build".to_owned())),
        Wanted::Bpf => anyhow::bail!(
            "clat.datapath = \"bpf\": the eBPF fast path is not part of this build (use \"auto\" or \"tun\")"
        ),
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

/// A device with its translating thread.
pub struct Datapath {
    // Dropped in this order: first nobody reads any more, then the device goes.
    pump: Pump,
    device: Device,
    kind: Kind,
}

impl Datapath {
    /// Creates the device and starts to translate. `failed` is written to if
    /// that ends by itself.
    pub fn start(
        kind: Kind,
        desired: &Desired,
        settings: PacketSettings,
        own_ipv4: OwnIpv4,
        counters: Arc<Counters>,
        failed: Arc<EventFd>,
    ) -> anyhow::Result<Self> {
        let rules = rules(kind, desired, settings, own_ipv4)?;
        let device = Device::create(&desired.device, Offloads::TcpAndUdp)?;
        let pump = Pump::start(&device, rules, counters, failed).context("cannot start to translate")?;
        Ok(Self { pump, device, kind })
    }

    /// Translates by other addresses from the next packet on.
    pub fn update(
        &self,
        desired: &Desired,
        settings: PacketSettings,
        own_ipv4: OwnIpv4,
    ) -> anyhow::Result<()> {
        self.pump.set_rules(rules(self.kind, desired, settings, own_ipv4)?);
        Ok(())
    }

    /// The device's interface index.
    pub fn ifindex(&self) -> u32 {
        self.device.ifindex
    }

    /// What the kernel leaves undone in packets.
    pub fn offloads(&self) -> Offloads {
        self.device.offloads
    }

    /// Why translation ended by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        self.pump.failure()
    }
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

//! The status document.

use serde_json::{Value, json};

use super::Daemon;
use crate::datapath::Datapath;
use crate::machine::mode_name;
use crate::status::{SCHEMA, counters};

impl Daemon {
    /// One line for `systemctl status`.
    pub(super) fn summary(&self) -> String {
        let state = &self.decision.state;
        match (&self.decision.desired, &self.datapath, state.reason()) {
            (Some(desired), Some(datapath), None) => format!(
                "{}: {} is {} towards {} on {} (datapath {})",
                state.as_str(),
                desired.ipv4,
                desired.identity.outer(),
                desired.pref64,
                desired.uplink.name,
                datapath.kind().as_str()
            ),
            (_, _, Some(reason)) => format!("{}: {reason}", state.as_str()),
            (_, _, None) => state.as_str().to_owned(),
        }
    }

    /// What `v4shim status --json` prints.
    pub(super) fn document(&self) -> Value {
        let desired = self.decision.desired.as_ref().filter(|_| self.datapath.is_some());
        json!({
            "schema": SCHEMA,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_s": self.started.elapsed().as_secs(),
            "state": self.decision.state.as_str(),
            "reason": self.decision.state.reason(),
            "state_since_s": self.since.elapsed().as_secs(),
            "device": self.config.clat.device,
            "uplink": desired.map(|d| d.uplink.name.clone()),
            "gateway": desired.and_then(|d| d.uplink.gateway),
            "prefix": self.prefixes.describe_used(self.machine.host()),
            "prefixes": self.prefixes.describe(self.machine.host()),
            "ipv4": desired.map(|d| d.ipv4),
            "ipv6": desired.map(|d| d.identity.outer()),
            "ipv6_optimistic": desired.map(|d| d.identity.is_optimistic()),
            "address_mode": mode_name(self.config.clat.address),
            "mtu": desired.map(|d| d.mtu),
            "datapath": self.datapath.as_ref().map(|datapath| json!({
                "kind": datapath.kind().as_str(),
                "reason": datapath.reason(),
                "details": datapath.details(),
            })),
            "counters": counters(&self.counters, self.datapath.as_ref().and_then(Datapath::fast_counters).as_ref()),
        })
    }
}

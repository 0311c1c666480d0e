//! From one daemon to the next: what holds the place on the uplink in between, so that the kernel resets no connection.
//!
//! Links (Linux 6.6) wait with the service manager; filters stay where they are, noted in the journal.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Daemon;
use crate::datapath::Datapath;
use crate::datapath::bpf::TcxLink;
use crate::machine::State;
use crate::notify;

/// The attachment that the process before this one left with the service manager. To be called before anything is opened.
pub fn predecessor() -> Option<TcxLink> {
    let mut links: Vec<_> = notify::stored(INGRESS).into_iter().map(TcxLink::adopt).collect();
    // There is never more than one; of several, all but the last are detached here.
    links.pop()
}

/// The name of that attachment with the service manager.
pub(super) const INGRESS: &str = "ingress";
/// A predecessor's attachment takes packets of its connections out of the network. Not for ever.
pub(super) const LONGEST_PREDECESSOR: Duration = Duration::from_secs(10);

impl Daemon {
    /// Ends what an earlier daemon left on the uplink, as soon as ours is there or does not come.
    pub(super) fn mind_predecessor(&mut self, now: Instant) {
        let too_long = now >= self.started + LONGEST_PREDECESSOR;
        let in_vain = too_long || matches!(self.decision.state, State::StandingBy(_));
        if self.leftovers && in_vain {
            self.undo_clsact();
        }
        if self.predecessor.is_some() && (self.datapath.is_some() || in_vain) {
            self.predecessor = None;
            // Else it is ours that the manager has.
            if self.datapath.as_ref().and_then(Datapath::ingress).is_none() {
                self.notifier.remove_stored(INGRESS);
            }
        }
    }

    /// Leaves the attachment on the uplink's ingress with the service manager, should this process end.
    pub(super) fn hand_on(&self) {
        if let Some(ingress) = self.datapath.as_ref().and_then(Datapath::ingress) {
            self.notifier.remove_stored(INGRESS);
            self.notifier.store(INGRESS, ingress.as_fd());
        }
    }

    /// Removes what is left in clsact qdiscs, but for the datapath's own.
    pub(super) fn undo_clsact(&mut self) -> Vec<anyhow::Error> {
        if self.handing_over {
            return Vec::new();
        }
        self.leftovers = false;
        let keep = self.datapath.as_ref().map(Datapath::clsact_interfaces).unwrap_or_default();
        let errors = self.tools.undo_clsact(&keep);
        for error in &errors {
            tracing::warn!("while undoing: {error:#}");
        }
        errors
    }
}

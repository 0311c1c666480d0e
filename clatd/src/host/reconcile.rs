//! From what was done to what is wanted.

use super::change::{Change, Tools};
use super::nfs::NfsServer;
use super::snapshot::Snapshot;

/// The changes that are in force, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Reconciler {
    applied: Vec<Change>,
}

impl Reconciler {
    /// Undoes what is no longer wanted (last first), then makes what is missing.
    /// After an error everything of ours is undone: half a CLAT helps nobody.
    /// Another route to an NFS server is an error, whatever the reason: a host
    /// must not lose its file systems.
    pub fn reach(&mut self, tools: &mut Tools, wanted: &[Change]) -> anyhow::Result<()> {
        let before = tools.netlink.nfs_servers()?;
        self.make(tools, wanted)?;
        let after = tools.netlink.nfs_servers()?;
        let moved =
            |was: &&NfsServer| after.iter().any(|is| is.address == was.address && is.route != was.route);
        if let Some(server) = before.iter().find(moved) {
            self.leave_after_error(tools);
            anyhow::bail!("the route to the NFS server {} changed: everything was undone", server.address);
        }
        Ok(())
    }

    fn make(&mut self, tools: &mut Tools, wanted: &[Change]) -> anyhow::Result<()> {
        // The part that is already right stays, and with it every flow that depends on it.
        let unwanted: Vec<Change> = self.applied.iter().filter(|c| !wanted.contains(c)).cloned().collect();
        for change in unwanted.iter().rev() {
            change.revert(tools)?;
            self.applied.retain(|applied| applied != change);
        }
        for change in wanted {
            if self.applied.contains(change) {
                continue;
            }
            // Noted as applied before it is tried: half a change is undone, too.
            self.applied.push(change.clone());
            if let Err(error) = change.apply(tools) {
                self.leave_after_error(tools);
                return Err(error);
            }
        }
        Ok(())
    }

    fn leave_after_error(&mut self, tools: &mut Tools) {
        for undo in self.leave(tools) {
            tracing::warn!("while undoing: {undo:#}");
        }
    }

    /// Undoes everything, last first; goes on after errors and gives them all back.
    pub fn leave(&mut self, tools: &mut Tools) -> Vec<anyhow::Error> {
        let changes = std::mem::take(&mut self.applied);
        changes.iter().rev().filter_map(|change| change.revert(tools).err()).collect()
    }

    /// Forgets what somebody else has undone since, so that [`Reconciler::reach`]
    /// makes it again. True if there was any.
    pub fn notice(&mut self, host: &Snapshot) -> bool {
        let before = self.applied.len();
        self.applied.retain(|change| change.is_visible(host));
        self.applied.len() != before
    }
}

//! From what was done to what is wanted.

use super::change::{Change, Tools};
use super::snapshot::Snapshot;

/// The changes that are in force, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Reconciler {
    applied: Vec<Change>,
}

impl Reconciler {
    /// Undoes what is no longer wanted (last first), then makes what is missing.
    /// After an error everything of ours is undone: half a CLAT helps nobody.
    pub fn reach(&mut self, tools: &mut Tools, wanted: &[Change]) -> anyhow::Result<()> {
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
                for undo in self.leave(tools) {
                    tracing::warn!("while undoing: {undo:#}");
                }
                return Err(error);
            }
        }
        Ok(())
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

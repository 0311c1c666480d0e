//! The `clsact` qdiscs that carry our filters where the kernel has no TCX links (before Linux 6.6).
//!
//! Neither they nor the filters vanish with the process. So they are noted in the journal first; what is removed is
//! what we have made, and a qdisc only if nobody else has put a filter into it.

use nix::libc;

use super::change::unless_gone;
use super::journal::{Entry, Journal};
use crate::datapath::bpf;
use crate::netlink::{CLSACT, Filter, Handle};

/// Sees to it that a link has a clsact qdisc, and notes that it will hold filters of ours.
pub fn ensure(netlink: &mut Handle, journal: &mut Journal, ifindex: u32) -> anyhow::Result<()> {
    let present = match netlink.filter_qdisc(ifindex)? {
        // It takes filters for the way out, too, and applies them to the way in.
        Some(other) if other != CLSACT => anyhow::bail!("its place is taken by an {other} qdisc"),
        found => found.is_some(),
    };
    // One that an earlier process of ours has made is still ours.
    if !present || !noted(journal).iter().any(|(noted, _)| *noted == ifindex) {
        note(journal, ifindex, !present)?;
    }
    if present {
        return Ok(());
    }
    match netlink.add_clsact(ifindex) {
        // Somebody was faster.
        Err(error) if error.errno() == Some(libc::EEXIST) => Ok(note(journal, ifindex, false)?),
        other => Ok(other?),
    }
}

/// Removes our filters, and the qdiscs that were made for them, from all links but those in `keep`. Gives back what
/// failed; that stays noted.
pub fn undo(netlink: &mut Handle, journal: &mut Journal, keep: &[u32]) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    for (ifindex, created) in noted(journal).into_iter().filter(|(ifindex, _)| !keep.contains(ifindex)) {
        let undone = release(netlink, ifindex, created)
            .and_then(|()| Ok(journal.forget(|entry| is_of(entry, ifindex))?));
        errors.extend(undone.err());
    }
    errors
}

fn release(netlink: &mut Handle, ifindex: u32, created: bool) -> anyhow::Result<()> {
    if netlink.filter_qdisc(ifindex)?.as_deref() != Some(CLSACT) {
        return Ok(());
    }
    let filters = netlink.clsact_filters(ifindex)?;
    let (ours, others): (Vec<_>, Vec<_>) = filters.read.iter().partition(|filter| is_ours(filter));
    // With the last filter of a priority goes the entry that stands for it (handle 0).
    for filter in ours.iter().filter(|filter| filter.handle != 0) {
        unless_gone(netlink.remove_filter(ifindex, filter))?;
    }
    if !created {
        return Ok(());
    }
    if filters.unread + others.len() > 0 {
        tracing::info!(
            "the clsact qdisc of interface {ifindex} is ours, but stays: others have filters in it"
        );
        return Ok(());
    }
    unless_gone(netlink.remove_clsact(ifindex))
}

fn is_ours(filter: &Filter) -> bool {
    filter.kind == "bpf"
        && filter.priority == bpf::FILTER_PRIORITY
        && (filter.handle == 0 || filter.handle == u32::from(bpf::FILTER_NUMBER))
}

/// Interface indices, and whether the qdisc there is our creation.
fn noted(journal: &Journal) -> Vec<(u32, bool)> {
    let of = |entry: &Entry| match entry {
        Entry::Clsact { ifindex, created } => Some((*ifindex, *created)),
        _ => None,
    };
    journal.entries().iter().filter_map(of).collect()
}

/// In one step: there is no moment at which nothing is noted.
fn note(journal: &mut Journal, ifindex: u32, created: bool) -> std::io::Result<()> {
    journal.replace(|entry| is_of(entry, ifindex), Entry::Clsact { ifindex, created })
}

fn is_of(entry: &Entry, of: u32) -> bool {
    matches!(entry, Entry::Clsact { ifindex, .. } if *ifindex == of)
}

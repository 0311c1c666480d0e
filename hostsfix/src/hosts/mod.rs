//! The hosts file as bytes: a lossless line model and the place of the managed block in it.
//!
//! `lines(b)` never fails and its pieces, put together again, are `b` for any bytes. Everything that
//! changes a file is [`HostsFile::with_entries`]; it touches the managed block and nothing else.

pub mod block;
pub mod edit;
pub mod line;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::name::HostName;
pub use block::{Entry, Origin, Pin, Source, State, Waiting, Why};
pub use line::{Line, Marker, lines};

/// Markers that do not make exactly one block. Line numbers count from 1.
///
/// Nothing is written to such a file: only its owner knows which lines are theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    /// BEGIN without END.
    #[error("line {begin}: BEGIN marker of the managed block without an END marker after it")]
    Unclosed {
        /// The BEGIN marker.
        begin: usize,
    },
    /// END without BEGIN.
    #[error("line {end}: END marker of the managed block without a BEGIN marker before it")]
    Unopened {
        /// The END marker.
        end: usize,
    },
    /// BEGIN inside a block.
    #[error("line {inner}: BEGIN marker inside the managed block that begins at line {outer}")]
    Nested {
        /// The first BEGIN marker.
        outer: usize,
        /// The second.
        inner: usize,
    },
    /// A second block.
    #[error("line {second}: a second managed block; the first begins at line {first}")]
    Duplicate {
        /// BEGIN of the first block.
        first: usize,
        /// BEGIN of the second.
        second: usize,
    },
}

/// A hosts file with at most one managed block.
#[derive(Clone, Debug)]
pub struct HostsFile<'a> {
    bytes: &'a [u8],
    lines: Vec<Line<'a>>,
    /// Indices of the block's lines, markers included.
    block: Option<Range<usize>>,
    entries: Vec<Entry>,
    /// Indices of lines inside the block that hostsfix did not write.
    strays: Vec<usize>,
}

impl<'a> HostsFile<'a> {
    /// Finds the managed block.
    ///
    /// # Errors
    /// When the markers do not make exactly one block, or none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MarkerError> {
        let lines: Vec<_> = lines(bytes).collect();
        let block = find_block(&lines)?;
        let (entries, strays) = match &block {
            None => (Vec::new(), Vec::new()),
            Some(range) => {
                let first = range.start + 1;
                let (entries, strays) = block::parse(&lines[first..range.end - 1]);
                (entries, strays.into_iter().map(|index| first + index).collect())
            }
        };
        Ok(Self { bytes, lines, block, entries, strays })
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the file has a managed block.
    #[must_use]
    pub fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// The entries of the managed block, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Line numbers (from 1) of lines inside the block that hostsfix did not write. They count as
    /// the user's own and are moved below the block by the next change.
    pub fn stray_lines(&self) -> impl Iterator<Item = usize> + '_ {
        self.strays.iter().map(|index| index + 1)
    }

    /// Which of `names` have an entry of the user's own, with the number of the first such line.
    ///
    /// The user's lines are those outside the block and the strays inside it.
    #[must_use]
    pub fn own_lines(&self, names: &BTreeSet<HostName>) -> BTreeMap<HostName, usize> {
        let mut found = BTreeMap::new();
        for (index, line) in self.lines.iter().enumerate() {
            let managed =
                self.block.as_ref().is_some_and(|b| b.contains(&index)) && !self.strays.contains(&index);
            if managed {
                continue;
            }
            for name in line.names() {
                if names.contains(&name) {
                    found.entry(name).or_insert(index + 1);
                }
            }
        }
        found
    }
}

/// Line indices of the one block, markers included.
fn find_block(lines: &[Line<'_>]) -> Result<Option<Range<usize>>, MarkerError> {
    let mut open: Option<usize> = None;
    let mut block: Option<Range<usize>> = None;
    for (index, line) in lines.iter().enumerate() {
        match (line.marker(), open, &block) {
            (None, ..) => {}
            (Some(Marker::Begin), Some(outer), _) => {
                return Err(MarkerError::Nested { outer: outer + 1, inner: index + 1 });
            }
            (Some(Marker::Begin), None, Some(first)) => {
                return Err(MarkerError::Duplicate { first: first.start + 1, second: index + 1 });
            }
            (Some(Marker::Begin), None, None) => open = Some(index),
            (Some(Marker::End), None, _) => return Err(MarkerError::Unopened { end: index + 1 }),
            (Some(Marker::End), Some(begin), _) => {
                block = Some(begin..index + 1);
                open = None;
            }
        }
    }
    match open {
        Some(begin) => Err(MarkerError::Unclosed { begin: begin + 1 }),
        None => Ok(block),
    }
}

//! The one operation that changes a hosts file: give the managed block new entries.

use super::{Entry, HostsFile, block};

/// Whether a line ending of the file is `\r\n` is decided by the line beside the block.
impl HostsFile<'_> {
    /// The file with `entries` in its managed block; without entries, without the block.
    ///
    /// Every byte outside the block stays. A new block goes to the end of the file; but to its start
    /// if the last line has no terminator, because then removing the block gives back the file as
    /// it was without anyone having to remember that. Lines inside the block that hostsfix did not
    /// write are kept, below it. The same entries give the same bytes.
    #[must_use]
    pub fn with_entries(&self, entries: &[Entry]) -> Vec<u8> {
        if entries == self.entries && self.strays.is_empty() && (self.block.is_some() != entries.is_empty()) {
            return self.bytes.to_vec();
        }
        let mut out = Vec::with_capacity(self.bytes.len() + 256 * (entries.len() + 2));
        let Some(range) = &self.block else {
            let terminator = self.lines.first().map(|line| line.terminator()).filter(|t| !t.is_empty());
            let unterminated = self.lines.last().is_some_and(|line| line.terminator().is_empty());
            if unterminated {
                print(&mut out, entries, terminator.unwrap_or(b"\n"), true);
            }
            out.extend_from_slice(self.bytes);
            if !unterminated {
                print(&mut out, entries, terminator.unwrap_or(b"\n"), true);
            }
            return out;
        };
        let bytes_of = |lines: &[super::Line<'_>], out: &mut Vec<u8>| {
            lines.iter().for_each(|line| out.extend_from_slice(line.bytes()));
        };
        bytes_of(&self.lines[..range.start], &mut out);
        // The END marker is the last line of the file and somebody took its terminator away.
        let unterminated = self.lines[range.end - 1].terminator().is_empty();
        let terminator = self.lines[range.start].terminator();
        print(&mut out, entries, terminator, !unterminated || !self.strays.is_empty());
        for index in &self.strays {
            out.extend_from_slice(self.lines[*index].bytes());
        }
        bytes_of(&self.lines[range.end..], &mut out);
        out
    }
}

/// Appends the block; nothing if there are no entries.
fn print(out: &mut Vec<u8>, entries: &[Entry], terminator: &[u8], last_terminated: bool) {
    if entries.is_empty() {
        return;
    }
    let lines = block::print(entries);
    for (index, line) in lines.iter().enumerate() {
        out.extend_from_slice(line.as_bytes());
        if index + 1 < lines.len() || last_terminated {
            out.extend_from_slice(terminator);
        }
    }
}

//! The journal of an in-place write: what the file was and what it was to become.
//!
//! A file that is a mount point cannot be replaced by rename(), so its bytes are overwritten. Before
//! the first of them changes, a journal with both contents is on disk; after the last one, it goes.
//! Whoever finds a journal knows from the three contents (old, new, present) what happened.

/// First bytes of a journal; the digit is its version.
const MAGIC: &[u8; 24] = b"v4shim-hostsfix-journal1";
/// Magic and two lengths.
const HEADER: usize = 24 + 16;

/// Both contents of a file that is being overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The content before.
    pub old: Vec<u8>,
    /// The content after.
    pub new: Vec<u8>,
}

/// What a journal and the present content of the file say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The write never began, or was undone: the file has its old content.
    Old,
    /// The write was completed.
    New,
    /// The write was cut short; the old content must be put back.
    Torn,
    /// Somebody else has written the file since; theirs is the content that counts.
    Foreign,
}

impl Journal {
    /// The bytes of the journal file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.old.len() + self.new.len() + 8);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(self.old.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.new.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.old);
        out.extend_from_slice(&self.new);
        out.extend_from_slice(&checksum(&out).to_le_bytes());
        out
    }

    /// Reads a journal file. `None` if it was never completed: then the file has not been touched.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        let (header, contents) = body.split_at_checked(HEADER)?;
        let (magic, lengths) = header.split_at(MAGIC.len());
        if magic != MAGIC || checksum(body) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (old, new) = lengths.split_at(8);
        let old = usize::try_from(u64::from_le_bytes(old.try_into().ok()?)).ok()?;
        let new = usize::try_from(u64::from_le_bytes(new.try_into().ok()?)).ok()?;
        if old.checked_add(new)? != contents.len() {
            return None;
        }
        let (old, new) = contents.split_at(old);
        Some(Self { old: old.to_vec(), new: new.to_vec() })
    }

    /// What is written over the old content before the length is cut: never shorter than that, and
    /// filled up with empty lines, so that a reader in between never sees a piece of an old line.
    #[must_use]
    pub fn padded(&self) -> Vec<u8> {
        let mut padded = self.new.clone();
        padded.resize(self.new.len().max(self.old.len()), b'\n');
        padded
    }

    /// What happened to a file that has the content `present`.
    ///
    /// A torn write is recognised byte by byte, not as "a start of the new content": after a power
    /// failure any of the pages may have reached the disk, and pages that did not may read as zeros
    /// where the file grew.
    #[must_use]
    pub fn judge(&self, present: &[u8]) -> Found {
        if present == self.new {
            return Found::New;
        }
        if present == self.old {
            return Found::Old;
        }
        let padded = self.padded();
        let shortest = self.old.len().min(self.new.len());
        let ours = present.len() >= shortest
            && present.len() <= padded.len()
            && present
                .iter()
                .enumerate()
                .all(|(i, byte)| padded[i] == *byte || self.old.get(i).map_or(*byte == 0, |old| old == byte));
        if ours { Found::Torn } else { Found::Foreign }
    }
}

/// FNV-1a, 64 bits: enough to tell a completed journal from a piece of one.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn journal(old: &[u8], new: &[u8]) -> Journal {
        Journal { old: old.to_vec(), new: new.to_vec() }
    }

    #[test]
    fn judged() {
        let shrink = journal(b"aaaa\nbbbb\n", b"aaaa\n");
        assert_eq!(shrink.judge(b"aaaa\nbbbb\n"), Found::Old);
        assert_eq!(shrink.judge(b"aaaa\n"), Found::New);
        assert_eq!(shrink.judge(b"aaaa\n\n\n\n\n\n"), Found::Torn);
        assert_eq!(shrink.judge(b"aaaa\n\n\nbb\n"), Found::Torn);
        assert_eq!(shrink.judge(b"aaaa\ncccc\n"), Found::Foreign);
        let extend = journal(b"aaaa\n", b"aaaa\nbbbb\n");
        assert_eq!(extend.judge(b"aaaa\nbb"), Found::Torn);
        assert_eq!(extend.judge(b"aaaa\n\0\0\0\0\0"), Found::Torn);
        assert_eq!(extend.judge(b""), Found::Foreign);
        assert_eq!(extend.judge(b"aaaa\nbbbb\ncccc\n"), Found::Foreign);
    }

    proptest! {
        #[test]
        fn round_trip(old: Vec<u8>, new: Vec<u8>) {
            let journal = Journal { old, new };
            prop_assert_eq!(Journal::decode(&journal.encode()), Some(journal));
        }

        #[test]
        fn a_damaged_journal_is_none(old: Vec<u8>, new: Vec<u8>, at: prop::sample::Index, bit in 0u8..8, cut: bool) {
            let mut bytes = journal(&old, &new).encode();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            prop_assert_eq!(Journal::decode(&bytes), None);
        }

        #[test]
        fn every_cut_of_the_write_is_known(old: Vec<u8>, new: Vec<u8>, at: prop::sample::Index) {
            let journal = Journal { old, new };
            let padded = journal.padded();
            let at = at.index(padded.len() + 1);
            let mut present = padded[..at].to_vec();
            if let Some(rest) = journal.old.get(at..) { present.extend_from_slice(rest) }
            prop_assert_ne!(journal.judge(&present), Found::Foreign);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Journal::decode(&bytes);
        }
    }
}

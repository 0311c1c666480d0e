//! One line of a hosts file, as its bytes.

use std::net::{IpAddr, Ipv4Addr};

use crate::name::HostName;

/// What follows `#`, BEGIN or END, and a blank in a marker line.
const MARKER_NAME: &[u8] = b"v4shim hostsfix";

/// One line with its terminator. Only `\n` ends a line, as for every reader of hosts files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a>(&'a [u8]);

/// A line that delimits the managed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The first line of the block.
    Begin,
    /// The last line of the block.
    End,
}

/// The lines of `bytes`; their concatenation is `bytes`.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    bytes.split_inclusive(|b| *b == b'\n').map(Line)
}

impl<'a> Line<'a> {
    /// The whole line, terminator included.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// `\r\n`, `\n`, or nothing.
    #[must_use]
    pub fn terminator(self) -> &'a [u8] {
        let length = match self.0 {
            [.., b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            _ => 0,
        };
        &self.0[self.0.len() - length..]
    }

    /// The line without its terminator.
    #[must_use]
    pub fn content(self) -> &'a [u8] {
        &self.0[..self.0.len() - self.terminator().len()]
    }

    /// Whether this line delimits the managed block.
    ///
    /// Recognised generously (blanks, several `#`, letter case): a marker that somebody touched must
    /// still count, lest the block be cut in the wrong place.
    #[must_use]
    pub fn marker(self) -> Option<Marker> {
        let text = self.content().trim_ascii();
        let hashes = text.iter().take_while(|b| **b == b'#').count();
        if hashes == 0 {
            return None;
        }
        let text = text[hashes..].trim_ascii_start();
        let (marker, rest) = if let Some(rest) = strip_word(text, b"BEGIN") {
            (Marker::Begin, rest)
        } else {
            (Marker::End, strip_word(text, b"END")?)
        };
        let rest = rest.trim_ascii_start();
        strip_word(rest, MARKER_NAME).map(|_| marker)
    }

    /// The text of a comment line, without `#` and surrounding blanks.
    #[must_use]
    pub fn comment(self) -> Option<&'a [u8]> {
        self.content().trim_ascii().strip_prefix(b"#").map(<[u8]>::trim_ascii)
    }

    /// The address of an entry and the words after it; `None` for comments, empty lines, and
    /// whatever the C library would not take for an entry.
    #[must_use]
    pub fn entry(self) -> Option<(IpAddr, impl Iterator<Item = &'a [u8]>)> {
        let uncommented = self.content().split(|b| *b == b'#').next().unwrap_or_default();
        let mut words = uncommented.split(|b| is_blank(*b)).filter(|word| !word.is_empty());
        let address = address(words.next()?)?;
        Some((address, words))
    }

    /// The names of an entry, in the form in which they are compared. Words that are no host names
    /// are left out.
    pub fn names(self) -> impl Iterator<Item = HostName> {
        self.entry()
            .into_iter()
            .flat_map(|(_, words)| words)
            .filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
    }
}

/// `text` without the word it begins with (in any case), if that word ends there.
fn strip_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(word.len())?;
    let ends = rest.first().is_none_or(|b| is_blank(*b));
    (head.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

/// `isspace()` of the C locale, as glibc splits its lines.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// An address as hosts files have it, with or without an IPv6 zone.
fn address(word: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(word).ok()?;
    let unzoned = text.split_once('%').map_or(text, |(address, _)| address);
    if let Ok(address) = unzoned.parse() {
        return Some(address);
    }
    // "127.1" and "010.0.0.1" are addresses to inet_aton(): which one does not matter here, only
    // that the line is an entry.
    let legacy = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    legacy.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

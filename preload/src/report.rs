//! Lines on standard error: with `V4SHIM_VERBOSE`, and for a broken configuration. Never on standard output.

use crate::settings;
use core::fmt::{self, Write};
use core::net::{Ipv4Addr, Ipv6Addr};
use swap::Decline;
use swap::sys;

/// One line, on the stack; what does not fit is cut off.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len.min(self.bytes.len() - 1);
        let n = s.len().min(room);
        if let (Some(to), Some(from)) = (self.bytes.get_mut(self.len..self.len + n), s.as_bytes().get(..n)) {
            to.copy_from_slice(from);
            self.len += n;
        }
        Ok(())
    }
}

fn print(what: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 256], len: 0 };
    // `Line` never fails.
    let _ = write!(line, "v4shim: {what}");
    let end = line.len.min(line.bytes.len() - 1);
    if let Some(last) = line.bytes.get_mut(end) {
        *last = b'\n';
    }
    // One write, so that lines of several processes do not mix. A closed stderr is no error.
    let _ = sys::write(libc::STDERR_FILENO, line.bytes.get(..=end).unwrap_or(&[]));
}

/// A message that does not wait for `V4SHIM_VERBOSE`: broken configuration.
pub(crate) fn line(what: &str) {
    print(format_args!("{what}"));
}

/// A destination was rewritten.
pub(crate) fn rewritten(call: &str, from: Ipv4Addr, to: Ipv6Addr, port: u16) {
    if settings::verbose() {
        print(format_args!("{call} {from}:{port} -> [{to}]:{port}"));
    }
}

/// A destination could have been rewritten, but was not.
pub(crate) fn declined(call: &str, to: Ipv4Addr, port: u16, why: Decline) {
    if settings::verbose() {
        print(format_args!("{call} {to}:{port} left alone: {}", why.reason()));
    }
}

/// Anything else worth a line.
pub(crate) fn note(call: &str, to: Ipv4Addr, port: u16, what: &str) {
    if settings::verbose() {
        print(format_args!("{call} {to}:{port}: {what}"));
    }
}

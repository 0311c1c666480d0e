//! Epoll registrations of a descriptor that is about to be replaced.
//!
//! The kernel keys a registration by open file *and* number, so `dup3` over a watched descriptor drops
//! it silently. `/proc/PID/fdinfo/EPFD` lists them, one line each:
//! `tfd:        5 events:       19 data:                5  pos:0 ino:61 sdev:4` (tfd decimal, the rest hexadecimal).

/// One registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The number watched.
    pub target: i32,
    /// Events as the application gave them.
    pub events: u32,
    /// The application's cookie.
    pub data: u64,
}

impl Registration {
    /// Reads one line of fdinfo; `None` for lines of another kind.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        (words.next()? == b"tfd:").then_some(())?;
        let target = i32::try_from(number(words.next()?, 10)?).ok()?;
        (words.next()? == b"events:").then_some(())?;
        let events = u32::try_from(number(words.next()?, 16)?).ok()?;
        (words.next()? == b"data:").then_some(())?;
        let data = number(words.next()?, 16)?;
        Some(Self { target, events, data })
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &d| {
        let d = (d as char).to_digit(radix)?;
        n.checked_mul(u64::from(radix))?.checked_add(u64::from(d))
    })
}

/// Finds the registration of `target` in the text of an fdinfo file that `read` delivers piece by piece
/// (bytes read, 0 or `None` at the end).
pub fn find(target: i32, mut read: impl FnMut(&mut [u8]) -> Option<usize>) -> Option<Registration> {
    let mut buf = [0u8; 4096];
    let mut held = 0;
    loop {
        // A line that fills the buffer is none of the kernel's; drop it.
        if held == buf.len() {
            held = 0;
        }
        let n = read(buf.get_mut(held..)?).filter(|&n| n > 0);
        let end = (held + n.unwrap_or(0)).min(buf.len());
        let text = buf.get(..end)?;
        let whole =
            if n.is_none() { end } else { text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1) };
        let hit = text
            .get(..whole)?
            .split(|&b| b == b'\n')
            .find_map(|line| Registration::parse(line).filter(|r| r.target == target));
        if hit.is_some() || n.is_none() {
            return hit;
        }
        buf.copy_within(whole..end, 0);
        held = end - whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::String};

    const LINE: &str = "tfd:        5 events: 80000019 data: ffffffff00000005  pos:0 ino:61 sdev:4";

    #[test]
    fn reads_a_line_of_the_kernel() {
        assert_eq!(
            Registration::parse(LINE.as_bytes()),
            Some(Registration { target: 5, events: 0x8000_0019, data: 0xffff_ffff_0000_0005 })
        );
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "pos:\t0",
            "flags:\t02",
            "tfd:",
            "tfd: x events: 1 data: 1",
            "tfd: 5 events: 1",
            "tfd: 99999999999 events: 1 data: 1",
            "tfd: 5 events: 1ffffffff data: 1",
            "tfd: 5 events: 1 data: 1ffffffffffffffff",
        ] {
            assert_eq!(Registration::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn finds_a_line_whatever_the_pieces() {
        let mut text = String::from("pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t61\n");
        for n in 0..500 {
            text.push_str(&format!(
                "tfd: {n:8} events: {:8x} data: {:16x}  pos:0 ino:1 sdev:4\n",
                0x19,
                n * 3
            ));
        }
        for piece in [1, 7, 64, 1000, 4096] {
            for target in [0, 1, 499] {
                let mut rest = text.as_bytes();
                let found = find(target, |buf| {
                    let n = piece.min(rest.len()).min(buf.len());
                    buf[..n].copy_from_slice(&rest[..n]);
                    rest = &rest[n..];
                    Some(n)
                });
                let data = u64::try_from(target * 3).unwrap();
                assert_eq!(found, Some(Registration { target, events: 0x19, data }), "pieces of {piece}");
            }
            assert_eq!(find(3, |_| None), None);
        }
    }
}

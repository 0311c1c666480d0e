//! What kind of program an ELF file is: whether a preloaded library reaches its system calls.

/// What decides between the library and the supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Dynamically linked against glibc: the library reaches it.
    Dynamic,
    /// No dynamic loader.
    Static,
    /// Go makes its own system calls, also when it is linked against libc.
    Go,
    /// Another libc (musl), into which our library does not load.
    OtherLibc,
    /// For another machine or word size than our library.
    Foreign,
    /// Not ELF.
    NotElf,
}

impl Kind {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamically linked against glibc",
            Self::Static => "statically linked",
            Self::Go => "a Go program, which makes its own system calls",
            Self::OtherLibc => "linked against another libc than glibc",
            Self::Foreign => "built for another machine or word size",
            Self::NotElf => "not an ELF program",
        }
    }
}

/// Reads the headers. Total over arbitrary bytes.
pub(crate) fn kind(file: &[u8]) -> Kind {
    const CLASS: u8 = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
    const LITTLE: u8 = 1;
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "arm" => 40,
        "x86" => 3,
        _ => 0,
    };
    if file.get(..4) != Some(b"\x7fELF") {
        return Kind::NotElf;
    }
    if file.get(4) != Some(&CLASS) || file.get(5) != Some(&LITTLE) || u16_at(file, 18) != Some(machine) {
        return Kind::Foreign;
    }
    let headers = program_headers(file).unwrap_or_default();
    if headers.iter().any(|h| h.kind == Header::NOTE && is_go(h.content(file))) || go_sections(file) {
        return Kind::Go;
    }
    match headers.iter().find(|h| h.kind == Header::INTERP) {
        None => Kind::Static,
        Some(h) if h.content(file).windows(7).any(|w| w == b"ld-musl") => Kind::OtherLibc,
        Some(_) => Kind::Dynamic,
    }
}

struct Header {
    kind: u32,
    offset: usize,
    size: usize,
}

impl Header {
    const INTERP: u32 = 3;
    const NOTE: u32 = 4;

    fn content<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        self.offset.checked_add(self.size).and_then(|end| file.get(self.offset..end)).unwrap_or(&[])
    }
}

fn program_headers(file: &[u8]) -> Option<Vec<Header>> {
    let wide = cfg!(target_pointer_width = "64");
    let (start, size, count) = if wide {
        (word_at(file, 32)?, u16_at(file, 54)?, u16_at(file, 56)?)
    } else {
        (word_at(file, 28)?, u16_at(file, 42)?, u16_at(file, 44)?)
    };
    (0..usize::from(count))
        .map(|i| {
            let at = start.checked_add(i * usize::from(size))?;
            let kind = u32_at(file, at)?;
            let (offset, length) = if wide { (8, 32) } else { (4, 16) };
            Some(Header { kind, offset: word_at(file, at + offset)?, size: word_at(file, at + length)? })
        })
        .collect()
}

/// A note named "Go" holds the build identifier of the Go linker.
fn is_go(note: &[u8]) -> bool {
    note.windows(4).any(|w| w == b"Go\0\0")
}

/// cgo programs are linked by the system's linker, which may drop the note's header but keeps the section names.
fn go_sections(file: &[u8]) -> bool {
    const NAME: &[u8] = b".go.buildinfo\0";
    // The section names are at the end of the file.
    let tail = file.get(file.len().saturating_sub(64 * 1024)..).unwrap_or(file);
    tail.windows(NAME.len()).any(|w| w == NAME)
}

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    bytes_at(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    bytes_at(file, at).map(u32::from_le_bytes)
}

fn word_at(file: &[u8], at: usize) -> Option<usize> {
    bytes_at(file, at).map(usize::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_test_program_is_dynamic() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(kind(&file), Kind::Dynamic);
    }

    #[test]
    fn damaged_files_are_judged_without_a_panic() {
        let mut file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        file.truncate(4096);
        for n in 0..file.len() {
            let _ = kind(&file[..n]);
        }
        for i in 0..1024 {
            let mut bad = file.clone();
            bad[i] = 0xff;
            let _ = kind(&bad);
        }
        assert_eq!(kind(b"#!/bin/sh\n"), Kind::NotElf);
        assert_eq!(kind(b""), Kind::NotElf);
    }
}

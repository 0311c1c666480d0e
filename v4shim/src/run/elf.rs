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
    /// 32-bit, on the 64-bit machine that also runs such programs.
    Narrow,
    /// For another machine than our library.
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
            Self::Narrow => "a 32-bit program",
            Self::Foreign => "built for another machine",
            Self::NotElf => "not an ELF program",
        }
    }
}

impl Kind {
    /// The library cannot do it, the supervisor can.
    pub(crate) fn needs_supervisor(self) -> bool {
        matches!(self, Self::Static | Self::Go | Self::OtherLibc | Self::Narrow)
    }

    /// The loader of the program would complain of our library, or fail.
    pub(crate) fn refuses_library(self) -> bool {
        matches!(self, Self::OtherLibc | Self::Narrow)
    }
}

/// Reads the headers at the beginning of a file, and what its end says. Total over arbitrary bytes.
pub(crate) fn kind(file: &[u8], tail: &[u8]) -> Kind {
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
    let narrow = match std::env::consts::ARCH {
        "x86_64" => 3,
        "aarch64" => 40,
        _ => 0,
    };
    if file.get(4..6) == Some(&[1, LITTLE]) && narrow != 0 && u16_at(file, 18) == Some(narrow) {
        return Kind::Narrow;
    }
    if file.get(4) != Some(&CLASS) || file.get(5) != Some(&LITTLE) || u16_at(file, 18) != Some(machine) {
        return Kind::Foreign;
    }
    let headers = program_headers(file).unwrap_or_default();
    if headers.iter().any(|h| h.kind == Header::NOTE && is_go(h.content(file))) || go_sections(tail) {
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

/// cgo programs are linked by the system's linker, which may drop the note's header but keeps the section names,
/// at the end of the file.
fn go_sections(tail: &[u8]) -> bool {
    const NAME: &[u8] = b".go.buildinfo\0";
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
        assert_eq!(kind(&file, &file[file.len() - 4096..]), Kind::Dynamic);
    }

    /// A program of one segment, with this content.
    fn program(machine: u16, segment: u32, content: &[u8]) -> Vec<u8> {
        let (header, entry) = if cfg!(target_pointer_width = "64") { (64usize, 56usize) } else { (52, 32) };
        let word = |n: usize| n.to_le_bytes();
        let mut file = vec![0u8; header + entry];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF");
        put(4, &[if header == 64 { 2 } else { 1 }, 1]);
        put(18, &machine.to_le_bytes());
        let (start, size) = if header == 64 { (32, 54) } else { (28, 42) };
        put(start, &word(header));
        put(size, &(entry as u16).to_le_bytes());
        put(size + 2, &1u16.to_le_bytes());
        put(header, &segment.to_le_bytes());
        let (offset, length) = if header == 64 { (8, 32) } else { (4, 16) };
        put(header + offset, &word(header + entry));
        put(header + length, &word(content.len()));
        file.extend_from_slice(content);
        file
    }

    fn machine() -> u16 {
        u16_at(&std::fs::read(std::env::current_exe().unwrap()).unwrap(), 18).unwrap()
    }

    #[test]
    fn the_interpreter_tells_the_libc() {
        let with = |path: &[u8]| kind(&program(machine(), Header::INTERP, path), b"");
        assert_eq!(with(b"/lib64/ld-linux-x86-64.so.2\0"), Kind::Dynamic);
        assert_eq!(with(b"/lib/ld-musl-x86_64.so.1\0"), Kind::OtherLibc);
        assert_eq!(kind(&program(machine(), 1, b""), b""), Kind::Static);
    }

    #[test]
    fn go_is_known_by_its_note_or_by_a_section() {
        let note = b"\x04\0\0\0\x53\0\0\0\x04\0\0\0Go\0\0abc";
        assert_eq!(kind(&program(machine(), Header::NOTE, note), b""), Kind::Go);
        let cgo = program(machine(), Header::INTERP, b"/lib64/ld-linux-x86-64.so.2\0");
        assert_eq!(kind(&cgo, b"\0.text\0.go.buildinfo\0"), Kind::Go);
        let gnu = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
        assert_eq!(kind(&program(machine(), Header::NOTE, gnu), b""), Kind::Static);
    }

    #[test]
    fn other_machines() {
        assert_eq!(kind(&program(8, Header::INTERP, b"/lib/ld.so.1\0"), b""), Kind::Foreign);
        #[cfg(target_arch = "x86_64")]
        {
            let mut small = program(3, 1, b"");
            small[4] = 1;
            assert_eq!(kind(&small, b""), Kind::Narrow);
            // x32 has the machine of 64 bits in a 32-bit file.
            let mut x32 = program(62, 1, b"");
            x32[4] = 1;
            assert_eq!(kind(&x32, b""), Kind::Foreign);
        }
        for kind in [Kind::Static, Kind::Go, Kind::OtherLibc, Kind::Narrow] {
            assert!(kind.needs_supervisor(), "{kind:?}");
        }
        for kind in [Kind::Dynamic, Kind::Foreign, Kind::NotElf] {
            assert!(!kind.needs_supervisor() && !kind.refuses_library(), "{kind:?}");
        }
    }

    #[test]
    fn damaged_files_are_judged_without_a_panic() {
        let mut file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        file.truncate(4096);
        for n in 0..file.len() {
            let _ = kind(&file[..n], &file[..n]);
        }
        for i in 0..1024 {
            let mut bad = file.clone();
            bad[i] = 0xff;
            let _ = kind(&bad, &bad);
        }
        assert_eq!(kind(b"#!/bin/sh\n", b""), Kind::NotElf);
        assert_eq!(kind(b"", b""), Kind::NotElf);
    }
}

//! How a command will be helped: finds the program, follows `#!` lines, looks at the ELF file.

use super::elf::{self, Kind};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// `--supervise`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Supervise {
    /// Where the library does not reach the program's system calls
    Auto,
    /// Always: for programs that start static or Go programs
    Always,
    /// Never: the library alone
    Never,
}

/// What was found out, and what follows from it.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The file that will be executed.
    pub(crate) program: PathBuf,
    /// The file whose code will run: the interpreter of a script.
    pub(crate) runs: PathBuf,
    /// What that is.
    pub(crate) kind: Kind,
    /// Runs with other privileges than ours: no library, and no supervisor.
    pub(crate) privileged: bool,
    /// Whether to supervise.
    pub(crate) supervise: bool,
}

/// Why there is no plan.
#[derive(Debug)]
pub(crate) enum NoPlan {
    /// No such command.
    NotFound,
    /// It is there, but cannot be executed.
    NotExecutable(PathBuf),
}

pub(crate) fn plan(command: &OsStr, supervise: Supervise) -> Result<Plan, NoPlan> {
    let program = find(command)?;
    let (runs, head) = interpreter(&program);
    let kind = elf::kind(&head);
    let mode = fs::metadata(&runs).map(|m| m.permissions().mode()).unwrap_or(0);
    let privileged = mode & 0o6000 != 0;
    let supervise = !privileged
        && match supervise {
            Supervise::Auto => matches!(kind, Kind::Static | Kind::Go | Kind::OtherLibc),
            Supervise::Always => true,
            Supervise::Never => false,
        };
    Ok(Plan { program, runs, kind, privileged, supervise })
}

/// As `execvp` looks for it.
fn find(command: &OsStr) -> Result<PathBuf, NoPlan> {
    if command.as_bytes().contains(&b'/') {
        return executable(PathBuf::from(command));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let mut denied = None;
    for dir in std::env::split_paths(&path) {
        match executable(dir.join(command)) {
            Ok(found) => return Ok(found),
            Err(NoPlan::NotExecutable(at)) => denied = denied.or(Some(at)),
            Err(NoPlan::NotFound) => {}
        }
    }
    Err(denied.map_or(NoPlan::NotFound, NoPlan::NotExecutable))
}

fn executable(path: PathBuf) -> Result<PathBuf, NoPlan> {
    match fs::metadata(&path) {
        Ok(m) if m.is_file() && m.permissions().mode() & 0o111 != 0 => Ok(path),
        Ok(_) => Err(NoPlan::NotExecutable(path)),
        Err(_) => Err(NoPlan::NotFound),
    }
}

/// Follows `#!` lines, and `env` in them, as far as the kernel does.
fn interpreter(program: &Path) -> (PathBuf, Vec<u8>) {
    let mut runs = program.to_owned();
    let mut content = read(&runs);
    for _ in 0..4 {
        let Some(line) = content.strip_prefix(b"#!") else { break };
        let line = line.split(|&b| b == b'\n').next().unwrap_or(&[]);
        let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let Some(first) = words.next() else { break };
        let mut next = PathBuf::from(OsString::from_vec(first.to_vec()));
        if next.file_name() == Some(OsStr::new("env"))
            && let Some(name) = words.find(|w| !w.starts_with(b"-") && !w.contains(&b'='))
            && let Ok(found) = find(OsStr::from_bytes(name))
        {
            next = found;
        }
        content = read(&next);
        runs = next;
    }
    (runs, content)
}

/// The file, as far as it is needed; empty where it cannot be read (execute-only files are judged by nobody).
fn read(path: &Path) -> Vec<u8> {
    const MOST: u64 = 256 << 20;
    let mut content = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // A file that stops being readable halfway is judged by what there is.
        let _ = file.take(MOST).read_to_end(&mut content);
    }
    content
}

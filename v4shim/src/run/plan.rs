//! How a command will be helped: finds the program, follows `#!` lines, looks at the ELF file.

use super::elf::{self, Kind};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
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
    let (runs, ends) = interpreter(&program);
    let kind = elf::kind(&ends.head, &ends.tail);
    let mode = fs::metadata(&runs).map(|m| m.permissions().mode()).unwrap_or(0);
    let privileged = mode & 0o6000 != 0;
    let supervise = !privileged
        && match supervise {
            Supervise::Auto => kind.needs_supervisor(),
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
fn interpreter(program: &Path) -> (PathBuf, Ends) {
    let mut runs = program.to_owned();
    let mut content = read(&runs);
    for _ in 0..4 {
        let Some(line) = content.head.strip_prefix(b"#!") else { break };
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

/// Beginning and end of a file; programs are large.
#[derive(Default)]
struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Empty where the file cannot be read: execute-only files are judged by nobody.
fn read(path: &Path) -> Ends {
    const HEAD: u64 = 256 << 10;
    const TAIL: u64 = 64 << 10;
    let mut ends = Ends::default();
    let Ok(mut file) = fs::File::open(path) else { return ends };
    // A file that stops being readable halfway is judged by what there is.
    let _ = file.by_ref().take(HEAD).read_to_end(&mut ends.head);
    let len = file.metadata().map(|m| m.len()).unwrap_or(0);
    if file.seek(SeekFrom::Start(len.saturating_sub(TAIL))).is_ok() {
        let _ = file.take(TAIL).read_to_end(&mut ends.tail);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for a test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("v4shim-plan-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn auto(path: &Path) -> Plan {
        plan(path.as_os_str(), Supervise::Auto).unwrap()
    }

    fn dynamic() -> Vec<u8> {
        fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    /// Our own program with its interpreter's segment made an ordinary one.
    fn without_interpreter() -> Vec<u8> {
        let mut file = dynamic();
        let (start, entry) = if cfg!(target_pointer_width = "64") { (64, 56) } else { (52, 32) };
        let interp =
            (0..32).map(|i| start + i * entry).find(|&at| file[at..at + 4] == 3u32.to_le_bytes()).unwrap();
        file[interp..interp + 4].copy_from_slice(&1u32.to_le_bytes());
        file
    }

    #[test]
    fn the_library_for_dynamic_programs_and_the_supervisor_for_static_ones() {
        let dir = Dir::new("kinds");
        let plan = auto(&dir.file("dynamic", &dynamic(), 0o755));
        assert_eq!((plan.kind, plan.supervise, plan.privileged), (Kind::Dynamic, false, false));
        let path = dir.file("static", &without_interpreter(), 0o755);
        let plan = auto(&path);
        assert_eq!((plan.kind, plan.supervise), (Kind::Static, true));
        assert!(!super::plan(path.as_os_str(), Supervise::Never).unwrap().supervise);
    }

    #[test]
    fn always_supervises_what_is_not_privileged() {
        let dir = Dir::new("always");
        let always = |path: &Path| super::plan(path.as_os_str(), Supervise::Always).unwrap();
        assert!(always(&dir.file("plain", &dynamic(), 0o755)).supervise);
        for mode in [0o4755, 0o2755] {
            let plan = always(&dir.file(&format!("privileged-{mode:o}"), &dynamic(), mode));
            assert!(plan.privileged && !plan.supervise);
        }
    }

    #[test]
    fn a_script_is_judged_by_its_interpreter() {
        let dir = Dir::new("scripts");
        let program = dir.file("program", &without_interpreter(), 0o755);
        let one = dir.file("one", format!("#!{} -x\nfoo", program.display()).as_bytes(), 0o755);
        let two = dir.file("two", format!("#! {}\n", one.display()).as_bytes(), 0o755);
        for script in [one, two] {
            let plan = auto(&script);
            assert_eq!((plan.program, plan.runs, plan.kind), (script, program.clone(), Kind::Static));
        }
        let env = dir.file("env", format!("#!/usr/bin/env -S A=b {}\n", program.display()).as_bytes(), 0o755);
        assert_eq!(auto(&env).runs, program);
        let endless = dir.file("endless", b"", 0o755);
        fs::write(&endless, format!("#!{}\n", endless.display())).unwrap();
        assert_eq!(auto(&endless).kind, Kind::NotElf);
        assert_eq!(auto(&dir.file("empty", b"#!", 0o755)).kind, Kind::NotElf);
    }

    #[test]
    fn what_cannot_be_run() {
        let dir = Dir::new("cannot");
        let plan = |path: &Path| super::plan(path.as_os_str(), Supervise::Auto);
        assert!(matches!(plan(&dir.0.join("nowhere")), Err(NoPlan::NotFound)));
        assert!(matches!(plan(&dir.file("data", b"x", 0o644)), Err(NoPlan::NotExecutable(_))));
        assert!(matches!(plan(&dir.0), Err(NoPlan::NotExecutable(_))));
        assert!(matches!(
            super::plan(OsStr::new("v4shim-no-such-command"), Supervise::Auto),
            Err(NoPlan::NotFound)
        ));
    }
}

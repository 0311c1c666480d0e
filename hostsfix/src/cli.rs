//! The command line, as plain data. Man page and shell completions are generated from this file.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::lifetime::{LONGEST_WISH, SHORTEST_WISH};

/// Pins IPv6 addresses of names into the hosts file: native ones that answer, else ones that lead to the IPv4
/// server through the provider's NAT64.
#[derive(Clone, Debug, Parser)]
#[command(name = "hostsfix", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Read this configuration file (and FILE.d/*.toml) instead of /etc/v4shim.toml
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Set one configuration key, for example hosts.file=/srv/root/etc/hosts
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", global = true)]
    pub sets: Vec<String>,
    /// Edit this hosts file instead of hosts.file of the configuration
    #[arg(long, value_name = "FILE", global = true)]
    pub hosts_file: Option<PathBuf>,
    /// Print JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Log warnings and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log what is looked up and why
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Pin names, and keep them pinned until `rm`
    Add(Add),
    /// Take pins out of the hosts file
    Rm(Rm),
    /// Show the pins, where they come from and when they expire
    List,
    /// Renew pins whose time has come, pin the names of the configuration, drop what no longer resolves
    Sync(Sync),
    /// Print what `sync` would change as a unified diff, and change nothing
    Diff,
    /// Test each pin: does it accept connections, and is it still what the DNS says?
    Check(Check),
}

/// Arguments of `add`.
#[derive(Clone, Debug, Args)]
pub struct Add {
    /// Full host names, also internationalised ones
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// How long a pin lives without confirmation by the DNS, for example 600, 30m, 12h or 2d [default: as the DNS
    /// says, at least 6 hours, at most 1 day]
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub ttl: Option<u32>,
    /// Use this IPv4 address through the NAT64 instead of asking the DNS
    #[arg(long = "a", value_name = "IPV4")]
    pub a: Vec<Ipv4Addr>,
    /// TCP ports that show whether a native IPv6 address is alive [default: 443,80]
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Print what would change as a unified diff, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `rm`.
#[derive(Clone, Debug, Args)]
pub struct Rm {
    /// The names to take out
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// Take out everything that hostsfix ever put there
    #[arg(long)]
    pub all: bool,
    /// Print what would change as a unified diff, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `sync`.
#[derive(Clone, Debug, Args)]
pub struct Sync {
    /// Renew every pin now, also those whose time has not come
    #[arg(long)]
    pub force: bool,
    /// Print what would change as a unified diff, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Only these names
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// TCP ports to try [default: those of `add`, else 443,80]
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
}

/// Seconds, or a number with s, m, h or d.
fn parse_ttl(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let seconds = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds) if (SHORTEST_WISH..=LONGEST_WISH).contains(&seconds) => Ok(seconds),
        Some(_) => Err("must be from 60 s to 7 d".into()),
        None => Err("expected a time such as 600, 30m, 12h or 2d".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(parse_ttl("600"), Ok(600));
        assert_eq!(parse_ttl("60s"), Ok(60));
        assert_eq!(parse_ttl("30m"), Ok(1800));
        assert_eq!(parse_ttl("12h"), Ok(43_200));
        assert_eq!(parse_ttl("7d"), Ok(604_800));
        for bad in ["", "m", "59", "8d", "1w", "-1", "1.5h", "99999999999d", "4000000000d", "é"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}

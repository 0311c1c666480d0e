//! `v4shim prefix`: every NAT64 prefix that can be found, and which one is used.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::poll::{PollFd, PollTimeout, poll};
use pref64::Source;
use pref64::config::{Config, Method};
use pref64::discoverer::{Discoverer, DnsReport};
use pref64::discovery::{Known, Settings};
use pref64::{dns, state};
use serde_json::json;

use crate::exit;
use crate::options::ConfigArgs;

/// Version of the JSON document.
const SCHEMA: u32 = 1;

/// Options of `v4shim prefix`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 a prefix is known, 1 none was found, 2 usage or configuration.")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Look on this interface only
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// How long to wait for routers and resolvers, in seconds
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=60))]
    timeout: u16,
    #[command(flatten)]
    config: ConfigArgs,
}

/// One line of the output.
struct Row {
    prefix: String,
    source: Source,
    /// `None`: never expires.
    expires: Option<Duration>,
    router: Option<String>,
    used: bool,
    /// Whether clatd knows it, too.
    clatd: bool,
}

/// Prints the prefixes.
pub(crate) fn main(args: &Args) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(error) => return exit::fail(exit::USAGE, error),
    };
    let links = match links(args.interface.as_deref()) {
        Ok(links) => links,
        Err(message) => return exit::fail(exit::FAILED, message),
    };
    let mut rows = live();
    let Discovered { rows: found, remarks, hints } =
        discover(&config, &links, Duration::from_secs(args.timeout.into()));
    merge(&mut rows, found);
    let shown = if args.json { json(&rows, &remarks) } else { table(&rows) };
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    if !args.json {
        for remark in &remarks {
            eprintln!("v4shim: {remark}");
        }
    }
    if rows.is_empty() {
        let said = if hints.is_empty() { "discovery is turned off".to_owned() } else { hints.join("; ") };
        return exit::fail(
            exit::FAILED,
            format_args!(
                "no NAT64 prefix found on {} interface(s) in {} s: {said} (if the provider has a NAT64, set nat64.prefix)",
                links.len(),
                args.timeout
            ),
        );
    }
    ExitCode::from(exit::OK)
}

/// What a source that gave no prefix said.
fn hint(method: Method, discoverer: &Discoverer) -> String {
    match method {
        Method::Ra if !discoverer.hears_advertisements() => {
            "Router Advertisements could not be heard".to_owned()
        }
        Method::Ra => "no router announced one (RFC 8781)".to_owned(),
        Method::Dns => match discoverer.dns_report() {
            None => "the resolver did not answer in time (RFC 7050)".to_owned(),
            Some(DnsReport::NoDns64) => {
                "the resolver is no DNS64; a NAT64 may still be there without one (RFC 7050)".to_owned()
            }
            Some(DnsReport::Strange) => {
                "the resolver answered with addresses that are no NAT64's, as captive portals do (RFC 7050)"
                    .to_owned()
            }
            Some(DnsReport::Dns64) => "the DNS64 has just taken its prefix back (RFC 7050)".to_owned(),
            Some(DnsReport::Failed(reason)) => format!("{reason} (RFC 7050)"),
        },
    }
}

/// What discovery brought.
struct Discovered {
    rows: Vec<Row>,
    /// What went wrong, a line each.
    remarks: Vec<String>,
    /// What each source said that gave no prefix.
    hints: Vec<String>,
}

/// Interfaces that are up and have an IPv6 address.
fn links(only: Option<&str>) -> Result<Vec<(u32, String)>, String> {
    if let Some(name) = only {
        let index =
            if_nametoindex(name).map_err(|_| format!("--interface {name}: there is no such interface"))?;
        return Ok(vec![(index, name.to_owned())]);
    }
    let addresses = getifaddrs().map_err(|error| format!("cannot list the interfaces: {error}"))?;
    let mut links: Vec<(u32, String)> = Vec::new();
    for address in addresses {
        let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        let has_ipv6 = address.address.is_some_and(|a| a.as_sockaddr_in6().is_some());
        let name = address.interface_name;
        if has_ipv6
            && address.flags.contains(up)
            && !address.flags.contains(InterfaceFlags::IFF_LOOPBACK)
            && !links.iter().any(|(_, known)| *known == name)
            && let Ok(index) = if_nametoindex(name.as_str())
        {
            links.push((index, name));
        }
    }
    Ok(links)
}

/// What clatd knows, by its live state file.
fn live() -> Vec<Row> {
    let now = SystemTime::now();
    let entries = state::read(&state::prefix_file()).map(|state| state.entries).unwrap_or_default();
    let alive = entries.into_iter().filter(|entry| !entry.expires.is_past(now));
    alive
        .map(|entry| Row {
            prefix: entry.prefix.to_string(),
            source: entry.source,
            expires: entry.expires.remaining(now),
            router: entry.router,
            used: entry.used,
            clatd: true,
        })
        .collect()
}

/// Asks every configured source, for at most `patience`.
fn discover(config: &Config, links: &[(u32, String)], patience: Duration) -> Discovered {
    let mut settings = Settings::from(&config.nat64);
    settings.ask_all = true;
    settings.start_delay = Duration::ZERO;
    let mut discoverer = Discoverer::new(&config.nat64, settings);
    let indices: Vec<u32> = links.iter().map(|(index, _)| *index).collect();
    discoverer.links(&indices);
    let until = Instant::now() + patience;
    let mut remarks = Vec::new();
    loop {
        discoverer.process();
        remarks.extend(discoverer.problems());
        let has = |source: Source| discoverer.known().iter().any(|known| known.source == source);
        let all = config.nat64.discover.iter().all(|method| match method {
            Method::Ra => has(Source::Ra) || !discoverer.hears_advertisements(),
            Method::Dns => has(Source::Dns),
        });
        let left = until.saturating_duration_since(Instant::now());
        if all || left.is_zero() || links.is_empty() {
            break;
        }
        let wake = discoverer.deadline().map_or(left, |at| at.saturating_sub(dns::now())).min(left);
        let timeout = u16::try_from(wake.as_millis() + 1).unwrap_or(u16::MAX);
        let mut fds: Vec<PollFd<'_>> =
            discoverer.fds().into_iter().map(|(fd, events)| PollFd::new(fd, events)).collect();
        // Interrupted or not: `process` looks.
        let _ = poll(&mut fds, PollTimeout::from(timeout));
    }
    remarks.dedup();
    Discovered {
        rows: discoverer.known().iter().map(|known| row(known, links)).collect(),
        remarks,
        hints: config.nat64.discover.iter().map(|method| hint(*method, &discoverer)).collect(),
    }
}

fn row(known: &Known, links: &[(u32, String)]) -> Row {
    let name = |index: u32| {
        links.iter().find(|(i, _)| *i == index).map_or_else(|| index.to_string(), |(_, name)| name.clone())
    };
    Row {
        prefix: known.prefix.to_string(),
        source: known.source,
        expires: known.expires.map(|at| at.saturating_sub(dns::now())),
        router: known.router.map(|router| format!("{}%{}", router.address, name(router.ifindex))),
        used: known.used,
        clatd: false,
    }
}

/// Adds what was found to what clatd says; clatd decides what is used.
fn merge(rows: &mut Vec<Row>, found: Vec<Row>) {
    let decided = rows.iter().any(|row| row.used);
    for mut row in found {
        let same =
            |old: &Row| old.prefix == row.prefix && old.source == row.source && old.router == row.router;
        if !rows.iter().any(same) {
            row.used &= !decided;
            rows.push(row);
        }
    }
}

fn lifetime(expires: Option<Duration>) -> String {
    expires.map_or_else(|| "never expires".to_owned(), |left| format!("{} s left", left.as_secs()))
}

fn table(rows: &[Row]) -> String {
    let mut cells: Vec<[String; 4]> = Vec::new();
    for row in rows {
        let router = row.router.as_ref().map(|router| format!(" from {router}")).unwrap_or_default();
        let used = match (row.used, row.clatd) {
            (true, true) => "used by clatd",
            (true, false) => "to be used",
            (false, _) => "",
        };
        cells.push([
            row.prefix.clone(),
            format!("{}{router}", row.source),
            lifetime(row.expires),
            used.to_owned(),
        ]);
    }
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for [prefix, source, left, used] in &cells {
        let line = format!("{prefix:0$}  {source:1$}  {left:2$}  {used}", widths[0], widths[1], widths[2]);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn json(rows: &[Row], remarks: &[String]) -> String {
    let prefixes: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "prefix": row.prefix,
                "source": row.source.as_str(),
                "expires_s": row.expires.map(|left| left.as_secs()),
                "router": row.router,
                "used": row.used,
                "clatd": row.clatd,
            })
        })
        .collect();
    let used = rows.iter().find(|row| row.used).map(|row| row.prefix.as_str());
    format!("{:#}\n", json!({"schema": SCHEMA, "used": used, "prefixes": prefixes, "remarks": remarks}))
}

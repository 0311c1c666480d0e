//! `v4shim status`: what the CLAT daemon does and why, as it tells over its socket.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use pref64::state;
use serde_json::Value;

use crate::exit;

/// Name of the socket in the run directory.
const SOCKET: &str = "clatd.sock";
/// A daemon that does not answer for this long is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);
/// The version of the document that this program understands.
const SCHEMA: u64 = 1;

/// Options of `v4shim status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 active or not needed, 1 not running, 3 waiting or degraded, 4 permission."
)]
pub(crate) struct Args {
    /// Print the daemon's status document as it is
    #[arg(long)]
    json: bool,
}

/// Prints the status.
pub(crate) fn main(args: &Args) -> ExitCode {
    let path = state::run_dir().join(SOCKET);
    let text = match ask(&path) {
        Ok(text) => text,
        Err(error) => {
            let (code, why) = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    (exit::FAILED, "clatd is not running (start it: systemctl start v4shim-clatd)".to_owned())
                }
                io::ErrorKind::PermissionDenied => (exit::PERMISSION, format!("{error} (run as root)")),
                _ => (exit::FAILED, error.to_string()),
            };
            return exit::fail(code, format_args!("cannot ask clatd at {}: {why}", path.display()));
        }
    };
    let document: Value = match serde_json::from_str(&text) {
        Ok(document) => document,
        Err(error) => {
            return exit::fail(exit::FAILED, format_args!("cannot understand clatd's answer: {error}"));
        }
    };
    let shown = if args.json { text } else { table(&document) };
    // A closed pipe is the reader's choice.
    let _ = io::Write::write_all(&mut io::stdout(), shown.as_bytes());
    if document["schema"].as_u64() != Some(SCHEMA) && !args.json {
        return exit::fail(exit::FAILED, "clatd is of another version: restart it after an upgrade");
    }
    ExitCode::from(match document["state"].as_str() {
        Some("active" | "standing-by") => exit::OK,
        _ => exit::DEGRADED,
    })
}

fn ask(path: &std::path::Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The document for people.
fn table(document: &Value) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:>10}: {value}");
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let since = duration(document["state_since_s"].as_u64().unwrap_or_default());
    let reason = document["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default();
    row("state", format!("{}{reason} for {since}", text(&document["state"])));
    let prefix = &document["prefix"];
    if let Some(name) = prefix["prefix"].as_str() {
        let router = prefix["router"].as_str().map(|router| format!(" from {router}")).unwrap_or_default();
        let lifetime = match prefix["expires_s"].as_u64() {
            Some(seconds) => format!(", {} left", duration(seconds)),
            None => String::new(),
        };
        row("prefix", format!("{name} (source {}{router}{lifetime})", text(&prefix["source"])));
    }
    let gateway = document["gateway"].as_str().map(|ip| format!(" via {ip}")).unwrap_or_default();
    if let Some(uplink) = document["uplink"].as_str() {
        row("uplink", format!("{uplink}{gateway}"));
    }
    if let (Some(four), Some(six)) = (document["ipv4"].as_str(), document["ipv6"].as_str()) {
        let mtu = document["mtu"].as_u64().unwrap_or_default();
        row("addresses", format!("{four} on {} (MTU {mtu})", text(&document["device"])));
        row("", String::new());
        let checking = match document["ipv6_optimistic"].as_bool() {
            Some(true) => ", still being checked",
            _ => "",
        };
        row("as", format!("{six} ({}{checking})", text(&document["address_mode"])));
    }
    let datapath = &document["datapath"];
    if let Some(kind) = datapath["kind"].as_str() {
        row("datapath", format!("{kind} ({}); {}", text(&datapath["reason"]), text(&datapath["details"])));
    }
    for (name, counters) in document["counters"].as_object().into_iter().flatten() {
        let number = |key: &str| counters[key].as_u64().unwrap_or_default();
        let mut line = format!("{} packets, {} bytes", number("packets"), number("bytes"));
        for (key, label) in [
            ("fragmented", "fragmented"),
            ("icmp_errors_sent", "ICMP errors sent"),
            ("icmp_errors_limited", "ICMP errors held back"),
            ("write_errors", "write errors"),
        ] {
            if number(key) > 0 {
                let _ = write!(line, ", {} {label}", number(key));
            }
        }
        row(name, line);
        for (why, count) in counters["drops"].as_object().into_iter().flatten() {
            row("", format!("dropped {count}: {why}"));
        }
    }
    out.replace("          : ", "            ")
}

/// Seconds as people read them.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_state_reason_and_drops() {
        let document = serde_json::json!({
            "schema": 1, "state": "degraded", "reason": "why", "state_since_s": 61, "device": "clat",
            "prefix": {"prefix": "2001:db8::/96", "source": "ra", "router": "fe80::1%eth0", "expires_s": 7200},
            "uplink": "eth0", "gateway": "fe80::1", "ipv4": "192.0.0.1", "ipv6": "2001:db8::1", "mtu": 1480,
            "address_mode": "shared", "datapath": {"kind": "tun", "reason": "configured", "details": "x"},
            "counters": {"4to6": {"packets": 3, "bytes": 100, "drops": {"igmp": 2}}, "6to4": {}},
        });
        let table = table(&document);
        for part in [
            "state: degraded (why) for 1 min",
            "prefix: 2001:db8::/96 (source ra from fe80::1%eth0, 2 h 0 min left)",
            "192.0.0.1 on clat (MTU 1480)",
            "2001:db8::1 (shared)",
            "4to6: 3 packets, 100 bytes",
            "dropped 2: igmp",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
    }
}

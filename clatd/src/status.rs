//! The status document, and the socket that hands it out.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::counters::{Counters, Direction, get};
use crate::datapath::bpf::{Class, Event, FastCounters, Way};

/// Version of the document; raised when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;
/// Name of the socket in the run directory.
pub const SOCKET: &str = "clatd.sock";
/// A reader that does not read is not waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// A Unix socket in the run directory: each connection gets the status and is closed.
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Creates the socket, replacing one that a dead process left. The caller
    /// holds the run directory's lock, so no living process has it.
    pub fn bind(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        // Anybody may read the status; nobody can say anything through it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(Self { listener, path })
    }

    /// Answers every connection that waits.
    pub fn serve(&self, document: impl Fn() -> Value) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let text = format!("{:#}\n", document());
            // A reader that went away has its reasons.
            let _ = stream.set_write_timeout(Some(PATIENCE));
            let _ = stream.write_all(text.as_bytes());
        }
    }
}

impl AsFd for StatusSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The counters by direction, as in the status document: both datapaths in one
/// place. Packets of the fast path that the daemon translated count once.
pub fn counters(counters: &Counters, fast: Option<&FastCounters>) -> Value {
    let mut directions = Map::new();
    for (direction, way) in Direction::ALL.into_iter().zip([Way::Out, Way::In]) {
        let of = counters.of(direction);
        let mut drops: Map<String, Value> =
            of.drops().map(|(reason, n)| (reason.as_str().to_owned(), json!(n))).collect();
        let (mut packets, mut bytes) = (get(&of.packets), get(&of.bytes));
        let mut kernel = Value::Null;
        if let Some(fast) = fast {
            let translated = fast.total(Event::Translated, way);
            packets += translated.packets;
            bytes += translated.bytes;
            for event in Event::ALL.into_iter().filter(|event| event.is_drop()) {
                let n = fast.total(event, way).packets;
                if n > 0 {
                    let before = drops.get(event.as_str()).and_then(Value::as_u64).unwrap_or(0);
                    drops.insert(event.as_str().to_owned(), json!(before + n));
                }
            }
            let by_protocol: Map<String, Value> = Class::ALL
                .into_iter()
                .map(|class| {
                    let events =
                        Event::ALL.into_iter().map(|event| (event, fast.get(event, way, class).packets));
                    let seen: Map<String, Value> = events
                        .filter(|(_, n)| *n > 0)
                        .map(|(e, n)| (e.as_str().to_owned(), json!(n)))
                        .collect();
                    (class.as_str().to_owned(), Value::Object(seen))
                })
                .collect();
            kernel = Value::Object(by_protocol);
        }
        directions.insert(
            direction.as_str().to_owned(),
            json!({
                "packets": packets,
                "bytes": bytes,
                "fragmented": get(&of.fragmented),
                "icmp_errors_sent": get(&of.replies),
                "icmp_errors_limited": get(&of.replies_limited),
                "write_errors": get(&of.write_errors),
                "drops": drops,
                "kernel": kernel,
            }),
        );
    }
    Value::Object(directions)
}

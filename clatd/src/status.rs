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

/// The counters by direction, as in the status document.
pub fn counters(counters: &Counters) -> Value {
    let mut directions = Map::new();
    for direction in Direction::ALL {
        let of = counters.of(direction);
        let drops: Map<String, Value> =
            of.drops().map(|(reason, n)| (reason.as_str().to_owned(), json!(n))).collect();
        directions.insert(
            direction.as_str().to_owned(),
            json!({
                "packets": get(&of.packets),
                "bytes": get(&of.bytes),
                "fragmented": get(&of.fragmented),
                "icmp_errors_sent": get(&of.replies),
                "icmp_errors_limited": get(&of.replies_limited),
                "write_errors": get(&of.write_errors),
                "drops": drops,
            }),
        );
    }
    Value::Object(directions)
}

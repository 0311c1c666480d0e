//! Why the fast path cannot be had.

use aya::maps::MapError;
use aya::programs::ProgramError;
use nix::errno::Errno;

use crate::netlink::NetlinkError;

/// Why the fast path cannot be had. Every message names the call that failed.
#[derive(Debug, thiserror::Error)]
pub enum FastPathError {
    /// An interface is gone.
    #[error("cannot find the interface with index {index}: if_indextoname: {source}")]
    NoInterface {
        /// Its index.
        index: u32,
        /// The reason.
        source: Errno,
    },
    /// Maps cannot be created.
    #[error("cannot load the eBPF object: {}{}", chain(.0), hint(&**.0))]
    Load(Box<aya::EbpfError>),
    /// The verifier, or a missing capability.
    #[error(
        "cannot load the eBPF program {program}: {} (needs CAP_BPF and CAP_NET_ADMIN, before Linux 6.4 also CAP_PERFMON)",
        complaint(.reason)
    )]
    Verify {
        /// The program.
        program: &'static str,
        /// The reason. Not a `source`, which would bring the verifier's whole log into every message.
        reason: Box<ProgramError>,
    },
    /// An attachment is refused.
    #[error("cannot attach the eBPF program {program} to {interface}: {}", chain(.source))]
    Attach {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
        /// The reason.
        source: Box<ProgramError>,
    },
    /// No clsact qdisc.
    #[error("cannot have a clsact qdisc on {interface}: {source:#}")]
    Qdisc {
        /// The interface.
        interface: String,
        /// The reason.
        source: anyhow::Error,
    },
    /// A map cannot be read or written.
    #[error("cannot access the eBPF map {map}: {}", chain(.source))]
    Map {
        /// The map.
        map: &'static str,
        /// The reason.
        source: MapError,
    },
    /// The object lacks a part; a build gone wrong.
    #[error("the eBPF object has no {0}")]
    Object(&'static str),
    /// The change is too large for a running fast path.
    #[error("the device, the uplink or the mode has changed: attach anew")]
    NeedsAttach,
}

impl FastPathError {
    /// A capability is missing.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Load(error) => is_os_error(&**error, Errno::EPERM),
            Self::Verify { reason, .. } => is_os_error(&**reason, Errno::EPERM),
            Self::Attach { source, .. } => is_os_error(&**source, Errno::EPERM),
            Self::Qdisc { source, .. } => {
                let error = source.downcast_ref::<NetlinkError>().and_then(NetlinkError::errno);
                error == Some(Errno::EPERM as i32)
            }
            _ => false,
        }
    }

    pub(super) fn map(map: &'static str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}

/// Whether the kernel said this, somewhere down the causes.
pub(super) fn is_os_error(error: &(dyn std::error::Error + 'static), errno: Errno) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error() == Some(errno as i32);
        }
        next = error.source();
    }
    false
}

/// What to do about a refusal to create maps.
fn hint(error: &(dyn std::error::Error + 'static)) -> &'static str {
    if is_os_error(error, Errno::EPERM) { " (needs CAP_BPF)" } else { "" }
}

/// An error with its causes on one line; the verifier's log is left to the debug output.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = first_line(&cause.to_string());
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// What the kernel says, with the verifier's last word: of its log, the line that is neither code nor statistics.
fn complaint(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    let word = log.lines().rev().map(str::trim).find(|line| {
        let statistics = ["verification time", "stack depth", "processed "];
        !line.is_empty()
            && !line.starts_with(|first: char| first.is_ascii_digit() || first == ';')
            && !statistics.iter().any(|start| line.starts_with(start))
    });
    match word {
        Some(word) => format!("{io_error}: {word}"),
        None => io_error.to_string(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

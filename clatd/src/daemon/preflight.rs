//! What must be right before anything is changed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use pref64::config::Config;

use crate::datapath::tun::Device;
use crate::exit::{FAILED, Fatal, PERMISSION, USAGE};
use crate::host::snapshot::Snapshot;

/// File name of the lock in the run directory.
const LOCK: &str = "clatd.lock";
/// Bit of CAP_NET_ADMIN (linux/capability.h).
const CAP_NET_ADMIN: u64 = 1 << 12;

/// The run directory, ours alone while this lives.
pub struct RunDir {
    _lock: Flock<File>,
}

impl RunDir {
    /// Creates the run directory if need be and locks it.
    pub fn lock(path: &Path) -> Result<Self, Fatal> {
        let failed = |what: &str, error: io::Error| {
            let code = if error.kind() == io::ErrorKind::PermissionDenied { PERMISSION } else { FAILED };
            let hint = if code == PERMISSION { " (run as root, or set V4SHIM_RUN_DIR)" } else { "" };
            Fatal::new(code, format!("cannot {what} {}: {error}{hint}", path.display()))
        };
        fs::create_dir_all(path).map_err(|error| failed("create the run directory", error))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(|error| failed("open the lock in", error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Fatal::failed(format!(
                "another clatd runs already: it holds {} (stop it first; `v4shim status` shows it)",
                path.join(LOCK).display()
            ))),
            Err((_, errno)) => Err(failed("lock", errno.into())),
        }
    }
}

/// Privileges: CAP_NET_ADMIN and an openable `/dev/net/tun`.
pub fn privileges() -> Result<(), Fatal> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // Without /proc the first change to the host will tell.
    if effective.is_some_and(|capabilities| capabilities & CAP_NET_ADMIN == 0) {
        return Err(Fatal::new(
            PERMISSION,
            "cannot change this host's network: CAP_NET_ADMIN is missing (run as root, or through v4shim-clatd.service)",
        ));
    }
    Device::available().map_err(|error| {
        Fatal::new(if error.is_permission() { PERMISSION } else { FAILED }, error.to_string())
    })
}

/// What the configuration says of this host must be true of it.
pub fn host(config: &Config, host: &Snapshot) -> Result<(), Fatal> {
    let clat = &config.clat;
    if let Some(name) = clat.uplink.as_ref().filter(|name| host.link_named(name).is_none()) {
        return Err(Fatal::failed(format!(
            "clat.uplink = \"{name}\": there is no such interface (this host has {}; leave the key out to follow the route)",
            names(host)
        )));
    }
    // Somebody else's device; with a default route over it, it is another CLAT, and the state machine stands by.
    if let Some(link) = host.link_named(&clat.device)
        && !host.ipv4_defaults.iter().any(|route| route.ifindex == link.index)
    {
        return Err(Fatal::failed(format!(
            "clat.device = \"{}\": the name is taken by an interface that is not ours (choose another name, or remove the interface)",
            clat.device
        )));
    }
    if let pref64::config::Address::Explicit(address) = clat.address {
        let ours = host.addresses.iter().any(|own| own.ip == address);
        // At boot the addresses may still be on their way: then it is waited for.
        let configured = host.links.iter().any(|link| host.usable_ipv6(link.index).next().is_some());
        if configured && !ours {
            return Err(Fatal::new(
                USAGE,
                format!(
                    "clat.address = \"{address}\": this is not an address of this host (add it to an interface, or use \"shared\" or \"dedicated\")"
                ),
            ));
        }
    }
    Ok(())
}

fn names(host: &Snapshot) -> String {
    let names: Vec<&str> = host.links.iter().map(|link| link.name.as_str()).collect();
    names.join(", ")
}

//! The TUN device `clat`: a network interface whose packets we read and write.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

use super::vnet;
use crate::sys;

/// Where TUN devices come from.
const DEV_NET_TUN: &str = "/dev/net/tun";

// Offload features (linux/if_tun.h).
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_TSO_ECN: u32 = 0x08;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;

/// Which unfinished packets the kernel hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offloads {
    /// TCP and UDP super-packets, unfinished checksums (kernel 6.2 and later).
    TcpAndUdp,
    /// TCP super-packets, unfinished checksums.
    Tcp,
    /// None: one finished packet per read.
    None,
}

impl std::fmt::Display for Offloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TcpAndUdp => "TCP and UDP super-packets",
            Self::Tcp => "TCP super-packets",
            Self::None => "one packet per read",
        })
    }
}

/// Why the device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// `/dev/net/tun` does not open.
    #[error("cannot open {DEV_NET_TUN}: {source} ({hint})")]
    Open {
        /// The reason.
        source: io::Error,
        /// What the user can do.
        hint: &'static str,
    },
    /// The interface name belongs to somebody else.
    #[error("cannot create the interface {name}: the name is taken (choose another with clat.device)")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Any other refusal.
    #[error("cannot create the interface {name}: {call}: {source} ({hint})")]
    Create {
        /// The name.
        name: String,
        /// The call that failed.
        call: &'static str,
        /// The reason.
        source: io::Error,
        /// What the user can do.
        hint: &'static str,
    },
}

impl TunError {
    /// True if more privileges would help.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::Create { source, .. } => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            Self::NameTaken { .. } => false,
        }
    }
}

/// An open TUN device; the interface vanishes when it is dropped.
pub struct Device {
    file: File,
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// What the kernel agreed to.
    pub offloads: Offloads,
    /// Bytes of `virtio_net_hdr` before each packet: 10, or 0 on kernels
    /// without IFF_VNET_HDR.
    pub vnet_header_len: usize,
}

impl Device {
    /// True if this process can open `/dev/net/tun` at all.
    pub fn available() -> Result<(), TunError> {
        open().map(drop)
    }

    /// Creates the interface. `wanted` is the most that is asked of the kernel;
    /// what it refuses is done without.
    pub fn create(name: &str, wanted: Offloads) -> Result<Self, TunError> {
        if sys::interface_index(name).is_some() {
            return Err(TunError::NameTaken { name: name.to_owned() });
        }
        let file = open()?;
        let base = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        let with_header = sys::tun_set_interface(file.as_fd(), name, base | libc::IFF_VNET_HDR)
            .and_then(|()| sys::tun_set_vnet_header_size(file.as_fd(), vnet::LEN as libc::c_int));
        let (file, vnet_header_len) = match with_header {
            Ok(()) => (file, vnet::LEN),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                tracing::info!("this kernel has no virtio headers on TUN devices: one packet per read");
                drop(file);
                let file = open()?;
                sys::tun_set_interface(file.as_fd(), name, base)
                    .map_err(|e| refused(name, "TUNSETIFF", e))?;
                (file, 0)
            }
            Err(error) => return Err(refused(name, "TUNSETIFF", error)),
        };
        let offloads = negotiate(file.as_fd(), if vnet_header_len == 0 { Offloads::None } else { wanted });
        let ifindex = sys::interface_index(name)
            .ok_or_else(|| refused(name, "if_nametoindex", io::Error::from_raw_os_error(libc::ENODEV)))?;
        Ok(Self { file, name: name.to_owned(), ifindex, offloads, vnet_header_len })
    }

    /// Another descriptor of the same device.
    pub fn try_clone(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Asks for the most and goes down until the kernel agrees.
fn negotiate(tun: BorrowedFd<'_>, wanted: Offloads) -> Offloads {
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    let steps = [(Offloads::TcpAndUdp, tcp | TUN_F_USO4 | TUN_F_USO6), (Offloads::Tcp, tcp)];
    for (step, features) in steps.into_iter().skip_while(|(step, _)| *step != wanted) {
        match sys::tun_set_offload(tun, features) {
            Ok(()) => return step,
            Err(error) => tracing::info!("the kernel refuses TUN offload \"{step}\": {error}"),
        }
    }
    Offloads::None
}

fn open() -> Result<File, TunError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEV_NET_TUN)
        .map_err(|source| {
            let hint = match source.raw_os_error() {
                Some(libc::ENOENT) => {
                    "the device node is missing: load the tun module, or give the container the device"
                }
                Some(libc::ENODEV | libc::ENXIO) => "this kernel has no TUN support: load the tun module",
                Some(libc::EACCES | libc::EPERM) => {
                    "run as root, or with CAP_NET_ADMIN and access to the device"
                }
                _ => "see the kernel log",
            };
            TunError::Open { source, hint }
        })
}

fn refused(name: &str, call: &'static str, source: io::Error) -> TunError {
    match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => TunError::NameTaken { name: name.to_owned() },
        Some(libc::EPERM | libc::EACCES) => TunError::Create {
            name: name.to_owned(),
            call,
            source,
            hint: "needs CAP_NET_ADMIN, or run as root",
        },
        _ => TunError::Create { name: name.to_owned(), call, source, hint: "see the kernel log" },
    }
}

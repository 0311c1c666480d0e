//! Attachments by TCX links. That on the uplink's ingress may outlive the process.
//!
//! While no program stands there, the kernel takes packets of the CLAT's connections for its own (with a shared address)
//! and answers them with resets. So a daemon that will be followed by another leaves this one attachment behind: its
//! program drops what belongs to a flow record, since the device is gone, and the peers send it again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::programs::TcAttachType;

use crate::sys;

/// A TCX link (Linux 6.6). Dropped, it is detached, whoever else has a descriptor of it.
#[derive(Debug)]
pub struct TcxLink {
    fd: OwnedFd,
    stays: bool,
}

impl TcxLink {
    /// Attaches a program to an interface, behind those that are there already.
    ///
    /// # Errors
    /// As the kernel says: EINVAL before Linux 6.6.
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, kind: TcAttachType) -> io::Result<Self> {
        let ingress = kind == TcAttachType::Ingress;
        Ok(Self { fd: sys::bpf_link_tcx(program, ifindex, ingress)?, stays: false })
    }

    /// The link of an earlier process, by its descriptor.
    pub fn adopt(fd: OwnedFd) -> Self {
        Self { fd, stays: false }
    }

    /// Gives up this descriptor only. The link stays as long as somebody else has one.
    pub fn leave_attached(mut self) {
        self.stays = true;
    }
}

impl AsFd for TcxLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for TcxLink {
    fn drop(&mut self) {
        if !self.stays {
            // It may be gone with its interface.
            let _ = sys::bpf_link_detach(self.fd.as_fd());
        }
    }
}

//! Says that links, addresses or routes changed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::{NetlinkError, syscall};

/// rtnetlink multicast groups (linux/rtnetlink.h, `RTNLGRP_*`).
const GROUPS: [u32; 5] = [
    1,  // RTNLGRP_LINK
    5,  // RTNLGRP_IPV4_IFADDR
    7,  // RTNLGRP_IPV4_ROUTE
    9,  // RTNLGRP_IPV6_IFADDR
    11, // RTNLGRP_IPV6_ROUTE
];

/// A socket that becomes readable when the host's network changes.
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Subscribes to links, addresses and routes of both families.
    pub fn new() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(syscall("open a netlink socket"))?;
        socket.bind_auto().map_err(syscall("bind the netlink socket"))?;
        for group in GROUPS {
            socket.add_membership(group).map_err(syscall("subscribe to network changes"))?;
        }
        socket.set_non_blocking(true).map_err(syscall("make the netlink socket non-blocking"))?;
        Ok(Self { socket })
    }

    /// Throws away all pending notifications; true if there were any. An
    /// overrun (ENOBUFS) counts as a change, too.
    pub fn drain(&self) -> Result<bool, NetlinkError> {
        let mut buffer: Vec<u8> = Vec::with_capacity(32 * 1024);
        let mut changed = false;
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(source) => {
                    return Err(NetlinkError::Syscall { call: "receive network changes", source });
                }
            }
        }
    }
}

impl AsFd for Monitor {
    #[allow(unsafe_code)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self.socket`, which the
        // returned borrow keeps alive.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

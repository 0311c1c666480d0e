//! The replacement: an IPv6 socket that is all the old one was, ready to be put in its place.
//!
//! Everything that can fail happens in [`Replacement::prepare`] and [`Replacement::connect`], while the
//! application's descriptor is untouched. Putting the new socket in its place is the caller's: `dup3` from
//! inside a process, `SECCOMP_IOCTL_NOTIF_ADDFD` from outside.

use crate::options::{self, Touched};
use crate::sockaddr::{Dest, LEN_IN6, RawAddr};
use crate::sys::{self, Errno, Fd};
use core::net::Ipv6Addr;
use libc::{SOL_SOCKET, c_int};

/// Why a socket is left as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decline {
    /// Not an IPv4 TCP or UDP socket.
    NotInet,
    /// A BPF filter is attached; it cannot be read back, and it expects IPv4.
    Filter,
    /// Connected in IPv4 or member of a multicast group, which would be lost.
    Tied,
    /// A call failed: no IPv6, out of descriptors, port taken, no route.
    Failed(Errno),
}

impl From<Errno> for Decline {
    fn from(e: Errno) -> Self {
        Self::Failed(e)
    }
}

impl Decline {
    /// For a line of `--verbose`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotInet => "not an IPv4 TCP or UDP socket",
            Self::Filter => "a BPF filter is attached",
            Self::Tied => "connected in IPv4, or member of a multicast group",
            Self::Failed(Errno(libc::EMFILE | libc::ENFILE)) => "out of file descriptors",
            Self::Failed(Errno(libc::EAFNOSUPPORT)) => "IPv6 is disabled",
            Self::Failed(Errno(libc::EADDRINUSE)) => "the port is taken in IPv6",
            Self::Failed(Errno(libc::ENETUNREACH | libc::EHOSTUNREACH)) => "no route to the NAT64 prefix",
            Self::Failed(_) => "a system call failed",
        }
    }
}

/// A new socket; closed again unless it is put in place.
#[derive(Debug)]
pub struct Replacement {
    new: Fd,
    /// File status flags of the old socket.
    flags: c_int,
    /// TCP (or MPTCP); UDP otherwise.
    tcp: bool,
    /// Whether REUSEADDR must be cleared on the new socket when the old one is gone.
    clear_reuse: bool,
    /// The application had bound a particular IPv4 address, which cannot be kept.
    lost_address: bool,
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.new >= 0 {
            sys::close(self.new);
        }
    }
}

impl Replacement {
    /// Makes the IPv6 counterpart of `old`: same type, options, port.
    ///
    /// # Errors
    /// Where there can be none; `old` is then as it was.
    pub fn prepare(old: Fd) -> Result<Self, Decline> {
        Self::prepare_touched(old, Touched::ANYTHING)
    }

    /// The same, looking only at options that may have been changed.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_touched(old: Fd, touched: Touched) -> Result<Self, Decline> {
        let mut name = [0u8; LEN_IN6];
        let len = sys::getsockname(old, &mut name)?;
        let Dest::V4(ip, port) = Dest::parse(name.get(..len).unwrap_or(&name)) else {
            return Err(Decline::NotInet);
        };
        let get = |name| sys::getsockopt_int(old, SOL_SOCKET, name);
        let (kind, protocol) = (get(libc::SO_TYPE)?, get(libc::SO_PROTOCOL)?);
        let tcp = match (kind, protocol) {
            (libc::SOCK_STREAM, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => true,
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE) => false,
            _ => return Err(Decline::NotInet),
        };
        // With no room, the kernel answers how many instructions there are; EACCES for an eBPF filter.
        if touched.filter() && sys::getsockopt(old, SOL_SOCKET, libc::SO_ATTACH_FILTER, &mut []) != Ok(0) {
            return Err(Decline::Filter);
        }
        let flags = sys::fcntl(old, libc::F_GETFL, 0)? as c_int;
        let new = sys::socket(libc::AF_INET6, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol)?;
        let lost_address = !ip.is_unspecified();
        let mut made = Self { new, flags, tcp, clear_reuse: false, lost_address };
        // bindv6only may say otherwise; the socket must reach 127.0.0.1 as ::ffff:127.0.0.1.
        sys::setsockopt_int(new, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        options::carry(old, new, tcp, touched, flags)?;
        if port != 0 {
            made.bind_to(port, old)?;
        }
        Ok(made)
    }

    /// Takes over the port that the application bound. The old socket still holds it, so both need REUSEADDR
    /// for the moment.
    fn bind_to(&mut self, port: u16, old: Fd) -> Result<(), Errno> {
        let reuse = |fd, on| sys::setsockopt_int(fd, SOL_SOCKET, libc::SO_REUSEADDR, on);
        let had = sys::getsockopt_int(old, SOL_SOCKET, libc::SO_REUSEADDR)? != 0;
        if !had {
            reuse(old, 1)?;
        }
        let done = reuse(self.new, 1)
            .and_then(|()| sys::bind(self.new, RawAddr::v6(Ipv6Addr::UNSPECIFIED, port).as_bytes()));
        if !had {
            self.clear_reuse = true;
            // Cannot fail: it has just been set.
            let _ = reuse(old, 0);
        }
        done
    }

    /// Starts the connect without waiting for it: `true` when that was all (UDP, TCP_FASTOPEN_CONNECT),
    /// `false` when it is under way.
    ///
    /// # Errors
    /// What the kernel says at once: no route, out of ports.
    pub fn connect(&self, ip: Ipv6Addr, port: u16) -> Result<bool, Errno> {
        match sys::connect(self.new, RawAddr::v6(ip, port).as_bytes()) {
            Ok(()) => Ok(true),
            Err(Errno(libc::EINPROGRESS)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The new socket.
    #[must_use]
    pub fn fd(&self) -> Fd {
        self.new
    }

    /// Whether it is a stream socket.
    #[must_use]
    pub fn tcp(&self) -> bool {
        self.tcp
    }

    /// Whether the application had bound a particular IPv4 address, now lost.
    #[must_use]
    pub fn lost_address(&self) -> bool {
        self.lost_address
    }

    /// Whether the old socket was blocking.
    #[must_use]
    pub fn blocking(&self) -> bool {
        self.flags & libc::O_NONBLOCK == 0
    }

    /// Last touches once the old socket is gone from the application's descriptor; closes the spare descriptor.
    pub fn finish(self) {
        if self.clear_reuse {
            let _ = sys::setsockopt_int(self.new, SOL_SOCKET, libc::SO_REUSEADDR, 0);
        }
        if self.flags != libc::O_RDWR | libc::O_NONBLOCK {
            // Includes O_ASYNC. Only fails on a closed descriptor, and this one is ours.
            let _ = sys::fcntl(self.new, libc::F_SETFL, self.flags as usize);
        }
    }
}

#[cfg(test)]
mod tests;

//! The raw ICMPv6 socket that hears Router Advertisements and sends solicitations.
//!
//! It hears what the kernel hears, on every interface, whoever else evaluates it (the kernel, systemd-networkd,
//! NetworkManager): the all-nodes group is joined on every interface anyway (RFC 4291 §2.8).
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendto};

use crate::discovery::Router;
use crate::ra::{ALL_ROUTERS, HOP_LIMIT, ROUTER_ADVERTISEMENT};

/// `ICMP6_FILTER` (linux/icmpv6.h), which libc lacks.
const ICMP6_FILTER: libc::c_int = 1;
/// Longest advertisement that is looked at: options beyond a large MTU are nobody's.
const LONGEST: usize = 9216;

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The ICMPv6 message.
    pub message: Vec<u8>,
    /// Who sent it and where it was heard.
    pub router: Router,
    /// Its hop limit.
    pub hop_limit: u8,
}

/// The socket.
#[derive(Debug)]
pub struct RaSocket {
    socket: OwnedFd,
}

impl RaSocket {
    /// Opens the socket; needs CAP_NET_RAW.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege, or no IPv6 at all.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::socket(libc::AF_INET6, kind, libc::IPPROTO_ICMPV6) })?;
        // SAFETY: the descriptor is new and nobody else owns it.
        let socket = Self { socket: unsafe { OwnedFd::from_raw_fd(fd) } };
        // A set bit blocks that type; all but one are blocked (RFC 3542 §3.2).
        let mut filter = [u32::MAX; 8];
        filter[usize::from(ROUTER_ADVERTISEMENT >> 5)] &= !(1 << (ROUTER_ADVERTISEMENT & 31));
        socket.set(libc::IPPROTO_ICMPV6, ICMP6_FILTER, &filter)?;
        let on: libc::c_int = 1;
        socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &on)?;
        socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &on)?;
        socket.set(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &libc::c_int::from(HOP_LIMIT))?;
        socket.set(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, &0)?;
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the value is valid for its own size, and the kernel only reads it.
        check(unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                option,
                (&raw const *value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })
        .map(drop)
    }

    /// The next advertisement, or `None` if none is waiting.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        let mut buffer = [0; LONGEST];
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let (length, source, ifindex, hop_limit) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let got = match recvmsg::<SockaddrIn6>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                flags,
            ) {
                Ok(got) => got,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let (mut ifindex, mut hop_limit) = (0, 0);
            for message in got.cmsgs()? {
                match message {
                    ControlMessageOwned::Ipv6PacketInfo(info) => ifindex = info.ipi6_ifindex,
                    ControlMessageOwned::Ipv6HopLimit(hops) => hop_limit = u8::try_from(hops).unwrap_or(0),
                    _ => {}
                }
            }
            let source = got.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
            (got.bytes, source, ifindex, hop_limit)
        };
        let message = buffer.get(..length).unwrap_or(&[]).to_vec();
        Ok(Some(Received { message, router: Router { address: source, ifindex }, hop_limit }))
    }

    /// Sends a Router Solicitation to all routers of a link.
    ///
    /// # Errors
    /// When the link is down or has no link-local address yet.
    pub fn solicit(&self, ifindex: u32) -> io::Result<()> {
        // The kernel fills the checksum in (RFC 3542 §3.1). Without a link-layer address option, which the answer
        // does not need: it goes to all nodes.
        let message = crate::ra::solicitation(None);
        let routers = SockaddrIn6::from(SocketAddrV6::new(ALL_ROUTERS, 0, 0, ifindex));
        sendto(self.socket.as_raw_fd(), &message, &routers, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

impl AsFd for RaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

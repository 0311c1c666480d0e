//! The system calls that no safe library offers. All `unsafe` code of the
//! daemon outside the eBPF loader is in this file.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// `struct ifreq` as TUNSETIFF reads it (linux/if.h): name, then flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Attaches an open `/dev/net/tun` to the interface of that name and makes it
/// non-persistent, so that it vanishes with the descriptor.
pub fn tun_set_interface(tun: BorrowedFd<'_>, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request =
        InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: flags as libc::c_short, padding: [0; 22] };
    if name.len() >= libc::IFNAMSIZ || name.bytes().any(|byte| byte == 0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the request is a valid `struct ifreq` that outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &mut request) }).map(drop)
}

/// Tells the kernel which unfinished packets we take (`TUN_F_*`).
pub fn tun_set_offload(tun: BorrowedFd<'_>, features: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe {
        libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD as libc::Ioctl, libc::c_ulong::from(features))
    })
    .map(drop)
}

/// Sets the size of the `virtio_net_hdr` before each packet.
pub fn tun_set_vnet_header_size(tun: BorrowedFd<'_>, size: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ as libc::Ioctl, &size) }).map(drop)
}

/// The index of an interface, if it exists.
pub fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// Classic BPF: IPv6 packets that are Neighbor Solicitations or Advertisements
/// without extension headers (RFC 4861 §4.3, §4.4), and nothing else.
const NEIGHBOUR_DISCOVERY_FILTER: [libc::sock_filter; 7] = {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }
    [
        op(LOAD_BYTE, 0, 0, 6),    // next header
        op(JUMP_EQUAL, 0, 4, 58),  // ICMPv6
        op(LOAD_BYTE, 0, 0, 40),   // type
        op(JUMP_EQUAL, 1, 0, 135), // Neighbor Solicitation
        op(JUMP_EQUAL, 0, 1, 136), // Neighbor Advertisement
        op(RETURN, 0, 0, 0xffff),
        op(RETURN, 0, 0, 0),
    ]
};

/// A socket that receives (and can send) neighbour discovery on one Ethernet
/// interface, beside the kernel's own.
pub fn neighbour_discovery_socket(ifindex: u32) -> io::Result<OwnedFd> {
    let protocol = libc::ETH_P_IPV6 as u16;
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: nothing is received before the filter is in place.
    // SAFETY: no pointers are passed.
    let fd: RawFd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let program = libc::sock_fprog {
        len: NEIGHBOUR_DISCOVERY_FILTER.len() as libc::c_ushort,
        filter: NEIGHBOUR_DISCOVERY_FILTER.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which is valid for the length given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as libc::c_int;
    // SAFETY: the address is a valid sockaddr_ll of the length given.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })?;
    Ok(socket)
}

/// Sends one packet through a packet socket to a link-layer address.
pub fn packet_send(
    socket: BorrowedFd<'_>,
    ifindex: u32,
    protocol: u16,
    destination: [u8; 6],
    packet: &[u8],
) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as libc::c_int;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&destination);
    // SAFETY: packet and address are valid for the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one packet from a packet socket, and who sent it at the link layer.
/// `None` if nothing is waiting.
pub fn packet_receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, [u8; 6])>> {
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut from_len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: buffer and address are valid for the lengths given.
    let received = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut from).cast(),
            &mut from_len,
        )
    };
    if received < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    let mut mac = [0; 6];
    mac.copy_from_slice(&from.sll_addr[..6]);
    Ok(Some((received as usize, mac)))
}

/// Joins a multicast group at the link layer of one interface, for
/// as long as the packet socket lives.
pub fn packet_multicast(socket: BorrowedFd<'_>, ifindex: u32, group: [u8; 6]) -> io::Result<()> {
    let mut membership = libc::packet_mreq {
        mr_ifindex: ifindex as libc::c_int,
        mr_type: libc::PACKET_MR_MULTICAST as libc::c_ushort,
        mr_alen: 6,
        mr_address: [0; 8],
    };
    membership.mr_address[..6].copy_from_slice(&group);
    // SAFETY: the membership is a valid packet_mreq of the length given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const membership).cast(),
            size_of::<libc::packet_mreq>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Attaches a loaded program to an interface's ingress or egress by a TCX link (Linux 6.6), behind those that are there.
pub fn bpf_link_tcx(program: BorrowedFd<'_>, ifindex: u32, ingress: bool) -> io::Result<OwnedFd> {
    const LINK_CREATE: libc::c_int = 28;
    const TCX_INGRESS: u32 = 46;
    const TCX_EGRESS: u32 = 47;
    let hook = if ingress { TCX_INGRESS } else { TCX_EGRESS };
    let mut attr = [0; BPF_ATTR_WORDS];
    attr[..3].copy_from_slice(&[program.as_raw_fd() as u32, ifindex, hook]);
    let fd = bpf(LINK_CREATE, &mut attr)?;
    // SAFETY: the descriptor is new and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Detaches what a link attaches, for everybody who has a descriptor of it.
pub fn bpf_link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    const LINK_DETACH: libc::c_int = 34;
    let mut attr = [0; BPF_ATTR_WORDS];
    attr[0] = link.as_raw_fd() as u32;
    bpf(LINK_DETACH, &mut attr).map(drop)
}

/// As many 32-bit words of `union bpf_attr` as we use; the kernel takes the rest for zeros.
const BPF_ATTR_WORDS: usize = 8;

/// For commands that take and give no addresses.
fn bpf(command: libc::c_int, attr: &mut [u32; BPF_ATTR_WORDS]) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are valid for the length given and hold no addresses.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    check(result as libc::c_int)
}

/// A descriptor that this process was started with. To be called once for each, before anything is opened.
pub fn inherited_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: no pointers; a number that is no descriptor is refused.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: it is open, and by the caller's word nobody owns it yet.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Gives memory that was freed back to the system: loading the fast path takes megabytes that are never needed again.
pub fn give_back_memory() {
    // SAFETY: malloc_trim has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

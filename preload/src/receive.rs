//! Datagrams received on a socket of ours: their source in IPv4.

use crate::connect::give;
use crate::names::{shown, store};
use crate::settings::{self, Mode};
use crate::table::{self, Kind};
use crate::{real, seen, user};
use core::ffi::{c_uint, c_void};
use libc::{c_int, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};
use swap::sockaddr::LEN_IN6;
use swap::sys::{self, Errno, Fd};
use swap::{Dest, RawAddr};

/// How `fd` is ours. Cheap when it is not.
fn ours(fd: Fd) -> Option<Kind> {
    if settings::mode() == Mode::Off || !table::maybe(fd) {
        return None;
    }
    let entry = sys::errno();
    let kind = table::kind(fd);
    sys::set_errno(entry);
    kind
}

/// The source of a datagram as the application must see it.
fn source(kind: Kind, bytes: &[u8]) -> Option<RawAddr> {
    shown(kind, Dest::parse(bytes))
}

/// The hook.
///
/// # Safety
/// As for `recvfrom(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn recvfrom(
    fd: Fd,
    buf: *mut c_void,
    n: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
) -> ssize_t {
    let entry = sys::errno();
    let room = if addr.is_null() { None } else { ours(fd).and_then(|kind| Some((kind, user::read(len)?))) };
    sys::set_errno(entry);
    let Some((kind, room)) = room else {
        // SAFETY: the application's arguments, unchanged.
        return unsafe { real::recvfrom(fd, buf, n, flags, addr, len) };
    };
    let mut bytes = [0u8; LEN_IN6];
    let mut full = LEN_IN6 as socklen_t;
    // SAFETY: the application's buffer, which the kernel checks, and our own room for the address.
    let r = unsafe { real::recvfrom(fd, buf, n, flags, bytes.as_mut_ptr().cast(), &raw mut full) };
    if r < 0 {
        return r;
    }
    let bytes = bytes.get(..full as usize).unwrap_or(&bytes);
    let seen = source(kind, bytes);
    let stored = store(seen.as_ref().map_or(bytes, RawAddr::as_bytes), room as usize, addr.cast(), len);
    give(stored.map(|()| r), entry)
}

/// `recvmsg`, in the variant that the application has called: 32-bit programs with a 64-bit `time_t` get other
/// control messages.
type Recvmsg = unsafe fn(Fd, *mut msghdr, c_int) -> ssize_t;

/// The hook.
///
/// # Safety
/// As for `recvmsg(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn recvmsg(fd: Fd, msg: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the application's arguments, unchanged.
    unsafe { recvmsg_by(real::recvmsg, fd, msg, flags) }
}

/// The hook of `__recvmsg64`.
///
/// # Safety
/// As for [`recvmsg`].
#[cfg(target_pointer_width = "32")]
pub(crate) unsafe fn recvmsg64(fd: Fd, msg: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the application's arguments, unchanged.
    unsafe { recvmsg_by(real::recvmsg64, fd, msg, flags) }
}

unsafe fn recvmsg_by(call: Recvmsg, fd: Fd, msg: *mut msghdr, flags: c_int) -> ssize_t {
    let entry = sys::errno();
    let header = ours(fd).and_then(|kind| Some((kind, user::read(msg)?)));
    sys::set_errno(entry);
    let Some((kind, header)) = header.filter(|(_, m)| !m.msg_name.is_null()) else {
        // SAFETY: the application's arguments, unchanged.
        let r = unsafe { call(fd, msg, flags) };
        if r >= 0 {
            // SAFETY: the kernel has just filled `msg`.
            unsafe { forget_received(msg) };
        }
        return r;
    };
    let mut name = [0u8; LEN_IN6];
    let mut own = header;
    own.msg_name = name.as_mut_ptr().cast();
    own.msg_namelen = LEN_IN6 as socklen_t;
    // SAFETY: the application's header with our room for the address; the kernel checks the rest.
    let r = unsafe { call(fd, &raw mut own, flags) };
    if r < 0 {
        return r;
    }
    give(finish(kind, &header, own, &name, msg).map(|()| r), entry)
}

/// Descriptors that came with a message (SCM_RIGHTS) have a past that nobody saw here.
///
/// # Safety
/// The kernel has filled `msg`.
unsafe fn forget_received(msg: *const msghdr) {
    // SAFETY: the caller vouches for the header, and the kernel for the control messages in it.
    unsafe {
        if (*msg).msg_control.is_null() || settings::mode() == Mode::Off {
            return;
        }
        let mut at = libc::CMSG_FIRSTHDR(msg);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_RIGHTS {
                let bytes = ((*at).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let fds = libc::CMSG_DATA(at).cast::<c_int>();
                for i in 0..bytes / size_of::<c_int>() {
                    seen::forget(fds.add(i).read_unaligned());
                }
            }
            at = libc::CMSG_NXTHDR(msg, at);
        }
    }
}

/// Gives the application its header back, as the kernel would have.
fn finish(kind: Kind, before: &msghdr, mut own: msghdr, name: &[u8], msg: *mut msghdr) -> Result<(), Errno> {
    let bytes = name.get(..own.msg_namelen as usize).unwrap_or(name);
    let seen = source(kind, bytes);
    let seen = seen.as_ref().map_or(bytes, RawAddr::as_bytes);
    let fits = seen.get(..seen.len().min(before.msg_namelen as usize)).unwrap_or(seen);
    own.msg_name = before.msg_name;
    own.msg_namelen = seen.len() as socklen_t;
    user::write_bytes(own.msg_name, fits).and_then(|()| user::write(msg, &own)).ok_or(Errno(libc::EFAULT))
}

/// The hook. On a socket of ours, as many messages as there are, one by one.
///
/// # Safety
/// As for `recvmmsg(2)`, except that the kernel's checks of the pointers hold here as well.
pub(crate) unsafe fn recvmmsg(
    fd: Fd,
    msgs: *mut mmsghdr,
    n: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { recvmmsg_by(real::recvmmsg, real::recvmsg, fd, msgs, n, flags, timeout) }
}

/// The hook of `__recvmmsg64`.
///
/// # Safety
/// As for [`recvmmsg`].
#[cfg(target_pointer_width = "32")]
pub(crate) unsafe fn recvmmsg64(
    fd: Fd,
    msgs: *mut mmsghdr,
    n: c_uint,
    flags: c_int,
    timeout: *mut c_void,
) -> c_int {
    // SAFETY: the application's arguments, unchanged.
    unsafe { recvmmsg_by(real::recvmmsg64, real::recvmsg64, fd, msgs, n, flags, timeout) }
}

unsafe fn recvmmsg_by<T>(
    all: unsafe fn(Fd, *mut mmsghdr, c_uint, c_int, *mut T) -> c_int,
    one: Recvmsg,
    fd: Fd,
    msgs: *mut mmsghdr,
    n: c_uint,
    flags: c_int,
    timeout: *mut T,
) -> c_int {
    // With a timeout the kernel's own clock rules between messages: then the first message is all there is.
    let most = if timeout.is_null() { n } else { n.min(1) };
    if ours(fd).is_none() {
        // SAFETY: the application's arguments, unchanged.
        let r = unsafe { all(fd, msgs, n, flags, timeout) };
        for i in 0..usize::try_from(r).unwrap_or(0) {
            // SAFETY: the kernel has just filled the first `r` messages.
            unsafe { forget_received(&raw const (*msgs.add(i)).msg_hdr) };
        }
        return r;
    }
    let entry = sys::errno();
    let mut done: c_uint = 0;
    while done < most {
        let at = msgs.wrapping_add(done as usize);
        // SAFETY: only addresses of fields are computed.
        let (header, len) = unsafe { (&raw mut (*at).msg_hdr, &raw mut (*at).msg_len) };
        let wait = if done > 0 && flags & libc::MSG_WAITFORONE != 0 { libc::MSG_DONTWAIT } else { 0 };
        // SAFETY: as for our caller.
        let r = unsafe { recvmsg_by(one, fd, header, flags & !libc::MSG_WAITFORONE | wait) };
        if r < 0 {
            break;
        }
        if user::write(len, &(r as c_uint)).is_none() {
            return give(Err(Errno(libc::EFAULT)), entry);
        }
        done += 1;
    }
    if done > 0 || n == 0 { give(Ok(done as c_int), entry) } else { -1 }
}

//! Which of the three calls was stopped, by machine and word size: numbers and where the arguments are.

use super::sys::{ARCH, Notification};

/// A stopped call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    /// `connect`.
    Connect,
    /// `getpeername`.
    PeerName,
    /// `getsockname`.
    OwnName,
}

/// The calls of the 32-bit programs that a 64-bit kernel runs.
pub(super) struct Narrow {
    /// `AUDIT_ARCH_*`.
    pub(super) arch: u32,
    pub(super) connect: u32,
    pub(super) getpeername: u32,
    pub(super) getsockname: u32,
    /// One number for all socket calls, whose first argument tells which; glibc on i386 still uses it.
    pub(super) socketcall: u32,
}

/// No such number.
const NONE: u32 = u32::MAX;

#[cfg(target_arch = "x86_64")]
pub(super) const NARROW: Narrow =
    Narrow { arch: 0x4000_0003, connect: 362, getpeername: 368, getsockname: 367, socketcall: 102 };
#[cfg(target_arch = "aarch64")]
pub(super) const NARROW: Narrow =
    Narrow { arch: 0x4000_0028, connect: 283, getpeername: 287, getsockname: 286, socketcall: NONE };
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const NARROW: Narrow =
    Narrow { arch: NONE, connect: NONE, getpeername: NONE, getsockname: NONE, socketcall: NONE };

/// First arguments of `socketcall(2)`.
pub(super) const SOCKETCALL: [(u32, Call); 3] = [(3, Call::Connect), (7, Call::PeerName), (6, Call::OwnName)];

/// The call and its three arguments: descriptor, address, length or where it is. `read` fetches the arguments of a
/// `socketcall` from the caller's memory.
pub(super) fn decode(
    n: &Notification,
    read: impl FnOnce(u64) -> Option<[u32; 3]>,
) -> Option<(Call, [u64; 3])> {
    let nr = u32::try_from(n.nr).ok()?;
    let plain = [n.args[0], n.args[1], n.args[2]];
    if n.arch == ARCH {
        return match libc::c_long::from(n.nr) {
            libc::SYS_connect => Some((Call::Connect, plain)),
            libc::SYS_getpeername => Some((Call::PeerName, plain)),
            libc::SYS_getsockname => Some((Call::OwnName, plain)),
            _ => None,
        };
    }
    if n.arch != NARROW.arch || nr == NONE {
        return None;
    }
    if nr == NARROW.socketcall {
        let which = u32::try_from(n.args[0]).ok()?;
        let (_, call) = SOCKETCALL.into_iter().find(|(number, _)| *number == which)?;
        return Some((call, read(n.args[1])?.map(u64::from)));
    }
    match nr {
        nr if nr == NARROW.connect => Some((Call::Connect, plain)),
        nr if nr == NARROW.getpeername => Some((Call::PeerName, plain)),
        nr if nr == NARROW.getsockname => Some((Call::OwnName, plain)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(arch: u32, nr: u32, args: [u64; 3]) -> Notification {
        let mut n = Notification::default();
        (n.nr, n.arch) = (nr as i32, arch);
        n.args[..3].copy_from_slice(&args);
        n
    }

    #[test]
    fn calls_of_this_machine_have_their_arguments_in_registers() {
        for (nr, call) in [
            (libc::SYS_connect, Call::Connect),
            (libc::SYS_getpeername, Call::PeerName),
            (libc::SYS_getsockname, Call::OwnName),
        ] {
            let n = stopped(ARCH, nr as u32, [5, 0x7fff_0000_1000, 16]);
            assert_eq!(decode(&n, |_| panic!("no socketcall")), Some((call, [5, 0x7fff_0000_1000, 16])));
        }
        assert_eq!(decode(&stopped(ARCH, libc::SYS_read as u32, [0; 3]), |_| None), None);
        assert_eq!(decode(&stopped(ARCH, u32::MAX, [0; 3]), |_| None), None);
        assert_eq!(decode(&stopped(0xdead, libc::SYS_connect as u32, [0; 3]), |_| None), None);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_of_32_bit_programs_are_direct_or_a_socketcall() {
        let direct = stopped(NARROW.arch, 362, [5, 0x1000, 16]);
        assert_eq!(decode(&direct, |_| None), Some((Call::Connect, [5, 0x1000, 16])));
        for (which, call) in SOCKETCALL {
            let n = stopped(NARROW.arch, 102, [u64::from(which), 0x2000, 0]);
            let read = |at| (at == 0x2000).then_some([5, 0x1000, 16]);
            assert_eq!(decode(&n, read), Some((call, [5, 0x1000, 16])));
            assert_eq!(decode(&n, |_| None), None, "unreadable arguments are the kernel's to refuse");
        }
        // send(2) among the socket calls; and connect's 64-bit number, which is brk(2)'s neighbour here.
        assert_eq!(decode(&stopped(NARROW.arch, 102, [9, 0x2000, 0]), |_| Some([0; 3])), None);
        assert_eq!(decode(&stopped(NARROW.arch, 42, [0; 3]), |_| None), None);
    }
}

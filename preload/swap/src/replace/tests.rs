use super::*;
use core::net::Ipv4Addr;

fn socket(kind: c_int) -> Fd {
    sys::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0).unwrap()
}

fn port_of(fd: Fd) -> u16 {
    let mut name = [0; LEN_IN6];
    sys::getsockname(fd, &mut name).unwrap();
    u16::from_be_bytes([name[2], name[3]])
}

#[test]
fn options_are_carried() {
    let old = socket(libc::SOCK_STREAM);
    let rows = [
        (SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (SOL_SOCKET, libc::SO_REUSEADDR, 1),
        (SOL_SOCKET, libc::SO_OOBINLINE, 1),
        (SOL_SOCKET, libc::SO_RCVLOWAT, 7),
        (SOL_SOCKET, libc::SO_PRIORITY, 3),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 77),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 11),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 5),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 12345),
        (libc::IPPROTO_TCP, libc::TCP_SYNCNT, 3),
        (libc::IPPROTO_TCP, libc::TCP_MAXSEG, 1000),
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 16384),
        (libc::IPPROTO_IP, libc::IP_TTL, 33),
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        (libc::IPPROTO_IP, libc::IP_RECVERR, 1),
    ];
    for (level, name, value) in rows {
        sys::setsockopt_int(old, level, name, value).unwrap();
    }
    sys::setsockopt_int(old, libc::IPPROTO_IP, libc::IP_TOS, 0x10).unwrap();
    let made = Replacement::prepare(old).unwrap();
    for (level, name, value) in rows {
        if name != libc::SO_PRIORITY {
            assert_eq!(sys::getsockopt_int(made.fd(), level, name), Ok(value), "{level}/{name}");
        }
    }
    let v6 = |name| sys::getsockopt_int(made.fd(), libc::IPPROTO_IPV6, name);
    assert_eq!(v6(libc::IPV6_TCLASS), Ok(0x10));
    assert_eq!(v6(libc::IPV6_UNICAST_HOPS), Ok(33));
    assert_eq!(v6(libc::IPV6_MTU_DISCOVER), Ok(libc::IP_PMTUDISC_DO));
    assert_eq!(v6(libc::IPV6_RECVERR), Ok(1));
    // IP_TOS sets the priority by itself, on both sockets alike.
    let priority = |fd| sys::getsockopt_int(fd, SOL_SOCKET, libc::SO_PRIORITY);
    assert_eq!(priority(made.fd()), priority(old));
    sys::close(old);
}

#[test]
fn buffers_keep_autotuning_unless_the_application_fixed_them() {
    let old = socket(libc::SOCK_STREAM);
    let made = Replacement::prepare(old).unwrap();
    assert_eq!(sys::getsockopt_int(made.fd(), SOL_SOCKET, 72), Ok(0), "no buffer is locked");
    sys::setsockopt_int(old, SOL_SOCKET, libc::SO_SNDBUF, 30_000).unwrap();
    let made = Replacement::prepare(old).unwrap();
    assert_eq!(sys::getsockopt_int(made.fd(), SOL_SOCKET, libc::SO_SNDBUF), Ok(60_000));
    assert_eq!(sys::getsockopt_int(made.fd(), SOL_SOCKET, 72), Ok(1), "only the send buffer is locked");
    sys::close(old);
}

#[test]
fn the_port_is_carried_and_reuseaddr_left_as_it_was() {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        let old = socket(kind);
        sys::bind(old, RawAddr::v4(Ipv4Addr::UNSPECIFIED, 0).as_bytes()).unwrap();
        let made = Replacement::prepare(old).unwrap();
        assert_eq!(port_of(made.fd()), port_of(old));
        assert!(!made.lost_address());
        assert_eq!(sys::getsockopt_int(old, SOL_SOCKET, libc::SO_REUSEADDR), Ok(0));
        let dup = sys::fcntl(made.fd(), libc::F_DUPFD_CLOEXEC, 0).unwrap() as Fd;
        made.finish();
        assert_eq!(sys::getsockopt_int(dup, SOL_SOCKET, libc::SO_REUSEADDR), Ok(0));
        sys::close(dup);
        sys::close(old);
    }
}

#[test]
fn a_bound_address_is_lost_but_its_port_is_not() {
    let old = socket(libc::SOCK_STREAM);
    sys::bind(old, RawAddr::v4(Ipv4Addr::LOCALHOST, 0).as_bytes()).unwrap();
    let made = Replacement::prepare(old).unwrap();
    assert!(made.lost_address());
    assert_eq!(port_of(made.fd()), port_of(old));
    sys::close(old);
}

#[test]
fn declines_what_it_cannot_replace() {
    let v6 = sys::socket(libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(Replacement::prepare(v6).unwrap_err(), Decline::NotInet);
    sys::close(v6);
    let unix = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(Replacement::prepare(unix).unwrap_err(), Decline::NotInet);
    sys::close(unix);
    assert_eq!(Replacement::prepare(-1).unwrap_err(), Decline::Failed(Errno(libc::EBADF)));
}

#[test]
fn file_status_flags_are_carried() {
    for flags in [0, libc::O_NONBLOCK] {
        let old = socket(libc::SOCK_STREAM);
        sys::fcntl(old, libc::F_SETFL, flags as usize).unwrap();
        let made = Replacement::prepare(old).unwrap();
        assert_eq!(made.blocking(), flags == 0);
        let dup = sys::fcntl(made.fd(), libc::F_DUPFD_CLOEXEC, 0).unwrap() as Fd;
        made.finish();
        assert_eq!(sys::fcntl(dup, libc::F_GETFL, 0).unwrap() as c_int & libc::O_NONBLOCK, flags);
        sys::close(dup);
        sys::close(old);
    }
}

#!/usr/bin/env python3
"""Corner cases, each one function, run inside a lab host by tests/preload/run: `cases.py NAME`.

Every function must pass on a host with working IPv4 and without the library as well: the library's
promise is that a program cannot tell. Exceptions to that say so.
"""
import ctypes
import errno
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

SERVER, ECHO, WEB = "203.0.113.80", 7, 80
INET, INET6, STREAM, DGRAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
libc = ctypes.CDLL(None, use_errno=True)


def echo(sock, data=b"hello"):
    """Data sent come back."""
    sock.settimeout(10)
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        part = sock.recv(4096)
        assert part, "end of stream"
        got += part
    assert got == data, got


def fails(wanted, call, *args):
    """The call fails with this errno."""
    try:
        call(*args)
    except OSError as error:
        assert error.errno == wanted, f"{errno.errorcode[error.errno]}, not {errno.errorcode[wanted]}"
    else:
        raise AssertionError(f"did not fail with {errno.errorcode[wanted]}")


def sockaddr(ip, port):
    """struct sockaddr_in."""
    return struct.pack("=H", INET) + struct.pack("!H4s8x", port, socket.inet_aton(ip))


def tcp_names():
    """peer and own name are IPv4, and so is the family of the descriptor"""
    with socket.create_connection((SERVER, ECHO), 10) as s:
        assert s.getpeername() == (SERVER, ECHO), s.getpeername()
        assert len(s.getsockname()) == 2 and s.getsockname()[1] > 0
        assert s.getsockopt(socket.SOL_SOCKET, 39) == INET            # SO_DOMAIN
        assert socket.socket(fileno=os.dup(s.fileno())).family == INET
        echo(s)


def tcp_nonblocking_again():
    """a second connect answers EALREADY, 0 or EISCONN, never EINVAL"""
    s = socket.socket(INET, STREAM)
    s.setblocking(False)
    first = s.connect_ex((SERVER, ECHO))
    assert first == errno.EINPROGRESS, errno.errorcode[first]
    again = s.connect_ex((SERVER, ECHO))
    assert again in (0, errno.EALREADY, errno.EISCONN), errno.errorcode[again]
    assert select.select([], [s], [], 10)[1] and s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    again = s.connect_ex((SERVER, ECHO))
    assert again in (0, errno.EISCONN), errno.errorcode[again]
    assert s.connect_ex((SERVER, ECHO)) == errno.EISCONN
    echo(s)


def tcp_refused_and_retried():
    """a refused port gives ECONNREFUSED, and the same descriptor can be used again"""
    s = socket.socket(INET, STREAM)
    s.settimeout(None)
    fails(errno.ECONNREFUSED, s.connect, (SERVER, 81))
    s.connect((SERVER, ECHO))
    echo(s)


def mapped():
    """::ffff:a.b.c.d from an AF_INET6 socket"""
    with socket.socket(INET6, STREAM) as s:
        s.connect(("::ffff:" + SERVER, ECHO))
        assert s.getpeername()[:2] == ("::ffff:" + SERVER, ECHO), s.getpeername()
        echo(s)


def mapped_v6only():
    """an IPv6-only socket has asked not to speak IPv4"""
    with socket.socket(INET6, STREAM) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        fails(errno.ENETUNREACH, s.connect, ("::ffff:" + SERVER, ECHO))


def mapped_udp():
    """unconnected datagrams to ::ffff:a.b.c.d; the reply comes from there"""
    with socket.socket(INET6, DGRAM) as s:
        s.settimeout(10)
        s.sendto(b"x", ("::ffff:" + SERVER, ECHO))
        assert s.recvfrom(10)[1][:2] == ("::ffff:" + SERVER, ECHO)


def epoll_before_connect():
    """registered before connect, level and edge triggered; MOD afterwards"""
    for flags in (0, select.EPOLLET, select.EPOLLONESHOT):
        with socket.socket(INET, STREAM) as s, select.epoll() as ep:
            s.setblocking(False)
            ep.register(s, select.EPOLLOUT | flags)
            assert s.connect_ex((SERVER, ECHO)) == errno.EINPROGRESS
            deadline = time.monotonic() + 10
            while True:
                events = ep.poll(10)
                assert events and events[0][0] == s.fileno() and time.monotonic() < deadline, events
                if not events[0][1] & select.EPOLLHUP:
                    break
                ep.modify(s, select.EPOLLOUT | flags)
            s.setblocking(True)
            s.sendall(b"x")
            ep.modify(s, select.EPOLLIN | flags)
            assert ep.poll(10) == [(s.fileno(), select.EPOLLIN)]
            ep.unregister(s)


def epoll_several():
    """two sets watch one descriptor"""
    with socket.socket(INET, STREAM) as s, select.epoll() as a, select.epoll() as b:
        s.setblocking(False)
        a.register(s, select.EPOLLIN)
        b.register(s, select.EPOLLIN)
        s.connect_ex((SERVER, ECHO))
        select.select([], [s], [], 10)
        s.send(b"x")
        deadline = time.monotonic() + 10
        for ep in (a, b):
            while (s.fileno(), select.EPOLLIN) not in ep.poll(1):
                assert time.monotonic() < deadline


def dup_before_connect():
    """a duplicate made before connect is the same connection"""
    s = socket.socket(INET, STREAM)
    d, e = s.dup(), os.dup2(s.fileno(), 200)
    s.connect((SERVER, ECHO))
    echo(d)
    echo(socket.socket(fileno=e))
    s.close()
    echo(d)


def cloexec_nonblock_options():
    """descriptor flags and options are what they were"""
    import fcntl
    for cloexec in (True, False):
        for blocking in (True, False):
            s = socket.socket(INET, STREAM)
            s.set_inheritable(not cloexec)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50000)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10)
            before = s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            rcv = s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            s.setblocking(blocking)
            s.connect_ex((SERVER, ECHO))
            assert select.select([], [s], [], 10)[1]
            assert s.get_inheritable() != cloexec
            assert bool(fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK) != blocking
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= rcv
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
            assert s.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x10
            s.close()


def fd_reuse():
    """a number closed behind the library's back and used for something else"""
    s = socket.create_connection((SERVER, ECHO))
    fd = s.detach()
    libc.syscall(3 if os.uname().machine == "x86_64" else 57, fd)     # close
    t = socket.socket(INET6, STREAM)
    assert t.fileno() == fd
    assert t.getsockopt(socket.SOL_SOCKET, 39) == INET6
    assert t.getsockname()[0] == "::"
    t.close()
    u = socket.socket(INET, DGRAM)
    u.bind(("127.0.0.1", 0))
    assert u.getsockname()[0] == "127.0.0.1"


def rebind_own_name():
    """binding what getsockname said, on a new socket (ftp clients do)"""
    with socket.create_connection((SERVER, ECHO)) as s, socket.socket(INET, STREAM) as t:
        t.bind((s.getsockname()[0], 0))
        t.connect((SERVER, ECHO))
        echo(t)


def bound_port():
    """a bound port stays; 0.0.0.0 and a particular address"""
    for ip in ("0.0.0.0", "127.0.0.1"):
        for kind in (STREAM, DGRAM):
            with socket.socket(INET, kind) as s:
                s.bind((ip, 0))
                port = s.getsockname()[1]
                s.connect((SERVER, ECHO))
                assert s.getsockname()[1] == port
                echo(s)


def udp_connected():
    """connected datagrams"""
    with socket.socket(INET, DGRAM) as s:
        s.connect((SERVER, ECHO))
        assert s.getpeername() == (SERVER, ECHO)
        echo(s)


def udp_mixed():
    """one socket to 127.0.0.1 and to the world; replies with 16-byte buffers are AF_INET"""
    here = socket.socket(INET, DGRAM)
    here.bind(("127.0.0.1", 0))
    s = socket.socket(INET, DGRAM)
    s.settimeout(10)
    for _ in range(3):
        s.sendto(b"far", (SERVER, ECHO))
        addr, length = ctypes.create_string_buffer(16), ctypes.c_uint(16)
        buf = ctypes.create_string_buffer(100)
        select.select([s], [], [], 10)
        n = libc.recvfrom(s.fileno(), buf, 100, 0, addr, ctypes.byref(length))
        assert (n, length.value, addr.raw) == (3, 16, sockaddr(SERVER, ECHO)), (n, length.value, addr.raw)
        s.sendto(b"near", here.getsockname())
        data, peer = here.recvfrom(10)
        assert data == b"near" and peer[0] == "127.0.0.1"
        here.sendto(b"back", peer)
        assert s.recvfrom(10) == (b"back", here.getsockname())


def udp_messages():
    """sendmsg, recvmsg, sendmmsg, recvmmsg with names"""
    s = socket.socket(INET, DGRAM)
    s.settimeout(10)
    s.sendmsg([b"a", b"b"], [], 0, (SERVER, ECHO))
    data, _, _, peer = s.recvmsg(10)
    assert (data, peer) == (b"ab", (SERVER, ECHO))

    class Iov(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]

    class Msg(ctypes.Structure):
        _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p),
                    ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                    ("flags", ctypes.c_int), ("pad", ctypes.c_int), ("len", ctypes.c_uint),
                    ("pad2", ctypes.c_int)]

    for fresh in (True, False):
        t = socket.socket(INET, DGRAM) if fresh else t
        msgs, keep = (Msg * 3)(), []
        for m in msgs:
            name = ctypes.create_string_buffer(sockaddr(SERVER, ECHO), 16)
            text = ctypes.create_string_buffer(b"xyz", 3)
            iov = Iov(ctypes.addressof(text), 3)
            keep += [name, text, iov]
            m.name, m.namelen, m.iov, m.iovlen = ctypes.addressof(name), 16, ctypes.addressof(iov), 1
        sent = 0
        while sent < 3:
            n = libc.sendmmsg(t.fileno(), ctypes.byref(msgs, sent * ctypes.sizeof(Msg)), 3 - sent, 0)
            assert n > 0, os.strerror(ctypes.get_errno())
            sent += n
        assert [m.len for m in msgs] == [3, 3, 3]
        for m in msgs:
            ctypes.memset(m.name, 0, 16)
        got = 0
        while got < 3:
            assert select.select([t], [], [], 10)[0]
            n = libc.recvmmsg(t.fileno(), ctypes.byref(msgs, got * ctypes.sizeof(Msg)), 3 - got, 0x40, None)
            assert n > 0, os.strerror(ctypes.get_errno())
            got += n
        for m in msgs:
            assert (m.namelen, ctypes.string_at(m.name, 16)) == (16, sockaddr(SERVER, ECHO))


def udp_reconnect():
    """a connected datagram socket is connected elsewhere, and dissolved"""
    with socket.socket(INET, DGRAM) as s, socket.socket(INET, DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        s.connect((SERVER, ECHO))
        echo(s)
        assert libc.connect(s.fileno(), bytes(16), 16) == 0           # AF_UNSPEC
        fails(errno.ENOTCONN, s.getpeername)
        s.connect(here.getsockname())
        s.send(b"x")
        assert here.recvfrom(10)[0] == b"x"


def fast_open():
    """sendto with MSG_FASTOPEN, blocking and not"""
    for blocking in (True, False):
        with socket.socket(INET, STREAM) as s:
            s.setblocking(blocking)
            try:
                assert s.sendto(b"hello", socket.MSG_FASTOPEN, (SERVER, ECHO)) == 5
            except BlockingIOError:
                assert not blocking and select.select([], [s], [], 10)[1]
                s.send(b"hello")
            s.settimeout(10)
            got = b""
            while len(got) < 5:
                got += s.recv(10)
            assert got == b"hello"


def loopback():
    """clients and servers in IPv4 on this host, TCP and UDP, and both families on one port"""
    with socket.socket(INET, STREAM) as srv:
        srv.bind(("127.0.0.1", 0))
        srv.listen()
        with socket.create_connection(srv.getsockname(), 10) as c:
            p, addr = srv.accept()
            assert addr == c.getsockname() and c.getpeername() == srv.getsockname()
            p.close()
    with socket.socket(INET, STREAM) as four, socket.socket(INET6, STREAM) as six:
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        four.bind(("0.0.0.0", 0))
        six.bind(("::", four.getsockname()[1]))
        four.listen()
        six.listen()
        for ip in ("127.0.0.1", "::1"):
            socket.create_connection((ip, four.getsockname()[1]), 10).close()
    with socket.socket(INET, STREAM) as s:
        fails(errno.ECONNREFUSED, s.connect, ("127.0.0.1", 1))


def multicast():
    """a member of a group stays an IPv4 socket"""
    s = socket.socket(INET, DGRAM)
    s.bind(("", 0))
    group = socket.inet_aton("239.1.2.3") + socket.inet_aton("127.0.0.1")
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    fails(errno.ENETUNREACH, s.sendto, b"x", (SERVER, ECHO))
    t = socket.socket(INET, DGRAM)
    t.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    t.sendto(b"m", ("239.1.2.3", s.getsockname()[1]))
    s.settimeout(10)
    assert s.recv(10) == b"m"


def exempt():
    """private, link-local and the like keep their errno"""
    for ip in ("10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.1.1", "192.0.0.1"):
        with socket.socket(INET, STREAM) as s:
            fails(errno.ENETUNREACH, s.connect, (ip, 80))
            assert s.getsockopt(socket.SOL_SOCKET, 39) == INET


def bad_pointers():
    """EFAULT and EINVAL as ever, also on sockets of ours, in every call"""
    ours = socket.create_connection((SERVER, ECHO))
    udp = socket.socket(INET, DGRAM)
    udp.sendto(b"x", (SERVER, ECHO))
    select.select([udp], [], [], 10)
    bad, good = ctypes.c_void_p(8), ctypes.create_string_buffer(128)

    def gives(wanted, r):
        e = ctypes.get_errno()
        assert r == -1 and e in wanted, (r, errno.errorcode.get(e))
    fault = (errno.EFAULT,)
    fresh = socket.socket(INET, STREAM)
    for fd in (fresh.fileno(), ours.fileno(), udp.fileno()):
        gives(fault + (errno.EISCONN,), libc.connect(fd, bad, 16))
        gives((errno.EINVAL, errno.EISCONN, errno.EFAULT), libc.connect(fd, good, -1))
        gives((errno.EINVAL, errno.EISCONN, errno.EAFNOSUPPORT), libc.connect(fd, sockaddr(SERVER, 7), 5))
        gives(fault, libc.getsockname(fd, good, bad))
        n = ctypes.c_int(16)
        gives(fault, libc.getsockname(fd, bad, ctypes.byref(n)))
        gives(fault, libc.getsockopt(fd, 1, 39, bad, ctypes.byref(n)))
        gives(fault, libc.setsockopt(fd, 0, 1, bad, 4))
        gives(fault + (errno.EINVAL,), libc.bind(fd, bad, 16))
    for call in (libc.getpeername, libc.getsockname):
        gives(fault, call(ours.fileno(), good, bad))
        gives(fault, call(ours.fileno(), bad, ctypes.byref(ctypes.c_int(16))))
    gives(fault, libc.sendto(udp.fileno(), b"x", 1, 0, bad, 16))
    gives(fault, libc.sendmsg(udp.fileno(), bad, 0))
    gives(fault, libc.recvmsg(udp.fileno(), bad, 0x40))
    gives(fault, libc.sendmmsg(udp.fileno(), bad, 1, 0))
    gives(fault, libc.recvmmsg(udp.fileno(), bad, 1, 0x40, None))
    gives(fault, libc.recvfrom(udp.fileno(), good, 10, 0x40, good, bad))
    for call in (lambda: libc.connect(-1, sockaddr(SERVER, 7), 16), lambda: libc.connect(999, sockaddr(SERVER, 7), 16)):
        gives((errno.EBADF,), call())
    gives((errno.ENOTSOCK,), libc.connect(0, sockaddr(SERVER, 7), 16))


def out_of_descriptors():
    """EMFILE in the swap: the real call's errno, and the descriptor is untouched"""
    s = socket.socket(INET, STREAM)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (s.fileno() + 1, hard))
    fails(errno.ENETUNREACH, s.connect, (SERVER, ECHO))
    assert s.getsockopt(socket.SOL_SOCKET, 39) == INET
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    s.connect((SERVER, ECHO))
    echo(s)


def threads():
    """many threads connect, send and look at names at once"""
    failures = []

    def work():
        try:
            for _ in range(10):
                with socket.create_connection((SERVER, ECHO), 20) as s:
                    assert s.getpeername() == (SERVER, ECHO)
                    echo(s)
        except Exception as error:   # pylint: disable=broad-except
            failures.append(error)
    workers = [threading.Thread(target=work) for _ in range(16)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not failures, failures


def forked():
    """a child sees the parent's connection as the parent does, and makes its own"""
    s = socket.create_connection((SERVER, ECHO))
    pid = os.fork()
    if pid == 0:
        ok = s.getpeername() == (SERVER, ECHO)
        with socket.create_connection((SERVER, ECHO)) as t:
            echo(t)
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
    echo(s)


def in_signal_handler():
    """connect in a signal handler"""
    done = []

    def handler(*_):
        with socket.create_connection((SERVER, ECHO), 10) as s:
            echo(s)
        done.append(1)
    signal.signal(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert done


def blocking_timeout():
    """SO_SNDTIMEO ends a connect that nobody answers with EINPROGRESS, in time"""
    s = socket.socket(INET, STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
    began = time.monotonic()
    try:
        s.connect(("198.51.99.99", 80))
    except OSError as error:
        assert error.errno in (errno.EINPROGRESS, errno.EALREADY, errno.EHOSTUNREACH, errno.ENETUNREACH), error
    assert time.monotonic() - began < 8


def silent():
    """nothing is printed"""
    code = "import socket; socket.create_connection(('203.0.113.80', 7)).close()"
    env = {k: v for k, v in os.environ.items() if k != "V4SHIM_VERBOSE"}
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env)
    assert (got.stdout, got.stderr) == (b"", b""), got


def many():
    """a thousand connects, 64 at a time"""
    for _ in range(16):
        socks = []
        for _ in range(64):
            s = socket.socket(INET, STREAM)
            s.setblocking(False)
            s.connect_ex((SERVER, ECHO))
            socks.append(s)
        for s in socks:
            assert select.select([], [s], [], 20)[1]
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()


CASES = {name: f for name, f in list(globals().items())
         if callable(f) and getattr(f, "__module__", "") == "__main__" and f.__doc__
         and name not in ("echo", "fails", "sockaddr")}

# What the supervisor is not for: datagrams without connect (sendto is not stopped), SO_DOMAIN, Fast Open.
LIBRARY_ONLY = {"tcp_names", "mapped_udp", "udp_mixed", "udp_messages", "fast_open", "bad_pointers",
                "out_of_descriptors", "fd_reuse", "rebind_own_name", "udp_reconnect"}

if __name__ == "__main__":
    CASES[sys.argv[1]]()

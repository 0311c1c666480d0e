"""Corner cases that need C, root, or another host than the IPv6-only one; used by tests/preload/run."""
import errno
import os
import re
import subprocess
from pathlib import Path

from labnet.clatd import Clatd

HERE = Path(__file__).resolve().parent
S, PY = "203.0.113.80", "/usr/bin/python3"

# On the IPv6-only host. What they do is told in src/corner.c.
IN_C = {"vfork": "a vfork child connects, also at a number taken from its parent",
        "malloc": "connect and sendto in a signal handler that interrupted malloc",
        "cancel": "pthread_cancel ends a swapped connect that waits",
        "timeout": "SO_SNDTIMEO ends one, with EINPROGRESS and in time",
        "interrupted": "so does a signal, with EINTR, and the connection goes on",
        "no_ipv6": "socket(AF_INET6) is forbidden: the errno of IPv4",
        "inherited": "options set before exec are carried",
        "received": "so are those of a socket received over a Unix socket",
        "duplicated": "and those set through a duplicate",
        "signals": "owner and signal of SIGIO are carried",
        "closed": "closed descriptors give EBADF in every call"}

# These hold under the supervisor as well. Not so: datagrams without connect; it answers EALREADY where
# SO_SNDTIMEO runs out; and a process that forbids itself IPv6 does not forbid it to the supervisor.
SUPERVISED = ("vfork", "cancel", "interrupted", "inherited", "received", "duplicated", "signals", "closed")

LOCAL_ECHO = """
import socket, threading
def tcp():
    srv = socket.create_server(("127.0.0.1", 7))
    while True:
        c = srv.accept()[0]
        c.sendall(c.recv(99))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 7))
threading.Thread(target=tcp).start()
print("ready", flush=True)
while True:
    udp.sendto(*udp.recvfrom(99))
"""


def build(bench):
    """corner, a library whose constructor comes before ours, and a program with an ifunc."""
    for name, more in (("corner", ()), ("early.so", ("-shared", "-fPIC", "-DEARLY")), ("corner-ifunc", ("-DIFUNC",))):
        subprocess.run(["gcc", "-O1", "-pthread", *more, "-o", bench.temp / name, HERE / "src/corner.c"], check=True)


def last(status, out):
    """The line that says why."""
    return (out.strip().splitlines() or [f"exit status {status}"])[-1]


def in_c(bench, tally):
    """The cases of src/corner.c."""
    # Swallows what it gets, so that a connect waits.
    bench.lab.nodes["srv"].run("nft", "add table inet v4shimtest; add chain inet v4shimtest in { type filter hook input"
                               " priority 0; }; add rule inet v4shimtest in tcp dport 4444 drop")
    for name, what in IN_C.items():
        for how in ("library", "supervisor")[:2 if name in SUPERVISED else 1]:
            if tally.wants(f"corner {name}"):
                status, out = bench.run(how, [bench.temp / "corner", name, S], timeout=60)
                tally.note(status == 0 and out == "ok\n", f"corner {name} [{how}]: {what}", last(status, out))
    for program in ("corner", "corner-ifunc"):
        env, _ = bench.env("library")
        status, out = bench.run("none", [bench.temp / program, "early", S], V4SHIM_PREFIX=env["V4SHIM_PREFIX"],
                                LD_PRELOAD=f"{env['LD_PRELOAD']}:{bench.temp}/early.so")
        tally.note(status == 0 and out == "ok\n", f"corner early, {program}: calls before our constructor go to the kernel",
                   last(status, out))


def gives(bench, tally, name, wanted, argv, node="slaac", how="library", **env):
    """A program prints an errno, 0 for success."""
    if tally.wants(f"corner {name}"):
        status, out = bench.run(how, argv, node=node, **env)
        tally.note(status == 0 and out.strip() == str(wanted), f"corner {name}", f"{status} {last(status, out)!r}")


def connect_ex(*where, after=""):
    """Python that connects and prints the errno."""
    return [PY, "-c", f"import socket;s=socket.socket();print(s.connect_ex({where!r}));{after}"]


def neighbours(bench, tally):
    """Hosts with some IPv4: NFS-like /30, neighbours that are down, IPv4 that leads nowhere."""
    family = "print(s.getsockopt(1,39),s.getsockname()[0])"
    if tally.wants("corner neighbour"):
        bench.lab.nodes["nas"].spawn(PY, "-c", LOCAL_ECHO.replace("127.0.0.1", "10.77.0.1"), log="nas-echo.log")
        wait = f"for i in $(seq 100); do (exec 3<>/dev/tcp/10.77.0.1/7) 2>&- && break; sleep 0.1; done; exec {PY} -c"
        status, out = bench.run("library", ["bash", "-c", f'{wait} "$0"', connect_ex("10.77.0.1", 7, after=family)[2]], node="lan")
        tally.note(out.split() == ["0", "2", "10.77.0.2"], "corner neighbour on a /30: plain IPv4", f"{status} {out!r}")
    gives(bench, tally, "neighbour's closed port", errno.ECONNREFUSED, connect_ex("10.77.0.1", 81), "lan")
    gives(bench, tally, "world from a host with a /30", 0, connect_ex(S, 7), "lan")
    # The kernel takes three seconds to give up on a neighbour; the answer then is EHOSTUNREACH from the network.
    gives(bench, tally, "neighbour that is down stays EHOSTUNREACH", errno.EHOSTUNREACH, connect_ex("198.51.100.77", 7), "dual")
    gives(bench, tally, "mode always passes a default route by", "0 10", [bench.temp / "corner", "family", S], "dual", V4SHIM_MODE="always")
    gives(bench, tally, "mode always spares the link", errno.EHOSTUNREACH, connect_ex("198.51.100.77", 7), "dual", V4SHIM_MODE="always")
    gives(bench, tally, "mode always spares this host", errno.ECONNREFUSED, connect_ex("127.0.0.1", 1), "dual", V4SHIM_MODE="always")


def without_ipv6(bench, tally):
    """IPv6 disabled by sysctl: the errno of IPv4."""
    off = "ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1; exec"
    gives(bench, tally, "IPv6 disabled by sysctl", errno.ENETUNREACH,
          ["unshare", "-n", "sh", "-c", f'{off} {PY} -c "$0"', connect_ex(S, 7)[2]])


def name_servers(bench, tally):
    """/etc/resolv.conf with nothing but IPv4: libc's resolver, and names that only exist in IPv4."""
    calls = {"getaddrinfo": ("print(s.getaddrinfo('v4only.test',80,s.AF_INET,s.SOCK_STREAM)[0][4][0])", S),
             "gethostbyname_r": ("print(*s.gethostbyname_ex('v4only.test')[2])", S),
             "gethostbyname": ("import ctypes as c;l=c.CDLL(None);l.gethostbyname.restype=c.c_void_p;print(l.gethostbyname(b'v4only.test') is not None)",
                               "True"),
             "in threads": ("import threading as t;r=[];x=[t.Thread(target=lambda:r.append(s.getaddrinfo('v4only.test',80)[0][4][0]))for _ in range(8)];"
                            "[y.start() for y in x];[y.join() for y in x];print(*set(r),len(r))", f"{S} 8"),
             "a name that does not exist": ("\ntry: s.getaddrinfo('none.test',80)\nexcept s.gaierror as e: print(e.errno==s.EAI_NONAME)", "True"),
             "getaddrinfo and connect": ("print(s.create_connection(('v4only.test',7),9).getpeername()[0])", S)}
    conf = bench.temp / "resolv.conf"
    conf.write_text("nameserver 203.0.113.53\nnameserver 192.168.7.7\n")
    mount = f'mount --bind {conf} /etc/resolv.conf; exec {PY} -c "$0"'
    for name, (code, wanted) in calls.items():
        gives(bench, tally, f"IPv4 name server: {name}", wanted, ["unshare", "-m", "sh", "-c", mount, "import socket as s;" + code])
    status, out = bench.run("none", ["unshare", "-m", "sh", "-c", mount, "import socket as s;" + calls["getaddrinfo"][0]])
    tally.note(status != 0 and "Temporary failure" in out, "corner IPv4 name server: fails without us", last(status, out))
    # The supervisor sees the connect that libc makes behind the library's back.
    _, front = bench.env("supervisor")
    status, out = bench.run("none", ["unshare", "-m", "sh", "-c", mount.replace("exec", 'exec "$@"'),
                                     "import socket as s;" + calls["getaddrinfo"][0], *front])
    tally.note(out.strip() == S, "corner IPv4 name server: getaddrinfo, supervised", last(status, out))


def setuid(bench, tally):
    """The loader leaves us out of setuid programs: they work, in IPv4."""
    program = bench.temp / "corner-setuid"
    program.write_bytes((bench.temp / "corner").read_bytes())
    program.chmod(0o4755)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for name, path, wanted in (("corner", bench.temp / "corner", 0), ("setuid", program, errno.ENETUNREACH)):
        status, out = bench.run("library", [*as_nobody, path, "errno", S, wanted])
        # The loader may say that it ignores the library.
        tally.note(status == 0 and out.endswith("ok\n"), f"corner {name} program of another user: errno {wanted}", last(status, out))


def state(bench, tally):
    """A live state that cannot be read is no state."""
    run = bench.temp / "run"
    run.mkdir(exist_ok=True)
    path = run / "prefix"
    for name, make in (("a directory", path.mkdir), ("a pipe", lambda: os.mkfifo(path)), ("a loop", lambda: path.symlink_to(path)),
                       ("forbidden", lambda: (path.write_text("2001:db8:bad::/96 source=ra expires=never used\n"), path.chmod(0))),
                       ("of a megabyte", lambda: path.write_text("#" * 1_000_000))):
        make()
        # RFC 7050 finds the prefix.
        status, out = bench.run("library", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *connect_ex(S, 7)],
                                V4SHIM_PREFIX="", timeout=20)
        tally.note(out.strip() == "0", f"corner state file {name}", f"{status} {out!r}")
        path.rmdir() if path.is_dir() else path.unlink()
    run.rmdir()


def system_calls(bench, how, server, node, log):
    """What strace sees of `corner calls` between its markers, without what differs from run to run."""
    env, _ = bench.env("library")
    preload = ["-E", f"LD_PRELOAD={env['LD_PRELOAD']}", "-E", f"V4SHIM_PREFIX={env['V4SHIM_PREFIX']}"] if how == "library" else []
    status, out = bench.run("none", ["strace", "-o", log, *preload, bench.temp / "corner", "calls", server], node=node)
    if status or out != "ok\n":
        return [last(status, out)]
    lines = log.read_text().splitlines()
    begin, end = (i for i, line in enumerate(lines) if line.startswith("umask"))
    return [re.sub(r"htons\(\d+\)|0x[0-9a-f]+|tv_n?sec=\d+|<.*>", "", line) for line in lines[begin:end]]


def untouched(bench, tally):
    """Where there is IPv4, native or by a CLAT, or on this host, the library changes no system call."""
    def compare(what, server, node):
        seen = [system_calls(bench, how, server, node, bench.temp / f"calls-{how}") for how in ("none", "library")]
        differ = [f"{a}  with: {b}" for a, b in zip(*seen) if a != b]
        tally.note(seen[0] == seen[1] and len(seen[0]) > 45, f"corner system calls, {what}: the same, one by one ({len(seen[0])})",
                   (differ or [f"{len(seen[0])} and {len(seen[1])} calls: {seen[0][-1]}"])[0])
    compare("native IPv4", S, "dual")
    node = bench.lab.nodes["slaac"]
    node.spawn(PY, "-c", LOCAL_ECHO, log="local-echo.log")
    bench.run("none", ["bash", "-c", "for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/7) 2>&- && break; sleep 0.1; done"])
    compare("127.0.0.1 on an IPv6-only host", "127.0.0.1", "slaac")
    with Clatd(node):
        compare("a running CLAT", S, "slaac")


def run(bench, tally):
    """All of them."""
    build(bench)
    for suite in (in_c, neighbours, without_ipv6, name_servers, setuid, state, untouched):
        suite(bench, tally)

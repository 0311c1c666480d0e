"""Tests of the supervisor as a parent: signals, terminals, exit status, being killed, other users, many connects.

`suite()` is called by tests/preload/run; the functions below `# -- inside` run in a lab host (`supervised.py NAME V4SHIM...`).
"""
import ctypes
import errno
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

PY, S, ECHO = "/usr/bin/python3", "203.0.113.80", 7
PREFIX = "2001:db8:64::/96"
CONNECT = f"import socket;s=socket.socket();print('errno',s.connect_ex(('{S}',{ECHO})),flush=True)"
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def suite(bench, tally):
    """Everything here, in the host `slaac`."""
    own = bench.temp / "bin"                  # where an unprivileged user may read it
    own.mkdir()
    for name in ("v4shim", "libpreload.so"):
        shutil.copy(bench.bin / name, own)
    run = [own / "v4shim", "run", "--supervise", "--prefix", PREFIX, "--", "env", "-u", "LD_PRELOAD"]
    for name, doc in INSIDE.items():
        label = f"supervised {name}"
        if tally.wants(label):
            status, out = bench.run("none", [PY, __file__, name, *run], timeout=150)
            tally.note(status == 0, f"{label}: {doc}", (out.strip().splitlines() or [f"exit status {status}"])[-1])
    connect = [PY, "-c", CONNECT]
    for name, argv, pattern in [
            ("as nobody", [*NOBODY, *run, *connect], r"^errno 0$"),
            ("as nobody, library", [*NOBODY, own / "v4shim", "run", "--prefix", PREFIX, "--", *connect], r"^errno 0$"),
            # Containers' own filters refuse that call to processes without CAP_SYS_PTRACE.
            ("listener out of reach", [PY, __file__, "without_pidfd_getfd", *run, *connect],
             r"cannot take over.*without supervision\nerrno 101$"),
            ("nested", [*run, *run, *connect], r"another supervisor.*\nerrno 0$")]:
        if tally.wants(f"supervised {name}"):
            status, out = bench.run("none", argv)
            tally.note(status == 0 and bool(re.search(pattern, out.strip())), f"supervised {name}", f"{status} {out!r}")


# -- inside a lab host ----------------------------------------------------------------------


def start(argv, **kw):
    """A command whose output is read."""
    return subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **kw)


def until(condition, what, timeout=30):
    """Poll."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)
    return value


def state(pid):
    """The letter in /proc, or Z for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def signals(run):
    """INT, TERM, HUP, QUIT, USR1, USR2, ALRM, WINCH and CONT sent to us reach the command, once"""
    code = ("import signal,time\nnames='INT TERM HUP QUIT USR1 USR2 ALRM WINCH CONT'.split()\n"
            "for n in names: signal.signal(getattr(signal,'SIG'+n),lambda s,_: print(signal.Signals(s).name[3:],flush=True))\n"
            "signal.signal(signal.SIGTSTP,lambda *_: exit())\nprint('ready',flush=True)\nwhile 1: time.sleep(1)")
    with start([*run, PY, "-c", code]) as proc:
        assert proc.stdout.readline() == "ready\n"
        for name in "INT TERM HUP QUIT USR1 USR2 ALRM WINCH CONT".split():
            proc.send_signal(getattr(signal, "SIG" + name))
            got = proc.stdout.readline().strip()
            assert got == name, f"{got} for {name}"
        assert not select.select([proc.stdout], [], [], 0.3)[0], "more signals than sent"
        proc.send_signal(signal.SIGTSTP)                  # which the command takes for its end
        assert proc.wait(20) == 0


def exit_status(run):
    """the command's exit status, and its death by a signal, are ours"""
    for code in (0, 1, 3, 42, 255):
        assert subprocess.run([*run, "sh", "-c", f"exit {code}"], check=False).returncode == code
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGINT, signal.SIGPIPE):
        got = subprocess.run([*run, PY, "-c", f"import os,signal;signal.signal({int(number)},signal.SIG_DFL) if {int(number)}!=9 "
                              f"else 0;os.kill(os.getpid(),{int(number)})"], check=False).returncode
        assert got == -number, f"{got} for {number}"


def without_pidfd_getfd(argv):
    """Runs a command for which pidfd_getfd fails with EPERM."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = b"".join(struct.pack("=HBBI", *op) for op in (
        (0x20, 0, 0, 0), (0x15, 0, 1, 438), (0x06, 0, 0, 0x00050000 | errno.EPERM), (0x06, 0, 0, 0x7fff0000)))
    text = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(text))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, fprog, 0, 0) == 0
    os.execv(argv[0], argv)


def killed_supervisor(run):
    """kill -9 of the supervisor: the command goes on, its connects fail at once, nothing hangs"""
    code = (f"import socket,sys,time\ndef c():\n s=socket.socket(); r=s.connect_ex(('{S}',{ECHO})); s.close(); return r\n"
            "print(c(),flush=True); sys.stdin.readline(); print(c(),flush=True)")
    with subprocess.Popen([*run, PY, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proc:
        assert proc.stdout.readline() == "0\n"
        proc.kill()
        proc.wait()
        proc.stdin.write("\n")
        proc.stdin.flush()
        assert select.select([proc.stdout], [], [], 20)[0], "the command hangs"
        assert proc.stdout.readline() == f"{errno.ENOSYS}\n"


def killed_while_connecting(run):
    """kill -9 of the supervisor among 64 threads that connect: all of them end"""
    code = (f"import socket,threading\ndef w():\n while 1:\n  s=socket.socket(); r=s.connect_ex(('{S}',{ECHO})); s.close()\n"
            f"  if r=={errno.ENOSYS}: return\n"
            "t=[threading.Thread(target=w) for _ in range(64)]\nfor x in t: x.start()\nprint('go',flush=True)\n"
            "for x in t: x.join()\nprint('end',flush=True)")
    with start([*run, PY, "-c", code]) as proc:
        assert proc.stdout.readline() == "go\n"
        time.sleep(0.5)
        proc.kill()
        assert select.select([proc.stdout], [], [], 30)[0], "a thread hangs"
        assert proc.stdout.readline() == "end\n"


def killed_command(run):
    """kill -9 of the command while it connects to a host that does not answer: we end with it"""
    code = "import socket,os;print(os.getpid(),flush=True);socket.socket().connect(('203.0.113.99',80))"
    with start([*run, PY, "-c", code]) as proc:
        pid = int(proc.stdout.readline())
        until(lambda: state(pid) == "S", "waiting for connect")
        os.kill(pid, signal.SIGKILL)
        assert proc.wait(20) == -9


def background(run):
    """what the command leaves in the background is served on, and the supervisor goes with it"""
    code = (f"import socket,sys\nsys.stdin.readline()\ns=socket.socket(); print(s.connect_ex(('{S}',{ECHO})),flush=True)\n"
            "print(open('/proc/self/status').read().split('NSpid')[0].split('PPid:')[1].split()[0], flush=True)")
    ours, theirs = os.pipe()
    with start([*run, "sh", "-c", "exec 0<&3; \"$@\" & exit 5", "sh", PY, "-c", code], preexec_fn=lambda: os.dup2(ours, 3),
               pass_fds=[3]) as proc:
        assert proc.wait(20) == 5, "the exit status"
        os.write(theirs, b"\n")
        assert select.select([proc.stdout], [], [], 20)[0], "hangs"
        assert proc.stdout.readline() == "0\n"
        proc.stdout.readline()
        until(lambda: not left_behind(run[0]), "the end of the supervisor")


def left_behind(program):
    """Processes that run the program in this network namespace."""
    here, found = os.stat("/proc/self/ns/net").st_ino, []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "exe") == str(program) and os.stat(entry / "ns/net").st_ino == here:
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def terminal(run):
    """the command has the terminal: its size, Ctrl-C, and Ctrl-Z with fg as in a shell"""
    pid, fd = pty.fork()
    if pid == 0:
        os._exit(job(run))
    termios.tcsetwinsize(fd, (33, 77))
    seen = b""

    def saw(what):
        nonlocal seen
        end = time.monotonic() + 30
        while what not in seen:
            assert time.monotonic() < end, f"no {what} in {seen}"
            if select.select([fd], [], [], 1)[0]:
                try:
                    seen += os.read(fd, 4096)
                except OSError:
                    raise AssertionError(f"no {what} in {seen}") from None
    try:
        saw(b"size 33 77")
        os.write(fd, b"\x1a")
        saw(b"job stopped")
        saw(b"in foreground again")
        os.write(fd, b"\x03")
        saw(b"interrupted")
        saw(b"job ended -2")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def job(run):
    """The part of a shell in terminal(): one foreground job, continued once when it stops."""
    code = ("import os,signal,time\ndef c(*_): print('in foreground again',flush=True)\n"
            "signal.signal(signal.SIGCONT,c)\ntime.sleep(0.3)\nprint('size',*reversed(os.get_terminal_size()),flush=True)\n"
            "try:\n while 1: time.sleep(1)\nexcept KeyboardInterrupt:\n print('interrupted',flush=True)\n"
            " signal.signal(2,signal.SIG_DFL); os.kill(os.getpid(),2)")
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(str(run[0]), [str(a) for a in [*run, PY, "-c", code]])
    _, status = os.waitpid(child, os.WUNTRACED)
    print("job stopped" if os.WIFSTOPPED(status) else f"not stopped but {status}", flush=True)
    # As a shell would see it: both are stopped before any is continued.
    os.killpg(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    print("job ended", os.waitstatus_to_exitcode(status), flush=True)
    time.sleep(5)
    return 0


def ten_thousand(run):
    """10,000 connects, 64 at a time"""
    code = f"""
import errno, select, socket, struct
left, live, poll = 10000, {{}}, select.epoll()
while left or live:
    while left and len(live) < 64:
        s = socket.socket()
        s.setblocking(False)
        poll.register(s, select.EPOLLOUT)           # before connect: repaired each time
        r = s.connect_ex(('{S}', {ECHO}))
        assert r == errno.EINPROGRESS, errno.errorcode.get(r)
        live[s.fileno()] = s
        left -= 1
    events = poll.poll(30)
    assert events, 'a connect never ended'
    for fd, _ in events:
        s = live[fd]
        e = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert e == 0, errno.errorcode.get(e)
        if s.connect_ex(('{S}', {ECHO})) in (0, errno.EISCONN):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            live.pop(fd).close()
print('all connected')
"""
    done = subprocess.run([*run, PY, "-c", code], capture_output=True, text=True, timeout=140, check=False)
    assert done.stdout == "all connected\n", (done.stdout + done.stderr)[-300:]


def mixed_tree(run):
    """a tree of processes: shell, Python, a fork of it, each connects and sees IPv4"""
    code = (f"import os,socket\ndef c():\n s=socket.create_connection(('{S}',{ECHO}),9)\n assert s.getpeername()==('{S}',{ECHO})\n"
            "c()\nif os.fork()==0:\n c(); print('child',flush=True); os._exit(0)\nos.wait(); print('parent',flush=True)")
    done = subprocess.run([*run, "bash", "-c", f"exec 3<>/dev/tcp/{S}/{ECHO} && echo shell && \"$@\"", "bash", PY, "-c", code],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["shell", "child", "parent"], done.stdout + done.stderr


def no_descriptors_left(run):
    """the supervisor's own descriptors do not grow with the connects it served"""
    code = ("import socket,sys\n"
            f"def c():\n for _ in range(300): socket.create_connection(('{S}',{ECHO}),9).close()\n"
            "c(); print('one',flush=True); sys.stdin.readline(); c(); print('two',flush=True); sys.stdin.readline()")
    with subprocess.Popen([*run, PY, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proc:
        counts = []
        for word in ("one", "two"):
            assert proc.stdout.readline().strip() == word
            counts.append(len(os.listdir(f"/proc/{proc.pid}/fd")))
            proc.stdin.write("\n")
            proc.stdin.flush()
        assert counts[0] == counts[1], counts


INSIDE = {f.__name__: f.__doc__ for f in (signals, exit_status, killed_supervisor, killed_while_connecting, killed_command,
                                          background, terminal, ten_thousand, mixed_tree, no_descriptors_left)}

if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2:])

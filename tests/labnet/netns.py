"""Namespaces and processes that can be found again and removed, whatever happened.

A lab has an id. Its namespaces are called v4shim-ID-NAME; its files live in BASE/ID.
Every process is recorded with its pid *and* its kernel start time, so that a recycled
pid is never hit. A lab whose owner process is gone is stale and may be removed by
anyone who comes later (`tests/lab down --stale`, or the start of the next lab).
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

BASE = Path(os.environ.get("V4SHIM_LAB_DIR", "/tmp/v4shim-lab"))   # short: sockets live below it
PREFIX = "v4shim-"
NETNS_DIR = Path("/run/netns")


class LabError(Exception):
    """Something the lab needs is missing or did not happen; the message says what to do."""


def need_root():
    """Network namespaces are root's business here."""
    if os.geteuid() != 0:
        sys.exit(f"{Path(sys.argv[0]).name}: must run as root (network namespaces, packages); try: sudo {sys.argv[0]}")


def start_time(pid):
    """Kernel start time of a process in clock ticks, or None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else int(fields[19])


def run(argv, check=True, timeout=60, shown=None, **kw):
    """Run a command and return the CompletedProcess with its text output; `shown` names it in errors."""
    argv = [str(a) for a in argv]
    kw.setdefault("stdout", subprocess.PIPE)
    kw.setdefault("stderr", subprocess.PIPE)
    kw.setdefault("stdin", subprocess.DEVNULL if "input" not in kw else None)
    if "input" in kw:
        kw.pop("stdin")
    done = subprocess.run(argv, timeout=timeout, text=True, **kw)
    if check and done.returncode != 0:
        raise LabError(f"{shown or ' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout or '').strip()}")
    return done


def wait_for(condition, what, timeout=20.0, interval=0.05):
    """Poll until condition() is true and return its value; LabError names what never came."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"timed out after {timeout:g} s waiting for {what}")
        time.sleep(interval)


# Runs inside `ip netns exec`, whose mounts are private: nothing to unmount afterwards.
# $1 is the resolv.conf to show ("" leaves it), $2 a directory to hide ("" for none).
_ENTER = '[ -z "$1" ] || mount --bind "$1" /etc/resolv.conf; [ -z "$2" ] || mount -t tmpfs tmpfs "$2"; shift 2; exec "$@"'


class Node:
    """One namespace of a lab."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.netns = f"{PREFIX}{lab.id}-{name}"
        self.resolv = None

    def __str__(self):
        return self.name

    def argv(self, argv, hide=None):
        """The command line that runs argv in this namespace."""
        enter = ["sh", "-c", _ENTER, "enter", str(self.resolv or ""), str(hide or "")]
        return ["ip", "netns", "exec", self.netns, *enter, *map(str, argv)]

    def run(self, *argv, check=True, timeout=60, hide=None, **kw):
        """Run a command here and wait for it."""
        shown = f"{' '.join(map(str, argv))} (in {self.name})"
        return run(self.argv(argv, hide), check=check, timeout=timeout, shown=shown, **kw)

    def out(self, *argv, **kw):
        """Run a command here and return what it printed."""
        return self.run(*argv, **kw).stdout

    def ip(self, *argv, check=True):
        """`ip -n THIS ...`"""
        return run(["ip", "-n", self.netns, *argv], check=check).stdout

    def ip_json(self, *argv):
        """`ip -j -n THIS ...`, parsed."""
        return json.loads(run(["ip", "-j", "-n", self.netns, *argv]).stdout or "[]")

    def sysctl(self, **values):
        """Set sysctls; a double underscore stands for a dot."""
        self.run("sysctl", "-qw", *(f"{k.replace('__', '.')}={v}" for k, v in values.items()))

    def spawn(self, *argv, log, hide=None, env=None, **kw):
        """Start a background process here; it is recorded and ends with the lab."""
        return self.lab.spawn(self.argv(argv, hide), log=log, env=env, **kw)


class Store:
    """A lab's directory: settings, process records, logs."""

    def __init__(self, lab_id):
        if not re.fullmatch(r"[a-z0-9]{1,12}", lab_id):
            raise LabError(f"lab id {lab_id!r}: must match [a-z0-9]{{1,12}}")
        self.id = lab_id
        self.dir = BASE / lab_id
        self.pids = self.dir / "pids"
        self.meta = self.dir / "lab.json"

    def create(self, settings, detached):
        """Claim the id. The owner is this process, or nobody (detached)."""
        self.dir.mkdir(parents=True)
        owner = None if detached else [os.getpid(), start_time(os.getpid())]
        self.meta.write_text(json.dumps({"owner": owner, "settings": settings}))
        self.pids.touch()

    def load(self):
        """What create() wrote, or {} if the lab died before that."""
        try:
            return json.loads(self.meta.read_text())
        except (OSError, ValueError):
            return {}

    def is_stale(self):
        """True if the process that owned this lab is gone."""
        owner = self.load().get("owner", [0, -1])
        return owner is not None and start_time(owner[0]) != owner[1]

    def remember(self, pid):
        """Record a background process."""
        with self.pids.open("a") as file:
            file.write(f"{pid} {start_time(pid)}\n")

    def living(self):
        """Pids of recorded processes that still run, and of any left inside our namespaces."""
        found = set()
        if self.pids.exists():
            for line in self.pids.read_text().splitlines():
                pid, _, began = line.partition(" ")
                if began not in ("", "None") and start_time(int(pid)) == int(began):
                    found.add(int(pid))
        for name in self.namespaces():
            inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout
            found.update(int(p) for p in inside.split())
        found.discard(os.getpid())
        return found

    def namespaces(self):
        """Names of this lab's namespaces."""
        if not NETNS_DIR.is_dir():
            return []
        return sorted(p.name for p in NETNS_DIR.iterdir() if p.name.startswith(f"{PREFIX}{self.id}-"))

    def remove(self, keep_logs=False):
        """End processes, delete namespaces, remove files. Never raises for what is gone already."""
        for sig, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            for pid in self.living():
                try:
                    os.kill(pid, sig)
                except ProcessLookupError:
                    pass
            end = time.monotonic() + patience
            while self.living() and time.monotonic() < end:
                reap()
                time.sleep(0.03)
        for name in self.namespaces():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        if not self.dir.exists():
            return
        if keep_logs:
            for entry in self.dir.iterdir():
                if entry.suffix not in (".log", ".conf", ".pcap"):
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


def reap():
    """Collect finished children so that they do not look alive."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def all_stores():
    """Every lab there is a trace of on this machine."""
    ids = {p.name for p in BASE.iterdir() if p.is_dir()} if BASE.is_dir() else set()
    if NETNS_DIR.is_dir():
        ids |= {p.name.split("-")[1] for p in NETNS_DIR.iterdir()
                if p.name.startswith(PREFIX) and p.name.count("-") >= 2}
    return [Store(i) for i in sorted(ids) if re.fullmatch(r"[a-z0-9]{1,12}", i)]


def remove_stale(say=lambda text: None):
    """Remove what labs that were killed left behind. Kept logs without namespaces are left alone."""
    for store in all_stores():
        if store.is_stale() and (store.namespaces() or store.living()):
            say(f"removing lab {store.id}, whose owner is gone")
            store.remove()


def unwind_on_signals():
    """Let the first Ctrl-C, SIGTERM or SIGHUP unwind the `with` blocks; further ones do not interrupt the clean-up."""
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    def leave(number, _frame):
        for each in caught:
            signal.signal(each, lambda *_: None)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)
    for each in caught:
        signal.signal(each, leave)

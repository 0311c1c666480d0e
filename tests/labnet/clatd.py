"""The programs under test: where they are, and one clatd on one lab host."""
import json
import os
import signal
import subprocess
from pathlib import Path

from .netns import LabError, start_time, wait_for

REPO = Path(__file__).resolve().parents[2]


def bin_dir():
    """Where the built or installed programs are: V4SHIM_BIN_DIR, else cargo's release directory."""
    if os.environ.get("V4SHIM_BIN_DIR"):
        return Path(os.environ["V4SHIM_BIN_DIR"]).resolve()
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target").resolve() / "release"


def program(name):
    """Path of a built program; LabError says how to get it."""
    path = bin_dir() / name
    if not path.exists():
        raise LabError(f"{path} is not there: cargo build --release, or set V4SHIM_BIN_DIR")
    return path


class Clatd:
    """A clatd in the foreground on a host of the lab, with a run directory of its own.

    sets      `section.key=value` strings, passed with --set
    config    text of its configuration file (default: empty, so that the machine's does not count)
    hide      a directory that it finds empty (e.g. /dev/net)
    datapath  auto, bpf, tun; default from V4SHIM_DATAPATH, else tun; None: not set
    wrap      a command that runs it
    V4SHIM_TEST_SETS in the environment adds more `section.key=value`, to try the suite with other settings.
    """

    serial = 0

    def __init__(self, node, *sets, config="", hide=None, datapath="", extra=(), env=None,
                 wrap=()):
        self.node, self.lab = node, node.lab
        self.run_dir = node.lab.dir / f"run-{node.name}"
        self.run_dir.mkdir(exist_ok=True)
        self.config = node.lab.dir / f"v4shim-{node.name}.toml"
        self.config.write_text(config)
        self.sets = [*sets, *os.environ.get("V4SHIM_TEST_SETS", "").split()]
        if datapath == "":
            datapath = os.environ.get("V4SHIM_DATAPATH", "tun")
        if datapath and not any(s.startswith("clat.datapath=") for s in sets) and "datapath" not in config:
            self.sets.append(f"clat.datapath={datapath}")
        self.hide, self.extra, self.wrap = hide, list(extra), list(wrap)
        self.env = {"V4SHIM_RUN_DIR": str(self.run_dir), **(env or {})}
        Clatd.serial += 1
        self.log = f"clatd-{node.name}-{Clatd.serial}.log"
        self.proc = None
        self.began = None

    def argv(self, *more):
        """The command line."""
        argv = [*self.wrap, program("clatd"), "--config", self.config]
        for item in self.sets:
            argv += ["--set", item]
        return [*argv, *self.extra, *more]

    def start(self):
        """Start it and return at once."""
        self.proc = self.node.spawn(*self.argv(), log=self.log, hide=self.hide, env=self.env)
        self.began = start_time(self.proc.pid)
        return self

    def once(self, *more, timeout=30):
        """Run it to its end (bad configuration, --cleanup); returns the CompletedProcess."""
        return self.node.run(*self.argv(*more), check=False, timeout=timeout, hide=self.hide,
                             env={**os.environ, **self.env})

    def front(self, *argv, check=False):
        """The v4shim command against this daemon."""
        return self.node.run(program("v4shim"), *argv, check=check, env={**os.environ, **self.env})

    def status(self):
        """`v4shim status --json`, or None while nobody answers."""
        try:
            status = json.loads(self.front("status", "--json").stdout)
        except ValueError:
            return None
        # Without a daemon the command may answer from files: only a live state counts here.
        return status if isinstance(status, dict) and status.get("state") else None

    def wait_state(self, *states, timeout=30):
        """Until its state is one of `states`; returns the status."""
        last = {}
        def reached():
            if self.proc and self.proc.poll() is not None:
                raise LabError(f"clatd ended with exit status {self.proc.returncode}\n{self.tail()}")
            last["status"] = self.status()
            return last["status"] and last["status"]["state"] in states and last["status"]
        try:
            return wait_for(reached, f"clatd to be {' or '.join(states)}", timeout, 0.1)
        except LabError as error:
            raise LabError(f"{error}; its last status: {json.dumps(last.get('status'))}\n{self.tail()}") from None

    def up(self, timeout=30):
        """Start it and wait until it is active."""
        self.start()
        self.wait_state("active", timeout=timeout)
        return self

    def wait_exit(self, timeout=15):
        """Until it has ended; returns its exit status."""
        try:
            return self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"clatd did not end within {timeout} s\n{self.tail()}") from None

    def stop(self, sig=signal.SIGTERM):
        """End it cleanly; its exit status."""
        if self.proc is None:
            return None
        if self.proc.poll() is None and start_time(self.proc.pid) == self.began:
            self.proc.send_signal(sig)
        return self.wait_exit()

    def end(self):
        """Make sure that it does not run and that nothing is left; for clean-up after a failure."""
        if self.proc is None or self.proc.poll() is not None:
            return
        try:
            self.stop()
        except LabError:
            self.kill9()
            self.once("--cleanup")

    def kill9(self):
        """End it without giving it a chance to clean up."""
        self.proc.kill()
        return self.wait_exit()

    def tail(self, lines=25):
        """The end of its log."""
        return self.lab.log_tail(self.log, lines)

    def __enter__(self):
        try:
            return self.up() if self.proc is None else self
        except BaseException:
            self.end()
            raise

    def __exit__(self, *_exc):
        if self.proc is not None and self.proc.poll() is None:
            self.stop()

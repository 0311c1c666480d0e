"""Runs tests/system: discovery, progress, a lab per kind of network, counts.

A test is a method of a Case; its docstring says what it proves. A class marked
@per_datapath runs once for each of DATAPATHS (V4SHIM_DATAPATHS="tun bpf" overrides).
Labs are built on demand and shared by the classes that ask for the same settings.
"""
import argparse
import fnmatch
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import unittest
from pathlib import Path

from . import netns
from .clatd import Clatd
from .netns import BASE, LabError
from .topology import Lab

SYSTEM = Path(__file__).resolve().parents[1] / "system"
DATAPATHS = os.environ.get("V4SHIM_DATAPATHS", "tun bpf").replace(",", " ").split()
MODE = os.environ.get("V4SHIM_TEST_MODE", "normal")       # quick | normal | full


class Pool:
    """The labs that are up. At most two, the plain one among them."""

    def __init__(self):
        self.labs = {}

    def get(self, **settings):
        """A lab with these settings, used before or new."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.labs:
            for other in [k for k in self.labs if k != "{}"]:
                self.labs.pop(other).down()
            self.labs[key] = Lab(say=print, **settings).up()
        return self.labs[key]

    def discard(self, lab):
        """Take a lab down that a test has spoilt; its logs were copied by then."""
        self.labs = {k: v for k, v in self.labs.items() if v is not lab}
        lab.down()

    def close(self):
        """Take all down."""
        while self.labs:
            self.labs.popitem()[1].down()


POOL = Pool()


class Case(unittest.TestCase):
    """Base of all system tests."""

    timeout = 120            # seconds for one test; a machine may be busy
    settings = {}            # of the lab
    datapath = ""            # set by @per_datapath
    maxDiff = None
    daemons = []             # started by tests of any class

    @classmethod
    def setUpClass(cls):
        cls.lab = POOL.get(**cls.settings)

    @classmethod
    def clatd(cls, node, *sets, **kw):
        """A Clatd with this class's datapath."""
        kw.setdefault("datapath", cls.datapath or DATAPATHS[0])
        daemon = Clatd(node, *sets, **kw)
        cls.daemons.append(daemon)
        return daemon

    def run(self, result=None):
        """A daemon that a failed test left running must not spoil the next one."""
        before = len(self.daemons)
        try:
            return super().run(result)
        finally:
            for daemon in self.daemons[before:]:
                daemon.end()
            del self.daemons[before:]

    def eventually(self, condition, what, timeout=20):
        """Poll for a condition; failing names it."""
        try:
            return netns.wait_for(condition, what, timeout, 0.1)
        except LabError as error:
            self.fail(str(error))

    def talk(self, node, script, *args):
        """A Python script in a node, to talk with; it ends with the test."""
        proc = subprocess.Popen(node.argv([sys.executable, "-c", script, *map(str, args)]), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        def end():
            proc.kill()
            proc.wait(10)
            proc.stdin.close()
            proc.stdout.close()
        self.addCleanup(end)
        return proc


class Active(Case):
    """A class whose tests share one running clatd on `host`."""

    host = "slaac"
    sets = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node = cls.lab.nodes[cls.host]
        cls.daemon = cls.clatd(cls.node, *cls.sets)
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.up()


def per_datapath(cls):
    """Replace a test class by one per datapath."""
    module = sys.modules[cls.__module__]
    for datapath in DATAPATHS:
        name = f"{cls.__name__}_{datapath}"
        setattr(module, name, type(name, (cls,), {"datapath": datapath, "__module__": cls.__module__,
                                                  "__doc__": cls.__doc__}))
    return None


def full_only(test):
    """Long tests: only with tests/run --full."""
    return unittest.skipUnless(MODE == "full", "only with --full")(test)


def need_kernel(condition, what):
    """Skip where this machine's kernel cannot do it, and say what is missing."""
    return unittest.skipUnless(condition, f"this kernel lacks {what}")


class Timeout(Exception):
    """A test took longer than its limit."""


class Result(unittest.TestResult):
    """Prints a line per test; keeps logs of failures."""

    def __init__(self, total):
        super().__init__()
        self.total, self.number, self.began = total, 0, 0.0
        self.good, self.bad = set(), set()

    def _name(self, test):
        name = test.id() if not isinstance(test, unittest.suite._ErrorHolder) else test.description  # pylint: disable=protected-access
        return name.removeprefix("test_")

    def _say(self, word, test, reason=""):
        doc = (test.shortDescription() or "") if hasattr(test, "shortDescription") else ""
        took = time.monotonic() - self.began if self.began else 0.0
        print(f"[{self.number}/{self.total}] {word:4} {took:5.1f}s  {self._name(test)}: {doc}"
              + (f"  ({reason})" if reason else ""), flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.number += 1
        self.began = time.monotonic()
        def late(*_):
            raise Timeout(f"took longer than {test.timeout} s")
        signal.signal(signal.SIGALRM, late)
        signal.alarm(test.timeout)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def addSuccess(self, test):
        self.good.add(test.id())
        self._say("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say("skip", test, reason)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._failed(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._failed(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            super().addSubTest(test, subtest, err)
            self._failed(subtest, err)

    def _failed(self, test, err):
        signal.alarm(0)
        # A test counts once, however many of its subtests fail; so does a class that cannot be set up.
        self.bad.add(getattr(test, "test_case", test).id())
        self._say("FAIL", test)
        kind, value, trace = err
        frames = [f for f in traceback.extract_tb(trace) if "/unittest/" not in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        for frame in frames:
            if Path(frame.filename).name.startswith("test_"):
                where = f"{Path(frame.filename).name}:{frame.lineno}: {frame.line}"
        print("    " + f"{where}\n{kind.__name__}: {value}".replace("\n", "\n    "), flush=True)
        for lab in POOL.labs.values():
            kept = BASE / f"failed{os.getpid()}" / self._name(test).replace("/", "_").replace(" ", "_")[:100]
            kept.mkdir(parents=True, exist_ok=True)
            for file in [*lab.dir.glob("*.log"), *lab.dir.glob("*.toml"), *lab.dir.glob("*.pcap")]:
                shutil.copy2(file, kept)
            print(f"    logs: {kept}", flush=True)


def load(patterns):
    """Test cases of tests/system that match any of the patterns (or all)."""
    sys.path.insert(0, str(SYSTEM))
    classes = []
    for file in sorted(SYSTEM.glob("test_*.py")):
        module = importlib.import_module(file.stem)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Case) and value.__module__ == file.stem:
                classes.append(value)
    # Classes that share a lab run one after the other.
    classes.sort(key=lambda c: json.dumps(c.settings, sort_keys=True, default=str))
    suites = []
    for cls in classes:
        tests = [t for t in unittest.defaultTestLoader.loadTestsFromTestCase(cls)
                 if not patterns or any(fnmatch.fnmatch(t.id(), p if "*" in p else f"*{p}*") for p in patterns)]
        if tests:
            suites.append(unittest.TestSuite(tests))
    return suites


def main():
    """Run; the exit status is 0 if nothing failed. --summary gets the counts as JSON."""
    parser = argparse.ArgumentParser(prog="python3 -m labnet", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--list", action="store_true", help="name the tests and exit")
    parser.add_argument("--summary", metavar="FILE")
    parser.add_argument("--keep", action="store_true", help="stop at the first failure and leave its lab up")
    args = parser.parse_args()
    suites = load(args.only)
    if args.list:
        for suite in suites:
            for test in suite:
                print(f"{test.id().removeprefix('test_')}: {test.shortDescription() or ''}")
        return 0
    netns.need_root()
    netns.unwind_on_signals()
    netns.remove_stale(print)
    result = Result(sum(s.countTestCases() for s in suites))
    result.failfast = args.keep
    try:
        for suite in suites:
            unittest.TestSuite([suite]).run(result)
            if result.shouldStop:
                break
            for lab in list(POOL.labs.values()):
                if spoilt := [n.name for n in lab.nodes.values() if n.name in lab.hosts and "clat" in n.ip("-br", "link")]:
                    print(f"    (clat left on {', '.join(spoilt)}: a new lab for the next class)", flush=True)
                    POOL.discard(lab)
    finally:
        if args.keep and result.shouldStop:
            print("labs left up: " + ", ".join(f"tests/lab shell {lab.id}" for lab in POOL.labs.values()))
        else:
            POOL.close()
    passed, failed, skipped = len(result.good - result.bad), len(result.bad), len(result.skipped)
    if args.summary:
        Path(args.summary).write_text(json.dumps({
            "passed": passed, "failed": failed, "skipped": skipped,
            "skips": [[t.id(), reason] for t, reason in result.skipped]}))
    else:
        print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0

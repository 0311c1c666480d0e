"""The frame of the scenarios: named steps, comparisons, the package to test, and the closing line."""
import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from labnet import netns
from labnet.addresses import DNS64
from labnet.netns import LabError
from guest import Silent

REPO = Path(__file__).resolve().parents[2]
# Where serve() puts a directory, as guests see it.
BASE = f"http://[{DNS64}]:8080"
TOOLS = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs")


def say(text):
    """What takes its time."""
    print(f"vm: {text}", flush=True)


class Steps:
    """Named steps; after a vital one that failed, or when the guest is dead, the rest of the scenario makes no sense."""

    def __init__(self, suite):
        self.suite, self.passed, self.failed, self.broken = suite, 0, 0, False

    def __call__(self, name, action, vital=False):
        if self.broken:
            self.failed += 1
            print(f"FAIL  vm.{self.suite}.{name}: not reached", flush=True)
            return None
        begin = time.monotonic()
        try:
            word = action()
        except (LabError, AssertionError, subprocess.SubprocessError, OSError) as error:
            self.failed += 1
            self.broken = vital or isinstance(error, Silent)
            print(f"FAIL  vm.{self.suite}.{name}: {error}", flush=True)
            return None
        self.passed += 1
        print(f"ok    vm.{self.suite}.{name} ({time.monotonic() - begin:.1f} s){f': {word}' if word else ''}", flush=True)
        return word


def differences(before, after):
    """What changed, as a short text; empty if nothing."""
    old, new = before.splitlines(), after.splitlines()
    gone = [f"-{line}" for line in old if line and line not in new]
    came = [f"+{line}" for line in new if line and line not in old]
    return "\n".join((gone + came)[:20])


def same(before, after, what):
    """Fail with the differences."""
    found = differences(before, after)
    if found:
        raise AssertionError(f"{what} is not as before:\n{found}")


@functools.cache
def built(version=None):
    """Build the package, once; its path."""
    env = dict(os.environ, **({"V4SHIM_VERSION": version} if version else {}))
    done = subprocess.run([REPO / "packaging/build-deb"], env=env, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    return REPO / done.stdout.splitlines()[-1].split()[1]


def serve(lab, directory):
    """A directory at BASE, from the router."""
    lab.r1.spawn(sys.executable, "-m", "http.server", "--bind", "::", "8080", "-d", directory, log="www.log")
    netns.wait_for(lambda: lab.r1.run("curl", "-gsf", "-o", "/dev/null", f"{BASE}/", check=False).returncode == 0,
                   "the web server of the packages")


def run_all(names, scenario, *tools):
    """Run scenario(name), which returns its Steps, for each name; the exit status. Without the tools all are skipped."""
    missing = [tool for tool in (*TOOLS, *tools) if not shutil.which(tool)]
    if missing or os.uname().machine != "x86_64":
        why = f"{', '.join(missing)} missing: run tests/install" if missing else "the guests are amd64"
        for name in names:
            print(f"skip  vm.{name}: {why}")
        print(f"0 passed, 0 failed, {len(names)} skipped")
        return 0
    passed = failed = 0
    for name in names:
        try:
            step = scenario(name)
            passed, failed = passed + step.passed, failed + step.failed
        except LabError as error:
            failed += 1
            print(f"FAIL  vm.{name}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0

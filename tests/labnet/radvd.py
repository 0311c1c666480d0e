"""A radvd that can announce PREF64 (2.20 or newer; Debian 12 has 2.19).

The machine's own if it is new enough, else Debian 13's, unpacked once into the cache and
run with its own dynamic loader. Nothing of the machine's package state is touched.
"""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .netns import LabError, run

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "v4shim-lab"
SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def _version(argv):
    try:
        done = subprocess.run([*argv, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return (0, 0)
    found = re.search(r"Version: (\d+)\.(\d+)", done.stdout + done.stderr)
    return tuple(map(int, found.groups())) if found else (0, 0)


def find():
    """The command line of a usable radvd, or None if none is here yet."""
    for candidate in ([shutil.which("radvd") or "/usr/sbin/radvd"], _cached()):
        if candidate and _version(candidate) >= (2, 20):
            return candidate
    return None


def _cached():
    root = CACHE / "radvd"
    loader = next(iter(sorted(root.glob("usr/lib/*-linux-gnu*/ld-linux*"))), None)
    if not loader:
        return None
    return [str(loader), "--library-path", str(loader.parent), str(root / "usr/sbin/radvd")]


def debian_mirror():
    """The Debian mirror that this machine's apt uses; DEBIAN_MIRROR overrides it."""
    if os.environ.get("DEBIAN_MIRROR"):
        return os.environ["DEBIAN_MIRROR"].rstrip("/")
    lines = run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
                check=False).stdout.splitlines()
    for line in lines:
        origin, label, uri = line.split("|", 2)
        if origin == label == "Debian":
            return _real(uri)
    # Before the first `apt-get update` apt knows no origins: look for the path in its sources.
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        for line in file.read_text(errors="replace").splitlines() if file.is_file() else ():
            found = re.search(r"(?<!\S)[a-z+]+:\S*/debian(?:\.list)?/?(?=\s|$)", line.partition("#")[0])
            if found:
                return _real(found.group())
    raise LabError("no Debian mirror in apt's sources; set DEBIAN_MIRROR")


def _real(uri):
    if uri.startswith("mirror+file:"):                     # cloud images: a file lists the mirrors
        text = Path("/" + uri.removeprefix("mirror+file:").strip("/")).read_text()
        uri = next(l.split()[0] for l in text.splitlines() if re.match(r"[a-z]+:", l))
    return uri.rstrip("/")


def fetch():
    """Unpack Debian 13's radvd and its libraries into the cache (6 s, 30 MB). Signatures are checked."""
    if not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap is missing: run tests/install")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".radvd-") as temp:
        tree = Path(temp) / "root"
        run(["mmdebstrap", "--quiet", "--variant=extract", "--include=radvd",
             "--aptopt=Acquire::Languages \"none\"", SUITE, tree,
             f"deb [signed-by={KEYRING}] {debian_mirror()} {SUITE} main"], timeout=600)
        for useless in ("usr/share", "var", "dev", "etc"):
            shutil.rmtree(tree / useless, ignore_errors=True)
        shutil.rmtree(CACHE / "radvd", ignore_errors=True)
        tree.rename(CACHE / "radvd")
    if not find():
        raise LabError(f"the radvd unpacked in {CACHE}/radvd does not run here")

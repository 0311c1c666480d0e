"""hostsfix on real file systems: what must stay does, what fails says so, and kill -9 finds old or new.

Needs no network: pins come from --a and a configured prefix. Everything that mounts does so in
a mount namespace of its own; the machine's hosts file is never named.
"""
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from labnet.clatd import program  # noqa: E402
from labnet.runner import Case  # noqa: E402

PREFIXES = ("2001:db8:64::/96", "2001:db8:6464:6464::/96")
ORIGINAL = b"127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n\n# a note of mine\n10.0.0.1  nas\n"
BEGIN = b"# BEGIN v4shim hostsfix"


def no_times(content):
    """A hosts file without the only thing in it that depends on the clock."""
    return re.sub(rb"expires=\S+", b"expires=X", content)


class Host:
    """A directory with etc/hosts, run and state directories, and an empty configuration."""

    def __init__(self, base, content=ORIGINAL):
        self.base = Path(base)
        for name in ("etc", "run", "state"):
            (self.base / name).mkdir(exist_ok=True)
        self.hosts = self.base / "etc/hosts"
        self.config = self.base / "empty.toml"
        self.config.write_text("")
        if content is not None:
            self.hosts.write_bytes(content)

    def argv(self, *args, prefix=PREFIXES[0], hosts=None):
        """The command line."""
        return [str(program("hostsfix")), "--config", str(self.config), "--hosts-file", str(hosts or self.hosts),
                "--set", f"nat64.prefix={prefix}", *map(str, args)]

    def env(self):
        """Its environment."""
        return {**os.environ, "V4SHIM_RUN_DIR": str(self.base / "run"), "V4SHIM_STATE_DIR": str(self.base / "state")}

    def run(self, *args, before=(), **kw):
        """Run it; the finished process."""
        return subprocess.run([*before, *self.argv(*args, **kw)], env=self.env(), capture_output=True, text=True,
                              timeout=60, check=False)

    def start(self, *args, **kw):
        """Start it."""
        return subprocess.Popen(self.argv(*args, **kw), env=self.env(), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def add(self, *names, **kw):
        """Pin names without asking the DNS."""
        return self.run("add", "--a", "203.0.113.25", *names, **kw)

    def strays(self):
        """Files that have no business there."""
        found = {p.relative_to(self.base).as_posix() for d in ("etc", "run") for p in (self.base / d).iterdir()}
        return found - {"etc/hosts", "run/hostsfix.lock"}


class FileCase(Case):
    """No lab; a directory per test."""

    @classmethod
    def setUpClass(cls):
        program("hostsfix")

    def setUp(self):
        base = tempfile.mkdtemp(prefix="v4shim-hostsfix-")
        self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        self.base = base
        self.host = Host(base)

    def in_mount_namespace(self, setup, name, *args):
        """Runs a function of this file behind mounts that nobody else sees; returns what it printed."""
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "bash", "-euc",
             f"cd '{self.base}'; {setup}; exec '{sys.executable}' '{__file__}' \"$@\"", "bash", name, self.base,
             *map(str, args)],
            capture_output=True, text=True, timeout=110, check=False)
        if done.returncode:
            self.fail(f"{name}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def assert_failed(self, done, code, *words, content=ORIGINAL):
        """It failed with this code, said these words in one line, and left no trace."""
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertEqual(self.host.hosts.read_bytes(), content)
        self.assertEqual(self.host.strays(), set())


class Kept(FileCase):
    """What is not hostsfix's business."""

    def test_round_trip(self):
        """add, sync, rm --all: every byte outside the block stays, and at the end the file is as before"""
        host = self.host
        for content in (ORIGINAL, b"", ORIGINAL.rstrip(b"\n"), ORIGINAL.replace(b"\n", b"\r\n"),
                        b"\xff\xfe\x00 odd \x80\n" + ORIGINAL, b"#" + b"x" * 1_000_000 + b"\n"):
            host.hosts.write_bytes(content)
            self.assertEqual(host.add("smtp.example.net", "bücher.example").returncode, 0)
            with_pins = host.hosts.read_bytes()
            self.assertIn(content, with_pins)
            self.assertIn(b"2001:db8:64::cb00:7119 xn--bcher-kva.example", with_pins)
            inode = host.hosts.stat().st_ino
            self.assertEqual(host.run("sync").returncode, 0)
            self.assertEqual((host.hosts.stat().st_ino, host.hosts.read_bytes()), (inode, with_pins), "not written")
            self.assertEqual(host.run("rm", "--all").returncode, 0)
            self.assertEqual(host.hosts.read_bytes(), content)
        self.assertEqual(host.strays(), set())

    def test_mode_owner_xattrs(self):
        """mode, owner, ACL-like and SELinux extended attributes stay"""
        hosts = self.host.hosts
        os.chown(hosts, 12, 34)
        os.chmod(hosts, 0o640)
        wanted = {}
        for name, value in (("user.note", b"kept\0bytes"), ("security.selinux", b"system_u:object_r:net_conf_t:s0\0"),
                            ("trusted.note", b"root's")):
            try:
                os.setxattr(hosts, name, value)
                wanted[name] = value
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise
        self.assertTrue(wanted, "no extended attributes on this file system")
        self.assertEqual(self.host.add("smtp.example.net").returncode, 0)
        stat = hosts.stat()
        self.assertEqual((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o640, 12, 34))
        self.assertEqual({n: os.getxattr(hosts, n) for n in os.listxattr(hosts)}, wanted)

    def test_default_acl(self):
        """a default ACL of the directory does not creep in"""
        # rwx for the owner, a named user, group, mask, others; as setfacl -d would set it.
        acl = bytes.fromhex("0200000001000700ffffffff0200070039300000040005 00ffffffff10000700ffffffff20000500ffffffff"
                            .replace(" ", ""))
        os.chmod(self.host.hosts, 0o644)
        try:
            os.setxattr(self.host.hosts.parent, "system.posix_acl_default", acl)
        except OSError as error:
            self.skipTest(f"no ACLs on this file system: {error}")
        self.assertEqual(self.host.add("smtp.example.net").returncode, 0)
        self.assertEqual(os.listxattr(self.host.hosts), [])
        self.assertEqual(self.host.hosts.stat().st_mode & 0o7777, 0o644)

    def test_symlink(self):
        """a symbolic link stays one, its target is edited"""
        link = Path(self.base) / "link"
        link.symlink_to("etc/hosts")
        second = Path(self.base) / "second"
        second.symlink_to("link")
        self.assertEqual(self.host.add("smtp.example.net", hosts=second).returncode, 0)
        self.assertTrue(link.is_symlink() and second.is_symlink())
        self.assertIn(BEGIN, self.host.hosts.read_bytes())
        self.assertFalse(self.host.hosts.is_symlink())

    def test_own_lines_win(self):
        """a line of the user's own for a name wins and is reported with its number"""
        self.host.hosts.write_bytes(ORIGINAL + b"192.0.2.7 SMTP.example.net. other\n")
        done = self.host.add("smtp.example.net", "git.example.com")
        self.assertEqual(done.returncode, 0)
        self.assertIn("line 6", done.stderr)
        self.assertNotIn(b"cb00:7119 smtp", self.host.hosts.read_bytes())
        self.assertIn(b"cb00:7119 git.example.com", self.host.hosts.read_bytes())

    def test_rewritten_by_others(self):
        """a file written anew (cloud-init's manage_etc_hosts) gets its pins back, until rm"""
        host = self.host
        host.add("smtp.example.net", "git.example.com")
        with_pins = no_times(host.hosts.read_bytes())
        host.hosts.write_bytes(ORIGINAL)
        done = host.run("sync")
        self.assertEqual(done.returncode, 0)
        self.assertIn("written anew", done.stderr)
        self.assertEqual(no_times(host.hosts.read_bytes()), with_pins)
        host.run("rm", "--all")
        self.assertEqual(host.run("sync").returncode, 0)
        self.assertEqual(host.hosts.read_bytes(), ORIGINAL)
        self.assertEqual(list((host.base / "state").iterdir()), [])

    def test_concurrent_runs(self):
        """twenty runs at once lose nothing"""
        runs = [self.host.start("add", "--a", "203.0.113.25", f"n{i}.example") for i in range(20)]
        self.assertEqual([run.wait(60) for run in runs], [0] * 20)
        pins = json.loads(self.host.run("list", "--json").stdout)["pins"]
        self.assertEqual({p["name"] for p in pins}, {f"n{i}.example" for i in range(20)})
        self.assertEqual(self.host.strays(), set())
        self.host.run("rm", "--all")
        self.assertEqual(self.host.hosts.read_bytes(), ORIGINAL)

    def test_dry_run(self):
        """--dry-run and diff print a diff that patch takes, and change nothing"""
        done = self.host.add("smtp.example.net", "--dry-run")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.host.hosts.read_bytes(), ORIGINAL)
        self.assertEqual(set(os.listdir(self.host.base / "run")), set())
        if not shutil.which("patch"):
            self.skipTest("patch(1) is not installed")
        copy = Path(self.base) / "copy"
        copy.write_bytes(ORIGINAL)
        subprocess.run(["patch", "-s", str(copy)], input=done.stdout, text=True, check=True)
        self.host.add("smtp.example.net")
        self.assertEqual(no_times(copy.read_bytes()), no_times(self.host.hosts.read_bytes()))


class Refused(FileCase):
    """Clear errors; the file intact; nothing left behind."""

    def test_markers(self):
        """unbalanced, nested and duplicated markers, with line numbers"""
        begin, end = b"# BEGIN v4shim hostsfix\n", b"# END v4shim hostsfix\n"
        for content, line in ((begin, "line 6"), (end, "line 6"), (begin + b"x\n" + begin + end, "line 8"),
                              (begin + end + begin + end, "line 8")):
            self.host.hosts.write_bytes(ORIGINAL + content)
            for command in (("add", "--a", "203.0.113.25", "a.example"), ("rm", "--all"), ("sync",), ("list",)):
                self.assert_failed(self.host.run(*command), 1, line, "marker" if b"x" in content else "",
                                   content=ORIGINAL + content)

    def test_usage(self):
        """names that cannot be pinned: exit code 2 and the reason"""
        for name, word in (("*.example.org", "wildcards"), ("203.0.113.1", "address"), ("nas", "full name"),
                           ("localhost", "localhost"), ("a b.example", "' '")):
            self.assert_failed(self.host.add(name), 2, word)
        done = self.host.run("add", "a.example", "--ttl", "5")
        self.assertEqual(done.returncode, 2)

    def test_missing(self):
        """a missing file is an error, but not for rm"""
        self.host.hosts.unlink()
        done = self.host.add("a.example")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such file", done.stderr)
        self.assertEqual(self.host.run("rm", "--all").returncode, 0)
        self.assertFalse(self.host.hosts.exists())

    def test_not_a_file(self):
        """directories, FIFOs and devices are refused, at once"""
        fifo = Path(self.base) / "fifo"
        os.mkfifo(fifo)
        for path in (self.base, fifo, "/dev/null"):
            done = self.host.add("a.example", hosts=path)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("not a regular file", done.stderr)

    def test_no_permission(self):
        """an ordinary user: exit code 4, and what to do"""
        os.chmod(self.base, 0o755)
        for name in ("run", "state"):
            os.chmod(self.host.base / name, 0o755)
        binary = Path(self.base) / "hostsfix"
        shutil.copy2(program("hostsfix"), binary)
        argv = self.host.argv("add", "--a", "203.0.113.25", "a.example")
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, *argv[1:]],
                              env=self.host.env(), capture_output=True, text=True, timeout=60, check=False)
        self.assert_failed(done, 4, "permission denied", "run as root")

    def test_attributes(self):
        """chattr +i and +a: clear errors"""
        for flag, word in (("i", "immutable"), ("a", "append-only")):
            if subprocess.run(["chattr", f"+{flag}", self.host.hosts], capture_output=True, check=False).returncode:
                self.skipTest("this file system has no such attributes")
            self.addCleanup(subprocess.run, ["chattr", "-ia", self.host.hosts], check=False)
            done = self.host.add("a.example")
            self.assert_failed(done, 1, word, f"chattr -{flag}")
            subprocess.run(["chattr", f"-{flag}", self.host.hosts], check=True)

    def test_immutable_directory(self):
        """a directory in which nothing can be created"""
        etc = self.host.hosts.parent
        if subprocess.run(["chattr", "+i", etc], capture_output=True, check=False).returncode:
            self.skipTest("this file system has no such attributes")
        self.addCleanup(subprocess.run, ["chattr", "-i", etc], check=False)
        done = self.host.add("a.example")
        self.assertIn("temporary file", done.stderr)
        self.assert_failed(done, 4, "operation not permitted")

    def test_read_only(self):
        """a read-only file system"""
        got = self.in_mount_namespace("mount --bind etc etc; mount -o remount,ro,bind etc", "one_add")
        self.assertEqual((got["code"], got["unchanged"], got["strays"]), (1, True, []), got)
        self.assertIn("read-only file system", got["stderr"])

    def test_full_disk(self):
        """a full file system, at every amount of space that is left"""
        got = self.in_mount_namespace(
            "mkdir t; mount -t tmpfs -o size=256k tmpfs t; cp -r etc run state empty.toml t", "full_disk", "no")
        self.assertGreater(got["failed"], 3, got)
        self.assertGreater(got["done"], 0, got)

    def test_full_disk_in_place(self):
        """a full file system under a bind-mounted file"""
        got = self.in_mount_namespace(
            "mkdir t; mount -t tmpfs -o size=256k tmpfs t; cp -r etc run state empty.toml t;"
            "cp etc/hosts t/source; mount --bind t/source t/etc/hosts", "full_disk", "yes")
        self.assertGreater(got["failed"], 3, got)
        self.assertGreater(got["done"], 0, got)


class In_place(FileCase):
    """A hosts file that is a mount point, as in containers."""

    def test_bind_mount(self):
        """a bind-mounted file keeps its inode and gets its pins; rm --all gives it back"""
        got = self.in_mount_namespace("cp etc/hosts source; mount --bind source etc/hosts", "bind_mount")
        self.assertEqual((got["code"], got["written"], got["same_inode"], got["restored"], got["strays"]),
                         (0, "in-place", True, True, []), got)

    def test_read_only_root(self):
        """a container with a read-only root: the journal goes to the run directory"""
        got = self.in_mount_namespace(
            "cp etc/hosts source; mount --bind etc etc; mount --bind source etc/hosts; mount -o remount,ro,bind etc",
            "bind_mount")
        self.assertEqual((got["code"], got["written"], got["same_inode"], got["restored"], got["strays"]),
                         (0, "in-place", True, True, []), got)

    def test_no_journal(self):
        """no place for a journal, no write"""
        got = self.in_mount_namespace(
            "cp etc/hosts source; mount --bind etc etc; mount --bind source etc/hosts; mount -o remount,ro,bind etc;"
            "mount --bind run run; touch run/hostsfix.lock; mount -o remount,ro,bind run", "one_add")
        self.assertEqual((got["code"], got["unchanged"], got["strays"]), (1, True, []), got)
        self.assertIn("journal", got["stderr"])


class Killed(FileCase):
    """The operator pulls the plug."""

    timeout = 300

    def test_kill_9_replace(self):
        """1,000 x kill -9 while the file is replaced: old or new, each time"""
        got = kill_loop(self.host.base, 1000, signal.SIGKILL)
        print(f"    {got}")
        self.assertGreater(got["old"], 50, got)
        self.assertGreater(got["new"], 50, got)
        self.assertEqual(got["other"], 0, got)

    def test_kill_9_in_place(self):
        """1,000 x kill -9 while a bind-mounted file is overwritten: old or new after the next command"""
        got = self.in_mount_namespace("touch source; mount --bind source etc/hosts", "kill_loop", 1000)
        print(f"    {got}")
        self.assertGreater(got["old"], 50, got)
        self.assertGreater(got["new"], 50, got)
        self.assertGreater(got["journals"], 20, "kills must have hit the write itself")
        self.assertEqual(got["other"], 0, got)

    def test_sigterm(self):
        """SIGTERM at any time: old or new, and no temporary file"""
        got = kill_loop(self.host.base, 200, signal.SIGTERM)
        print(f"    {got}")
        self.assertEqual((got["other"], got["strays"]), (0, 0), got)


# -- functions that run behind the mounts of in_mount_namespace ---------------------------------

def one_add(base):
    """One add: how it ended."""
    host = Host(base, content=None)
    before = host.hosts.read_bytes()
    done = host.add("a.example")
    return {"code": done.returncode, "stderr": done.stderr, "unchanged": host.hosts.read_bytes() == before,
            "strays": sorted(host.strays())}


def full_disk(base, in_place):
    """Adds with less and less space left, until there is none at all."""
    host = Host(Path(base) / "t", content=None)
    before = host.hosts.read_bytes()
    stat = os.statvfs(host.base)
    ballast = host.base / "ballast"
    counts = {"failed": 0, "done": 0}
    big = "-".join(["name"] * 12)
    names = [f"n{i}.{big}.example" for i in range(60)]     # a block of several pages
    for left in range(0, 30):
        ballast.unlink(missing_ok=True)
        host.hosts.write_bytes(before)
        for file in (host.base / "state").iterdir():
            file.unlink()
        (host.base / "run/hostsfix.lock").touch()
        size = os.statvfs(host.base).f_bavail * stat.f_frsize - left * 4096
        with open(ballast, "wb") as out:
            os.posix_fallocate(out.fileno(), 0, max(size, 1))
        done = host.add(*names)
        content = host.hosts.read_bytes()
        if done.returncode == 1:
            assert content == before, (left, "changed", in_place)
            assert "no space left" in done.stderr, done.stderr
            counts["failed"] += 1
        else:
            assert done.returncode == 0, done.stderr
            assert content.startswith(before) and BEGIN in content
            counts["done"] += 1
        assert host.strays() == set(), host.strays()
    return counts


def bind_mount(base):
    """Add and remove on a mount point."""
    host = Host(base, content=None)
    before, inode = host.hosts.read_bytes(), host.hosts.stat().st_ino
    done = host.run("add", "--a", "203.0.113.25", "a.example", "b.example", "--json")
    written = json.loads(done.stdout)["written"] if done.returncode == 0 else done.stderr
    pinned = BEGIN in host.hosts.read_bytes()
    removed = host.run("rm", "--all")
    return {"code": done.returncode, "written": written, "same_inode": host.hosts.stat().st_ino == inode,
            "restored": pinned and host.hosts.read_bytes() == before and removed.returncode == 0,
            "strays": sorted(host.strays())}


def kill_loop(base, number, sig=signal.SIGKILL):
    """Changes a large file back and forth and kills the writer at a random time; counts what is found."""
    host = Host(base, content=None)
    # Without a final newline the block goes to the start: each change moves all of the file.
    rest = b"".join(b"10.%d.%d.%d host-%d.example # %s\n" % (i >> 16, i >> 8 & 255, i & 255, i, b"x" * (i % 50))
                    for i in range(12_000)) + b"10.255.255.255 last"
    host.hosts.write_bytes(rest)
    names = [f"n{i}.example" for i in range(8)]
    assert host.add(*names).returncode == 0
    states = []
    took = []
    for prefix in (PREFIXES[1], PREFIXES[0]):
        began = time.monotonic()
        assert host.run("sync", prefix=prefix).returncode == 0
        took.append(time.monotonic() - began)
        states.append(no_times(host.hosts.read_bytes()))
    assert states[0] != states[1] and all(s.endswith(rest) for s in states)
    counts = {"old": 0, "new": 0, "other": 0, "journals": 0, "strays": 0, "finished": 0}
    longest = max(took) * 1.1
    at = 1                                                # which of the states is in the file
    for _ in range(number):
        target = 1 - at
        process = host.start("sync", prefix=PREFIXES[1 - target])
        time.sleep(random.uniform(0, longest))
        process.send_signal(sig)
        counts["finished"] += process.wait(60) == 0
        strays = host.strays()
        counts["strays"] += bool(strays)
        journal = any("journal" in name for name in strays)
        counts["journals"] += journal
        if journal:
            # The next run of any command finds the journal.
            listed = host.run("list", "--json")
            assert listed.returncode == 0, listed.stderr
            assert not host.strays(), host.strays()
        content = no_times(host.hosts.read_bytes())
        if content == states[at]:
            counts["old"] += 1
        elif content == states[target]:
            counts["new"] += 1
            at = target
        else:
            counts["other"] += 1
            break
    assert host.run("rm", "--all").returncode == 0
    assert host.hosts.read_bytes() == rest, "after all that, rm --all gives back every byte"
    assert not host.strays(), host.strays()
    return counts


if __name__ == "__main__":
    function, *arguments = sys.argv[1:]
    arguments = [int(a) if a.isdigit() else a for a in arguments]
    print(json.dumps(globals()[function](*arguments)))

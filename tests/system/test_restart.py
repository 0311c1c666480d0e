"""A next clatd takes over from one that ended, as under a service manager: connections in flight go on."""
import json
import signal
import subprocess
import sys
from pathlib import Path

from labnet import snapshot
from labnet.clatd import Clatd
from labnet.netns import run, wait_for
from labnet.runner import Case
from labnet.topology import SERVER

MANAGER = Path(__file__).resolve().parents[1] / "labnet" / "manager.py"
PORT = 7779
SECONDS = 4
GAP = 0.4                                                 # without a daemon, each time

# Sends a known stream at a steady pace: there is always something on its way in.
SEND = ("import random, socket, sys, time\n"
        "s = socket.create_server((sys.argv[1], int(sys.argv[2]))); print('ready', flush=True)\n"
        "c, _ = s.accept(); r = random.Random(1); end = time.monotonic() + float(sys.argv[3])\n"
        "sent = 0\n"
        "while time.monotonic() < end: c.sendall(r.randbytes(4096)); sent += 4096; time.sleep(.002)\n"
        "c.close(); print(sent, flush=True)\n")
RECEIVE = ("import hashlib, json, random, socket, sys\n"
           "c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10); c.settimeout(60); got = b''\n"
           "print('ready', flush=True)\n"
           "while data := c.recv(65536): got += data\n"
           "r = random.Random(1); want = b''.join(r.randbytes(4096) for _ in range(len(got) // 4096))\n"
           "print(json.dumps({'bytes': len(got), 'right': got == want}), flush=True)\n")


class Managed(Clatd):
    """A clatd under a manager that starts it again."""

    def argv(self, *more):
        return [sys.executable, MANAGER, self.run_dir / "notify", str(GAP), *super().argv(*more)]

    def starts(self):
        """How often it was started."""
        return self.tail(10000).count("started ")


class Restart(Case):
    """With a file descriptor store, as systemd has."""

    def managed(self, *sets):
        """With a file system for its flow records."""
        records = self.lab.dir / "records"
        if not records.exists():
            records.mkdir()
            run(["mount", "-t", "bpf", "bpf", records])
            self.addCleanup(records.rmdir)
            self.addCleanup(run, ["umount", records])
        daemon = Managed(self.lab.slaac, *sets, datapath="bpf", env={"V4SHIM_FLOW_RECORDS": str(records)})
        self.daemons.append(daemon)
        self.addCleanup(daemon.end)
        return daemon.up()

    def ready(self, node, script, *args):
        """A Python script in a node that has said that it is ready."""
        proc = self.talk(node, script, *args)
        self.assertEqual(proc.stdout.readline(), "ready\n")
        return proc

    def completes(self, sender, receiver):
        """The download is still on its way; it ends with every byte that was sent."""
        self.assertIsNone(sender.poll(), "it was over too early: nothing is proven")
        result = json.loads(receiver.stdout.read() or "{}")
        sent = int(sender.stdout.read() or -1)
        self.assertEqual(result, {"bytes": sent, "right": True})

    def goes_on(self, interrupt, *sets):
        """A download of some seconds, while the daemon comes and goes."""
        daemon = self.managed(*sets)
        sender = self.ready(self.lab.srv, SEND, SERVER, PORT, SECONDS)
        receiver = self.ready(self.lab.slaac, RECEIVE, SERVER, PORT)
        for number in (2, 3):
            interrupt(daemon)
            wait_for(lambda: daemon.starts() == number, "the next start", 20)
            daemon.wait_state("active")
        self.completes(sender, receiver)
        return daemon

    def test_killed(self):
        """kill -9, twice, half a second without a daemon each time: the download does not notice"""
        for mode in ("shared", "dedicated"):
            with self.subTest(mode=mode):
                daemon = self.goes_on(lambda d: d.proc.send_signal(signal.SIGUSR1), f"clat.address={mode}")
                self.assertEqual(daemon.stop(), 0)

    def test_stopped_and_started(self):
        """the same with SIGTERM, as a restart and an upgrade do it"""
        daemon = self.goes_on(lambda d: d.proc.send_signal(signal.SIGUSR2), "clat.address=shared")
        self.assertEqual(daemon.stop(), 0)

    def test_nothing_stays(self):
        """after the last stop the manager has the only descriptor; closed with it, the host is as before"""
        host = self.lab.slaac
        before = snapshot.take(host)
        daemon = self.managed("clat.address=shared")
        daemon.proc.send_signal(signal.SIGUSR2)
        wait_for(lambda: daemon.starts() == 2, "the next start", 20)
        daemon.wait_state("active")
        self.assertEqual(daemon.stop(), 0)
        wait_for(lambda: not snapshot.difference(before, snapshot.take(host)), "the host to be as before", 10)

    def test_reload(self):
        """a changed configuration in force without a gap: the download goes on"""
        daemon = self.managed("clat.address=shared")
        sender = self.ready(self.lab.srv, SEND, SERVER, PORT, SECONDS)
        receiver = self.ready(self.lab.slaac, RECEIVE, SERVER, PORT)
        pid = int(daemon.tail(10000).split("started ")[1].split()[0])
        for mtu in (1400, 1401, 1402):
            daemon.config.write_text(f"[clat]\nmtu = {mtu}\n")
            subprocess.run(["kill", "-HUP", str(pid)], check=True)
            wait_for(lambda: f"mtu {mtu} " in self.lab.slaac.ip("-o", "link", "show", "clat", check=False), f"MTU {mtu}", 20)
            daemon.wait_state("active")
        self.completes(sender, receiver)
        self.assertEqual(daemon.stop(), 0)

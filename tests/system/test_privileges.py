"""What clatd needs: run as the unit runs it, as a user of its own with a few capabilities."""
import os
import sys
from pathlib import Path

from labnet.clatd import Clatd, program
from labnet.netns import run
from labnet.runner import Case
from labnet.topology import SERVER

URL = f"http://{SERVER}/"
UID = 65534
WITH_BPF = ("net_admin", "net_raw", "bpf")
WITHOUT_BPF = ("net_admin", "net_raw")

# A server that answers late: the client is silent meanwhile, so only a record can let the answer in.
LATE = ("import socket, sys, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 7777)); print('ready', flush=True)\n"
        "data, peer = s.recvfrom(100); print('asked', flush=True)\n"
        "sys.stdin.readline(); s.sendto(data, peer)\n")
ASK = ("import socket, sys\n"
       "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20); s.connect((sys.argv[1], 7777))\n"
       "s.send(b'late'); print(s.recv(100).decode(), flush=True)\n")


class Unprivileged(Clatd):
    """A clatd as an ordinary user with nothing but the capabilities given."""

    def __init__(self, node, *sets, capabilities, **kw):
        super().__init__(node, *sets, **kw)
        # The program may live where only root can look: give the user a copy, and its own run directory.
        self.run_dir = self.lab.dir / f"run-{node.name}-nobody"
        self.run_dir.mkdir(exist_ok=True)
        self.env["V4SHIM_RUN_DIR"] = str(self.run_dir)
        self.copy = self.lab.dir / "clatd-of-nobody"
        if not self.copy.exists():
            self.copy.write_bytes(program("clatd").read_bytes())
            self.copy.chmod(0o755)
        self.lab.dir.chmod(0o755)
        os.chown(self.run_dir, UID, UID)
        names = ",".join(f"+{name}" for name in capabilities)
        # Everybody may open the device on most machines; here, whatever the mode of the machine's own.
        self.become = ["sh", "-c", 'mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"', "sh",
                       "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs",
                       f"--inh-caps=-all,{names}", f"--ambient-caps=-all,{names}", f"--bounding-set=-all,{names}"]

    def argv(self, *more):
        return [*self.become, self.copy, *super().argv(*more)[1:]]


class Capabilities(Case):
    """On the wire of an ordinary host."""

    def daemon(self, *sets, **kw):
        """One that ends with the test."""
        daemon = Unprivileged(self.lab.slaac, *sets, **kw)
        self.daemons.append(daemon)
        self.addCleanup(daemon.end)
        return daemon

    def works(self):
        """TCP, a fragmented datagram, ping."""
        host = self.lab.slaac
        self.assertIn("hello over IPv4", host.out("curl", "-sS", "-m", "20", URL))
        self.assertTrue(self.lab.probe(host, "udp", SERVER, 7, 5000).get("equal"))
        self.assertIn(" 0% packet loss", host.out("ping", "-n", "-c2", "-i0.2", "-W3", SERVER))

    @staticmethod
    def effective(daemon):
        """The capabilities that the running process has."""
        status = Path(f"/proc/{daemon.proc.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)

    def test_fast_path(self):
        """CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW are enough for the fast path: no CAP_SYS_ADMIN, no CAP_PERFMON"""
        for mode in ("shared", "dedicated"):
            with self.subTest(mode=mode), \
                    self.daemon(f"clat.address={mode}", datapath="bpf", capabilities=WITH_BPF) as daemon:
                # net_admin 12, net_raw 13, bpf 39
                self.assertEqual(self.effective(daemon), 1 << 12 | 1 << 13 | 1 << 39)
                self.assertEqual(daemon.status()["datapath"]["kind"], "bpf")
                self.works()

    def test_auto_without_bpf(self):
        """without CAP_BPF the automatic choice is the portable path; log and status say why"""
        with self.daemon(datapath="auto", capabilities=WITHOUT_BPF) as daemon:
            datapath = daemon.status()["datapath"]
            self.assertEqual(datapath["kind"], "tun", datapath)
            self.assertIn("CAP_BPF", datapath["reason"])
            self.assertIn("CAP_BPF", daemon.tail(100))
            self.works()

    def test_bpf_insists(self):
        """datapath = "bpf" without CAP_BPF ends with status 4 and names what is missing"""
        done = self.daemon(datapath="bpf", capabilities=WITHOUT_BPF).once()
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("CAP_BPF", done.stderr)
        self.assertNotIn("clat", self.lab.slaac.ip("-br", "link"))

    def test_records_survive_kill(self):
        """an answer that comes after kill -9 and a restart finds its flow: records are pinned where the unit binds them"""
        lab, host, flows = self.lab, self.lab.slaac, self.lab.dir / "flows"
        flows.mkdir()
        run(["mount", "-t", "bpf", "-o", f"mode=0700,uid={UID},gid={UID}", "bpf", flows])
        self.addCleanup(run, ["umount", "-l", flows])
        os.chown(flows, UID, UID)
        for mode in ("shared", "dedicated"):
            with self.subTest(mode=mode):
                def start(mode=mode):
                    return self.daemon(f"clat.address={mode}", datapath="bpf", capabilities=WITH_BPF,
                                       env={"V4SHIM_FLOW_RECORDS": str(flows)}).up()
                daemon = start()
                server = self.talk(lab.srv, LATE, SERVER)
                self.assertEqual(server.stdout.readline(), "ready\n")
                client = self.talk(host, ASK, SERVER)
                self.assertEqual(server.stdout.readline(), "asked\n")
                daemon.kill9()
                daemon = start()
                self.assertNotIn("flow records end", daemon.status()["datapath"].get("details", ""))
                server.stdin.write("\n")
                server.stdin.flush()
                self.assertEqual(client.communicate(timeout=30)[0], "late\n")
                self.assertEqual(server.wait(10), 0)
                self.assertEqual(daemon.stop(), 0)

"""Native IPv6 and translated flows from one address to one server and port: none mixed up, none lost."""
import json
import os
import signal
import sys
from pathlib import Path

from labnet import topology
from labnet.runner import MODE, Active, per_datapath
from labnet.topology import SERVER

CROWD = Path(topology.__file__).with_name("crowd.py")
PORT = 7000
NUMBER = 1_000 if MODE == "quick" else 10_000


@per_datapath
class Flows(Active):
    """Shared address: on the wire both kinds look alike, but for their ports."""

    timeout = 400
    sets = ("clat.address=shared",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        server = cls.lab.srv.spawn(sys.executable, CROWD, "serve", PORT, SERVER, log="crowd.log")
        cls.addClassCleanup(os.killpg, server.pid, signal.SIGKILL)

    def crowd(self, kind, number):
        """What labnet/crowd.py says."""
        self.eventually(lambda: "ready" in self.lab.log_tail("crowd.log"), "the server to start")
        done = self.node.run(sys.executable, CROWD, kind, SERVER,
                             self.lab.nat64(SERVER), PORT, number, check=False, timeout=380)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def together(self, kind, number):
        """`number` flows of each family at once, each used twice."""
        got = self.crowd(kind, number)
        self.assertEqual((got["flows"], got["good"]), (2 * number, 4 * number), got)
        self.assertEqual((got["mixed"], got["lost"], got["refused"], got["errors"]), (0, 0, {}, {}), got)
        # A few datagrams may have to be sent twice; that many at the same time cannot be chance.
        self.assertLess(got["again"], 1 + number // 20, got)
        return got

    def test_tcp(self):
        """10,000 native and 10,000 translated connections at once (1,000 with --quick)"""
        self.together("tcp", NUMBER)

    def test_udp(self):
        """10,000 native and 10,000 translated UDP flows at once (1,000 with --quick)"""
        self.together("udp", NUMBER)

    def test_ping(self):
        """10,000 native and 10,000 translated pings at once (1,000 with --quick)"""
        self.together("ping", NUMBER)

    def test_same_port(self):
        """native and translated from the same port, over UDP and TCP, in either order: each gets its own, or fails at once"""
        for case, got in self.crowd("same", 0).items():
            with self.subTest(case=case):
                self.assertEqual((got["mixed"], got["lost"], got["errors"]), (0, 0, {}), got)
                self.assertEqual(got["good"], 8, got)
                self.assertLess(got["seconds"], 5, got)

    def test_collisions_are_counted(self):
        """with the fast path the status counts the flows that were given another port"""
        if self.datapath != "bpf":
            return                                        # conntrack keeps ports apart, and counts nothing
        def mapped():
            kernel = self.daemon.status()["counters"]["4to6"]["kernel"]
            return sum(counts.get("port-mapped", 0) for counts in kernel.values())
        before = mapped()
        got = self.crowd("same", 0)
        self.assertGreater(mapped(), before, got)

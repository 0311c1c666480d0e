"""Super-packets and checksums: whatever the devices do themselves or leave to the kernel, what arrives is what was sent."""
import json
import os
import signal
import sys
from pathlib import Path

import test_clsact
from labnet import topology
from labnet.runner import DATAPATHS, Active, per_datapath

SUPERS = Path(topology.__file__).with_name("supers.py")
# A server that no NAT64 stands before: the router has the address that stands for it, so that nothing on the way
# takes super-packets apart.
NEAR, PORT = "203.0.113.99", 7100
OFF = ("tso", "off", "gso", "off", "gro", "off", "tx", "off")
ON = ("tx", "on", "tso", "on", "gso", "on", "gro", "on")


class _Offloads:
    """The host's own address: the checksum of each packet has to change."""

    timeout = 60
    sets = ("clat.address=shared",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        router = cls.lab.r1
        address = cls.lab.nat64(NEAR)
        router.ip("addr", "add", f"{address}/128", "dev", "lo")
        cls.addClassCleanup(router.ip, "addr", "del", f"{address}/128", "dev", "lo")
        server = router.spawn(sys.executable, SUPERS, "serve", address, PORT, log=f"{cls.__name__}.log")
        cls.addClassCleanup(os.killpg, server.pid, signal.SIGKILL)

    def setUp(self):
        self.eventually(lambda: "ready" in self.lab.log_tail(f"{type(self).__name__}.log"), "the server to start")

    def switch_off(self, *ends):
        """Offloads of (node, device) pairs, for one test."""
        for node, device in ends:
            node.run("ethtool", "-K", device, *OFF)
            self.addCleanup(node.run, "ethtool", "-K", device, *ON)

    def segments(self, segment, size):
        """UDP in super-packets, echoed; what labnet/supers.py says."""
        done = self.node.run(sys.executable, SUPERS, "udp", NEAR, PORT, segment, size)
        got = json.loads(done.stdout)
        self.assertEqual((got["good"], got["again"]), (got["rounds"], 0), got)
        return got["sent_whole"], got["received_whole"]

    def left_to_daemon(self):
        """Packets that the kernel's programs did not translate, in both directions."""
        counters = self.daemon.status()["counters"]
        return sum(counts.get("to-daemon", 0) for way in ("4to6", "6to4")
                   for counts in (counters[way].get("kernel") or {}).values())

    def everything(self):
        """TCP, datagrams that fit and that do not, compared."""
        got = self.lab.probe(self.node, "flood", NEAR, PORT, 4, 2_000_000)
        self.assertEqual((got["good"], got["errors"], got["unfinished"]), (4, {}, 0))
        for size in (1, 1452, 1453, 9000, 60000):
            got = self.lab.probe(self.node, "udp", NEAR, PORT, size)
            self.assertEqual((got.get("equal"), got.get("tries")), (True, 1), (size, got))

    def test_all_on(self):
        """with offloads super-packets pass whole in both directions, and nothing is changed in them"""
        self.everything()
        # The portable path needs a device that takes them (Linux 6.2).
        whole_segments = self.datapath == "bpf" or "UDP" in self.daemon.status()["datapath"]["details"]
        for segment, size in ((1200, 12000), (1452, 50000), (100, 6000), (1000, 1500)):
            with self.subTest(segment=segment, size=size):
                before = self.left_to_daemon()
                whole = self.segments(segment, size)
                self.assertEqual(self.left_to_daemon(), before)
                if whole_segments:
                    self.assertEqual(whole, (size, size))

    def test_all_off(self):
        """on a wire where each packet is one packet with its own checksum, the same arrives"""
        self.switch_off((self.node, "eth0"), (self.lab.r1, "p-slaac"))
        self.everything()
        for segment, size in ((1200, 12000), (1452, 20000)):
            with self.subTest(segment=segment, size=size):
                self.assertEqual(self.segments(segment, size), (segment, segment))

    def test_off_on_clat(self):
        """without offloads on the CLAT's own device the same arrives"""
        self.switch_off((self.node, "clat"))
        self.everything()


@per_datapath
class Offloads(_Offloads, Active):
    """The device that is there, with TCX where the kernel has it."""


if "bpf" in DATAPATHS:
    class Offloads_filters(_Offloads, test_clsact._Old, Active):  # pylint: disable=protected-access
        """The same with filters."""

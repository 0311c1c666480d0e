"""An IPv6 address of the CLAT's own, as the rest of the segment sees it."""
import contextlib
import ipaddress
import json
import sys
from pathlib import Path

from labnet import topology
from labnet.runner import Case, per_datapath
from labnet.topology import SERVER, SERVER_ALT

FILTER = Path(topology.__file__).with_name("neighbours.py")
RIVAL = Path(topology.__file__).with_name("rival.py")
SETTING = "clat.address=dedicated"
PREFIX = "2001:db8:1::/64"

# Prints when the first datagram has been echoed.
FIRST_ECHO = ("import socket, sys, time\n"
              "while True:\n"
              "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(.02)\n"
              "    try: s.connect((sys.argv[1], 7)); s.send(b'x'); s.recv(10); break\n"
              "    except OSError: time.sleep(.005)\n"
              "    finally: s.close()\n"
              "print(time.monotonic(), flush=True)\n")


def words(*addresses):
    """The sum of 16-bit words by which addresses enter a checksum."""
    total = sum(int.from_bytes(packed[at:at + 2]) for packed in (ipaddress.ip_address(a).packed for a in addresses)
                for at in range(0, len(packed), 2))
    return total % 0xFFFF


class _Neighbours(Case):
    """A SLAAC host; neighbours are the router r1 and the host lan."""

    def works(self):
        """Ping, and a datagram, without anything lost."""
        host = self.lab.slaac
        self.assertIn(" 0% packet loss", host.out("ping", "-n", "-c2", "-i0.2", "-W3", SERVER))
        got = self.lab.probe(host, "udp", SERVER_ALT, 7, 500)
        self.assertEqual((got.get("equal"), got["tries"]), (True, 1), got)

    def entry(self, address):
        """What the router's neighbour cache says about an address: link-layer address and states."""
        found = self.lab.r1.ip_json("-6", "neigh", "show", "dev", "seg", "to", address)
        return (found[0].get("lladdr"), set(found[0]["state"])) if found else (None, set())

    def forget(self, address):
        """The router's neighbour cache loses an address."""
        self.lab.r1.ip("neigh", "del", address, "dev", "seg", check=False)

    def let_through(self, address):
        """Whether the router's filter knows the address; it follows the cache."""
        return address in self.lab.r1.out("nft", "list", "set", "ip6", "known_neighbours", "known")

    @contextlib.contextmanager
    def neighbours_only(self):
        """r1 filters by its neighbour cache meanwhile."""
        router = self.lab.r1
        router.ip("-6", "neigh", "flush", "dev", "seg")
        filtering = router.spawn(sys.executable, FILTER, "seg", PREFIX, log="neighbours.log")
        try:
            self.eventually(lambda: "ready" in self.lab.log_tail("neighbours.log"), "the router to filter")
            yield
        finally:
            filtering.terminate()
            filtering.wait(10)
            router.run("nft", "delete", "table", "ip6", "known_neighbours", check=False)
            (self.lab.dir / "neighbours.log").unlink()

    def settled(self, daemon, but=None):
        """The daemon's address once duplicate address detection has come to its end; not the one of `but`."""
        def found():
            status = daemon.status()
            return status["ipv6"] and status["ipv6_optimistic"] is False and status["ipv6"] != but and status["ipv6"]
        return self.eventually(found, "the end of duplicate address detection")

    @contextlib.contextmanager
    def rival(self, node, device, mode):
        """A neighbour who watches, or wants the same address; gives what returns what it has seen."""
        log = f"rival-{mode}.log"
        proc = node.spawn(sys.executable, RIVAL, device, self.lab.mac(node, device), mode, log=log)
        path = self.lab.dir / log
        try:
            self.eventually(lambda: "ready" in path.read_text(), "the rival")
            yield lambda: [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        finally:
            proc.terminate()
            proc.wait(10)
            path.unlink()

    def conflict(self, address):
        """Another host of the segment has that address."""
        self.lab.lan.ip("addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        self.addCleanup(self.lab.lan.ip, "addr", "del", f"{address}/64", "dev", "eth0", check=False)


@per_datapath
class Dedicated(_Neighbours):
    """Who answers for the address depends on the datapath."""

    def test_router_that_filters_by_its_neighbour_cache(self):
        """a router that forwards only for neighbours it has resolved itself finds the address, and finds it again"""
        host, router = self.lab.slaac, self.lab.r1
        with self.neighbours_only(), self.clatd(host, SETTING) as daemon:
            address, mac = daemon.status()["ipv6"], self.lab.mac(host)
            self.assertEqual(self.entry(address), (None, set()), "known before anybody asked")
            # Not let through yet: the filter filters.
            self.assertNotIn(" 0% packet loss", host.run("ping", "-n", "-c1", "-W1", SERVER, check=False).stdout)
            for _ in range(2):
                # Whatever comes for the host makes the router ask; the CLAT answers, not the host.
                router.run("ping", "-n", "-c1", "-W1", address, check=False)
                self.assertEqual(self.entry(address)[0], mac)
                self.eventually(lambda: self.let_through(address), "the router to let it through")
                self.works()
                self.forget(address)
            self.assertNotIn(address, host.ip("-6", "addr"))

    def test_entry_lost_under_a_connection(self):
        """a connection survives that the router's neighbour cache is emptied again and again"""
        with self.clatd(self.lab.slaac, SETTING) as daemon:
            address = daemon.status()["ipv6"]
            flow = self.lab.start_probe(self.lab.slaac, "hold", SERVER, 7, 2)
            for _ in range(5):
                self.forget(address)
                self.eventually(lambda: self.entry(address)[0], "the router to ask and be answered")
            got = self.lab.finish_probe(flow)
            self.assertNotIn("error", got)
            self.assertLess(got["longest_gap"], 1, got)

    def test_used_while_it_is_checked(self):
        """packets flow before duplicate address detection has ended; until then no advertisement overrides another's"""
        host, router = self.lab.slaac, self.lab.r1
        router.ip("-6", "neigh", "flush", "dev", "seg")   # so that it asks
        with self.rival(router, "seg", "watch") as seen:
            echo = self.talk(host, FIRST_ECHO, SERVER)
            with self.clatd(host, SETTING) as daemon:
                address = self.settled(daemon)
                replied = float(echo.stdout.readline())
                about = lambda kind: [e for e in seen() if e["kind"] == kind and e["target"] == address]
                sure = lambda: [e for e in about("advertisement") if e["flags"] & 0x20]
                began = about("solicitation")[0]
                self.assertEqual(began["source"], "::")
                ended = self.eventually(sure, "the advertisement to everybody")[0]
                self.assertEqual(ended["flags"], 0x20)
                self.assertTrue(began["at"] < replied < ended["at"], (began, replied, ended))
                flags = {e["flags"] for e in about("advertisement") if e["at"] < ended["at"]}
                self.assertEqual(flags, {0x00, 0x40}, "one to everybody, and an answer to the router")
                self.forget(address)
                self.works()
                self.eventually(lambda: sure()[-1]["flags"] == 0x60, "an answer to the router that overrides")
            self.assertNotIn(address, {e["source"] for e in seen() if e["kind"] == "solicitation"})

    def test_conflict_while_it_is_used(self):
        """whoever says, or checks, that the address is theirs has it: another one is used at once, the first is let go"""
        host, lan = self.lab.slaac, self.lab.lan
        for mode in ("claim", "probe"):
            with self.subTest(mode=mode), self.rival(lan, "eth0", mode) as seen, self.clatd(host, SETTING) as daemon:
                events = lambda kind: [e for e in seen() if e["kind"] == kind]
                first = self.eventually(lambda: events("got in the way"), "the rival to act")[0]
                address = self.settled(daemon, but=first["target"])
                self.assertIn(f"{first['target']} is in use by another host", daemon.tail(100))
                self.works()
                self.assertEqual(daemon.status()["ipv6"], address)
                self.assertGreater(len(events("asked")), 3)
                answers = [e for e in events("advertisement") if e["target"] == first["target"] and e["at"] > first["at"]]
                self.assertEqual(answers, [])

    def test_address_is_defended(self):
        """another host that wants the address learns by duplicate address detection that it is taken"""
        lan = self.lab.lan
        with self.clatd(self.lab.slaac, SETTING) as daemon:
            address = self.settled(daemon)
            lan.sysctl(net__ipv6__conf__eth0__accept_dad=1)
            lan.ip("addr", "add", f"{address}/64", "dev", "eth0")
            self.addCleanup(lan.ip, "addr", "del", f"{address}/64", "dev", "eth0", check=False)
            self.eventually(lambda: "dadfailed" in lan.ip("-6", "addr", "show", "dev", "eth0", "to", address),
                            "duplicate address detection to fail")
            self.works()


class Choice(_Neighbours):
    """Which address it is, and how others learn of it, does not."""

    def test_router_that_listens_to_advertisements(self):
        """a router that makes an entry of an unsolicited advertisement (RFC 9131) lets the first packet pass"""
        router = self.lab.r1
        knob = "net.ipv6.conf.seg.accept_untracked_na"
        if router.run("sysctl", "-qw", f"{knob}=1", check=False).returncode:
            self.skipTest("the kernel lacks accept_untracked_na (Linux 5.19)")
        self.addCleanup(router.run, "sysctl", "-qw", f"{knob}=0")
        with self.neighbours_only(), self.clatd(self.lab.slaac, SETTING) as daemon:
            address = daemon.status()["ipv6"]
            self.assertEqual(self.entry(address)[0], self.lab.mac(self.lab.slaac))
            self.eventually(lambda: self.let_through(address), "the router to let it through")
            self.works()

    def test_conflict(self):
        """an address that another host has is not used: the next one is, again after a restart; the first one when it is free"""
        lab, host = self.lab, self.lab.slaac
        with self.clatd(host, SETTING) as daemon:
            first = self.settled(daemon)
        self.conflict(first)
        taken = set()
        for _ in range(2):
            with self.clatd(host, SETTING) as daemon:
                taken.add(self.settled(daemon, but=first))
                self.assertIn(f"{first} is in use by another host", daemon.tail(100))
                self.works()
                # Whose it is goes on as before.
                self.forget(first)
                self.assertIn(" 0% packet loss", lab.r1.out("ping", "-n", "-c1", "-W3", first))
                self.assertEqual(self.entry(first)[0], lab.mac(lab.lan))
        self.assertEqual(len(taken), 1, "not the same one after a restart")
        self.assertNotIn(first, taken)
        # Free again. The router still knows it elsewhere, and must learn that it has moved as soon as that is sure.
        lab.lan.ip("addr", "del", f"{first}/64", "dev", "eth0")
        self.assertEqual(self.entry(first)[0], lab.mac(lab.lan))
        with self.clatd(host, SETTING) as daemon:
            self.assertEqual(self.settled(daemon), first)
            self.eventually(lambda: self.entry(first)[0] == lab.mac(host), "the router to learn of it")
            self.works()

    def test_checksum_neutral(self):
        """the address is chosen so that no transport checksum changes, whatever the server"""
        with self.clatd(self.lab.slaac, SETTING) as daemon:
            status = daemon.status()
            for server in (SERVER, "8.8.8.8", "198.51.100.1"):
                self.assertEqual(words(status["ipv4"], server), words(status["ipv6"], self.lab.nat64(server)))

"""Uplinks without link-layer headers: TUN, WireGuard, PPP, mobile modems."""
from labnet import packets
from labnet.runner import Active, Case, per_datapath
from labnet.topology import BARE_ADDRESS, BARE_MTU, SERVER

URL = f"http://{SERVER}/"
HOST = {"hosts": ["slaac", "bare"]}


class _Bare:
    """Every kind of packet, both ways."""

    host = "bare"
    settings = HOST

    def fast(self):
        """TCP packets that the kernel's programs have translated, in either direction."""
        counters = self.daemon.status()["counters"]
        return [(counters[way].get("kernel") or {}).get("tcp", {}).get("translated", 0) for way in ("4to6", "6to4")]

    def received(self):
        """Packets that the uplink has received."""
        return self.node.ip_json("-s", "link", "show", "dev", "wwan0")[0]["stats64"]["rx"]["packets"]

    def test_datapath(self):
        """the datapath asked for is the one in use, with the uplink's MTU less 20"""
        status = self.daemon.status()
        self.assertEqual((status["datapath"]["kind"], status["uplink"], status["mtu"]),
                         (self.datapath, "wwan0", BARE_MTU - 20))

    def test_tcp(self):
        """eight connections at once, 1 MB through each and back, compared"""
        before = self.fast()
        got = self.lab.probe(self.node, "flood", SERVER, 7, 8, 1_000_000)
        self.assertEqual((got["good"], got["errors"], got["unfinished"]), (8, {}, 0))
        if self.datapath == "bpf":
            for was, now in zip(before, self.fast()):
                self.assertGreater(now - was, 5000)

    def test_web(self):
        """curl works over IPv4, and natively to the NAT64 beside it"""
        self.assertIn("hello over IPv4", self.node.out("curl", "-sS", "-m", "20", URL))
        native = f"http://[{self.lab.nat64(SERVER)}]/"
        self.assertIn("hello over IPv4", self.node.out("curl", "-sS", "-m", "20", native))

    def test_udp(self):
        """datagrams that fit, and larger ones that are fragmented both ways, come back unchanged"""
        for size in (0, 1, 100, BARE_MTU - 20 - 28, BARE_MTU - 20 - 27, 2000, 8192):
            with self.subTest(size=size):
                got = self.lab.probe(self.node, "udp", SERVER, 7, size)
                self.assertTrue(got.get("equal"), got)

    def test_ping(self):
        """ping works, natively to the NAT64, too"""
        for target in (SERVER, self.lab.nat64(SERVER)):
            out = self.node.out("ping", "-n", "-c3", "-i0.2", "-W3", target)
            self.assertIn(" 0% packet loss", out)

    def test_path_mtu(self):
        """an error from a router in the path teaches the path MTU, and TCP goes on through the narrow path"""
        self.addCleanup(self.lab.set_mid_mtu, mid6=1500)
        self.addCleanup(self.node.ip, "route", "flush", "cache")
        self.lab.set_mid_mtu(mid6=1300)
        got = self.lab.probe(self.node, "pmtu", SERVER, 7, BARE_MTU - 20 - 28)
        self.assertEqual((got["mtu"], got["echoed"]), (1280, 1252), got)
        self.node.ip("route", "flush", "cache")
        got = self.lab.probe(self.node, "flood", SERVER, 7, 2, 200_000)
        self.assertEqual((got["good"], got["errors"]), (2, {}))

    def test_unsolicited(self):
        """what nobody asked for reaches no IPv4 listener"""
        goal, source = self.daemon.status()["ipv6"], self.lab.nat64(SERVER)
        before, sent = self.received(), (packets.tcp6(source, goal, 50000, 2222),
                                         packets.udp6(source, goal, 50000, 2222, b"knock"))
        listener = self.lab.start_probe(self.node, "listen", 2222, 1)
        self.lab.inject("bare", *sent)
        self.assertEqual(self.lab.finish_probe(listener), {"tcp": [], "udp": []})
        self.assertGreaterEqual(self.received() - before, len(sent))


@per_datapath
class Bare_shared(_Bare, Active):
    """With the host's own address."""
    sets = ("clat.address=shared",)

    def test_address(self):
        """translated packets carry the host's own address"""
        self.assertEqual(self.daemon.status()["ipv6"], BARE_ADDRESS)


@per_datapath
class Bare_dedicated(_Bare, Active):
    """With another address of the /64 that is routed to the host: there are no neighbours to ask."""
    sets = ("clat.address=dedicated",)

    def test_address(self):
        """the address is another one of the routed /64"""
        address = self.daemon.status()["ipv6"]
        self.assertRegex(address, r"^2001:db8:3:0?:")
        self.assertNotEqual(address, BARE_ADDRESS)


class Automatic(Case):
    """datapath = "auto"."""

    settings = HOST

    def test_choice(self):
        """the automatic choice for an uplink of bare IP packets is the fast path"""
        with self.clatd(self.lab.bare, datapath="auto") as daemon:
            self.assertEqual(daemon.status()["datapath"]["kind"], "bpf", daemon.status()["datapath"])
            self.assertIn("hello over IPv4", self.lab.bare.out("curl", "-sS", "-m", "20", URL))

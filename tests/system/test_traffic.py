"""What people do all day, with IPv4 literals, on an IPv6-only host with clatd running."""
import re

from labnet import packets
from labnet.runner import Active, per_datapath
from labnet.topology import HOPS_BEHIND_NAT64, NATIVE_HOP, SERVER, SERVER_ALT, SERVER_DNS

URL = f"http://{SERVER}"


@per_datapath
class Traffic(Active):
    """Shared address, SLAAC host."""

    def counters(self):
        """Packets by direction."""
        counters = self.daemon.status()["counters"]
        return {way: counters[way]["packets"] for way in ("4to6", "6to4")}

    def test_curl(self):
        """curl http://203.0.113.80/ works, and clatd counted both directions"""
        before = self.counters()
        self.assertIn("hello over IPv4", self.node.out("curl", "-sS", "-m", "20", URL))
        after = self.counters()
        for way in before:
            self.assertGreater(after[way], before[way], way)

    def test_100_mb_down(self):
        """a 100 MB download arrives unchanged"""
        digest = self.node.out("curl", "-sS", f"{URL}/100M.sha256").strip()
        got = self.node.out("sh", "-c", f"curl -sS -m 100 {URL}/100M | sha256sum", timeout=110).split()[0]
        self.assertEqual(got, digest)

    def test_100_mb_up(self):
        """a 100 MB upload arrives unchanged"""
        big = self.lab.dir / "www/100M"
        digest = self.node.out("sha256sum", big).split()[0]
        answer = self.node.out("curl", "-sS", "-m", "100", "-T", big, f"{URL}/sink", timeout=110)
        self.assertEqual(answer.split(), [digest, "100000000"])

    def test_both_ways_at_once(self):
        """a download and an upload at the same time do not disturb each other"""
        big = self.lab.dir / "www/100M"
        digest = self.node.out("sha256sum", big).split()[0]
        out = self.node.out("sh", "-c", f"curl -sS -m 100 -T {big} {URL}/sink & "
                                        f"curl -sS -m 100 {URL}/100M | sha256sum; wait", timeout=115)
        self.assertEqual(out.count(digest), 2, out)

    def test_udp_sizes(self):
        """UDP datagrams of 0 to 1452 bytes come back unchanged"""
        for size in (0, 1, 17, 512, 1232, 1452):
            with self.subTest(size=size):
                got = self.lab.probe(self.node, "udp", SERVER, 7, size)
                self.assertTrue(got.get("equal"), got)

    def test_udp_fragmented_out_and_back(self):
        """8 KB UDP datagrams, fragmented both ways, come back unchanged"""
        for size in (1453, 1473, 2000, 8192):
            with self.subTest(size=size):
                got = self.lab.probe(self.node, "udp", SERVER, 7, size)
                self.assertTrue(got.get("equal"), got)

    def test_udp_fragmented_out(self):
        """the server receives an 8 KB datagram byte for byte"""
        got = self.lab.probe(self.node, "udp", SERVER, 9, 8192)
        self.assertEqual(got.get("text"), f"8192 {got.get('sent_sha')}", got)

    def test_udp_fragmented_in(self):
        """a small question can have an 8 KB answer"""
        got = self.lab.probe(self.node, "udp", SERVER, 19, "=8192")
        self.assertEqual(got.get("got"), 8192, got)

    def test_udp_zero_checksum(self):
        """UDP without a checksum leaves with a right one (RFC 7915 §4.5), and is answered"""
        capture = self.node.spawn("tcpdump", "-vv", "-ni", "eth0", "-c", "1", "ip6 and udp dst port 7",
                                  log="zero-checksum.log")
        self.eventually(lambda: "listening" in self.lab.log_tail("zero-checksum.log"), "tcpdump to start")
        got = self.lab.probe(self.node, "udp", SERVER, 7, 333, "--no-check")
        self.assertTrue(got.get("equal"), got)
        capture.wait(10)
        self.assertIn("udp sum ok", self.lab.log_tail("zero-checksum.log"))

    def test_udp_zero_checksum_fragmented_is_dropped(self):
        """a fragmented datagram without a checksum cannot be translated: dropped and counted (RFC 7915 §4.5)"""
        def drops():
            return sum(self.daemon.status()["counters"]["4to6"]["drops"].values())
        before = drops()
        got = self.lab.probe(self.node, "udp", SERVER, 7, 4000, "--no-check")
        self.assertIn("error", got)
        self.assertGreater(drops(), before)

    def test_udp_zero_checksum_from_the_network(self):
        """an IPv6 datagram without a checksum is invalid (RFC 8200 §8.1) and does not reach the application"""
        listener = self.lab.start_probe(self.node, "listen", 5353, 3)
        self.lab.inject("slaac", packets.udp6(self.lab.nat64(SERVER), self.lab.global_address("slaac"),
                                              7, 5353, b"no checksum", check=0))
        self.assertEqual(self.lab.finish_probe(listener)["udp"], [])

    def test_ping(self):
        """ping works and shows the server's own address"""
        # Larger ones come back in fragments: a NAT64 fragments replies without DF to 1280 bytes
        # (RFC 7915 §4), and fragmented ICMP is not translated (§1.2).
        for size in (0, 56, 1200):
            with self.subTest(size=size):
                out = self.node.run("ping", "-n", "-M", "do", "-c", "3", "-i", "0.2", "-W", "3", "-s", size, SERVER,
                                    check=False).stdout
                self.assertIn(" 0% packet loss", out)
                if size:
                    self.assertIn(f"from {SERVER}", out)

    def test_dig(self):
        """dig @203.0.113.53 works over UDP and TCP"""
        for options in ((), ("+tcp",), ("+notcp", "+bufsize=4096")):
            with self.subTest(options=options):
                out = self.node.out("dig", "+short", "+time=5", "+tries=2", *options, f"@{SERVER_DNS}", "v4only.test", "A")
                self.assertEqual(out.strip(), self.lab.server)

    def test_two_servers(self):
        """flows to two servers keep their addresses apart"""
        for server in (SERVER, SERVER_ALT, "8.8.8.8"):
            got = self.lab.probe(self.node, "udp", server, 7, 100)
            self.assertEqual((got.get("from"), got.get("equal")), (server, True), got)

    def test_refused_port(self):
        """a closed port is refused at once, over TCP and UDP, not timed out"""
        done = self.node.run("bash", "-c", f"exec 3<>/dev/tcp/{SERVER}/81", check=False, timeout=20)
        self.assertIn("refused", done.stderr)
        got = self.lab.probe(self.node, "udp", SERVER, 99, 10)
        self.assertEqual(got.get("errno"), 111, got)

    def test_unreachable_network(self):
        """an error from a router behind the NAT64 reaches the application"""
        self.lab.r3.ip("route", "add", "unreachable", "203.0.112.1/32")
        self.addCleanup(self.lab.r3.ip, "route", "del", "unreachable", "203.0.112.1/32")
        done = self.node.run("ping", "-n", "-c", "2", "-W", "2", "203.0.112.1", check=False)
        self.assertRegex(done.stdout, r"From 192\.0\.2\.6 .*Unreachable")

    def hops(self, *options):
        """Addresses that traceroute shows, hop by hop."""
        out = self.node.out("traceroute", "-n", "-q", "2", "-w", "3", "-m", "12", *options, SERVER, timeout=90)
        return [sorted(set(re.findall(r"(\d+\.\d+\.\d+\.\d+)", line))) for line in out.splitlines()[1:]], out

    def _check_hops(self, *options):
        hops, out = self.hops(*options)
        flat = [h[0] if h else "*" for h in hops]
        self.assertEqual(flat, [NATIVE_HOP, NATIVE_HOP, *HOPS_BEHIND_NAT64, SERVER], out)

    def test_traceroute_udp(self):
        """traceroute (UDP) shows every hop: native routers as 192.0.0.8, the ones behind the NAT64 as themselves"""
        self._check_hops()

    def test_traceroute_icmp(self):
        """traceroute -I (ICMP) shows every hop"""
        self._check_hops("-I")

    def test_traceroute_tcp(self):
        """traceroute -T (TCP) shows every hop"""
        self._check_hops("-T", "-p", "80")

    def test_200_connections(self):
        """200 TCP connections at once, 20 KB echoed through each"""
        got = self.lab.probe(self.node, "flood", SERVER, 7, 200, 20000)
        self.assertEqual((got["good"], got["errors"], got["unfinished"]), (200, {}, 0))

    def test_tos(self):
        """the whole TOS octet survives as traffic class (RFC 7915 §4.1)"""
        capture = self.node.spawn("tcpdump", "-vv", "-ni", "eth0", "-c", "1", "icmp6 and ip6[40]=128", log="tos.log")
        self.eventually(lambda: "listening" in self.lab.log_tail("tos.log"), "tcpdump to start")
        self.node.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "3", "-Q", "0xb8", SERVER)
        capture.wait(10)
        self.assertIn("class 0xb8", self.lab.log_tail("tos.log"))

    def test_names_prefer_native(self):
        """names with AAAA records still go natively while clatd runs"""
        self.assertIn("hello over IPv6", self.node.out("curl", "-sS", "-m", "10", "http://dual.test/"))

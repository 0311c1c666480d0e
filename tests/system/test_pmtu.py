"""Path MTU discovery through a 1400-byte link in the middle, on either side of the NAT64."""
from labnet.runner import Active, per_datapath
from labnet.topology import SERVER

URL = f"http://{SERVER}"


class _Narrow:
    learned = 0

    def test_df_datagram_learns_the_mtu(self):
        """a DF datagram that is too big teaches the host the path MTU, and the next one fits"""
        self.node.ip("route", "flush", "cache")
        got = self.lab.probe(self.node, "pmtu", SERVER, 7, 1452)
        self.assertEqual((got["mtu"], got["echoed"]), (self.learned, self.learned - 28), got)

    def test_ping_is_told(self):
        """ping -M do reports the MTU of the narrow link, less 20 on the IPv6 side"""
        self.node.ip("route", "flush", "cache")
        done = self.node.run("ping", "-n", "-M", "do", "-c", "3", "-i", "0.3", "-W", "2", "-s", "1452", SERVER, check=False)
        self.assertRegex(done.stdout + done.stderr, rf"mtu ?= ?{self.learned}")

    def test_tcp_up(self):
        """a 100 MB upload through the narrow link arrives unchanged"""
        self.node.ip("route", "flush", "cache")
        big = self.lab.dir / "www/100M"
        digest = self.node.out("sha256sum", big).split()[0]
        answer = self.node.out("curl", "-sS", "-m", "100", "-T", big, f"{URL}/sink", timeout=110)
        self.assertEqual(answer.split()[0], digest)

    def test_tcp_down(self):
        """a 100 MB download through the narrow link arrives unchanged: errors travel towards the server, too"""
        self.lab.srv.ip("route", "flush", "cache")
        digest = self.node.out("curl", "-sS", f"{URL}/100M.sha256").strip()
        got = self.node.out("sh", "-c", f"curl -sS -m 100 {URL}/100M | sha256sum", timeout=110).split()[0]
        self.assertEqual(got, digest)

    def test_big_datagrams_both_ways(self):
        """8 KB datagrams without DF pass in fragments, both ways"""
        got = self.lab.probe(self.node, "udp", SERVER, 7, 8192)
        self.assertTrue(got.get("equal"), got)


@per_datapath
class Narrow_ipv6(_Narrow, Active):
    """1400 bytes between the access router and the NAT64: errors come from a native router (192.0.0.8)."""
    settings = {"mid6_mtu": 1400}
    learned = 1380


@per_datapath
class Narrow_ipv4(_Narrow, Active):
    """1400 bytes behind the NAT64: errors come through it."""
    settings = {"mid4_mtu": 1400}
    learned = 1400


@per_datapath
class Narrow_at_run_time(Active):
    """The path changes under live flows."""

    def test_path_narrows_under_a_download(self):
        """a download survives that the path MTU drops to 1280 in its middle"""
        self.addCleanup(self.lab.set_mid_mtu, mid6=1500)
        digest = self.node.out("curl", "-sS", f"{URL}/100M.sha256").strip()
        out = self.lab.dir / "narrowing.out"
        self.addCleanup(out.unlink, missing_ok=True)
        self.node.spawn("sh", "-c", f"curl -sS -m 100 --limit-rate 30M {URL}/100M | sha256sum > {out}", log="narrowing.log")
        self.eventually(lambda: out.exists(), "the download to begin")
        self.lab.set_mid_mtu(mid6=1280)
        self.eventually(lambda: out.read_text(), "the download to end", 110)
        self.assertEqual(out.read_text().split()[0], digest)


@per_datapath
class Small_segment(Active):
    """An uplink with MTU 1280, the least that IPv6 allows."""
    settings = {"seg_mtu": 1280}

    def test_mtu_follows_the_uplink(self):
        """IPv4 gets the uplink's MTU less 20"""
        self.assertEqual(self.daemon.status()["mtu"], 1260)

    def test_transfer(self):
        """100 MB arrive unchanged"""
        digest = self.node.out("curl", "-sS", f"{URL}/100M.sha256").strip()
        got = self.node.out("sh", "-c", f"curl -sS -m 100 {URL}/100M | sha256sum", timeout=110).split()[0]
        self.assertEqual(got, digest)

    def test_fragments(self):
        """8 KB datagrams pass both ways"""
        got = self.lab.probe(self.node, "udp", SERVER, 7, 8192)
        self.assertTrue(got.get("equal"), got)

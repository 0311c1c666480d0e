"""Where the NAT64 prefix comes from, every length of it, and what happens when it changes."""
import json
import time

from labnet.runner import Case, per_datapath
from labnet.topology import SERVER, Lab, embed

URL = f"http://{SERVER}/"
LENGTHS = {"/96": "3fff:96::/96", "/64": "3fff:64:64:64::/64", "/56": "3fff:56:64:6400::/56",
           "/48": "3fff:48:64::/48", "/40": "3fff:40:4000::/40", "/32": "3fff:64::/32"}


@per_datapath
class Lengths(Case):
    """All lengths of RFC 6052, end to end through TAYGA."""

    def _length(self, length):
        with Lab(hosts=["slaac"], pref64=LENGTHS[length]) as lab, self.clatd(lab.slaac) as daemon:
            self.assertEqual(daemon.status()["prefix"]["prefix"], LENGTHS[length])
            self.assertIn("hello over IPv4", lab.slaac.out("curl", "-sS", "-m", "20", URL))
            for size in (100, 3000):
                got = lab.probe(lab.slaac, "udp", SERVER, 7, size)
                self.assertTrue(got.get("equal"), got)
            self.assertIn(" 0% packet loss", lab.slaac.out("ping", "-n", "-c2", "-i0.2", "-W3", SERVER))

    def test_96(self):
        """a /96, found by RA, carries TCP, UDP, fragments and ping"""
        self._length("/96")

    def test_64(self):
        """a /64 (bits 64 to 71 stay zero)"""
        self._length("/64")

    def test_56(self):
        """a /56"""
        self._length("/56")

    def test_48(self):
        """a /48"""
        self._length("/48")

    def test_40(self):
        """a /40"""
        self._length("/40")

    def test_32(self):
        """a /32"""
        self._length("/32")

    def test_well_known(self):
        """the well-known prefix 64:ff9b::/96"""
        with Lab(hosts=["slaac"], pref64="64:ff9b::/96") as lab, self.clatd(lab.slaac) as daemon:
            self.assertEqual(daemon.status()["prefix"]["prefix"], "64:ff9b::/96")
            self.assertIn("hello over IPv4", lab.slaac.out("curl", "-sS", "-m", "20", f"http://{lab.server}/"))


class Dns_lengths(Case):
    """RFC 7050 has to find the position of the well-known address by itself."""

    def test_every_length_by_dns(self):
        """every RFC 6052 length is recognised in the answer for ipv4only.arpa"""
        for length, prefix in LENGTHS.items():
            with self.subTest(length=length), Lab(hosts=["slaac"], pref64=prefix, announce="") as lab, \
                    self.clatd(lab.slaac) as daemon:
                found = daemon.status()["prefix"]
                self.assertEqual((found["prefix"], found["source"]), (prefix, "dns"))
                self.assertIn("hello over IPv4", lab.slaac.out("curl", "-sS", "-m", "20", URL))


class Silent_network(Case):
    """Neither PREF64 nor DNS64."""
    settings = {"announce": "", "dns64": False}

    def test_waits_without_a_prefix(self):
        """no prefix from anywhere means waiting, not exiting, and nothing is set up"""
        daemon = self.clatd(self.lab.slaac).start()
        self.addCleanup(daemon.stop)
        status = daemon.wait_state("waiting")
        self.assertIn("prefix", json.dumps(status["reason"]).lower())
        time.sleep(3)
        self.assertIsNone(daemon.proc.poll())
        self.assertNotIn("clat", self.lab.slaac.ip("-4", "route"))
        self.assertEqual(daemon.stop(), 0)

    def test_configured(self):
        """a configured prefix is used although the network says nothing"""
        with self.clatd(self.lab.slaac, f'nat64.prefix=["{self.lab.pref64}"]') as daemon:
            found = daemon.status()["prefix"]
            self.assertEqual((found["prefix"], found["source"]), (self.lab.pref64, "config"))
            self.assertIn("hello", self.lab.slaac.out("curl", "-sS", "-m", "20", URL))

    def test_fallback(self):
        """the configured fallback is used when every source has failed"""
        with self.clatd(self.lab.slaac, f"nat64.fallback_prefix={self.lab.pref64}").start() as daemon:
            found = daemon.wait_state("active", timeout=60)["prefix"]
            self.assertEqual((found["prefix"], found["source"]), (self.lab.pref64, "fallback"))
            self.assertIn("hello", self.lab.slaac.out("curl", "-sS", "-m", "20", URL))


class By_dns(Case):
    """DNS64 but no PREF64."""
    settings = {"announce": ""}

    def test_dns(self):
        """RFC 7050 finds the prefix when the RA does not name one"""
        with self.clatd(self.lab.slaac) as daemon:
            found = daemon.status()["prefix"]
            self.assertEqual((found["prefix"], found["source"]), (self.lab.pref64, "dns"))
            self.assertIn("hello", self.lab.slaac.out("curl", "-sS", "-m", "20", URL))

    def test_dns_not_asked_for(self):
        """discover = ["ra"] does not ask the DNS"""
        daemon = self.clatd(self.lab.slaac, 'nat64.discover=["ra"]').start()
        self.addCleanup(daemon.stop)
        daemon.wait_state("waiting")
        time.sleep(3)
        self.assertEqual(daemon.status()["state"], "waiting")

    def test_one_address_host(self):
        """the host with a single routed /128 finds it by DNS, too"""
        with self.clatd(self.lab.one) as daemon:
            self.assertEqual(daemon.status()["prefix"]["source"], "dns")
            self.assertIn("hello", self.lab.one.out("curl", "-sS", "-m", "20", URL))


class By_ra(Case):
    """PREF64 but no DNS64; the RAs come from a script, which can withdraw and lie."""
    settings = {"dns64": False, "ra": "script"}

    def setUp(self):
        self.lab.set_ra(self.lab.pref64, 600)
        self.addCleanup(self.lab.set_ra, self.lab.pref64, 600)

    def test_ra(self):
        """the RA's PREF64 is used, and v4shim prefix shows source and lifetime"""
        with self.clatd(self.lab.slaac) as daemon:
            found = daemon.status()["prefix"]
            self.assertEqual((found["prefix"], found["source"]), (self.lab.pref64, "ra"))
            done = daemon.front("prefix", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(self.lab.pref64, done.stdout)
            self.assertIn("ra", done.stdout)
            self.assertIn(self.lab.pref64, daemon.front("prefix").stdout)
            lines = [l for l in (daemon.run_dir / "prefix").read_text().splitlines() if l and not l.startswith("#")]
            self.assertRegex(lines[0], rf"^{self.lab.pref64} source=ra expires=\d+ router=fe80::1%eth0 used$")

    def test_solicited(self):
        """clatd solicits: it need not wait for the next periodic RA, here ten minutes away"""
        self.lab.set_ra(self.lab.pref64, 600, interval=600)
        time.sleep(1)                                          # the RA that the change itself caused
        capture = self.lab.slaac.spawn("tcpdump", "-ni", "eth0", "-c", "1", "icmp6 and ip6[40]=133", log="rs.log")
        self.eventually(lambda: "listening" in self.lab.log_tail("rs.log"), "tcpdump to start")
        with self.clatd(self.lab.slaac):
            capture.wait(15)
        self.assertIn("router solicitation", self.lab.log_tail("rs.log"))

    def test_withdrawn_and_back(self):
        """lifetime 0 withdraws the prefix; clatd waits and comes back with it"""
        with self.clatd(self.lab.slaac) as daemon:
            self.lab.set_ra(self.lab.pref64, 0)
            daemon.wait_state("waiting")
            self.eventually(lambda: "clat" not in self.lab.slaac.ip("-4", "route"), "the IPv4 default route to go")
            self.lab.set_ra(self.lab.pref64, 600)
            daemon.wait_state("active")
            self.assertIn("hello", self.lab.slaac.out("curl", "-sS", "-m", "20", URL))

    def test_expires(self):
        """a prefix that is not announced any more expires"""
        self.lab.set_ra(self.lab.pref64, 8)
        with self.clatd(self.lab.slaac) as daemon:
            self.lab.set_ra("")
            daemon.wait_state("waiting", timeout=40)

    def test_changes(self):
        """a new prefix replaces a withdrawn one at run time, without a restart"""
        other = "3fff:97::/96"
        with self.clatd(self.lab.slaac) as daemon:
            self.lab.set_ra([[self.lab.pref64, 0], [other, 600]])
            self.eventually(lambda: (daemon.status() or {}).get("prefix", {}) and
                            daemon.status()["prefix"].get("prefix") == other, "the new prefix to be used")
            self.assertEqual(daemon.status()["state"], "active")
            capture = self.lab.slaac.spawn("tcpdump", "-ni", "eth0", "-c", "1", f"dst host {embed(other, SERVER)}",
                                           log="change.log")
            self.eventually(lambda: "listening" in self.lab.log_tail("change.log"), "tcpdump to start")
            self.lab.slaac.run("ping", "-c2", "-i0.2", "-W1", SERVER, check=False)
            capture.wait(10)

    def test_still_vouched_for(self):
        """a flow survives that the prefix it uses is announced again and again, with others beside it"""
        with self.clatd(self.lab.slaac):
            flow = self.lab.start_probe(self.lab.slaac, "hold", SERVER, 7, 6)
            self.lab.set_ra([[self.lab.pref64, 600], ["3fff:97::/96", 600]])
            time.sleep(2)
            self.lab.set_ra(self.lab.pref64, 600)
            got = self.lab.finish_probe(flow)
            self.assertNotIn("error", got)
            self.assertLess(got["longest_gap"], 5)

    def test_several(self):
        """of several prefixes one is used, and v4shim prefix lists all"""
        self.lab.set_ra([[self.lab.pref64, 600], ["3fff:97::/96", 600]])
        with self.clatd(self.lab.slaac) as daemon:
            self.eventually(lambda: "3fff:97::/96" in daemon.front("prefix", "--json").stdout, "both prefixes to be listed")
            self.assertIn(self.lab.pref64, daemon.front("prefix", "--json").stdout)

    def test_malformed_options(self):
        """PREF64 options of wrong length or with an unknown prefix length code are ignored, good ones beside them used"""
        network = "20010db80bad"
        bad = ("2601" + "0258" + network[:8]                        # 8 bytes, length 1: too short for a prefix
               + "2602" + "025f" + network + "00" * 6                # 16 bytes, prefix length code 7
               + "2603" + "0258" + network + "00" * 14)              # 24 bytes, length 3
        self.lab.set_ra(self.lab.pref64, 600, raw=bad)
        with self.clatd(self.lab.slaac) as daemon:
            self.assertEqual(daemon.status()["prefix"]["prefix"], self.lab.pref64)
            self.assertNotIn("bad", daemon.front("prefix", "--json").stdout)

    def test_truncated_options(self):
        """an RA whose last option is cut off, or has length 0, kills nobody"""
        with self.clatd(self.lab.slaac) as daemon:
            for raw in ("26", "2602", "260202582001", "2600025820010db8"):
                self.lab.set_ra(self.lab.pref64, 600, raw=raw)
                time.sleep(0.5)
            self.lab.set_ra(self.lab.pref64, 600)
            self.assertEqual(daemon.wait_state("active")["prefix"]["prefix"], self.lab.pref64)

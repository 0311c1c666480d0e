"""Address modes, kinds of hosts, and native traffic beside translated traffic."""
import json

from labnet import packets
from labnet.netns import run
from labnet.runner import Case, per_datapath
from labnet.topology import NAS, ONE_ADDRESS, SERVER, SERVER6

URL = f"http://{SERVER}/"


@per_datapath
class Modes(Case):
    """clat.address = shared | dedicated | an address."""

    def _works(self, host):
        self.assertIn("hello over IPv4", host.out("curl", "-sS", "-m", "20", URL))
        for size in (100, 5000):
            got = self.lab.probe(host, "udp", SERVER, 7, size)
            self.assertTrue(got.get("equal"), got)
        self.assertIn(" 0% packet loss", host.out("ping", "-n", "-c2", "-i0.2", "-W3", SERVER))

    def _source_on_the_wire(self, host):
        """The IPv6 source address of translated packets, as the router sees it."""
        port = "one" if host.name == "one" else "seg"
        capture = self.lab.r1.spawn("tcpdump", "-ni", port, "-c", "1", f"dst host {self.lab.nat64(SERVER)}", log="source.log")
        (self.lab.dir / "source.log").write_text("")
        self.eventually(lambda: "listening" in self.lab.log_tail("source.log"), "tcpdump to start")
        host.run("ping", "-n", "-c3", "-i0.2", "-W2", SERVER, check=False)
        capture.wait(15)
        line = next(l for l in self.lab.log_tail("source.log").splitlines() if " IP6 " in l)
        return line.split(" IP6 ")[1].split(" > ")[0]

    def test_shared(self):
        """shared: translated packets carry the host's own address"""
        host = self.lab.slaac
        with self.clatd(host, "clat.address=shared") as daemon:
            self._works(host)
            self.assertEqual(daemon.status()["address_mode"], "shared")
            self.assertEqual(self._source_on_the_wire(host), self.lab.global_address("slaac"))

    def test_shared_one_address(self):
        """shared: a single routed /128 with source filtering is enough"""
        with self.clatd(self.lab.one, "clat.address=shared"):
            self._works(self.lab.one)
            self.assertEqual(self._source_on_the_wire(self.lab.one), ONE_ADDRESS)

    def test_dedicated(self):
        """dedicated: an address of its own in the uplink's /64, the same after a restart"""
        host, sources = self.lab.slaac, []
        for _ in range(2):
            with self.clatd(host, "clat.address=dedicated"):
                self._works(host)
                sources.append(self._source_on_the_wire(host))
        self.assertTrue(sources[0].startswith("2001:db8:1:"), sources)
        self.assertNotEqual(sources[0], self.lab.global_address("slaac"))
        self.assertEqual(sources[0], sources[1])

    def test_explicit(self):
        """an explicit address is used as given"""
        host, address = self.lab.slaac, "2001:db8:1::c1a7"
        host.ip("addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        self.addCleanup(host.ip, "addr", "del", f"{address}/64", "dev", "eth0")
        with self.clatd(host, f"clat.address={address}"):
            self._works(host)
            self.assertEqual(self._source_on_the_wire(host), address)

    def test_lan_beside(self):
        """an RFC 1918 /30 keeps working and is never routed into clat"""
        host = self.lab.lan
        with self.clatd(host):
            self._works(host)
            self.assertIn("hello over IPv4, you are 10.77.0.2", host.out("curl", "-sS", "-m", "10", f"http://{NAS}/"))
            self.assertIn("dev nas0", host.out("ip", "route", "get", NAS))
            self.assertIn("dev clat", host.out("ip", "route", "get", SERVER))

    def test_native_and_clat_at_once(self):
        """native IPv6 to the NAT64 and translated flows to the same server run side by side, unmixed"""
        host, native = self.lab.slaac, f"http://[{self.lab.nat64(SERVER)}]"
        with self.clatd(host, "clat.address=shared"):
            digest = host.out("curl", "-sS", f"{URL}100M.sha256").strip()
            out = host.out("sh", "-c", f"curl -sS -m 100 {native}/100M | sha256sum & curl -sS -m 100 {URL}100M | sha256sum;"
                                       " wait", timeout=115)
            self.assertEqual(out.count(digest), 2, out)
            got6 = self.lab.probe(host, "flood", self.lab.nat64(SERVER), 7, 50, 5000)
            got4 = self.lab.probe(host, "flood", SERVER, 7, 50, 5000)
            self.assertEqual((got6["good"], got4["good"]), (50, 50))
            out = host.out("ping", "-n", "-c2", "-i0.2", "-W3", self.lab.nat64(SERVER))
            self.assertIn(" 0% packet loss", out)

    def test_same_port_natively(self):
        """a native socket is not disturbed by a translated one with the same ports, which works or fails at once"""
        host = self.lab.slaac
        script = ("import json, socket, sys\n"
                  "six, four, out = sys.argv[1], sys.argv[2], {}\n"
                  "a = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); a.setsockopt(41, 26, 1); a.bind(('::', 40404))\n"
                  "b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.bind(('0.0.0.0', 40404))\n"
                  "for s, d, n in ((a, six, 'native'), (b, four, 'clat'), (a, six, 'again')):\n"
                  "    s.settimeout(3); s.connect((d, 7))\n"
                  "    try: s.send(n.encode()); out[n] = s.recv(100).decode()\n"
                  "    except OSError as e: out[n] = type(e).__name__\n"
                  "print(json.dumps(out))\n")
        with self.clatd(host, "clat.address=shared"):
            got = json.loads(host.out("python3", "-c", script, self.lab.nat64(SERVER), SERVER))
            self.assertEqual((got["native"], got["again"]), ("native", "again"), got)

    def test_native_destinations_untouched(self):
        """native IPv6 elsewhere works as before"""
        with self.clatd(self.lab.slaac):
            self.assertIn("hello over IPv6", self.lab.slaac.out("curl", "-sS", "-m", "10", f"http://[{SERVER6}]/"))

    def test_filters_of_the_host(self):
        """a filter of the host's own on the uplink still judges what is not the CLAT's"""
        host = self.lab.slaac
        native = ("curl", "-sS", "-m", "3", f"http://[{SERVER6}]/")
        source = self.lab.dir / "refuse.c"
        source.write_text('__attribute__((section("classifier"))) int refuse(void *skb) { return 2; } /* TC_ACT_SHOT */\n')
        run(["clang", "-target", "bpf", "-O2", "-c", source, "-o", source.with_suffix(".o")])
        with self.clatd(host):
            host.out(*native)
            host.run("tc", "qdisc", "add", "dev", "eth0", "clsact", check=False)
            self.addCleanup(host.run, "tc", "qdisc", "del", "dev", "eth0", "clsact", check=False)
            host.out("tc", "filter", "add", "dev", "eth0", "ingress", "pref", "7", "protocol", "ipv6", "bpf", "da", "obj",
                     source.with_suffix(".o"), "sec", "classifier")
            self.assertNotEqual(host.run(*native, check=False).returncode, 0, "the filter was passed by")
            host.out("tc", "filter", "del", "dev", "eth0", "ingress", "pref", "7")
            self.eventually(lambda: not host.run(*native, check=False).returncode, "native IPv6 to come back")

    def test_private_destinations_refused_at_once(self):
        """a private IPv4 destination without a route is refused at once, not swallowed"""
        with self.clatd(self.lab.slaac):
            done = self.lab.slaac.run("ping", "-n", "-c1", "-W5", "10.99.0.1", check=False, timeout=20)
            self.assertRegex(done.stdout + done.stderr, r"(?i)unreachable|prohibited|filtered")

    def _inject_to(self, daemon, make):
        """Inject packets for a listening host; what its IPv4 listeners saw."""
        target = self.lab.global_address("slaac")
        address = (daemon.status().get("ipv6") or target)
        listener = self.lab.start_probe(self.lab.slaac, "listen", 2222, 3)
        for goal in {target, address if isinstance(address, str) else target}:
            for packet in make(goal):
                self.lab.inject("slaac", packet)
        return self.lab.finish_probe(listener)

    def test_nothing_unsolicited_comes_in(self):
        """inbound = replies: no IPv4 listener is reachable from outside, the IPv6 firewall is not bypassed"""
        source = self.lab.nat64(SERVER)
        for mode in ("shared", "dedicated"):
            with self.subTest(mode=mode), self.clatd(self.lab.slaac, f"clat.address={mode}") as daemon:
                self.assertIn("hello", self.lab.slaac.out("curl", "-sS", "-m", "20", URL))
                got = self._inject_to(daemon, lambda goal: (packets.tcp6(source, goal, 50000, 2222),
                                                            packets.udp6(source, goal, 50000, 2222, b"knock")))
                self.assertEqual(got, {"tcp": [], "udp": []})

    def test_spoofed_private_sources_are_refused(self):
        """a packet from pref64::10.77.0.1 does not reach an application as its NFS server"""
        with self.clatd(self.lab.slaac, "clat.inbound=allow", "clat.address=dedicated") as daemon:
            def make(goal):
                for private in ("10.77.0.1", "127.0.0.1", "169.254.1.1", "192.168.1.1", "224.0.0.1", "240.0.0.1", "0.0.0.0"):
                    yield packets.udp6(self.lab.nat64(private), goal, 2049, 2222, b"spoof")
            self.assertEqual(self._inject_to(daemon, make)["udp"], [])

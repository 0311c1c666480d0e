"""hostsfix on an IPv6-only host behind a real DNS64 and NAT64: which address a name gets, and what changes it.

The names come from an authoritative unbound and a DNS64 in front of it, both of this test alone, so
that records can change: r1 has them on 2001:db8:53::1 (DNS64) and 2001:db8:53::2 (plain).
"""
import json
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from labnet.clatd import program  # noqa: E402
from labnet.netns import run  # noqa: E402
from labnet.runner import Case  # noqa: E402
from labnet.topology import SERVER, SERVER6, SERVER_ALT, embed  # noqa: E402

DNS64, PLAIN, NEW6 = "2001:db8:53::1", "2001:db8:53::2", "2001:db8:ffff::90"
DEAD6 = "2001:db8:ffff::dead"
ZONE = {
    "registry.example": [("A", SERVER), ("AAAA", SERVER6)],
    "www.registry.example": [("CNAME", "cdn.registry.example.")],
    "cdn.registry.example": [("CNAME", "registry.example.")],
    "smtp.example": [("A", SERVER)],
    "two.example": [("A", SERVER), ("A", SERVER_ALT)],
    "broken6.example": [("A", SERVER), ("AAAA", DEAD6)],
    "only6.example": [("AAAA", SERVER6)],
    "dead6.example": [("AAAA", DEAD6)],
    "nas.example": [("A", "10.0.0.1"), ("A", "127.0.0.1")],
    "xn--bcher-kva.example": [("A", SERVER)],
    "ipv4only.arpa": [("A", "192.0.0.170"), ("A", "192.0.0.171")],
}
COMMON = """\
 do-daemonize: no
 use-syslog: no
 chroot: ""
 username: ""
 pidfile: ""
 num-threads: 1
 do-not-query-localhost: no
 do-ip4: yes
 cache-max-ttl: 1
 cache-max-negative-ttl: 1
 access-control: ::/0 allow
 access-control: 127.0.0.0/8 allow
"""


class Pins(Case):
    """One host, its own DNS, its own copy of the hosts file."""

    settings = {"hosts": ["slaac", "lan"]}
    timeout = 180

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node = cls.lab.slaac
        for address in (DNS64, PLAIN):
            cls.lab.r1.run("ip", "addr", "replace", f"{address}/128", "dev", "lo")
        cls.lab.srv.run("ip", "addr", "replace", f"{NEW6}/64", "dev", "eth0", "nodad")

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="v4shim-hostsfix-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        for name in ("run", "state"):
            (self.dir / name).mkdir()
        self.hosts = self.dir / "hosts"
        self.before = b"127.0.0.1 localhost\n::1 localhost\n"
        self.hosts.write_bytes(self.before)
        (self.dir / "config.toml").write_text("")
        self.processes = []
        self.addCleanup(self.stop_dns)
        self.serve(ZONE)

    # -- the DNS --------------------------------------------------------------------------------

    def serve(self, zone, ttl=60):
        """(Re)start the DNS with these records."""
        self.stop_dns()
        records = []
        for name, found in zone.items():
            for kind, data in found:
                records.append(f' local-data: "{name}. {ttl} {kind} {data}"')
        zones = ' local-zone: "example." static\n local-zone: "arpa." static\n'
        self.unbound("auth", f'server:\n interface: ::1@5300\n{COMMON}{zones}' + "\n".join(records) + "\n")
        forward = 'forward-zone:\n name: "."\n forward-addr: ::1@5300\n'
        open_zones = ' local-zone: "example." nodefault\n domain-insecure: "example"\n domain-insecure: "arpa"\n'
        self.unbound("dns64", f'server:\n interface: {DNS64}\n{COMMON}{open_zones} module-config: "dns64 iterator"\n'
                              f' dns64-prefix: {self.lab.pref64}\n{forward}')
        self.unbound("plain", f'server:\n interface: {PLAIN}\n{COMMON}{open_zones} module-config: "iterator"\n{forward}')
        for server in (DNS64, PLAIN):
            self.eventually(lambda server=server: "NOERROR" in self.node.run(
                "dig", "+tries=1", "+time=1", f"@{server}", "registry.example", check=False).stdout,
                f"{server} answers", 30)

    def unbound(self, name, text):
        """Start one unbound on r1, from a copy that AppArmor does not tie to /etc/unbound."""
        binary = self.dir / "unbound"
        if not binary.exists():
            shutil.copy2(shutil.which("unbound"), binary)
        (self.dir / f"{name}.conf").write_text(text)
        self.processes.append(self.lab.r1.spawn(binary, "-d", "-c", self.dir / f"{name}.conf",
                                                log=f"hostsfix-{name}.log"))

    def stop_dns(self):
        """No DNS any more."""
        while self.processes:
            process = self.processes.pop()
            process.kill()
            process.wait(10)

    # -- hostsfix and its users -----------------------------------------------------------------

    def inside(self, *argv, resolver=DNS64, node=None, check=False, timeout=60):
        """Run on a host with our resolv.conf and our hosts file in the places of the machine's."""
        (self.dir / "resolv.conf").write_text(f"nameserver {resolver}\noptions timeout:1 attempts:1\n")
        (self.dir / "nsswitch.conf").write_text("hosts: files dns\n")
        script = ('mount --bind "$1/resolv.conf" /etc/resolv.conf; mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf;'
                  'mount --bind "$1/hosts-seen" /etc/hosts; shift; exec "$@"')
        # A copy, because a bind mount would make the file itself a mount point.
        shutil.copy2(self.hosts, self.dir / "hosts-seen")
        return run(["ip", "netns", "exec", (node or self.node).netns, "sh", "-ec", script, "inside", str(self.dir),
                    *map(str, argv)], check=check, timeout=timeout)

    def hostsfix(self, *args, code=0, **kw):
        """Run hostsfix on the host."""
        done = self.inside("env", f"V4SHIM_RUN_DIR={self.dir}/run", f"V4SHIM_STATE_DIR={self.dir}/state",
                           program("hostsfix"), "--config", self.dir / "config.toml", "--hosts-file", self.hosts,
                           *args, **kw)
        self.assertEqual(done.returncode, code, f"{args}: {done.stdout}{done.stderr}")
        return done

    def pins(self):
        """{name: (source, addresses)} as `list --json` has them."""
        pins = json.loads(self.hostsfix("list", "--json").stdout)["pins"]
        return {p["name"]: (p["source"], p["addresses"]) if "source" in p else p["reason"] for p in pins}

    def web(self, *argv, **kw):
        """Whether a client on the host gets the greeting."""
        return "hello over" in self.inside(*argv, **kw).stdout

    def nat64(self, address):
        """The address behind the lab's NAT64."""
        return str(embed(self.lab.pref64, address))

    # -- tests ------------------------------------------------------------------------------------

    def test_the_talk(self):
        """a native registry and a synthesised mail server come out right; Node of old and curl connect"""
        self.hostsfix("add", "--port", "80", "registry.example", "smtp.example")
        self.assertEqual(self.pins(), {"registry.example": ("native", [SERVER6]),
                                       "smtp.example": ("nat64", [self.nat64(SERVER)])})
        lines = self.hosts.read_text().splitlines()
        self.assertIn(f"{SERVER6} registry.example", lines)
        self.assertIn(f"{self.nat64(SERVER)} smtp.example", lines)
        self.hostsfix("check")
        # With a resolver that has no DNS64 it is the pin that makes smtp.example reachable.
        for name in ("registry.example", "smtp.example"):
            self.assertTrue(self.web("curl", "-sS", "-m", "20", f"http://{name}/", resolver=PLAIN), name)
        self.hostsfix("rm", "--all")
        self.assertEqual(self.hosts.read_bytes(), self.before)
        self.assertFalse(self.web("curl", "-sS", "-m", "20", "http://smtp.example/", resolver=PLAIN))

    @unittest.skipUnless(shutil.which("node"), "Node.js is not installed")
    def test_old_node(self):
        """Node as it was before version 17 (IPv4 first, no second try) fails without a pin and works with it"""
        fetch = ("require('net').setDefaultAutoSelectFamily?.(false);"
                 "require('http').get('http://registry.example/', {agent: false}, "
                 "r => r.on('data', d => process.stdout.write(d))).on('error', e => console.error(e.code))")
        node = ("node", "--dns-result-order=ipv4first", "-e", fetch)
        # `lan` has a private IPv4 address beside its IPv6, and no way out for it: the worst case.
        done = self.inside(*node, node=self.lab.lan)
        self.assertIn("ENETUNREACH", done.stderr)
        self.hostsfix("add", "registry.example")
        self.assertTrue(self.web(*node, node=self.lab.lan))

    def test_choice(self):
        """CNAMEs, several addresses, dead IPv6, IDNA; private and dead ones are refused with the reason"""
        self.hostsfix("add", "www.registry.example", "two.example", "broken6.example", "only6.example", "bücher.example")
        pins = self.pins()
        both = {self.nat64(SERVER), self.nat64(SERVER_ALT)}
        self.assertEqual(set(pins["two.example"][1]), both)
        self.assertEqual({n: v for n, v in pins.items() if n != "two.example"}, {
            "www.registry.example": ("native", [SERVER6]), "broken6.example": ("nat64", [self.nat64(SERVER)]),
            "only6.example": ("native", [SERVER6]), "xn--bcher-kva.example": ("nat64", [self.nat64(SERVER)])})
        for _ in range(5):
            self.hostsfix("sync", "--force")
        self.assertEqual(self.pins(), pins, "the order is stable")
        written = self.hosts.read_bytes()
        for name, words in (("nas.example", "private"), ("dead6.example", "accepts no connection"),
                            ("nothing.example", "no address")):
            self.assertIn(words, self.hostsfix("add", name, code=1).stderr)
        self.hostsfix("add", "nas.example", "registry.example", code=3)
        self.hostsfix("rm", "registry.example")
        self.assertEqual(self.hosts.read_bytes(), written)

    def test_no_nat64(self):
        """an IPv4-only name without a NAT64 is refused with the reason"""
        done = self.hostsfix("add", "smtp.example", code=1, resolver=PLAIN)
        self.assertIn("IPv4 only, and no NAT64 prefix is known", done.stderr)
        self.assertEqual(self.hosts.read_bytes(), self.before)
        self.hostsfix("add", "registry.example", resolver=PLAIN)

    def test_renumbered(self):
        """a server that moves and a prefix that changes update the pins at the next sync"""
        self.hostsfix("add", "--ttl", "60", "registry.example", "smtp.example")
        self.serve({**ZONE, "registry.example": [("A", SERVER), ("AAAA", NEW6)], "smtp.example": [("A", SERVER_ALT)]})
        self.eventually(lambda: self.hostsfix("sync").returncode == 0 and
                        self.pins()["registry.example"] == ("native", [NEW6]), "the new addresses", 90)
        self.assertEqual(self.pins()["smtp.example"], ("nat64", [self.nat64(SERVER_ALT)]))
        self.assertTrue(self.web("curl", "-sS", "-m", "20", "http://smtp.example/", resolver=PLAIN))
        # As clatd tells of it.
        (self.dir / "run/prefix").write_text("3fff:64::/96 source=ra expires=never used\n")
        done = self.hostsfix("sync")
        self.assertIn(f"before that to {self.nat64(SERVER_ALT)}", done.stderr)
        self.assertEqual(self.pins()["smtp.example"][1], [str(embed("3fff:64::/96", SERVER_ALT))])
        self.assertEqual(self.pins()["registry.example"], ("native", [NEW6]))

    def test_dns_goes_away(self):
        """without DNS a pin stays until it expires, then goes; and comes back with the DNS"""
        self.hostsfix("add", "--ttl", "60", "registry.example")
        self.stop_dns()
        time.sleep(31)                                    # half-life: due
        self.assertIn("stays until", self.hostsfix("sync", code=3, timeout=100).stderr)
        self.assertEqual(self.pins()["registry.example"], ("native", [SERVER6]))
        time.sleep(30)
        self.assertIn("unpinned", self.hostsfix("sync", code=1, timeout=100).stderr)
        self.assertEqual(self.pins()["registry.example"], "dns-down")
        self.serve(ZONE)
        self.hostsfix("sync")
        self.assertEqual(self.pins()["registry.example"], ("native", [SERVER6]))

    def test_name_goes_away(self):
        """a name that stops resolving is unpinned at the next sync"""
        self.hostsfix("add", "smtp.example", "registry.example")
        self.serve({name: records for name, records in ZONE.items() if name != "smtp.example"})
        self.assertIn("unpinned, because the DNS has no address", self.hostsfix("sync", "--force", code=3).stderr)
        self.assertEqual(self.pins()["smtp.example"], "no-address")
        self.assertNotIn(" smtp.example\n", self.hosts.read_text())

    def test_never_through_its_own_pins(self):
        """a wrong pin does not confirm itself"""
        self.hostsfix("add", "registry.example")
        self.hosts.write_text(self.hosts.read_text().replace(f"{SERVER6} reg", f"{DEAD6} reg"))
        self.assertIn("sync would pin it to", self.hostsfix("check", code=1).stdout)
        self.assertIn(SERVER6, self.hostsfix("sync", "--force", "--dry-run").stdout)
        self.hostsfix("sync", "--force")
        self.assertEqual(self.pins()["registry.example"], ("native", [SERVER6]))

    def test_configuration(self):
        """names of [hosts] pin come with sync and go when they leave the configuration"""
        (self.dir / "config.toml").write_text('[hosts]\npin = ["registry.example"]\n')
        (self.dir / "config.toml.d").mkdir()
        (self.dir / "config.toml.d/10.toml").write_text('[hosts]\npin = ["registry.example", "smtp.example"]\n')
        self.hostsfix("sync")
        self.assertEqual(set(self.pins()), {"registry.example", "smtp.example"})
        self.assertIn("configuration", self.hostsfix("rm", "smtp.example").stderr)
        self.hostsfix("sync")
        self.assertEqual(set(self.pins()), {"registry.example", "smtp.example"})
        (self.dir / "config.toml.d/10.toml").unlink()
        self.hostsfix("sync")
        self.assertEqual(set(self.pins()), {"registry.example"})
        (self.dir / "config.toml").write_text("")
        self.hostsfix("sync")
        self.assertEqual(self.hosts.read_bytes(), self.before)

"""Every wrong configuration is one clear line: file, key, value, reason; exit status 2."""
from labnet.runner import Case

# text of the file, what the message must name
WRONG = [
    ('[clat]\ndevcie = "clat"\n', ("devcie",)),
    ("[calt]\n", ("calt",)),
    ('[clat]\nenabled = "yes"\n', ("enabled",)),
    ('[clat]\nmtu = "big"\n', ("mtu",)),
    ("[clat]\nmtu = 100\n", ("mtu", "100")),
    ("[clat]\nmtu = 70000\n", ("mtu", "70000")),
    ("[clat]\nlowest_ipv6_mtu = 1000\n", ("lowest_ipv6_mtu", "1000")),
    ('[clat]\ndatapath = "dpdk"\n', ("datapath", "dpdk")),
    ('[clat]\ninbound = "deny"\n', ("inbound", "deny")),
    ('[clat]\nwhen_native_ipv4 = "panic"\n', ("when_native_ipv4", "panic")),
    ('[clat]\naddress = "10.0.0.1"\n', ("address", "10.0.0.1")),
    ('[clat]\naddress = "sharde"\n', ("address", "sharde")),
    ('[clat]\nipv4 = "2001:db8::1"\n', ("ipv4", "2001:db8::1")),
    ('[clat]\nipv4 = "127.0.0.1"\n', ("ipv4", "127.0.0.1")),
    ('[clat]\ndevice = "a-name-that-is-too-long"\n', ("device", "a-name-that-is-too-long")),
    ('[clat]\ndevice = "a/b"\n', ("device", "a/b")),
    ("[clat]\nroute_metric = -1\n", ("route_metric", "-1")),
    ('[nat64]\nprefix = ["2001:db8::/80"]\n', ("prefix", "2001:db8::/80")),
    ('[nat64]\nprefix = ["2001:db8:64::1/96"]\n', ("prefix", "2001:db8:64::1/96")),
    ('[nat64]\nprefix = ["2001:db8:64::"]\n', ("prefix", "2001:db8:64::")),
    ('[nat64]\nprefix = ["2001:db8:0:0:ff00::/96"]\n', ("prefix", "2001:db8:0:0:ff00::/96")),
    ('[nat64]\nprefix = ["192.0.2.0/24"]\n', ("prefix", "192.0.2.0/24")),
    ('[nat64]\nprefix = [96]\n', ("prefix",)),
    ('[nat64]\ndiscover = ["ra", "dhcp"]\n', ("discover", "dhcp")),
    ('[nat64]\ndns_servers = ["resolver.example"]\n', ("dns_servers", "resolver.example")),
    ('[nat64]\nfallback_prefix = "64:ff9b::/95"\n', ("fallback_prefix", "64:ff9b::/95")),
    ("[nat64]\nprivate_ipv4 = 1\n", ("private_ipv4",)),
    ('[clat]\nmtu = 1400\nmtu = 1300\n', ("3", "duplicate")),
    ("[clat\n", ()),
    ("\x00\x01", ()),
]


class Wrong_configuration(Case):
    """The program is run on a lab host; it must end before it touches anything."""

    def refused(self, done, *words):
        """Exit status 2 and one line that names all the words."""
        self.assertEqual(done.returncode, 2, f"{done.stdout}{done.stderr}")
        lines = [l for l in done.stderr.splitlines() if l.strip()]
        self.assertEqual(len(lines), 1, f"one line, please: {done.stderr!r}")
        for word in words:
            self.assertIn(word, lines[0])

    def test_files(self):
        """unknown keys, wrong types, impossible values: the line names file, key and value"""
        for text, words in WRONG:
            with self.subTest(text=text):
                daemon = self.clatd(self.lab.slaac, config=text, datapath=None)
                self.refused(daemon.once(), str(daemon.config), *words)

    def test_drop_in(self):
        """a mistake in a drop-in names the drop-in, not the main file"""
        daemon = self.clatd(self.lab.slaac, datapath=None)
        directory = daemon.config.with_name(daemon.config.name + ".d")
        directory.mkdir()
        file = directory / "10-site.toml"
        file.write_text("[clat]\nmtu = 1\n")
        self.addCleanup(directory.rmdir)
        self.addCleanup(file.unlink)
        self.refused(daemon.once(), str(file), "mtu")

    def test_set(self):
        """a mistake on the command line is named as such"""
        for item in ("clat.mtu=1", "clat.nonsense=1", "nonsense", "clat.datapath=dpdk"):
            with self.subTest(item=item):
                self.refused(self.clatd(self.lab.slaac, item, datapath=None).once(), item.split("=")[0].split(".")[-1])

    def test_unreadable(self):
        """a named file that is not there, or is a directory, is an error"""
        for path in ("/nonexistent/v4shim.toml", "/tmp"):
            with self.subTest(path=path):
                daemon = self.clatd(self.lab.slaac, datapath=None)
                daemon.config = path
                self.refused(daemon.once(), path)

    def test_address_not_here(self):
        """an explicit address that this host does not have is refused with status 2, naming key and value"""
        done = self.clatd(self.lab.slaac, config='[clat]\naddress = "2001:db8:1::dead"\n', datapath=None).once()
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("2001:db8:1::dead", done.stderr)
        self.assertIn("address", done.stderr)

    def test_uplink_not_here(self):
        """an uplink of a name that no interface has is refused with status 1, naming key, value and what there is"""
        done = self.clatd(self.lab.slaac, "clat.uplink=wwan7").once()
        self.assertEqual(done.returncode, 1, done.stderr)
        for word in ("clat.uplink", "wwan7", "eth0"):
            self.assertIn(word, done.stderr)

    def test_unknown_option(self):
        """an unknown option is a usage error"""
        self.assertEqual(self.clatd(self.lab.slaac).once("--frobnicate").returncode, 2)

    def test_disabled(self):
        """enabled = false does nothing and is no error"""
        daemon = self.clatd(self.lab.slaac, "clat.enabled=false").start()
        self.addCleanup(daemon.stop)
        self.eventually(lambda: daemon.proc.poll() is not None or daemon.status(), "an answer")
        self.assertNotIn("clat", self.lab.slaac.ip("-4", "route"))
        if daemon.proc.poll() is not None:
            self.assertEqual(daemon.proc.returncode, 0)

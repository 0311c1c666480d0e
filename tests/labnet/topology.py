r"""What the lab looks like.

                                  2001:db8:1::/64 (SLAAC, RA, PREF64, RDNSS)
    slaac  IPv6 only ───────────┐ 198.51.100.0/24 (only `dual` uses it)
    lan    IPv6 only ───────────┤
    dual   native dual stack ───┴─[seg]┐
    one    one routed /128 ───[one]── r1 ───────── r2 ───────── r3 ───────── srv
           2001:db8:2::128            │   mid6      │   mid4               203.0.113.80, .81 web, echo
                                      │             │                      203.0.113.53, 8.8.8.8 DNS
    bare   IPv6 only, TUN ────[bare]──┤             │                      only where asked for:
           2001:db8:3::2, routed /64  │             │                      no link-layer headers
                                      │             │
    lan ──[nas0] 10.77.0.0/30 ── nas  │             │                      2001:db8:ffff::80, ::53
         .2                   .1      radvd/ra.py   TAYGA (NAT64)
         also RFC 1918              unbound DNS64   + masquerade

    r1 ─ r2   2001:db8:c1::1 ─ ::2, 192.0.2.1 ─ .2    mid6_mtu: a narrow IPv6 path; errors come from outside pref64
    r2 ─ r3   2001:db8:c2::1 ─ ::2, 192.0.2.5 ─ .6    mid4_mtu: a narrow IPv4 path; errors come through the NAT64
    r3 ─ srv  2001:db8:ffff::1, 203.0.113.1

Hops that a CLAT user sees in traceroute: r1, r2 (native: 192.0.0.8), 192.0.2.65 (TAYGA),
192.0.2.66 (r2 behind it), 192.0.2.6 (r3), the server.

`one` stands for DHCPv6 and for providers that route a single address: a link of its own, no
on-link prefix, and r1 drops every other source address that comes from it.
"""
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import daemons, packets
from .addresses import (  # noqa: F401  (tests use them from here)
    BARE_ADDRESS, DNS64, DUAL_ADDRESS, NAS, ONE_ADDRESS, SERVER, SERVER6, SERVER6_DNS, SERVER_ALT, SERVER_DNS, NATIVE_HOP,
    HOPS_BEHIND_NAT64)
from .netns import LabError, Node, Store, reap, remove_stale, run, wait_for

BARE_MTU = 1420                                            # WireGuard's
ROUTERS = ("r1", "r2", "r3")
HOSTS = ("slaac", "one", "lan", "dual")                    # and `bare`, which only its own tests need

HERE = Path(__file__).resolve().parent
PROBES = HERE / "probes.py"

DEFAULTS = {
    "pref64": "2001:db8:64::/96",  # the NAT64's prefix, any RFC 6052 length
    "announce": None,              # PREF64 put in the RAs: None is pref64, "" is none
    "lifetime": 600,               # its lifetime in seconds
    "dns64": True,                 # False: a plain recursive resolver
    "ra": "auto",                  # radvd | script | none; auto is radvd if one >= 2.20 can be had
    "seg_mtu": 1500,               # of the hosts' segment
    "mid6_mtu": 1500,              # between r1 and r2
    "mid4_mtu": 1500,              # between r2 and r3
    "hosts": HOSTS,                # which hosts to build
}


class Lab:
    """The lab for the length of a `with` block, or detached until `Lab.attach(id).down()`."""

    def __init__(self, lab_id=None, say=lambda text: None, **settings):
        unknown = set(settings) - set(DEFAULTS)
        if unknown:
            raise LabError(f"no such lab setting: {', '.join(sorted(unknown))}")
        for key, value in {**DEFAULTS, **settings}.items():
            setattr(self, key, value)
        self.settings = settings
        if self.announce is None:
            self.announce = self.pref64
        # TAYGA keeps RFC 6052 §3.1: no documentation address under the well-known prefix.
        self.server = "8.8.8.8" if self.pref64 == "64:ff9b::/96" else SERVER
        self.id = lab_id or f"{os.getpid()}x{Lab._count()}"
        self.say = say
        self.store = Store(self.id)
        self.dir = self.store.dir
        self.nodes = {}
        self.procs = []
        self.failed = False

    _serial = 0

    @classmethod
    def _count(cls):
        cls._serial += 1
        return cls._serial

    @classmethod
    def attach(cls, lab_id):
        """A lab that another process brought up."""
        meta = Store(lab_id).load()
        if not meta:
            raise LabError(f"no lab {lab_id}; `tests/lab list` shows what there is")
        lab = cls(lab_id, **meta["settings"])
        lab._name_nodes()
        return lab

    # -- life -------------------------------------------------------------------------------

    def __enter__(self):
        return self.up()

    def __exit__(self, kind, _value, _trace):
        self.down(keep_logs=self.failed or kind not in (None, SystemExit, KeyboardInterrupt))

    def up(self, detached=False):
        """Build everything and return when hosts have addresses and the daemons answer."""
        remove_stale(self.say)
        missing = [c for c in ("ip", "nft", "tayga", "unbound", "sysctl", "ping", "tc") if not shutil.which(c)]
        if missing:
            raise LabError(f"{', '.join(missing)} missing: run tests/install")
        if self.store.namespaces():
            raise LabError(f"lab {self.id} is up already")
        shutil.rmtree(self.dir, ignore_errors=True)       # logs kept from an earlier failure
        self.store.create(self.settings, detached)
        try:
            self._build()
        except BaseException:
            self.down(keep_logs=True)
            raise
        return self

    def down(self, keep_logs=False):
        """Remove the lab. Users call unwind_on_signals(), so that a second Ctrl-C does not stop half-way."""
        for proc in self.procs:
            proc.poll()
        self.store.remove(keep_logs)
        for proc in self.procs:
            try:
                proc.wait(5)
            except subprocess.TimeoutExpired:
                pass
        if keep_logs and self.dir.exists():
            print(f"lab logs are in {self.dir}", file=sys.stderr)

    def spawn(self, argv, log, env=None, **kw):
        """Start and record a background process whose output goes to DIR/log."""
        with open(self.dir / log, "ab") as out:
            proc = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    start_new_session=True, env={**os.environ, **(env or {})}, **kw)
        self.store.remember(proc.pid)
        self.procs.append(proc)
        return proc

    def log_tail(self, log, lines=15):
        """The last lines of a log, for error messages."""
        try:
            return "\n".join((self.dir / log).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def __getattr__(self, name):
        nodes = self.__dict__.get("nodes", {})
        if name in nodes:
            return nodes[name]
        raise AttributeError(name)

    # -- construction -----------------------------------------------------------------------

    def _name_nodes(self):
        names = [*self.hosts, *ROUTERS, "srv", *(["nas"] if "lan" in self.hosts else [])]
        self.nodes = {name: Node(self, name) for name in names}
        for name in self.hosts:
            self.nodes[name].resolv = self.dir / "resolv.conf"

    def _build(self):
        self._name_nodes()
        (self.dir / "resolv.conf").write_text(f"nameserver {DNS64}\noptions timeout:2 attempts:2\n")
        for node in self.nodes.values():
            run(["ip", "netns", "add", node.netns])
            node.ip("link", "set", "lo", "up")
            node.sysctl(net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0,
                        net__ipv4__ping_group_range="0 2147483647")
        for name in ROUTERS:
            self.nodes[name].sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1,
                                    net__ipv4__icmp_ratelimit=0, net__ipv6__icmp__ratelimit=0)
        self._core()
        self._access()
        daemons.start_nat64(self)
        daemons.start_dns(self)
        daemons.start_servers(self)
        daemons.start_ra(self)
        daemons.wait_ready(self)
        for name in self.hosts:
            self.wait_host(name)

    def link(self, a, dev_a, b, dev_b, mtu=1500):
        """A veth pair born inside the two namespaces; the machine's own never sees it."""
        run(["ip", "link", "add", dev_a, "netns", a.netns, "mtu", mtu, "type", "veth",
             "peer", "name", dev_b, "netns", b.netns, "mtu", mtu])
        for node, dev in ((a, dev_a), (b, dev_b)):
            # Checksums and segments as on a wire where a test looks; see Lab.wire_like().
            node.ip("link", "set", dev, "up")

    def _core(self):
        r1, r2, r3, srv = self.r1, self.r2, self.r3, self.srv
        self.link(r1, "to-r2", r2, "to-r1", self.mid6_mtu)
        self.link(r2, "to-r3", r3, "to-r2", self.mid4_mtu)
        self.link(r3, "to-srv", srv, "eth0")
        for node, dev, *addresses in (
                (r1, "to-r2", "2001:db8:c1::1/64", "192.0.2.1/30"), (r2, "to-r1", "2001:db8:c1::2/64", "192.0.2.2/30"),
                (r2, "to-r3", "2001:db8:c2::1/64", "192.0.2.5/30"), (r3, "to-r2", "2001:db8:c2::2/64", "192.0.2.6/30"),
                (r3, "to-srv", "2001:db8:ffff::1/64", "203.0.113.1/24"),
                (srv, "eth0", f"{SERVER6}/64", f"{SERVER6_DNS}/64",
                 *(f"{a}/24" for a in (SERVER, SERVER_ALT, SERVER_DNS)))):
            for address in addresses:
                node.ip("addr", "add", address, "dev", dev, *(["nodad"] if ":" in address else []))
        for address in ("8.8.8.8", "8.8.4.4"):            # what containers are given without IPv4 resolvers
            srv.ip("addr", "add", f"{address}/32", "dev", "lo")
            r3.ip("route", "add", f"{address}/32", "via", SERVER)
        for node, to, via in (
                (r1, "default", "2001:db8:c1::2"), (r1, "default", "192.0.2.2"),
                (r2, "2001:db8::/46", "2001:db8:c1::1"), (r2, "198.51.100.0/24", "192.0.2.1"),
                (r2, "default", "2001:db8:c2::2"), (r2, "default", "192.0.2.6"),
                (r3, "default", "2001:db8:c2::1"), (r3, "192.0.2.0/24", "192.0.2.5"),
                (r3, "198.51.100.0/24", "192.0.2.5"),
                (srv, "default", "2001:db8:ffff::1"), (srv, "default", "203.0.113.1")):
            node.ip("route", "add", to, "via", via)

    def _access(self):
        r1 = self.r1
        r1.ip("link", "add", "seg", "type", "bridge", "mcast_snooping", "0")
        r1.ip("link", "set", "seg", "mtu", self.seg_mtu, "up")
        for address in (f"{DNS64}/64", "fe80::1/64"):
            r1.ip("addr", "add", address, "dev", "seg", "nodad")
        r1.ip("addr", "add", "198.51.100.1/24", "dev", "seg")
        for name in self.hosts:
            host = self.nodes[name]
            if name == "bare":
                self._bare()
                continue
            host.sysctl(net__ipv6__conf__default__accept_ra=1, net__ipv6__conf__default__autoconf=1,
                        net__ipv6__conf__all__forwarding=0)
            port = "one" if name == "one" else f"p-{name}"
            self.link(r1, port, host, "eth0", self.seg_mtu)
            if name != "one":
                r1.ip("link", "set", port, "mtu", self.seg_mtu, "master", "seg")
        if "one" in self.hosts:
            r1.ip("addr", "add", "fe80::1/64", "dev", "one", "nodad")
            r1.ip("route", "add", f"{ONE_ADDRESS}/128", "dev", "one")
            self.one.ip("addr", "add", f"{ONE_ADDRESS}/128", "dev", "eth0", "nodad")
            r1.run("nft", 'table ip6 onlyone { chain pre { type filter hook prerouting priority -300;'
                          f' iifname "one" ip6 saddr != {{ {ONE_ADDRESS}, fe80::/10, :: }} counter drop; }}; }}')
        if "lan" in self.hosts:
            self.link(self.lan, "nas0", self.nas, "eth0")
            self.lan.ip("addr", "add", "10.77.0.2/30", "dev", "nas0")
            self.nas.ip("addr", "add", f"{NAS}/30", "dev", "eth0")
            self.lan.sysctl(net__ipv6__conf__nas0__disable_ipv6=1)
        if "dual" in self.hosts:
            self.give_native_ipv4("dual")

    def _bare(self):
        """An uplink of bare IP packets, like WireGuard's or a modem's; r1 routes a /64 into it."""
        r1, host = self.r1, self.bare
        host.spawn(sys.executable, HERE / "pump.py", "wwan0", r1.netns, "bare", log="pump.log")
        wait_for(lambda: "ready" in self.log_tail("pump.log"), "the wire of host bare", 20)
        for node, dev in ((host, "wwan0"), (r1, "bare")):
            node.ip("link", "set", dev, "mtu", BARE_MTU, "txqueuelen", "2000", "up")
        host.ip("addr", "add", f"{BARE_ADDRESS}/64", "dev", "wwan0", "nodad")
        host.ip("-6", "route", "add", "default", "dev", "wwan0")
        r1.ip("-6", "route", "add", "2001:db8:3::/64", "dev", "bare")

    # -- changes at run time ----------------------------------------------------------------

    def give_native_ipv4(self, name):
        """Native IPv4 with a default route appears on a host of the segment."""
        host = self.nodes[name]
        address = DUAL_ADDRESS if name == "dual" else "198.51.100.20"
        host.ip("addr", "replace", f"{address}/24", "dev", "eth0")
        host.ip("route", "replace", "default", "via", "198.51.100.1", "metric", "100")

    def take_native_ipv4(self, name):
        """... and goes away again."""
        host = self.nodes[name]
        address = DUAL_ADDRESS if name == "dual" else "198.51.100.20"
        host.ip("route", "del", "default", "via", "198.51.100.1", check=False)
        host.ip("addr", "del", f"{address}/24", "dev", "eth0", check=False)

    def set_ra(self, announce=None, lifetime=None, **more):
        """Change what the RAs say, now. announce is one prefix, "" for none, or a list (script only)."""
        if announce is not None:
            self.announce = announce
        if lifetime is not None:
            self.lifetime = lifetime
        daemons.update_ra(self, **more)

    def set_mid_mtu(self, mid6=None, mid4=None):
        """Narrow or widen the middle links while traffic flows."""
        for mtu, ends in ((mid6, ((self.r1, "to-r2"), (self.r2, "to-r1"))), (mid4, ((self.r2, "to-r3"), (self.r3, "to-r2")))):
            for node, dev in ends if mtu else ():
                node.ip("link", "set", dev, "mtu", mtu)

    def wire_like(self, *ends):
        """Switch segmentation and checksum offloads off on (node, device) pairs, so that every packet is one packet."""
        for node, dev in ends:
            node.run("ethtool", "-K", dev, "tso", "off", "gso", "off", "gro", "off", "tx", "off")

    # -- probing ----------------------------------------------------------------------------

    def probe(self, node, *argv, timeout=100):
        """Run labnet/probes.py in a node; its answer."""
        done = node.run(sys.executable, PROBES, *argv, timeout=timeout, check=False)
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise LabError(f"probe {' '.join(map(str, argv))} in {node}: {done.stderr.strip()[-500:]}") from None

    def start_probe(self, node, *argv):
        """Start a long probe; read its answer with finish_probe()."""
        proc = subprocess.Popen(node.argv([sys.executable, PROBES, *argv]), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.store.remember(proc.pid)
        self.procs.append(proc)
        proc.stdout.readline()                            # "connected", "ready"
        return proc

    @staticmethod
    def finish_probe(proc, timeout=60):
        """The answer of a probe started before."""
        out, _ = proc.communicate(timeout=timeout)
        return json.loads(out.splitlines()[-1])

    def mac(self, node, dev="eth0"):
        """A device's hardware address."""
        return node.ip_json("link", "show", "dev", dev)[0]["address"]

    def inject(self, name, *sent):
        """Put IPv6 packets on a host's wire as if its router r1 had sent them."""
        if name == "bare":
            self.probe(self.r1, "inject", "bare", *(packet.hex() for packet in sent))
            return
        port = "one" if name == "one" else "seg"
        macs = self.mac(self.nodes[name]), self.mac(self.r1, port)
        self.probe(self.r1, "inject", port, *(packets.ethernet(*macs, packet).hex() for packet in sent))

    # -- looking ----------------------------------------------------------------------------

    def global_address(self, name):
        """A host's global IPv6 address, or None while there is none that can be used."""
        device = "wwan0" if name == "bare" else "eth0"
        for link in self.nodes[name].ip_json("-6", "addr", "show", "dev", device, "scope", "global"):
            for info in link.get("addr_info", []):
                if info.get("local") and not info.get("tentative") and not info.get("dadfailed"):
                    return info["local"]
        return None

    def wait_host(self, name, timeout=30):
        """Until a host has an address and a default route."""
        host = self.nodes[name]
        def ready():
            reap()
            return self.global_address(name) and host.ip("-6", "route", "show", "default").strip()
        try:
            wait_for(ready, f"host {name} to get an address and a default route by RA", timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.log_tail('ra.log')}") from None

    def nat64(self, ipv4):
        """The IPv6 address that stands for an IPv4 one in this lab (RFC 6052 §2.2)."""
        return embed(self.pref64, ipv4)


def embed(prefix, ipv4):
    """RFC 6052 §2.2: the address in `prefix` for an IPv4 one; bits 64 to 71 stay zero."""
    net = ipaddress.IPv6Network(prefix)
    raw = bytearray(net.network_address.packed)
    position = net.prefixlen // 8
    for octet in ipaddress.IPv4Address(ipv4).packed:
        if position == 8:
            position += 1
        raw[position] = octet
        position += 1
    return str(ipaddress.IPv6Address(bytes(raw)))

"""The candidates, each on a pair of hosts of its own that a veth joins.

    h-NAME  eth0 2001:db8:1::2/64 ─────────────── eth0 fe80::1, 2001:db8:1::1/64  f-NAME
            default via fe80::1                        lo 2001:db8:64::cb00:7150 (pref64 of 203.0.113.80)
                                                       lo 203.0.113.80, for native IPv4

The far end owns the NAT64-mapped address itself: no NAT64 limits what is measured. All pairs are the same, so
a candidate and native IPv6 differ in nothing but the candidate.
"""
import subprocess
from pathlib import Path

from labnet.clatd import Clatd
from labnet.netns import LabError, Node, run, wait_for
from labnet.topology import Lab

PREF64 = "2001:db8:64::/96"
SERVER4 = "203.0.113.80"
SERVER6 = "2001:db8:64::cb00:7150"
HOST6 = "2001:db8:1::2"
TAYGA6 = "2001:db8:1::64"

NATIVE = "native-ipv6"
AGAIN = "native-again"
CANDIDATES = {
    NATIVE: "native IPv6",
    AGAIN: "native IPv6 again",
    "native-ipv4": "native IPv4",
    "floor": "floor",
    "fast-shared": "fast path, shared address",
    "fast-dedicated": "fast path, dedicated address",
    "fallback": "portable datapath, shared address",
    "fallback-dedicated": "portable datapath, dedicated address",
    "tayga": "TAYGA",
}
SOURCES = Path(__file__).parent


class Pairs(Lab):
    """All pairs of a run."""

    def __init__(self, names, **more):
        super().__init__(**more)
        self.names = names
        self.clatd = {}
        self.tayga = None
        self.tool = None

    def _build(self):
        self.tool = self.dir / "tool"
        run(["cc", "-O2", "-Wall", "-pthread", SOURCES / "tool.c", "-o", self.tool])
        for name in self.names:
            host, far = (self.nodes.setdefault(f"{side}-{name}", Node(self, f"{side}-{name}")) for side in "hf")
            for node in (host, far):
                run(["ip", "netns", "add", node.netns])
                node.ip("link", "set", "lo", "up")
                node.sysctl(net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0,
                            net__ipv6__conf__default__accept_ra=0)
            self.link(host, "eth0", far, "eth0", 1500)
            for node, *addresses in ((host, f"{HOST6}/64"), (far, "fe80::1/64", "2001:db8:1::1/64")):
                for address in addresses:
                    node.ip("addr", "add", address, "dev", "eth0", "nodad")
            far.ip("addr", "add", f"{SERVER6}/128", "dev", "lo", "nodad")
            far.ip("addr", "add", f"{SERVER4}/32", "dev", "lo")
            # The echo server answers from the address that was asked.
            far.ip("route", "replace", "2001:db8:1::/64", "dev", "eth0", "src", SERVER6, "metric", "1")
            host.ip("route", "add", "default", "via", "fe80::1", "dev", "eth0")
            if name == "native-ipv4":
                host.ip("addr", "add", "198.51.100.2/24", "dev", "eth0")
                far.ip("addr", "add", "198.51.100.1/24", "dev", "eth0")
                far.ip("route", "replace", "198.51.100.0/24", "dev", "eth0", "src", SERVER4)
                host.ip("route", "add", "default", "via", "198.51.100.1")
            far.spawn(self.tool, "serve", log=f"serve-{name}.log")
            wait_for(lambda log=self.dir / f"serve-{name}.log": "ready" in log.read_text(), "the far end's server")
            if name == "tayga":
                self._start_tayga(host, far)
            elif name == "floor":
                self._start_floor(host)
            elif name not in (NATIVE, AGAIN, "native-ipv4"):
                self.clatd[name] = self.make_clatd(name)
                self.clatd[name].up()
            self.measure(name, "rtt", 0.1)                # says early that something does not work

    def make_clatd(self, name):
        """A clatd for this candidate, not started."""
        address = "dedicated" if name.endswith("-dedicated") else "shared"
        return Clatd(self.nodes[f"h-{name}"], f'nat64.prefix=["{PREF64}"]', f"clat.address={address}",
                     datapath="tun" if name.startswith("fallback") else "bpf")

    def _start_floor(self, host):
        """Programs that do the least; see floor.bpf.c."""
        run(["clang", "-target", "bpf", "-mcpu=v2", "-O2", "-g", "-Wno-unused-function", "-nostdinc",
             "-c", SOURCES / "floor.bpf.c", "-o", self.dir / "floor.o"])
        run(["cc", "-O2", "-Wall", SOURCES / "floor.c", "-lbpf", "-o", self.dir / "floor"])
        host.spawn(self.dir / "floor", self.dir / "floor.o", "clat", "eth0", PREF64.split("/")[0], HOST6, "fe80::1",
                   "192.0.0.1", log="floor.log")
        wait_for(lambda: "ready" in (self.dir / "floor.log").read_text(), "the floor's programs")
        host.ip("link", "set", "clat", "up", "mtu", "1480")
        host.ip("addr", "add", "192.0.0.1/32", "dev", "clat")
        host.ip("route", "add", "default", "dev", "clat", "src", "192.0.0.1")

    def _start_tayga(self, host, far):
        """As a CLAT, the way in which Debian's clatd package sets it up."""
        (self.dir / "tayga").mkdir()
        conf = self.dir / "tayga.conf"
        conf.write_text(f"tun-device clat\nipv4-addr 192.0.0.2\nprefix {PREF64}\nipv6-addr 2001:db8:1::65\n"
                        f"map 192.0.0.1 {TAYGA6}\ndata-dir {self.dir}/tayga\n")
        host.sysctl(net__ipv6__conf__all__forwarding=1, net__ipv4__ip_forward=1)
        host.run("tayga", "-c", conf, "--mktun")
        host.ip("link", "set", "clat", "up", "mtu", "1480")
        host.ip("addr", "add", "192.0.0.1/32", "dev", "clat")
        host.ip("route", "add", "default", "dev", "clat", "src", "192.0.0.1")
        host.ip("route", "add", f"{TAYGA6}/128", "dev", "clat")
        far.ip("route", "add", f"{TAYGA6}/128", "via", HOST6, "src", SERVER6)
        self.tayga = host.spawn("tayga", "-c", conf, "-d", "-n", log="tayga.log")

    def set_wire(self, segmented):
        """Whether every packet on the wire is one packet with its checksum, as on Ethernet."""
        state = "off" if segmented else "on"
        for node in self.nodes.values():
            node.run("ethtool", "-K", "eth0", "tso", state, "gso", state, "gro", "off", "tx", state)

    def argv(self, name, *what):
        """The command line of a client on a candidate's host."""
        target = SERVER6 if name in (NATIVE, AGAIN) else SERVER4
        return ["ip", "netns", "exec", self.nodes[f"h-{name}"].netns, str(self.tool), what[0], target,
                *map(str, what[1:])]

    def measure(self, name, *what, attempts=40):
        """What the tool prints, as numbers. Waits for a candidate that has only just begun."""
        for left in range(attempts, 0, -1):
            done = run(self.argv(name, *what), check=left == 1, timeout=120)
            if done.returncode == 0:
                return [float(word) for word in done.stdout.split() if word != "measuring"]
        raise LabError(f"{name}: {' '.join(map(str, what))}")

    def measure_with_cpu(self, name, *what):
        """The same for bulk TCP, with the CPU seconds of the whole machine in the measured part."""
        with subprocess.Popen(self.argv(name, *what), stdout=subprocess.PIPE, text=True) as proc:
            if proc.stdout.readline().strip() != "measuring":
                raise LabError(f"{name}: {' '.join(map(str, what))} failed")
            before = busy_seconds()
            rate, moved = map(float, proc.stdout.readline().split())
            cpu = busy_seconds() - before
        return rate, cpu / (moved / 1e9)

    def rss_kb(self, name):
        """Resident memory of a candidate's daemon."""
        proc = self.tayga if name == "tayga" else self.clatd[name].proc if name in self.clatd else None
        if proc is None:
            return None
        for line in Path(f"/proc/{proc.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return None

    def first_reply_ms(self, name):
        """From fork() of a clatd to the first echoed datagram."""
        clatd = self.clatd[name]
        clatd.stop()
        env = [f"{key}={value}" for key, value in clatd.env.items()]
        ns = self.measure(name, "first", 10, "env", *env, *clatd.argv(), attempts=1)[0]
        clatd.up()
        return ns / 1e6


def busy_seconds():
    """CPU time that was not idle since boot, all CPUs, without what the hypervisor took."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + softirq) / 100

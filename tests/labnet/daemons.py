"""The routers' daemons: what they are told and how they are started."""
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from . import addresses, radvd
from .netns import LabError, run, start_time, wait_for

HERE = Path(__file__).resolve().parent


# -- NAT64 ------------------------------------------------------------------------------------

def start_nat64(lab):
    """r2: TAYGA translates statelessly into a pool, netfilter hides the pool behind one IPv4 address."""
    r2 = lab.r2
    (lab.dir / "tayga").mkdir()
    conf = lab.dir / "tayga.conf"
    # RFC 6052 §3.1: documentation addresses do not belong under the well-known prefix, so
    # TAYGA cannot make its own IPv6 address there.
    own = "ipv6-addr 2001:db8:c3::2\n" if lab.pref64.startswith("64:ff9b:") else ""
    conf.write_text(f"""\
tun-device nat64
ipv4-addr 192.0.2.65
prefix {lab.pref64}
dynamic-pool 192.168.255.0/24
data-dir {lab.dir}/tayga
{own}""")
    r2.run("tayga", "-c", conf, "--mktun")
    # Room for what thousands of connections send when they end together.
    r2.ip("link", "set", "nat64", "txqueuelen", "30000", "up")
    r2.ip("addr", "add", "192.0.2.66/32", "dev", "nat64")
    r2.ip("addr", "add", "2001:db8:c3::1/128", "dev", "nat64", "nodad")
    r2.ip("route", "add", "192.168.255.0/24", "dev", "nat64")
    r2.ip("route", "add", "192.0.2.65/32", "dev", "nat64")
    for route in ("2001:db8:c3::2/128", lab.pref64):
        r2.ip("route", "add", route, "dev", "nat64")
    r2.run("nft", "table ip nat { chain post { type nat hook postrouting priority 100;"
                  ' ip saddr 192.168.255.0/24 oifname "to-r3" masquerade; }; }')
    r2.spawn("tayga", "-c", conf, "-d", "-n", log="tayga.log")


# -- DNS --------------------------------------------------------------------------------------

# unbound's dns64 module leaves its own local-data alone, so the zones sit in a second,
# authoritative unbound that the DNS64 one forwards to.
_COMMON = """\
 do-daemonize: no
 use-syslog: no
 chroot: ""
 username: ""
 pidfile: ""
 num-threads: 1
"""

def _zones(lab):
    return f"""\
server:
 interface: {addresses.SERVER_DNS}
 interface: {addresses.SERVER6_DNS}
 interface: 8.8.8.8
 interface: 8.8.4.4
 access-control: 0.0.0.0/0 allow
 access-control: ::/0 allow
{_COMMON} local-zone: "test." static
 local-data: "v4only.test. 60 A {lab.server}"
 local-data: "dual.test. 60 A {lab.server}"
 local-data: "dual.test. 60 AAAA {addresses.SERVER6}"
 local-data: "v6only.test. 60 AAAA {addresses.SERVER6}"
 local-zone: "arpa." static
 local-data: "ipv4only.arpa. 60 A 192.0.0.170"
 local-data: "ipv4only.arpa. 60 A 192.0.0.171"
"""


def start_dns(lab):
    """srv: the authoritative server, on IPv4 and IPv6. r1: the resolver of the hosts, with DNS64 or without."""
    (lab.dir / "auth.conf").write_text(_zones(lab))
    modules = f'module-config: "dns64 iterator"\n dns64-prefix: {lab.pref64}' if lab.dns64 \
        else 'module-config: "iterator"'
    (lab.dir / "dns64.conf").write_text(f"""\
server:
 interface: {addresses.DNS64}
 access-control: ::/0 allow
{_COMMON} {modules}
 local-zone: "test." nodefault
forward-zone:
 name: "."
 forward-addr: {addresses.SERVER6_DNS}
""")
    # Debian's AppArmor profile ties /usr/sbin/unbound to /etc/unbound; a copy is not confined.
    binary = lab.dir / "unbound"
    shutil.copy2(shutil.which("unbound"), binary)
    lab.srv.spawn(binary, "-d", "-c", lab.dir / "auth.conf", log="auth.log")
    lab.resolver = lab.r1.spawn(binary, "-d", "-c", lab.dir / "dns64.conf", log="dns64.log")


# -- servers ----------------------------------------------------------------------------------

def start_servers(lab):
    """srv: web, echo, upload; nas: the same, on the hosts' private /30."""
    script = HERE / "servers.py"
    lab.srv.spawn(sys.executable, script, lab.dir / "www", log="servers.log")
    if "nas" in lab.nodes:
        lab.nas.spawn(sys.executable, script, lab.dir / "www-nas", "--small", log="nas.log")


# -- router advertisements --------------------------------------------------------------------

def start_ra(lab):
    """r1: radvd where one that knows PREF64 can be had, else a script that sends the same packets."""
    lab.ra_kind = lab.ra
    if lab.ra == "auto":
        lab.ra_kind = "radvd" if radvd.find() else "script"
        if lab.ra_kind == "script":
            lab.say("no radvd >= 2.20 here (tests/install brings one): sending the RAs from labnet/ra.py")
    if lab.ra_kind == "none":
        return
    _write_ra(lab)
    if lab.ra_kind == "radvd":
        command = radvd.find()
        if not command:
            raise LabError("no radvd >= 2.20: run tests/install")
        lab.ra_proc = lab.r1.spawn(*command, "-n", "-m", "stderr", "-C", lab.dir / "radvd.conf",
                                   "-p", lab.dir / "radvd.pid", log="ra.log")
    else:
        lab.ra_proc = lab.r1.spawn(sys.executable, HERE / "ra.py", lab.dir / "ra.json", log="ra.log")
    (lab.dir / "ra.pid").write_text(f"{lab.ra_kind} {lab.ra_proc.pid} {start_time(lab.ra_proc.pid)}\n")


def update_ra(lab, **more):
    """Rewrite the RA configuration and have it sent now. Works on an attached lab, too."""
    lab.ra_kind, pid, began = (lab.dir / "ra.pid").read_text().split()
    _write_ra(lab, **more)
    if str(start_time(pid)) != began:
        raise LabError(f"{lab.ra_kind} is not running any more\n{lab.log_tail('ra.log')}")
    os.kill(int(pid), signal.SIGHUP)


def _interfaces(lab):
    return ["seg"] + (["one"] if "one" in lab.hosts else [])


def _write_ra(lab, **more):
    announced = [lab.announce] if isinstance(lab.announce, str) else list(lab.announce)
    announced = [entry if isinstance(entry, (list, tuple)) else [entry, lab.lifetime] for entry in announced if entry]
    if lab.ra_kind == "radvd":
        if more:
            raise LabError(f"radvd will not send {', '.join(more)}: use ra='script'")
        pref64 = "".join(f" nat64prefix {p} {{ AdvValidLifetime {life}; }};\n" for p, life in announced)
        text = ""
        for name in _interfaces(lab):
            prefix = " prefix 2001:db8:1::/64 { AdvOnLink on; AdvAutonomous on; };\n" if name == "seg" else ""
            text += (f"interface {name} {{\n AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n"
                     f" AdvDefaultLifetime 1800; AdvLinkMTU {lab.seg_mtu};\n{prefix}"
                     f" RDNSS {addresses.DNS64} {{ }};\n{pref64}}};\n")
        (lab.dir / "radvd.conf").write_text(text)
        return
    interval = more.pop("interval", 3)
    fields = {"rdnss": [addresses.DNS64], "mtu": lab.seg_mtu, "pref64": announced, **more}
    config = {"interval": interval, "interfaces": {
        name: {**fields, "prefixes": ["2001:db8:1::/64"] if name == "seg" else []} for name in _interfaces(lab)}}
    temp = lab.dir / "ra.json.new"
    temp.write_text(json.dumps(config))
    temp.rename(lab.dir / "ra.json")


# -- readiness --------------------------------------------------------------------------------

def wait_ready(lab):
    """Until every daemon answers; a daemon that died is an error at once, with its log."""
    def alive():
        for proc in lab.procs:
            if proc.poll() is not None:
                logs = "\n".join(f"--- {p.name}\n{lab.log_tail(p.name)}" for p in sorted(lab.dir.glob("*.log")))
                raise LabError(f"a daemon of the lab died: {' '.join(proc.args[-4:])}\n{logs}")
        return True

    def listening(node, *what):
        text = node.out("ss", "-Hlntu")
        return alive() and all(w in text for w in what)

    wait_for(lambda: listening(lab.srv, f"{addresses.SERVER_DNS}:53", ":80 ", ":7 "), "the servers to listen", 30)
    wait_for(lambda: listening(lab.r1, f"[{addresses.DNS64}]:53"), "the resolver to listen", 30)
    wait_for(lambda: alive() and run(["ip", "netns", "exec", lab.r1.netns, "ping", "-nc1", "-W1",
                                      lab.nat64(lab.server)], check=False).returncode == 0,
             f"the NAT64 to answer (prefix {lab.pref64})\n{lab.log_tail('tayga.log')}", 30)

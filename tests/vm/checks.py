"""Checks that scenarios share: IPv4 or none, transfers in flight, forwarding, what the kernel said."""
import re

from labnet.addresses import SERVER

LITERAL = f"curl -sS -m 5 -o /dev/null http://{SERVER}/"
# A drop-in that chooses the portable datapath.
TUN = "mkdir -p /etc/v4shim.toml.d; printf '[clat]\\ndatapath = \"tun\"\\n' > /etc/v4shim.toml.d/tun.toml; "
# Of the kernel's log: its own trouble, and refusals of AppArmor and of the system-call filter.
TROUBLE = re.compile(r"WARNING:|BUG:|Oops|Call Trace|general protection|segfault|refcount|lockdep|hung task|"
                     r'apparmor="DENIED"|type=1326|clatd')
# A kernel without it can only forward for all interfaces at once; clatd then keeps each of them a host's.
PER_INTERFACE = "/proc/sys/net/ipv6/conf/eth0/force_forwarding"


def fails(guest, command=LITERAL):
    """This must not work."""
    answer = guest.sh(command, check=False)
    assert answer.status != 0, f"this worked, and must not: {command}\n{answer.out}"


def works(guest, seconds):
    """curl of an IPv4 literal works, after so many seconds at most."""
    _, took = guest.until(f"{LITERAL} && echo yes", f"curl http://{SERVER}/", timeout=60)
    assert took <= seconds, f"it took {took} s"
    return f"after {took} s"


def fast(guest):
    """The kernel fast path is used."""
    status, _ = guest.until("v4shim status | grep 'datapath: bpf'", "the fast path")
    return status.strip()


class Transfer:
    """100 MB by IPv4 literal in one TCP connection: half a megabyte a second until `finish`, then what it can."""

    READER = "while [ ! -e /root/transfer.go ]; do head -c 131072; sleep .25; done; cat"

    def __init__(self, guest):
        self.guest = guest
        self.want = guest.sh(f"curl -sS http://{SERVER}/100M.sha256").out.split()[0]
        guest.sh("rm -f /root/transfer.*; setsid bash -o pipefail -c "
                 f"'curl -sS http://{SERVER}/100M | ({self.READER}) | sha256sum >/root/transfer.sum;"
                 " echo $? >/root/transfer.status' >/root/transfer.log 2>&1 </dev/null &")
        guest.until(f"ss -Hnt state established dst {SERVER} | grep .", "the connection")

    def finish(self):
        """It must be in flight still, else nothing is proven; then come to its end with the right checksum."""
        assert self.guest.sh("test ! -e /root/transfer.status", check=False).status == 0, \
            f"the transfer has ended too early: {self.guest.sh('cat /root/transfer.log').out}"
        self.guest.sh("touch /root/transfer.go")
        _, took = self.guest.until("cat /root/transfer.status", "the transfer to end", timeout=150)
        status, log, got = (self.guest.sh(f"cat /root/transfer.{what}").out for what in ("status", "log", "sum"))
        assert status == "0", f"the transfer failed: {log}"
        assert got.split()[0] == self.want, f"the checksum is {got}, not {self.want}"
        return f"one connection, checksum right, its end {took} s later"


def forwarding_of_a_host(guest):
    """In the portable datapath IPv6 is forwarded, yet the uplink's Router Advertisements are still taken.

    systemd-networkd takes them itself, whatever the kernel forwards. So the kernel has to, as on hosts with ifupdown.
    Returns which switch the datapath used. The caller has the datapath running.
    """
    show = ("for key in all.forwarding default.forwarding lo.forwarding eth0.forwarding eth0.accept_ra; do"
            " sysctl -n net.ipv6.conf.$key; done")
    everywhere, default, loopback, uplink, accept = guest.sh(show).out.split()
    if guest.sh(f"test -e {PER_INTERFACE}", check=False).status == 0:
        switch = "force_forwarding"
        assert everywhere == "0" and guest.sh(f"cat {PER_INTERFACE}").out == "1", everywhere
    else:
        switch = "all.forwarding"
        assert everywhere == "1", f"all.forwarding is {everywhere}"
    assert (default, loopback, uplink, accept) == ("0", "0", "0", "1"), f"no host any more: {default, loopback, uplink, accept}"
    advertisement(guest)
    return switch


def advertisement(guest):
    """The next Router Advertisement brings the default route back."""
    guest.sh("ip -6 route del default")
    guest.until("ip -6 route show default proto ra dev eth0 | grep expires", "a Router Advertisement to be taken")


class KernelTakesAdvertisements:
    """A `with` block in which the guest's kernel, and not systemd-networkd, configures the uplink."""

    def __init__(self, guest):
        self.guest = guest

    def __enter__(self):
        self.guest.sh("systemctl -q stop systemd-networkd.socket systemd-networkd.service 2>/dev/null;"
                      " ip link set eth0 down; sysctl -qw net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.eth0.autoconf=1"
                      " net.ipv6.conf.eth0.addr_gen_mode=0; ip link set eth0 up")
        self.guest.until("ip -6 route show default proto ra dev eth0 | grep expires &&"
                         " ip -6 -o addr show dev eth0 scope global -tentative | grep inet6", "the kernel's own network")

    def __exit__(self, *_):
        # networkd sets its interface up anew.
        self.guest.sh("ip link set eth0 down; systemctl -q start systemd-networkd.socket systemd-networkd.service;"
                      " ip link set eth0 up", check=False)


def kernel_is_silent(guest):
    """No warning, crash or refusal since boot."""
    found = [line for line in guest.sh("dmesg").out.splitlines()
             if TROUBLE.search(line) and 'apparmor="STATUS"' not in line]
    assert not found, "the kernel said:\n" + "\n".join(found[:10])
    failed = guest.sh("systemctl --failed --no-legend").out
    assert not failed, f"failed: {failed}"

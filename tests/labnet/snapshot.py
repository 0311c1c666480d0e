"""The network state of a host as text, so that before and after can be compared byte by byte.

Normalised is only what changes by itself: remaining lifetimes, counters, and the order in
which the kernel happens to list things. Everything else must be equal.
"""
import difflib
import json

# Values that move while nobody does anything, with the reason.
VOLATILE_SYSCTLS = {
    "net.netfilter.nf_conntrack_count": "the number of connections at this moment",
    "net.ipv4.tcp_mem": "computed from memory pressure",
    "net.ipv4.tcp_fastopen_key": "random",
    "net.ipv6.fib_multipath_hash_seed": "random",
}
# Remaining lifetimes count down and are refreshed by every RA.
_LIFETIMES = {"valid_life_time", "preferred_life_time", "expires"}


def _strip(value):
    if isinstance(value, dict):
        return {k: _strip(v) for k, v in value.items() if k not in _LIFETIMES}
    if isinstance(value, list):
        return [_strip(v) for v in value]
    return value


def _lines(node, *argv):
    # One JSON object a line, sorted: the kernel's listing order is not part of the state.
    return sorted(json.dumps(_strip(entry), sort_keys=True) for entry in node.ip_json(*argv))


def take(node):
    """A dict from section name to lines of text."""
    state = {
        "link": _lines(node, "-d", "link"),
        "addr": _lines(node, "addr"),
        "rule 4": _lines(node, "-4", "rule"),
        "rule 6": _lines(node, "-6", "rule"),
        "route 4": _lines(node, "-4", "route", "show", "table", "all"),
        "route 6": _lines(node, "-6", "route", "show", "table", "all"),
        "neigh proxy": sorted(node.ip("neigh", "show", "proxy").splitlines()),
        "tunnels": sorted(node.ip("tuntap", "list").splitlines()),
        "maddr": _maddr(node),
        "anycast": sorted(node.out("cat", "/proc/net/anycast6").splitlines()),
        "qdisc": sorted(node.out("tc", "qdisc", "show").splitlines()),
        "nft": node.out("nft", "-s", "list", "ruleset").splitlines(),       # -s: without counters
        "sysctl": sorted(line for line in node.run("sysctl", "-a", "--pattern", r"^net\.", check=False).stdout.splitlines()
                         if line.split(" ")[0] not in VOLATILE_SYSCTLS),
    }
    for link in node.ip_json("link"):
        for side in ("ingress", "egress"):
            text = node.run("tc", "filter", "show", "dev", link["ifname"], side, check=False).stdout
            state[f"tc {link['ifname']} {side}"] = text.splitlines()
    return state


def _maddr(node):
    lines, link = [], ""
    for line in node.ip("maddr").splitlines():
        if not line.startswith("\t"):
            link = line.split("\t")[-1].split(" ")[-1]
        else:
            lines.append(f"{link} {' '.join(line.split())}")
    return sorted(lines)


def text(state):
    """The whole state as one text."""
    return "".join(f"== {section}\n" + "".join(f"{line}\n" for line in lines) for section, lines in sorted(state.items()))


def difference(before, after):
    """A unified diff, empty when the states are byte-identical."""
    return "".join(difflib.unified_diff(text(before).splitlines(True), text(after).splitlines(True),
                                        "before", "after", n=1))

#!/usr/bin/env python3
"""A router that lets nobody speak from an address that its own neighbour cache does not know.

usage: neighbours.py DEVICE PREFIX

Packets that come in on DEVICE from PREFIX (but for neighbour discovery) pass only while the kernel's cache has resolved their source address there.
"""
import json
import subprocess
import sys

TABLE = "known_neighbours"


def nft(text):
    """Do something to the filter, all or nothing."""
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def known(device):
    """Addresses with a link-layer address."""
    entries = json.loads(subprocess.run(["ip", "-j", "-6", "neigh", "show", "dev", device],
                                        capture_output=True, text=True, check=True).stdout or "[]")
    return {e["dst"] for e in entries if "lladdr" in e and not {"FAILED", "INCOMPLETE"} & set(e["state"])}


def main(device, prefix):
    """Until killed."""
    with subprocess.Popen(["ip", "-6", "monitor", "neigh", "dev", device], stdout=subprocess.PIPE) as monitor:
        nft(f"table ip6 {TABLE} {{ set known {{ type ipv6_addr; }}; chain pre {{ type filter hook prerouting priority -300;"
            f' icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept;'
            f' iifname "{device}" ip6 saddr {prefix} ip6 saddr != @known counter drop; }}; }}')
        print("ready", flush=True)
        while True:
            now = known(device)
            nft(f"flush set ip6 {TABLE} known\n"
                + (f"add element ip6 {TABLE} known {{ {', '.join(now)} }}\n" if now else ""))
            if not monitor.stdout.readline():
                return


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Router advertisements from a script: several prefixes, withdrawals, malformed options.

usage: ra.py CONFIG.json
CONFIG: {"interfaces": {"seg": {RA...}, ...}, "interval": 3}; an RA has the keys of build().
SIGHUP reads the file again and sends at once. Router solicitations are answered.
"""
import ipaddress
import json
import select
import signal
import socket
import struct
import sys
import time

ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
PLC = {96: 0, 64: 1, 56: 2, 48: 3, 40: 4, 32: 5}           # RFC 8781 §4: prefix length codes


def pref64_option(prefix, lifetime):
    """RFC 8781 §4: type 38, length 2, scaled lifetime (13 bits, units of 8 s) and PLC (3 bits), 96 bits of prefix."""
    net = ipaddress.IPv6Network(prefix)
    scaled = min((lifetime + 7) // 8, 8191)
    return struct.pack("!BBH", 38, 2, scaled << 3 | PLC[net.prefixlen]) + net.network_address.packed[:12]


def prefix_option(prefix, valid=86400, preferred=14400):
    """RFC 4861 §4.6.2, on-link and autonomous."""
    net = ipaddress.IPv6Network(prefix)
    return struct.pack("!BBBBIII", 3, 4, net.prefixlen, 0xC0, valid, preferred, 0) + net.network_address.packed


def build(prefixes=(), pref64=(), rdnss=(), mtu=0, router_lifetime=1800, preference="medium", raw="", **_):
    """One RA. pref64 is a list of [prefix, lifetime]; raw is appended as hex, however wrong it is."""
    bits = {"high": 0x08, "medium": 0x00, "low": 0x18}[preference]  # RFC 4191 §2.2
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, bits, router_lifetime, 0, 0)
    for prefix in prefixes:
        message += prefix_option(prefix)
    for server in rdnss:                                            # RFC 8106 §5.1
        message += struct.pack("!BBHI", 25, 3, 0, 1800) + ipaddress.IPv6Address(server).packed
    if mtu:
        message += struct.pack("!BBHI", 5, 1, 0, mtu)
    for prefix, lifetime in pref64:
        message += pref64_option(prefix, lifetime)
    return message + bytes.fromhex(raw)


class Sender:
    """One interface: an ICMPv6 socket that hears solicitations and sends with hop limit 255."""

    def __init__(self, name):
        self.name = name
        self.sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        # ICMP6_FILTER (1): a set bit blocks a type; let only 133 (router solicitation) through.
        allow = bytearray(b"\xff" * 32)
        struct.pack_into("=I", allow, (133 >> 5) * 4, 0xFFFFFFFF & ~(1 << (133 & 31)))
        self.sock.setsockopt(socket.IPPROTO_ICMPV6, 1, bytes(allow))
        index = socket.if_nametoindex(name)
        group = socket.inet_pton(socket.AF_INET6, ALL_ROUTERS) + struct.pack("=I", index)
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        self.target = (ALL_NODES, 0, 0, index)

    def send(self, message):
        """To all nodes; the kernel fills in checksum and link-local source."""
        try:
            self.sock.sendto(message, self.target)
        except OSError as error:
            print(f"{self.name}: {error}", file=sys.stderr, flush=True)


def main(path):
    """Advertise until killed."""
    state = {"due": 0.0}
    signal.signal(signal.SIGHUP, lambda *_: state.update(due=0.0, config=None))
    senders = {}
    while True:
        if not state.get("config"):
            with open(path, encoding="utf-8") as file:
                state["config"] = json.load(file)
            print(f"read {path}", flush=True)
        config = state["config"]
        for name in config["interfaces"]:
            senders.setdefault(name, None)
            senders[name] = senders[name] or Sender(name)
        if time.monotonic() >= state["due"]:
            for name, fields in config["interfaces"].items():
                senders[name].send(build(**fields))
            state["due"] = time.monotonic() + config.get("interval", 3)
        ready, _, _ = select.select([s.sock for s in senders.values()], [], [], 0.2)
        for sender in senders.values():
            if sender.sock in ready:
                sender.sock.recv(2048)
                sender.send(build(**config["interfaces"][sender.name]))


if __name__ == "__main__":
    main(sys.argv[1])

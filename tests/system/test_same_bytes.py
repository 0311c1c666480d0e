"""Fast and slow path put the same bytes on the wire, in both directions: the same packets through one and the other."""
import json
import random
import socket
import struct
import sys

from labnet import packets
from labnet.runner import Case

# Nobody has it: packets to it are seen on the segment and answered by no socket.
PEER = "203.0.113.201"
NUMBER = 400

# Prints, as hex, what arrives on a device for a protocol, without link-layer header; for half a minute at most.
CAPTURE = ("import select, socket, sys, time\n"
           "s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(int(sys.argv[2], 16)))\n"
           "s.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)\n"         # SO_RCVBUFFORCE
           "s.bind((sys.argv[1], int(sys.argv[2], 16))); print('ready', flush=True)\n"
           "end = time.monotonic() + 30\n"
           "while select.select([s], [], [], max(0, end - time.monotonic()))[0]:\n"
           "  data, source = s.recvfrom(65536)\n"
           "  if source[2] == socket.PACKET_HOST: print(data.hex(), flush=True)\n")
SEND = ("import json, socket, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
        "for p in json.load(sys.stdin): p = bytes.fromhex(p); s.sendto(p, (socket.inet_ntoa(p[16:20]), 0))\n")


def ipv4(rng, source, protocol, payload, options=b""):
    """An IPv4 header before a payload; the kernel fills in its checksum. A TTL of 255 cannot survive a hop."""
    length = 20 + len(options)
    return struct.pack("!BBHHHBBH4s4s", 0x40 | length // 4, rng.randrange(256), length + len(payload), rng.randrange(1, 65536),
                       rng.choice((0, 0x4000)), rng.randrange(1, 255), protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(PEER)) + options + payload


def with_checksum(offset, pseudo, payload):
    """A transport packet with its checksum at `offset`."""
    value = packets.checksum(pseudo + payload) or (0xFFFF if offset == 6 else 0)
    return payload[:offset] + struct.pack("!H", value) + payload[offset + 2:]


def transport(rng, addresses, icmp, ports=None):
    """A protocol number and a random TCP, UDP or echo packet of it."""
    kind = rng.choice("tui")
    data = rng.randbytes(rng.choice((0, 1, 7, 64, 500, 1100)))
    here, there = ports or (rng.randrange(20000, 60000), rng.randrange(1, 65536))
    if kind == "i":
        protocol, (request, reply) = icmp
        payload = struct.pack("!BBHHH", rng.choice((request, reply)), 0, 0, here, rng.randrange(65536)) + data
        return protocol, with_checksum(2, addresses(protocol, len(payload)) if protocol == 58 else b"", payload)
    if kind == "t":
        options = rng.randbytes(4 * rng.randrange(0, 6))
        payload = struct.pack("!HHIIBBHHH", here, there, rng.randrange(1 << 32), rng.randrange(1 << 32),
                              (5 + len(options) // 4) << 4, rng.randrange(256), rng.randrange(65536), 0, 0) + options + data
        return 6, with_checksum(16, addresses(6, len(payload)), payload)
    payload = struct.pack("!HHHH", here, there, 8 + len(data), 0) + data
    return 17, with_checksum(6, addresses(17, len(payload)), payload)


class Same_bytes(Case):
    """With an address of the CLAT's own, which is the same each time; everything is let in."""

    def capture(self, node, device, protocol):
        """A running capture."""
        proc = self.talk(node, CAPTURE, device, f"{protocol:x}")
        self.assertEqual(proc.stdout.readline(), "ready\n")
        return proc

    def through(self, datapath):
        """What comes out of a datapath at the wire and at the host's own stack."""
        lab, host = self.lab, self.lab.slaac
        with self.clatd(host, "clat.address=dedicated", "clat.inbound=allow", datapath=datapath) as daemon:
            status = daemon.status()
            here4, here6, there6 = status["ipv4"], status["ipv6"], lab.nat64(PEER)
            rng = random.Random(6)
            wire = self.capture(lab.r1, "seg", 0x86dd)
            host.run(sys.executable, "-c", SEND, input=json.dumps([p.hex() for p in self.outbound(rng, here4)]))
            host.run("ping", "-n", "-c1", "-W1", "-p", "5aa55aa5", PEER, check=False)
            end = bytes.fromhex("5aa55aa5")
            to_peer = [p for p in self.until(wire, lambda p: end in p) if p[24:40] == socket.inet_pton(socket.AF_INET6, there6)
                       and end not in p]
            stack = self.capture(host, "clat", 0x0800)
            last = packets.udp6(there6, here6, 9, 65000, b"the last one")
            sent = self.inbound(rng, there6, here6)
            for start in range(0, len(sent), 40):
                lab.inject("slaac", *sent[start:start + 40])
            self.eventually(lambda: (lab.inject("slaac", last), True)[1], "the last packet to be sent")
            to_host = [p for p in self.until(stack, lambda p: b"the last one" in p) if p[12:16] == socket.inet_aton(PEER)
                       and b"the last one" not in p]
            counted = daemon.status()["counters"]
        return sorted(to_peer), sorted(map(self.without_identification, to_host)), counted

    @staticmethod
    def until(capture, is_last):
        """All packets of a capture up to that one."""
        found = []
        for line in capture.stdout:
            found.append(bytes.fromhex(line))
            if is_last(found[-1]):
                capture.kill()
                return found
        raise AssertionError(f"the last packet did not come, {len(found)} others did")

    @staticmethod
    def without_identification(packet):
        """RFC 7915 section 5.1: where a packet may be fragmented on, its identification is the translator's to choose."""
        if packet[6] & 0x40:
            return packet
        return packet[:4] + b"\0\0" + packet[6:10] + b"\0\0" + packet[12:]

    @staticmethod
    def outbound(rng, here):
        """IPv4 packets for the fast path, and some that it leaves to the daemon.

        No fragments: on its way out of the portable datapath the kernel puts them together and takes them apart anew.
        """
        def pseudo(protocol, length):
            return socket.inet_aton(here) + socket.inet_aton(PEER) + struct.pack("!HH", protocol, length)
        for number in range(NUMBER):
            protocol, payload = transport(rng, pseudo, (1, (8, 0)))
            options = b"\x94\x04\0\0" if number % 20 == 0 else b""                 # router alert
            if number % 20 == 2 and protocol == 17:
                payload = payload[:6] + b"\0\0" + payload[8:]
            yield ipv4(rng, here, protocol, payload, options)

    @staticmethod
    def inbound(rng, there, here):
        """IPv6 packets, the same kinds."""
        def pseudo(protocol, length):
            return (socket.inet_pton(socket.AF_INET6, there) + socket.inet_pton(socket.AF_INET6, here)
                    + struct.pack("!II", length, protocol))
        found = []
        for number in range(NUMBER):
            protocol, payload = transport(rng, pseudo, (58, (128, 129)))
            packet = packets.ipv6(there, here, protocol, payload, rng.randrange(2, 255), rng.randrange(1 << 28))
            if number % 20 == 1 and protocol != 58:
                head = struct.pack("!BBHI", protocol, 0, 0, rng.randrange(1 << 32))  # an atomic fragment
                packet = packets.ipv6(there, here, 44, head + payload, 64)
            found.append(packet)
        return found

    def test_same_bytes(self):
        """800 random packets: what reaches the wire and the stack is the same through programs and daemon, byte by byte"""
        fast_out, fast_in, counted = self.through("bpf")
        slow_out, slow_in, daemons = self.through("tun")
        self.assertGreater(len(fast_out), NUMBER * .9)
        self.assertGreater(len(fast_in), NUMBER * .9)
        for name, fast, slow in (("wire", fast_out, slow_out), ("stack", fast_in, slow_in)):
            only_fast, only_slow = set(fast) - set(slow), set(slow) - set(fast)
            self.assertEqual((len(only_fast), len(only_slow)), (0, 0), f"at the {name}, {len(only_fast)} by the fast path only, {len(only_slow)} by the "
                             f"slow one only: {sorted(p.hex() for p in only_fast)[:2]} {sorted(p.hex() for p in only_slow)[:2]}")
            self.assertEqual(fast, slow)
        for direction in ("4to6", "6to4"):
            by_programs = sum(counts.get("translated", 0) for counts in counted[direction]["kernel"].values())
            self.assertGreater(by_programs, NUMBER * .9, "the programs have left too much to the daemon")
            self.assertFalse(daemons[direction].get("kernel"), "the slow path had programs")

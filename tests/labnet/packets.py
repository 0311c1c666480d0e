"""Building the few raw packets that tests put on the wire."""
import ipaddress
import struct


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _address(text):
    return ipaddress.IPv6Address(text).packed


def _pseudo(src, dst, protocol, payload):
    return _address(src) + _address(dst) + struct.pack("!II", len(payload), protocol)


def ipv6(src, dst, protocol, payload, hop_limit=64, flow=0):
    """An IPv6 header before a payload."""
    return struct.pack("!IHBB", 6 << 28 | flow, len(payload), protocol, hop_limit) + _address(src) + _address(dst) + payload


def udp6(src, dst, sport, dport, data, check=None):
    """A UDP datagram in IPv6; `check` overrides the checksum."""
    head = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    value = checksum(_pseudo(src, dst, 17, head + data) + head + data) or 0xFFFF
    head = head[:6] + struct.pack("!H", value if check is None else check)
    return ipv6(src, dst, 17, head + data)


def tcp6(src, dst, sport, dport, flags=0x02, seq=1):
    """A TCP segment without data in IPv6; by default a SYN."""
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, 0, 5 << 4, flags, 65535, 0, 0)
    value = checksum(_pseudo(src, dst, 6, head) + head)
    return ipv6(src, dst, 6, head[:16] + struct.pack("!H", value) + head[18:])


def icmp6(src, dst, kind, code, rest, body=b""):
    """An ICMPv6 message in IPv6; `rest` is the second word."""
    head = struct.pack("!BBHI", kind, code, 0, rest)
    value = checksum(_pseudo(src, dst, 58, head + body) + head + body)
    return ipv6(src, dst, 58, struct.pack("!BBHI", kind, code, value, rest) + body)


def ethernet(dst_mac, src_mac, packet):
    """An IPv6 packet in an Ethernet frame."""
    return bytes.fromhex(dst_mac.replace(":", "")) + bytes.fromhex(src_mac.replace(":", "")) + b"\x86\xdd" + packet

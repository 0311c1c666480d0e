#!/usr/bin/env python3
"""Writes the test vectors 4to6.txt and 6to4.txt in this directory.

Each vector says what goes into the translator and, byte for byte, what must come out. Nothing here translates:
both sides are put together from their fields, and this script knows of RFC 7915 only what the vectors state.
Checksums are computed here, with arithmetic of its own.

    ./generate.py           write the files
    ./generate.py --check   fail if they are not what this script writes
"""

import ipaddress
import pathlib
import struct
import sys

CLAT4, CLAT6 = "192.0.0.1", "2001:db8:c1a7::1"
SERVER4, SERVER6 = "198.51.100.7", "2001:db8:64::c633:6407"
ROUTER6 = "2001:db8:ffff::1"
DUMMY = "192.0.0.8"
PREFIXES = {
    # RFC 6052 section 2.2: where 198.51.100.7 = c6.33.64.07 goes for each length
    "2001:db8::/32": "2001:db8:c633:6407::",
    "2001:db8:100::/40": "2001:db8:1c6:3364:7::",
    "2001:db8:122::/48": "2001:db8:122:c633:64:700::",
    "2001:db8:122:300::/56": "2001:db8:122:3c6:33:6407::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c6:3364:700::",
    "2001:db8:122:344::/96": "2001:db8:122:344::c633:6407",
}

# --- packets as lists of (comment, bytes) -----------------------------------------------------------------------


def data(fields):
    return b"".join(value for _, value in fields)


def u16(value):
    return struct.pack("!H", value)


def u32(value):
    return struct.pack("!I", value)


def addr(text):
    return ipaddress.ip_address(text).packed


def ones_sum(octets):
    octets = octets + b"\0" * (len(octets) % 2)
    total = sum(struct.unpack("!%dH" % (len(octets) // 2), octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(octets):
    return ones_sum(octets) ^ 0xFFFF


def pseudo(ends, length, protocol):
    src, dst = map(addr, ends)
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, protocol, length)
    return src + dst + struct.pack("!IHBB", length, 0, 0, protocol)


def cut(fields, length):
    """The first `length` bytes."""
    out = []
    for comment, value in fields:
        if length <= 0:
            break
        out.append((comment, value[:length]))
        length -= len(value)
    return out


def ip4(protocol, payload, src=CLAT4, dst=SERVER4, *, ttl=64, tos=0, ident=0x1234, df=False, mf=False, offset=0,
        options=b"", total=None, check=None, ihl=None, version=4):
    header_len = 20 + len(options)
    total = header_len + len(data(payload)) if total is None else total
    flags = (0x4000 if df else 0) | (0x2000 if mf else 0) | offset
    ihl = header_len // 4 if ihl is None else ihl
    fields = [
        ("IPv4: version, header length", bytes([version << 4 | ihl])),
        ("type of service", bytes([tos])),
        ("total length %d" % total, u16(total)),
        ("identification", u16(ident)),
        ("flags%s%s, fragment offset %d" % (" DF" if df else "", " MF" if mf else "", offset * 8), u16(flags)),
        ("time to live", bytes([ttl])),
        ("protocol %d" % protocol, bytes([protocol])),
        ("header checksum", b"\0\0"),
        ("source " + src, addr(src)),
        ("destination " + dst, addr(dst)),
    ]
    if options:
        fields.append(("options", options))
    fields[7] = ("header checksum", u16(checksum(data(fields)) if check is None else check))
    return fields + payload


def ip6(protocol, payload, src=CLAT6, dst=SERVER6, *, hops=64, tc=0, length=None, flow=0, version=6):
    length = len(data(payload)) if length is None else length
    return [
        ("IPv6: version, traffic class 0x%02x, flow label" % tc, u32(version << 28 | tc << 20 | flow)),
        ("payload length %d" % length, u16(length)),
        ("next header %d" % protocol, bytes([protocol])),
        ("hop limit", bytes([hops])),
        ("source " + src, addr(src)),
        ("destination " + dst, addr(dst)),
    ] + payload


def frag6(protocol, payload, *, offset=0, more=False, ident=0x1234):
    return [
        ("Fragment: next header %d" % protocol, bytes([protocol])),
        ("reserved", b"\0"),
        ("offset %d%s" % (offset * 8, ", more" if more else ""), u16(offset << 3 | more)),
        ("identification", u32(ident)),
    ] + payload


def ext6(protocol, payload, *, kind="Destination Options", body=b"\x01\x04\0\0\0\0"):
    assert (2 + len(body)) % 8 == 0
    return [
        (kind + ": next header %d" % protocol, bytes([protocol])),
        ("length", bytes([(2 + len(body)) // 8 - 1])),
        ("body", body),
    ] + payload


def tcp(ends, payload=b"hello", *, check=None, offset=5, options=b""):
    fields = [
        ("TCP: source port", u16(4000)),
        ("destination port", u16(80)),
        ("sequence number", u32(1000)),
        ("acknowledgment number", u32(2000)),
        ("data offset, flags", bytes([(offset + len(options) // 4) << 4, 0x18])),
        ("window", u16(64000)),
        ("checksum", b"\0\0"),
        ("urgent pointer", u16(0)),
    ]
    if options:
        fields.append(("options", options))
    if payload:
        fields.append(("payload", payload))
    return finish(fields, 6, ends, 6, check)


def udp(ends, payload=b"hello", *, check=None, length=None, protocol=17, partial=False):
    length = 8 + len(payload) if length is None else length
    fields = [
        ("UDP: source port", u16(4000)),
        ("destination port", u16(53)),
        ("length", u16(length)),
        ("checksum", b"\0\0"),
    ]
    if payload:
        fields.append(("payload", payload))
    return finish(fields, 3, ends, protocol, check)


def finish(fields, at, ends, protocol, check):
    """Fills the checksum in: the right one, the given one, or the sum of the pseudo-header alone ("partial")."""
    octets = data(fields)
    if check is None:
        check = checksum(pseudo(ends, len(octets), protocol) + octets)
        if protocol in (17, 136):
            check = check or 0xFFFF
    elif check == "partial":
        check = ones_sum(pseudo(ends, len(octets), protocol))
    fields[at] = (fields[at][0], u16(check))
    return fields


def dccp(ends, payload=b"hello"):
    fields = [
        ("DCCP: source port", u16(4000)),
        ("destination port", u16(5001)),
        ("data offset", b"\x04"),
        ("CCVal, checksum coverage: all", b"\0"),
        ("checksum", b"\0\0"),
        ("type data, short sequence number", b"\x04\x00\x12\x34\0\0\0\0"),
        ("payload", payload),
    ]
    return finish(fields, 4, ends, 33, None)


def icmp4(kind, code, rest, body, check=None):
    fields = [
        ("ICMPv4: type %d" % kind, bytes([kind])),
        ("code %d" % code, bytes([code])),
        ("checksum", b"\0\0"),
        ("rest of the header", rest),
    ] + body
    fields[2] = ("checksum", u16(checksum(data(fields)) if check is None else check))
    return fields


def icmp6(kind, code, rest, body, ends, check=None):
    fields = [
        ("ICMPv6: type %d" % kind, bytes([kind])),
        ("code %d" % code, bytes([code])),
        ("checksum", b"\0\0"),
        ("rest of the header", rest),
    ] + body
    octets = data(fields)
    check = checksum(pseudo(ends, len(octets), 58) + octets) if check is None else check
    fields[2] = ("checksum", u16(check))
    return fields


def raw(octets, comment="payload"):
    return [(comment, octets)]


def pattern(length):
    return bytes((i * 7 + 3) & 0xFF for i in range(length))


OUT4, OUT6 = (CLAT4, SERVER4), (CLAT6, SERVER6)
IN4, IN6 = (SERVER4, CLAT4), (SERVER6, CLAT6)
ECHO = b"\x12\x34\x00\x01"  # identifier, sequence number

# --- vectors ----------------------------------------------------------------------------------------------------

VECTORS = {"4to6": [], "6to4": []}


def vector(direction, name, rule, packet, verdict, *outs, **settings):
    VECTORS[direction].append((name, rule, settings, packet, verdict, outs))


def fwd4(name, rule, packet, out, **settings):
    vector("4to6", name, rule, packet, "forward", out, **settings)


def fwd6(name, rule, packet, out, **settings):
    vector("6to4", name, rule, packet, "forward", out, **settings)


def drop4(name, rule, packet, reason, **settings):
    vector("4to6", name, rule, packet, "drop " + reason, **settings)


def drop6(name, rule, packet, reason, **settings):
    vector("6to4", name, rule, packet, "drop " + reason, **settings)


def reply4(name, rule, packet, reason, kind, code, rest=b"\0" * 4, **settings):
    """The error goes to the CLAT's own host, from the dummy address, and quotes up to 576 bytes."""
    quote = cut(packet, 576 - 28)
    out = ip4(1, icmp4(kind, code, rest, quote), DUMMY, CLAT4, tos=0xC0, ident=1)
    vector("4to6", name, rule, packet, "reply " + reason, out, **settings)


def reply6(name, rule, packet, reason, kind, code, rest=b"\0" * 4, to=SERVER6, **settings):
    quote = cut(packet, 1280 - 48)
    out = ip6(58, icmp6(kind, code, rest, quote, (CLAT6, to)), CLAT6, to)
    vector("6to4", name, rule, packet, "reply " + reason, out, **settings)


def back(protocol, payload, **fields):
    """An IPv4 packet to the CLAT; the translator's first identification is 1."""
    fields.setdefault("ident", 1)
    return ip4(protocol, payload, SERVER4, CLAT4, **fields)


def inward(protocol, payload, **fields):
    return ip6(protocol, payload, SERVER6, CLAT6, **fields)


def udp_that_sums_to_zero(ends):
    """A payload whose UDP checksum comes out as 0, which must go as 0xffff."""
    octets = data(udp(ends, b"\0\0", check=0))
    return u16(checksum(pseudo(ends, len(octets), 17) + octets))


def headers_4to6():
    rule = "RFC 7915 §4.1"
    fwd4("tcp", rule, ip4(6, tcp(OUT4), df=True), ip6(6, tcp(OUT6)))
    fwd4("udp", rule, ip4(17, udp(OUT4)), ip6(17, udp(OUT6)))
    fwd4("udp-odd-payload", rule, ip4(17, udp(OUT4, b"abc")), ip6(17, udp(OUT6, b"abc")))
    fwd4("udp-empty", rule, ip4(17, udp(OUT4, b"")), ip6(17, udp(OUT6, b"")))
    fwd4("traffic-class-whole", rule + ": all 8 bits", ip4(6, tcp(OUT4), tos=0xB9), ip6(6, tcp(OUT6), tc=0xB9))
    fwd4("traffic-class-zero", rule + ": may be ignored", ip4(6, tcp(OUT4), tos=0xB9), ip6(6, tcp(OUT6)),
         copy_traffic_class="false")
    fwd4("ttl-1", "the CLAT is not a hop", ip4(6, tcp(OUT4), ttl=1), ip6(6, tcp(OUT6), hops=1))
    fwd4("options-ignored", rule, ip4(6, tcp(OUT4), options=b"\x07\x07\x04\0\0\0\0\0"), ip6(6, tcp(OUT6)))
    fwd4("padding-trimmed", "link-layer padding is no payload", ip4(17, udp(OUT4)) + raw(b"\xaa" * 9, "padding"),
         ip6(17, udp(OUT6)))
    for prefix, server in PREFIXES.items():
        ends = ("2001:db9::1", server)
        fwd4("prefix-" + prefix.split("/")[1], "RFC 6052 §2.2", ip4(6, tcp(OUT4)),
             ip6(6, tcp(ends), *ends), pref64=prefix, clat_ipv6="2001:db9::1")
    for protocol, name in ((47, "gre"), (50, "esp"), (51, "ah"), (132, "sctp"), (59, "no-next"), (200, "unknown")):
        fwd4("protocol-" + name, rule + ": copied, payload as it is", ip4(protocol, raw(pattern(24))),
             ip6(protocol, raw(pattern(24))))
    fwd4("protocol-udp-lite", "RFC 3828: pseudo-header covered", ip4(136, udp(OUT4, protocol=136)),
         ip6(136, udp(OUT6, protocol=136)))
    fwd4("protocol-dccp", "RFC 4340 §9.1: pseudo-header covered", ip4(33, dccp(OUT4)), ip6(33, dccp(OUT6)))
    for protocol in (0, 43, 44, 60, 135, 139, 140, 58):
        reply4("protocol-misleading-%d" % protocol, "would be read as an extension header or ICMPv6",
               ip4(protocol, raw(pattern(24))), "untranslatable-protocol", 3, 13)
    drop4("igmp", "RFC 7915 §4.2", ip4(2, raw(pattern(8))), "igmp")


def refusals_4to6():
    rule = "malformed"
    good = ip4(6, tcp(OUT4))
    drop4("empty", rule, [], "truncated")
    drop4("short-header", rule, cut(good, 19), "truncated")
    drop4("short-payload", rule, cut(good, 44), "truncated")
    drop4("version-6", rule, ip4(6, tcp(OUT4), version=6), "malformed-header")
    drop4("header-length-4", rule, ip4(6, tcp(OUT4), ihl=4), "malformed-header")
    drop4("total-length-19", rule, ip4(6, tcp(OUT4), total=19), "malformed-header")
    drop4("header-checksum", "RFC 1812 §5.2.2", ip4(6, tcp(OUT4), check=0x1111), "bad-ipv4-checksum")
    drop4("ttl-0", "RFC 7915 §4.1", ip4(6, tcp(OUT4), ttl=0), "hop-limit-zero")
    for source in ("0.0.0.0", "127.0.0.1", "10.0.0.1", "192.0.0.2", "224.0.0.1"):
        drop4("source-" + source, "only the CLAT's own source", ip4(6, tcp((source, SERVER4)), source), "not-clat-ipv4-source")
    for destination in ("224.0.0.1", "239.255.255.250", "255.255.255.255"):
        drop4("destination-" + destination, "no error about multicast or broadcast",
              ip4(17, udp((CLAT4, destination)), dst=destination), "multicast-destination")
    for destination in ("0.1.2.3", "127.0.0.1", "169.254.1.1", "240.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1",
                        "100.64.0.1", "198.18.0.1", "192.0.0.170", "192.0.0.2", "192.0.0.8", CLAT4):
        reply4("destination-" + destination, "RFC 7915 §4.4: prohibited, at once",
               ip4(6, tcp((CLAT4, destination)), dst=destination), "refused-ipv4-destination", 3, 13)
    ends = (CLAT6, "2001:db8:64::a01:203")
    fwd4("destination-private-served", "the provider's NAT64 serves it", ip4(6, tcp((CLAT4, "10.1.2.3")), dst="10.1.2.3"),
         ip6(6, tcp(ends), *ends), private_ipv4="true")
    for destination in ("10.1.2.3", "192.0.2.1", "203.0.113.80", "192.88.99.1"):
        reply4("destination-well-known-" + destination, "RFC 6052 §3.1: only global addresses, whatever the configuration",
               ip4(6, tcp((CLAT4, destination)), dst=destination), "refused-ipv4-destination", 3, 13,
               pref64="64:ff9b::/96", private_ipv4="true")
    ends = (CLAT6, "64:ff9b::808:808")
    fwd4("destination-well-known-global", "RFC 6052 §3.1", ip4(6, tcp((CLAT4, "8.8.8.8")), dst="8.8.8.8"),
         ip6(6, tcp(ends), *ends), pref64="64:ff9b::/96")
    lsrr, ssrr, done = b"\x83\x07\x04\xc6\x33\x64\x07\0", b"\x89\x07\x04\xc6\x33\x64\x07\0", b"\x83\x07\x08\xc6\x33\x64\x07\0"
    reply4("source-route-loose", "RFC 7915 §4.1", ip4(6, tcp(OUT4), options=lsrr), "source-route", 3, 5)
    reply4("source-route-strict", "RFC 7915 §4.1", ip4(6, tcp(OUT4), options=ssrr), "source-route", 3, 5)
    fwd4("source-route-expired", "RFC 7915 §4.1", ip4(6, tcp(OUT4), options=done), ip6(6, tcp(OUT6)))
    drop4("source-route-later-fragment", "RFC 1122 §3.2.2: no error about a later fragment",
          ip4(6, raw(pattern(16)), options=lsrr, offset=2), "source-route")
    quote = ip4(17, udp(IN4), "10.1.2.3", CLAT4)
    drop4("error-to-refused-destination", "RFC 7915 §4.4: no error about an error",
          ip4(1, icmp4(3, 3, b"\0" * 4, quote), dst="10.1.2.3"), "refused-ipv4-destination")
    drop4("tcp-short", "no checksum to correct", ip4(6, raw(pattern(19))), "malformed-transport")
    drop4("udp-short", "no checksum to correct", ip4(17, raw(pattern(7))), "malformed-transport")
    drop4("tcp-first-fragment-short", "no checksum to correct", ip4(6, raw(pattern(16)), mf=True), "malformed-transport")
    drop4("udp-lite-short", "no checksum to correct", ip4(136, raw(pattern(7))), "malformed-transport")
    drop4("dccp-short", "no checksum to correct", ip4(33, raw(pattern(11))), "malformed-transport")


def checksums_4to6():
    payload = udp_that_sums_to_zero(OUT6)
    fwd4("udp-sums-to-zero", "RFC 8200 §8.1: 0 goes as 0xffff", ip4(17, udp(OUT4, payload)), ip6(17, udp(OUT6, payload)))
    fwd4("udp-wrong-checksum-stays-wrong", "RFC 1624",
         ip4(17, udp(OUT4, check=0x1111)),
         ip6(17, udp(OUT6, check=fold_difference(0x1111, OUT4, OUT6))))
    fwd4("udp-zero-checksum", "RFC 7915 §4.5: computed", ip4(17, udp(OUT4, check=0)), ip6(17, udp(OUT6)))
    fwd4("udp-zero-checksum-sums-to-zero", "RFC 8200 §8.1", ip4(17, udp(OUT4, payload, check=0)), ip6(17, udp(OUT6, payload)))
    trailing = udp(OUT4, b"hello", check=0) + raw(b"\xee" * 3, "behind the datagram")
    fwd4("udp-zero-checksum-trailing", "RFC 768: the UDP length counts", ip4(17, trailing),
         ip6(17, udp(OUT6, b"hello") + raw(b"\xee" * 3, "behind the datagram")))
    for length in (7, 14):
        drop4("udp-zero-checksum-length-%d" % length, "a UDP length that cannot be", ip4(17, udp(OUT4, check=0, length=length)),
              "malformed-transport")
    drop4("udp-zero-checksum-fragment", "RFC 7915 §4.5", ip4(17, udp(OUT4, pattern(16), check=0, length=100), mf=True),
          "udp-zero-checksum")
    drop4("udp-zero-checksum-configured", "RFC 7915 §4.5: administrator's choice", ip4(17, udp(OUT4, check=0)),
          "udp-zero-checksum", compute_udp_checksum="false")
    fwd4("tcp-partial", "virtio NEEDS_CSUM", ip4(6, tcp(OUT4, check="partial")), ip6(6, tcp(OUT6, check="partial")), partial="true")
    fwd4("udp-partial", "virtio NEEDS_CSUM", ip4(17, udp(OUT4, check="partial")), ip6(17, udp(OUT6, check="partial")),
         partial="true")
    drop4("partial-sctp", "no such offload", ip4(132, raw(pattern(24))), "unsupported-offload", partial="true")
    drop4("partial-icmp", "no such offload", ip4(1, icmp4(8, 0, ECHO, [])), "unsupported-offload", partial="true")
    drop4("partial-fragment", "no such offload", ip4(17, udp(OUT4, pattern(16), check="partial"), mf=True), "unsupported-offload",
          partial="true")
    big = pattern(5000)
    fwd4("tcp-gso", "each segment is 1500 bytes of IPv6", ip4(6, tcp(OUT4, big, check="partial"), df=True),
         ip6(6, tcp(OUT6, big, check="partial")), partial="true", gso="1440")
    fwd4("udp-gso", "each segment is 1500 bytes of IPv6", ip4(17, udp(OUT4, big, check="partial")),
         ip6(17, udp(OUT6, big, check="partial")), partial="true", gso="1452")
    reply4("tcp-gso-too-big", "each segment is 1501 bytes of IPv6", ip4(6, tcp(OUT4, big, check="partial"), df=True), "too-big",
           3, 4, u32(1480), partial="true", gso="1441")
    reply4("tcp-gso-options-too-big", "TCP options count", ip4(6, tcp(OUT4, big, check="partial", options=b"\x01" * 4), df=True),
           "too-big", 3, 4, u32(1480), partial="true", gso="1440")
    drop4("gso-icmp", "no such offload", ip4(1, icmp4(8, 0, ECHO, [])), "unsupported-offload", gso="100")
    drop4("gso-beyond-64k", "BIG TCP says 0", ip4(6, tcp(OUT4, big, check="partial"), total=0), "jumbogram", partial="true", gso="1440")


def fold_difference(value, old, new):
    """RFC 1624 eqn. 3 by hand: ~(~HC + ~m + m')."""
    total = (value ^ 0xFFFF) + (ones_sum(addr(old[0]) + addr(old[1])) ^ 0xFFFF) + ones_sum(addr(new[0]) + addr(new[1]))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def fragments_4to6():
    rule = "RFC 7915 §4.1"
    whole4, whole6 = udp(OUT4, pattern(40)), udp(OUT6, pattern(40))
    fwd4("fragment-first", rule, ip4(17, cut(whole4, 24), mf=True), ip6(44, frag6(17, cut(whole6, 24), more=True)))
    fwd4("fragment-middle", rule, ip4(17, raw(pattern(24)), mf=True, offset=3), ip6(44, frag6(17, raw(pattern(24)), more=True, offset=3)))
    fwd4("fragment-last", rule, ip4(17, raw(pattern(13)), offset=6), ip6(44, frag6(17, raw(pattern(13)), offset=6)))
    fwd4("fragment-with-df", rule, ip4(17, raw(pattern(24)), mf=True, df=True, offset=3),
         ip6(44, frag6(17, raw(pattern(24)), more=True, offset=3)))
    fwd4("fragment-last-offset", rule, ip4(17, raw(pattern(7)), offset=0x1FFF), ip6(44, frag6(17, raw(pattern(7)), offset=0x1FFF)))
    fwd4("fragment-unknown-protocol", rule, ip4(200, raw(pattern(8)), mf=True), ip6(44, frag6(200, raw(pattern(8)), more=True)))
    drop4("fragment-beyond-64k", "ping of death", ip4(17, raw(pattern(8)), offset=0x1FFF), "malformed-fragment")
    drop4("fragment-not-multiple-of-8", "RFC 791 §3.2", ip4(17, raw(pattern(9)), mf=True, offset=1), "malformed-fragment")
    drop4("fragment-icmp", "RFC 7915 §1.2", ip4(1, icmp4(8, 0, ECHO, raw(pattern(16))), mf=True), "fragmented-icmp")
    drop4("fragment-icmp-later", "RFC 7915 §1.2", ip4(1, raw(pattern(16)), offset=3), "fragmented-icmp")

    df = pattern(1480 - 20)
    fwd4("df-fits", rule, ip4(132, raw(df), df=True), ip6(132, raw(df)))
    reply4("df-too-big", rule, ip4(132, raw(pattern(1461)), df=True), "too-big", 3, 4, u32(1480))
    reply4("df-too-big-fragment", rule + ": the Fragment header counts", ip4(132, raw(pattern(1456)), df=True, mf=True), "too-big", 3, 4,
           u32(1472))
    drop4("df-too-big-later-fragment", "RFC 1122 §3.2.2", ip4(132, raw(pattern(1456)), df=True, mf=True, offset=4), "too-big")
    reply4("df-too-big-echo", rule, ip4(1, icmp4(8, 0, ECHO, raw(pattern(1460))), df=True), "too-big", 3, 4, u32(1480))
    fwd4("no-df-1280", rule + ": no Fragment header", ip4(132, raw(pattern(1240))), ip6(132, raw(pattern(1240))))

    def fragmented(name, protocol4, protocol6, payload4, payload6, limit, offset=0, more=False, **settings):
        octets, outs, at = data(payload6), [], 0
        size = (limit - 48) // 8 * 8
        while at < len(octets):
            # The last one may fill the MTU to the byte.
            take = len(octets) - at if len(octets) - at <= limit - 48 else size
            last = at + take == len(octets)
            piece = raw(octets[at : at + take], "bytes %d to %d" % (at, at + take))
            outs.append(ip6(44, frag6(protocol6, piece, offset=offset + at // 8, more=more or not last)))
            at += take
        vector("4to6", name, rule + ": cut to lowest-ipv6-mtu", ip4(protocol4, payload4, offset=offset, mf=more), "fragments", *outs,
               **settings)

    fragmented("no-df-1281", 132, 132, raw(pattern(1241)), raw(pattern(1241)), 1280)
    fragmented("no-df-udp", 17, 17, udp(OUT4, pattern(1400)), udp(OUT6, pattern(1400)), 1280)
    fragmented("no-df-udp-partial", 17, 17, udp(OUT4, pattern(1400), check="partial"), udp(OUT6, pattern(1400)), 1280, partial="true")
    fragmented("no-df-udp-zero-checksum", 17, 17, udp(OUT4, pattern(1400), check=0), udp(OUT6, pattern(1400)), 1280)
    fragmented("no-df-lowest-1400", 132, 132, raw(pattern(3000)), raw(pattern(3000)), 1400, lowest_ipv6_mtu="1400")
    fragmented("no-df-link-below-lowest", 132, 132, raw(pattern(3000)), raw(pattern(3000)), 1300, lowest_ipv6_mtu="1400", mtu="1280 1300")
    # 1252 bytes fit, but only the last fragment may have a length that is not a multiple of 8.
    fragmented("no-df-last-fills-the-link", 132, 132, raw(pattern(1248 + 1252)), raw(pattern(1248 + 1252)), 1300, lowest_ipv6_mtu="1300")
    fragmented("no-df-last-overfills-the-link", 132, 132, raw(pattern(1248 + 1253)), raw(pattern(1248 + 1253)), 1300, lowest_ipv6_mtu="1300")
    fragmented("no-df-fragment-first", 132, 132, raw(pattern(1304)), raw(pattern(1304)), 1280, more=True)
    fragmented("no-df-fragment-last", 132, 132, raw(pattern(1301)), raw(pattern(1301)), 1280, offset=100)
    fragmented("no-df-echo", 1, 58, icmp4(8, 0, ECHO, raw(pattern(1400))), icmp6(128, 0, ECHO, raw(pattern(1400)), OUT6), 1280)


def icmp_4to6():
    rule = "RFC 7915 §4.2"
    for kind, new in ((8, 128), (0, 129)):
        fwd4("echo-%d" % kind, rule, ip4(1, icmp4(kind, 0, ECHO, raw(pattern(9)))), ip6(58, icmp6(new, 0, ECHO, raw(pattern(9)), OUT6)))
    for kind in (1, 4, 5, 6, 9, 10, 13, 14, 15, 16, 17, 18, 30, 40, 255):
        body = ip4(17, udp(IN4), SERVER4, CLAT4)
        drop4("type-%d" % kind, rule + ": silently", ip4(1, icmp4(kind, 0, ECHO, body)), "untranslatable-icmp")
    drop4("icmp-short", "malformed", ip4(1, raw(pattern(7))[:0] + raw(b"\x08" + pattern(6))), "malformed-transport")
    drop4("icmp-empty", "malformed", ip4(1, []), "malformed-transport")

    # What this host complains about came from the NAT64.
    quote4 = cut(back(17, udp(IN4, pattern(40)), ident=0x4321, tos=0x10, ttl=9), 28)
    quote6 = cut(inward(17, udp(IN6, pattern(40)), tc=0x10, hops=9), 48)

    def error(name, text, kind, code, rest, out=None, inner4=quote4, inner6=quote6, reason="untranslatable-icmp", **settings):
        packet = ip4(1, icmp4(kind, code, rest, inner4), tos=0xC0)
        if out is None:
            return drop4(name, text, packet, reason, **settings)
        new_kind, new_code, new_rest = out
        return fwd4(name, text, packet, ip6(58, icmp6(new_kind, new_code, new_rest, inner6, OUT6), tc=0xC0), **settings)

    zero = b"\0" * 4
    unreachable = {0: 0, 1: 0, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 0, 12: 0, 13: 1, 14: None, 15: 1, 16: None, 255: None}
    for code, new in unreachable.items():
        error("unreachable-%d" % code, rule, 3, code, zero, None if new is None else (1, new, zero))
    error("unreachable-2", rule + ": protocol unreachable", 3, 2, zero, (4, 1, u32(6)))
    for code in (0, 1):
        error("time-exceeded-%d" % code, rule, 11, code, zero, (3, code, zero))
    figure3 = {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24}
    for pointer in range(22):
        new = figure3.get(pointer)
        error("parameter-problem-pointer-%d" % pointer, rule + " Figure 3", 12, 0, bytes([pointer, 0, 0, 0]),
              None if new is None else (4, 0, u32(new)))
    error("parameter-problem-1", rule, 12, 1, zero)
    error("parameter-problem-2", rule + ": bad length", 12, 2, b"\x02\0\0\0", (4, 0, u32(4)))
    error("parameter-problem-3", rule, 12, 3, zero)
    for mtu, link4, link6, new in ((1400, 1480, 1500, 1420), (1500, 1480, 1500, 1500), (1500, 1400, 1500, 1420), (1500, 1480, 1400, 1400),
                                   (576, 1480, 1500, 1280), (1260, 1480, 1500, 1280), (1261, 1480, 1500, 1281), (65535, 65535, 100000, 65555)):
        error("frag-needed-%d-%d-%d" % (mtu, link4, link6), rule + ": maximum(1280, minimum(MTU + 20, both links))", 3, 4, u32(mtu),
              (2, 0, u32(new)), mtu="%d %d" % (link4, link6))
    for total, new in ((65535, 32000), (32001, 32000), (32000, 17914), (8167, 8166), (4353, 4352), (2003, 2002), (2002, 1492), (1493, 1492),
                       (1492, 1280), (600, 1280)):
        inner4 = cut(back(17, udp(IN4, b"x"), total=total), 28)
        inner6 = cut(inward(17, udp(IN6, b"x"), length=total - 20), 48)
        error("frag-needed-plateau-%d" % total, rule + ": MTU 0, RFC 1191 plateaus", 3, 4, zero, (2, 0, u32(new)), inner4, inner6,
              mtu="65535 100000")

    rule = "RFC 7915 §4.3"
    for name, p4, p6, l4, l6 in (
        ("udp", 17, 17, udp(IN4, pattern(40)), udp(IN6, pattern(40))),
        ("tcp", 6, 6, tcp(IN4, pattern(40)), tcp(IN6, pattern(40))),
        ("echo", 1, 58, icmp4(8, 0, ECHO, raw(pattern(40))), icmp6(128, 0, ECHO, raw(pattern(40)), IN6)),
        ("echo-reply", 1, 58, icmp4(0, 0, ECHO, raw(pattern(40))), icmp6(129, 0, ECHO, raw(pattern(40)), IN6)),
        ("sctp", 132, 132, raw(pattern(40)), raw(pattern(40))),
    ):
        for length in (len(data(l4)), 8, 4, 0):
            error("quoted-%s-%d" % (name, length), rule + ": %d bytes of transport are quoted" % length, 3, 3, zero, (1, 4, zero),
                  cut(back(p4, l4), 20 + length), cut(inward(p6, l6), 40 + length))
    first4, first6 = cut(udp(IN4, pattern(40)), 16), cut(udp(IN6, pattern(40)), 16)
    error("quoted-first-fragment", rule, 11, 1, zero, (3, 1, zero), back(17, first4, mf=True, ident=0x77),
          inward(44, frag6(17, first6, more=True, ident=0x77)))
    error("quoted-later-fragment", rule, 11, 1, zero, (3, 1, zero), back(17, raw(pattern(16)), offset=5, ident=0x77),
          inward(44, frag6(17, raw(pattern(16)), offset=5, ident=0x77)))
    error("quoted-options", rule, 3, 3, zero, (1, 4, zero), cut(back(17, udp(IN4, pattern(40)), options=b"\x01" * 12), 40), cut(inward(17, udp(IN6, pattern(40))), 48))
    error("quoted-zero-checksum", rule + ": cannot be computed", 3, 3, zero, (1, 4, zero), cut(back(17, udp(IN4, pattern(40), check=0)), 28),
          cut(inward(17, udp(IN6, pattern(40), check=0)), 48))
    error("quoted-with-trailer", rule + ": bytes behind the quoted packet are not part of it", 3, 3, zero, (1, 4, zero),
          back(17, udp(IN4)) + raw(b"\xcc" * 5, "trailer"), inward(17, udp(IN6)))
    error("quoted-error", rule + ": no more embedded headers", 3, 3, zero, None, back(1, icmp4(3, 3, zero, quote4)), reason="nested-icmp-error")
    error("quoted-timestamp", rule, 3, 3, zero, None, back(1, icmp4(13, 0, ECHO, raw(pattern(12)))), reason="bad-embedded-packet")
    error("quoted-igmp", rule, 3, 3, zero, None, back(2, raw(pattern(12))), reason="bad-embedded-packet")
    for name, bad in (
        ("nothing", []),
        ("hop-by-hop", back(0, raw(pattern(12)))),
        ("fragment-header", back(44, raw(pattern(12)))),
        ("half-a-header", cut(quote4, 19)),
        ("other-destination", ip4(17, udp((SERVER4, "192.0.0.2")), SERVER4, "192.0.0.2")),
        ("private-source", ip4(17, udp(("10.0.0.1", CLAT4)), "10.0.0.1", CLAT4)),
        ("ipv6", cut(quote6, 48)),
    ):
        error("quoted-" + name, "cannot have come through here", 3, 3, zero, None, bad, reason="bad-embedded-packet")
    drop4("error-bad-checksum", "a damaged error must not leave with a valid checksum", ip4(1, icmp4(3, 3, zero, quote4, check=0x1111)),
          "bad-icmp-checksum")

    long4, long6 = back(17, udp(IN4, pattern(1400))), inward(17, udp(IN6, pattern(1400)))
    error("quoted-long", "RFC 4443 §2.4 c: at most 1280 bytes", 3, 3, zero, (1, 4, zero), long4, cut(long6, 1280 - 48))
    extensions(rule)


def extension(length):
    """An RFC 4884 extension structure with one opaque object."""
    body = struct.pack("!HBB", length - 4, 200, 1) + pattern(length - 8)
    head = b"\x20\0\0\0" + body
    return [("extension: version, reserved, checksum, one object", b"\x20\0" + u16(checksum(head)) + body)]


def padding(length):
    return [("padding", b"\0" * length)] if length else []


def extensions(_):
    rule = "RFC 4884"

    def both(name, text, kind, code, new, inner4, words4, inner6, words6, ext, out_ext=None, rest=None, new_rest=None):
        rest = rest or bytes([0, words4, 0, 0])
        new_rest = new_rest or bytes([words6, 0, 0, 0])
        out_ext = ext if out_ext is None else out_ext
        fwd4(name, text, ip4(1, icmp4(kind, code, rest, inner4 + ext)), ip6(58, icmp6(*new, new_rest, inner6 + out_ext, OUT6)))

    l4, l6 = udp(IN4, pattern(400)), udp(IN6, pattern(400))
    p4, p6 = back(17, l4), inward(17, l6)
    both("extension-128", rule + ": 32 words of 4 bytes become 19 of 8 (148 bytes and 4 of padding)", 3, 3, (1, 4), cut(p4, 128), 32,
         cut(p6, 148) + padding(4), 19, extension(16))
    both("extension-132", rule + ": 152 bytes need no padding", 11, 0, (3, 0), cut(p4, 132), 33, cut(p6, 152), 19, extension(16))
    short4, short6 = back(17, udp(IN4, b"abc")), inward(17, udp(IN6, b"abc"))
    both("extension-padded", rule + " §4: padded to 128 bytes on either side", 3, 3, (1, 4), short4 + padding(128 - 31), 32,
         short6 + padding(128 - 51), 16, extension(16))
    frag4 = back(17, cut(l4, 200), mf=True, ident=0x77)
    frag_6 = inward(44, frag6(17, cut(l6, 200), more=True, ident=0x77))
    both("extension-quoted-fragment", rule + ": 28 bytes more", 3, 3, (1, 4), cut(frag4, 128), 32, cut(frag_6, 156) + padding(4), 20, extension(20))
    both("extension-frag-needed", rule + " §4.6: Packet Too Big has no room for the length", 3, 4, (2, 0), cut(p4, 128), 32, cut(p6, 148), 0,
         extension(16), [], rest=b"\0\x20" + u16(1400), new_rest=u32(1420))
    both("extension-parameter-problem", rule + " §4.6: nor has Parameter Problem", 12, 0, (4, 0), cut(p4, 128), 32, cut(p6, 148), 0,
         extension(16), [], rest=b"\x09\x20\0\0", new_rest=u32(6))
    both("extension-length-too-small", rule + " §4: no extension can follow less than 128 bytes", 3, 3, (1, 4), cut(p4, 64), 16, cut(p6, 84), 0,
         extension(16), [])
    both("extension-length-beyond", rule + ": a length beyond the message says nothing", 3, 3, (1, 4), cut(p4, 100), 200, cut(p6, 120), 0, [])
    both("extension-length-all", rule + ": nothing follows", 3, 3, (1, 4), cut(p4, 128), 32, cut(p6, 148), 0, [])
    big4, big6 = back(17, udp(IN4, pattern(1400))), inward(17, udp(IN6, pattern(1400)))
    both("extension-long", "the quoted packet gives way to the extension: 1216 and 16 bytes", 3, 3, (1, 4), cut(big4, 1020), 255,
         cut(big6, 1040), 130, extension(16))
    both("extension-longer", "the quoted packet gives way to the extension: 1232 - 400 bytes", 3, 3, (1, 4), cut(big4, 1020), 255,
         cut(big6, 832), 104, extension(400))
    both("extension-too-long", "less than 128 bytes would be left of the quoted packet", 3, 3, (1, 4), cut(p4, 128), 32, cut(p6, 148), 0,
         extension(1108), [])


def headers_6to4():
    rule = "RFC 7915 §5.1"
    fwd6("tcp", rule, inward(6, tcp(IN6)), back(6, tcp(IN4)))
    fwd6("udp", rule, inward(17, udp(IN6)), back(17, udp(IN4)))
    fwd6("udp-empty", rule, inward(17, udp(IN6, b"")), back(17, udp(IN4, b"")))
    fwd6("traffic-class-whole", rule, inward(6, tcp(IN6), tc=0xB9, flow=0x12345), back(6, tcp(IN4), tos=0xB9))
    fwd6("traffic-class-zero", rule, inward(6, tcp(IN6), tc=0xB9), back(6, tcp(IN4)), copy_traffic_class="false")
    fwd6("hop-limit-1", "the CLAT is not a hop", inward(6, tcp(IN6), hops=1), back(6, tcp(IN4), ttl=1))
    fwd6("padding-trimmed", "link-layer padding is no payload", inward(17, udp(IN6)) + raw(b"\xaa" * 9, "padding"), back(17, udp(IN4)))
    for prefix, server in PREFIXES.items():
        ends = (server, "2001:db9::1")
        fwd6("prefix-" + prefix.split("/")[1], "RFC 6052 §2.2", ip6(6, tcp(ends), *ends), back(6, tcp(IN4)), pref64=prefix,
             clat_ipv6="2001:db9::1")
    ends = ("2001:db8:122:344:c6:3364:700:99", "2001:db9::1")
    fwd6("prefix-suffix-ignored", "RFC 6052 §2.2", ip6(6, tcp(ends), *ends), back(6, tcp(IN4)), pref64="2001:db8:122:344::/64",
         clat_ipv6="2001:db9::1")
    ends = ("2001:db8:122:344:1c6:3364:700:0", "2001:db9::1")
    drop6("prefix-u-octet", "RFC 6052 §2.2: bits 64 to 71 must be zero", ip6(6, tcp(ends), *ends), "source-outside-pref64",
          pref64="2001:db8:122:344::/64", clat_ipv6="2001:db9::1")
    for protocol, name in ((47, "gre"), (50, "esp"), (51, "ah"), (132, "sctp"), (59, "no-next"), (135, "mobility"), (139, "hip"), (200, "unknown")):
        fwd6("protocol-" + name, rule + ": copied, payload as it is", inward(protocol, raw(pattern(24))), back(protocol, raw(pattern(24))))
    fwd6("protocol-udp-lite", "RFC 3828", inward(136, udp(IN6, protocol=136)), back(136, udp(IN4, protocol=136)))
    fwd6("protocol-dccp", "RFC 4340 §9.1", inward(33, dccp(IN6)), back(33, dccp(IN4)))
    reply6("protocol-icmpv4", "would become ICMPv4 that nobody has checked", inward(1, icmp4(8, 0, ECHO, [])), "untranslatable-protocol", 1, 1)
    drop6("protocol-igmp", "single-hop", inward(2, raw(pattern(8))), "igmp")
    for size in (1240, 1241):
        fwd6("size-%d" % (size + 20), rule + ": DF clear up to 1260 bytes, set beyond", inward(132, raw(pattern(size))),
             back(132, raw(pattern(size)), df=size > 1240))
    hop = lambda payload: ext6(60, payload, kind="Hop-by-Hop Options")
    fwd6("extension-headers-skipped", rule, inward(0, hop(ext6(43, ext6(6, tcp(IN6), kind="Routing", body=b"\0\0\0\0\0\0")))), back(6, tcp(IN4)))
    fwd6("extension-headers-long", rule, inward(60, ext6(17, udp(IN6), body=b"\x01\x0c" + b"\0" * 12)), back(17, udp(IN4)))
    routing = ext6(6, tcp(IN6), kind="Routing", body=b"\0\x01" + b"\0" * 4 + addr(SERVER6))
    reply6("segments-left", rule + ": the pointer shows Segments Left", inward(43, routing), "routing-header", 4, 0, u32(43))
    reply6("segments-left-second-header", rule, inward(0, ext6(43, routing, kind="Hop-by-Hop Options")), "routing-header", 4, 0, u32(51))
    later = ext6(44, frag6(6, raw(pattern(8)), offset=4), kind="Routing", body=b"\0\x01" + b"\0" * 4 + addr(SERVER6))
    drop6("segments-left-later-fragment", "no error about a later fragment", inward(43, later), "routing-header")


def refusals_6to4():
    good = inward(6, tcp(IN6))
    rule = "malformed"
    drop6("empty", rule, [], "truncated")
    drop6("short-header", rule, cut(good, 39), "truncated")
    drop6("short-payload", rule, cut(good, 64), "truncated")
    drop6("version-4", rule, inward(6, tcp(IN6), version=4), "malformed-header")
    drop6("hop-limit-0", "RFC 7915 §5.1", inward(6, tcp(IN6), hops=0), "hop-limit-zero")
    drop6("short-extension-header", rule, cut(inward(60, ext6(6, tcp(IN6)), length=4), 44), "truncated")
    drop6("extension-header-beyond", rule, inward(60, raw(b"\x06\xff" + pattern(30))), "truncated")
    drop6("short-fragment-header", rule, inward(44, raw(pattern(7))), "truncated")
    drop6("jumbogram", "RFC 2675", inward(0, raw(b"\x06\0\xc2\x04\0\x01\0\0" + pattern(40)), length=0), "jumbogram")
    drop6("gso-beyond-64k", "BIG TCP says 0", inward(6, tcp(IN6, check="partial"), length=0), "jumbogram", partial="true", gso="1000")
    for destination in ("2001:db8:c1a7::2", "ff02::1", "::1"):
        ends = (SERVER6, destination)
        drop6("destination-" + destination, "only the CLAT's own destination", ip6(6, tcp(ends), *ends), "not-clat-ipv6-destination")
    for source in ("2001:db8:ffff::1", "::1", "::", "ff02::1", "fe80::1", CLAT6, "2001:db8:65::c633:6407"):
        ends = (source, CLAT6)
        drop6("source-" + source, "RFC 7915 §5.1", ip6(17, udp(ends), *ends), "source-outside-pref64")
    for source in ("0.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", CLAT4, "192.0.0.8", "10.0.0.1", "172.31.0.1",
                   "192.168.0.1", "100.64.0.1"):
        source6 = str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("2001:db8:64::")) | int(ipaddress.IPv4Address(source))))
        ends = (source6, CLAT6)
        drop6("source-embedded-" + source, "RFC 6052 §5.1", ip6(6, tcp(ends), *ends), "refused-embedded-source")
    for source in ("10.0.0.1", "192.0.2.1"):
        ends = ("64:ff9b::" + source, CLAT6)
        drop6("source-well-known-" + source, "RFC 6052 §3.1, whatever the configuration", ip6(6, tcp(ends), *ends), "refused-embedded-source",
              pref64="64:ff9b::/96", private_ipv4="true")
    ends = ("2001:db8:64::a00:1", CLAT6)
    fwd6("source-private-served", "the provider's NAT64 serves it", ip6(6, tcp(ends), *ends), ip4(6, tcp(("10.0.0.1", CLAT4)), "10.0.0.1", CLAT4, ident=1),
         private_ipv4="true")
    ends = ("2001:db8:64::c000:209", CLAT6)
    drop6("source-own", "an address of this host does not come from outside", ip6(6, tcp(ends), *ends), "refused-embedded-source", own_ipv4="192.0.2.9")
    drop6("tcp-short", "no checksum to correct", inward(6, raw(pattern(19))), "malformed-transport")
    drop6("udp-short", "no checksum to correct", inward(17, raw(pattern(7))), "malformed-transport")
    drop6("tcp-first-fragment-short", "no checksum to correct", inward(44, frag6(6, raw(pattern(16)), more=True)), "malformed-transport")


def checksums_6to4():
    payload = udp_that_sums_to_zero(IN4)
    fwd6("udp-sums-to-zero", "RFC 768: 0 goes as 0xffff", inward(17, udp(IN6, payload)), back(17, udp(IN4, payload)))
    fwd6("udp-zero-checksum", "RFC 8200 §8.1 forbids it, RFC 6935 allows it: still none", inward(17, udp(IN6, check=0)), back(17, udp(IN4, check=0)))
    fwd6("tcp-partial", "virtio NEEDS_CSUM", inward(6, tcp(IN6, check="partial")), back(6, tcp(IN4, check="partial")), partial="true")
    fwd6("udp-partial", "virtio NEEDS_CSUM", inward(17, udp(IN6, check="partial")), back(17, udp(IN4, check="partial")), partial="true")
    big = pattern(5000)
    fwd6("tcp-gso", "segments of 1480 bytes have DF", inward(6, tcp(IN6, big, check="partial")), back(6, tcp(IN4, big, check="partial"), df=True),
         partial="true", gso="1440")
    fwd6("tcp-gso-small", "segments of 1260 bytes have not", inward(6, tcp(IN6, big, check="partial")), back(6, tcp(IN4, big, check="partial")),
         partial="true", gso="1220")
    reply6("tcp-gso-too-big", "segments of 1481 bytes", inward(6, tcp(IN6, big, check="partial")), "too-big", 2, 0, u32(1500), partial="true", gso="1441")
    drop6("partial-fragment", "no such offload", inward(44, frag6(17, udp(IN6, pattern(16), check="partial"), more=True)), "unsupported-offload",
          partial="true")
    drop6("gso-sctp", "no such offload", inward(132, raw(pattern(100))), "unsupported-offload", gso="50")


def fragments_6to4():
    rule = "RFC 7915 §5.1.1"
    whole4, whole6 = udp(IN4, pattern(40)), udp(IN6, pattern(40))
    ident = 0xABCD4321
    fwd6("fragment-first", rule, inward(44, frag6(17, cut(whole6, 24), more=True, ident=ident)), back(17, cut(whole4, 24), mf=True, ident=0x4321))
    fwd6("fragment-middle", rule, inward(44, frag6(17, raw(pattern(24)), more=True, offset=3, ident=ident)),
         back(17, raw(pattern(24)), mf=True, offset=3, ident=0x4321))
    fwd6("fragment-last", rule, inward(44, frag6(17, raw(pattern(13)), offset=6, ident=ident)), back(17, raw(pattern(13)), offset=6, ident=0x4321))
    fwd6("fragment-atomic", rule + ", RFC 6946", inward(44, frag6(17, whole6, ident=ident)), back(17, whole4, ident=0x4321))
    fwd6("fragment-atomic-echo", rule + ", RFC 6946", inward(44, frag6(58, icmp6(129, 0, ECHO, raw(pattern(8)), IN6), ident=ident)),
         back(1, icmp4(0, 0, ECHO, raw(pattern(8))), ident=0x4321))
    fwd6("fragment-large", rule + ": DF is clear", inward(44, frag6(132, raw(pattern(1400)), more=True, ident=ident)),
         back(132, raw(pattern(1400)), mf=True, ident=0x4321))
    fwd6("fragment-esp", rule + ": ESP is no extension header here", inward(44, frag6(50, raw(pattern(16)), more=True, ident=ident)),
         back(50, raw(pattern(16)), mf=True, ident=0x4321))
    fwd6("fragment-behind-options", rule, inward(60, ext6(44, frag6(17, raw(pattern(16)), offset=9, ident=ident))),
         back(17, raw(pattern(16)), offset=9, ident=0x4321))
    for protocol in (0, 43, 44, 51, 60, 135, 139, 140):
        drop6("fragment-extension-%d" % protocol, rule, inward(44, frag6(protocol, raw(pattern(16)), more=True)), "fragmented-extension-header")
    drop6("fragment-beyond-64k", "ping of death", inward(44, frag6(17, raw(pattern(8)), offset=0x1FFF)), "malformed-fragment")
    drop6("fragment-not-multiple-of-8", "RFC 8200 §4.5", inward(44, frag6(17, raw(pattern(9)), offset=1, more=True)), "malformed-fragment")
    drop6("fragment-icmp", "RFC 7915 §1.2", inward(44, frag6(58, icmp6(129, 0, ECHO, raw(pattern(16)), IN6), more=True)), "fragmented-icmp")

    def fragmented(name, protocol6, protocol4, packet, payload4, limit, offset=0, more=False, ident=1, **settings):
        octets, outs, at = data(payload4), [], 0
        size = (limit - 20) // 8 * 8
        while at < len(octets):
            take = len(octets) - at if len(octets) - at <= limit - 20 else size
            last = at + take == len(octets)
            piece = raw(octets[at : at + take], "bytes %d to %d" % (at, at + take))
            outs.append(back(protocol4, piece, offset=offset + at // 8, mf=more or not last, ident=ident))
            at += take
        vector("6to4", name, rule, packet, "fragments", *outs, mtu="%d 1500" % limit, **settings)

    fragmented("cut-1280", 132, 132, inward(132, raw(pattern(1240))), raw(pattern(1240)), 1000)
    fragmented("cut-echo", 58, 1, inward(58, icmp6(129, 0, ECHO, raw(pattern(1232)), IN6)), icmp4(0, 0, ECHO, raw(pattern(1232))), 576)
    fragmented("cut-udp-partial", 17, 17, inward(17, udp(IN6, pattern(1000), check="partial")), udp(IN4, pattern(1000)), 576, partial="true")
    fragmented("cut-fragment", 132, 132, inward(44, frag6(132, raw(pattern(1448)), offset=10, more=True, ident=ident)), raw(pattern(1448)), 1400, offset=10,
               more=True, ident=0x4321)
    fragmented("cut-last-fills-the-link", 132, 132, inward(132, raw(pattern(576 + 580))), raw(pattern(576 + 580)), 600)
    fragmented("cut-to-68", 132, 132, inward(132, raw(pattern(100))), raw(pattern(100)), 68)
    reply6("too-big", "RFC 7915 §1.4", inward(132, raw(pattern(1461))), "too-big", 2, 0, u32(1500))
    reply6("too-big-narrow", "never less than 1280", inward(132, raw(pattern(1241))), "too-big", 2, 0, u32(1280), mtu="1000 1500")
    reply6("too-big-echo", "RFC 4443 §2.4 e", inward(58, icmp6(128, 0, ECHO, raw(pattern(1460)), IN6)), "too-big", 2, 0, u32(1500))


def icmp_6to4():
    rule = "RFC 7915 §5.2"
    for kind, new in ((128, 8), (129, 0)):
        fwd6("echo-%d" % kind, rule, inward(58, icmp6(kind, 0, ECHO, raw(pattern(9)), IN6)), back(1, icmp4(new, 0, ECHO, raw(pattern(9)))))
    quote4 = cut(ip4(17, udp(OUT4, pattern(40)), ident=0, tos=0x10, ttl=9), 28)
    quote6 = cut(ip6(17, udp(OUT6, pattern(40)), tc=0x10, hops=9), 48)
    for kind in (130, 131, 132, 133, 134, 135, 136, 137, 143, 160, 255):
        drop6("type-%d" % kind, rule + ": silently", inward(58, icmp6(kind, 0, ECHO, quote6, IN6)), "untranslatable-icmp")
    for kind in (0, 5, 100, 101, 127):
        drop6("type-%d" % kind, rule + ": unknown error, silently", inward(58, icmp6(kind, 0, ECHO, quote6, IN6)), "untranslatable-icmp")

    def error(name, text, kind, code, rest, out=None, inner6=quote6, inner4=quote4, reason="untranslatable-icmp", source=ROUTER6, source4=DUMMY, **settings):
        ends = (source, CLAT6)
        packet = ip6(58, icmp6(kind, code, rest, inner6, ends), *ends, tc=0xC0)
        if out is None:
            return drop6(name, text, packet, reason, **settings)
        new_kind, new_code, new_rest = out
        return fwd6(name, text, packet, ip4(1, icmp4(new_kind, new_code, new_rest, inner4), source4, CLAT4, tos=0xC0, ident=1), **settings)

    zero = b"\0" * 4
    for code, new in {0: 1, 1: 10, 2: 1, 3: 1, 4: 3, 5: None, 6: None, 7: None, 255: None}.items():
        error("unreachable-%d" % code, rule, 1, code, zero, None if new is None else (3, new, zero))
    for code in (0, 1):
        error("time-exceeded-%d" % code, rule + ": from a router without an IPv4 address (RFC 6791)", 3, code, zero, (11, code, zero))
    figure6 = {0: 0, 1: 1, 2: None, 3: None, 4: 2, 5: 2, 6: 9, 7: 8}
    figure6.update({i: 12 for i in range(8, 24)})
    figure6.update({i: 16 for i in range(24, 40)})
    for pointer in list(range(42)) + [256, 0x01000000]:
        new = figure6.get(pointer)
        error("parameter-problem-pointer-%d" % pointer, rule + " Figure 6", 4, 0, u32(pointer), None if new is None else (12, 0, bytes([new, 0, 0, 0])))
    error("parameter-problem-1", rule + ": protocol unreachable", 4, 1, u32(6), (3, 2, zero))
    error("parameter-problem-2", rule, 4, 2, u32(40))
    error("parameter-problem-3", rule, 4, 3, u32(40))
    for mtu, link4, link6, new in ((1400, 1480, 1500, 1380), (1500, 1480, 1500, 1480), (9000, 1480, 1500, 1480), (1500, 1400, 1500, 1400),
                                   (1500, 1480, 1400, 1380), (1280, 1480, 1500, 1260), (1000, 1480, 1500, 1260), (0, 1480, 1500, 1260),
                                   (0xFFFFFFFF, 100000, 100000, 65535)):
        error("too-big-%d-%d-%d" % (mtu, link4, link6), rule + ": minimum(MTU - 20, both links); below 1280 counts as 1280", 2, 0, u32(mtu),
              (3, 4, u32(new)), mtu="%d %d" % (link4, link6))
    first4 = ip4(17, cut(udp(OUT4, pattern(40)), 16), mf=True, ident=0x77)
    first6 = ip6(44, frag6(17, cut(udp(OUT6, pattern(40)), 16), more=True, ident=0x77))
    error("too-big-fragment", rule + ": the Fragment header counts", 2, 0, u32(1400), (3, 4, u32(1372)), first6, first4)

    rule = "RFC 7915 §5.3"
    for name, p4, p6, l4, l6 in (
        ("udp", 17, 17, udp(OUT4, pattern(40)), udp(OUT6, pattern(40))),
        ("tcp", 6, 6, tcp(OUT4, pattern(40)), tcp(OUT6, pattern(40))),
        ("echo", 1, 58, icmp4(8, 0, ECHO, raw(pattern(40))), icmp6(128, 0, ECHO, raw(pattern(40)), OUT6)),
        ("echo-reply", 1, 58, icmp4(0, 0, ECHO, raw(pattern(40))), icmp6(129, 0, ECHO, raw(pattern(40)), OUT6)),
        ("sctp", 132, 132, raw(pattern(40)), raw(pattern(40))),
    ):
        for length in (len(data(l4)), 8, 4, 0):
            error("quoted-%s-%d" % (name, length), rule + ": %d bytes of transport are quoted" % length, 1, 4, zero, (3, 3, zero),
                  cut(ip6(p6, l6), 40 + length), cut(ip4(p4, l4, ident=0), 20 + length))
    error("quoted-later-fragment", rule, 3, 1, zero, (11, 1, zero), ip6(44, frag6(17, raw(pattern(16)), offset=5, ident=0xABCD0077)),
          ip4(17, raw(pattern(16)), offset=5, ident=0x77))
    error("quoted-extension-header", rule, 1, 4, zero, (3, 3, zero), ip6(60, ext6(17, udp(OUT6))), ip4(17, udp(OUT4), ident=0))
    error("quoted-large", rule + ": a packet of 1261 bytes had DF", 2, 0, u32(1280), (3, 4, u32(1260)), cut(ip6(132, raw(pattern(1241))), 48),
          cut(ip4(132, raw(pattern(1241)), ident=0, df=True), 28))
    error("quoted-long", "RFC 1812 §4.3.2.3: at most 576 bytes", 1, 4, zero, (3, 3, zero), cut(ip6(17, udp(OUT6, pattern(1400))), 1232),
          cut(ip4(17, udp(OUT4, pattern(1400)), ident=0, df=True), 576 - 28))
    error("quoted-error", rule + ": no more embedded headers", 1, 4, zero, None, ip6(58, icmp6(1, 4, zero, quote6, OUT6)), reason="nested-icmp-error")
    for name, bad in (
        ("nothing", []),
        ("half-a-header", cut(quote6, 39)),
        ("other-source", ip6(17, udp(("2001:db8::9", SERVER6)), "2001:db8::9", SERVER6)),
        ("other-destination", ip6(17, udp((CLAT6, "2001:db8::9")), CLAT6, "2001:db8::9")),
        ("refused-destination", ip6(17, udp((CLAT6, "2001:db8:64::7f00:1")), CLAT6, "2001:db8:64::7f00:1")),
        ("half-an-extension-header", cut(ip6(60, ext6(17, udp(OUT6))), 42)),
        ("neighbour-solicitation", ip6(58, icmp6(135, 0, zero, raw(pattern(16)), OUT6))),
        ("ipv4", cut(quote4, 28) + raw(pattern(20))),
    ):
        error("quoted-" + name, "cannot have come through here", 1, 4, zero, None, bad, reason="bad-embedded-packet")
    drop6("error-bad-checksum", "a damaged error must not leave with a valid checksum",
          ip6(58, icmp6(1, 4, zero, quote6, (ROUTER6, CLAT6), check=0x1111), ROUTER6, CLAT6), "bad-icmp-checksum")
    error("error-from-server", rule, 1, 4, zero, (3, 3, zero), source=SERVER6, source4=SERVER4)
    error("error-from-private-router", "RFC 6052 §5.1: not as itself; traceroute and path MTU still work", 3, 0, zero, (11, 0, zero),
          source="2001:db8:64::a00:1")
    error("error-from-loopback", "RFC 6052 §5.1", 3, 0, zero, source="2001:db8:64::7f00:1", reason="refused-embedded-source")
    error("error-from-unspecified", "RFC 7915 §5.1", 3, 0, zero, source="::", reason="source-outside-pref64")
    error("error-from-self", "RFC 7915 §5.1", 3, 0, zero, source=CLAT6, reason="source-outside-pref64")

    rule = "RFC 4884"

    def both(name, text, kind, code, new, inner6, words6, inner4, words4, ext, out_ext=None):
        out_ext = ext if out_ext is None else out_ext
        error(name, text, kind, code, bytes([words6, 0, 0, 0]), (*new, bytes([0, words4, 0, 0])), inner6 + ext, inner4 + out_ext)

    p4, p6 = ip4(17, udp(OUT4, pattern(400)), ident=0), ip6(17, udp(OUT6, pattern(400)))
    both("extension-152", rule + ": 19 words of 8 bytes become 33 of 4", 3, 0, (11, 0), cut(p6, 152), 19, cut(p4, 132), 33, extension(16))
    both("extension-128", rule + " §4: 108 bytes are padded to 128", 1, 4, (3, 3), cut(p6, 128), 16, cut(p4, 108) + padding(20), 32, extension(16))
    frag_4 = ip4(17, cut(udp(OUT4, pattern(400)), 200), mf=True, ident=0x77)
    frag_6 = ip6(44, frag6(17, cut(udp(OUT6, pattern(400)), 200), more=True, ident=0x77))
    both("extension-quoted-fragment", rule, 1, 4, (3, 3), cut(frag_6, 168), 21, cut(frag_4, 140), 35, extension(16))
    both("extension-length-too-small", rule + " §4", 1, 4, (3, 3), cut(p6, 64), 8, cut(p4, 44), 0, extension(16), [])
    both("extension-length-beyond", rule, 1, 4, (3, 3), cut(p6, 120), 100, cut(p4, 100), 0, [])
    big4, big6 = ip4(17, udp(OUT4, pattern(1400)), ident=0, df=True), ip6(17, udp(OUT6, pattern(1400)))
    both("extension-long", "the quoted packet gives way to the extension: 548 - 16 bytes", 1, 4, (3, 3), cut(big6, 1000), 125, cut(big4, 532), 133,
         extension(16))
    both("extension-too-long", "less than 128 bytes would be left of the quoted packet", 1, 4, (3, 3), cut(p6, 128), 16, cut(p4, 108), 0, extension(424), [])
    error("extension-in-packet-too-big", "RFC 4884 §4.6: there is none, all is quoted packet", 2, 0, u32(1400), (3, 4, u32(1380)), cut(p6, 152), cut(p4, 132))


# --- output -----------------------------------------------------------------------------------------------------

HEADER = """\
# Test vectors for the translator; written by generate.py, which explains itself.
#
# Each vector: its name, the rule it shows, the settings that differ from the defaults, the packet that comes in, the
# verdict, and the packets that must come out (a reply is the complete ICMP error; fragments are in order).
# A line of bytes is one field, its meaning behind the bar. "03 +7 *100" is 100 bytes: 03, 0a, 11, and so on modulo 256.
#
# Defaults: pref64={pref64} clat_ipv4={clat4} clat_ipv6={clat6} mtu={mtu}
# (of the IPv4 and the IPv6 link), lowest_ipv6_mtu=1280, copy_traffic_class=true, compute_udp_checksum=true, private_ipv4=false, partial=false, gso=0. The first
# identification that a new translator gives to an IPv4 packet is 1.
"""


def spell(octets):
    """In hexadecimal; a long arithmetic progression as its first byte, step and length."""
    if len(octets) >= 16:
        step = (octets[1] - octets[0]) & 0xFF
        if all((b - a) & 0xFF == step for a, b in zip(octets, octets[1:])):
            return "%02x +%d *%d" % (octets[0], step, len(octets))
    return octets.hex(" ")


def render(vectors):
    lines = [HEADER.format(pref64="2001:db8:64::/96", clat4=CLAT4, clat6=CLAT6, mtu="1480 1500")]
    names = set()

    def packet(title, fields):
        lines.append(title)
        for comment, value in fields:
            lines.append("  %-11s | %s" % (spell(value), comment))

    for name, rule, settings, fields, verdict, outs in vectors:
        assert name not in names, name
        names.add(name)
        lines.append("== " + name)
        lines.append("rule: " + rule)
        for key, value in settings.items():
            lines.append("%s: %s" % (key, value))
        packet("in:", fields)
        lines.append("verdict: " + verdict)
        for out in outs:
            packet("out:", out)
        lines.append("")
    return "\n".join(lines)


def main():
    for group in (headers_4to6, refusals_4to6, checksums_4to6, fragments_4to6, icmp_4to6, headers_6to4, refusals_6to4, checksums_6to4,
                  fragments_6to4, icmp_6to4):
        group()
    here = pathlib.Path(__file__).parent
    stale = []
    for direction, vectors in VECTORS.items():
        path = here / (direction + ".txt")
        text = render(vectors)
        if sys.argv[1:] == ["--check"]:
            if not path.exists() or path.read_text() != text:
                stale.append(path.name)
        else:
            path.write_text(text)
            print("%s: %d vectors" % (path.name, len(vectors)))
    if stale:
        sys.exit("stale: %s; run generate.py" % ", ".join(stale))


if __name__ == "__main__":
    main()

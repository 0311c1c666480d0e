"""Watches neighbour discovery on a device and, if told so, gets in the way of duplicate address detection.

usage: rival.py DEVICE MAC {watch|claim|probe}

Prints `ready`, then a JSON object for each solicitation and advertisement that comes in (`at` is CLOCK_MONOTONIC).
The first address that somebody checks is the rival's, too, some time later: it says so (claim), or checks it itself
(probe); either is printed as `got in the way`. Then it asks for the address, again and again.
"""
import ipaddress
import json
import socket
import sys
import time

from labnet import packets

DELAY, AGAIN = 0.3, 0.2
ALL_NODES, ANY, SELF = "ff02::1", "::", "fe80::bad"
SOLICITATION, ADVERTISEMENT = 135, 136
OVERRIDE = 0x20000000


def say(kind, **more):
    """One event."""
    print(json.dumps({"kind": kind, "at": time.monotonic(), **more}), flush=True)


def read(frame):
    """(type, source, target, flags) of a message of neighbour discovery, or None."""
    if len(frame) < 78 or frame[20] != 58 or frame[21] != 255 or frame[54] not in (SOLICITATION, ADVERTISEMENT):
        return None
    return frame[54], str(ipaddress.IPv6Address(frame[22:38])), str(ipaddress.IPv6Address(frame[62:78])), frame[58]


def message(source, destination, kind, flags, target, mac):
    """A frame; with the link-layer address of `mac` as option, but for a probe."""
    option = b"" if source == ANY else bytes([2 if kind == ADVERTISEMENT else 1, 1]) + bytes.fromhex(mac.replace(":", ""))
    group = ipaddress.IPv6Address(destination).packed[-4:]
    to = "33:33:" + group.hex(":")
    body = ipaddress.IPv6Address(target).packed + option
    packet = packets.icmp6(source, destination, kind, 0, flags, body)
    return packets.ethernet(to, mac, packet[:7] + b"\xff" + packet[8:])


def main():
    """Until it is killed."""
    device, mac, mode = sys.argv[1:]
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
    sock.bind((device, 0x86DD))
    sock.settimeout(0.02)
    target, act_at, ask_at = None, None, None
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        if target and mode != "watch":
            bits = ipaddress.IPv6Address(target).packed[-3:].hex()
            group = f"ff02::1:ff{bits[:2]}:{bits[2:]}"
            if act_at and now >= act_at:
                act_at, ask_at = None, now + AGAIN
                if mode == "claim":
                    sock.send(message(SELF, ALL_NODES, ADVERTISEMENT, OVERRIDE, target, mac))
                else:
                    sock.send(message(ANY, group, SOLICITATION, 0, target, mac))
                say("got in the way", target=target)
            elif ask_at and now >= ask_at:
                ask_at = now + AGAIN
                sock.send(message(SELF, group, SOLICITATION, 0, target, mac))
                say("asked", target=target)
        try:
            found = read(sock.recv(2000))
        except TimeoutError:
            continue
        if found:
            kind, source, about, flags = found
            say("solicitation" if kind == SOLICITATION else "advertisement", source=source, target=about, flags=flags)
            if kind == SOLICITATION and source == ANY and not target:
                target, act_at = about, time.monotonic() + DELAY


if __name__ == "__main__":
    main()

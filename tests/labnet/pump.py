#!/usr/bin/env python3
"""A wire without link-layer headers: two TUN devices in two network namespaces, and whoever carries packets between them.

usage: pump.py DEVICE OTHER-NAMESPACE OTHER-DEVICE

DEVICE is made where this runs. What PPP, WireGuard or a mobile modem hand to the kernel looks the same: bare IP packets.
"""
import ctypes
import fcntl
import os
import select
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000


def tun(name):
    """A TUN device in the namespace where we are."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def enter(namespace):
    """Go to a named network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def carry(source, target):
    """All that waits, one packet at a time."""
    while True:
        try:
            packet = os.read(source, 65536)
        except BlockingIOError:
            return
        try:
            os.write(target, packet)
        except OSError:                                   # the other end is down: a wire loses packets, too
            pass


def main(device, namespace, other):
    """Until killed."""
    here = tun(device)
    enter(namespace)
    there = tun(other)
    print("ready", flush=True)
    while True:
        for fd in select.select([here, there], [], [])[0]:
            carry(fd, there if fd == here else here)


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Packets that no ordinary tool sends. Runs inside a node; prints one JSON object.

  probes.py udp DST PORT SIZE [--no-check] [--df] [--source A]   one datagram, and the reply
  probes.py pmtu DST PORT SIZE                              DF datagrams until the kernel knows the path MTU
  probes.py flood DST PORT CONNECTIONS BYTES                parallel TCP connections through the echo server
  probes.py hold DST PORT SECONDS                           one TCP connection that echoes all the time
  probes.py inject DEVICE HEX...                            Ethernet frames as they are
  probes.py listen PORT SECONDS                             IPv4 TCP and UDP listeners: who got through?
"""
import hashlib
import json
import os
import select
import socket
import sys
import time

SO_NO_CHECK, IP_MTU_DISCOVER, IP_MTU = 11, 10, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24


def family_of(address):
    """AF_INET6 for addresses with a colon."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def sha(data):
    """Short name of a payload."""
    return hashlib.sha256(data).hexdigest()


def udp(dst, port, size, *options):
    """Send one datagram of `size` bytes (or the text after = to port 19) and report the reply."""
    sock = socket.socket(family_of(dst), socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    if "--no-check" in options:
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    discover = 2 if "--df" in options else 0
    if family_of(dst) == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, discover)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
    if "--source" in options:
        sock.bind((options[options.index("--source") + 1], 0))
    data = size[1:].encode() if size.startswith("=") else os.urandom(int(size))
    reply, peer, tries = None, None, 0
    sock.connect((dst, int(port)))
    while reply is None and tries < 4:              # a datagram may be lost; a machine may be busy
        tries += 1
        try:
            sock.send(data)
            if select.select([sock], [], [], 3)[0]:
                reply, peer = sock.recvfrom(65535)
        except OSError as error:
            if tries == 4:
                return {"error": error.strerror, "errno": error.errno, "tries": tries}
    if reply is None:
        return {"error": "no reply", "tries": tries}
    text = reply.decode() if len(reply) < 100 and reply.isascii() else None
    return {"sent": len(data), "sent_sha": sha(data), "got": len(reply), "got_sha": sha(reply), "text": text,
            "from": peer[0], "equal": reply == data, "tries": tries}


def pmtu(dst, port, size):
    """Which MTU does the kernel learn for dst from the errors that DF datagrams cause?"""
    six = family_of(dst) == socket.AF_INET6
    sock = socket.socket(family_of(dst), socket.SOCK_DGRAM)
    level, discover, mtu = (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_MTU) if six \
        else (socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_MTU)
    sock.setsockopt(level, discover, 2)             # DO: set DF, never fragment
    sock.connect((dst, int(port)))
    seen, end = [sock.getsockopt(level, mtu)], time.monotonic() + 15
    size, echoed = int(size), 0
    while time.monotonic() < end:
        try:
            sock.send(bytes(size))
            if select.select([sock], [], [], 0.5)[0]:
                echoed = len(sock.recv(65535))
                break
        except OSError as error:
            if error.errno == 90:                   # EMSGSIZE: the kernel knows now
                size = sock.getsockopt(level, mtu) - (48 if six else 28)
        if seen[-1] != sock.getsockopt(level, mtu):
            seen.append(sock.getsockopt(level, mtu))
    return {"mtus": seen, "mtu": seen[-1], "echoed": echoed}


def flood(dst, port, number, size):
    """Open `number` connections at once, echo `size` bytes through each, and check them."""
    number, size = int(number), int(size)
    began, live = time.monotonic(), {}
    poll = select.epoll()
    for index in range(number):
        sock = socket.socket(family_of(dst), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.connect_ex((dst, int(port)))
        data = hashlib.shake_128(str(index).encode()).digest(size)
        live[sock.fileno()] = [sock, data, 0, bytearray()]
        poll.register(sock, select.EPOLLIN | select.EPOLLOUT)
    good, errors, peak = 0, {}, len(live)
    while live and time.monotonic() < began + 90:
        for fd, events in poll.poll(1):
            sock, data, sent, got = live[fd]
            try:
                if events & select.EPOLLOUT and sent < size:
                    live[fd][2] = sent = sent + sock.send(data[sent:sent + 16384])
                    if sent == size:
                        poll.modify(sock, select.EPOLLIN)
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    piece = sock.recv(65536)
                    got += piece
                    if not piece:
                        raise OSError(0, "closed early")
                if len(got) < size:
                    continue
                good += bytes(got) == data
            except OSError as error:
                errors[str(error)] = errors.get(str(error), 0) + 1
            poll.unregister(sock)
            sock.close()
            del live[fd]
    return {"good": good, "errors": errors, "unfinished": len(live), "at_once": peak,
            "seconds": round(time.monotonic() - began, 2)}


def hold(dst, port, seconds):
    """A connection that must survive: echo a line every 50 ms, report the longest gap."""
    sock = socket.create_connection((dst, int(port)), 10)
    sock.settimeout(30)
    end, longest, rounds = time.monotonic() + float(seconds), 0.0, 0
    print("connected", flush=True)
    while time.monotonic() < end:
        line, began, got = f"{rounds}\n".encode(), time.monotonic(), b""
        sock.sendall(line)
        while not got.endswith(b"\n"):
            piece = sock.recv(1000)
            if not piece:
                return {"error": "closed", "rounds": rounds}
            got += piece
        if got != line:
            return {"error": f"got {got!r} for {line!r}", "rounds": rounds}
        longest, rounds = max(longest, time.monotonic() - began), rounds + 1
        time.sleep(0.05)
    return {"rounds": rounds, "longest_gap": round(longest, 2)}


def inject(device, *frames):
    """Put frames on the wire."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((device, 0))
    return {"sent": sum(sock.send(bytes.fromhex(frame)) for frame in frames)}


def listen(port, seconds):
    """IPv4-only listeners, who echo datagrams; what arrived?"""
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind(("0.0.0.0", int(port)))
    tcp.listen(10)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", int(port)))
    print("ready", flush=True)
    got, end = {"tcp": [], "udp": []}, time.monotonic() + float(seconds)
    while (left := end - time.monotonic()) > 0:
        for sock in select.select([tcp, datagrams], [], [], left)[0]:
            if sock is tcp:
                got["tcp"].append(tcp.accept()[1][0])
            else:
                data, peer = sock.recvfrom(2000)
                got["udp"].append(peer[0])
                sock.sendto(data, peer)
    return got


if __name__ == "__main__":
    commands = {f.__name__: f for f in (udp, pmtu, flood, hold, inject, listen)}
    print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])), flush=True)

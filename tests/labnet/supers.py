#!/usr/bin/env python3
"""Datagrams in super-packets: UDP_SEGMENT on the way out, UDP_GRO on the way in. The client prints one JSON object.

  supers.py serve ADDRESS PORT              UDP echo, segmented as it came; TCP echo
  supers.py udp DST PORT SEGMENT SIZE       SIZE bytes in segments of SEGMENT, five times, each time with the echo compared
"""
import json
import os
import select
import socket
import struct
import sys
import threading

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
ROUNDS, TRIES, PATIENCE = 5, 3, 3.0


def datagram_socket(family):
    """A UDP socket that takes super-packets as they are."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    return sock


def receive(sock):
    """One read: its bytes, the segment size or 0 if it was an ordinary datagram, and who sent it."""
    data, control, _, peer = sock.recvmsg(65535, 64)
    sizes = [struct.unpack("=i", value[:4])[0] for level, kind, value in control if (level, kind) == (SOL_UDP, UDP_GRO)]
    return data, sizes[0] if sizes else 0, peer


def serve(address, port):
    """Until killed. The datagram `?` is answered with the size of the largest read."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, int(port)), family=family)
    datagrams, largest = datagram_socket(family), 0
    datagrams.bind((address, int(port)))
    threading.Thread(target=_serve_tcp, args=(listener,), daemon=True).start()
    print("ready", flush=True)
    while True:
        data, segment, peer = receive(datagrams)
        if data == b"?":
            datagrams.sendto(str(largest).encode(), peer)
            largest = 0
            continue
        largest = max(largest, len(data))
        control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", segment))] if segment else []
        datagrams.sendmsg([data], control, 0, peer)


def _serve_tcp(listener):
    while True:
        threading.Thread(target=_echo, args=(listener.accept()[0],), daemon=True).start()


def _echo(sock):
    with sock:
        while data := sock.recv(1 << 18):
            sock.sendall(data)


def largest_read(sock):
    """What the server read at once since somebody asked last."""
    sock.send(b"?")
    return int(receive(sock)[0]) if select.select([sock], [], [], PATIENCE)[0] else None


def udp(dst, port, segment, size):
    """Each round is one send; what comes back may come in any number of reads."""
    sock = datagram_socket(socket.AF_INET)
    # As QUIC does. Without it the kernel sends super-packets without DF, and larger segments must be fragmented to 1280
    # bytes then (RFC 7915 section 4).
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    sock.connect((dst, int(port)))
    largest_read(sock)                                    # of those before us
    sock.setsockopt(SOL_UDP, UDP_SEGMENT, int(segment))
    good, again, largest = 0, 0, 0
    for _ in range(ROUNDS):
        data = os.urandom(int(size))
        for attempt in range(TRIES):
            again += attempt > 0
            sock.send(data)
            got = b""
            while len(got) < len(data) and select.select([sock], [], [], PATIENCE)[0]:
                piece = receive(sock)[0]
                largest = max(largest, len(piece))
                got += piece
            if got == data:
                good += 1
                break
            while select.select([sock], [], [], 0.2)[0]:     # late ones must not count for the next round
                receive(sock)
    sock.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    return {"rounds": ROUNDS, "good": good, "again": again, "sent_whole": largest_read(sock), "received_whole": largest}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    print(json.dumps(udp(*sys.argv[2:])), flush=True)

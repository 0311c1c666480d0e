#!/usr/bin/env python3
"""Thousands of flows at once to one server and port, half of them native IPv6, half IPv4. Prints one JSON object.

  crowd.py udp FOUR SIX PORT NUMBER     each flow sends a datagram with its own name, and must get that back
  crowd.py tcp FOUR SIX PORT NUMBER     connections; all stay open until all have been answered
  crowd.py ping FOUR SIX - NUMBER       ping sockets, an identifier each
  crowd.py same FOUR SIX PORT -         both kinds from one local port, in either order, over UDP and TCP
  crowd.py serve PORT ADDRESS           the server: TCP and UDP echo without a thread per connection

FOUR and SIX name the same server. Flows are answered in batches, so that no queue overflows; nothing is closed
before the last one has been served, and every flow is used a second time then.
"""
import contextlib
import json
import multiprocessing
import os
import resource
import select
import socket
import struct
import sys
import time

BATCH = 100
PATIENCE = (2.0, 6.0, 6.0)   # seconds for each try; then another datagram is sent
PART = 4000              # flows of each kind in one process: files are limited
SERVERS = 4              # processes, for the same reason


class Flow:
    """One socket, connected to the server."""

    def __init__(self, kind, family, dst, port, local_port=0):
        self.family, self.kind = family, kind
        if kind == "ping":
            protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
            self.sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
        else:
            self.sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            # Reset when closed: thousands of ports that wait after an orderly end would be missing in the next test.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if local_port:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", local_port))
        self.sock.setblocking(False)
        self.error = self.sock.connect_ex((dst, port))
        if self.error == 115:                             # EINPROGRESS
            self.error = 0
        self.names, self.earlier = [], set()

    def ask(self, name):
        """Send a name."""
        self.names.append(name)
        if self.kind == "ping":
            kind = 128 if self.family == socket.AF_INET6 else 8
            name = struct.pack("!BBHHH", kind, 0, 0, 0, 1) + name
        self.sock.send(name)

    def answer(self):
        """What came back, or None."""
        got = self.sock.recv(2000)
        return got[8:] if self.kind == "ping" else got


def serve(flows, turn, counts):
    """Ask on each flow of a batch and wait until all have been answered."""
    waiting, poll, names = {}, select.epoll(), {}
    for index, flow in flows:
        waiting[flow.sock.fileno()] = flow
        names[flow.sock.fileno()] = f"{flow.family} {index} {turn}"
        flow.earlier.update(flow.names)
        flow.names = []
        poll.register(flow.sock, select.EPOLLIN | select.EPOLLOUT)
    for attempt, patience in enumerate(PATIENCE):
        end = time.monotonic() + patience
        while waiting and (left := end - time.monotonic()) > 0:
            for fd, events in poll.poll(left):
                flow = waiting.get(fd)
                if flow is None:
                    continue
                try:
                    if events & select.EPOLLIN:
                        got = flow.answer()
                        if got in flow.earlier:           # it came late, and another one had been asked for
                            continue
                        counts["good" if got in flow.names else "mixed"] += 1
                    elif events & (select.EPOLLERR | select.EPOLLHUP):
                        raise OSError(flow.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "error")
                    else:
                        poll.modify(fd, select.EPOLLIN)
                        if not flow.names:
                            flow.ask(names[fd].encode())
                        continue
                except PermissionError:
                    # Of two that begin at the same moment conntrack may refuse one (portable datapath).
                    continue
                except OSError as error:
                    text = f"{'native' if flow.family == socket.AF_INET6 else 'clat'}: errno {error.errno}"
                    counts["errors"][text] = counts["errors"].get(text, 0) + 1
                poll.unregister(fd)
                del waiting[fd]
        if flows and flows[0][1].kind != "tcp" and attempt < len(PATIENCE) - 1:
            for fd, flow in waiting.items():
                counts["again"] += 1
                # With other bytes: TAYGA gives a datagram whose UDP checksum should be 0xffff one of 0, which is invalid.
                with contextlib.suppress(PermissionError):
                    flow.ask(f"{names[fd]} {attempt}".encode())
    counts["lost"] += len(waiting)


def files():
    """As many open files as we are let have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def part(kind, four, six, port, numbers, all_here):
    """Some of the flows, each served once; once more when all processes have theirs. Returns counts and local ports."""
    files()
    counts = {"good": 0, "mixed": 0, "lost": 0, "again": 0, "refused": {}, "errors": {}}
    flows = []
    for first in range(0, len(numbers), BATCH // 2):
        batch = []
        for index in numbers[first:first + BATCH // 2]:
            for family, dst in ((socket.AF_INET, four), (socket.AF_INET6, six)):
                flow = Flow(kind, family, dst, port)
                if flow.error:
                    key = str(flow.error)
                    counts["refused"][key] = counts["refused"].get(key, 0) + 1
                else:
                    batch.append((index, flow))
        serve(batch, 1, counts)
        flows += batch
    all_here.wait()
    for first in range(0, len(flows), BATCH):
        serve(flows[first:first + BATCH], 2, counts)
    all_here.wait()
    ports = [{flow.sock.getsockname()[1] for _, flow in flows if flow.family == family}
             for family in (socket.AF_INET, socket.AF_INET6)]
    return counts, len(flows), ports


def crowd(kind, four, six, port, number):
    """All flows, then each of them once more."""
    number, port = int(number), 0 if kind == "ping" else int(port)
    began, shares = time.monotonic(), [range(first, min(first + PART, number)) for first in range(0, number, PART)]
    all_here, answers = multiprocessing.Barrier(len(shares)), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=lambda s=share: answers.put(part(kind, four, six, port, s, all_here)))
               for share in shares]
    for worker in workers:
        worker.start()
    total = {"good": 0, "mixed": 0, "lost": 0, "again": 0, "refused": {}, "errors": {}, "flows": 0}
    ports = [set(), set()]
    for _ in workers:
        counts, flows, own = answers.get(timeout=300)
        total["flows"] += flows
        for key, value in counts.items():
            if isinstance(value, dict):
                for what, n in value.items():
                    total[key][what] = total[key].get(what, 0) + n
            else:
                total[key] += value
        ports = [a | b for a, b in zip(ports, own)]
    for worker in workers:
        worker.join()
    return {**total, "same_ports": len(ports[0] & ports[1]), "seconds": round(time.monotonic() - began, 1)}


def same(_kind, four, six, port, _number):
    """One local port, both kinds, in either order: each must get its own answers or fail at once."""
    result = {}
    for kind in ("udp", "tcp"):
        for order in ("clat first", "native first"):
            ends = [(socket.AF_INET, four), (socket.AF_INET6, six)]
            if order == "native first":
                ends.reverse()
            counts = {"good": 0, "mixed": 0, "lost": 0, "again": 0, "errors": {}}
            local, began, flows = 20000 + 2 * len(result), time.monotonic(), []
            for index, (family, dst) in enumerate(ends):
                flows.append((index, Flow(kind, family, dst, int(port), local)))
                serve(flows[-1:], 1, counts)
            for turn in range(2, 5):
                serve(flows, turn, counts)
            for _, flow in flows:
                flow.sock.close()
            result[f"{kind}, {order}"] = {**counts, "seconds": round(time.monotonic() - began, 1)}
    return result


def echo(port, address):
    """Serve until killed."""
    files()
    listener = socket.create_server((address, int(port)), backlog=4096, reuse_port=True)
    listener.setblocking(False)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    datagrams.bind((address, int(port)))
    poll, open_ones = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    poll.register(datagrams, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                try:
                    sock = listener.accept()[0]
                except OSError:                           # gone before it was taken
                    continue
                open_ones[sock.fileno()] = sock
                poll.register(sock, select.EPOLLIN)
            elif fd == datagrams.fileno():
                data, peer = datagrams.recvfrom(2000)
                datagrams.sendto(data, peer)
            else:
                try:
                    data = open_ones[fd].recv(2000)
                    open_ones[fd].send(data)
                except OSError:
                    data = b""
                if not data:
                    poll.unregister(fd)
                    open_ones.pop(fd).close()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        while os.fork() if SERVERS > 1 else 0:
            SERVERS -= 1
        echo(*sys.argv[2:])
    print(json.dumps((same if sys.argv[1] == "same" else crowd)(*sys.argv[1:])), flush=True)

#!/usr/bin/env python3
"""The far side: web server with upload sink, TCP and UDP echo.

usage: servers.py DIRECTORY [--small]

  GET  /            a greeting that names the client's address
  GET  /100M        100 MB (10^8 bytes); its SHA-256 is at /100M.sha256
  GET  /close       a response that ends with the connection
  PUT  /sink        answers with the SHA-256 and length of what it received
  TCP  7, UDP 7     echo
  UDP  9            answers with "LENGTH SHA-256" of the datagram
  UDP  19           the datagram is a decimal number: answers with that many bytes
"""
import hashlib
import http.server
import os
import socket
import socketserver
import sys
import threading
from pathlib import Path

BIG = 100_000_000


def make_big(path, size):
    """A file whose every 64 KiB differ, so that lost, doubled or swapped segments change the digest."""
    block = bytearray(hashlib.shake_128(b"v4shim").digest(65536))
    digest = hashlib.sha256()
    with open(path, "wb") as out:
        left, number = size, 0
        while left:
            block[0:8] = number.to_bytes(8, "big")
            piece = bytes(block[:min(left, len(block))])
            out.write(piece)
            digest.update(piece)
            left -= len(piece)
            number += 1
    return digest.hexdigest()


class Web(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive."""
    protocol_version = "HTTP/1.1"
    big = None
    big_digest = ""

    def _text(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        """Greeting or the large file."""
        client = self.client_address[0].removeprefix("::ffff:")
        family = "IPv6" if ":" in client else "IPv4"
        if self.path == "/100M":
            with open(self.big, "rb") as file:
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                self.end_headers()
                self.wfile.flush()
                self.connection.sendfile(file)
        elif self.path == "/100M.sha256":
            self._text(self.big_digest + "\n")
        elif self.path == "/close":
            self.close_connection = True
            self._text("bye\n")
        elif self.path == "/":
            self._text(f"hello over {family}, you are {client}\n")
        else:
            self._text("no such page\n", 404)

    def do_PUT(self):
        """Digest of the upload."""
        left = int(self.headers["Content-Length"])
        length, digest = left, hashlib.sha256()
        while left:
            piece = self.rfile.read(min(left, 1 << 18))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        self._text(f"{digest.hexdigest()} {length}\n")

    do_POST = do_PUT

    def log_message(self, *args):
        pass


class WebServer(http.server.ThreadingHTTPServer):
    """Dual stack, with room for hundreds of connections at once."""
    address_family = socket.AF_INET6
    request_queue_size = 512
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "lab", 80


class Echo(socketserver.BaseRequestHandler):
    """TCP echo."""

    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    """Dual stack TCP echo."""
    address_family = socket.AF_INET6
    allow_reuse_address = True
    request_queue_size = 512
    daemon_threads = True


def udp(port, answer):
    """A UDP server that replies from the address it was asked at (IPv4 in IPv6 sockets would not)."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)    # IPV6_RECVPKTINFO
        else:
            sock.setsockopt(socket.IPPROTO_IP, 8, 1)       # IP_PKTINFO
            sock.setsockopt(socket.IPPROTO_IP, 10, 0)      # IP_MTU_DISCOVER: fragment rather than fail
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((address, port))
        threading.Thread(target=_serve_udp, args=(sock, family, answer), daemon=True).start()


def _serve_udp(sock, family, answer):
    while True:
        data, control, _, peer = sock.recvmsg(65535, 256)
        info = control[0][2]
        if family == socket.AF_INET:                       # in_pktinfo: ifindex, spec_dst, addr
            source = [(socket.IPPROTO_IP, 8, b"\0\0\0\0" + info[4:8] + b"\0\0\0\0")]
        else:                                              # in6_pktinfo: addr, ifindex
            source = [(socket.IPPROTO_IPV6, 50, info[:16] + b"\0\0\0\0")]
        try:
            sock.sendmsg([answer(data)], source, 0, peer)
        except OSError as error:
            print(f"udp reply to {peer}: {error}", file=sys.stderr, flush=True)


def _generate(data):
    try:
        return (b"v4shim" * 11000)[:int(data)]
    except ValueError:
        return b"?"


def main():
    """Serve until killed."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    Web.big = directory / "100M"
    Web.big_digest = make_big(Web.big, 100_000 if "--small" in sys.argv else BIG)
    udp(7, lambda data: data)
    udp(9, lambda data: f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode())
    udp(19, _generate)
    echo = EchoServer(("::", 7), Echo)
    threading.Thread(target=echo.serve_forever, daemon=True).start()
    WebServer(("::", 80), Web).serve_forever()


if __name__ == "__main__":
    main()

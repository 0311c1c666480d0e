"""Servers that listen on IPv4 only, beside those of the lab, for the clients of tests/preload.

As a program (`servers.py DIRECTORY ADDRESS`, in the lab's server namespace): an npm registry and a git
repository over HTTP (4873), HTTPS (443), FTP (2121, passive only) and NTP (123, UDP).
`start()` builds what they serve and runs them, sshd (2222) and redis (6379) there.
"""
import base64
import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

REGISTRY, HTTPS, FTP, NTP, SSH, REDIS = 4873, 443, 2121, 123, 2222, 6379
PACKAGE = "lab-greeting"


class Files(http.server.SimpleHTTPRequestHandler):
    """Files below the working directory: the registry's documents and tarballs, and git's dumb protocol."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class Ftp(socketserver.StreamRequestHandler):
    """As much of RFC 959 and RFC 2428 as anonymous passive downloads and uploads need."""

    def handle(self):
        data, self.user = None, None
        self.say("220 lab")
        for line in self.rfile:
            verb, _, arg = line.decode(errors="replace").strip().partition(" ")
            verb = verb.upper()
            if verb in ("PASV", "EPSV"):
                data = socket.create_server((self.server.server_address[0], 0))
                data.settimeout(20)
                port = data.getsockname()[1]
                address = self.server.server_address[0].replace(".", ",")
                self.say(f"227 Entering Passive Mode ({address},{port >> 8},{port & 255})" if verb == "PASV"
                         else f"229 Entering Extended Passive Mode (|||{port}|)")
            elif verb in ("RETR", "LIST", "NLST") and data:
                self.say("150 here it comes")
                with data.accept()[0] as conn:
                    conn.sendall(b"ftp-ok\n")
                data.close()
                self.say("226 done")
            elif verb == "QUIT":
                return self.say("221 bye")
            else:
                self.say({"USER": "331 password", "PASS": "230 in", "TYPE": "200 ok", "PWD": '257 "/"', "CWD": "250 ok",
                          "SIZE": "213 7", "SYST": "215 UNIX Type: L8"}.get(verb, "500 not here"))
        return None

    def say(self, line):
        """A reply."""
        self.wfile.write(line.encode() + b"\r\n")


class Ntp(socketserver.BaseRequestHandler):
    """A server of stratum 1 (RFC 5905 §7.3)."""

    def handle(self):
        query, sock = self.request
        now = struct.pack("!II", int(time.time()) + 2208988800, 0)
        sock.sendto(b"\x24\x01\x06\xec" + bytes(8) + b"LAB\0" + now + query[40:48] + now + now, self.client_address)


class Threads(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One thread per connection, IPv4."""
    allow_reuse_address = daemon_threads = True
    request_queue_size = 256


def registry(directory, address):
    """An npm registry with one package: its document and its tarball."""
    files = {"package.json": json.dumps({"name": PACKAGE, "version": "1.0.0", "main": "index.js"}),
             "index.js": "module.exports = 'npm-ok'\n"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo("package/" + name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    packed = packed.getvalue()
    (directory / f"{PACKAGE}-1.0.0.tgz").write_bytes(packed)
    dist = {"tarball": f"http://{address}:{REGISTRY}/{PACKAGE}-1.0.0.tgz", "shasum": hashlib.sha1(packed).hexdigest(),
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()}
    (directory / PACKAGE).write_text(json.dumps({
        "name": PACKAGE, "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {"name": PACKAGE, "version": "1.0.0", "main": "index.js", "dist": dist}}}))


def repository(directory):
    """A bare git repository with one commit, ready for cloning over HTTP."""
    env = {**os.environ, "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    for name in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{name}_NAME"], env[f"GIT_{name}_EMAIL"] = "lab", "lab@example.org"
    work = directory / "work"
    git = lambda *argv: subprocess.run(["git", "-C", str(work), *argv], env=env, check=True, capture_output=True)
    work.mkdir()
    git("init", "-q")
    (work / "file").write_text("git-ok\n")
    git("add", "file")
    git("commit", "-qm", "one")
    git("clone", "-q", "--bare", ".", str(directory / "repo.git"))
    subprocess.run(["git", "-C", str(directory / "repo.git"), "update-server-info"], env=env, check=True)


def start(lab, temp, address):
    """Everything, in the lab's server namespace; what cannot be started is what is not installed."""
    www = temp / "www"
    www.mkdir()
    registry(www, address)
    if shutil.which("git"):
        repository(www)
    if shutil.which("openssl"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab",
                        "-addext", f"subjectAltName=IP:{address}", "-keyout", str(temp / "tls.key"),
                        "-out", str(temp / "tls.crt")], check=True, capture_output=True)
    jobs = [([sys.executable, __file__, temp, address], "clients-servers.log", [REGISTRY, FTP])]
    if shutil.which("sshd") or Path("/usr/sbin/sshd").exists():
        jobs.append(sshd(temp, address))
    if shutil.which("redis-server"):
        jobs.append((["redis-server", "--bind", address, "--port", str(REDIS), "--save", "", "--protected-mode", "no",
                      "--dir", temp], "redis.log", [REDIS]))
    for argv, log, _ in jobs:
        lab.spawn(lab.srv.argv([str(a) for a in argv]), log)
    for _, log, ports in jobs:
        for port in ports:
            try:
                lab.srv.run("bash", "-c", f"for i in {{1..150}}; do : 2>/dev/null </dev/tcp/{address}/{port} && exit; "
                            "sleep 0.1; done; exit 1")
            except Exception as error:
                raise SystemExit(f"tests/preload: nothing answers on port {port}: {lab.log_tail(log)}") from error


def sshd(temp, address):
    """An sshd that knows one key, for root."""
    if not Path("/run/sshd").exists():
        Path("/run/sshd").mkdir(mode=0o755)
    for key in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(temp / f"{key}.key")], check=True)
    (temp / "sshd.conf").write_text(
        f"ListenAddress {address}:{SSH}\nHostKey {temp}/host.key\nAuthorizedKeysFile {temp}/client.key.pub\n"
        "StrictModes no\nUsePAM yes\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        f"PidFile {temp}/sshd.pid\nMaxStartups 100\nPrintMotd no\nUseDNS no\n")
    return (["/usr/sbin/sshd", "-D", "-e", "-f", temp / "sshd.conf"], "sshd.log", [SSH])


def main(temp, address):
    """Serve until killed."""
    temp = Path(temp)
    os.chdir(temp / "www")
    servers = [Threads((address, REGISTRY), Files), Threads((address, FTP), Ftp),
               socketserver.ThreadingUDPServer((address, NTP), Ntp)]
    if (temp / "tls.crt").exists():
        https = Threads((address, HTTPS), Files)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(temp / "tls.crt", temp / "tls.key")
        https.socket = context.wrap_socket(https.socket, server_side=True)
        servers.append(https)
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])

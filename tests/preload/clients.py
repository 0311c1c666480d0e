"""Real programs, each against servers that speak IPv4 only, alone, with Debian's tnat64, and with ours.

One row is one program; the table is docs/preload-clients.md.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import servers
from servers import FTP, NTP, PACKAGE, REDIS, REGISTRY, SSH

HERE = Path(__file__).resolve().parent
PY, S = "/usr/bin/python3", "203.0.113.80"
COLUMNS = {"none": "alone", "tnat64": "tnat64 0.06", "library": "preload.so", "supervisor": "supervisor", "run": "v4shim run"}

HTTP = ("const http=require('MODULE');http.get({MORE host:'203.0.113.80'},r=>{console.log(r.statusCode);r.resume()})"
        ".on('error',e=>{console.log(e.code);process.exit(1)})")
NODE, NODE_S = HTTP.replace("MODULE", "http"), HTTP.replace("MODULE", "https")
UDP_NODE = ("const d=require('dgram').createSocket('udp4');d.on('message',m=>{console.log(''+m);d.close()});"
            "d.send('udp-ok',7,'203.0.113.80');setTimeout(()=>process.exit(1),5000).unref()")
UDP_PY = ("import socket;s=socket.socket(2,2);s.settimeout(5);s.sendto(b'udp-ok',('203.0.113.80',7));"
          "print(s.recvfrom(99))")
ASYNC_PY = ("import asyncio\nasync def m():\n r,w=await asyncio.open_connection('203.0.113.80',80)\n"
            " w.write(b'GET / HTTP/1.0\\r\\n\\r\\n'); print(await r.read())\nasyncio.run(m())")
FTP_PY = (f"import ftplib;f=ftplib.FTP();f.connect('{S}',{FTP},9);f.login();f.retrbinary('RETR file',print)")
LOOP_PY = ("import socket as s;l=s.create_server(('127.0.0.1',0));c=s.create_connection(l.getsockname(),5);"
           "print(c.getpeername()==l.getsockname())")
LOOP_NODE = ("const n=require('net');const l=n.createServer(c=>c.end('loop-ok')).listen(0,'127.0.0.1',()=>"
             "n.connect(l.address().port,'127.0.0.1').on('data',d=>{console.log(''+d);l.close()}))")
NTP_PERL = (f"use IO::Socket::INET; $s=IO::Socket::INET->new(Proto=>'udp',PeerAddr=>'{S}:{NTP}')or die $@; $s->send(chr(0x23).\"\\0\"x47);"
            "alarm 5; $s->recv($b,99); print 'ntp-ok' if length $b==48 && abs(unpack('N',substr($b,40,4))-2208988800-time)<60")
CURL = ["curl", "-sS", "-m9", "-o/dev/null", "-w", "%{http_code}"]
# Its proxy listens on 127.0.0.1 and asks an IPv4 upstream; workers register with epoll before they connect.
NGINX = ("cd $(mktemp -d {temp}/nginx.XXXX) && echo \"daemon off; user root; pid $PWD/pid; error_log stderr; events {{}} "
         "http {{ access_log off; client_body_temp_path $PWD/b; proxy_temp_path $PWD/p; fastcgi_temp_path $PWD/f; uwsgi_temp_path $PWD/u; "
         "scgi_temp_path $PWD/s; server {{ listen 127.0.0.1:18080; location / {{ proxy_pass http://" + S + "; }} }} }}\" > conf; "
         "nginx -p $PWD -c $PWD/conf & n=$!; for i in {{1..50}}; do : 2>/dev/null </dev/tcp/127.0.0.1/18080 && break; sleep 0.1; done; "
         # curl asks 127.0.0.1 without any library, so that only nginx is tested.
         "env -u LD_PRELOAD curl -sS -m9 http://127.0.0.1:18080/; r=$?; kill $n; wait $n; exit $r")
NPM = ("d=$(mktemp -d {temp}/npm.XXXX) && cd $d && echo {{}} > package.json && npm_config_cache=$d/cache npm install --silent --no-audit "
       f"--no-fund --no-update-notifier --fetch-retries=0 --registry=http://{S}:{REGISTRY}/ {PACKAGE} && "
       f"node -p \"require('{PACKAGE}')\"")
GIT = ("d=$(mktemp -d {temp}/git.XXXX) && GIT_CONFIG_GLOBAL=/dev/null git clone -q http://" + f"{S}:{REGISTRY}/repo.git"
       " $d/repo && cat $d/repo/file")
SSH_ = ["ssh", "-F", "none", "-i", "{temp}/client.key", "-p", SSH, "-o", "StrictHostKeyChecking=no", "-o",
        "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=9", "-o", "BatchMode=yes", f"root@{S}", "echo ssh-ok"]


def java(which, stack4=False):
    """The compiled program, with the options that keep its start short."""
    more = ["-Djava.net.preferIPv4Stack=true"] if stack4 else []
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", *more, "-cp", "{temp}", "Clients", which, S]


# name, program needed, command, pattern in the output, columns where it must work (l library, s supervisor)
CLIENTS = [
    ("node http", "node", ["node", "-e", NODE.replace("MORE", "")], "200", "ls"),
    ("node http, family 4", "node", ["node", "-e", NODE.replace("MORE", "family:4,")], "200", "ls"),
    ("node https", "node", ["node", "-e", NODE_S.replace("MORE", "rejectUnauthorized:false,")], "200", "ls"),
    ("node fetch", "node", ["node", "-e", f"fetch('http://{S}/').then(r=>console.log(r.status))"], "200", "ls"),
    ("node, as before version 20", "node", ["node", "--no-network-family-autoselection",
                                            "--dns-result-order=ipv4first", "-e", NODE.replace("MORE", "")], "200", "ls"),
    ("node dgram", "node", ["node", "-e", UDP_NODE], "udp-ok", "l"),
    ("npm install from an IPv4-only registry", "npm", NPM, "npm-ok", "ls"),
    ("Python urllib", PY, [PY, "-c", f"import urllib.request as u;print(u.urlopen('http://{S}/').status)"], "200", "ls"),
    ("Python requests", PY, [PY, "-c", f"import requests;print(requests.get('http://{S}/').status_code)"], "200", "ls"),
    ("Python asyncio", PY, [PY, "-c", ASYNC_PY], "200 OK", "ls"),
    ("Python source_address", PY, [PY, "-c", f"import socket;print(socket.create_connection(('{S}',80),9,"
                                             "('127.0.0.1',0)).getpeername())"], "203", "ls"),
    ("Python to ::ffff:a.b.c.d", PY, [PY, "-c", "import socket;s=socket.socket(socket.AF_INET6);"
                                                f"s.connect(('::ffff:{S}',80));print(s.getpeername())"], "203", "ls"),
    ("Python UDP, not connected", PY, [PY, "-c", UDP_PY], "udp-ok", "l"),
    ("Java HttpURLConnection", "javac", java("url"), "java-ok", "ls"),
    ("Java HttpClient", "javac", java("client"), "java-ok", "ls"),
    ("Java Socket", "javac", java("socket"), "java-ok", "ls"),
    ("Java NIO", "javac", java("nio"), "java-ok", "ls"),
    ("Java DatagramSocket", "javac", java("datagram"), "java-ok", "l"),
    ("Java HttpURLConnection, preferIPv4Stack", "javac", java("url", True), "java-ok", "ls"),
    ("Java HttpClient, preferIPv4Stack", "javac", java("client", True), "java-ok", "ls"),
    ("Java Socket, preferIPv4Stack", "javac", java("socket", True), "java-ok", "ls"),
    ("Java NIO, preferIPv4Stack", "javac", java("nio", True), "java-ok", "ls"),
    ("Java DatagramSocket, preferIPv4Stack", "javac", java("datagram", True), "java-ok", "l"),
    ("curl", "curl", [*CURL, f"http://{S}/"], "200", "ls"),
    ("curl https", "curl", [*CURL, "--cacert", "{temp}/tls.crt", f"https://{S}/"], "200", "ls"),
    ("curl --interface 127.0.0.1", "curl", [*CURL, "--interface", "127.0.0.1", f"http://{S}/"], "200", "ls"),
    ("curl --tcp-fastopen", "curl", [*CURL, "--tcp-fastopen", f"http://{S}/"], "200", "l"),
    ("curl ftp, EPSV", "curl", ["curl", "-sS", "-m9", f"ftp://{S}:{FTP}/file"], "ftp-ok", "ls"),
    ("curl ftp, PASV", "curl", ["curl", "-sS", "-m9", "--disable-epsv", f"ftp://{S}:{FTP}/file"], "ftp-ok", "ls"),
    ("tnftp, passive", "tnftp", f"tnftp -o - ftp://{S}:{FTP}/file", "ftp-ok", "ls"),
    ("Python ftplib, passive", PY, [PY, "-c", FTP_PY], "ftp-ok", "ls"),
    ("wget", "wget", ["wget", "-T9", "-t1", "-qO-", f"http://{S}/"], ".", "ls"),
    ("wget --bind-address", "wget", ["wget", "-T9", "-t1", "--bind-address=127.0.0.1", "-qO-", f"http://{S}/"], ".", "ls"),
    ("git clone over http", "git", GIT, "git-ok", "ls"),
    ("ssh", "ssh", SSH_, "ssh-ok", "ls"),
    ("redis-cli", "redis-cli", ["redis-cli", "-h", S, "-p", REDIS, "ping"], "PONG", "ls"),
    ("nginx, proxy_pass to IPv4", "nginx", NGINX, "hello over IPv4", "ls"),
    ("php", "php", ["php", "-r", f"echo strlen(file_get_contents('http://{S}/'))>0?'php-ok':'';"], "php-ok", "ls"),
    ("ruby", "ruby", ["ruby", "-rnet/http", "-e", f"puts Net::HTTP.get_response(URI('http://{S}/')).code"], "200", "ls"),
    ("perl LWP", "perl", ["perl", "-MLWP::UserAgent", "-e", f"print LWP::UserAgent->new(timeout=>9)->get('http://{S}/')->code"],
     "200", "ls"),
    ("NTP query, perl", "perl", ["perl", "-e", NTP_PERL], "ntp-ok", "ls"),
    ("socat", "socat", f"echo socat-ok | socat -t3 - TCP4:{S}:7", "socat-ok", "ls"),
    ("socat UDP", "socat", f"echo socat-ok | socat -t3 - UDP4:{S}:7", "socat-ok", "ls"),
    ("nc", "nc", f"echo nc-ok | nc -q1 -w5 {S} 7", "nc-ok", "ls"),
    ("bash /dev/tcp", "bash", f"exec 3<>/dev/tcp/{S}/7; echo bash-ok >&3; head -1 <&3", "bash-ok", "ls"),
    ("bash /dev/udp", "bash", f"exec 3<>/dev/udp/{S}/7; echo bash-ok >&3; head -1 <&3", "bash-ok", "ls"),
    ("dig @IPv4", "dig", ["dig", "+short", "+time=4", "+tries=1", "@203.0.113.53", "ipv4only.arpa"], "192.0.0.17", "ls"),
    ("dig @IPv4 +tcp", "dig", ["dig", "+short", "+tcp", "+time=4", "+tries=1", "@203.0.113.53", "ipv4only.arpa"], "192.0.0.17", "ls"),
    ("Rust std, TCP", "cargo", ["{temp}/rust-std", "tcp", S], "rust-ok", "ls"),
    ("Rust std, UDP connected", "cargo", ["{temp}/rust-std", "udp", S], "rust-ok", "ls"),
    ("Rust std, UDP not connected", "cargo", ["{temp}/rust-std", "packet", S], "rust-ok", "l"),
    ("Rust tokio, TCP", "cargo", ["{temp}/rust-tokio", "tcp", S], "rust-ok", "ls"),
    ("Rust tokio, UDP connected", "cargo", ["{temp}/rust-tokio", "udp", S], "rust-ok", "ls"),
    ("Rust tokio, UDP not connected", "cargo", ["{temp}/rust-tokio", "packet", S], "rust-ok", "l"),
    ("Go static, http", "go", ["{temp}/go-static", "http", S], "ok", "s"),
    ("Go static, TCP Dial", "go", ["{temp}/go-static", "tcp", S], "ok", "s"),
    ("Go static, UDP Dial", "go", ["{temp}/go-static", "udp", S], "ok", "s"),
    ("Go static, 127.0.0.1", "go", ["{temp}/go-static", "loopback", S], "ok", "ls"),
    ("Go cgo, http", "go", ["{temp}/go-cgo", "http", S], "ok", "s"),
    ("Go cgo, TCP Dial", "go", ["{temp}/go-cgo", "tcp", S], "ok", "s"),
    ("Go cgo, UDP Dial", "go", ["{temp}/go-cgo", "udp", S], "ok", "s"),
    ("Go ListenPacket", "go", ["{temp}/go-static", "packet", S], "ok", ""),
    ("C with musl, static", "musl-gcc", ["{temp}/tcp-musl", S], "ok", "s"),
    ("C with glibc, static", "gcc", ["{temp}/tcp-static", S], "ok", "s"),
    ("C with musl, dynamic", "musl-gcc", ["{temp}/tcp-musl-dyn", S], "ok", "s"),
    ("C, 32 bits", "gcc", ["{temp}/tcp-32", S], "ok", "s"),
    ("C, 32 bits, static", "gcc", ["{temp}/tcp-32-static", S], "ok", "s"),
    ("client to 127.0.0.1, Python", PY, [PY, "-c", LOOP_PY], "True", "ls"),
    ("client to 127.0.0.1, node", "node", ["node", "-e", LOOP_NODE], "loop-ok", "ls"),
    ("refused port", "curl", f"curl -sS -m9 http://{S}:81/ 2>&1; true", "refused|Failed to connect", "ls"),
]


def build(bench):
    """Client programs from source, where there is a compiler."""
    src, out = HERE / "src", bench.temp
    rust = HERE.parent / "clients"
    target = Path(os.environ.get("CARGO_TARGET_DIR") or rust.parents[1] / "target") / "clients"
    # The package gcc-multilib, which would know where the headers are, excludes cross compilers.
    narrow = ["-m32", "-idirafter", "/usr/include/x86_64-linux-gnu"]
    jobs = [("go", {"CGO_ENABLED": "0"}, ["go", "build", "-o", "go-static", src / "t.go"]),
            ("go", {"CGO_ENABLED": "1"}, ["go", "build", "-o", "go-cgo", src / "t.go"]),
            ("gcc", {}, ["gcc", "-static", "-o", "tcp-static", src / "tcp.c"]),
            ("musl-gcc", {}, ["musl-gcc", "-static", "-o", "tcp-musl", src / "tcp.c"]),
            ("musl-gcc", {}, ["musl-gcc", "-o", "tcp-musl-dyn", src / "tcp.c"]),
            ("javac", {}, ["javac", "-d", out, src / "Clients.java"]),
            ("cargo", {"CARGO_TARGET_DIR": str(target)}, ["cargo", "build", "--locked", "-q", "--manifest-path", rust / "Cargo.toml"])]
    if os.uname().machine == "x86_64":
        jobs += [("gcc", {}, ["gcc", *narrow, "-o", "tcp-32", src / "tcp.c"]),
                 ("gcc", {}, ["gcc", *narrow, "-static", "-o", "tcp-32-static", src / "tcp.c"])]
    for tool, env, argv in jobs:
        if shutil.which(tool):
            subprocess.run(argv, cwd=out, env={**os.environ, **env, "GOCACHE": "/tmp/v4shim-go-cache", "GOTOOLCHAIN": "local"},
                           check=True, stdin=subprocess.DEVNULL)
    for name in ("rust-std", "rust-tokio"):
        if (target / "debug" / name).exists():
            shutil.copy(target / "debug" / name, out)


def run(bench, tally, tnat64):
    """Every row in every column; what the table will say."""
    wanted = [row for row in CLIENTS if tally.wants("clients " + row[0])]
    if not wanted:
        return []
    build(bench)
    servers.start(bench.lab, bench.temp, S)
    rows = []
    for name, tool, argv, pattern, must in wanted:
        if not shutil.which(tool):
            tally.note(None, f"clients {name}", f"{tool} is not installed")
            continue
        temp = str(bench.temp)
        argv = argv.replace("{temp}", temp).replace("{{", "{").replace("}}", "}") if isinstance(argv, str) \
            else [str(a).replace("{temp}", temp) for a in argv]
        if argv[0].startswith(temp) and not Path(argv[0]).exists():
            tally.note(None, f"clients {name}", "cannot be built on this machine")
            continue
        cells = []
        for column in COLUMNS:
            if column == "tnat64" and not tnat64:
                cells.append("–")
                continue
            status, out = bench.run(column, argv, timeout=30)
            works = status == 0 and bool(re.search(pattern, out))
            cells.append("works" if works else "fails")
            # `v4shim run` has no column of its own to win: what either of the two does, it must pick.
            if column[0] in must or column == "run" and must:
                last = out.strip().splitlines()[-1:] or [f"exit status {status}"]
                tally.note(works, f"clients {name} [{column}]", last[0])
        rows.append((name, cells))
    return rows


def table(rows, path):
    """The comparison as Markdown."""
    lines = ["# Real programs on an IPv6-only host", "",
             "Every row is one program that connects to an IPv4 address behind the lab's NAT64, or to 127.0.0.1, run five",
             "ways in the same lab by `tests/preload/run --table docs/preload-clients.md`. `v4shim run` picks the library or",
             "the supervisor by looking at the program. Debian's tnat64 stands for its predecessors.", "",
             "| program | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    totals = [f"{sum(cells[i] == 'works' for _, cells in rows)} of {len(rows)}" for i in range(len(COLUMNS))]
    lines += [f"| **works** | {' | '.join(totals)} |", "",
              "Datagrams that are sent without `connect()` (`node dgram`, `DatagramSocket`, Go's `ListenPacket`) need the library: the",
              "kernel sends to an IPv4 address over IPv4, whatever the socket, so the supervisor would have to stop the program for",
              "every packet that it sends and receives. It does not; such a program sees its own ENETUNREACH."]
    Path(path).write_text("\n".join(lines) + "\n")

#!/usr/bin/env python3
"""A service manager as small as can be: notify socket, file descriptor store, restarts.

    manager.py SOCKET GAP COMMAND...

Runs the command with NOTIFY_SOCKET, keeps what it stores (sd_pid_notify_with_fds(3)) and passes it to the next process,
which it starts GAP seconds after the end of the one before. SIGUSR1 kills the process, SIGUSR2 asks it to end; SIGTERM
ends both for good. Prints what the process tells, `started PID` and `ended STATUS`.
"""
import fcntl
import os
import signal
import socket
import sys
import time

FIRST = 3                                                 # SD_LISTEN_FDS_START
ASK = {signal.SIGUSR1: signal.SIGKILL, signal.SIGUSR2: signal.SIGTERM, signal.SIGTERM: signal.SIGTERM}


def start(argv, address, store):
    """The command's pid; it finds what is stored from descriptor 3 on."""
    pid = os.fork()
    if pid:
        return pid
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # First out of the way, then to their places.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in store.values()]
    for number, fd in enumerate(high, FIRST):
        os.dup2(fd, number)
    os.closerange(FIRST + len(high), 200)
    env = {**os.environ, "NOTIFY_SOCKET": address, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high)),
           "LISTEN_FDNAMES": ":".join(store)}
    os.execvpe(argv[0], argv, env)


def hear(sock, store):
    """Everything that the process has said so far."""
    while True:
        try:
            text, fds, *_ = socket.recv_fds(sock, 4096, 8)
        except BlockingIOError:
            return
        said = dict(line.split("=", 1) for line in text.decode().splitlines())
        print(" ".join(f"{key}={value}" for key, value in said.items()), flush=True)
        if "FDSTOREREMOVE" in said and said["FDNAME"] in store:
            os.close(store.pop(said["FDNAME"]))
        if "FDSTORE" in said:
            store[said["FDNAME"]], = fds
        elif fds:
            sys.exit(f"descriptors with {said}")


def main():
    """Until SIGTERM."""
    address, gap, *argv = sys.argv[1:]
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.setblocking(False)
    store = {}
    asked = [signal.SIGCHLD, *ASK]
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    pid, over = start(argv, address, store), False
    print("started", pid, flush=True)
    while True:
        caught = signal.sigtimedwait(asked, 0.02)
        if caught and caught.si_signo in ASK:
            over = over or caught.si_signo == signal.SIGTERM
            # What it said before it could be asked.
            hear(sock, store)
            os.kill(pid, ASK[caught.si_signo])
        hear(sock, store)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            continue
        hear(sock, store)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)
        if over:
            break
        time.sleep(float(gap))
        pid = start(argv, address, store)
        print("started", pid, flush=True)
    os.unlink(address)


main()

"""A guest: QEMU in the namespace of a lab's router, its cards on bridges there, commands over a serial port."""
import base64
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from labnet.netns import LabError


class Answer(NamedTuple):
    """What a command in the guest gave."""
    status: int
    out: str


class Silent(LabError):
    """The guest answers no more."""


@functools.cache
def acceleration(image):
    """`kvm` if it really runs our kernel, else TCG. A /dev/kvm that opens proves nothing (nested machines): the
    kernel is booted without a root file system, and must get as far as to say so."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg,thread=multi"
    try:
        done = subprocess.run(
            ["qemu-system-x86_64", "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-display",
             "none", "-no-reboot", "-serial", "stdio", "-kernel", image / "vmlinuz", "-append", "console=ttyS0 panic=-1"],
            capture_output=True, timeout=20, check=False)
        return "kvm" if b"Unable to mount root" in done.stdout else "tcg,thread=multi"
    except subprocess.TimeoutExpired:
        return "tcg,thread=multi"


class Guest:
    """One virtual machine for the length of a `with` block; its disk is forgotten afterwards.

    `root` are kernel arguments that name the root file system, without them a disk of the image's; `bridges` are those of
    the router that its cards eth0, eth1... are on.
    """

    def __init__(self, lab, image, name="guest", root=None, bridges=("seg",)):
        self.lab, self.name = lab, name
        self.dir = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=lab.dir))
        # Beside the lab's other logs: kept after a failure.
        self.console, self.log = (lab.dir / f"{name}-{what}.log" for what in ("console", "qemu"))
        self.number = 0
        self.buffer = b""
        devices = []
        if not root:
            root = "root=LABEL=guest rw"
            disk = self.dir / "disk.qcow2"
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image / "root.ext4", disk], check=True)
            devices += ["-drive", f"file={disk},if=virtio,format=qcow2,cache=unsafe"]
        self.taps = [f"tap{number}-{name}"[:15] for number, _ in enumerate(bridges)]
        for number, (tap, bridge) in enumerate(zip(self.taps, bridges)):
            lab.r1.ip("tuntap", "add", tap, "mode", "tap")
            lab.r1.ip("link", "set", tap, "master", bridge, "up")
            devices += ["-netdev", f"tap,id=card{number},ifname={tap},script=no,downscript=no",
                        "-device", f"virtio-net-pci,netdev=card{number},mac=52:54:00:64:00:0{number + 1},romfile="]
        accel = acceleration(image)
        self.argv = [
            "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-M", "q35", "-accel", accel,
            "-cpu", "host" if accel == "kvm" else "max", "-smp", "2", "-m", "768", "-nodefaults", "-display", "none",
            "-serial", f"file:{self.console}", "-kernel", image / "vmlinuz", "-initrd", image / "initrd",
            "-append", f"{root} console=ttyS0 net.ifnames=0 quiet systemd.show_status=0 panic=-1",
            *devices, "-device", "virtio-rng-pci",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=tests,path={self.dir}/tests,server=on,wait=off",
            "-device", "virtserialport,chardev=tests,name=tests"]
        self.proc = self.socket = None

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen(self.lab.r1.argv(self.argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         start_new_session=True)
        self.lab.store.remember(self.proc.pid)
        self._hello(180)
        return self

    def __exit__(self, kind, *_):
        if self.proc and self.proc.poll() is None:
            os.killpg(self.proc.pid, signal.SIGKILL)
            self.proc.wait()
        if self.socket:
            self.socket.close()
        for tap in self.taps:
            self.lab.r1.ip("link", "del", tap, check=False)
        if kind:
            self.lab.failed = True
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _hello(self, timeout):
        """Until the agent is there."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.proc.poll() is not None:
                raise LabError(f"QEMU ended: {self.log.read_text(errors='replace')[-500:]}")
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(str(self.dir / "tests"))
                break
            except OSError:
                self.socket.close()
                time.sleep(0.1)
        self._line(end - time.monotonic(), b"hello")

    def _line(self, timeout, start):
        """The next line that begins so."""
        end = time.monotonic() + timeout
        while True:
            line, found, rest = self.buffer.partition(b"\n")
            if found:
                self.buffer = rest
                if line.startswith(start):
                    return line.decode()
                continue
            left = end - time.monotonic()
            if left <= 0:
                raise Silent(f"guest {self.name}: no answer in {timeout:.0f} s; its console is {self.console}")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                raise Silent(f"guest {self.name}: gone; its console is {self.console}")
            self.buffer += data

    def sh(self, command, timeout=120, check=True):
        """Run a shell command as root in the guest."""
        self.number += 1
        self.socket.sendall(f"{self.number} {base64.b64encode(command.encode()).decode()}\n".encode())
        _, status, *out = self._line(timeout, f"{self.number} ".encode()).split(" ")
        answer = Answer(int(status), base64.b64decode(out[0] if out else "").decode(errors="replace").strip())
        if check and answer.status:
            raise LabError(f"guest {self.name}: exit {answer.status} from: {command}\n{answer.out}")
        return answer

    def until(self, command, what, timeout=30):
        """Repeat a command in the guest until it succeeds; its output, and the seconds that it took there."""
        loop = (f"begin=$(cut -d' ' -f1 /proc/uptime); end=$((${{begin%.*}} + {timeout})); while :; do out=$({{ {command}; }} 2>/dev/null) &&"
                " break; out=; read -r now _ </proc/uptime; [ ${now%.*} -lt $end ] || break; sleep .2; done; read -r now _ </proc/uptime;"
                " echo \"$(awk \"BEGIN {print $now - $begin}\")\"; echo \"$out\"; [ -n \"$out\" ]")
        answer = self.sh(loop, timeout=timeout * 2 + 60, check=False)
        if answer.status:
            raise LabError(f"guest {self.name}: waited {timeout} s in vain for {what}")
        seconds, _, out = answer.out.partition("\n")
        return out, float(seconds)

    def wait_network(self):
        """Until it has an address that may be used, a route and DNS."""
        self.until("ip -6 route show default | grep -q . && ip -6 -o addr show scope global -tentative | grep -q inet6 &&"
                   " getent ahosts v4only.test", "the network")

    def reboot(self):
        """Boot it again."""
        self.number += 1
        self.socket.sendall(f"{self.number} {base64.b64encode(b'systemctl reboot').decode()}\n".encode())
        self._line(180, b"hello")

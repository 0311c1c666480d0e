"""Guest images: a Debian tree made by mmdebstrap and put into an ext4 file, without loop device or mount.

They are kept in CACHE and made once for each suite and kind (about half a minute); a change of this file makes them anew.
"""
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from labnet.netns import LabError, run
from labnet.radvd import KEYRING, debian_mirror

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "v4shim-vm"
PACKAGES = ("systemd", "systemd-sysv", "systemd-resolved", "udev", "dbus", "kmod", "iproute2", "curl", "nftables",
            "procps", "apparmor", "initramfs-tools", "zstd", "linux-image-cloud-amd64")
# Debian's own CLAT: its package waits in a directory of the guest, all that it needs is installed.
CLATD = "/opt/clatd"
CLATD_NEEDS = {"trixie": ("tayga", "perl", "libjson-perl", "libnet-dns-perl", "libnet-ip-perl")}
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "ext4", "af_packet")


class Kind(NamedTuple):
    """What a scenario needs beyond the usual image."""
    packages: tuple = ()
    modules: tuple = ()
    tree: bool = False          # the plain tree `root/` instead of root.ext4, for a root file system on NFS


KINDS = {"": Kind(), "nfs": Kind(modules=("nfs", "nfsv4"), tree=True),
         "docker": Kind(packages=("docker.io", "docker-cli", "busybox-static"))}
# initramfs-tools' own script for NFS roots knows NFS 2 and 3 only. The address comes from the kernel's argument ip=. There
# is no mount.nfs4 here that would work out addr= and clientaddr=. Not 4.2: its READ_PLUS fails with the nfs-ganesha of
# Debian 12.
NFS4 = r"""mountroot()
{
	modprobe nfsv4
	configure_networking
	client=${IP%%:*}
	mount -t nfs4 -o "vers=4.1,addr=${NFSROOT%%:*},clientaddr=$client" "$NFSROOT" "$rootmnt"
}
mount_top() { :; }
mount_premount() { :; }
mount_bottom() { :; }
"""
# What only costs time in a guest that lives for a minute under emulation.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
          "getty@tty1.service", "serial-getty@ttyS0.service", "ldconfig.service", "systemd-hwdb-update.service",
          "systemd-logind.service", "systemd-pstore.service", "systemd-update-done.service",
          "systemd-networkd-wait-online.service", "tayga.service")

# Takes commands from the host, one a line: NUMBER, space, base64 of a shell command. Answers NUMBER, exit status and
# base64 of the output.
AGENT = """#!/bin/bash
exec 3<>/dev/virtio-ports/tests
stty -F /dev/virtio-ports/tests raw -echo 2>/dev/null
echo hello >&3
while read -r number code <&3; do
  command=$(base64 -d <<<"$code") || continue
  (cd /root; exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 bash -c "$command") \\
    </dev/null >/run/tests.out 2>&1 3>&-
  echo "$number $? $(base64 -w0 /run/tests.out)" >&3
done
"""
AGENT_UNIT = """[Unit]
Description=commands of the tests
DefaultDependencies=no
After=systemd-udevd.service local-fs.target
[Service]
ExecStartPre=/bin/sh -c 'until [ -e /dev/virtio-ports/tests ]; do sleep .1; done'
ExecStart=/usr/local/sbin/tests-agent
KillMode=process
Restart=always
[Install]
WantedBy=sysinit.target
"""
UPLINK = """[Match]
Name=eth0
[Network]
DHCP=no
LinkLocalAddressing=ipv6
IPv6AcceptRA=yes
"""


def image(suite, say=lambda text: None, kind=""):
    """The directory with root.ext4 (or root/), vmlinuz and initrd of a suite; made if need be."""
    more = KINDS[kind]
    name = f"{kind}.{suite}" if kind else suite
    mark = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    done = CACHE / f"{name}-{mark}"
    if done.is_dir():
        return done
    missing = [tool for tool in ("mmdebstrap", "mke2fs") if not shutil.which(tool)]
    if missing:
        raise LabError(f"{', '.join(missing)} missing: run tests/install")
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{name}-*"):
        shutil.rmtree(old, ignore_errors=True)
    say(f"making the {name} image (once)")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".making-") as temp:
        os.chmod(temp, 0o755)
        tree = Path(temp) / "root"
        apt = "--customize-hook=APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get"
        download = [f"{apt} clean", f"{apt} install -yqq --download-only --no-install-recommends clatd",
                    f"--customize-hook=mkdir \"$1{CLATD}\" && mv \"$1\"/var/cache/apt/archives/*.deb \"$1{CLATD}\""]
        debian_clatd = suite in CLATD_NEEDS and not kind
        packages = (*PACKAGES, *more.packages, *(CLATD_NEEDS[suite] if debian_clatd else ()))
        nfs4 = Path(temp) / "nfs4"
        nfs4.write_text(NFS4)
        run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}",
             "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=path-exclude=/usr/share/locale/*",
             "--setup-hook=mkdir -p \"$1/etc/initramfs-tools/conf.d\"",
             f"--setup-hook=printf '%s\\n' {' '.join(MODULES + more.modules)} > \"$1/etc/initramfs-tools/modules\"",
             "--setup-hook=echo MODULES=list > \"$1/etc/initramfs-tools/conf.d/few\"",
             f"--setup-hook=install -D -m 644 {nfs4} \"$1/etc/initramfs-tools/scripts/nfs4\"",
             *(download if debian_clatd else []),
             suite, tree, f"deb [signed-by={KEYRING}] {debian_mirror()} {suite} main"], timeout=900)
        _furnish(tree)
        for kind in ("vmlinuz", "initrd.img"):
            newest = sorted(tree.glob(f"boot/{kind}-*"))[-1]
            shutil.copy(newest, Path(temp) / kind.removesuffix(".img"))
        if not more.tree:
            disk = Path(temp) / "root.ext4"
            with open(disk, "wb") as file:
                file.truncate(2 << 30)
            run(["mke2fs", "-q", "-t", "ext4", "-L", "guest", "-O", "^has_journal", "-d", tree, disk], timeout=300)
            shutil.rmtree(tree)
        Path(temp).rename(done)
        Path(temp).mkdir()                       # what the context manager will remove
    return done


def _furnish(tree):
    """Network by systemd-networkd, a root without password, the agent, nothing superfluous."""
    (tree / "etc/hostname").write_text("guest\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 guest\n")
    (tree / "etc/fstab").write_text("")
    (tree / "etc/machine-id").write_text("5d1f0c7a9b3e4d268f0a1b2c3d4e5f60\n")
    (tree / "etc/systemd/network/50-uplink.network").write_text(UPLINK)
    resolv = tree / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    agent = tree / "usr/local/sbin/tests-agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    (tree / "etc/systemd/system/tests-agent.service").write_text(AGENT_UNIT)
    quiet = dict(os.environ, SYSTEMD_LOG_LEVEL="err")
    enable = ["systemd-networkd", "systemd-resolved", "tests-agent"]
    subprocess.run(["chroot", tree, "systemctl", "-q", "enable", *enable], env=quiet, check=True)
    subprocess.run(["chroot", tree, "systemctl", "-q", "mask", *MASKED], env=quiet, check=True)

"""The fast path on kernels before 6.6, where its programs are filters in a clsact qdisc, which outlive the process."""
import json
import signal
import sys
import time
from pathlib import Path

import test_lifecycle
from labnet import snapshot
from labnet.netns import run, wait_for
from labnet.runner import DATAPATHS, Case
from labnet.topology import SERVER

OLD_KERNEL = [sys.executable, Path(__file__).resolve().parents[1] / "labnet" / "old_kernel.py"]
# A filter of somebody else's.
OTHER = ("pref", "7", "bpf", "bytecode", "1,6 0 0 0,", "flowid", "1:1")


class _Old:
    """Mixed into a Case: a kernel without TCX."""

    datapath = "bpf"

    @classmethod
    def clatd(cls, node, *sets, **kw):
        """A Clatd whose kernel is old."""
        return super().clatd(node, *sets, wrap=OLD_KERNEL, **kw)


if "bpf" in DATAPATHS:
    class Clean_stop(_Old, test_lifecycle.Clean_stop_bpf):
        """The same with filters."""

    class Kill(_Old, test_lifecycle.Kill_bpf):
        """The same with filters."""

    class Clsact(_Old, Case):
        """Whose the qdisc is."""

        def setUp(self):
            self.node = self.lab.slaac
            self.addCleanup(self.node.run, "tc", "qdisc", "del", "dev", "eth0", "clsact", check=False)

        def tc(self, *argv):
            """Output of tc."""
            return self.node.out("tc", *argv)

        def programs(self):
            """Priority, handle and program of each filter on the uplink's ingress."""
            filters = json.loads(self.tc("-j", "filter", "show", "dev", "eth0", "ingress") or "[]")
            return [(f["pref"], f["options"]["handle"], f["options"]["bpf_name"]) for f in filters
                    if f["pref"] != 7 and "options" in f]

        def qdisc(self):
            """Whether there is a qdisc for filters on the uplink."""
            return "clsact" in self.tc("qdisc", "show", "dev", "eth0")

        def test_is_old(self):
            """without TCX links the programs are filters, and a stop removes them and the qdiscs"""
            with self.clatd(self.node) as daemon:
                self.assertIn("clsact filters", daemon.front("status").stdout)
                self.assertEqual(len(self.programs()), 1)
                self.assertIn("hello", self.node.out("curl", "-sS", "-m", "10", f"http://{SERVER}/"))
            self.assertFalse(self.qdisc())

        def test_foreign_filter(self):
            """a filter that somebody else puts into our qdisc keeps it, after a stop and after a clean-up"""
            for how in ("stop", "cleanup"):
                with self.subTest(how=how):
                    self.assertFalse(self.qdisc())
                    daemon = self.clatd(self.node).up()
                    self.tc("filter", "add", "dev", "eth0", "egress", *OTHER)
                    if how == "stop":
                        self.assertEqual(daemon.stop(), 0)
                    else:
                        daemon.kill9()
                        self.assertEqual(daemon.once("--cleanup").returncode, 0)
                    self.assertFalse(self.programs())
                    self.assertIn("pref 7 ", self.tc("filter", "show", "dev", "eth0", "egress"))
                    self.tc("qdisc", "del", "dev", "eth0", "clsact")

        def test_foreign_qdisc(self):
            """a qdisc that was there before stays, empty or not, after a stop and after a clean-up"""
            for filters in ([], [OTHER]):
                self.tc("qdisc", "add", "dev", "eth0", "clsact")
                for other in filters:
                    self.tc("filter", "add", "dev", "eth0", "ingress", *other)
                before = snapshot.take(self.node)
                for how in ("stop", "cleanup", "next"):
                    with self.subTest(how=how, filters=len(filters)):
                        daemon = self.clatd(self.node).up()
                        if how != "stop":
                            daemon.kill9()
                            self.assertTrue(self.programs(), "nothing was left behind: nothing is proven")
                        if how == "next":
                            daemon = self.clatd(self.node).up()
                        if how == "cleanup":
                            self.assertEqual(daemon.once("--cleanup").returncode, 0)
                        else:
                            self.assertEqual(daemon.stop(), 0)
                        self.eventually(lambda: not snapshot.difference(before, snapshot.take(self.node)),
                                        "the host to be as before")
                self.tc("qdisc", "del", "dev", "eth0", "clsact")

        def test_in_the_way(self):
            """where an ingress qdisc leaves no room for ours, the portable datapath is used and nothing of ours stays"""
            self.tc("qdisc", "add", "dev", "eth0", "ingress")
            self.addCleanup(self.node.run, "tc", "qdisc", "del", "dev", "eth0", "ingress", check=False)
            before = snapshot.take(self.node)
            with self.clatd(self.node, datapath="auto") as daemon:
                self.assertIn("datapath: tun", daemon.front("status").stdout)
                self.assertFalse(self.programs())
            self.eventually(lambda: not snapshot.difference(before, snapshot.take(self.node)), "the host to be as before")

        def test_leftovers_do_not_stay(self):
            """filters of a killed daemon go although the next one has no use for them: standing by, or portable"""
            for how in ("standing-by", "portable"):
                with self.subTest(how=how):
                    self.clatd(self.node).up().kill9()
                    self.assertTrue(self.programs(), "nothing was left behind: nothing is proven")
                    if how == "standing-by":
                        self.lab.give_native_ipv4("slaac")
                        self.addCleanup(self.lab.take_native_ipv4, "slaac")
                    daemon = self.clatd(self.node, datapath="bpf" if how == "standing-by" else "tun").start()
                    daemon.wait_state("standing-by" if how == "standing-by" else "active")
                    self.eventually(lambda: not self.qdisc(), "the qdisc to go")
                    self.assertEqual(daemon.stop(), 0)
                    if how == "standing-by":
                        self.lab.take_native_ipv4("slaac")

        def test_download_goes_on(self):
            """kill -9, a restart, a reload: one program takes the other's place, and a download goes on"""
            records = self.lab.dir / "old-records"
            records.mkdir()
            self.addCleanup(records.rmdir)
            run(["mount", "-t", "bpf", "bpf", records])
            self.addCleanup(run, ["umount", "-l", records])
            env = {"V4SHIM_FLOW_RECORDS": str(records)}
            daemon = self.clatd(self.node, env=env).up()
            file = self.lab.dir / "download"
            curl = self.node.spawn("curl", "-sS", "--limit-rate", "4M", "-o", file, f"http://{SERVER}/100M", log="curl.log")
            size = lambda: file.stat().st_size if file.exists() else 0
            wait_for(lambda: size() > 1 << 20, "the download to begin")
            changes = self.node.spawn("tc", "monitor", log="tc.log")
            for how in ("kill", "restart", "reload"):
                with self.subTest(how=how):
                    if how == "reload":
                        daemon.config.write_text("[clat]\nmtu = 1400\n")
                        daemon.proc.send_signal(signal.SIGHUP)
                        self.eventually(lambda: "mtu 1400" in self.node.ip("-o", "link"), "the new MTU")
                    else:
                        daemon.proc.send_signal(signal.SIGKILL if how == "kill" else signal.SIGUSR1)
                        daemon.wait_exit()
                        time.sleep(0.5)
                        self.assertEqual(len(self.programs()), 1)
                        daemon = self.clatd(self.node, env=env).start()
                    daemon.wait_state("active")
                    begin = size()
                    wait_for(lambda begin=begin: size() > begin + (1 << 20) or curl.poll() is not None, "the download to go on")
                    self.assertIsNone(curl.poll(), self.lab.log_tail("curl.log", 5))
            changes.terminate()
            self.assertNotIn("deleted filter dev eth0", self.lab.log_tail("tc.log", 1000))
            curl.terminate()
            self.assertEqual(daemon.stop(), 0)
            self.assertFalse(self.qdisc())

"""The lab itself: what the other tests take for granted."""
import os
import signal
import subprocess
import sys

from labnet import netns, topology
from labnet.netns import Store
from labnet.runner import Case
from labnet.topology import SERVER, Lab


class Lab_itself(Case):
    """Without any of our programs."""

    def test_ipv4_literal_is_out_of_reach(self):
        """an IPv6-only host cannot reach an IPv4 literal: the problem exists"""
        for name in ("slaac", "one", "lan"):
            with self.subTest(host=name):
                done = self.lab.nodes[name].run("curl", "-sS", "-m", "5", f"http://{SERVER}/", check=False)
                self.assertEqual(done.returncode, 7, done.stderr)

    def test_dns64_and_nat64_work(self):
        """names reach the IPv4 server through DNS64 and NAT64 from every kind of host"""
        for name in topology.HOSTS:
            with self.subTest(host=name):
                got = self.lab.nodes[name].out("curl", "-sS", "-m", "10", "http://v4only.test/")
                self.assertIn("hello over IPv4", got)

    def test_one_address_only(self):
        """the /128 provider drops any second source address, as real ones do"""
        one = self.lab.one
        one.ip("addr", "add", "2001:db8:2::129/128", "dev", "eth0", "nodad")
        self.addCleanup(one.ip, "addr", "del", "2001:db8:2::129/128", "dev", "eth0")
        done = one.run("ping", "-6", "-c1", "-W1", "-I", "2001:db8:2::129", topology.SERVER6, check=False)
        self.assertNotEqual(done.returncode, 0)

    def test_second_lab_beside(self):
        """a second lab does not disturb the first, and takes nothing with it when it goes"""
        with Lab(hosts=["slaac"], pref64="2001:db8:65::/96") as other:
            self.assertIn("hello", other.slaac.out("curl", "-sS", "-m", "10", "http://v4only.test/"))
            self.assertIn("hello", self.lab.slaac.out("curl", "-sS", "-m", "10", "http://v4only.test/"))
        self.assertEqual(Store(other.id).namespaces(), [])
        self.assertFalse(other.dir.exists())
        self.assertIn("hello", self.lab.slaac.out("curl", "-sS", "-m", "10", "http://v4only.test/"))

    def _child(self):
        code = ("import sys, time; sys.path.insert(0, sys.argv[1])\n"
                "from labnet import netns; from labnet.topology import Lab\n"
                "netns.unwind_on_signals()\n"
                "with Lab(hosts=['slaac']) as lab:\n print(lab.id, flush=True)\n time.sleep(300)\n")
        child = subprocess.Popen([sys.executable, "-c", code, str(topology.PROBES.parents[1])], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.wait)
        lab_id = child.stdout.readline().strip()
        self.assertTrue(lab_id, "the child's lab did not come up")
        return child, Store(lab_id)

    def test_killed_lab_is_removed_later(self):
        """what a killed lab leaves is found by owner and start time, and removed"""
        child, store = self._child()
        self.assertFalse(store.is_stale())
        child.kill()
        child.wait()
        self.assertTrue(store.namespaces())
        self.assertTrue(store.is_stale())
        netns.remove_stale()
        self.assertEqual((store.namespaces(), store.living(), store.dir.exists()), ([], set(), False))

    def test_signals_clean_up(self):
        """Ctrl-C and SIGTERM take the lab down"""
        for sig in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=sig.name):
                child, store = self._child()
                os.kill(child.pid, sig)
                child.wait(30)
                self.assertEqual((store.namespaces(), store.dir.exists()), ([], False))

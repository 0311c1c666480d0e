"""Coming, going, crashing: the host is as it was, and IPv4 comes back when it can."""
import os
import signal
import time
from pathlib import Path

from labnet import snapshot
from labnet.clatd import program
from labnet.netns import start_time, wait_for
from labnet.runner import Case, full_only, per_datapath
from labnet.topology import DUAL_ADDRESS, NAS, SERVER

URL = f"http://{SERVER}/"


class _Host(Case):
    """Helpers."""

    def settled(self, host):
        """A snapshot once two in a row are equal: addresses settle, timers fire."""
        last = [snapshot.take(host)]
        def same():
            time.sleep(0.3)
            now = snapshot.take(host)
            equal, last[0] = not snapshot.difference(last[0], now), now
            return equal and '"tentative"' not in snapshot.text(now)
        wait_for(same, f"{host} to settle", 20)
        return last[0]

    def assert_restored(self, host, before):
        """Byte-identical to before, within the time that netlink events take."""
        after = {}
        def same():
            after["now"] = snapshot.take(host)
            return not snapshot.difference(before, after["now"])
        try:
            wait_for(same, "", 5, 0.3)
        except Exception:  # pylint: disable=broad-except
            self.fail("the host's state differs:\n" + snapshot.difference(before, after["now"]))

    def works(self, host):
        """IPv4 does something."""
        return "hello" in host.run("curl", "-sS", "-m", "10", URL, check=False).stdout


@per_datapath
class Clean_stop(_Host):
    """ip addr/route/rule/link, proxies, tc, nft and sysctl, byte by byte."""

    def _stop(self, name, *sets, sig=signal.SIGTERM):
        host = self.lab.nodes[name]
        before = self.settled(host)
        daemon = self.clatd(host, *sets).up()
        self.assertTrue(self.works(host))
        self.assertTrue(snapshot.difference(before, snapshot.take(host)), "nothing changed while active?")
        self.assertEqual(daemon.stop(sig), 0)
        self.assert_restored(host, before)

    def test_shared(self):
        """shared mode leaves nothing"""
        self._stop("slaac", "clat.address=shared")

    def test_dedicated(self):
        """dedicated mode leaves nothing, no address, proxy or anycast join"""
        self._stop("slaac", "clat.address=dedicated")

    def test_one_address(self):
        """on the single /128 nothing is left"""
        self._stop("one")

    def test_lan(self):
        """with an RFC 1918 link beside nothing is left"""
        self._stop("lan")

    def test_interrupt(self):
        """Ctrl-C is a clean stop, too"""
        self._stop("slaac", sig=signal.SIGINT)

    def test_standing_by(self):
        """where IPv4 is native nothing was changed in the first place"""
        host = self.lab.dual
        before = self.settled(host)
        daemon = self.clatd(host).start()
        daemon.wait_state("standing-by")
        self.assertEqual(daemon.stop(), 0)
        self.assert_restored(host, before)

    def test_stop_while_starting(self):
        """stopped at any moment of its start, it leaves nothing"""
        host = self.lab.slaac
        before = self.settled(host)
        for delay in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
            daemon = self.clatd(host).start()
            time.sleep(delay)
            daemon.stop()
            with self.subTest(delay=delay):
                self.assert_restored(host, before)


@per_datapath
class Set_up_fails(_Host):
    """Something is in the way of each step in turn: a clear message, and nothing half-done."""

    def _fails(self, host, *sets, codes=(1, 2), words=(), **kw):
        before = self.settled(host)
        daemon = self.clatd(host, *sets, **kw)
        done = daemon.once(timeout=30)
        self.assertIn(done.returncode, codes, done.stderr)
        message = (done.stderr + done.stdout).strip().splitlines()[-1]
        for word in words:
            self.assertIn(word, message)
        self.assert_restored(host, before)

    def test_no_tun(self):
        """without /dev/net/tun it says so and changes nothing"""
        self._fails(self.lab.slaac, codes=(1, 4), words=("/dev/net/tun",), hide="/dev/net")

    def test_device_taken(self):
        """a device name that is taken is named, and the other device is left alone"""
        host = self.lab.slaac
        host.ip("link", "add", "clat", "type", "veth", "peer", "name", "clat-peer")
        self.addCleanup(host.ip, "link", "del", "clat")
        self._fails(host, codes=(1, 4), words=("clat",))

    def test_route_refused(self):
        """an error half-way (another default route with our metric is in the way) is undone or lived with, never left half-done"""
        host = self.lab.slaac
        host.ip("link", "add", "blackhole0", "type", "veth", "peer", "name", "blackhole1")
        self.addCleanup(host.ip, "link", "del", "blackhole0")
        host.ip("link", "set", "blackhole0", "up")
        host.ip("link", "set", "blackhole1", "up")
        host.ip("route", "add", "default", "dev", "blackhole0", "metric", "2048")
        before = self.settled(host)
        daemon = self.clatd(host, "clat.when_native_ipv4=ignore", 'clat.dead_ipv4_defaults=["blackhole0"]').start()
        time.sleep(3)
        daemon.stop()
        self.assert_restored(host, before)

    def test_no_free_ipv4(self):
        """when all of 192.0.0.0/29 is taken it says so, and changes nothing"""
        host = self.lab.slaac
        host.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
        self.addCleanup(host.ip, "link", "del", "other0")
        for last in range(8):
            host.ip("addr", "add", f"192.0.0.{last}/32", "dev", "other0")
        before = self.settled(host)
        daemon = self.clatd(host).start()
        time.sleep(3)
        if daemon.proc.poll() is None:
            self.assertNotEqual(daemon.status()["state"], "active")
            self.assertIn("192.0.0", daemon.front("status").stdout)
        else:
            self.assertIn("192.0.0", daemon.tail())
        daemon.stop()
        self.assert_restored(host, before)


@per_datapath
class Kill(_Host):
    """kill -9."""

    def test_cleanup(self):
        """clatd --cleanup removes everything that a killed one left"""
        for name, *sets in (("slaac", "clat.address=shared"), ("slaac", "clat.address=dedicated"), ("one",)):
            with self.subTest(host=name, sets=sets):
                host = self.lab.nodes[name]
                before = self.settled(host)
                daemon = self.clatd(host, *sets).up()
                daemon.kill9()
                done = daemon.once("--cleanup")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assert_restored(host, before)

    def test_next_start(self):
        """the next start takes over what a killed one left, and its stop leaves nothing"""
        host = self.lab.slaac
        before = self.settled(host)
        self.clatd(host).up().kill9()
        with self.clatd(host):
            self.assertTrue(self.works(host))
        self.assert_restored(host, before)

    def test_other_settings_after_kill(self):
        """the next start cleans up even if its settings differ"""
        host = self.lab.slaac
        before = self.settled(host)
        self.clatd(host, "clat.address=dedicated").up().kill9()
        with self.clatd(host, "clat.address=shared", "clat.device=clat9"):
            self.assertTrue(self.works(host))
        self.assert_restored(host, before)

    def test_cleanup_of_nothing(self):
        """--cleanup with nothing to clean up is fine, twice"""
        host = self.lab.slaac
        before = self.settled(host)
        for _ in range(2):
            self.assertEqual(self.clatd(host).once("--cleanup").returncode, 0)
        self.assert_restored(host, before)

    def test_cleanup_spares_a_running_one(self):
        """--cleanup does not pull the rug from under a running daemon"""
        host = self.lab.slaac
        with self.clatd(host) as daemon:
            daemon.once("--cleanup")
            self.assertTrue(self.works(host))

    @full_only
    def test_kill_loop(self):
        """twenty kills in a row, at random moments, and the last clean-up restores everything"""
        host = self.lab.slaac
        before = self.settled(host)
        for n in range(20):
            daemon = self.clatd(host).start()
            time.sleep(0.05 * n)
            daemon.kill9()
        self.assertEqual(daemon.once("--cleanup").returncode, 0)
        self.assert_restored(host, before)


@per_datapath
class Comes_and_goes(_Host):
    """Events at run time."""

    def tearDown(self):
        self.lab.slaac.ip("link", "set", "eth0", "up")
        self.lab.take_native_ipv4("slaac")
        self.lab.give_native_ipv4("dual")
        self.lab.wait_host("slaac")

    def test_native_ipv4_appears_and_goes(self):
        """a native IPv4 default means standing by; when it goes clatd is back by itself"""
        host = self.lab.slaac
        with self.clatd(host) as daemon:
            self.lab.give_native_ipv4("slaac")
            daemon.wait_state("standing-by")
            self.eventually(lambda: "dev clat" not in host.ip("-4", "route"), "the route into clat to go")
            self.assertIn("you are 198.51.100.20", host.out("curl", "-sS", "-m", "10", URL))
            self.lab.take_native_ipv4("slaac")
            daemon.wait_state("active")
            self.assertTrue(self.works(host))

    def test_dual_stack_stands_by_then_takes_over(self):
        """on a dual-stack host it stands by, and takes over when native IPv4 is lost"""
        host = self.lab.dual
        before = self.settled(host)
        daemon = self.clatd(host).start()
        self.addCleanup(daemon.stop)
        daemon.wait_state("standing-by")
        self.assertIn(f"you are {DUAL_ADDRESS}", host.out("curl", "-sS", "-m", "10", URL))
        self.lab.take_native_ipv4("dual")
        daemon.wait_state("active")
        self.assertTrue(self.works(host))
        self.lab.give_native_ipv4("dual")
        daemon.wait_state("standing-by")
        self.assertEqual(daemon.stop(), 0)
        self.assert_restored(host, before)

    def test_native_default_can_be_ignored(self):
        """when_native_ipv4 = "ignore" works beside a native default"""
        with self.clatd(self.lab.slaac, "clat.when_native_ipv4=ignore") as daemon:
            self.lab.give_native_ipv4("slaac")
            time.sleep(2)
            self.assertEqual(daemon.status()["state"], "active")

    def test_dead_default(self):
        """a listed default route that leads nowhere is passed over, whatever its metric; all else on its link stays"""
        host, dead = self.lab.lan, ("default", "via", NAS, "dev", "nas0")
        def ways():
            return [host.ip("route", "get", ip).splitlines()[0] for ip in (NAS, "224.0.0.251", "10.77.0.3")]
        host.ip("route", "add", *dead)                    # without a metric, as the kernel's ip= makes it
        self.addCleanup(host.ip, "route", "del", *dead, check=False)
        before, found = self.settled(host), ways()
        daemon = self.clatd(host).start()
        daemon.wait_state("standing-by")
        daemon.stop()
        with self.clatd(host, 'clat.dead_ipv4_defaults=["nas0"]'):
            self.assertTrue(self.works(host))
            self.assertEqual(ways(), found)
            self.assertIn("you are 10.77.0.2", host.out("curl", "-sS", "-m", "10", f"http://{NAS}/"))
            # It goes and comes back, and somebody removes a part of our route: what works goes on working.
            host.ip("route", "del", *dead)
            self.eventually(lambda: "default dev clat" in host.ip("-4", "route"), "a default route of our own")
            self.assertTrue(self.works(host))
            host.ip("route", "add", *dead)
            self.eventually(lambda: "192.0.0.0/3 dev clat" in host.ip("-4", "route"), "the parts to come back")
            self.eventually(lambda: self.works(host), "IPv4 to work beside the dead route")
            host.ip("route", "del", "192.0.0.0/3", "dev", "clat")
            self.eventually(lambda: "192.0.0.0/3 dev clat" in host.ip("-4", "route"), "the part to be made again")
            self.assertTrue(self.works(host))
        self.assert_restored(host, before)

    def test_link_down_and_up(self):
        """the uplink goes down and comes back: waiting, then active again, never an exit"""
        host = self.lab.slaac
        with self.clatd(host) as daemon:
            for _ in range(2):
                host.ip("link", "set", "eth0", "down")
                daemon.wait_state("waiting", "degraded")
                host.ip("link", "set", "eth0", "up")
                self.lab.wait_host("slaac")
                daemon.wait_state("active", timeout=60)
                self.eventually(lambda: self.works(host), "IPv4 to work again", 30)

    def test_no_uplink_at_start(self):
        """started without an uplink it waits, and becomes active when there is one"""
        host = self.lab.slaac
        host.ip("link", "set", "eth0", "down")
        daemon = self.clatd(host).start()
        self.addCleanup(daemon.stop)
        daemon.wait_state("waiting")
        time.sleep(2)
        self.assertIsNone(daemon.proc.poll())
        host.ip("link", "set", "eth0", "up")
        daemon.wait_state("active", timeout=60)
        self.eventually(lambda: self.works(host), "IPv4 to work")

    def test_renumbered(self):
        """the host's address changes: translation follows it"""
        host = self.lab.slaac
        with self.clatd(host, "clat.address=shared") as daemon:
            old = self.lab.global_address("slaac")
            host.ip("addr", "add", "2001:db8:1::77/64", "dev", "eth0", "nodad")
            self.addCleanup(host.ip, "addr", "del", "2001:db8:1::77/64", "dev", "eth0", check=False)
            host.ip("addr", "del", f"{old}/64", "dev", "eth0")
            self.eventually(lambda: self.works(host), "IPv4 to work with the new address", 30)
            self.assertEqual(daemon.wait_state("active")["state"], "active")

    def test_device_deleted(self):
        """someone deletes the device: it is put back"""
        host = self.lab.slaac
        with self.clatd(host) as daemon:
            host.ip("link", "del", "clat")
            self.eventually(lambda: self.works(host), "IPv4 to work again", 30)
            daemon.wait_state("active")

    def test_route_deleted(self):
        """someone deletes the route: it is put back"""
        host = self.lab.slaac
        with self.clatd(host):
            host.ip("-4", "route", "del", "default", "dev", "clat")
            self.eventually(lambda: self.works(host), "IPv4 to work again", 30)

    def test_flow_survives_a_restart(self):
        """a TCP connection survives that clatd is stopped, or killed, and started again"""
        host = self.lab.slaac
        for how in ("stop", "kill9"):
            with self.subTest(how=how):
                daemon = self.clatd(host).up()
                flow = self.lab.start_probe(host, "hold", SERVER, 7, 8)
                time.sleep(1)
                getattr(daemon, how)()
                daemon = self.clatd(host).up()
                got = self.lab.finish_probe(flow)
                daemon.stop()
                self.assertNotIn("error", got)
                self.assertGreater(got["rounds"], 20)


@per_datapath
class Second_instance(_Host):
    """Two on one host."""

    def test_second_is_refused(self):
        """the second instance says who runs already, ends with status 1, and the first does not notice"""
        host = self.lab.slaac
        with self.clatd(host) as daemon:
            before = self.settled(host)
            done = self.clatd(host).once()
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("already", (done.stderr + done.stdout).lower())
            self.assert_restored(host, before)
            self.assertTrue(self.works(host))
            self.assertEqual(daemon.status()["state"], "active")


class Not_root(_Host):
    """Without privileges."""

    def test_not_root(self):
        """as an ordinary user it says what it needs and ends with status 4"""
        host = self.lab.slaac
        daemon = self.clatd(host)
        # The program may live where only root can look: give the user a copy.
        copy = Path("/tmp") / f"v4shim-{os.getpid()}-{start_time(os.getpid())}"
        copy.write_bytes(program("clatd").read_bytes())
        copy.chmod(0o755)
        self.addCleanup(copy.unlink)
        done = host.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy, "--config", "/dev/null",
                        check=False, env={"V4SHIM_RUN_DIR": str(daemon.run_dir), "PATH": "/usr/bin:/bin"})
        self.assertEqual(done.returncode, 4, done.stderr)
        message = done.stderr.strip().splitlines()[-1]
        self.assertRegex(message, r"root|CAP_NET_ADMIN")


class Status(_Host):
    """What the operator sees."""

    def test_status_without_daemon(self):
        """without a daemon v4shim status says so, and its exit status is not 0"""
        daemon = self.clatd(self.lab.slaac)
        done = daemon.front("status")
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout + done.stderr, r"(?i)not running|no daemon|is .*running")

    def test_status_text_and_json(self):
        """v4shim status shows state, uplink, prefix, addresses, datapath and counters"""
        with self.clatd(self.lab.slaac) as daemon:
            self.assertTrue(self.works(self.lab.slaac))
            status = daemon.status()
            for key in ("state", "reason", "uplink", "prefix", "ipv4", "ipv6", "address_mode", "datapath", "mtu", "counters"):
                self.assertIn(key, status)
            self.assertEqual((status["state"], status["uplink"], status["mtu"]), ("active", "eth0", 1480))
            done = daemon.front("status")
            self.assertEqual(done.returncode, 0, done.stderr)
            for word in ("active", "eth0", self.lab.pref64, "192.0.0."):
                self.assertIn(word, done.stdout)

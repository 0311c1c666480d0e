"""What the host did not ask for: no packet of it becomes IPv4, unless the operator wants it."""
import re

from labnet import packets
from labnet.runner import Case, per_datapath
from labnet.topology import SERVER

PORT = 2222
# RFC 4443: what an error can be about.
ERRORS = ((1, 0, 0), (1, 3, 0), (1, 4, 0), (2, 0, 1280), (3, 0, 0), (4, 1, 6))


@per_datapath
class Inbound(Case):
    """Packets put on the host's wire as its router sends them; evidence is a capture on all its devices."""

    def knock(self, daemon, sent):
        """What IPv4 listeners and the devices see of `sent`: the listeners' answer, a list of lines."""
        host, log = self.lab.slaac, f"{daemon.log}.knock.log"
        address = daemon.status()["ipv6"]
        # From elsewhere, so that no translator takes it.
        mark = packets.udp6("2001:db8:c1::2", self.lab.global_address("slaac"), 9, 65000, b"the last one")
        capture = host.spawn("tcpdump", "-lnni", "any",
                             f"(ip6 and dst host {address}) or (ip and dst net 192.0.0.0/29) or udp port 65000", log=log)
        self.eventually(lambda: "listening" in self.lab.log_tail(log), "tcpdump to start")
        answers = self.lab.r1.spawn("tcpdump", "-lnni", "seg", f"ip6 and src host {address}", log=f"{log}.r1")
        self.eventually(lambda: "listening" in self.lab.log_tail(f"{log}.r1"), "tcpdump to start")
        listener = self.lab.start_probe(host, "listen", PORT, 2)
        self.lab.inject("slaac", *sent, mark)
        self.eventually(lambda: ".65000" in self.lab.log_tail(log, 1000), "the packets to arrive")
        heard = self.lab.finish_probe(listener)
        for tcpdump in (capture, answers):
            tcpdump.terminate()
            tcpdump.wait(10)
        lines = self.lab.log_tail(log, 1000).splitlines()
        return heard, lines, self.lab.log_tail(f"{log}.r1", 1000)

    @staticmethod
    def became_ipv4(lines):
        """Lines of packets that came out of clat as IPv4."""
        return [line for line in lines if re.search(r"\bclat +In +IP ", line)]

    # Not the ports that another test was let in from: what has begun goes on for as long as conntrack remembers it.
    def unsolicited(self, goal):
        """Everything that a stranger behind the NAT64 could try."""
        source, router = self.lab.nat64(SERVER), "2001:db8:c1::2"
        quote = packets.udp6(goal, source, 3333, 4444, b"never sent")
        yield packets.tcp6(source, goal, 40000, PORT)
        yield packets.tcp6(source, goal, 40001, PORT, flags=0x12)
        yield packets.tcp6(source, goal, 40002, PORT, flags=0x10)
        yield packets.tcp6(source, goal, 40003, PORT, flags=0x04)
        yield packets.udp6(source, goal, 40000, PORT, b"knock")
        yield packets.icmp6(source, goal, 128, 0, 0x43210001, b"echo request")
        yield packets.icmp6(source, goal, 129, 0, 0x12340001, b"echo reply")
        for kind, code, rest in ERRORS:
            yield packets.icmp6(source, goal, kind, code, rest, quote)
            yield packets.icmp6(router, goal, kind, code, rest, quote)

    def test_nothing_comes_in(self):
        """SYN, UDP, echo, replies to nothing and errors about unknown flows: none becomes an IPv4 packet"""
        for mode in ("shared", "dedicated"):
            with self.subTest(mode=mode), self.clatd(self.lab.slaac, f"clat.address={mode}") as daemon:
                # In use, so that records and neighbours are there.
                self.assertIn(" 0% packet loss", self.lab.slaac.out("ping", "-n", "-c1", "-W5", SERVER))
                sent = list(self.unsolicited(daemon.status()["ipv6"]))
                heard, lines, _ = self.knock(daemon, sent)
                self.assertEqual(heard, {"tcp": [], "udp": []})
                self.assertEqual(self.became_ipv4(lines), [])
                arrived = [line for line in lines if re.search(r"\beth0 +In +IP6 ", line)]
                self.assertGreaterEqual(len(arrived), len(sent), "\n".join(lines))

    def test_allowed(self):
        """inbound = "allow": SYN and UDP reach IPv4 listeners, and the answers go back; with an address of its own ping, too"""
        for mode in ("shared", "dedicated"):
            with self.subTest(mode=mode), \
                    self.clatd(self.lab.slaac, f"clat.address={mode}", "clat.inbound=allow") as daemon:
                self.assertIn(" 0% packet loss", self.lab.slaac.out("ping", "-n", "-c1", "-W5", SERVER))
                goal, source = daemon.status()["ipv6"], self.lab.nat64(SERVER)
                heard, lines, answers = self.knock(daemon, [
                    packets.tcp6(source, goal, 50000, PORT),
                    packets.udp6(source, goal, 50000, PORT, b"knock"),
                    packets.icmp6(source, goal, 128, 0, 0x12340001, b"echo request")])
                seen = "\n".join(self.became_ipv4(lines))
                self.assertRegex(seen, rf"{SERVER}\.50000 > 192\.0\.0\.\d\.{PORT}: Flags \[S\]", lines)
                self.assertRegex(seen, rf"{SERVER}\.50000 > 192\.0\.0\.\d\.{PORT}: UDP", lines)
                self.assertEqual(heard["udp"], [SERVER])
                self.assertRegex(answers, rf"\.{PORT} > {source}\.50000: Flags \[S\.\]")
                self.assertRegex(answers, rf"\.{PORT} > {source}\.50000: UDP")
                self.assertIn("ICMP6, echo reply", answers)
                if mode == "dedicated":
                    self.assertIn("ICMP echo request", seen)

    def test_spoofed_sources(self):
        """inbound = "allow": the NAT64 cannot speak for private, loopback, multicast or our own IPv4 addresses"""
        for mode in ("shared", "dedicated"):
            with self.subTest(mode=mode), \
                    self.clatd(self.lab.slaac, f"clat.address={mode}", "clat.inbound=allow") as daemon:
                status, sent = daemon.status(), []
                for spoofed in ("10.0.0.1", "10.77.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1",
                                "224.0.0.1", "240.0.0.1", "255.255.255.255", "0.0.0.0", status["ipv4"]):
                    source = self.lab.nat64(spoofed)
                    sent += [packets.tcp6(source, status["ipv6"], 2049, PORT),
                             packets.udp6(source, status["ipv6"], 2049, PORT, b"spoof"),
                             packets.icmp6(source, status["ipv6"], 128, 0, 0x12340001, b"spoof")]
                heard, lines, _ = self.knock(daemon, sent)
                self.assertEqual((heard, self.became_ipv4(lines)), ({"tcp": [], "udp": []}, []))

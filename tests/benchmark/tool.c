// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The measuring program of tests/bench: a server for the far end and one client per metric.
 *
 *   tool serve                                    everything below, IPv6 and IPv4, until killed; prints "ready"
 *   tool tcp-up|tcp-down ADDRESS STREAMS SECONDS  -> bytes per second, at the receiver
 *   tool udp ADDRESS SIZE SECONDS                 -> datagrams per second that arrived
 *   tool udp-gso ADDRESS SEGMENT SECONDS          -> bytes per second that arrived
 *   tool rtt ADDRESS SECONDS                      -> median, 99th percentile in nanoseconds
 *   tool connect ADDRESS SECONDS                  -> connections per second, each with a byte there and back
 *   tool first ADDRESS SECONDS COMMAND...         -> nanoseconds from fork() to the first echoed datagram; ends COMMAND
 *
 * Bulk senders run on CPU 0 and receivers on CPU 1; round trips and connections have client and server on CPU 0, so
 * that waking an idle CPU (tens of microseconds in a virtual machine) is not what is measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

enum { PORT_BULK = 7001, PORT_ECHO, PORT_SINK, PORT_COUNT, PORT_CONNECT, PORT_GRO };
#define CHUNK (128 << 10)

struct totals {
	uint64_t bulk_bytes, packets, gro_bytes;
};
static _Atomic uint64_t bulk_bytes, sink_packets, gro_bytes;

static void die(const char *what)
{
	fprintf(stderr, "tool: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Best effort: on a machine with one CPU everything shares it. */
static void pin(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu % sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void option(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		die("setsockopt");
}

static int make_server(int type, int port)
{
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (type == SOCK_DGRAM)
		option(fd, SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20);
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	if (bind(fd, (void *)&at, sizeof(at)) || (type == SOCK_STREAM && listen(fd, 1024)))
		die("bind or listen");
	return fd;
}

static int connect_to(const char *address, int type, int port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool is_six = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;
	if (!is_six && inet_pton(AF_INET, address, &four.sin_addr) != 1) {
		fprintf(stderr, "tool: %s is not an address\n", address);
		exit(2);
	}
	int fd = socket(is_six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	if (is_six ? connect(fd, (void *)&six, sizeof(six)) : connect(fd, (void *)&four, sizeof(four))) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static void must_connect(int fd)
{
	if (fd < 0)
		die("connect");
}

/* --- server --------------------------------------------------------------- */
static void *bulk_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	static char buffer[CHUNK];
	char mode;
	if (recv(fd, &mode, 1, 0) == 1) {
		ssize_t n;
		pin(mode == 'u' ? 1 : 0);
		if (mode == 'u')
			while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
				bulk_bytes += n;
		else
			while (send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) > 0)
				;
	}
	close(fd);
	return NULL;
}

static void start(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, arg))
		die("pthread_create");
	pthread_detach(thread);
}

static void *bulk_server(void *arg)
{
	int fd = (int)(intptr_t)arg;
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		if (peer >= 0)
			start(bulk_connection, (void *)(intptr_t)peer);
	}
	return NULL;
}

static void *echo_server(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char buffer[2048];
	pin(0);
	for (;;) {
		struct sockaddr_in6 from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, buffer, sizeof(buffer), 0, (void *)&from, &len);
		if (n >= 0)
			sendto(fd, buffer, n, 0, (void *)&from, len);
	}
	return NULL;
}

static void *sink_server(void *arg)
{
	int fd = (int)(intptr_t)arg;
	enum { BATCH = 64 };
	static char buffers[BATCH][2048];
	struct iovec iov[BATCH];
	struct mmsghdr messages[BATCH] = {};
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ buffers[i], sizeof(buffers[i]) };
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	pin(1);
	for (;;) {
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (n > 0)
			sink_packets += n;
	}
	return NULL;
}

static void *gro_server(void *arg)
{
	int fd = (int)(intptr_t)arg;
	static char buffer[65536];
	option(fd, SOL_UDP, UDP_GRO, 1);
	pin(1);
	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
		if (n > 0)
			gro_bytes += n;
	}
	return NULL;
}

static void *connect_server(void *arg)
{
	int fd = (int)(intptr_t)arg;
	pin(0);
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		char byte;
		if (peer < 0)
			continue;
		if (recv(peer, &byte, 1, 0) == 1)
			send(peer, &byte, 1, MSG_NOSIGNAL);
		/* Until the client has closed, so that no side keeps a port in TIME-WAIT. */
		recv(peer, &byte, 1, 0);
		close(peer);
	}
	return NULL;
}

static int serve(void)
{
	start(bulk_server, (void *)(intptr_t)make_server(SOCK_STREAM, PORT_BULK));
	start(echo_server, (void *)(intptr_t)make_server(SOCK_DGRAM, PORT_ECHO));
	start(sink_server, (void *)(intptr_t)make_server(SOCK_DGRAM, PORT_SINK));
	start(gro_server, (void *)(intptr_t)make_server(SOCK_DGRAM, PORT_GRO));
	start(connect_server, (void *)(intptr_t)make_server(SOCK_STREAM, PORT_CONNECT));
	int fd = make_server(SOCK_STREAM, PORT_COUNT);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		char byte;
		if (peer < 0)
			continue;
		while (recv(peer, &byte, 1, 0) == 1) {
			struct totals totals = { bulk_bytes, sink_packets, gro_bytes };
			send(peer, &totals, sizeof(totals), MSG_NOSIGNAL);
		}
		close(peer);
	}
	return 0;
}

/* --- clients -------------------------------------------------------------- */
static struct totals ask(int fd)
{
	struct totals totals;
	if (send(fd, "?", 1, 0) != 1 || recv(fd, &totals, sizeof(totals), MSG_WAITALL) != sizeof(totals))
		die("asking the server for its counters");
	return totals;
}

static atomic_bool stop;
static _Atomic uint64_t received;

static void *bulk_stream(void *arg)
{
	static char buffer[CHUNK];
	int fd = (int)(intptr_t)arg & 0xffff;
	bool up = (intptr_t)arg >> 16;
	ssize_t n;
	pin(up ? 0 : 1);
	if (send(fd, up ? "u" : "d", 1, 0) != 1)
		die("send");
	if (up)
		while (!stop && send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) > 0)
			;
	else
		while (!stop && (n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
			received += n;
	return NULL;
}

static int bulk(const char *address, bool up, int streams, double seconds)
{
	int counters = connect_to(address, SOCK_STREAM, PORT_COUNT);
	must_connect(counters);
	for (int i = 0; i < streams; i++) {
		int fd = connect_to(address, SOCK_STREAM, PORT_BULK);
		must_connect(fd);
		start(bulk_stream, (void *)((intptr_t)fd | (intptr_t)up << 16));
	}
	usleep(200000); /* the windows open */
	puts("measuring");
	fflush(stdout);
	uint64_t bytes = up ? ask(counters).bulk_bytes : received, began = now_ns();
	usleep(seconds * 1e6);
	bytes = (up ? ask(counters).bulk_bytes : received) - bytes;
	printf("%.0f %llu\n", bytes * 1e9 / (now_ns() - began), (unsigned long long)bytes);
	return 0;
}

static int flood(const char *address, int size, double seconds, bool gso)
{
	static char buffer[65536];
	int counters = connect_to(address, SOCK_STREAM, PORT_COUNT);
	int fd = connect_to(address, SOCK_DGRAM, gso ? PORT_GRO : PORT_SINK);
	must_connect(counters);
	must_connect(fd);
	pin(0);
	if (gso)
		option(fd, SOL_UDP, UDP_SEGMENT, size);
	int len = gso ? size * (60000 / size) : size;
	struct totals before = ask(counters);
	uint64_t began = now_ns(), end = began + seconds * 1e9, sent = 0;
	while ((sent & 31) || now_ns() < end) {
		if (send(fd, buffer, len, 0) != len && errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED)
			die("send");
		sent++;
	}
	double took = (now_ns() - began) / 1e9;
	usleep(100000); /* what is still on its way */
	struct totals after = ask(counters);
	printf("%.0f\n", (gso ? after.gro_bytes - before.gro_bytes : after.packets - before.packets) / took);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static int round_trips(const char *address, double seconds)
{
	enum { MOST = 1 << 20 };
	static uint32_t times[MOST];
	int fd = connect_to(address, SOCK_DGRAM, PORT_ECHO), n = 0, lost = 0;
	char buffer[64] = {};
	must_connect(fd);
	struct timeval patience = { .tv_usec = 200000 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	pin(0);
	uint64_t end = now_ns() + seconds * 1e9, sent;
	while ((sent = now_ns()) < end && n < MOST && lost < 10) {
		if (send(fd, buffer, sizeof(buffer), 0) < 0 || recv(fd, buffer, sizeof(buffer), 0) < 0)
			lost++;
		else
			times[n++] = now_ns() - sent;
	}
	if (n < 10) {
		fputs("tool: hardly any datagram is echoed\n", stderr);
		return 1;
	}
	qsort(times, n, sizeof(*times), by_value);
	printf("%u %u\n", times[n / 2], times[(size_t)n * 99 / 100]);
	return 0;
}

static int connections(const char *address, double seconds)
{
	pin(0);
	uint64_t began = now_ns(), end = began + seconds * 1e9, n = 0;
	struct linger reset = { .l_onoff = 1 };
	while (now_ns() < end) {
		char byte = 'x';
		int fd = connect_to(address, SOCK_STREAM, PORT_CONNECT);
		must_connect(fd);
		if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
			die("a byte there and back");
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		n++;
	}
	printf("%.0f\n", n * 1e9 / (now_ns() - began));
	return 0;
}

static int first_reply(const char *address, double seconds, char **command)
{
	uint64_t began = now_ns(), end = began + seconds * 1e9, reply = 0;
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		dup2(2, 1);
		execvp(command[0], command);
		die(command[0]);
	}
	int fd = -1;
	while (!reply && now_ns() < end) {
		char byte = 'x';
		if (fd < 0)
			fd = connect_to(address, SOCK_DGRAM, PORT_ECHO);
		/* A source address chosen before the daemon's would stay: begin anew each time. */
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		if (fd >= 0 && send(fd, &byte, 1, 0) == 1 && poll(&wait, 1, 1) == 1 && recv(fd, &byte, 1, 0) == 1)
			reply = now_ns();
		else
			usleep(200);
		if (fd >= 0 && !reply) {
			close(fd);
			fd = -1;
		}
	}
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	if (!reply) {
		fputs("tool: no reply in time\n", stderr);
		return 1;
	}
	printf("%llu\n", (unsigned long long)(reply - began));
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "serve"))
		return serve();
	if (argc == 5 && (!strcmp(what, "tcp-up") || !strcmp(what, "tcp-down")))
		return bulk(argv[2], !strcmp(what, "tcp-up"), atoi(argv[3]), atof(argv[4]));
	if (argc == 5 && (!strcmp(what, "udp") || !strcmp(what, "udp-gso")))
		return flood(argv[2], atoi(argv[3]), atof(argv[4]), !strcmp(what, "udp-gso"));
	if (argc == 4 && !strcmp(what, "rtt"))
		return round_trips(argv[2], atof(argv[3]));
	if (argc == 4 && !strcmp(what, "connect"))
		return connections(argv[2], atof(argv[3]));
	if (argc > 4 && !strcmp(what, "first"))
		return first_reply(argv[2], atof(argv[3]), argv + 4);
	fputs("tool: see the top of tests/benchmark/tool.c\n", stderr);
	return 2;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * floor OBJECT CLAT UPLINK PREF64 HOST NEXT-HOP CLAT-IPV4
 * Makes the TUN device CLAT, attaches the programs of floor.bpf.c to it and to UPLINK as TCX links, prints "ready" and
 * sleeps: everything goes when it is killed.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* linux/bpf.h of Linux 6.6 and linux/if_tun.h of 6.2; older headers lack them. */
enum { TCX_INGRESS = 46, TCX_EGRESS = 47, TUN_USO = 0x20 | 0x40 };

struct settings {
	unsigned int clat, uplink;
	unsigned int pref64[3], host[4], next_hop[4];
	unsigned int clat_ipv4;
};

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void address(int family, const char *text, void *to, size_t len)
{
	unsigned char all[16];
	if (inet_pton(family, text, all) != 1) {
		fprintf(stderr, "floor: %s is not an address\n", text);
		exit(2);
	}
	memcpy(to, all, len);
}

static void attach(struct bpf_object *object, const char *name, unsigned int ifindex, int where)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, name);
	if (!program || bpf_link_create(bpf_program__fd(program), ifindex, where, NULL) < 0)
		die(name);
}

int main(int argc, char **argv)
{
	if (argc != 8) {
		fputs("floor: see the top of tests/benchmark/floor.c\n", stderr);
		return 2;
	}
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", argv[2]);
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tun < 0 || ioctl(tun, TUNSETIFF, &request))
		die("/dev/net/tun");
	/* As clatd does it: super-packets and partial checksums. Kernels before 6.2 have no UDP segmentation here. */
	unsigned long offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	if (ioctl(tun, TUNSETOFFLOAD, offloads | TUN_USO) && ioctl(tun, TUNSETOFFLOAD, offloads))
		die("TUNSETOFFLOAD");

	struct settings settings = { .clat = if_nametoindex(argv[2]), .uplink = if_nametoindex(argv[3]) };
	address(AF_INET6, argv[4], settings.pref64, sizeof(settings.pref64));
	address(AF_INET6, argv[5], settings.host, sizeof(settings.host));
	address(AF_INET6, argv[6], settings.next_hop, sizeof(settings.next_hop));
	address(AF_INET, argv[7], &settings.clat_ipv4, sizeof(settings.clat_ipv4));
	if (!settings.uplink)
		die(argv[3]);

	struct bpf_object *object = bpf_object__open(argv[1]);
	struct bpf_map *map = object ? bpf_object__find_map_by_name(object, ".rodata") : NULL;
	if (!map || bpf_map__set_initial_value(map, &settings, sizeof(settings)) || bpf_object__load(object))
		die(argv[1]);
	attach(object, "floor_in", settings.uplink, TCX_INGRESS);
	attach(object, "floor_out", settings.clat, TCX_EGRESS);
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

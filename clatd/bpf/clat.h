/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Configuration, counters and address arithmetic. The structures are mirrored in src/datapath/bpf/layout.rs. */
#pragma once
#include "kernel.h"

/* --- configuration ------------------------------------------------------ */
enum {
	FLAG_SHARED = 1 << 0,        /* the CLAT's IPv6 address is also the host's own */
	FLAG_PRIVATE_IPV4 = 1 << 1,  /* the NAT64 serves RFC 1918 and the like */
	FLAG_WELL_KNOWN = 1 << 2,    /* 64:ff9b::/96, RFC 6052 section 3.1 */
	FLAG_COPY_CLASS = 1 << 3,    /* carry the traffic class over */
	FLAG_INBOUND = 1 << 4,       /* translate what the host did not ask for, too */
	FLAG_NEXT_HOP = 1 << 5,      /* next_hop is valid; else the kernel looks the route up */
	FLAG_OPTIMISTIC = 1 << 6,    /* the CLAT's own IPv6 address is in use, but still being checked (RFC 4429) */
};

struct config {
	u32 pref64[4]; /* addresses in network byte order throughout */
	u32 pref64_mask[4];
	u32 clat_ipv6[4];
	u32 next_hop[4];
	u32 clat_ipv4;
	u32 pref64_len;
	u32 clat_ifindex;
	u32 uplink_ifindex;
	u32 flags;
	u32 ipv6_mtu;        /* of the uplink */
	u32 lowest_ipv6_mtu; /* RFC 7915 section 4 */
	u8 mac[6];           /* of the uplink, for neighbour advertisements */
	u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct config);
} CONFIG SEC(".maps");

/* IPv4 addresses of the host: never accepted as the embedded source of a packet that nobody asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u8);
} OWN_IPV4 SEC(".maps");

static __always_inline const struct config *configuration(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&CONFIG, &zero);
}

/* --- counters ----------------------------------------------------------- */
enum direction { OUT = 0, IN = 1 };
enum class { CLASS_TCP = 0, CLASS_UDP = 1, CLASS_ICMP = 2, CLASS_OTHER = 3 };
enum event {
	EVENT_TRANSLATED = 0,
	EVENT_TO_DAEMON,      /* left to the daemon's translator */
	EVENT_FROM_DAEMON,    /* translated by the daemon, sent by us */
	EVENT_REFUSED_SOURCE, /* dropped: IPv6 source outside the prefix, or refused by policy */
	EVENT_UNSOLICITED,    /* dropped: no record of an outbound flow */
	EVENT_NOT_CLAT,       /* dropped: IPv6 on the CLAT's device that is not ours */
	EVENT_NO_PORT,        /* dropped: port collision without a way out */
	EVENT_PORT_MAPPED,    /* flows given another port because theirs was taken */
	EVENT_KERNEL_ERROR,   /* dropped: a helper failed (out of memory, mostly) */
	EVENTS,
};
#define COUNTERS (EVENTS * 8)

struct counter {
	u64 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, u32);
	__type(value, struct counter);
} COUNTS SEC(".maps");

static __always_inline enum class class_of(u8 protocol)
{
	return protocol == PROTO_TCP ? CLASS_TCP
	     : protocol == PROTO_UDP ? CLASS_UDP
	     : protocol == PROTO_ICMP || protocol == PROTO_ICMPV6 ? CLASS_ICMP : CLASS_OTHER;
}

/* A super-packet counts as the segments it stands for. */
static __always_inline void count(struct __sk_buff *skb, enum event event, enum direction direction, u8 protocol,
				  u32 l2)
{
	u32 index = event * 8 + direction * 4 + class_of(protocol);
	struct counter *counter = bpf_map_lookup_elem(&COUNTS, &index);
	if (counter) {
		u32 segments = skb->gso_segs;
		counter->packets += segments ? segments : 1;
		counter->bytes += skb->len - l2;
	}
}

static __always_inline int drop(struct __sk_buff *skb, enum event event, enum direction direction, u8 protocol)
{
	count(skb, event, direction, protocol, 0);
	return TC_ACT_SHOT;
}

/* --- packet access ------------------------------------------------------ */
/* Makes the first `len` bytes of the packet readable between *data and *end, pulling them out of fragments only if
 * they are not there already. Constant lengths only: a program without CAP_PERFMON must not do more. */
#define HEADER(skb, data, end, need, otherwise)                                          \
	do {                                                                            \
		data = (void *)(long)(skb)->data;                                       \
		end = (void *)(long)(skb)->data_end;                                    \
		if (unlikely(data + (need) > end)) {                                     \
			if ((skb)->len < (need) || bpf_skb_pull_data(skb, need))          \
				otherwise;                                              \
			data = (void *)(long)(skb)->data;                               \
			end = (void *)(long)(skb)->data_end;                            \
			if (data + (need) > end)                                         \
				otherwise;                                              \
		}                                                                       \
	} while (0)

/* --- addresses ---------------------------------------------------------- */
static __always_inline bool same_address(const u32 *a, const u32 *b)
{
	return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) == 0;
}

static __always_inline void copy_address(u32 *to, const u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

/* Under the prefix, and the "u" octet (bits 64 to 71) zero: RFC 6052 section 2.2. */
static __always_inline bool under_pref64(const struct config *config, const u32 *address)
{
	u32 difference = ((address[0] ^ config->pref64[0]) & config->pref64_mask[0]) |
			 ((address[1] ^ config->pref64[1]) & config->pref64_mask[1]) |
			 ((address[2] ^ config->pref64[2]) & config->pref64_mask[2]);
	return (difference | (address[2] & be32(0xff000000))) == 0;
}

/* RFC 6052 section 2.2. Below /96 the four octets follow the prefix and step over octet 8: with the address as two
 * 64-bit halves, the upper takes what fits and the lower the rest, 56 bits of it. */
#define U_OCTET_FREE 0x00ffffffffffffffULL

static __always_inline void embed(const struct config *config, u32 ipv4, u32 *address)
{
	copy_address(address, config->pref64);
	u32 len = config->pref64_len;
	if (likely(len == 96)) {
		address[3] = ipv4;
		return;
	}
	u64 bits = be32(ipv4);
	u64 lower = (bits << ((88 - len) & 63)) & U_OCTET_FREE;
	address[1] |= be32((u32)(bits >> ((len - 32) & 63)));
	address[2] = be32((u32)(lower >> 32));
	address[3] = be32((u32)lower);
}

static __always_inline u32 extract(const struct config *config, const u32 *address)
{
	u32 len = config->pref64_len;
	if (likely(len == 96))
		return address[3];
	u64 lower = ((u64)be32(address[2]) << 32 | be32(address[3])) & U_OCTET_FREE;
	u64 upper = be32(address[1]);
	return be32((u32)(upper << ((len - 32) & 63) | lower >> ((88 - len) & 63)));
}

/* The policy of xlat::is_translatable; see there for the reasons. */
static __always_inline bool is_translatable(const struct config *config, u32 ipv4)
{
	u32 a = be32(ipv4);
	bool well_known = config->flags & FLAG_WELL_KNOWN;
	u32 top = a >> 24;
	if (top == 0 || top == 127 || top >= 224 || a >> 16 == 0xa9fe) /* 169.254/16 */
		return false;
	if (a >= 0xc0000000 && a <= 0xc0000008) /* 192.0.0.0 to .8: the CLAT's own */
		return false;
	if (top == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 || a >> 22 == 0x191 || a >> 17 == 0x6309 ||
	    a >> 8 == 0xc00000) /* RFC 1918, 100.64/10, 198.18/15, 192.0.0/24 */
		return (config->flags & FLAG_PRIVATE_IPV4) && !well_known;
	if (a >> 8 == 0xc00002 || a >> 8 == 0xc63364 || a >> 8 == 0xcb0071 || a >> 8 == 0xc05863)
		return !well_known; /* documentation, 6to4 relays */
	return true;
}

/* --- checksums ---------------------------------------------------------- */
/* One's complement sums of 32-bit words as they lie in memory: their order does not matter (RFC 1071). */
static __always_inline u32 fold32(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (u32)sum;
}

static __always_inline u16 fold16(u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}

static __always_inline u64 address_sum(const u32 *address)
{
	return (u64)address[0] + address[1] + address[2] + address[3];
}

/* `new` minus `old`, both sums of 32-bit words. */
static __always_inline u32 difference(u64 new, u64 old)
{
	return fold32((u64)fold32(new) + (u32)~fold32(old));
}

static __always_inline bool is_zero_sum(u32 sum)
{
	u16 folded = fold16(sum);
	return folded == 0 || folded == 0xffff;
}

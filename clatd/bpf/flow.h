/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Flow records: who owns (protocol, local port, remote address, remote port) of the CLAT's IPv6 address?
 *
 * When the CLAT shares the host's own address, a native IPv6 socket and an IPv4 socket may both talk to the same
 * server behind the NAT64, and may pick the same port: on the wire the two would be one. So whoever comes first owns
 * the port as it is, and whoever comes second gets another one, as at any NAPT (RFC 4787 section 4.2.1: "paired"
 * cannot be kept then, parity is). Both are translated back from the record, so neither notices:
 *
 *     FLOWS   (protocol, port on the wire, remote)        -> owner, port inside, state, time of the last packet
 *     MAPPED  (protocol, port inside, remote, owner)      -> port on the wire     only where the two differ
 *
 * The CLAT finds native TCP and connected UDP sockets by socket look-up when it makes a record; native UDP and ping
 * have records of their own, made on the uplink's egress.
 *
 * With an address of its own the CLAT needs the same records for another reason: what nobody asked for does not get
 * in. A record that is older than its timeout is as good as none.
 */
#pragma once
#include "clat.h"

enum owner { OWNER_CLAT = 1, OWNER_NATIVE = 2 };

struct flow_key {
	u32 remote[4];
	u16 remote_port; /* 0 for ICMP and protocols without ports */
	u16 local_port;  /* the identifier of an ICMP echo */
	u8 protocol;     /* PROTO_ICMPV6 for ICMP, on either side */
	u8 owner;        /* 0 in FLOWS */
	u16 pad;
};

struct flow {
	u64 seen_ns; /* CLOCK_MONOTONIC, coarse */
	u16 port;    /* inside */
	u8 owner;
	u8 state;    /* TCP */
	u32 timeout; /* in seconds, follows from protocol and state */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct flow_key);
	__type(value, struct flow);
} FLOWS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow_key);
	__type(value, u16);
} MAPPED SEC(".maps");

/* How many native flows have ever been given another port: while it is zero, native TCP need not be looked up. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} NATIVE_MAPPED SEC(".maps");

/* Later fragments carry no port; they follow the first one, in either direction. */
struct fragment_key {
	u32 remote[4];
	u32 identification;
	u32 direction;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, u64);
} FRAGMENTS SEC(".maps");

#define SECOND_NS 1000000000ULL

/* RFC 8200 section 4.5: a datagram that is not whole after 60 s never will be. */
#define FRAGMENT_TIMEOUT_NS (60 * SECOND_NS)

/* --- time --------------------------------------------------------------- */
/* In seconds. */
#define TCP_ESTABLISHED_TIMEOUT 9000 /* RFC 5382 REQ-5: at least 2 h 4 min */
#define TCP_TRANSITORY_TIMEOUT 300   /* RFC 5382 REQ-5: at least 4 min */
#define UDP_TIMEOUT 300              /* RFC 4787 REQ-5: at least 2 min, 5 recommended */
#define ICMP_TIMEOUT 60              /* RFC 5508 REQ-1: at least 60 s */
#define OTHER_TIMEOUT 1800           /* ESP, SCTP: their keep-alives are slow */

enum {
	STATE_ESTABLISHED = 1 << 0,
	STATE_FIN_OUT = 1 << 1,
	STATE_FIN_IN = 1 << 2,
	STATE_RESET = 1 << 3,
};

static __always_inline u32 timeout_of(u8 protocol, u8 state)
{
	if (protocol == PROTO_TCP) {
		bool closed = (state & STATE_RESET) || (state & (STATE_FIN_OUT | STATE_FIN_IN)) ==
							       (STATE_FIN_OUT | STATE_FIN_IN);
		return (state & STATE_ESTABLISHED) && !closed ? TCP_ESTABLISHED_TIMEOUT : TCP_TRANSITORY_TIMEOUT;
	}
	return protocol == PROTO_UDP ? UDP_TIMEOUT : protocol == PROTO_ICMPV6 ? ICMP_TIMEOUT : OTHER_TIMEOUT;
}

/* Whether `seen` is more than `limit` before `now`. Not if it is after it: another CPU may write a later time than the
 * one that was read here a moment ago, and a record in use must not look expired then. */
static __always_inline bool is_older(u64 now, u64 seen, u64 limit)
{
	return (s64)(now - seen) > (s64)limit;
}

static __always_inline struct flow *find_flow(const struct flow_key *key, u64 now)
{
	struct flow *flow = bpf_map_lookup_elem(&FLOWS, key);
	if (!flow || is_older(now, flow->seen_ns, flow->timeout * SECOND_NS))
		return NULL;
	return flow;
}

/* Writes only what has changed: the record may be in another CPU's cache. */
static __always_inline void touch(struct flow *flow, u64 now, enum direction direction, u8 tcp_flags)
{
	if (is_older(now, flow->seen_ns, SECOND_NS / 4))
		flow->seen_ns = now;
	u8 state = flow->state;
	if (unlikely(tcp_flags & TCP_SYN))
		state = 0;
	else if (direction == OUT && (tcp_flags & TCP_ACK))
		state |= STATE_ESTABLISHED;
	if (unlikely(tcp_flags & TCP_FIN))
		state |= direction == OUT ? STATE_FIN_OUT : STATE_FIN_IN;
	if (unlikely(tcp_flags & TCP_RST))
		state |= STATE_RESET;
	if (state != flow->state) {
		flow->state = state;
		flow->timeout = timeout_of(PROTO_TCP, state); /* others have no flags */
	}
}

/* --- ports -------------------------------------------------------------- */
/* Whether a native socket talks to exactly this remote port from this local port. */
static __always_inline bool native_socket(struct __sk_buff *skb, const struct config *config,
					  const struct flow_key *key)
{
	struct bpf_sock_tuple6 tuple = {};
	copy_address(tuple.saddr, key->remote); /* as an incoming packet would have it */
	copy_address(tuple.daddr, config->clat_ipv6);
	tuple.sport = key->remote_port;
	tuple.dport = key->local_port;
	struct bpf_sock *sock = NULL;
	bool found = false;
	if (key->protocol == PROTO_TCP) {
		sock = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
		if (sock) {
			found = sock->state != TCP_LISTEN;
			bpf_sk_release(sock);
		}
	} else if (key->protocol == PROTO_UDP) {
		sock = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
		if (sock) {
			found = sock->family == AF_INET6 && sock->dst_port == key->remote_port &&
				sock->dst_ip6[0] == key->remote[0] && sock->dst_ip6[1] == key->remote[1] &&
				sock->dst_ip6[2] == key->remote[2] && sock->dst_ip6[3] == key->remote[3];
			bpf_sk_release(sock);
		}
	}
	return found;
}

/* Whether any native socket would take an incoming packet of this flow, listeners included. */
static __always_inline bool native_taker(struct __sk_buff *skb, const struct config *config,
					 const struct flow_key *key)
{
	struct bpf_sock_tuple6 tuple = {};
	copy_address(tuple.saddr, key->remote);
	copy_address(tuple.daddr, config->clat_ipv6);
	tuple.sport = key->remote_port;
	tuple.dport = key->local_port;
	struct bpf_sock *sock;
	if (key->protocol == PROTO_TCP)
		sock = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	else if (key->protocol == PROTO_UDP)
		sock = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	else
		return true;
	if (!sock)
		return false;
	bpf_sk_release(sock);
	return true;
}

/*
 * The two functions that follow run once per flow. They are global ones: the verifier sees each once, and not with
 * every state of every caller, which loads a hundred milliseconds faster.
 */

/* Makes the record if nobody has key->local_port. Returns 0, 1 if it is taken, or -1. `with`: port inside, owner, state. */
__noinline int claim_port(struct __sk_buff *skb, struct flow_key *key, u32 with)
{
	const struct config *config = configuration();
	if (!config || !key)
		return -1;
	struct flow_key outer = *key;
	u8 owner = with >> 16, state = with >> 24;
	struct flow flow = {
		.seen_ns = bpf_ktime_get_coarse_ns(),
		.port = (u16)with,
		.owner = owner,
		.state = state,
		.timeout = timeout_of(outer.protocol, state),
	};
	bool mapped = flow.port != outer.local_port;
	struct flow *taken = find_flow(&outer, flow.seen_ns);
	if (taken && (mapped || taken->owner != owner || taken->port != flow.port))
		return 1;
	/* A native flow has its own socket. */
	if ((config->flags & FLAG_SHARED) && (mapped || owner == OWNER_CLAT) && native_socket(skb, config, &outer))
		return 1;
	if (bpf_map_update_elem(&FLOWS, &outer, &flow, BPF_ANY))
		return -1;
	if (mapped) {
		u16 outside = outer.local_port;
		outer.local_port = flow.port;
		outer.owner = owner;
		if (bpf_map_update_elem(&MAPPED, &outer, &outside, BPF_ANY))
			return -1;
	}
	return 0;
}

#define PORT_ATTEMPTS 12

/*
 * Makes the record for the first packet of a flow and writes the port on the wire to key->local_port. Returns 0, 1 if
 * that is another port than the socket's, or -1 if there is none to be had.
 */
__noinline int new_flow(struct __sk_buff *skb, struct flow_key *key, u32 owner_and_tcp_flags)
{
	if (!key)
		return -1;
	u16 inside = key->local_port;
	u8 protocol = key->protocol, tcp_flags = owner_and_tcp_flags >> 8;
	u32 with = inside | (owner_and_tcp_flags & 0xff) << 16;
	/* Taken up in the middle: the record was lost. */
	if ((tcp_flags & (TCP_ACK | TCP_SYN)) == TCP_ACK)
		with |= (u32)STATE_ESTABLISHED << 24;
	int result = claim_port(skb, key, with);
	if (likely(result <= 0))
		return result;
	if (protocol != PROTO_TCP && protocol != PROTO_UDP && protocol != PROTO_ICMPV6)
		return -1;
	/* Unrolled: without CAP_PERFMON the verifier follows a loop beyond its end, as the CPU might, and never returns. */
#pragma clang loop unroll(full)
	for (int attempt = 0; attempt < PORT_ATTEMPTS; attempt++) {
		/* Above the system ports; of the same parity (RFC 4787 REQ-4) while that is not hard to come by: connect()
		 * prefers even ports, on either side. */
		u32 port = 1024 + bpf_get_prandom_u32() % (65536 - 1024);
		if (attempt < PORT_ATTEMPTS / 3)
			port = (port & ~1u) | (be16(inside) & 1);
		key->local_port = be16((u16)port);
		result = claim_port(skb, key, with);
		if (result <= 0)
			return result < 0 ? -1 : key->local_port != inside;
	}
	return -1;
}

/*
 * The port on the wire for an outbound packet, in key->local_port; makes the record if there is none.
 * Returns 0, 1 for a flow just given another port, or -1 if there is no port to be had.
 */
static __always_inline int outbound_flow(struct __sk_buff *skb, const struct config *config, struct flow_key *key,
					 u8 tcp_flags, u64 now)
{
	struct flow *flow = find_flow(key, now);
	if (likely(flow && flow->owner == OWNER_CLAT && flow->port == key->local_port)) {
		touch(flow, now, OUT, tcp_flags);
		return 0;
	}
	if (config->flags & FLAG_SHARED) {
		key->owner = OWNER_CLAT;
		u16 *mapped = bpf_map_lookup_elem(&MAPPED, key);
		key->owner = 0;
		if (mapped) {
			struct flow_key outer = *key;
			outer.local_port = *mapped;
			flow = find_flow(&outer, now);
			if (flow && flow->owner == OWNER_CLAT && flow->port == key->local_port) {
				key->local_port = outer.local_port;
				touch(flow, now, OUT, tcp_flags);
				return 0;
			}
		}
	}
	int result = new_flow(skb, key, OWNER_CLAT | (u32)tcp_flags << 8);
	if (result > 0)
		count(skb, EVENT_PORT_MAPPED, OUT, key->protocol, 0);
	return result;
}

/* Writes another port (or echo identifier) over the one at `offset`; the checksum at `checksum` follows. */
static __always_inline long rewrite_port(struct __sk_buff *skb, u32 offset, u32 checksum, u16 from, u16 to, u8 protocol)
{
	u64 flags = protocol == PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	long error = bpf_l4_csum_replace(skb, checksum, from, to, flags | sizeof(to));
	return error ? error : bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}

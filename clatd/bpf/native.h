/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Native IPv6 towards the NAT64, on the uplink's egress, when the CLAT shares the host's address: keeps records of
 * UDP and ping, and gives a flow another port whose port a CLAT flow to the same destination has already.
 * Other native traffic pays one comparison of its destination with the prefix.
 */
#pragma once
#include "flow.h"
#include "out.h"

static __always_inline int watch_native(struct __sk_buff *skb, const u32 l2)
{
	void *data, *end;
	if (skb->protocol != be16(ETH_P_IPV6) || skb->tc_index == CLAT_TC_INDEX)
		return TC_ACT_UNSPEC;
	const struct config *config = configuration();
	if (!config)
		return TC_ACT_UNSPEC;
	HEADER(skb, data, end, l2 + IPV6_HLEN, return TC_ACT_UNSPEC);
	const struct ipv6 *ip6 = data + l2;
	if (likely(!under_pref64(config, ip6->destination)) || !same_address(ip6->source, config->clat_ipv6))
		return TC_ACT_UNSPEC;
	struct flow_key key = { .protocol = ip6->next_header };
	copy_address(key.remote, ip6->destination);
	u32 port = 0, checksum;
	u8 tcp_flags = 0;
	if (key.protocol == PROTO_TCP) {
		HEADER(skb, data, end, l2 + IPV6_HLEN + 14, return TC_ACT_UNSPEC);
		const u16 *head = data + l2 + IPV6_HLEN;
		key.local_port = head[0];
		key.remote_port = head[1];
		tcp_flags = ((const u8 *)head)[13];
		checksum = 16;
		if (!(tcp_flags & TCP_SYN)) {
			u32 zero = 0;
			u64 *mapped = bpf_map_lookup_elem(&NATIVE_MAPPED, &zero);
			if (likely(!mapped || !*mapped))
				return TC_ACT_UNSPEC;
		}
	} else if (key.protocol == PROTO_UDP || key.protocol == PROTO_ICMPV6) {
		HEADER(skb, data, end, l2 + IPV6_HLEN + 8, return TC_ACT_UNSPEC);
		const u16 *head = data + l2 + IPV6_HLEN;
		if (key.protocol == PROTO_UDP) {
			key.local_port = head[0];
			key.remote_port = head[1];
			checksum = 6;
		} else {
			if (be16(head[0]) >> 8 != ICMPV6_ECHO_REQUEST)
				return TC_ACT_UNSPEC;
			key.local_port = head[2];
			port = 4;
			checksum = 2;
		}
	} else {
		return TC_ACT_UNSPEC;
	}

	u64 now = bpf_ktime_get_coarse_ns();
	u16 inside = key.local_port;
	struct flow *flow = find_flow(&key, now);
	if (likely(flow && flow->owner == OWNER_NATIVE && flow->port == inside)) {
		touch(flow, now, OUT, tcp_flags);
		return TC_ACT_UNSPEC;
	}
	key.owner = OWNER_NATIVE;
	u16 *mapped = bpf_map_lookup_elem(&MAPPED, &key);
	key.owner = 0;
	if (mapped) {
		struct flow_key outer = key;
		outer.local_port = *mapped;
		struct flow *other = find_flow(&outer, now);
		if (other && other->owner == OWNER_NATIVE && other->port == inside) {
			touch(other, now, OUT, tcp_flags);
			key.local_port = outer.local_port;
			goto rewrite;
		}
	}
	if (key.protocol == PROTO_TCP && (!(tcp_flags & TCP_SYN) || !flow))
		return TC_ACT_UNSPEC; /* socket look-up knows native TCP */
	int result = new_flow(skb, &key, OWNER_NATIVE | (u32)tcp_flags << 8);
	if (result < 0)
		return drop(skb, EVENT_NO_PORT, OUT, key.protocol);
	if (result == 0)
		return TC_ACT_UNSPEC;
	count(skb, EVENT_PORT_MAPPED, OUT, key.protocol, l2);
	u32 zero = 0;
	u64 *total = bpf_map_lookup_elem(&NATIVE_MAPPED, &zero);
	if (total)
		__sync_fetch_and_add(total, 1);
rewrite:
	if (rewrite_port(skb, l2 + IPV6_HLEN + port, l2 + IPV6_HLEN + checksum, inside, key.local_port, key.protocol))
		return drop(skb, EVENT_KERNEL_ERROR, OUT, key.protocol);
	return TC_ACT_UNSPEC;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* What the daemon has written to the CLAT's device: IPv4 goes up the stack, IPv6 to the uplink, with its record. */
#pragma once
#include "flow.h"
#include "out.h"

static __always_inline int forward_from_daemon(struct __sk_buff *skb, const bool ethernet)
{
	const struct config *config = configuration();
	if (skb->protocol != be16(ETH_P_IPV6) || !config)
		return TC_ACT_UNSPEC;
	struct ipv6 ip6;
	if (bpf_skb_load_bytes(skb, 0, &ip6, sizeof(ip6)) || !same_address(ip6.source, config->clat_ipv6))
		return drop(skb, EVENT_NOT_CLAT, OUT, 0);

	u64 now = bpf_ktime_get_coarse_ns();
	u8 protocol = ip6.next_header;
	u32 l4 = IPV6_HLEN;
	bool has_ports = true;
	if (protocol == PROTO_FRAGMENT) {
		struct {
			u8 next_header, reserved;
			u16 offset_more;
			u32 identification;
		} fragment;
		if (bpf_skb_load_bytes(skb, IPV6_HLEN, &fragment, sizeof(fragment)))
			return drop(skb, EVENT_NOT_CLAT, OUT, 0);
		struct fragment_key id = { .identification = fragment.identification, .direction = OUT };
		copy_address(id.remote, ip6.destination);
		bpf_map_update_elem(&FRAGMENTS, &id, &now, BPF_ANY);
		protocol = fragment.next_header;
		l4 += sizeof(fragment);
		has_ports = !(fragment.offset_more & be16(0xfff8));
	}

	struct flow_key key = { .protocol = protocol };
	copy_address(key.remote, ip6.destination);
	u16 head[8] = {};
	u32 port = 0, checksum = 0;
	u8 tcp_flags = 0;
	bool track = under_pref64(config, ip6.destination);
	if (!has_ports) {
		track = false;
	} else if (protocol == PROTO_TCP) {
		if (bpf_skb_load_bytes(skb, l4, head, 14))
			return drop(skb, EVENT_NOT_CLAT, OUT, protocol);
		key.local_port = head[0];
		key.remote_port = head[1];
		tcp_flags = be16(head[6]) & 0xff;
		checksum = 16;
	} else if (protocol == PROTO_UDP) {
		if (bpf_skb_load_bytes(skb, l4, head, 8))
			return drop(skb, EVENT_NOT_CLAT, OUT, protocol);
		key.local_port = head[0];
		key.remote_port = head[1];
		checksum = 6;
	} else if (protocol == PROTO_ICMPV6) {
		if (bpf_skb_load_bytes(skb, l4, head, 8))
			return drop(skb, EVENT_NOT_CLAT, OUT, protocol);
		key.local_port = head[2];
		port = 4;
		checksum = 2;
		track = track && be16(head[0]) >> 8 == ICMPV6_ECHO_REQUEST;
	}
	if (track) {
		u16 inside = key.local_port;
		if (outbound_flow(skb, config, &key, tcp_flags, now) < 0)
			return drop(skb, EVENT_NO_PORT, OUT, protocol);
		if (unlikely(key.local_port != inside) && checksum &&
		    rewrite_port(skb, l4 + port, l4 + checksum, inside, key.local_port, protocol))
			return drop(skb, EVENT_KERNEL_ERROR, OUT, protocol);
	}
	count(skb, EVENT_FROM_DAEMON, OUT, protocol, 0);
	if (ethernet && bpf_skb_change_head(skb, ETH_HLEN, 0))
		return drop(skb, EVENT_KERNEL_ERROR, OUT, protocol);
	skb->tc_index = CLAT_TC_INDEX;
	return to_uplink(config, ethernet);
}

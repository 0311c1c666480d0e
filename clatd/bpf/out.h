/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* IPv4 to IPv6, on the egress of the CLAT's device (RFC 7915 section 4). */
#pragma once
#include "flow.h"

/* Marks what the CLAT has sent, so that the uplink's egress knows it from native traffic. Never leaves the host. */
#define CLAT_TC_INDEX 0x6434

/* Hands the packet, an IPv6 packet without link-layer header, to the uplink. */
static __always_inline int to_uplink(const struct config *config, bool ethernet)
{
	if (ethernet) {
		if (likely(config->flags & FLAG_NEXT_HOP)) {
			struct bpf_redir_neigh hop = { .nh_family = AF_INET6 };
			copy_address(hop.ipv6_nh, config->next_hop);
			return bpf_redirect_neigh(config->uplink_ifindex, &hop, sizeof(hop), 0);
		}
		return bpf_redirect_neigh(config->uplink_ifindex, NULL, 0, 0);
	}
	return bpf_redirect(config->uplink_ifindex, 0);
}

/* Whether the segments of this packet fit where they go. */
static __always_inline bool fits(struct __sk_buff *skb, const struct config *config, u32 total_len, u32 l4_len,
				 bool may_fragment)
{
	u32 gso_size = skb->gso_size;
	u32 len = gso_size ? IPV6_HLEN + l4_len + gso_size : total_len + (IPV6_HLEN - IPV4_HLEN);
	return len <= config->ipv6_mtu && (!may_fragment || len <= config->lowest_ipv6_mtu);
}

/* `l2` bytes of Ethernet header come with the packet: 0 on the CLAT's device, 14 in tests that feed the program. */
static __always_inline int translate_out(struct __sk_buff *skb, const u32 l2, const bool ethernet)
{
	const struct config *config = configuration();
	void *data, *end;
	if (!config)
		return TC_ACT_UNSPEC;
	if (skb->protocol != be16(ETH_P_IP)) {
		/* What `in` declined and sent to the daemon; anything else would be a stray (MLD, router solicitations). */
		if (skb->ingress_ifindex == config->uplink_ifindex)
			return TC_ACT_UNSPEC;
		return drop(skb, EVENT_NOT_CLAT, OUT, 0);
	}

	/* Shorter packets with a TCP header cannot be; with UDP or ICMP they can, and are rare. */
	HEADER(skb, data, end, l2 + IPV4_HLEN + 8, goto daemon);
	const struct ipv4 *ip = data + l2;
	u32 total_len = be16(ip->total_len);
	if (ip->version_ihl != 0x45 || (ip->flags_offset & be16(IPV4_FRAGMENT)) || ip->ttl == 0 ||
	    ip->source != config->clat_ipv4 || total_len != skb->len - l2)
		goto daemon;
	const u32 *words = data + l2;
	if (!is_zero_sum(fold32((u64)words[0] + words[1] + words[2] + words[3] + words[4])))
		goto daemon;

	u8 protocol = ip->protocol;
	u32 destination = ip->destination;
	bool may_fragment = !(ip->flags_offset & be16(IPV4_DF));
	struct ipv6 ip6 = {
		.version_class_flow = be32(6u << 28 | (config->flags & FLAG_COPY_CLASS ? (u32)ip->tos << 20 : 0)),
		.payload_len = be16((u16)(total_len - IPV4_HLEN)),
		.next_header = protocol == PROTO_ICMP ? PROTO_ICMPV6 : protocol,
		.hop_limit = ip->ttl,
	};
	struct flow_key key = { .protocol = ip6.next_header };
	const u16 *ports = data + l2 + IPV4_HLEN;
	u16 inside;
	u8 tcp_flags = 0;
	u32 l4_len = 8, checksum;
	bool track = true;
	u8 icmp_type = 0;

	if (protocol == PROTO_TCP) {
		if (total_len < IPV4_HLEN + 20)
			goto daemon;
		HEADER(skb, data, end, l2 + IPV4_HLEN + 20, goto daemon);
		ports = data + l2 + IPV4_HLEN;
		tcp_flags = ((const u8 *)ports)[13];
		l4_len = ((const u8 *)ports)[12] >> 4 << 2;
		if (l4_len < 20)
			goto daemon;
		checksum = 16;
		inside = ports[0];
		key.remote_port = ports[1];
	} else if (protocol == PROTO_UDP) {
		/* A zero checksum must be computed, a wrong length be judged: the daemon does. */
		if (ports[3] == 0 || be16(ports[2]) != total_len - IPV4_HLEN)
			goto daemon;
		checksum = 6;
		inside = ports[0];
		key.remote_port = ports[1];
	} else if (protocol == PROTO_ICMP) {
		icmp_type = ((const u8 *)ports)[0];
		if (skb->gso_size || ((const u8 *)ports)[1] != 0 ||
		    (icmp_type != ICMP_ECHO_REQUEST && icmp_type != ICMP_ECHO_REPLY))
			goto daemon;
		track = icmp_type == ICMP_ECHO_REQUEST;
		checksum = 2;
		inside = ports[2];
	} else {
		goto daemon;
	}
	if (!fits(skb, config, total_len, l4_len, may_fragment))
		goto daemon;

	embed(config, destination, ip6.destination);
	copy_address(ip6.source, config->clat_ipv6);
	copy_address(key.remote, ip6.destination);
	key.local_port = inside;
	u64 now = bpf_ktime_get_coarse_ns();
	if (track) {
		/* Which destinations may be translated is decided once per flow. */
		struct flow *flow = find_flow(&key, now);
		if (likely(flow && flow->owner == OWNER_CLAT && flow->port == inside)) {
			touch(flow, now, OUT, tcp_flags);
		} else {
			if (!is_translatable(config, destination))
				goto daemon;
			if (outbound_flow(skb, config, &key, tcp_flags, now) < 0)
				return drop(skb, EVENT_NO_PORT, OUT, protocol);
		}
	} else if (!is_translatable(config, destination)) {
		goto daemon;
	}
	count(skb, EVENT_TRANSLATED, OUT, protocol, l2);

	/* The addresses in the pseudo-header; ICMP has one in IPv6 only. */
	u64 new = address_sum(ip6.source) + address_sum(ip6.destination), old = 0;
	u64 csum_flags = BPF_F_PSEUDO_HDR;
	if (protocol == PROTO_ICMP) {
		u16 type_code = be16(icmp_type == ICMP_ECHO_REQUEST ? ICMPV6_ECHO_REQUEST << 8 : ICMPV6_ECHO_REPLY << 8);
		new += (u64)be32(total_len - IPV4_HLEN) + be32(PROTO_ICMPV6) + type_code;
		old = be16((u16)(icmp_type << 8));
	} else {
		old = (u64)config->clat_ipv4 + destination;
		if (protocol == PROTO_UDP)
			csum_flags |= BPF_F_MARK_MANGLED_0;
	}
	u32 change = difference(new, old);

	if (bpf_skb_change_proto(skb, be16(ETH_P_IPV6), 0))
		goto failed;
	const u32 l2_out = ethernet ? ETH_HLEN : 0;
	if (l2_out > l2 && bpf_skb_change_head(skb, ETH_HLEN, 0))
		goto failed;
	if (bpf_skb_store_bytes(skb, l2_out, &ip6, sizeof(ip6), 0))
		goto failed;
	const u32 l4 = l2_out + IPV6_HLEN;
	if (protocol == PROTO_ICMP) {
		u8 type = icmp_type == ICMP_ECHO_REQUEST ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY;
		if (bpf_skb_store_bytes(skb, l4, &type, 1, 0))
			goto failed;
	}
	/* Nothing to do if the address was chosen checksum-neutral. A partial checksum is kept partial by the helper. */
	if (!is_zero_sum(change) && bpf_l4_csum_replace(skb, l4 + checksum, 0, change, csum_flags))
		goto failed;
	if (unlikely(key.local_port != inside) &&
	    rewrite_port(skb, l4 + (protocol == PROTO_ICMP ? 4 : 0), l4 + checksum, inside, key.local_port, protocol))
		goto failed;
	skb->tc_index = CLAT_TC_INDEX;
	return to_uplink(config, ethernet);

failed:
	return drop(skb, EVENT_KERNEL_ERROR, OUT, protocol);
daemon:
	count(skb, EVENT_TO_DAEMON, OUT, 0, l2);
	return TC_ACT_UNSPEC;
}

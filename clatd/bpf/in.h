/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* IPv6 to IPv4, on the ingress of the uplink (RFC 7915 section 5). */
#pragma once
#include "flow.h"
#include "nd.h"

/* The packet stays IPv6 and comes out of the CLAT's device at the daemon. */
static __always_inline int to_daemon(struct __sk_buff *skb, const struct config *config, u8 protocol, u32 l2)
{
	count(skb, EVENT_TO_DAEMON, IN, protocol, l2);
	return bpf_redirect(config->clat_ifindex, 0);
}

/* No record: with a shared address it is the native stack's business. With an address of its own the CLAT lets in what
 * it may, judged by the daemon, or nothing. */
static __always_inline int unsolicited(struct __sk_buff *skb, const struct config *config, u8 protocol, u32 l2)
{
	if (config->flags & FLAG_SHARED)
		return TC_ACT_UNSPEC;
	if (config->flags & FLAG_INBOUND)
		return to_daemon(skb, config, protocol, l2);
	return drop(skb, EVENT_UNSOLICITED, IN, protocol);
}

/* The record that lets this packet in: an existing one, or with `inbound = "allow"` a new one. */
static __always_inline struct flow *inbound_flow(struct __sk_buff *skb, const struct config *config,
						 struct flow_key *key, u64 now)
{
	struct flow *flow = find_flow(key, now);
	if (likely(flow))
		return flow;
	if (!(config->flags & FLAG_INBOUND))
		return NULL;
	u32 source = extract(config, key->remote);
	if (!is_translatable(config, source) || bpf_map_lookup_elem(&OWN_IPV4, &source))
		return NULL;
	if ((config->flags & FLAG_SHARED) && native_taker(skb, config, key))
		return NULL;
	struct flow new = { .seen_ns = now, .port = key->local_port, .owner = OWNER_CLAT,
			    .timeout = timeout_of(key->protocol, 0) };
	if (bpf_map_update_elem(&FLOWS, key, &new, BPF_ANY))
		return NULL;
	return bpf_map_lookup_elem(&FLOWS, key);
}

static __always_inline int fragment_in(struct __sk_buff *skb, const struct config *config, const u32 *source,
				       const u32 l2)
{
	struct {
		u8 next_header, reserved;
		u16 offset_more;
		u32 identification;
	} fragment;
	if (bpf_skb_load_bytes(skb, l2 + IPV6_HLEN, &fragment, sizeof(fragment)))
		return unsolicited(skb, config, PROTO_FRAGMENT, l2);
	u64 now = bpf_ktime_get_coarse_ns();
	struct fragment_key id = { .identification = fragment.identification, .direction = IN };
	copy_address(id.remote, source);

	if (fragment.offset_more & be16(0xfff8)) {
		u64 *seen = bpf_map_lookup_elem(&FRAGMENTS, &id);
		if (!seen || is_older(now, *seen, FRAGMENT_TIMEOUT_NS))
			return unsolicited(skb, config, PROTO_FRAGMENT, l2);
		return to_daemon(skb, config, fragment.next_header, l2);
	}
	/* Upper-layer headers of less than 8 bytes in a first fragment are refused by everybody (RFC 7112). */
	u16 ports[4];
	if (bpf_skb_load_bytes(skb, l2 + IPV6_HLEN + sizeof(fragment), ports, sizeof(ports)))
		return unsolicited(skb, config, PROTO_FRAGMENT, l2);
	struct flow_key key = { .protocol = fragment.next_header };
	copy_address(key.remote, source);
	u32 checksum = 0, port = l2 + IPV6_HLEN + sizeof(fragment);
	if (fragment.next_header == PROTO_TCP || fragment.next_header == PROTO_UDP) {
		key.remote_port = ports[0];
		key.local_port = ports[1];
		port += 2;
		checksum = fragment.next_header == PROTO_TCP ? 16 : 6;
	} else if (fragment.next_header == PROTO_ICMPV6) {
		key.local_port = ports[2];
		port += 4;
		checksum = 2;
	}
	struct flow *flow = inbound_flow(skb, config, &key, now);
	if (!flow)
		return unsolicited(skb, config, PROTO_FRAGMENT, l2);
	u16 inside = flow->port;
	u8 owner = flow->owner;
	touch(flow, now, IN, 0);
	if (inside != key.local_port && checksum &&
	    rewrite_port(skb, port, l2 + IPV6_HLEN + 8 + checksum, key.local_port, inside, key.protocol))
		return drop(skb, EVENT_KERNEL_ERROR, IN, key.protocol);
	if (owner != OWNER_CLAT)
		return TC_ACT_UNSPEC;
	bpf_map_update_elem(&FRAGMENTS, &id, &now, BPF_ANY);
	return to_daemon(skb, config, fragment.next_header, l2);
}

/* An ICMPv6 error belongs to whoever sent the packet that it quotes. */
static __always_inline int error_in(struct __sk_buff *skb, const struct config *config, const u32 l2)
{
	const u32 quote = l2 + IPV6_HLEN + 8;
	struct ipv6 inner;
	if (bpf_skb_load_bytes(skb, quote, &inner, sizeof(inner)) ||
	    !same_address(inner.source, config->clat_ipv6) || !under_pref64(config, inner.destination))
		return unsolicited(skb, config, PROTO_ICMPV6, l2);
	u64 now = bpf_ktime_get_coarse_ns();
	struct flow_key key = { .protocol = inner.next_header };
	copy_address(key.remote, inner.destination);
	u32 l4 = quote + IPV6_HLEN;
	if (inner.next_header == PROTO_FRAGMENT) {
		struct {
			u8 next_header, reserved;
			u16 offset_more;
			u32 identification;
		} fragment;
		if (bpf_skb_load_bytes(skb, l4, &fragment, sizeof(fragment)))
			return unsolicited(skb, config, PROTO_ICMPV6, l2);
		struct fragment_key id = { .identification = fragment.identification, .direction = OUT };
		copy_address(id.remote, inner.destination);
		u64 *seen = bpf_map_lookup_elem(&FRAGMENTS, &id);
		if (!seen || is_older(now, *seen, FRAGMENT_TIMEOUT_NS))
			return unsolicited(skb, config, PROTO_ICMPV6, l2);
		return to_daemon(skb, config, PROTO_ICMPV6, l2);
	}
	u16 ports[4];
	u32 port = l4;
	if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
		return unsolicited(skb, config, PROTO_ICMPV6, l2);
	if (inner.next_header == PROTO_TCP || inner.next_header == PROTO_UDP) {
		key.local_port = ports[0];
		key.remote_port = ports[1];
	} else if (inner.next_header == PROTO_ICMPV6) {
		key.local_port = ports[2];
		port += 4;
	}
	struct flow *flow = find_flow(&key, now);
	if (!flow)
		return unsolicited(skb, config, PROTO_ICMPV6, l2);
	u16 inside = flow->port;
	u8 owner = flow->owner;
	/* The quote must show the port that the sender knows. Its own checksum is not checked by anybody. */
	if (inside != key.local_port &&
	    rewrite_port(skb, port, l2 + IPV6_HLEN + 2, key.local_port, inside, PROTO_ICMPV6))
		return drop(skb, EVENT_KERNEL_ERROR, IN, PROTO_ICMPV6);
	return owner == OWNER_CLAT ? to_daemon(skb, config, PROTO_ICMPV6, l2) : TC_ACT_UNSPEC;
}

static __always_inline int translate_in(struct __sk_buff *skb, const u32 l2)
{
	const struct config *config = configuration();
	void *data, *end;
	if (!config || skb->protocol != be16(ETH_P_IPV6) || skb->vlan_present)
		return TC_ACT_UNSPEC;
	HEADER(skb, data, end, l2 + IPV6_HLEN, return TC_ACT_UNSPEC);
	const struct ipv6 *ip6 = data + l2;
	bool ours = same_address(ip6->destination, config->clat_ipv6);
	if (l2 && !(config->flags & FLAG_SHARED) && ip6->next_header == PROTO_ICMPV6 && ip6->hop_limit == 255) {
		int verdict = answer_solicitation(skb, config);
		if (verdict >= 0)
			return verdict;
		HEADER(skb, data, end, l2 + IPV6_HLEN, return TC_ACT_UNSPEC);
		ip6 = data + l2;
	}
	if (!ours)
		return TC_ACT_UNSPEC;

	u8 protocol = ip6->next_header, hop_limit = ip6->hop_limit;
	u32 payload_len = be16(ip6->payload_len);
	u8 traffic_class = be32(ip6->version_class_flow) >> 20;
	u32 source6[4];
	copy_address(source6, ip6->source);
	bool from_pref64 = under_pref64(config, source6);
	u64 now;

	if (protocol == PROTO_ICMPV6) {
		HEADER(skb, data, end, l2 + IPV6_HLEN + 8, return TC_ACT_UNSPEC);
		u8 type = *(u8 *)(data + l2 + IPV6_HLEN);
		if (type >= 1 && type <= 4)
			return error_in(skb, config, l2);
		if (type >= 133 && type <= 137) /* neighbour discovery is never translated */
			return TC_ACT_UNSPEC;
	}
	if (!from_pref64) {
		if (config->flags & FLAG_SHARED)
			return TC_ACT_UNSPEC;
		return drop(skb, EVENT_REFUSED_SOURCE, IN, protocol);
	}
	if (protocol == PROTO_FRAGMENT)
		return fragment_in(skb, config, source6, l2);

	struct flow_key key = { .protocol = protocol };
	copy_address(key.remote, source6);
	u8 tcp_flags = 0, icmp_type = 0;
	u32 port = 2, checksum = 0, l4_len = 8;
	/* What is not to be judged here goes to the daemon, if it belongs to a flow of ours. */
	bool decline = hop_limit == 0 || payload_len + IPV6_HLEN != skb->len - l2 || payload_len > 65535 - IPV4_HLEN;
	now = bpf_ktime_get_coarse_ns();

	if (protocol == PROTO_TCP) {
		HEADER(skb, data, end, l2 + IPV6_HLEN + 20, return unsolicited(skb, config, protocol, l2));
		const u16 *ports = data + l2 + IPV6_HLEN;
		key.remote_port = ports[0];
		key.local_port = ports[1];
		tcp_flags = ((const u8 *)ports)[13];
		l4_len = ((const u8 *)ports)[12] >> 4 << 2;
		decline |= payload_len < 20 || l4_len < 20;
		checksum = 16;
	} else if (protocol == PROTO_UDP) {
		HEADER(skb, data, end, l2 + IPV6_HLEN + 8, return unsolicited(skb, config, protocol, l2));
		const u16 *ports = data + l2 + IPV6_HLEN;
		key.remote_port = ports[0];
		key.local_port = ports[1];
		decline |= ports[3] == 0 || be16(ports[2]) != payload_len;
		checksum = 6;
	} else if (protocol == PROTO_ICMPV6) {
		HEADER(skb, data, end, l2 + IPV6_HLEN + 8, return unsolicited(skb, config, protocol, l2));
		const u16 *fields = data + l2 + IPV6_HLEN;
		icmp_type = *(const u8 *)fields;
		decline |= ((const u8 *)fields)[1] != 0;
		key.local_port = fields[2];
		checksum = 2;
		port = 4;
		if (icmp_type == ICMPV6_ECHO_REQUEST) {
			/* The native stack answers for a shared address. */
			if ((config->flags & (FLAG_SHARED | FLAG_INBOUND)) != FLAG_INBOUND)
				return unsolicited(skb, config, protocol, l2);
		} else if (icmp_type != ICMPV6_ECHO_REPLY) {
			return unsolicited(skb, config, protocol, l2);
		}
	} else {
		decline = true;
		if (protocol == 0 || protocol == 60) {
			/* One short extension header in front of what we know: NAT64s send none, so it need only work. */
			u8 extension[12];
			if (bpf_skb_load_bytes(skb, l2 + IPV6_HLEN, extension, sizeof(extension)) || extension[1])
				return unsolicited(skb, config, protocol, l2);
			key.protocol = extension[0];
			if (key.protocol == PROTO_TCP || key.protocol == PROTO_UDP) {
				key.remote_port = be16((u16)(extension[8] << 8 | extension[9]));
				key.local_port = be16((u16)(extension[10] << 8 | extension[11]));
			}
		}
	}

	u16 inside = key.local_port;
	if (protocol == PROTO_ICMPV6 && icmp_type == ICMPV6_ECHO_REQUEST) {
		u32 source = extract(config, source6);
		if (!is_translatable(config, source) || bpf_map_lookup_elem(&OWN_IPV4, &source))
			return drop(skb, EVENT_REFUSED_SOURCE, IN, protocol);
	} else {
		struct flow *flow = inbound_flow(skb, config, &key, now);
		if (!flow)
			return unsolicited(skb, config, protocol, l2);
		inside = flow->port;
		u8 owner = flow->owner;
		touch(flow, now, IN, tcp_flags);
		if (unlikely(inside != key.local_port) && checksum &&
		    rewrite_port(skb, l2 + IPV6_HLEN + port, l2 + IPV6_HLEN + checksum, key.local_port, inside, protocol))
			return drop(skb, EVENT_KERNEL_ERROR, IN, protocol);
		if (owner != OWNER_CLAT)
			return TC_ACT_UNSPEC;
	}
	if (decline)
		return to_daemon(skb, config, protocol, l2);
	count(skb, EVENT_TRANSLATED, IN, protocol, l2);

	u32 total_len = payload_len + IPV4_HLEN;
	u32 source = extract(config, source6);
	struct ipv4 ip = {
		.version_ihl = 0x45,
		.tos = config->flags & FLAG_COPY_CLASS ? traffic_class : 0,
		.total_len = be16((u16)total_len),
		.ttl = hop_limit,
		.protocol = protocol == PROTO_ICMPV6 ? PROTO_ICMP : protocol,
		.source = source,
		.destination = config->clat_ipv4,
	};
	/* RFC 7915 section 5.1: packets of up to 1260 bytes may be fragmented on, so they need an identification. */
	u32 gso_size = skb->gso_size;
	if ((gso_size ? IPV4_HLEN + l4_len + gso_size : total_len) > 1260)
		ip.flags_offset = be16(IPV4_DF);
	else
		ip.id = (u16)bpf_get_prandom_u32();
	const u32 *words = (const u32 *)&ip;
	ip.checksum = ~fold16(fold32((u64)words[0] + words[1] + words[2] + words[3] + words[4]));

	u64 old = address_sum(source6) + address_sum(config->clat_ipv6), new;
	u64 csum_flags = BPF_F_PSEUDO_HDR;
	u8 type = icmp_type == ICMPV6_ECHO_REQUEST ? ICMP_ECHO_REQUEST : ICMP_ECHO_REPLY;
	if (protocol == PROTO_ICMPV6) {
		old += (u64)be32(payload_len) + be32(PROTO_ICMPV6);
		new = 0;
	} else {
		new = (u64)source + config->clat_ipv4;
		if (protocol == PROTO_UDP)
			csum_flags |= BPF_F_MARK_MANGLED_0;
	}
	u32 change = difference(new, old);

	if (bpf_skb_change_proto(skb, be16(ETH_P_IP), 0))
		goto failed;
	/* With a checksum of the whole packet from the NIC (CHECKSUM_COMPLETE) the kernel has to account for each byte that
	 * changes: for the header here, for addresses that leave the pseudo-header in bpf_l4_csum_replace. */
	if (bpf_skb_store_bytes(skb, l2, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM))
		goto failed;
	const u32 l4 = l2 + IPV4_HLEN;
	if (!is_zero_sum(change) && bpf_l4_csum_replace(skb, l4 + checksum, 0, change, csum_flags))
		goto failed;
	if (protocol == PROTO_ICMPV6) {
		u16 from = be16((u16)(icmp_type << 8)), to = be16((u16)(type << 8));
		if (bpf_l4_csum_replace(skb, l4 + checksum, from, to, sizeof(to)) ||
		    bpf_skb_store_bytes(skb, l4, &type, sizeof(type), 0))
			goto failed;
	}
	return bpf_redirect(config->clat_ifindex, BPF_F_INGRESS);

failed:
	return drop(skb, EVENT_KERNEL_ERROR, IN, protocol);
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Neighbour discovery for a dedicated address (RFC 4861 section 7.2). The address is not the host's, so the kernel does
 * not answer for it; anycast membership would answer up to a second late, a proxy entry needs a sysctl. An
 * advertisement is as long as a solicitation with its link-layer address option, so it is written over it.
 *
 * While duplicate address detection has not come to its end the daemon answers, from its packet socket: it must see who
 * else wants the address, and what it says then must not override what neighbours know (RFC 4429 section 3.3).
 */
#pragma once
#include "clat.h"

struct solicitation {
	u8 eth_destination[6], eth_source[6];
	u16 eth_protocol;
	struct ipv6 ip6;
	u8 type, code;
	u16 checksum;
	u32 flags;
	u32 target[4];
} __attribute__((packed));

#define NA_OPTION_LEN 8
#define NA_LEN (sizeof(struct solicitation) + NA_OPTION_LEN)
#define NA_SOLICITED 0x40000000
#define NA_OVERRIDE 0x20000000

/* The verdict, or -1 if the packet is not a solicitation for the CLAT's address, or the daemon's to answer. Callers check
 * the hop limit. */
static __always_inline int answer_solicitation(struct __sk_buff *skb, const struct config *config)
{
	void *data, *end;
	HEADER(skb, data, end, sizeof(struct solicitation), return -1);
	const struct solicitation *in = data;
	u32 target[4], asker[4];
	__builtin_memcpy(target, in->target, sizeof(target));
	__builtin_memcpy(asker, in->ip6.source, sizeof(asker));
	if (in->type != ICMPV6_NEIGHBOUR_SOLICITATION || in->code || !same_address(target, config->clat_ipv6))
		return -1;
	if (config->flags & FLAG_OPTIMISTIC)
		return -1;

	struct {
		struct solicitation na;
		u8 option[NA_OPTION_LEN];
	} __attribute__((packed)) out = {};
	/* Somebody probes whether the address is free (RFC 4862): all nodes are told that it is not. */
	bool probe = (asker[0] | asker[1] | asker[2] | asker[3]) == 0;
	if (probe) {
		asker[0] = be32(0xff020000);
		asker[3] = be32(1);
		out.na.eth_destination[0] = out.na.eth_destination[1] = 0x33;
		out.na.eth_destination[5] = 1;
	} else {
		__builtin_memcpy(out.na.eth_destination, in->eth_source, 6);
	}
	__builtin_memcpy(out.na.eth_source, config->mac, 6);
	out.na.eth_protocol = be16(ETH_P_IPV6);
	out.na.ip6.version_class_flow = be32(6u << 28);
	out.na.ip6.payload_len = be16(24 + NA_OPTION_LEN);
	out.na.ip6.next_header = PROTO_ICMPV6;
	out.na.ip6.hop_limit = 255;
	__builtin_memcpy(out.na.ip6.source, target, 16);
	__builtin_memcpy(out.na.ip6.destination, asker, 16);
	out.na.type = ICMPV6_NEIGHBOUR_ADVERTISEMENT;
	out.na.flags = probe ? be32(NA_OVERRIDE) : be32(NA_OVERRIDE | NA_SOLICITED);
	__builtin_memcpy(out.na.target, target, 16);
	out.option[0] = 2; /* target link-layer address */
	out.option[1] = 1;
	__builtin_memcpy(out.option + 2, config->mac, 6);

	u16 mac[3];
	__builtin_memcpy(mac, config->mac, 6);
	u64 sum = address_sum(target) * 2 + address_sum(asker) + be32(24 + NA_OPTION_LEN) + be32(PROTO_ICMPV6) +
		  be16(ICMPV6_NEIGHBOUR_ADVERTISEMENT << 8) + out.na.flags + be16(0x0201) + (u64)mac[0] + mac[1] + mac[2];
	out.na.checksum = ~fold16(fold32(sum));

	if (skb->len != NA_LEN && bpf_skb_change_tail(skb, NA_LEN, 0))
		return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, 0, &out, sizeof(out), 0))
		return TC_ACT_SHOT;
	return bpf_redirect(config->uplink_ifindex, 0);
}

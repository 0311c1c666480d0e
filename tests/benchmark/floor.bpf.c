// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The least that a translator of this kind can do, as a yardstick for tests/bench: TCP and UDP to one prefix /96, no
 * flow records, no checks, no counters. What it costs more than native IPv6 is the kernel's own: another header
 * (bpf_skb_change_proto, mostly), a second device on the way out, a second pass through the backlog on the way in.
 */
#include "../../clatd/bpf/kernel.h"

struct settings {
	u32 clat, uplink; /* interface indices */
	u32 pref64[3], host[4], next_hop[4];
	u32 clat_ipv4;
};
const volatile struct settings settings __attribute__((section(".rodata")));

static __always_inline u32 fold32(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (u32)((sum & 0xffffffff) + (sum >> 32));
}

/* The checksum of a TCP or UDP packet at `l4` follows from the old pseudo-header to the new one. */
static __always_inline void follow(struct __sk_buff *skb, u32 l4, u8 protocol, u64 old, u64 new)
{
	u64 flags = BPF_F_PSEUDO_HDR | (protocol == PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);
	u32 change = fold32((u64)fold32(new) + (u32)~fold32(old));
	bpf_l4_csum_replace(skb, l4 + (protocol == PROTO_TCP ? 16 : 6), 0, change, flags);
}

SEC("tc")
int floor_out(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct ipv4 *ip = data;
	if (skb->protocol != be16(ETH_P_IP) || data + sizeof(*ip) > end)
		return TC_ACT_SHOT;
	struct ipv6 ip6 = {
		.version_class_flow = be32(6u << 28),
		.payload_len = be16((u16)(skb->len - IPV4_HLEN)),
		.next_header = ip->protocol,
		.hop_limit = ip->ttl,
		.source = { settings.host[0], settings.host[1], settings.host[2], settings.host[3] },
		.destination = { settings.pref64[0], settings.pref64[1], settings.pref64[2], ip->destination },
	};
	u64 old = (u64)ip->source + ip->destination, new = 0;
	for (int i = 0; i < 4; i++)
		new += (u64)ip6.source[i] + ip6.destination[i];
	if (bpf_skb_change_proto(skb, be16(ETH_P_IPV6), 0) || bpf_skb_change_head(skb, ETH_HLEN, 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ip6, sizeof(ip6), 0))
		return TC_ACT_SHOT;
	follow(skb, ETH_HLEN + IPV6_HLEN, ip6.next_header, old, new);
	struct bpf_redir_neigh hop = { .nh_family = AF_INET6 };
	for (int i = 0; i < 4; i++)
		hop.ipv6_nh[i] = settings.next_hop[i];
	return bpf_redirect_neigh(settings.uplink, &hop, sizeof(hop), 0);
}

SEC("tc")
int floor_in(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct ipv6 *ip6 = data + ETH_HLEN;
	if (skb->protocol != be16(ETH_P_IPV6) || data + ETH_HLEN + sizeof(*ip6) > end ||
	    ip6->source[0] != settings.pref64[0] || ip6->source[1] != settings.pref64[1] ||
	    ip6->source[2] != settings.pref64[2])
		return TC_ACT_UNSPEC;
	struct ipv4 ip = {
		.version_ihl = 0x45,
		.total_len = be16((u16)(skb->len - ETH_HLEN - IPV6_HLEN + IPV4_HLEN)),
		.flags_offset = be16(IPV4_DF),
		.ttl = ip6->hop_limit,
		.protocol = ip6->next_header,
		.source = ip6->source[3],
		.destination = settings.clat_ipv4,
	};
	const u32 *words = (const u32 *)&ip;
	u32 sum = fold32((u64)words[0] + words[1] + words[2] + words[3] + words[4]);
	sum = (sum & 0xffff) + (sum >> 16);
	ip.checksum = (u16)~((sum & 0xffff) + (sum >> 16));
	u64 old = 0, new = (u64)ip.source + ip.destination;
	for (int i = 0; i < 4; i++)
		old += (u64)ip6->source[i] + ip6->destination[i];
	if (bpf_skb_change_proto(skb, be16(ETH_P_IP), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM))
		return TC_ACT_SHOT;
	follow(skb, ETH_HLEN + IPV4_HLEN, ip.protocol, old, new);
	return bpf_redirect(settings.clat, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * The part of the kernel's stable interface that the programs use. Written out here so that building them needs clang
 * and nothing else: no libbpf, no kernel headers, no network. Numbers and layouts are those of linux/bpf.h,
 * linux/pkt_cls.h and linux/if_ether.h, which never change.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define be16(x) ((u16)__builtin_bswap16(x))
#define be32(x) ((u32)__builtin_bswap32(x))
#define be64(x) ((u64)__builtin_bswap64(x))
#else
#define be16(x) ((u16)(x))
#define be32(x) ((u32)(x))
#define be64(x) ((u64)(x))
#endif

/* --- maps ------------------------------------------------------------- */
enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_MAP_TYPE_LRU_HASH = 9 };
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };

/* --- struct __sk_buff (linux/bpf.h) ------------------------------------ */
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority;
	u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id;
	u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port;
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};

struct bpf_sock {
	u32 bound_dev_if, family, type, protocol, mark, priority;
	u32 src_ip4, src_ip6[4], src_port;
	u16 dst_port; /* network byte order */
	u16 : 16;
	u32 dst_ip4, dst_ip6[4], state;
	s32 rx_queue_mapping;
};

struct bpf_sock_tuple6 {
	u32 saddr[4], daddr[4];
	u16 sport, dport;
};

struct bpf_redir_neigh {
	u32 nh_family;
	u32 ipv6_nh[4];
};

/* --- helpers (numbers of enum bpf_func_id; the newest is of Linux 5.11) -- */
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static long (*bpf_skb_store_bytes)(struct __sk_buff *skb, u32 off, const void *from, u32 len, u64 flags) = (void *)9;
static long (*bpf_l4_csum_replace)(struct __sk_buff *skb, u32 off, u64 from, u64 to, u64 flags) = (void *)11;
static long (*bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*bpf_skb_load_bytes)(const void *skb, u32 off, void *to, u32 len) = (void *)26;
static long (*bpf_skb_change_proto)(struct __sk_buff *skb, u16 proto, u64 flags) = (void *)31;
static long (*bpf_skb_change_tail)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)38;
static long (*bpf_skb_pull_data)(struct __sk_buff *skb, u32 len) = (void *)39;
static long (*bpf_skb_change_head)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)43;
static struct bpf_sock *(*bpf_sk_lookup_udp)(void *ctx, struct bpf_sock_tuple6 *tuple, u32 size, u64 netns,
					     u64 flags) = (void *)85;
static long (*bpf_sk_release)(void *sock) = (void *)86;
static struct bpf_sock *(*bpf_skc_lookup_tcp)(void *ctx, struct bpf_sock_tuple6 *tuple, u32 size, u64 netns,
					      u64 flags) = (void *)99;
static long (*bpf_redirect_neigh)(u32 ifindex, struct bpf_redir_neigh *params, int len, u64 flags) = (void *)152;
static u64 (*bpf_ktime_get_coarse_ns)(void) = (void *)160;

#define BPF_F_RECOMPUTE_CSUM 0x01ULL
#define BPF_F_INGRESS 0x01ULL
#define BPF_F_PSEUDO_HDR 0x10ULL
#define BPF_F_MARK_MANGLED_0 0x20ULL
#define BPF_F_CURRENT_NETNS (-1L)
/* Not ours: the next program or filter of the host has its turn, then the stack (TCX_NEXT). */
#define TC_ACT_UNSPEC -1
#define TC_ACT_SHOT 2
#define TCP_LISTEN 10 /* BPF_TCP_LISTEN */
#define AF_INET6 10

/* --- what is on the wire ------------------------------------------------ */
#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58

#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_NEIGHBOUR_SOLICITATION 135
#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136

#define IPV4_HLEN 20
#define IPV6_HLEN 40
#define IPV4_DF 0x4000
#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct ipv4 {
	u8 version_ihl, tos;
	u16 total_len, id, flags_offset;
	u8 ttl, protocol;
	u16 checksum;
	u32 source, destination;
};

struct ipv6 {
	u32 version_class_flow;
	u16 payload_len;
	u8 next_header, hop_limit;
	u32 source[4], destination[4];
};

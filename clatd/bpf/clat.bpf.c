// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The kernel fast path of clatd: IPv4 over IPv6 at the speed of IPv6.
 *
 *      IPv4 socket                     IPv4 socket                IPv6 socket
 *          │                               ▲                          │
 *          ▼ route via clat                │ as if it came in here    ▼
 *   ┌──────────────────────── clat (TUN) ──────────────────┐      watch_native      (shared address only)
 *   │ egress: out              ingress: from_daemon        │          │
 *   │  TCP, UDP, ping: 4 → 6    IPv4: up the stack         │          │
 *   │  all else: ▼              IPv6: to the uplink        │          │
 *   └───────┬────┼───────────────────▲──────▲─────▲────────┘          │
 *           │    └──► read  clatd  write ───┘     │                   │
 *           │          ▲   (xlat)                 │                   │
 *    redirect_neigh    │ IPv6, as it came         │ IPv4              │
 *           │          └───────────┐              │                   │
 *   ┌───────▼──────────────────────┴──────────────┴───────────────────▼─────┐
 *   │ uplink             ingress: in                          egress: native│
 *   │   record found:  TCP, UDP, ping: 6 → 4 onto clat                      │
 *   │                  fragments, errors, all else: to the daemon           │
 *   │   no record:     native IPv6 (shared address), or dropped (dedicated) │
 *   └───────────────────────────────────────────────────────────────────────┘
 *
 * Each program exists twice: for an uplink with Ethernet headers and for one without (TUN, WireGuard, PPP). Offsets
 * are constants in each, because a program loaded without CAP_PERFMON must not compute pointers.
 *
 * Rules that hold everywhere:
 *  - The hop limit is copied, not decremented: inside a host the CLAT is no hop. Zero is left to the daemon to drop.
 *  - Whatever is unusual goes to the daemon unchanged. One translator (xlat) knows the rare rules.
 *  - No direct packet writes: they make the verifier put an unshare in front of the program, for every packet.
 *  - Nothing newer than Linux 5.11 is used: no kfuncs, no bpf_loop, no open-coded iterators.
 *
 * Files: clat.h configuration, counters, arithmetic; flow.h records; out.h, in.h translation; daemon.h the slow
 * path's way out; native.h the other owner of a shared address; nd.h neighbour discovery; kernel.h the kernel.
 */
#include "daemon.h"
#include "in.h"
#include "native.h"
#include "out.h"

SEC("classifier")
int v4shim_out_eth(struct __sk_buff *skb)
{
	return translate_out(skb, 0, true);
}

SEC("classifier")
int v4shim_out_raw(struct __sk_buff *skb)
{
	return translate_out(skb, 0, false);
}

SEC("classifier")
int v4shim_in_eth(struct __sk_buff *skb)
{
	return translate_in(skb, ETH_HLEN);
}

SEC("classifier")
int v4shim_in_raw(struct __sk_buff *skb)
{
	return translate_in(skb, 0);
}

SEC("classifier")
int v4shim_slow_eth(struct __sk_buff *skb)
{
	return forward_from_daemon(skb, true);
}

SEC("classifier")
int v4shim_slow_raw(struct __sk_buff *skb)
{
	return forward_from_daemon(skb, false);
}

SEC("classifier")
int v4shim_nat_eth(struct __sk_buff *skb)
{
	return watch_native(skb, ETH_HLEN);
}

SEC("classifier")
int v4shim_nat_raw(struct __sk_buff *skb)
{
	return watch_native(skb, 0);
}

#ifdef TEST_RUN
/* BPF_PROG_TEST_RUN feeds Ethernet frames only. */
SEC("classifier")
int v4shim_out_tst(struct __sk_buff *skb)
{
	return translate_out(skb, ETH_HLEN, true);
}
#endif

char LICENSE[] SEC("license") = "Dual MIT/GPL";

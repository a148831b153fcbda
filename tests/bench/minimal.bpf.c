// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The least that connects a container by redirects: no rules, no counters, no flows, one container,
 * one next hop. What any program of this kind costs, so the floor for ours (minimal.py attaches it).
 *
 * Mustn't: go anywhere near a product; whoever is in the container may send what it likes.
 */
#include "vmlinux.h"

#define SEC(name) __attribute__((section(name), used))

enum { NEXT = -1 }; /* of TCX and netkit alike: who is behind us decides */

static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*const bpf_redirect_peer)(__u32 ifindex, __u64 flags) = (void *)155;

/* Written once by minimal.py, before the programs are attached. */
struct {
	__u32  macs[3]; /* of the next hop and of the uplink: an Ethernet header's beginning */
	__u32  uplink_ifindex;
	__u32  pair_ifindex; /* the host's end of the pair */
	__be16 address[2];   /* the container's */
} way SEC(".bss");

struct frame {
	__u32  macs[3];
	__be16 protocol;
	__be16 ip[8]; /* IPv4 up to the destination */
	__be16 destination[2];
};

/* Returns 0 if it is none of IPv4 in memory. */
static __attribute__((always_inline)) struct frame *ipv4(struct __sk_buff *skb)
{
	struct frame *frame = (void *)(long)skb->data;

	if ((void *)(frame + 1) > (void *)(long)skb->data_end)
		return 0;
	return frame->protocol == __builtin_bswap16(0x0800) ? frame : 0;
}

SEC("tc")
int from_container(struct __sk_buff *skb)
{
	struct frame *frame = ipv4(skb);

	if (!frame)
		return NEXT;
	__builtin_memcpy(frame->macs, way.macs, sizeof(way.macs));
	return bpf_redirect(way.uplink_ifindex, 0);
}

SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	struct frame *frame = ipv4(skb);

	if (!frame || frame->destination[1] != way.address[1] ||
	    frame->destination[0] != way.address[0])
		return NEXT;
	return bpf_redirect_peer(way.pair_ifindex, 0);
}

/* What any program at the uplink costs traffic that is not a container's. */
SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return NEXT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a container's packet asks the kernel or the NIC to do after our verdict:
 * fill in a checksum, cut into segments. With NET_RAW a PACKET_VNET_HDR frame
 * asks for anything, such as a checksum in the middle of the source address.
 *
 * Only packets from containers come here: the host's stack and GRO make sound
 * ones. Mustn't: read maps.
 */
#ifndef __NK_OFFLOAD_H
#define __NK_OFFLOAD_H

enum nk_offload {
	/*
	 * Smallest segment: what TCP_MIN_SND_MSS (48) leaves after 40 bytes of
	 * options (tcp_mtu_to_mss()). Below that a packet is only work for others.
	 */
	NK_OFFLOAD_MIN_SEGMENT = 8,
	NK_OFFLOAD_UDP_SEGMENTS = 128, /* UDP_MAX_SEGMENTS, include/linux/udp.h */
	NK_OFFLOAD_BY_FRAGS = 0xffff, /* GSO_BY_FRAGS: SCTP's segments are the fragments */
};

/* Where the checksum of a protocol lies in its header, or -1. */
static __always_inline int nk_offload_checksum_offset(const struct nk_packet *p)
{
	switch (p->key.protocol) {
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_UDP:
		return 6;
	case IPPROTO_SCTP:
		return 8;
	case IPPROTO_ICMPV6:
		return p->is_v6 ? 2 : -1;
	}
	return -1;
}

static __always_inline int nk_offload_check_checksum(struct __sk_buff *skb,
						     const struct nk_packet *p)
{
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);
	__u32 start;

	if (BPF_CORE_READ_BITFIELD(kernel_skb, ip_summed) != CHECKSUM_PARTIAL)
		return 0;
	start = kernel_skb->csum_start - (__u32)(kernel_skb->data - kernel_skb->head);
	if (start != p->l4_offset || kernel_skb->csum_offset != nk_offload_checksum_offset(p))
		return -NK_DROP_CHECKSUM_OFFLOAD;
	return 0;
}

/*
 * SCTP's kernel code cuts by its own path MTU, which a container sets as it
 * likes, so the kernel walks the fragments against the primary's MTU.
 */
static __always_inline int nk_offload_check_sctp(struct __sk_buff *skb, struct nk_packet *p,
						 __u32 type)
{
	__u32 mtu_bytes = 0;

	if (type != SKB_GSO_SCTP || skb->gso_size != NK_OFFLOAD_BY_FRAGS)
		return -NK_DROP_SEGMENTATION;
	p->path_bytes = 0; /* judged here */
	if (bpf_check_mtu(skb, 0, &mtu_bytes, 0, BPF_MTU_CHK_SEGS)) {
		p->mtu_bytes = mtu_bytes;
		return -NK_DROP_OVERSIZE;
	}
	return 0;
}

static __always_inline int nk_offload_check_segments(struct __sk_buff *skb, struct nk_packet *p)
{
	const __u32 tcp_extras = SKB_GSO_DODGY | SKB_GSO_TCP_ECN | SKB_GSO_TCP_FIXEDID_OLD |
				 SKB_GSO_TCP_FIXEDID | SKB_GSO_TCP_ACCECN;
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);
	struct skb_shared_info *shared;
	__u32 type, size = skb->gso_size;

	shared = bpf_rdonly_cast(kernel_skb->head + kernel_skb->end,
				 bpf_core_type_id_kernel(struct skb_shared_info));
	type = shared->gso_type;
	if (size < NK_OFFLOAD_MIN_SEGMENT)
		return -NK_DROP_SEGMENTATION;
	switch (p->key.protocol) {
	case IPPROTO_TCP:
		if ((type & ~tcp_extras) == (p->is_v6 ? SKB_GSO_TCPV6 : SKB_GSO_TCPV4))
			return 0;
		break;
	case IPPROTO_UDP:
		if ((type & ~SKB_GSO_DODGY) == SKB_GSO_UDP_L4 &&
		    p->l4_bytes - NK_UDP_BYTES <= size * NK_OFFLOAD_UDP_SEGMENTS)
			return 0;
		break;
	case IPPROTO_SCTP:
		return nk_offload_check_sctp(skb, p, type);
	}
	return -NK_DROP_SEGMENTATION;
}

static __always_inline int nk_offload_check(struct __sk_buff *skb, struct nk_packet *p)
{
	int reason = nk_offload_check_checksum(skb, p);

	if (!reason && skb->gso_size)
		reason = nk_offload_check_segments(skb, p);
	return reason;
}

#endif /* __NK_OFFLOAD_H */

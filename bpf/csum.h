/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Internet checksums (RFC 1071) that follow a change of a field (RFC 1624), and
 * what the kernel knows of them beside the packet. All sums are of words as they
 * lie in memory, so no byte order matters.
 *
 * Not bpf_l4_csum_replace(): without BPF_F_IPV6, which 6.12 did not have from the
 * start, it corrupts CHECKSUM_COMPLETE of IPv6. Mustn't: read maps.
 */
#ifndef __NK_CSUM_H
#define __NK_CSUM_H

static __always_inline __u32 nk_csum_carry(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum + (sum >> 32);
}

/* 16 bits of a sum, not complemented. */
static __always_inline __u16 nk_csum_fold(__u64 sum)
{
	__u32 s = nk_csum_carry(sum);

	s = (s & 0xffff) + (s >> 16);
	return s + (s >> 16);
}

/* What a sum grows by when words change from one to the other. */
static __always_inline __u32 nk_csum_delta_addr(const __u8 *from, const __u8 *to)
{
	const __u32 *f = (const __u32 *)from, *t = (const __u32 *)to;
	__u64 sum = 0;

	sum += (__u64)(__u32)~f[0] + t[0];
	sum += (__u64)(__u32)~f[1] + t[1];
	sum += (__u64)(__u32)~f[2] + t[2];
	sum += (__u64)(__u32)~f[3] + t[3];
	return nk_csum_carry(sum);
}

static __always_inline __u32 nk_csum_delta_word(__u16 from, __u16 to)
{
	return (__u32)(__u16)~from + to;
}

/* A checksum field after its sum grew by delta. */
static __always_inline __sum16 nk_csum_replaced(__sum16 field, __u32 delta)
{
	return ~nk_csum_fold((__u64)(__u16)~field + delta);
}

/* As above for CHECKSUM_PARTIAL, where the field holds the pseudo header's sum itself. */
static __always_inline __sum16 nk_csum_replaced_partial(__sum16 field, __u32 delta)
{
	return nk_csum_fold((__u64)field + delta);
}

/* The rest of the checksum is left to the device. */
static __always_inline bool nk_csum_is_partial(struct __sk_buff *skb)
{
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);

	return BPF_CORE_READ_BITFIELD(kernel_skb, ip_summed) == CHECKSUM_PARTIAL;
}

/*
 * The device's own sum of the whole packet (CHECKSUM_COMPLETE) grows by delta; no
 * effect where there is none. A field and the checksum over it cancel out; what
 * is left over is a field without a checksum, or with two: an IPv4 address is
 * under the network header's and, by the pseudo header, the transport's (mirrors
 * inet_proto_csum_replace4(), net/core/utils.c).
 */
static __always_inline void nk_csum_complete(struct __sk_buff *skb, __u32 delta)
{
	bpf_csum_update(skb, delta);
}

#endif /* __NK_CSUM_H */

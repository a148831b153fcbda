/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The answer to a container's packet that is larger than its path: "fragmentation
 * needed" (RFC 1191) or "packet too big" (RFC 4443, 3.2), made of the packet
 * itself. Its kernel then sends smaller ones; without an answer it would send the
 * same again and again.
 *
 * It comes from the packet's own destination, not from an address of the host as
 * a router's would: with the annotation `routes` the container may have no route
 * to the host, and then its reverse path filter (rp_filter, which systemd turns
 * on) drops what the host says. To where it just sent something it has one.
 *
 * Runs only in from_container. What is dropped is counted as ever, answered or
 * not. Mustn't: decide what is too large, that is datapath.bpf.c's.
 */
#ifndef __NK_TOOBIG_H
#define __NK_TOOBIG_H

enum nk_toobig_sizes {
	NK_TOOBIG_BLOCK = 16, /* a quote is whole blocks */
	NK_TOOBIG_IPV4_QUOTE = 544, /* of 576 bytes in all at most (RFC 1812, 4.3.2.3) */
	NK_TOOBIG_IPV6_QUOTE = 1232, /* of 1280 likewise */
	NK_TOOBIG_IPV4_LEAST = 68, /* no link has a smaller MTU (RFC 791) */
	NK_TOOBIG_IPV6_LEAST = 1280, /* (RFC 8200, 5) */
};

/* pad: the network header is aligned. */
struct nk_toobig_ipv4 {
	__u8 pad[2];
	struct ethhdr eth;
	struct iphdr ip;
	__u8 type;
	__u8 code;
	__sum16 check;
	__be16 unused;
	__be16 mtu_bytes;
};

struct nk_toobig_ipv6 {
	__u8 pad[2];
	struct ethhdr eth;
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 mtu_bytes;
};

enum nk_toobig_headers {
	NK_TOOBIG_IPV4_BYTES = sizeof(struct nk_toobig_ipv4) - 2,
	NK_TOOBIG_IPV6_BYTES = sizeof(struct nk_toobig_ipv6) - 2,
};

_Static_assert(NK_TOOBIG_IPV4_BYTES == ETH_HLEN + NK_IPV4_BYTES + NK_ICMP_BYTES, "no padding");
_Static_assert(NK_TOOBIG_IPV6_BYTES == ETH_HLEN + NK_IPV6_BYTES + NK_ICMP_BYTES, "no padding");

/* The packet says how much of it a message may hold; nothing if it gets no answer. */
static __always_inline __u32 nk_toobig_quote(struct __sk_buff *skb, const struct nk_packet *p)
{
	__u32 most = p->is_v6 ? NK_TOOBIG_IPV6_QUOTE : NK_TOOBIG_IPV4_QUOTE;
	__u32 bytes = skb->len - ETH_HLEN;
	struct iphdr *ip;

	if (p->kind == NK_KIND_ERROR)
		return 0; /* never an error about an error (RFC 1122, 3.2.2; RFC 4443, 2.4) */
	if (p->is_v6) {
		if (p->path_bytes && p->path_bytes <= NK_TOOBIG_IPV6_LEAST)
			return 0; /* there is no smaller one to ask for */
	} else {
		if (p->mtu_bytes < NK_TOOBIG_IPV4_LEAST)
			return 0;
		ip = nk_parse_pull(skb, ETH_HLEN, sizeof(*ip));
		/* Without DF a router would cut it into fragments, and we pass none. */
		if (!ip || !(ip->frag_off & bpf_htons(0x4000)))
			return 0;
	}
	if (p->is_v6 ? p->key.remote[0] == 0xff : p->key.remote[12] >> 4 == 14)
		return 0; /* multicast (RFC 1122, 3.2.2), and nobody's address */
	if (bytes > most)
		bytes = most;
	bytes &= ~(NK_TOOBIG_BLOCK - 1);
	/* The ports and TCP's sequence number tell whose packet it was. */
	return bytes + ETH_HLEN < p->l4_offset + 8 ? 0 : bytes;
}

/* Of what is quoted, which still stands behind the Ethernet header. */
static __always_inline int nk_toobig_sum(struct __sk_buff *skb, __u32 bytes, __u64 *sum)
{
	__u32 words[NK_TOOBIG_BLOCK / 4], i;

	for (i = 0; i < NK_TOOBIG_IPV6_QUOTE / NK_TOOBIG_BLOCK; i++) {
		if (i * NK_TOOBIG_BLOCK >= bytes)
			break;
		if (bpf_skb_load_bytes(skb, ETH_HLEN + i * NK_TOOBIG_BLOCK, words, sizeof(words)))
			return -NK_DROP_INTERNAL;
		*sum += (__u64)words[0] + words[1] + words[2] + words[3];
	}
	return 0;
}

/* All headers in front of the quote; the old Ethernet header is under the new ones. */
static __noinline int nk_toobig_write_ipv4(struct __sk_buff *skb, const struct nk_packet *p,
					   __u32 bytes, __u64 sum)
{
	struct nk_toobig_ipv4 h = {
		.eth.h_proto = bpf_htons(ETH_P_IP),
		.ip.version = 4,
		.ip.ihl = NK_IPV4_BYTES / 4,
		.ip.tos = 0xc0, /* internetwork control (RFC 1812, 4.3.2.5) */
		.ip.tot_len = bpf_htons(NK_IPV4_BYTES + NK_ICMP_BYTES + bytes),
		.ip.frag_off = bpf_htons(0x4000),
		.ip.ttl = 64,
		.ip.protocol = IPPROTO_ICMP,
		.ip.saddr = ((const __u32 *)p->key.remote)[3],
		.ip.daddr = ((const __u32 *)p->local)[3],
		.type = NK_ICMP_UNREACHABLE,
		.code = 4, /* fragmentation needed */
		.mtu_bytes = bpf_htons(p->mtu_bytes),
	};
	const __u16 *words = (const __u16 *)&h.ip, *icmp = (const __u16 *)&h.type;
	__u64 header_sum = 0;
	__u32 i;

	for (i = 0; i < NK_IPV4_BYTES / 2; i++)
		header_sum += words[i];
	h.ip.check = ~nk_csum_fold(header_sum);
	h.check = ~nk_csum_fold(sum + icmp[0] + icmp[3]);
	if (bpf_skb_change_head(skb, NK_IPV4_BYTES + NK_ICMP_BYTES, 0))
		return -NK_DROP_INTERNAL;
	return bpf_skb_store_bytes(skb, 0, &h.eth, NK_TOOBIG_IPV4_BYTES, BPF_F_RECOMPUTE_CSUM);
}

static __noinline int nk_toobig_write_ipv6(struct __sk_buff *skb, const struct nk_packet *p,
					   __u32 bytes, __u64 sum)
{
	__u32 mtu_bytes = p->mtu_bytes, i;
	struct nk_toobig_ipv6 h = {
		.eth.h_proto = bpf_htons(ETH_P_IPV6),
		.ip.version = 6,
		.ip.payload_len = bpf_htons(NK_ICMP_BYTES + bytes),
		.ip.nexthdr = IPPROTO_ICMPV6,
		.ip.hop_limit = 64,
		.type = NK_ICMPV6_TOO_BIG,
	};
	const __u16 *icmp = (const __u16 *)&h.type;

	if (mtu_bytes < NK_TOOBIG_IPV6_LEAST)
		mtu_bytes = NK_TOOBIG_IPV6_LEAST;
	h.mtu_bytes = bpf_htonl(mtu_bytes);
	__builtin_memcpy(h.ip.saddr, p->key.remote, 16);
	__builtin_memcpy(h.ip.daddr, p->local, 16);
	for (i = 0; i < 4; i++)
		sum += (__u64)h.ip.saddr[i] + h.ip.daddr[i];
	sum += h.ip.payload_len + bpf_htons(IPPROTO_ICMPV6); /* the rest of the pseudo header */
	h.check = ~nk_csum_fold(sum + icmp[0] + icmp[2] + icmp[3]);
	if (bpf_skb_change_head(skb, NK_IPV6_BYTES + NK_ICMP_BYTES, 0))
		return -NK_DROP_INTERNAL;
	return bpf_skb_store_bytes(skb, 0, &h.eth, NK_TOOBIG_IPV6_BYTES, BPF_F_RECOMPUTE_CSUM);
}

/*
 * Turns the packet into its answer and sends that to the container: a verdict, and
 * the packet is dropped where there is no answer. One in a tick for an endpoint:
 * who needs another one sends again, and a flood costs a look at the clock.
 *
 * The packet is linear and no GSO one after bpf_skb_change_tail(). A checksum left
 * to the device stays that way, over the quote: nobody computes it, as netkit has
 * no use for it, and our own is right over the bytes as they are.
 */
NK_GLOBAL int nk_toobig_answer(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull)
{
	__u32 zero = 0, id = p->endpoint_id, now = nk_flow_now(), bytes;
	struct nk_endpoint *endpoint = bpf_map_lookup_elem(&nk_endpoints, &id);
	struct nk_settings *settings = bpf_map_lookup_elem(&nk_settings, &zero);
	__u64 sum = 0;

	if (!endpoint || !settings || endpoint->answered == now)
		return TC_ACT_SHOT;
	bytes = nk_toobig_quote(skb, p);
	if (!bytes)
		return TC_ACT_SHOT;
	endpoint->answered = now;
	if (bpf_skb_change_tail(skb, ETH_HLEN + bytes, 0) || nk_toobig_sum(skb, bytes, &sum))
		return TC_ACT_SHOT;
	if (p->is_v6 ? nk_toobig_write_ipv6(skb, p, bytes, sum)
		     : nk_toobig_write_ipv4(skb, p, bytes, sum))
		return TC_ACT_SHOT;
	skb->mark = settings->mark_reply;
	nk_send_reset(skb);
	return bpf_redirect(skb->ifindex, 0);
}

#endif /* __NK_TOOBIG_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packet an ICMP error quotes: afterwards the packet's key is that of the
 * flow the error is about, so the same lookup serves. Nothing else of the quote
 * is believed.
 *
 * Mustn't: read maps.
 */
#ifndef __NK_QUOTE_H
#define __NK_QUOTE_H

struct nk_quote {
	__u8 source[16];
	__u8 destination[16];
	__be16 ports[4]; /* first 8 bytes of the transport header */
	__u8 protocol;
} __attribute__((aligned(8)));

static __always_inline int nk_quote_load_v4(struct __sk_buff *skb, struct nk_quote *q, __u32 offset)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return -NK_DROP_MALFORMED;
	/* Later fragments have no ports, and we let neither them nor options through. */
	if (ip.version != 4 || ip.ihl != 5 || ip.frag_off & bpf_htons(0x1fff))
		return -NK_DROP_ICMP_UNRELATED;
	nk_parse_map_v4(q->source, ip.saddr);
	nk_parse_map_v4(q->destination, ip.daddr);
	q->protocol = ip.protocol;
	if (bpf_skb_load_bytes(skb, offset + NK_IPV4_BYTES, q->ports, sizeof(q->ports)))
		return -NK_DROP_MALFORMED;
	return 0;
}

static __always_inline int nk_quote_load_v6(struct __sk_buff *skb, struct nk_quote *q, __u32 offset)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return -NK_DROP_MALFORMED;
	if (ip.version != 6)
		return -NK_DROP_ICMP_UNRELATED;
	__builtin_memcpy(q->source, ip.saddr, 16);
	__builtin_memcpy(q->destination, ip.daddr, 16);
	q->protocol = ip.nexthdr;
	if (bpf_skb_load_bytes(skb, offset + NK_IPV6_BYTES, q->ports, sizeof(q->ports)))
		return -NK_DROP_MALFORMED;
	return 0;
}

static __always_inline bool nk_quote_is_echo(__u8 type, bool is_v6)
{
	if (is_v6)
		return type == NK_ICMPV6_ECHO || type == NK_ICMPV6_ECHO_REPLY;
	return type == NK_ICMP_ECHO || type == NK_ICMP_ECHO_REPLY;
}

/*
 * Outgoing errors answer the remote side of the flow and nobody else: or one
 * allowed flow would let a container send to any address. Incoming ones come
 * from any router on the way, and must quote what this address sent.
 */
NK_GLOBAL int nk_quote(struct __sk_buff *skb, struct nk_packet *p __arg_nonnull, __u32 dir)
{
	__u32 offset = p->l4_offset + NK_ICMP_BYTES;
	struct nk_quote q;
	int reason;

	reason = p->is_v6 ? nk_quote_load_v6(skb, &q, offset) : nk_quote_load_v4(skb, &q, offset);
	if (reason)
		return reason;
	if (dir == NK_EGRESS) {
		if (!nk_parse_same_addr(q.source, p->key.remote) ||
		    !nk_parse_same_addr(q.destination, p->local))
			return -NK_DROP_ICMP_UNRELATED;
	} else {
		if (!nk_parse_same_addr(q.source, p->local))
			return -NK_DROP_ICMP_UNRELATED;
		__builtin_memcpy(p->key.remote, q.destination, 16);
	}
	p->key.protocol = q.protocol;
	if (nk_parse_is_icmp(p)) {
		if (!nk_quote_is_echo(q.ports[0] & 0xff, p->is_v6))
			return -NK_DROP_ICMP_UNRELATED;
		p->key.remote_port = q.ports[2];
		p->key.local_port = q.ports[2];
	} else if (q.protocol == IPPROTO_TCP || q.protocol == IPPROTO_UDP ||
		   q.protocol == IPPROTO_SCTP) {
		p->key.remote_port = dir == NK_EGRESS ? q.ports[0] : q.ports[1];
		p->key.local_port = dir == NK_EGRESS ? q.ports[1] : q.ports[0];
	}
	return 0;
}

#endif /* __NK_QUOTE_H */

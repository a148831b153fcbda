/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DNS between a container whose rules have names and its resolvers: which packets
 * those are, where the message lies, and the id and port on the way.
 *
 * A query leaves with an id and a source port that the container did not choose:
 * with an accomplice outside it could forge its own answers else. The answer gets
 * both back. Over TCP nothing is changed, so an answer counts there only where one
 * over UDP had been truncated.
 *
 * Neighbours: dns_message.h reads what is copied here.
 */
#ifndef __NK_DNS_PACKET_H
#define __NK_DNS_PACKET_H

/* bytes: 1 to NK_DNS_MESSAGE_BYTES. */
static __always_inline int nk_dns_load(struct __sk_buff *skb, struct nk_dns_scratch *s,
				       __u32 offset, __u32 bytes)
{
	barrier_var(bytes);
	if (bytes < 1 || bytes > NK_DNS_MESSAGE_BYTES)
		return -NK_DROP_INTERNAL;
	return bpf_skb_load_bytes(skb, offset, s->message, bytes) ? -NK_DROP_INTERNAL : 0;
}

/* Where the message lies, and its length in *bytes; 0 for a segment without one. */
static __always_inline int nk_dns_find(struct __sk_buff *skb, const struct nk_packet *p,
				       __u32 *offset, __u32 *bytes)
{
	__u32 header_bytes;
	__be16 length;
	__u8 words;

	if (p->key.protocol == IPPROTO_UDP) {
		if (skb->gso_size || bpf_skb_load_bytes(skb, p->l4_offset + 4, &length, 2))
			return -NK_DROP_DNS_QUERY;
		*offset = p->l4_offset + NK_UDP_BYTES;
		*bytes = bpf_ntohs(length) - NK_UDP_BYTES;
		return 0;
	}
	if (bpf_skb_load_bytes(skb, p->l4_offset + 12, &words, 1))
		return -NK_DROP_DNS_QUERY;
	header_bytes = (words >> 4) * 4;
	*offset = p->l4_offset + header_bytes + 2;
	*bytes = 0;
	if (p->l4_bytes <= header_bytes)
		return 0;
	/* One whole message and nothing else (RFC 7766, 8). */
	if (bpf_skb_load_bytes(skb, *offset - 2, &length, 2) ||
	    bpf_ntohs(length) != p->l4_bytes - header_bytes - 2)
		return -NK_DROP_DNS_QUERY;
	*bytes = bpf_ntohs(length);
	return *bytes ? 0 : -NK_DROP_DNS_QUERY;
}

/* Of a query under way, as the resolver sees it. */
static __always_inline void nk_dns_fill_key(struct nk_query_key *key, const struct nk_packet *p,
					    __be16 id)
{
	__builtin_memcpy(key->resolver, p->key.remote, 16);
	key->port = p->key.local_port;
	key->id = id;
	key->protocol = p->key.protocol;
	key->local_index = p->key.local_index;
}

/*
 * Of the note that the answer to the question in the scratch was truncated: no packet
 * has protocol 0.
 */
static __always_inline void nk_dns_fill_ticket(struct nk_query_key *key,
					       const struct nk_dns_scratch *s)
{
	__builtin_memcpy(key->resolver, &s->query.name, sizeof(s->query.name));
	key->id = bpf_htons(s->query.type);
}

/*
 * The UDP checksum, after what it covers grew by delta, the pseudo header apart.
 * One that is left to the device covers the change by itself. 0 or -NK_DROP_*.
 */
static __always_inline int nk_dns_sum(struct __sk_buff *skb, const struct nk_packet *p, __u32 delta)
{
	__u32 at = p->l4_offset + 6;
	__sum16 check;

	if (nk_csum_is_partial(skb))
		return 0;
	if (bpf_skb_load_bytes(skb, at, &check, 2))
		return -NK_DROP_INTERNAL;
	if (!check) {
		nk_csum_complete(skb, delta); /* IPv4 without one */
		return 0;
	}
	check = nk_csum_replaced(check, delta) ?: 0xffff;
	return bpf_skb_store_bytes(skb, at, &check, 2, 0) ? -NK_DROP_INTERNAL : 0;
}

/* The id, and the port at `port_at` of the UDP header. */
NK_GLOBAL int nk_dns_rewrite(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull,
			     __u32 port_at, __be16 port, __be16 id)
{
	__u32 at = p->l4_offset, delta;
	__be16 old_port, old_id;

	if (bpf_skb_load_bytes(skb, at + port_at, &old_port, 2) ||
	    bpf_skb_load_bytes(skb, at + NK_UDP_BYTES, &old_id, 2))
		return -NK_DROP_INTERNAL;
	delta = nk_csum_carry((__u64)nk_csum_delta_word(old_port, port) +
			      nk_csum_delta_word(old_id, id));
	if (bpf_skb_store_bytes(skb, at + port_at, &port, 2, 0) ||
	    bpf_skb_store_bytes(skb, at + NK_UDP_BYTES, &id, 2, 0))
		return -NK_DROP_INTERNAL;
	return nk_dns_sum(skb, p, delta);
}

/* Those whose port 53 is filtered under this policy. */
static __noinline bool nk_dns_is_resolver(const struct nk_packet *p)
{
	struct nk_rule_key key = {
		.prefixlen = NK_RULE_ADDR_BITS,
		.table = bpf_htonl(NK_TABLE_RESOLVERS),
	};
	__u32 slot = p->word >> 32;
	void *trie = bpf_map_lookup_elem(&nk_rules, &slot);

	__builtin_memcpy(key.data, p->key.remote, sizeof(key.data));
	return trie && bpf_map_lookup_elem(trie, &key);
}

/* UDP and TCP to and from these, and ICMP errors about them. */
static __always_inline bool nk_dns_concerns(const struct nk_packet *p)
{
	__u8 protocol = p->key.protocol;

	return p->key.remote_port == bpf_htons(NK_DNS_PORT) &&
	       (protocol == IPPROTO_UDP || protocol == IPPROTO_TCP) && nk_names_trie(p->word) &&
	       nk_dns_is_resolver(p);
}

#endif /* __NK_DNS_PACKET_H */

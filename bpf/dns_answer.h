/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What resolvers answer: checked whole, then learned, before the container sees it.
 * Only an answer to a query that waits for one, once, and about the same question.
 *
 * from_wire and to_container call nk_dns_answer. Neighbours: dns_query.h records
 * the query, names.h asks what was learned.
 */
#ifndef __NK_DNS_ANSWER_H
#define __NK_DNS_ANSWER_H

/* An address that no name of the outside world should lead to (RFC 6890). */
static __always_inline bool nk_dns_is_private_v4(__u32 addr)
{
	return addr >> 24 == 0 || addr >> 24 == 10 || addr >> 22 == (100u << 2 | 1) ||
	       addr >> 24 == 127 || addr >> 16 == (169u << 8 | 254) ||
	       addr >> 20 == (172u << 4 | 1) || addr >> 8 == (192u << 16) ||
	       addr >> 16 == (192u << 8 | 168) || addr >> 17 == (198u << 7 | 9) || addr >> 28 >= 14;
}

static __always_inline bool nk_dns_is_private(const __u8 *addr)
{
	const __be32 *words = (const __be32 *)addr;

	if (nk_parse_is_mapped(addr) ||
	    (words[0] == bpf_htonl(0x0064ff9b) && !words[1] && !words[2])) /* NAT64 */
		return nk_dns_is_private_v4(bpf_ntohl(words[3]));
	/* NAT64 of a network's own, anywhere in which an IPv4 address may lie (RFC 8215). */
	if (words[0] == bpf_htonl(0x0064ff9b) && bpf_ntohl(words[1]) >> 16 == 1)
		return true;
	return (!words[0] && !words[1] && !words[2]) || (addr[0] & 0xfe) == 0xfc ||
	       (addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80) || addr[0] == 0xff;
}

/* One record of the answer section. */
static long nk_dns_record(__u32 index, void *unused)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 type, class, bytes, at;
	struct nk_dns_address *to;
	struct nk_dns_cursor *c;
	__be32 addr;

	if (!s)
		return 1;
	c = &s->cursor;
	if (!nk_dns_name(c) || c->at + 10 > c->end) {
		c->failed = 1;
		return 1;
	}
	at = c->at;
	type = nk_dns_u16(s, at);
	class = nk_dns_u16(s, at + 2);
	bytes = nk_dns_u16(s, at + 8);
	c->at = at + 10 + bytes;
	if (c->at > c->end) {
		c->failed = 1;
		return 1;
	}
	if (class != NK_DNS_IN || type != c->type || (type != NK_DNS_A && type != NK_DNS_AAAA))
		return 0;
	if (bytes != (type == NK_DNS_A ? 4 : 16)) {
		c->failed = 1;
		return 1;
	}
	if (c->addresses >= NK_DNS_ADDRESSES)
		return 0;
	to = &s->addresses[c->addresses & (NK_DNS_ADDRESSES - 1)];
	c->addresses++;
	to->ttl = nk_dns_u32(s, at + 4);
	if (type == NK_DNS_A) {
		addr = bpf_htonl(nk_dns_u32(s, at + 10));
		nk_parse_map_v4(to->addr, addr);
	} else {
		((__be32 *)to->addr)[0] = bpf_htonl(nk_dns_u32(s, at + 10));
		((__be32 *)to->addr)[1] = bpf_htonl(nk_dns_u32(s, at + 14));
		((__be32 *)to->addr)[2] = bpf_htonl(nk_dns_u32(s, at + 18));
		((__be32 *)to->addr)[3] = bpf_htonl(nk_dns_u32(s, at + 22));
		/* IPv4 in an AAAA record is nobody's answer (RFC 4291, 2.5.5.2). */
		if (nk_parse_is_mapped(to->addr))
			c->addresses--;
	}
	return 0;
}

/* How long a place is needed yet, ticks; 0 for the name's own, 1 for a free one. */
static __always_inline __u32 nk_dns_worth(const struct nk_learned_name *place,
					  const struct nk_dns_lesson *l)
{
	__u32 left = place->expires - l->now;

	if (place->name == l->name)
		return 0;
	return !place->name || (__s32)left <= 0 ? 1 : left;
}

/* One address of the answer: the name takes its own place there, a free one, or the oldest. */
static long nk_dns_learn(__u32 index, void *unused)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 i, best = 0, ttl, left, least = ~0, id;
	struct nk_learned new = {}, *old;
	struct nk_dns_address *from;
	struct nk_learned_name one;
	struct nk_dns_lesson *l;
	void *table;

	if (!s)
		return 1;
	l = &s->lesson;
	id = l->endpoint_id;
	table = bpf_map_lookup_elem(&nk_learned, &id);
	if (!table) {
		l->failed = 1;
		return 1;
	}
	from = &s->addresses[index & (NK_DNS_ADDRESSES - 1)];
	one.flags = nk_dns_is_private(from->addr) ? NK_LEARNED_PRIVATE : 0;
	if (one.flags && !(l->doors & NK_DOORS_PRIVATE))
		return 0;
	ttl = from->ttl;
	if (ttl < NK_DNS_LEAST_TTL)
		ttl = NK_DNS_LEAST_TTL;
	if (ttl > NK_DNS_MOST_TTL)
		ttl = NK_DNS_MOST_TTL;
	one.name = l->name;
	one.expires = l->now + (__u32)((__u64)ttl * 1000000000ULL >> NK_TICK_SHIFT);
	old = bpf_map_lookup_elem(table, from->addr);
	if (old)
		new = *old;
	for (i = 0; i < NK_LEARNED_NAMES; i++) {
		left = nk_dns_worth(&new.names[i], l);
		/* Without branches, which would multiply with each other. */
		best = left < least ? i : best;
		barrier_var(best);
		least = left < least ? left : least;
		barrier_var(least);
	}
	for (i = 0; i < NK_LEARNED_NAMES; i++)
		if (i == best)
			new.names[i] = one;
	l->failed |= !!bpf_map_update_elem(table, from->addr, &new, BPF_ANY);
	return 0;
}

/* The query that a message answers, copied to the scratch and struck out; 0 if there is none. */
static __noinline int nk_dns_asked(const struct nk_packet *p, __u32 endpoint_id)
{
	void *table = bpf_map_lookup_elem(&nk_queries, &endpoint_id);
	struct nk_dns_scratch *s = nk_dns_scratch();
	struct nk_query_key key = {};
	struct nk_query *query;

	if (!table || !s || !p)
		return 0;
	nk_dns_fill_key(&key, p, bpf_htons(nk_dns_u16(s, 0)));
	query = bpf_map_lookup_elem(table, &key);
	if (!query)
		return 0;
	__builtin_memcpy(&s->query, query, sizeof(s->query));
	/* Only one answer counts, on whatever CPU. */
	if (bpf_map_delete_elem(table, &key))
		return 0;
	return p->now - s->query.asked <= NK_DNS_PATIENCE;
}

/* One byte of the question, whatever the case. */
static long nk_dns_compare(__u32 index, void *unused)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 ours, theirs;

	if (!s)
		return 1;
	if (index >= sizeof(s->query.question)) {
		s->cursor.failed = 1;
		return 1;
	}
	ours = nk_dns_fold(s->query.question[index]);
	theirs = nk_dns_fold(nk_dns_u8(s, NK_DNS_HEADER_BYTES + index));
	if (ours == theirs)
		return 0;
	s->cursor.failed = 1;
	return 1;
}

/* Whether the answer is about what was asked: the whole question, not its length or a hash. */
static __always_inline bool nk_dns_is_about(struct nk_dns_scratch *s, __u32 bytes)
{
	__u32 count = s->query.bytes;

	if (nk_dns_u16(s, 4) != 1 || NK_DNS_HEADER_BYTES + count > bytes)
		return false;
	nk_dns_start(&s->cursor, 0, 0);
	bpf_loop(count, nk_dns_compare, 0, 0);
	return !s->cursor.failed;
}

/* The same question may be asked over TCP for a while. */
static __noinline int nk_dns_truncated(const struct nk_packet *p)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	struct nk_query_key key = {};
	__u32 id;
	void *table;

	if (!s || !p)
		return -NK_DROP_INTERNAL;
	id = p->endpoint_id;
	table = bpf_map_lookup_elem(&nk_queries, &id);
	if (!table)
		return 0;
	nk_dns_fill_ticket(&key, s);
	s->query.asked = p->now;
	return bpf_map_update_elem(table, &key, &s->query, BPF_ANY) ? -NK_DROP_DNS_TABLE : 0;
}

/* Reads the whole answer section, then learns its addresses. 0 or -NK_DROP_*. */
static __noinline int nk_dns_take(const struct nk_packet *p, __u32 bytes)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 flags, count, type;
	struct nk_dns_lesson *l;

	if (!s || !p)
		return -NK_DROP_INTERNAL;
	flags = nk_dns_u16(s, 2);
	count = nk_dns_u16(s, 6);
	type = s->query.type;
	if (flags & NK_DNS_RCODE || (type != NK_DNS_A && type != NK_DNS_AAAA))
		return 0;
	if (flags & NK_DNS_TRUNCATED)
		return p->key.protocol == IPPROTO_UDP ? nk_dns_truncated(p) : 0;
	if (!s->query.proved)
		return 0;
	if (count > NK_DNS_RECORDS)
		return -NK_DROP_DNS_ANSWER;
	nk_dns_start(&s->cursor, NK_DNS_HEADER_BYTES + s->query.bytes, bytes);
	s->cursor.type = type;
	s->cursor.may_point = 1;
	bpf_loop(count, nk_dns_record, 0, 0);
	if (s->cursor.failed)
		return -NK_DROP_DNS_ANSWER;
	l = &s->lesson;
	l->endpoint_id = p->endpoint_id;
	l->now = p->now;
	l->name = s->query.name;
	l->doors = nk_names_resolved(p->endpoint_id, p->word, l->name);
	l->failed = 0;
	if (!l->doors)
		return 0; /* revoked meanwhile */
	bpf_loop(s->cursor.addresses, nk_dns_learn, 0, 0);
	return l->failed ? -NK_DROP_DNS_TABLE : 0;
}

/*
 * What a resolver sends: 0, and over UDP the packet has the container's own id and
 * port again; or -NK_DROP_*. Over TCP what is not whole, or of no query, passes
 * and teaches nothing: the connection would hang else.
 */
NK_GLOBAL int nk_dns_answer(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	bool is_udp = p->key.protocol == IPPROTO_UDP;
	__u32 offset = 0, bytes = 0;
	int failed, reason;

	if (!s)
		return -NK_DROP_INTERNAL;
	failed = is_udp ? -NK_DROP_DNS_ANSWER : 0;
	/* An error about a query quotes the id and the port that are kept from its sender. */
	if (p->kind == NK_KIND_ERROR)
		return failed;
	if (nk_dns_find(skb, p, &offset, &bytes) || bytes < NK_DNS_HEADER_BYTES ||
	    bytes > NK_DNS_MESSAGE_BYTES)
		return failed;
	if (nk_dns_load(skb, s, offset, bytes))
		return failed;
	if ((nk_dns_u16(s, 2) & (NK_DNS_RESPONSE | NK_DNS_OPCODE)) != NK_DNS_RESPONSE ||
	    !nk_dns_asked(p, p->endpoint_id) || !nk_dns_is_about(s, bytes))
		return failed;
	reason = nk_dns_take(p, bytes);
	if (!is_udp)
		return 0;
	return reason ?: nk_dns_rewrite(skb, p, 2, s->query.port, s->query.id);
}

#endif /* __NK_DNS_ANSWER_H */

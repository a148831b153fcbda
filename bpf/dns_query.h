/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a container asks its resolvers: only for names of its rules, in plain
 * queries (RFC 1035, RFC 6891). What is refused is answered at once.
 *
 * from_container calls nk_dns_query and nk_dns_refuse. Neighbours: names.h says
 * what is allowed, dns_packet.h changes id and port, dns_answer.h waits.
 */
#ifndef __NK_DNS_QUERY_H
#define __NK_DNS_QUERY_H

/* Of host names, and of names of services. */
static __always_inline bool nk_dns_is_plain(__u32 folded)
{
	return folded - 'a' < 26 || folded - '0' < 10 || folded == '-' || folded == '_';
}

/* One byte of the question's name into the key: struct nk_name_key. */
static long nk_dns_reverse(__u32 index, void *unused)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 byte;

	if (!s)
		return 1;
	byte = nk_dns_u8(s, NK_DNS_HEADER_BYTES + index);
	if (!s->label_bytes) {
		s->label_bytes = byte;
		byte |= NK_NAME_LENGTH;
	} else {
		s->label_bytes--;
		byte = byte < NK_NAME_LENGTH ? nk_dns_fold(byte) : byte | NK_NAME_FOREIGN;
		s->is_odd |= !nk_dns_is_plain(byte);
	}
	s->resolved.key.name[(s->key_bytes - 1 - index) & (NK_NAME_BYTES - 1)] = byte;
	/* FNV-1a, from a secret start: nobody inside can look for a collision. */
	s->hash = (s->hash ^ byte) * 0x100000001b3ULL;
	return 0;
}

/* bytes: of the name without the root's. The hash, never 0 but for a failure. */
static __noinline __u64 nk_dns_key(__u32 bytes, __u32 labels)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	struct nk_settings *settings;
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	if (!s || !settings || bytes >= NK_NAME_BYTES)
		return 0;
	s->hash = settings->name_seed ^ 0xcbf29ce484222325ULL;
	s->key_bytes = bytes;
	s->label_bytes = 0;
	s->is_odd = 0;
	__builtin_memset(&s->resolved, 0, sizeof(s->resolved));
	bpf_loop(bytes, nk_dns_reverse, 0, 0);
	s->resolved.key.prefixlen = 8 * bytes;
	s->resolved.labels = labels;
	return s->hash ?: 1;
}

/*
 * The question of the message in the scratch, of `bytes` bytes: where it ends, or 0.
 * Exactly one, of class IN, of a name that is not the root.
 */
static __always_inline __u32 nk_dns_question(struct nk_dns_scratch *s, __u32 bytes, __u32 *labels)
{
	struct nk_dns_cursor *c = &s->cursor;
	__u32 at;

	if (bytes < NK_DNS_HEADER_BYTES || nk_dns_u16(s, 4) != 1)
		return 0;
	nk_dns_start(c, NK_DNS_HEADER_BYTES, bytes);
	if (!nk_dns_name(c))
		return 0;
	at = c->at;
	*labels = c->labels;
	if (!*labels || at > NK_DNS_HEADER_BYTES + NK_NAME_BYTES - 1 || at + 4 > bytes ||
	    nk_dns_u16(s, at + 2) != NK_DNS_IN)
		return 0;
	return at + 4;
}

/* 0 for a plain query, with or without an OPT record, and nothing behind it. */
static __always_inline int nk_dns_check_query(const struct nk_dns_scratch *s, __u32 at, __u32 bytes)
{
	__u32 additional = nk_dns_u16(s, 10);

	if (nk_dns_u16(s, 2) & ~NK_DNS_QUERY_FLAGS || nk_dns_u16(s, 6) || nk_dns_u16(s, 8))
		return -NK_DROP_DNS_QUERY;
	if (!additional)
		return at == bytes ? 0 : -NK_DROP_DNS_QUERY;
	if (additional > 1 || at + 11 > bytes || nk_dns_u8(s, at) ||
	    nk_dns_u16(s, at + 1) != NK_DNS_OPT || at + 11 + nk_dns_u16(s, at + 9) != bytes)
		return -NK_DROP_DNS_QUERY;
	return 0;
}

/* Types that are asked for by whoever wants to connect. SRV leads to names of their own. */
static __always_inline bool nk_dns_may_ask(__u32 type)
{
	return type == NK_DNS_A || type == NK_DNS_AAAA || type == NK_DNS_CNAME ||
	       type == NK_DNS_SRV;
}

/* As denied.h, for names. */
NK_GLOBAL int nk_dns_note(__u32 endpoint_id, __u64 name, __u32 passed)
{
	void *table = bpf_map_lookup_elem(&nk_refused, &endpoint_id);
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u64 now = bpf_ktime_get_boot_ns();
	struct nk_refused *slot;

	if (!table || !s)
		return 0;
	slot = bpf_map_lookup_elem(table, &name);
	if (slot) {
		__sync_fetch_and_add(&slot->count, 1);
		slot->last = now;
		slot->passed = passed;
		return 0;
	}
	s->refused.count = 1;
	s->refused.first = now;
	s->refused.last = now;
	s->refused.passed = passed;
	s->refused.key = s->resolved.key;
	bpf_map_update_elem(table, &name, &s->refused, BPF_NOEXIST);
	return 0;
}

/* At most NK_DNS_EDNS_BYTES are asked for. `at` is the OPT record. */
NK_GLOBAL int nk_dns_clamp(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull, __u32 at,
			   __u32 have)
{
	__be16 bytes = bpf_htons(NK_DNS_EDNS_BYTES), old = bpf_htons(have);
	__u32 offset = p->l4_offset + NK_UDP_BYTES + at + 3;

	if (have <= NK_DNS_EDNS_BYTES)
		return 0;
	if (bpf_skb_store_bytes(skb, offset, &bytes, 2, 0))
		return -NK_DROP_INTERNAL;
	/* Behind a name of odd length it lies across two words. */
	if (!(at & 1)) {
		bytes = __builtin_bswap16(bytes);
		old = __builtin_bswap16(old);
	}
	return nk_dns_sum(skb, p, nk_csum_delta_word(old, bytes));
}

/* The query in the scratch is under way: from here on an answer to it may come. */
NK_GLOBAL int nk_dns_record_query(const struct nk_packet *p __arg_nonnull,
				  struct nk_query_key *key __arg_nonnull)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 id = p->endpoint_id;
	void *table = bpf_map_lookup_elem(&nk_queries, &id);
	bool is_tcp = p->key.protocol == IPPROTO_TCP;
	struct nk_query_key ticket = {};
	struct nk_query *truncated;
	__u32 random, i;

	if (!table || !s)
		return -NK_DROP_DNS_TABLE;
	nk_dns_fill_key(key, p, s->query.id);
	if (is_tcp) {
		nk_dns_fill_ticket(&ticket, s);
		truncated = bpf_map_lookup_elem(table, &ticket);
		s->query.proved = truncated && p->now - truncated->asked <= NK_DNS_PATIENCE;
		/* The same again is a retransmission. */
		return bpf_map_update_elem(table, key, &s->query, BPF_ANY) ? -NK_DROP_DNS_TABLE : 0;
	}
	for (i = 0; i < 2; i++) {
		random = bpf_get_prandom_u32();
		key->id = random;
		random = (random >> 16) * (65536 - NK_DNS_FIRST_PORT) >> 16;
		key->port = bpf_htons(NK_DNS_FIRST_PORT + random);
		if (!bpf_map_update_elem(table, key, &s->query, BPF_NOEXIST))
			return 0;
	}
	return -NK_DROP_DNS_TABLE;
}

/* Copies the question, which the answer must repeat. question_bytes: at most 260. */
static __always_inline void nk_dns_keep(struct nk_dns_scratch *s, __u32 question_bytes)
{
	__builtin_memcpy(s->query.question, s->message + NK_DNS_HEADER_BYTES,
			 sizeof(s->query.question));
	s->query.bytes = question_bytes;
}

/*
 * 0: it may leave, and over UDP the packet and p->key have another local port; or
 * -NK_DROP_*. In this order: one plain query; a name that a rule names, or a trial;
 * a type that may be asked for; recorded.
 */
NK_GLOBAL int nk_dns_query(struct __sk_buff *skb, struct nk_packet *p __arg_nonnull)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 offset = 0, bytes = 0, at, labels = 0, type;
	bool is_udp = p->key.protocol == IPPROTO_UDP;
	struct nk_query_key key = {};
	__u32 id = p->endpoint_id;
	void *resolved;
	__u64 name, doors;
	int reason;

	if (!s)
		return -NK_DROP_INTERNAL;
	reason = nk_dns_find(skb, p, &offset, &bytes);
	if (reason)
		return reason;
	if (!bytes && !is_udp)
		return 0;
	if (bytes < NK_DNS_HEADER_BYTES || bytes > NK_DNS_QUERY_BYTES)
		return -NK_DROP_DNS_QUERY;
	/* Into the kernel's own memory first: pages of MSG_ZEROCOPY are the sender's still. */
	if (bpf_skb_pull_data(skb, offset + bytes))
		return -NK_DROP_DNS_QUERY;
	reason = nk_dns_load(skb, s, offset, bytes);
	if (reason)
		return reason;
	at = nk_dns_question(s, bytes, &labels);
	if (!at || nk_dns_check_query(s, at, bytes))
		return -NK_DROP_DNS_QUERY;
	type = nk_dns_u16(s, at - 4);
	name = nk_dns_key(at - NK_DNS_HEADER_BYTES - 5, labels);
	if (!name)
		return -NK_DROP_INTERNAL;
	/*
	 * With segments that overlap, the resolver can be made to read from amid a
	 * message: no other query may be hidden in one.
	 */
	if (!is_udp && (s->is_odd || bytes - at > NK_DNS_TCP_OPT_BYTES))
		return -NK_DROP_DNS_QUERY;
	doors = nk_names_doors(p->word, &s->resolved.key, labels);
	if (!doors || doors == NK_DOOR_AUDIT)
		nk_dns_note(p->endpoint_id, name, !!doors);
	if (!doors)
		return -NK_DROP_DNS_NAME;
	if (!nk_dns_may_ask(type))
		return -NK_DROP_DNS_TYPE;
	resolved = bpf_map_lookup_elem(&nk_resolved, &id);
	if (!resolved)
		return -NK_DROP_DNS_TABLE;
	s->resolved.hash = name;
	s->resolved.doors = doors;
	s->resolved.epoch = p->word;
	if (bpf_map_update_elem(resolved, &name, &s->resolved, BPF_ANY))
		return -NK_DROP_DNS_TABLE;
	nk_dns_keep(s, at - NK_DNS_HEADER_BYTES);
	s->query.name = name;
	s->query.asked = p->now;
	s->query.port = p->key.local_port;
	s->query.id = bpf_htons(nk_dns_u16(s, 0));
	s->query.type = type;
	s->query.proved = is_udp;
	reason = nk_dns_record_query(p, &key);
	if (reason || !is_udp)
		return reason;
	if (at < bytes) {
		reason = nk_dns_clamp(skb, p, at, nk_dns_u16(s, at + 3));
		if (reason)
			return reason;
	}
	p->key.local_port = key.port;
	return nk_dns_rewrite(skb, p, 0, key.port, key.id);
}

/*
 * Turns a query that was refused over UDP into its answer and sends that to the
 * container: a verdict. REFUSED, or NXDOMAIN where the config says so; for types
 * that only improve a connection, no data.
 */
NK_GLOBAL int nk_dns_refuse(struct __sk_buff *skb, struct nk_packet *p __arg_nonnull, int reason)
{
	__u32 zero = 0, id = p->endpoint_id, at = p->l4_offset, type, flags, offset;
	struct nk_endpoint *endpoint = bpf_map_lookup_elem(&nk_endpoints, &id);
	struct nk_settings *settings = bpf_map_lookup_elem(&nk_settings, &zero);
	struct nk_dns_scratch *s = nk_dns_scratch();
	__be16 ports[2], old, new;
	int failed;

	if (!endpoint || !settings || !s || p->key.protocol != IPPROTO_UDP)
		return TC_ACT_SHOT;
	offset = at + NK_UDP_BYTES + 2;
	flags = nk_dns_u16(s, 2);
	old = bpf_htons(flags);
	/* The scratch is that of the query still. */
	type = nk_dns_u16(s, NK_DNS_HEADER_BYTES + s->resolved.key.prefixlen / 8 + 1);
	flags = NK_DNS_RESPONSE | 0x80 | (flags & 0x0110); /* RA; RD and CD as they were */
	if (reason == -NK_DROP_DNS_NAME)
		flags |= endpoint->flags & NK_ENDPOINT_NXDOMAIN ? NK_DNS_NXDOMAIN : NK_DNS_REFUSED;
	else if (type != NK_DNS_HTTPS && type != NK_DNS_SVCB)
		flags |= NK_DNS_REFUSED;
	new = bpf_htons(flags);
	ports[0] = p->key.remote_port;
	ports[1] = p->key.local_port;
	if (p->is_v6)
		failed = bpf_skb_store_bytes(skb, ETH_HLEN + 8, p->key.remote, 16, 0) ||
			 bpf_skb_store_bytes(skb, ETH_HLEN + 24, p->local, 16, 0);
	else
		failed = bpf_skb_store_bytes(skb, ETH_HLEN + 12, p->key.remote + 12, 4, 0) ||
			 bpf_skb_store_bytes(skb, ETH_HLEN + 16, p->local + 12, 4, 0);
	/* What changed places adds up to the same. */
	if (failed || bpf_skb_store_bytes(skb, at, ports, 4, 0) ||
	    bpf_skb_store_bytes(skb, offset, &new, 2, 0) ||
	    nk_dns_sum(skb, p, nk_csum_delta_word(old, new)))
		return TC_ACT_SHOT;
	skb->mark = settings->mark_reply;
	nk_send_reset(skb);
	return bpf_redirect(skb->ifindex, 0);
}

#endif /* __NK_DNS_QUERY_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DNS between a container whose rules have names and its resolvers: queries only
 * for names of the rules, and answers that are checked whole, then learned, before
 * the container sees them (RFC 1035, RFC 6891).
 *
 * A query leaves with an id and a source port that the container did not choose:
 * with an accomplice outside it could forge its own answers else. The answer gets
 * both back. Over TCP the connection itself is the proof, and nothing is changed.
 *
 * Names are read by length, never by search; compression pointers are skipped,
 * never followed, since only the question's name counts and a question has none.
 * All reads are of a copy, so the packet cannot change meanwhile.
 *
 * from_container calls nk_dns_query and nk_dns_refuse; from_wire and to_container
 * call nk_dns_answer. Neighbours: names.h says what is allowed.
 */
#ifndef __NK_DNS_H
#define __NK_DNS_H

enum nk_dns_sizes {
	NK_DNS_HEADER_BYTES = 12,
	NK_DNS_QUERY_BYTES = 512, /* no plain query is longer */
	NK_DNS_MESSAGE_BYTES = 4096, /* of what is learned from; a power of two */
	NK_DNS_EDNS_BYTES = 1232, /* that a resolver may send: no fragments (DNS flag day 2020) */
	NK_DNS_LABELS = 128,
	NK_DNS_RECORDS = 128, /* of the answer section */
	NK_DNS_ADDRESSES = 64, /* of one answer */
};

enum nk_dns_values {
	NK_DNS_PORT = 53,
	NK_DNS_A = 1,
	NK_DNS_CNAME = 5,
	NK_DNS_AAAA = 28,
	NK_DNS_SRV = 33,
	NK_DNS_OPT = 41,
	NK_DNS_SVCB = 64,
	NK_DNS_HTTPS = 65,
	NK_DNS_IN = 1,
	NK_DNS_RESPONSE = 0x8000, /* QR */
	NK_DNS_OPCODE = 0x7800,
	NK_DNS_TRUNCATED = 0x0200, /* TC */
	NK_DNS_RCODE = 0x000f,
	NK_DNS_QUERY_FLAGS = 0x0130, /* RD, AD, CD: all that a query may have */
	NK_DNS_NXDOMAIN = 3,
	NK_DNS_REFUSED = 5,
	NK_DNS_FIRST_PORT = 1024, /* of those that queries leave by */
};

enum nk_dns_times {
	NK_DNS_PATIENCE = NK_FLOW_SECONDS(10), /* for an answer */
	NK_DNS_LEAST_TTL = 60, /* seconds; or who connects a moment later would come too late */
	NK_DNS_MOST_TTL = 24 * 3600,
};

struct nk_dns_address {
	__u8 addr[16];
	__u32 ttl; /* seconds */
	__u32 pad;
};

/* Where reading has come to; offsets are into the message. */
struct nk_dns_cursor {
	__u32 at;
	__u32 end;
	__u32 labels;
	__u32 type; /* of the records whose addresses count */
	__u32 addresses; /* collected */
	__u8 ended; /* the name did */
	__u8 failed;
	__u8 may_point; /* compression is fine here */
	__u8 pad;
};

/* What an answer teaches. */
struct nk_dns_lesson {
	__u64 name;
	__u64 doors;
	__u32 endpoint_id;
	__u32 now;
	__u32 failed;
	__u32 pad;
};

/*
 * What does not fit the stack, and what loops count by: the verifier follows each
 * number on the stack through every turn, and none in a map.
 */
struct nk_dns_scratch {
	__u8 message[NK_DNS_MESSAGE_BYTES];
	struct nk_dns_address addresses[NK_DNS_ADDRESSES];
	struct nk_resolved resolved;
	struct nk_query query;
	struct nk_refused refused;
	struct nk_dns_cursor cursor;
	struct nk_dns_lesson lesson;
	__u64 hash;
	__u32 key_bytes;
	__u32 pad;
};

/* Nothing else runs on the CPU before it is done with. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nk_dns_scratch);
} nk_scratch SEC(".maps");

static __always_inline struct nk_dns_scratch *nk_dns_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nk_scratch, &zero);
}

static __always_inline __u32 nk_dns_u8(const struct nk_dns_scratch *s, __u32 at)
{
	return s->message[at & (NK_DNS_MESSAGE_BYTES - 1)];
}

static __always_inline __u32 nk_dns_u16(const struct nk_dns_scratch *s, __u32 at)
{
	return nk_dns_u8(s, at) << 8 | nk_dns_u8(s, at + 1);
}

static __always_inline __u32 nk_dns_u32(const struct nk_dns_scratch *s, __u32 at)
{
	return nk_dns_u16(s, at) << 16 | nk_dns_u16(s, at + 2);
}

/* bytes: 1 to NK_DNS_MESSAGE_BYTES. */
static __always_inline int nk_dns_load(struct __sk_buff *skb, struct nk_dns_scratch *s,
				       __u32 offset, __u32 bytes)
{
	barrier_var(bytes);
	if (bytes < 1 || bytes > NK_DNS_MESSAGE_BYTES)
		return -NK_DROP_INTERNAL;
	return bpf_skb_load_bytes(skb, offset, s->message, bytes) ? -NK_DROP_INTERNAL : 0;
}

/* One label of a name. */
static long nk_dns_label(__u32 index, void *unused)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	struct nk_dns_cursor *c;
	__u32 bytes;

	if (!s)
		return 1;
	c = &s->cursor;
	if (c->at >= c->end) {
		c->failed = 1;
		return 1;
	}
	bytes = nk_dns_u8(s, c->at);
	if (!bytes) {
		c->at++;
		c->ended = 1;
		return 1;
	}
	if (bytes >= 0xc0 && c->may_point) {
		c->at += 2;
		c->ended = 1;
		return 1;
	}
	if (bytes > 63) {
		c->failed = 1;
		return 1;
	}
	c->at += 1 + bytes;
	c->labels++;
	return 0;
}

static __always_inline void nk_dns_start(struct nk_dns_cursor *c, __u32 at, __u32 end)
{
	__builtin_memset(c, 0, sizeof(*c));
	c->at = at;
	c->end = end;
}

/* The whole name; false if it does not end inside the message. */
static __always_inline bool nk_dns_name(struct nk_dns_cursor *c)
{
	c->ended = 0;
	bpf_loop(NK_DNS_LABELS, nk_dns_label, 0, 0);
	return c->ended && !c->failed && c->at <= c->end;
}

/* One byte of the question's name into the key. Length bytes are below 'A'. */
static long nk_dns_reverse(__u32 index, void *unused)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 byte;

	if (!s)
		return 1;
	byte = nk_dns_u8(s, NK_DNS_HEADER_BYTES + s->key_bytes - 1 - index);
	if (byte >= 'A' && byte <= 'Z')
		byte += 'a' - 'A';
	s->resolved.key.name[index & (NK_NAME_BYTES - 1)] = byte;
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

/*
 * The id and a port of the UDP header change, neither with the pseudo header. A
 * checksum that is left to the device covers both by itself.
 */
NK_GLOBAL int nk_dns_rewrite(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull,
			     __u32 port_at, __be16 port, __be16 id)
{
	bool partial = nk_csum_is_partial(skb);
	__u32 at = p->l4_offset, delta;
	__be16 old_port, old_id;
	__sum16 check;

	if (bpf_skb_load_bytes(skb, at + port_at, &old_port, 2) ||
	    bpf_skb_load_bytes(skb, at + 6, &check, 2) ||
	    bpf_skb_load_bytes(skb, at + NK_UDP_BYTES, &old_id, 2))
		return -NK_DROP_INTERNAL;
	delta = nk_csum_carry((__u64)nk_csum_delta_word(old_port, port) +
			      nk_csum_delta_word(old_id, id));
	if (bpf_skb_store_bytes(skb, at + port_at, &port, 2, 0) ||
	    bpf_skb_store_bytes(skb, at + NK_UDP_BYTES, &id, 2, 0))
		return -NK_DROP_INTERNAL;
	if (partial)
		return 0;
	if (!check) {
		nk_csum_complete(skb, delta); /* IPv4 without one */
		return 0;
	}
	check = nk_csum_replaced(check, delta) ?: 0xffff;
	return bpf_skb_store_bytes(skb, at + 6, &check, 2, 0) ? -NK_DROP_INTERNAL : 0;
}

/* At most NK_DNS_EDNS_BYTES are asked for. `at` is the OPT record. */
NK_GLOBAL int nk_dns_clamp(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull, __u32 at,
			   __u32 have)
{
	__be16 bytes = bpf_htons(NK_DNS_EDNS_BYTES), old = bpf_htons(have);
	bool partial = nk_csum_is_partial(skb), is_odd = at & 1;
	__u32 offset = p->l4_offset + NK_UDP_BYTES + at + 3;
	__sum16 check;

	if (have <= NK_DNS_EDNS_BYTES)
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4_offset + 6, &check, 2) ||
	    bpf_skb_store_bytes(skb, offset, &bytes, 2, 0))
		return -NK_DROP_INTERNAL;
	if (partial || !check)
		return 0;
	/* Behind a name of odd length it lies across two words. */
	if (!is_odd) {
		bytes = __builtin_bswap16(bytes);
		old = __builtin_bswap16(old);
	}
	check = nk_csum_replaced(check, nk_csum_delta_word(old, bytes)) ?: 0xffff;
	return bpf_skb_store_bytes(skb, p->l4_offset + 6, &check, 2, 0) ? -NK_DROP_INTERNAL : 0;
}

/* The query in the scratch is under way: from here on an answer to it may come. */
NK_GLOBAL int nk_dns_record_query(const struct nk_packet *p __arg_nonnull,
				  struct nk_query_key *key __arg_nonnull)
{
	struct nk_dns_scratch *s = nk_dns_scratch();
	__u32 id = p->endpoint_id;
	void *table = bpf_map_lookup_elem(&nk_queries, &id);
	bool is_tcp = p->key.protocol == IPPROTO_TCP;
	__u32 random, i;

	if (!table || !s)
		return -NK_DROP_DNS_TABLE;
	__builtin_memcpy(key->resolver, p->key.remote, 16);
	key->protocol = p->key.protocol;
	key->local_index = p->key.local_index;
	if (is_tcp) {
		key->port = s->query.port;
		key->id = s->query.id;
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

/* Copies the question, which the answer must repeat. question_bytes: at most 260. */
static __always_inline void nk_dns_keep(struct nk_dns_scratch *s, __u32 question_bytes)
{
	__builtin_memcpy(s->query.question, s->message + NK_DNS_HEADER_BYTES,
			 sizeof(s->query.question));
	s->query.bytes = question_bytes;
}

/*
 * 0: it may leave, and over UDP the packet and p->key have another local port; or -NK_DROP_*. In
 * this order: one plain query; a type that may be asked for; a name that a rule names, or a trial;
 * recorded.
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
	__u32 zero = 0, id = p->endpoint_id, at = p->l4_offset, type = 0, flags, offset;
	struct nk_endpoint *endpoint = bpf_map_lookup_elem(&nk_endpoints, &id);
	struct nk_settings *settings = bpf_map_lookup_elem(&nk_settings, &zero);
	struct nk_dns_scratch *s = nk_dns_scratch();
	__be16 ports[2], old, new;
	__sum16 check;
	bool partial;
	int failed;

	if (!endpoint || !settings || !s || p->key.protocol != IPPROTO_UDP)
		return TC_ACT_SHOT;
	partial = nk_csum_is_partial(skb);
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
	if (bpf_skb_load_bytes(skb, at + 6, &check, 2))
		return TC_ACT_SHOT;
	if (p->is_v6)
		failed = bpf_skb_store_bytes(skb, ETH_HLEN + 8, p->key.remote, 16, 0) ||
			 bpf_skb_store_bytes(skb, ETH_HLEN + 24, p->local, 16, 0);
	else
		failed = bpf_skb_store_bytes(skb, ETH_HLEN + 12, p->key.remote + 12, 4, 0) ||
			 bpf_skb_store_bytes(skb, ETH_HLEN + 16, p->local + 12, 4, 0);
	if (failed || bpf_skb_store_bytes(skb, at, ports, 4, 0) ||
	    bpf_skb_store_bytes(skb, offset, &new, 2, 0))
		return TC_ACT_SHOT;
	/* What changed places adds up to the same. */
	if (!partial && check) {
		check = nk_csum_replaced(check, nk_csum_delta_word(old, new)) ?: 0xffff;
		if (bpf_skb_store_bytes(skb, at + 6, &check, 2, 0))
			return TC_ACT_SHOT;
	}
	skb->mark = settings->mark_reply;
	nk_send_reset(skb);
	return bpf_redirect(skb->ifindex, 0);
}

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
	__builtin_memcpy(key.resolver, p->key.remote, 16);
	key.port = p->key.local_port;
	key.id = bpf_htons(nk_dns_u16(s, 0));
	key.protocol = p->key.protocol;
	key.local_index = p->key.local_index;
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
	ours = s->query.question[index];
	theirs = nk_dns_u8(s, NK_DNS_HEADER_BYTES + index);
	if (ours >= 'A' && ours <= 'Z')
		ours += 'a' - 'A';
	if (theirs >= 'A' && theirs <= 'Z')
		theirs += 'a' - 'A';
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
	if (flags & (NK_DNS_TRUNCATED | NK_DNS_RCODE) || (type != NK_DNS_A && type != NK_DNS_AAAA))
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

static __always_inline bool nk_dns_concerns(const struct nk_packet *p)
{
	__u8 protocol = p->key.protocol;

	return p->key.remote_port == bpf_htons(NK_DNS_PORT) &&
	       (protocol == IPPROTO_UDP || protocol == IPPROTO_TCP) && p->kind == NK_KIND_OPENS &&
	       nk_names_trie(p->word) && nk_dns_is_resolver(p);
}

#endif /* __NK_DNS_H */

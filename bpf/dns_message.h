/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading DNS messages (RFC 1035): numbers, names, and the scratch that they are
 * read from. All reads are of a copy, so the packet cannot change meanwhile.
 *
 * Names are read by length, never by search; compression pointers are skipped,
 * never followed, since only the question's name counts and a question has none.
 *
 * Neighbours: dns_packet.h copies a message, dns_query.h and dns_answer.h judge it.
 */
#ifndef __NK_DNS_MESSAGE_H
#define __NK_DNS_MESSAGE_H

enum nk_dns_sizes {
	NK_DNS_HEADER_BYTES = 12,
	NK_DNS_QUERY_BYTES = 512, /* no plain query is longer */
	NK_DNS_MESSAGE_BYTES = 4096, /* of what is learned from; a power of two */
	NK_DNS_TCP_OPT_BYTES = 11 + 12, /* with a client's cookie (RFC 7873) */
	NK_DNS_EDNS_BYTES = 1232, /* that a resolver may send: no fragments (DNS flag day 2020) */
	NK_DNS_LABELS = 128,
	NK_DNS_RECORDS = 128, /* of the answer section */
	NK_DNS_ADDRESSES = 64, /* of one answer */
};

enum nk_dns_values {
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
	__u32 label_bytes; /* that follow until the next length byte */
	__u32 is_odd; /* a label has more than letters, digits, hyphens, underscores */
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

/* Names are compared whatever their case; length bytes are below 'A'. */
static __always_inline __u32 nk_dns_fold(__u32 byte)
{
	return byte >= 'A' && byte <= 'Z' ? byte + 'a' - 'A' : byte;
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

#endif /* __NK_DNS_MESSAGE_H */

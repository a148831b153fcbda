/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Live flows of this very moment: an exact-match cache before the tables, as in
 * Open vSwitch, for packets that a live flow lets through by an uplink or from one
 * endpoint to another. A hit stands for all lookups in hash tables: whose address is
 * it, which flow, may it.
 *
 * An entry counts for one jiffy (1 to 10 ms), one device and one policy word. So
 * a change of rules and the end of an endpoint count at once, and everything else
 * that the slow way asks (is the flow alive, its route fresh, whose the address) a
 * jiffy later, when the first packet asks again and marks its flow as seen.
 *
 * A flow that opens between the same ends counts at once on its own CPU, elsewhere a
 * jiffy later too.
 *
 * What parse.h and offload.h say about a packet is said of each one. Segments that
 * change a flow's state never come here. Per CPU, where programs run one after the
 * other, as bottom halves are off.
 *
 * Neighbours: flow.h has the flows themselves.
 */
#ifndef __NK_RECENT_H
#define __NK_RECENT_H

enum nk_recent_sizes {
	NK_RECENT_BITS = 8,
	NK_RECENT_ENTRIES = 1 << NK_RECENT_BITS, /* per direction */
};

/*
 * Beside the ifindex of a peer, a number of the container's namespace: from another
 * endpoint. So what may come by an uplink may not come from there, nor the reverse.
 */
#define NK_RECENT_PEER (1U << 31)

struct nk_recent {
	struct nk_flow_key key; /* of the packet as it came; local says which address */
	__u8 local[16];
	__u64 word; /* struct nk_policy_word */
	__u64 jiffy;
	__u32 endpoint_id;
	__u32 primary_ifindex; /* or NK_RECENT_PEER and the peer's */
	__u8 inside[16]; /* the container's address; what is translated inwards */
	struct nk_flow flow; /* what is translated, and all of egress: how to send it */
};

/* 84 KiB per CPU. By direction, then some bits of a hash. Each build has its own. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_DIRS * NK_RECENT_ENTRIES);
	__type(key, __u32);
	__type(value, struct nk_recent);
} nk_recents SEC(".maps");

static __always_inline bool nk_recent_fits(const struct nk_packet *p)
{
	if (p->key.remote_port == bpf_htons(NK_DNS_PORT))
		return false; /* each query is judged by itself */
	if (p->key.protocol == IPPROTO_TCP)
		return !(p->tcp_flags & (NK_TCP_FIN | NK_TCP_SYN | NK_TCP_RST));
	return p->key.protocol == IPPROTO_UDP;
}

static __always_inline struct nk_recent *nk_recent_slot(const struct nk_packet *p, enum nk_dir dir)
{
	const __u32 *words = (const __u32 *)&p->key; /* the address' last, the ports */
	__u32 index = (words[3] ^ words[4]) * 0x9e3779b1; /* 2^32 / the golden ratio */

	index = dir << NK_RECENT_BITS | index >> (32 - NK_RECENT_BITS);
	return bpf_map_lookup_elem(&nk_recents, &index);
}

/* Both ends and the protocol; their order is the packet's in both. */
static __always_inline bool nk_recent_is_of(const struct nk_recent *r, const struct nk_packet *p)
{
	const __u32 *x = (const __u32 *)&r->key, *y = (const __u32 *)&p->key;

	return nk_parse_same_addr(r->key.remote, p->key.remote) && x[4] == y[4] &&
	       r->key.protocol == p->key.protocol && nk_parse_same_addr(r->local, p->local);
}

/* NULL for what must go the whole way. primary_ifindex 0: not known yet, by an uplink. */
static __always_inline struct nk_recent *nk_recent_find(const struct nk_packet *p, enum nk_dir dir,
							__u32 primary_ifindex)
{
	struct nk_recent *r;

	if (!nk_recent_fits(p))
		return 0;
	r = nk_recent_slot(p, dir);
	if (!r || r->jiffy != bpf_jiffies64())
		return 0;
	if (primary_ifindex ? r->primary_ifindex != primary_ifindex
			    : r->primary_ifindex & NK_RECENT_PEER)
		return 0;
	if (!nk_recent_is_of(r, p) || r->word != nk_policy_load(r->endpoint_id))
		return 0;
	return r;
}

/*
 * A packet that a live flow let through, with nothing left to find out; not the one
 * that opened it. The entry, for its flow, or NULL.
 */
static __always_inline struct nk_recent *nk_recent_note(const struct nk_packet *p, enum nk_dir dir,
							__u32 primary_ifindex)
{
	struct nk_recent *r;

	if (!nk_recent_fits(p) || p->is_rated || p->opened)
		return 0;
	if (p->kind == NK_KIND_ERROR) /* the key is of what it quotes */
		return 0;
	r = nk_recent_slot(p, dir);
	if (!r)
		return 0;
	r->key = p->key;
	__builtin_memcpy(r->local, p->local, sizeof(r->local));
	r->word = p->word;
	r->jiffy = bpf_jiffies64();
	r->endpoint_id = p->endpoint_id;
	r->primary_ifindex = primary_ifindex;
	return r;
}

/* A flow opens, perhaps another way than the one before it between the same ends. */
static __always_inline void nk_recent_forget(const struct nk_packet *p)
{
	struct nk_recent *out = nk_recent_slot(p, NK_EGRESS), *in = nk_recent_slot(p, NK_INGRESS);

	if (out)
		out->jiffy = 0;
	if (in)
		in->jiffy = 0;
}

#endif /* __NK_RECENT_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What of an uplink's traffic is an endpoint's, and the way back of masqueraded
 * flows; publish.h has what is opened by a port of the host. Most packets are the
 * host's own: each is asked as little as possible, and whatever is not certainly
 * an endpoint's is left alone.
 *
 * Runs only in from_wire.
 */
#ifndef __NK_WIRE_H
#define __NK_WIRE_H

/* Another VLAN's, or promiscuous: not addressed to this host. */
static __always_inline bool nk_wire_is_elsewhere(struct __sk_buff *skb)
{
	return skb->vlan_present || skb->pkt_type != PACKET_HOST;
}

/* A field without pulling. offset and bytes are constants. */
static __always_inline bool nk_wire_load(struct __sk_buff *skb, __u32 offset, void *to, __u32 bytes)
{
	void *data = nk_data(skb);

	if (data + offset + bytes <= nk_data_end(skb)) {
		__builtin_memcpy(to, data + offset, bytes);
		return true;
	}
	return !bpf_skb_load_bytes(skb, offset, to, bytes);
}

enum nk_wire_sizes {
	NK_OWNED_BITS = 3,
	NK_OWNED_ENTRIES = 1 << NK_OWNED_BITS,
};

/* Whose an address is, mostly the host's own: asked of every packet, and true for a jiffy. */
struct nk_owned {
	__u8 addr[16];
	__u64 jiffy;
	struct nk_addr owner; /* primary_ifindex 0: no endpoint */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_OWNED_ENTRIES);
	__type(key, __u32);
	__type(value, struct nk_owned);
} nk_owned SEC(".maps");

static __always_inline struct nk_addr *nk_wire_owner(const __u8 *addr)
{
	__u32 slot = ((const __u32 *)addr)[3] * 0x9e3779b1; /* as nk_recent_slot() */
	__u64 now = bpf_jiffies64();
	struct nk_owned *owned;
	struct nk_addr *owner;

	slot >>= 32 - NK_OWNED_BITS;
	owned = bpf_map_lookup_elem(&nk_owned, &slot);
	if (owned && owned->jiffy == now && nk_parse_same_addr(owned->addr, addr))
		return owned->owner.primary_ifindex ? &owned->owner : 0;
	owner = bpf_map_lookup_elem(&nk_addrs, addr);
	if (!owned)
		return owner;
	__builtin_memcpy(owned->addr, addr, sizeof(owned->addr));
	if (owner)
		owned->owner = *owner;
	else
		owned->owner.primary_ifindex = 0;
	owned->jiffy = now;
	return owner;
}

/* Whose packet, or NULL: not ours to touch. Protects the host's own traffic. */
static __always_inline struct nk_addr *nk_wire_receiver(struct __sk_buff *skb)
{
	__u32 words[4] __attribute__((aligned(8)));
	__be32 addr;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!nk_wire_load(skb, ETH_HLEN + 16, &addr, 4))
			return 0;
		nk_parse_map_v4((__u8 *)words, addr);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (!nk_wire_load(skb, ETH_HLEN + 24, words, 16) ||
		    nk_parse_is_mapped((__u8 *)words))
			return 0;
	} else {
		return 0;
	}
	return nk_wire_owner((const __u8 *)words);
}

/* Which endpoint's share a port is in: its id plus one, 0 = nobody's. */
static __always_inline __u32 nk_wire_port_owner(__be16 port)
{
	__u32 chunk = bpf_ntohs(port) / NK_NAT_CHUNK, *owner;

	owner = bpf_map_lookup_elem(&nk_ports, &chunk);
	return owner ? *owner : 0;
}

static __always_inline bool nk_wire_may_answer(struct __sk_buff *skb, __u8 protocol, __u32 l4)
{
	__be16 port;

	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)
		return nk_wire_load(skb, l4 + 2, &port, 2) &&
		       (nk_wire_port_owner(port) || nk_nat_is_published(port));
	/* An echo, or an error about one of these; there are few. */
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/*
 * Whether a packet to the host could be to a published port, or answer a
 * masqueraded flow. Asked of all
 * that is the host's own, hence before anything is parsed. We send no IPv4
 * options and nothing answers with them.
 */
static __always_inline bool nk_wire_may_be_translated(struct __sk_buff *skb)
{
	__u8 protocol, version_ihl;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!nk_wire_load(skb, ETH_HLEN, &version_ihl, 1) || version_ihl != 0x45 ||
		    !nk_wire_load(skb, ETH_HLEN + 9, &protocol, 1))
			return false;
		return nk_wire_may_answer(skb, protocol, ETH_HLEN + NK_IPV4_BYTES);
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) ||
	    !nk_wire_load(skb, ETH_HLEN + 6, &protocol, 1))
		return false;
	return nk_wire_may_answer(skb, protocol, ETH_HLEN + NK_IPV6_BYTES);
}

/* The key of the flow whose way back a packet to this port takes. */
static __always_inline bool nk_wire_way_back(struct nk_packet *p, __be16 port)
{
	__u32 owner = nk_wire_port_owner(port);
	struct nk_nat *there, nat;
	struct nk_flow_key key;
	void *table;
	__u64 word;

	if (!owner)
		return false;
	p->endpoint_id = owner - 1;
	table = nk_nat_table(p->endpoint_id);
	if (!table)
		return false;
	nk_nat_key(p, port, &key);
	there = bpf_map_lookup_elem(table, &key);
	if (!there)
		return false;
	word = *(volatile __u64 *)there;
	__builtin_memcpy(&nat, &word, sizeof(nat));
	nk_nat_flow_key(&key, &nat, &p->key);
	return true;
}

/*
 * The flow that a packet to a port of the host answers; -NK_DROP_* if its rule
 * was revoked, and NK_NO_FLOW for all that is not exactly the answer to a live
 * flow: that is the host's. The remote side needs no check of its own, as no flow
 * goes to an address that cannot be outside.
 */
static __noinline int nk_wire_translated_flow(struct nk_packet *p, __be16 port)
{
	struct nk_flow flow;
	int reason;

	if (!nk_wire_way_back(p, port))
		return NK_NO_FLOW;
	p->now = nk_flow_now();
	p->word = nk_policy_load(p->endpoint_id);
	if (!nk_flow_find(p, NK_INGRESS, NK_EGRESS, &flow, &reason))
		return reason ?: NK_NO_FLOW;
	if (flow.nat_port != port || !nk_parse_same_addr(flow.nat_addr, p->local))
		return NK_NO_FLOW;
	return 0;
}

/* Where a judged packet is sent on to. */
struct nk_wire_target {
	__u32 primary_ifindex;
	bool queued; /* its endpoint has a rate, and the primary a queue */
};

/*
 * Into the container through the primary's queue. to_container must not judge a
 * second time, and counts what leaves the queue. Behind it the kernel compares
 * MACs (eth_type_trans()), and L3 devices have none.
 */
static __noinline int nk_wire_queue(struct __sk_buff *skb, const struct nk_packet *p,
				    __u32 primary_ifindex)
{
	struct nk_settings *settings;
	__u8 no_macs[12] = {};
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	/* Not written directly, or the kernel would unclone all that arrives. */
	if (!settings || bpf_skb_store_bytes(skb, 0, no_macs, sizeof(no_macs), 0)) {
		nk_count_drop(p->endpoint_id, NK_INGRESS, -NK_DROP_INTERNAL);
		return TCX_DROP;
	}
	nk_count_opened(p->endpoint_id, NK_INGRESS, p->opened);
	skb->mark = settings->mark_reply;
	return bpf_redirect(primary_ifindex, 0);
}

/* Into the container. */
static __always_inline int nk_wire_deliver(struct __sk_buff *skb, const struct nk_packet *p,
					   const struct nk_wire_target *target)
{
	if (target->queued)
		return nk_wire_queue(skb, p, target->primary_ifindex);
	nk_count_pass(p->endpoint_id, NK_INGRESS, skb->len, p->opened);
	return bpf_redirect_peer(target->primary_ifindex, 0);
}

/* That packets to this port of the host are the flow's; the packet has the container's port. */
static __noinline void nk_wire_note(struct nk_packet *p, __be16 port, __u32 primary_ifindex,
				    const struct nk_addr_key *inside)
{
	__be16 container_port = p->key.local_port;
	struct nk_recent *r;

	p->key.local_port = port;
	r = nk_recent_note(p, NK_INGRESS, primary_ifindex);
	p->key.local_port = container_port;
	if (!r || !inside)
		return;
	r->flow.key = p->key;
	__builtin_memcpy(r->inside, inside, sizeof(r->inside));
}

/* Back to the container's own address and port. 0 or -NK_DROP_*. */
static __always_inline int nk_wire_translate(struct __sk_buff *skb, struct nk_packet *p,
					     __be16 port, struct nk_wire_target *target)
{
	struct nk_nat_change c = {.from_port = port, .to_port = p->key.local_port};
	struct nk_local_key key = {
		.endpoint_id = p->endpoint_id,
		.local_index = p->key.local_index,
	};
	struct nk_endpoint *endpoint;
	struct nk_addr_key *local;

	local = bpf_map_lookup_elem(&nk_locals, &key);
	endpoint = bpf_map_lookup_elem(&nk_endpoints, &key.endpoint_id);
	if (!local || !endpoint)
		return -NK_DROP_INTERNAL;
	target->primary_ifindex = endpoint->primary_ifindex;
	target->queued = endpoint->flags & NK_ENDPOINT_RATE_INGRESS;
	if (!target->queued)
		nk_wire_note(p, port, target->primary_ifindex, local);
	__builtin_memcpy(c.from_addr, p->local, 16);
	__builtin_memcpy(c.to_addr, local->addr, 16);
	return nk_nat_rewrite(skb, p, NK_INGRESS, &c);
}

/* As the one before it, a moment ago: into the same container. NK_NO_FLOW: not so. */
static __noinline int nk_wire_again(struct __sk_buff *skb, struct nk_packet *p)
{
	struct nk_nat_change c = {.from_port = p->key.local_port};
	struct nk_recent *r = nk_recent_find(p, NK_INGRESS, 0);

	if (!r)
		return NK_NO_FLOW;
	p->endpoint_id = r->endpoint_id;
	c.to_port = r->flow.key.local_port;
	__builtin_memcpy(c.from_addr, p->local, 16);
	__builtin_memcpy(c.to_addr, r->inside, 16);
	if (nk_nat_rewrite(skb, p, NK_INGRESS, &c)) {
		nk_count_drop(p->endpoint_id, NK_INGRESS, -NK_DROP_INTERNAL);
		return TCX_DROP;
	}
	nk_count_pass(p->endpoint_id, NK_INGRESS, skb->len, 0);
	return bpf_redirect_peer(r->primary_ifindex, 0);
}

/*
 * A new flow from the wire: its source must be where the host would route the
 * answer, out of an uplink. Asked with the primary as the incoming device, since
 * forwarding is usually off on uplinks, and the answer comes in by the primary.
 */
static __noinline int nk_wire_scope(struct __sk_buff *skb, struct nk_packet *p,
				    __u32 primary_ifindex, __u32 *scope)
{
	int fixed = nk_route_static(p), reason;
	struct nk_route r = {};

	if (fixed) {
		*scope = fixed - 1; /* martians are gone */
		return 0;
	}
	p->path_bytes = 0; /* the answer's size is its own matter */
	reason = nk_route_by_fib(skb, p, primary_ifindex, &r);
	if (reason)
		return reason;
	if (r.scope != NK_SCOPE_OUTSIDE)
		return -NK_DROP_SPOOFED_SOURCE; /* the host's own, or of another interface */
	*scope = r.scope;
	return 0;
}

#endif /* __NK_WIRE_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow tables: which packets belong to a connection that the rules allowed,
 * and how long. Per endpoint and direction of the opener, so that no flood cuts
 * another's connections.
 *
 * An LRU element may be given to another flow at any moment. So every reader
 * copies it, then checks that the copy is of its own flow. The few words written
 * back without that certainty (seen, state, flags, the next hop) can only touch
 * a flow of the same endpoint and direction, which passed the same rules; they
 * shorten or lengthen its life by a timeout, or send it by the wrong neighbour
 * until it is routed again. The epoch is not among them.
 *
 * Neighbours: policy.h judges, route.h finds the next hop.
 */
#ifndef __NK_FLOW_H
#define __NK_FLOW_H

#define NK_FLOW_SECONDS(n) ((__u32)(((n)*1000000000ULL) >> NK_TICK_SHIFT))

/* A silence longer than this ends a flow, in ticks. */
enum nk_flow_timeout {
	NK_FLOW_TCP_OPENING = NK_FLOW_SECONDS(60),
	NK_FLOW_TCP_ESTABLISHED = NK_FLOW_SECONDS(6 * 3600),
	NK_FLOW_TCP_CLOSING = NK_FLOW_SECONDS(10),
	NK_FLOW_ICMP = NK_FLOW_SECONDS(30),
	NK_FLOW_ONE_WAY = NK_FLOW_SECONDS(30), /* UDP and the rest */
	NK_FLOW_BOTH_WAYS = NK_FLOW_SECONDS(180),
};

/* Neither a verdict nor a reason: no flow here, look further. */
enum {
	NK_NO_FLOW = 1,
};

static __always_inline __u32 nk_flow_now(void)
{
	return bpf_ktime_get_coarse_ns() >> NK_TICK_SHIFT;
}

static __always_inline void *nk_flow_table(__u32 endpoint_id, __u32 opener)
{
	__u32 index = 2 * endpoint_id + opener;

	return bpf_map_lookup_elem(&nk_flows, &index);
}

static __always_inline bool nk_flow_same_key(const struct nk_flow_key *a,
					     const struct nk_flow_key *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline bool nk_flow_is_expired(const struct nk_flow *flow, __u32 now)
{
	__u32 timeout, silence = now - flow->seen;

	if (flow->key.protocol == IPPROTO_TCP) {
		timeout = NK_FLOW_TCP_ESTABLISHED;
		if (flow->state == NK_FLOW_OPENING)
			timeout = NK_FLOW_TCP_OPENING;
		else if (flow->state == NK_FLOW_CLOSING)
			timeout = NK_FLOW_TCP_CLOSING;
	} else if (flow->key.protocol == IPPROTO_ICMP || flow->key.protocol == IPPROTO_ICMPV6) {
		timeout = NK_FLOW_ICMP;
	} else {
		timeout = flow->state == NK_FLOW_OPENING ? NK_FLOW_ONE_WAY : NK_FLOW_BOTH_WAYS;
	}
	/* Another CPU may have stamped the flow a tick after we read the clock. */
	return (__s32)silence > (__s32)timeout;
}

/*
 * Which packets may use a flow at all. An opening packet never travels against
 * the opener: or one allowed connection would let the other side open one back
 * to its port without a rule. An ICMP error is about either direction.
 */
static __always_inline bool nk_flow_fits(const struct nk_packet *p, bool is_reply)
{
	if (p->kind == NK_KIND_ERROR)
		return true;
	if (p->kind == NK_KIND_SINGLE)
		return false;
	if (p->kind == NK_KIND_ANSWERS)
		return is_reply;
	if (!is_reply)
		return true;
	return !nk_parse_is_syn(p) && !nk_parse_is_icmp(p);
}

/*
 * An inbound packet must come the way the flow goes: else a neighbour of one
 * kind (another container, a network behind the host, the wire) could answer for
 * a remote side of another kind. Errors about a flow of an uplink may also come
 * from the host's stack.
 */
static __always_inline bool nk_flow_came_its_way(const struct nk_packet *p,
						 const struct nk_flow *flow)
{
	if (flow->via == p->arrival)
		return true;
	return p->kind == NK_KIND_ERROR && p->arrival == NK_VIA_HOST && flow->via == NK_VIA_UPLINK;
}

/*
 * The rules changed since the flow was judged: once more, with the scope it has.
 * Removed when no longer allowed, so a revoked rule cuts its live flows.
 */
NK_GLOBAL int nk_flow_rejudge(struct nk_packet *p __arg_nonnull,
			      struct nk_flow *flow __arg_nonnull, __u32 opener)
{
	__be16 port = opener == NK_EGRESS ? p->key.remote_port : p->key.local_port;
	void *table = nk_flow_table(p->endpoint_id, opener);
	int reason;

	if (!table)
		return -NK_DROP_FLOW_TABLE;
	if (nk_parse_is_icmp(p)) /* only echo has flows, and a request opened it */
		port = bpf_htons(p->is_v6 ? NK_ICMPV6_ECHO : NK_ICMP_ECHO);
	p->is_live = 1;
	reason = nk_policy_judge(p, opener, flow->scope, port, &flow->rule);
	p->is_live = 0;
	if (reason) {
		bpf_map_delete_elem(table, &p->key);
		return reason;
	}
	p->audited = 0; /* noted when it opened */
	flow->epoch = nk_policy_epoch(p->word);
	/* By key, since the element may be another flow's by now; gone is fine. */
	bpf_map_update_elem(table, &p->key, flow, BPF_EXIST);
	return 0;
}

/*
 * TCP as far as timeouts need it. RST and FIN may be forged by whoever knows the
 * ports, and the sequence numbers are not tracked. So a segment from the
 * container itself without RST says that its socket lives, whatever came in.
 */
static __always_inline __u8 nk_flow_tcp_state(const struct nk_packet *p, enum nk_dir dir,
					      __u8 state, __u8 *flags)
{
	const __u8 both = NK_FLOW_FIN_OUT | NK_FLOW_FIN_IN;

	if (p->tcp_flags & NK_TCP_RST)
		return NK_FLOW_CLOSING;
	if (p->tcp_flags & NK_TCP_FIN)
		*flags |= dir == NK_EGRESS ? NK_FLOW_FIN_OUT : NK_FLOW_FIN_IN;
	if ((*flags & both) == both)
		return NK_FLOW_CLOSING;
	if (state == NK_FLOW_CLOSING && dir == NK_EGRESS)
		return NK_FLOW_ESTABLISHED;
	return state;
}

/* slot is shared with other CPUs: it is written only where something changes. */
static __always_inline void nk_flow_touch(const struct nk_packet *p, struct nk_flow *slot,
					  struct nk_flow *flow, enum nk_dir dir, bool is_reply)
{
	__u8 state = flow->state, flags = flow->flags;

	if (is_reply && state == NK_FLOW_OPENING)
		state = NK_FLOW_ESTABLISHED;
	if (p->key.protocol == IPPROTO_TCP)
		state = nk_flow_tcp_state(p, dir, state, &flags);
	if (state != flow->state)
		slot->state = state;
	if (flags != flow->flags)
		slot->flags = flags;
	if (p->now != flow->seen)
		slot->seen = p->now;
	flow->flags = flags;
}

/*
 * The live flow of a packet in one table: NULL and *reason 0 for a miss, NULL
 * and a reason for a flow that the rules no longer allow. *flow is a copy that is
 * certainly of this flow; the result is the element, which may not be any more.
 */
static __always_inline struct nk_flow *nk_flow_find(struct nk_packet *p, enum nk_dir dir,
						    enum nk_dir opener, struct nk_flow *flow,
						    int *reason)
{
	void *table = nk_flow_table(p->endpoint_id, opener);
	struct nk_flow *slot;

	*reason = 0;
	if (!table || !nk_flow_fits(p, dir != opener))
		return 0;
	slot = bpf_map_lookup_elem(table, &p->key);
	if (!slot)
		return 0;
	__builtin_memcpy(flow, slot, sizeof(*flow));
	barrier();
	if (!nk_flow_same_key(&slot->key, &p->key) || !nk_flow_same_key(&flow->key, &p->key))
		return 0;
	if (nk_flow_is_expired(flow, p->now))
		return 0;
	if (dir == NK_INGRESS && !nk_flow_came_its_way(p, flow))
		return 0;
	if (flow->state == NK_FLOW_CLOSING && nk_parse_is_syn(p))
		return 0;
	if (flow->epoch != nk_policy_epoch(p->word)) {
		*reason = nk_flow_rejudge(p, flow, opener);
		if (*reason)
			return 0;
		/* Written anew, it has another element: what comes now belongs there. */
		slot = bpf_map_lookup_elem(table, &p->key);
		if (!slot)
			return 0;
	}
	if (p->kind != NK_KIND_ERROR)
		nk_flow_touch(p, slot, flow, dir, dir != opener);
	return slot;
}

/* A new flow, or the same again after it ended; a failure is a counted drop. */
static __always_inline int nk_flow_open(struct nk_packet *p, enum nk_dir opener,
					struct nk_flow *flow)
{
	void *table = nk_flow_table(p->endpoint_id, opener);

	flow->key = p->key;
	flow->epoch = nk_policy_epoch(p->word);
	flow->seen = p->now;
	flow->probed = p->now;
	flow->state = NK_FLOW_OPENING;
	if (!table || bpf_map_update_elem(table, &p->key, flow, BPF_ANY))
		return -NK_DROP_FLOW_TABLE;
	p->opened = 1;
	nk_recent_forget(p);
	return 0;
}

#endif /* __NK_FLOW_H */

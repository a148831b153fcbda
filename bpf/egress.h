/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a container sends: is it sound and its own, live flows, then the rules and
 * the way out. What becomes of a refused packet is said by datapath.bpf.c.
 *
 * Neighbours: ingress.h is the other direction, send.h the last step.
 */
#ifndef __NK_EGRESS_H
#define __NK_EGRESS_H

static __always_inline void nk_note_route(struct nk_flow *flow, const struct nk_route *r,
					  __u32 mtu_bytes, __u32 now)
{
	flow->ifindex = r->ifindex;
	flow->mtu_bytes = r->mtu_bytes && r->mtu_bytes < mtu_bytes ? r->mtu_bytes : mtu_bytes;
	flow->routed = now;
	if (r->has_mac) {
		__builtin_memcpy(flow->mac, r->mac, sizeof(flow->mac));
		flow->flags |= NK_FLOW_MAC;
	} else {
		flow->flags &= ~NK_FLOW_MAC;
	}
}

/* Where the size is found out: the answer to the container names it. */
static __always_inline int nk_egress_oversize(struct nk_packet *p, __u32 mtu_bytes)
{
	p->mtu_bytes = mtu_bytes;
	return -NK_DROP_OVERSIZE;
}

/*
 * To the wire: under the address that the flow is known by there. A masqueraded
 * one means nothing there itself.
 */
static __always_inline int nk_egress_translate(struct __sk_buff *skb, const struct nk_packet *p,
					       const struct nk_flow *flow)
{
	if (flow->nat_port)
		return nk_nat_leave(skb, p, flow);
	return p->masquerade ? -NK_DROP_NAT_PROTOCOL : 0;
}

/*
 * Whether a translated flow may go on as it is: out of the same uplink, under an
 * address that is still the host's (IPv6 has several, and prefers a newer one
 * for new flows only), and with its way back.
 */
static __always_inline bool nk_egress_keeps_source(struct __sk_buff *skb, const struct nk_packet *p,
						   const struct nk_flow *flow,
						   const struct nk_route *r)
{
	if (r->ifindex != flow->ifindex)
		return false;
	if (!nk_parse_same_addr(p->nat_addr, flow->nat_addr) &&
	    !nk_route_is_local(skb, p, flow->nat_addr, skb->ifindex))
		return false;
	return nk_nat_renew(p, flow);
}

/*
 * Asks the host's routing again for a live flow. What the container opened
 * follows the routes, and is judged anew where they now lead elsewhere. What
 * came in by an uplink answers by that uplink, whatever the routes say: the
 * other side's path may not have the other uplink's address.
 *
 * A masqueraded flow whose address is gone is opened once more under the new
 * one: UDP goes on, and a TCP connection learns at once that it is over.
 */
NK_GLOBAL int nk_egress_reroute(struct __sk_buff *skb, struct nk_packet *p __arg_nonnull,
				struct nk_flow *flow __arg_nonnull,
				struct nk_flow *slot __arg_nonnull, __u32 opener)
{
	bool by_neighbour = p->now - flow->probed > NK_ROUTE_PROBE;
	struct nk_route r = {};
	__u32 mtu_bytes;
	int reason;

	reason = nk_route_resolve(skb, p, &r);
	if (reason && !r.has_scope)
		return reason;
	if (r.scope != flow->scope)
		return NK_NO_FLOW;
	if (reason)
		return reason;
	if (opener == NK_EGRESS && r.via != flow->via)
		return NK_NO_FLOW;
	if (opener == NK_INGRESS && flow->nat_port &&
	    !nk_route_is_local(skb, p, flow->nat_addr, skb->ifindex))
		return -NK_DROP_NAT_ADDRESS;
	if (opener == NK_INGRESS && (r.via != NK_VIA_UPLINK || r.ifindex != flow->ifindex)) {
		mtu_bytes = nk_route_uplink_mtu(flow->ifindex);
		if (mtu_bytes && p->path_bytes > mtu_bytes)
			return nk_egress_oversize(p, mtu_bytes);
		r.hop.nh_family = 0;
		return nk_egress_translate(skb, p, flow)
			       ?: nk_send_by_neighbour(skb, flow->ifindex, &r.hop);
	}
	if (opener == NK_EGRESS && p->masquerade && r.via == NK_VIA_UPLINK &&
	    !nk_egress_keeps_source(skb, p, flow, &r))
		return NK_NO_FLOW;
	nk_note_route(slot, &r, nk_endpoint_mtu(p->endpoint_id), p->now);
	if (by_neighbour)
		slot->probed = p->now;
	if (r.mtu_bytes && p->path_bytes > r.mtu_bytes)
		return nk_egress_oversize(p, r.mtu_bytes);
	if (r.via == NK_VIA_UPLINK) {
		reason = nk_egress_translate(skb, p, flow);
		if (reason)
			return reason;
	}
	return nk_send_by_route(skb, p, &r, by_neighbour);
}

/* In a live flow to another endpoint; by a port of the host each packet is turned anew. */
static __always_inline int nk_egress_to_endpoint(struct __sk_buff *skb, const struct nk_packet *p,
						 const struct nk_flow *flow)
{
	struct nk_addr *other = bpf_map_lookup_elem(&nk_addrs, p->key.remote);
	struct nk_recent *recent = 0;

	if (!other)
		return -NK_DROP_NO_ENDPOINT;
	if (!p->nat_port)
		recent = nk_recent_note(p, NK_EGRESS, skb->ifindex);
	if (recent) {
		recent->flow = *flow;
		recent->flow.ifindex = other->primary_ifindex;
	}
	return nk_send_to_primary(skb, other->primary_ifindex);
}

/* The way of a live flow: the only code that most packets run after the lookup. */
static __noinline int nk_egress_by_flow(struct __sk_buff *skb, struct nk_packet *p, __u32 opener)
{
	struct nk_flow *slot, flow;
	struct nk_recent *recent = 0;
	int reason;

	slot = nk_flow_find(p, NK_EGRESS, opener, &flow, &reason);
	if (!slot)
		return reason ?: NK_NO_FLOW;
	if (p->path_bytes > flow.mtu_bytes)
		return nk_egress_oversize(p, flow.mtu_bytes);
	if (flow.via == NK_VIA_UPLINK) {
		if (p->now - flow.routed > NK_ROUTE_REFRESH || !(flow.flags & NK_FLOW_MAC))
			return nk_egress_reroute(skb, p, &flow, slot, opener);
		if (flow.nat_port || !p->masquerade)
			recent = nk_recent_note(p, NK_EGRESS, skb->ifindex);
		if (recent)
			recent->flow = flow;
		return nk_egress_translate(skb, p, &flow)
			       ?: nk_send_by_mac(skb, flow.ifindex, flow.mac);
	}
	if (opener == NK_EGRESS && flow.via == NK_VIA_ENDPOINT && !nk_publish_same_way(p, &flow))
		return NK_NO_FLOW;
	/* What came in by the host or an endpoint goes back there, routes or not. */
	if (opener == NK_EGRESS && p->now - flow.routed > NK_ROUTE_REFRESH)
		return nk_egress_reroute(skb, p, &flow, slot, opener);
	if (flow.via == NK_VIA_ENDPOINT)
		return nk_egress_to_endpoint(skb, p, &flow);
	return nk_send_to_host(skb, p);
}

/* Address and port of a new flow on the wire, which the endpoint's rules allow. */
static __always_inline int nk_egress_masquerade(struct __sk_buff *skb, const struct nk_packet *p,
						const struct nk_route *r, struct nk_flow *flow)
{
	if (r->scope == NK_SCOPE_MULTICAST || !nk_nat_knows(p))
		return -NK_DROP_NAT_PROTOCOL;
	if (!r->has_source)
		return -NK_DROP_NAT_ADDRESS;
	__builtin_memcpy(flow->nat_addr, p->nat_addr, 16);
	return nk_nat_open(skb, p, flow);
}

/* No flow: where does it go, may it, and remember that it may. */
NK_GLOBAL int nk_egress_by_rules(struct __sk_buff *skb, struct nk_packet *p __arg_nonnull)
{
	__u32 mtu_bytes = nk_endpoint_mtu(p->endpoint_id), rule = 0;
	struct nk_flow flow = {};
	struct nk_route r = {};
	int failed, reason;

	if (p->path_bytes > mtu_bytes)
		return nk_egress_oversize(p, mtu_bytes);
	failed = nk_route_resolve(skb, p, &r);
	if (failed && !r.has_scope)
		return failed;
	reason = nk_policy_judge(p, NK_EGRESS, r.scope, nk_policy_port(p, NK_EGRESS), &rule);
	if (reason)
		return reason;
	if (failed)
		return failed;
	if (r.via == NK_VIA_UPLINK && !r.ifindex)
		return -NK_DROP_NO_ROUTE; /* multicast, and no uplink for it */
	if (r.mtu_bytes && p->path_bytes > r.mtu_bytes)
		return nk_egress_oversize(p, r.mtu_bytes);
	if (p->masquerade && r.via == NK_VIA_UPLINK) {
		reason = nk_egress_masquerade(skb, p, &r, &flow);
		if (reason)
			return reason;
	}
	if (p->kind == NK_KIND_OPENS) {
		flow.rule = rule;
		flow.scope = r.scope;
		flow.via = r.via;
		nk_publish_note(p, &flow);
		nk_note_route(&flow, &r, mtu_bytes, p->now);
		reason = nk_flow_open(p, NK_EGRESS, &flow);
		if (reason) {
			if (flow.nat_port)
				nk_nat_release(p, flow.nat_port);
			return reason;
		}
	}
	if (r.via == NK_VIA_UPLINK) {
		reason = nk_egress_translate(skb, p, &flow);
		if (reason)
			return reason;
	}
	return nk_send_by_route(skb, p, &r, nk_route_wants_probe(p, &r));
}

/*
 * What a container sends. A verdict, or -NK_DROP_*, in this order:
 *   1. the endpoint has a policy
 *   2. to a resolver whose queries are filtered: each one is judged, flow or not
 *   3. to a published port of the host: it is one to that container from here on
 *   4. a live flow it opened, then one opened towards it; revoked ones drop
 *   5. ICMP errors end here: they are about a live flow or nothing
 *   6. size, route, deny rules, allow rules, the scope's default
 */
static __always_inline int nk_egress(struct __sk_buff *skb, struct nk_packet *p)
{
	int verdict;

	p->now = nk_flow_now();
	p->word = nk_policy_load(p->endpoint_id);
	if (!p->word)
		return -NK_DROP_NO_POLICY;
	if (p->kind == NK_KIND_ERROR) {
		verdict = nk_quote(skb, p, NK_EGRESS);
		if (verdict)
			return verdict;
	}
	if (p->kind != NK_KIND_ERROR && nk_dns_concerns(p)) {
		verdict = nk_dns_query(skb, p);
		if (verdict)
			return verdict;
	}
	if (nk_nat_is_published(p->key.remote_port)) {
		verdict = nk_publish_turn(skb, p);
		if (verdict)
			return verdict;
	}
	verdict = nk_egress_by_flow(skb, p, NK_EGRESS);
	if (verdict == NK_NO_FLOW)
		verdict = nk_egress_by_flow(skb, p, NK_INGRESS);
	if (verdict != NK_NO_FLOW)
		return verdict;
	if (p->kind == NK_KIND_ERROR)
		return -NK_DROP_ICMP_UNRELATED;
	return nk_egress_by_rules(skb, p);
}

/*
 * Before anybody's rules: does it come from an address of this very device, does it
 * ask the kernel for nothing unsound, and no faster than it may? Protects the host
 * and everybody on the network.
 */
static __always_inline int nk_egress_admit(struct __sk_buff *skb, struct nk_packet *p)
{
	struct nk_addr *sender;
	int reason;

	sender = bpf_map_lookup_elem(&nk_addrs, p->local);
	if (!sender || sender->primary_ifindex != skb->ifindex)
		return -NK_DROP_SPOOFED_SOURCE;
	p->endpoint_id = sender->endpoint_id;
	p->key.local_index = sender->local_index;
	p->masquerade = sender->flags & NK_ADDR_MASQUERADE;
	reason = nk_offload_check(skb, p);
	if (!reason && sender->flags & NK_ADDR_RATE_EGRESS) {
		p->is_rated = 1;
		reason = nk_rate_take(p->endpoint_id, skb->len);
	}
	return reason;
}

/* As the one before it, a moment ago: same ends, same flow, same rules. */
static __always_inline int nk_egress_again(struct __sk_buff *skb, struct nk_packet *p,
					   struct nk_recent *r)
{
	int reason;

	p->endpoint_id = r->endpoint_id;
	reason = nk_offload_check(skb, p);
	if (reason)
		return reason;
	if (r->flow.via == NK_VIA_ENDPOINT)
		return nk_send_to_primary(skb, r->flow.ifindex);
	if (r->flow.nat_port)
		reason = nk_nat_leave(skb, p, &r->flow);
	return reason ?: nk_send_by_mac(skb, r->flow.ifindex, r->flow.mac);
}

#endif /* __NK_EGRESS_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is sent to a container, wherever it comes from: live flows, then the
 * rules. Who sends it, and whether that can be, is said by datapath.bpf.c.
 *
 * Neighbours: flow.h, policy.h. Mustn't: change packets.
 */
#ifndef __NK_INGRESS_H
#define __NK_INGRESS_H

static __always_inline __u32 nk_endpoint_mtu(__u32 endpoint_id)
{
	struct nk_endpoint *endpoint = bpf_map_lookup_elem(&nk_endpoints, &endpoint_id);

	return endpoint ? endpoint->mtu_bytes : 0;
}

static __noinline int nk_ingress_by_flow(struct nk_packet *p, __u32 opener)
{
	struct nk_flow flow;
	int reason;

	if (!nk_flow_find(p, NK_INGRESS, opener, &flow, &reason))
		return reason ?: NK_NO_FLOW;
	/* Answers go back by the flow's way: what came by another one opens it anew. */
	if (opener == NK_INGRESS)
		return nk_publish_same_way(p, &flow) ? 0 : NK_NO_FLOW;
	/* The container asked a port of the host, and hears from there. */
	if (flow.via == NK_VIA_ENDPOINT) {
		p->nat_port = flow.nat_port;
		__builtin_memcpy(p->nat_addr, flow.nat_addr, sizeof(p->nat_addr));
	}
	return 0;
}

/* 0, -NK_DROP_*, or NK_NO_FLOW for what must now be judged by the rules. */
static __always_inline int nk_ingress_known(struct __sk_buff *skb, struct nk_packet *p)
{
	int reason;

	p->now = nk_flow_now();
	p->word = nk_policy_load(p->endpoint_id);
	if (!p->word)
		return -NK_DROP_NO_POLICY;
	if (p->kind == NK_KIND_ERROR) {
		reason = nk_quote(skb, p, NK_INGRESS);
		if (reason)
			return reason;
	}
	reason = nk_ingress_by_flow(p, NK_EGRESS);
	if (reason == NK_NO_FLOW)
		reason = nk_ingress_by_flow(p, NK_INGRESS);
	if (reason != NK_NO_FLOW)
		return reason;
	if (p->kind == NK_KIND_ERROR)
		return -NK_DROP_ICMP_UNRELATED;
	/* An inbound flow starts at its beginning; outbound ones may be picked up. */
	if (p->key.protocol == IPPROTO_TCP && !nk_parse_is_syn(p))
		return -NK_DROP_NOT_SYN;
	return NK_NO_FLOW;
}

/* ifindex: the uplink, 0 for the host's stack and other endpoints. */
NK_GLOBAL int nk_ingress_by_rules(struct nk_packet *p __arg_nonnull, __u32 scope, __u32 ifindex)
{
	struct nk_flow flow = {};
	__u32 rule = 0;
	int reason;

	reason = nk_policy_judge(p, NK_INGRESS, scope, nk_policy_port(p, NK_INGRESS), &rule);
	if (reason || p->kind != NK_KIND_OPENS)
		return reason;
	flow.rule = rule;
	flow.scope = scope;
	flow.via = p->arrival;
	flow.ifindex = ifindex;
	flow.mtu_bytes = nk_endpoint_mtu(p->endpoint_id);
	nk_publish_note_inbound(p, &flow);
	return nk_flow_open(p, NK_INGRESS, &flow); /* the first answer asks for the route */
}

#endif /* __NK_INGRESS_H */

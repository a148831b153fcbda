// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The four programs: which stages a packet passes and in which order, and what
 * a reason to drop becomes at each hook. The stages live in the headers.
 *
 * netkit runs PASS, DROP and REDIRECT only as such; any other verdict could
 * pass the packet (netkit_run(), drivers/net/netkit.c). Minimum kernel: 6.12.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "maps.h"
#include "compat.h"
#include "parse.h"
#include "quote.h"
#include "csum.h"
#include "offload.h"
#include "count.h"
#include "policy.h"
#include "denied.h"
#include "rate.h"
#include "recent.h"
#include "flow.h"
#include "route.h"
#include "nat.h"
#include "publish.h"
#include "ingress.h"
#include "send.h"
#include "toobig.h"
#include "dns_message.h"
#include "dns_packet.h"
#include "dns_query.h"
#include "dns_answer.h"
#include "wire.h"
#include "reply.h"
#include "egress.h"
#include "connect.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Keeps in BTF what no map mentions, so that Rust gets it from the skeleton. */
const volatile struct nk_types {
	enum nk_limits limits;
	enum nk_dir dir;
	enum nk_scope scope;
	enum nk_via via;
	enum nk_drop drop;
	enum nk_addr_flags addr_flags;
	enum nk_endpoint_flags endpoint_flags;
	enum nk_table table;
	enum nk_rule_bits rule_bits;
	enum nk_verdict verdict;
	enum nk_flow_state flow_state;
	enum nk_flow_flags flow_flags;
	enum nk_time time;
	struct nk_rule_key rule_key;
	struct nk_rule rule;
	struct nk_flow flow;
	struct nk_nat nat;
	struct nk_published_key published_key;
	struct nk_name_key name_key;
	struct nk_name_rule name_rule;
	struct nk_resolved resolved;
	struct nk_learned learned;
	struct nk_query_key query_key;
	struct nk_query query;
	struct nk_refused refused;
	struct nk_denied_key denied_key;
	struct nk_denied denied;
} nk_types = {.limits = NK_ABI_VERSION};

/* Attached to the peer through the primary; the host's namespace. */
SEC("netkit/peer")
int nk_from_container(struct __sk_buff *skb)
{
	struct nk_packet p = {.endpoint_id = NK_NO_ENDPOINT};
	__u32 ifindex = skb->ifindex, *id;
	int verdict, answer = TC_ACT_SHOT;
	struct nk_recent *recent = 0;

	verdict = nk_parse(skb, &p, NK_EGRESS, true);
	if (!verdict) {
		recent = nk_recent_find(&p, NK_EGRESS, ifindex);
		/* A larger one than its path takes must be told so. */
		if (recent && p.path_bytes <= recent->flow.mtu_bytes)
			verdict = nk_egress_again(skb, &p, recent);
		else
			verdict = nk_egress_admit(skb, &p) ?: nk_egress(skb, &p);
	}
	if (verdict >= 0) {
		nk_count_pass(p.endpoint_id, NK_EGRESS, skb->len, p.opened);
		nk_denied_audit(&p, NK_EGRESS);
		/* Anything else would pass: netkit_run(), drivers/net/netkit.c. */
		return verdict == TC_ACT_REDIRECT || verdict == TC_ACT_OK ? verdict : TC_ACT_SHOT;
	}
	if (p.endpoint_id == NK_NO_ENDPOINT) {
		id = bpf_map_lookup_elem(&nk_ifindexes, &ifindex);
		if (id)
			p.endpoint_id = *id;
	}
	if (verdict == -NK_DROP_OVERSIZE)
		answer = nk_toobig_answer(skb, &p);
	else if (verdict == -NK_DROP_DNS_NAME || verdict == -NK_DROP_DNS_TYPE)
		answer = nk_dns_refuse(skb, &p, verdict);
	nk_denied_drop(&p, NK_EGRESS, verdict);
	/* Fail closed: the packet itself goes nowhere, and its answer only back. */
	return answer == TC_ACT_REDIRECT ? TC_ACT_REDIRECT : TC_ACT_SHOT;
}

/*
 * Whether an endpoint's own program let it through: the mark proves it. 0 is no
 * secret: settings that are not filled in prove nothing.
 */
static __always_inline bool nk_is_judged(const struct __sk_buff *skb)
{
	struct nk_settings *settings;
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	return settings && skb->mark && skb->mark == settings->mark_judged;
}

/*
 * Where a packet on the primary comes from: our own marks prove it, the rest is
 * the host's stack. Protects the container from other endpoints that found a way
 * around their own program.
 */
static __always_inline int nk_host_arrival(struct __sk_buff *skb, struct nk_packet *p, __u32 *scope)
{
	int fixed;

	p->arrival = NK_VIA_HOST;
	if (nk_is_judged(skb)) {
		p->arrival = NK_VIA_ENDPOINT;
		*scope = NK_SCOPE_CONTAINERS;
		skb->mark = 0;
	} else if (bpf_map_lookup_elem(&nk_addrs, p->key.remote)) {
		return -NK_DROP_UNJUDGED;
	} else {
		/* Forwarded packets have no socket; nor, rarely, the host's own: stricter. */
		*scope = skb->sk ? NK_SCOPE_HOST : NK_SCOPE_NETWORK;
	}
	fixed = nk_route_static(p);
	if (fixed < 0 || fixed == NK_SCOPE_MULTICAST + 1)
		return -NK_DROP_MARTIAN; /* as a source */
	if (fixed)
		*scope = fixed - 1;
	return 0;
}

static __always_inline int nk_host_judge(struct __sk_buff *skb, struct nk_packet *p)
{
	struct nk_settings *settings;
	__u32 scope, zero = 0;
	int reason;

	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	if (settings && skb->mark && skb->mark == settings->mark_reply) {
		skb->mark = 0;
		return 0; /* our own answer to this container, or out of nk_wire_queue() */
	}
	reason = nk_host_arrival(skb, p, &scope);
	if (reason)
		return reason;
	reason = nk_ingress_known(skb, p);
	if (!reason && p->arrival == NK_VIA_ENDPOINT && !p->nat_port)
		nk_recent_note(p, NK_INGRESS, NK_RECENT_PEER | skb->ifindex);
	if (!reason && nk_dns_concerns(p))
		reason = nk_dns_answer(skb, p);
	if (reason != NK_NO_FLOW)
		return reason;
	return nk_ingress_by_rules(p, scope, 0);
}

/* Whether it is as the one before it, a moment ago, and from another endpoint as that one. */
static __always_inline bool nk_host_again(struct __sk_buff *skb, struct nk_packet *p)
{
	struct nk_recent *r;

	if (!nk_is_judged(skb))
		return false;
	r = nk_recent_find(p, NK_INGRESS, NK_RECENT_PEER | skb->ifindex);
	if (!r)
		return false;
	skb->mark = 0;
	p->endpoint_id = r->endpoint_id;
	return true;
}

/*
 * Attached to the primary: what the host's stack and other endpoints send. It
 * runs in the container's namespace, so: no fib, no redirect, no ifindex of the
 * host, and its endpoint is found by address. The host's stack and GRO are
 * trusted with lengths, trailers and offloads; parse.h says where.
 */
SEC("netkit/primary")
int nk_to_container(struct __sk_buff *skb)
{
	struct nk_packet p = {.endpoint_id = NK_NO_ENDPOINT};
	struct nk_addr *receiver = 0;
	int reason;

	reason = nk_parse(skb, &p, NK_INGRESS, false);
	if (!reason && nk_host_again(skb, &p)) {
		nk_count_pass(p.endpoint_id, NK_INGRESS, skb->len, 0);
		return TC_ACT_OK;
	}
	if (p.has_headers)
		receiver = bpf_map_lookup_elem(&nk_addrs, p.local);
	if (receiver && receiver->peer_ifindex == skb->ifindex) {
		p.endpoint_id = receiver->endpoint_id;
		p.key.local_index = receiver->local_index;
		if (!reason)
			reason = nk_host_judge(skb, &p);
		if (!reason && p.nat_port)
			reason = nk_publish_return(skb, &p);
	} else if (!reason) {
		reason = -NK_DROP_NO_ENDPOINT; /* multicast of the host, or gone astray */
	}
	if (reason) {
		nk_denied_drop(&p, NK_INGRESS, reason);
		return TC_ACT_SHOT; /* fail closed */
	}
	nk_count_pass(p.endpoint_id, NK_INGRESS, skb->len, p.opened);
	nk_denied_audit(&p, NK_INGRESS);
	return TC_ACT_OK;
}

/*
 * 0 or -NK_DROP_*, in this order: sound, source not an endpoint's or martian,
 * flows, TCP starts with SYN, source fits the routes, rules. The IPv4 header
 * checksum is left to the container's stack, which verifies it (ip_rcv_core()).
 */
static __always_inline int nk_wire_judge(struct __sk_buff *skb, struct nk_packet *p,
					 __u32 primary_ifindex)
{
	int reason, fixed;
	__u32 scope;

	reason = nk_parse(skb, p, NK_INGRESS, false);
	if (reason)
		return reason;
	if (nk_recent_find(p, NK_INGRESS, primary_ifindex))
		return 0;
	if (bpf_map_lookup_elem(&nk_addrs, p->key.remote))
		return -NK_DROP_SPOOFED_SOURCE; /* endpoints never speak from the wire */
	fixed = nk_route_static(p);
	if (fixed < 0 || fixed == NK_SCOPE_MULTICAST + 1)
		return -NK_DROP_MARTIAN;
	reason = nk_ingress_known(skb, p);
	if (!reason)
		nk_recent_note(p, NK_INGRESS, primary_ifindex);
	if (reason != NK_NO_FLOW)
		return reason;
	reason = nk_wire_scope(skb, p, primary_ifindex, &scope);
	if (reason)
		return reason;
	return nk_ingress_by_rules(p, scope, skb->ifindex);
}

/*
 * What comes to a port of the host that is published: as nk_wire_judge, with the
 * flow first, since the host has a say in everything else. NK_NO_FLOW: its own.
 */
static __noinline int nk_wire_published(struct __sk_buff *skb, struct nk_packet *p, __be16 port)
{
	__u32 scope, primary_ifindex;
	int reason;

	primary_ifindex = nk_publish_find(p, port);
	if (!primary_ifindex)
		return NK_NO_FLOW;
	reason = nk_ingress_by_flow(p, NK_INGRESS);
	if (reason != NK_NO_FLOW)
		return reason;
	reason = nk_publish_admit(skb, p, primary_ifindex);
	if (!reason)
		reason = nk_wire_scope(skb, p, primary_ifindex, &scope);
	return reason ?: nk_ingress_by_rules(p, scope, skb->ifindex);
}

/* What comes to an address of the host and is a container's, or the host's. */
NK_GLOBAL int nk_wire_translated(struct __sk_buff *skb, struct nk_packet *p __arg_nonnull)
{
	struct nk_wire_target target = {};
	int reason, verdict;
	__be16 port;

	if (nk_parse(skb, p, NK_INGRESS, false))
		return TCX_NEXT;
	verdict = nk_wire_again(skb, p);
	if (verdict != NK_NO_FLOW)
		return verdict;
	if (p->kind == NK_KIND_ERROR && nk_quote(skb, p, NK_INGRESS))
		return TCX_NEXT;
	port = p->key.local_port;
	reason = nk_wire_translated_flow(p, port);
	if (reason == NK_NO_FLOW)
		reason = nk_wire_published(skb, p, port);
	if (reason == NK_NO_FLOW)
		return TCX_NEXT;
	if (!reason)
		reason = nk_wire_translate(skb, p, port, &target);
	if (!reason && nk_dns_concerns(p))
		reason = nk_dns_answer(skb, p);
	if (reason) {
		nk_denied_drop(p, NK_INGRESS, reason);
		return TCX_DROP;
	}
	nk_denied_audit(p, NK_INGRESS);
	return nk_wire_deliver(skb, p, &target);
}

/*
 * Attached to each uplink's tcx ingress. Everything that is not for an endpoint
 * goes on untouched: fail open for the host, fail closed for endpoints. First of
 * all what the uplink's neighbours ask about endpoints, mostly by broadcast.
 */
SEC("tcx/ingress")
int nk_from_wire(struct __sk_buff *skb)
{
	struct nk_packet p = {.arrival = NK_VIA_UPLINK};
	struct nk_wire_target target;
	struct nk_addr *receiver;
	int reason, verdict;

	verdict = nk_reply(skb);
	if (verdict != NK_NO_REPLY)
		return verdict;
	if (nk_wire_is_elsewhere(skb))
		return TCX_NEXT;
	receiver = nk_wire_receiver(skb);
	if (!receiver)
		return nk_wire_may_be_translated(skb) ? nk_wire_translated(skb, &p) : TCX_NEXT;
	p.endpoint_id = receiver->endpoint_id;
	p.key.local_index = receiver->local_index;
	target.primary_ifindex = receiver->primary_ifindex;
	target.queued = receiver->flags & NK_ADDR_RATE_INGRESS;
	reason = receiver->flags & NK_ADDR_MASQUERADE
			 ? -NK_DROP_NAT_DIRECT
			 : nk_wire_judge(skb, &p, target.primary_ifindex);
	if (!reason && nk_dns_concerns(&p))
		reason = nk_dns_answer(skb, &p);
	if (reason) {
		nk_denied_drop(&p, NK_INGRESS, reason);
		return TCX_DROP;
	}
	nk_denied_audit(&p, NK_INGRESS);
	return nk_wire_deliver(skb, &p, &target);
}

/*
 * Attached to the primary's tcx ingress, only where the container may manage its
 * network: such a container can put packets there without passing its own
 * program, but cannot know the mark. Protects the host.
 */
SEC("tcx/ingress")
int nk_guard(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, none = NK_NO_ENDPOINT, *id;

	if (nk_is_judged(skb)) {
		skb->mark = 0;
		return TCX_NEXT;
	}
	id = bpf_map_lookup_elem(&nk_ifindexes, &ifindex);
	nk_count_drop(id ? *id : none, NK_EGRESS, -NK_DROP_UNJUDGED);
	return TCX_DROP; /* fail closed */
}

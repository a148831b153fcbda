/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Published ports: what comes from the wire, or from another container, to a port
 * of the host is a container's, if its ingress rules allow the client. The flow,
 * towards the wire an inbound one, remembers the host's address and port; they
 * turn the destination of what comes in and the source of what goes out.
 *
 * The host goes first: an address that is not its own is not looked at, and a
 * port that a socket of the host has is that socket's, whoever came earlier.
 *
 * Neighbours: nat.h rewrites, wire.h asks first whether it can be one at all.
 */
#ifndef __NK_PUBLISH_H
#define __NK_PUBLISH_H

static __always_inline struct nk_published *__nk_publish_lookup(const __u8 *addr, __u8 protocol,
								__be16 port)
{
	struct nk_published_key key = {.port = port, .protocol = protocol};

	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&nk_published, &key);
}

/* At any address of its family. */
static __always_inline struct nk_published *nk_publish_lookup_any(bool is_v6, __u8 protocol,
								  __be16 port)
{
	__u32 any[4] = {};

	if (!is_v6)
		nk_parse_map_v4((__u8 *)any, 0);
	return __nk_publish_lookup((__u8 *)any, protocol, port);
}

static __always_inline struct nk_published *nk_publish_lookup(const struct nk_packet *p,
							      __be16 port)
{
	if (!nk_nat_is_published(port)) /* ICMP, whose key has its id there, mostly ends here */
		return 0;
	return __nk_publish_lookup(p->local, p->key.protocol, port)
		       ?: nk_publish_lookup_any(p->is_v6, p->key.protocol, port);
}

/* Turns the packet's key to the container's end. Its primary, or 0: not published. */
static __always_inline __u32 nk_publish_find(struct nk_packet *p, __be16 port)
{
	struct nk_published *found = nk_publish_lookup(p, port);
	struct nk_endpoint *endpoint;
	__u32 id;

	if (!found)
		return 0;
	p->key.local_port = found->port;
	p->key.local_index = found->local_index;
	p->nat_port = port;
	__builtin_memcpy(p->nat_addr, p->local, sizeof(p->nat_addr));
	p->endpoint_id = id = found->endpoint_id;
	p->now = nk_flow_now();
	p->word = nk_policy_load(id);
	endpoint = bpf_map_lookup_elem(&nk_endpoints, &id);
	return endpoint ? endpoint->primary_ifindex : 0;
}

/*
 * Whether a packet goes by the port of the host that its flow is known by, or
 * directly to the container as the flow does.
 */
static __always_inline bool nk_publish_same_way(const struct nk_packet *p,
						const struct nk_flow *flow)
{
	if (flow->nat_port != p->nat_port)
		return false;
	return !p->nat_port || nk_parse_same_addr(flow->nat_addr, p->nat_addr);
}

static __always_inline void nk_publish_note(const struct nk_packet *p, struct nk_flow *flow)
{
	if (!p->nat_port)
		return;
	__builtin_memcpy(flow->nat_addr, p->nat_addr, sizeof(flow->nat_addr));
	flow->nat_port = p->nat_port;
}

/*
 * Into a new inbound flow. One that the container opened between the very same
 * ends is forgotten, or answers would leave by that one's port.
 */
static __always_inline void nk_publish_note_inbound(const struct nk_packet *p, struct nk_flow *flow)
{
	void *table;

	nk_publish_note(p, flow);
	if (!p->nat_port)
		return;
	table = nk_flow_table(p->endpoint_id, NK_EGRESS);
	if (table)
		bpf_map_delete_elem(table, &p->key);
}

/* A socket of the host that would get the packet. */
static __always_inline bool nk_publish_has_socket(struct __sk_buff *skb, const struct nk_packet *p)
{
	struct nk_flow flow = {};

	nk_publish_note(p, &flow);
	return nk_nat_has_socket(skb, p, &flow);
}

/* The same for what a container sends: its own end is the socket's remote one. */
static __always_inline bool nk_publish_is_taken(struct __sk_buff *skb, const struct nk_packet *p)
{
	struct nk_packet other = *p;

	__builtin_memcpy(other.key.remote, p->local, sizeof(other.key.remote));
	other.key.remote_port = p->key.local_port;
	return nk_publish_has_socket(skb, &other);
}

/* Loopback and multicast are no addresses that the wire reaches the host by. */
static __always_inline bool nk_publish_is_own(struct __sk_buff *skb, const struct nk_packet *p,
					      __u32 primary_ifindex)
{
	int fixed = nk_route_static_addr(p, p->local);

	return fixed >= 0 && fixed != NK_SCOPE_MULTICAST + 1 &&
	       nk_route_is_local(skb, p, p->local, primary_ifindex);
}

/*
 * Without a live flow: 0, a reason, or NK_NO_FLOW for what is the host's, in this
 * order: errors, which are about a flow of the host's then; another's address; a
 * socket's; source an endpoint's or martian; TCP that does not start with SYN.
 */
static __noinline int nk_publish_admit(struct __sk_buff *skb, const struct nk_packet *p,
				       __u32 primary_ifindex)
{
	int fixed;

	if (p->kind == NK_KIND_ERROR || !nk_publish_is_own(skb, p, primary_ifindex) ||
	    nk_publish_has_socket(skb, p))
		return NK_NO_FLOW;
	if (bpf_map_lookup_elem(&nk_addrs, p->key.remote))
		return -NK_DROP_SPOOFED_SOURCE;
	fixed = nk_route_static(p);
	if (fixed < 0 || fixed == NK_SCOPE_MULTICAST + 1)
		return -NK_DROP_MARTIAN;
	if (p->key.protocol == IPPROTO_TCP && !nk_parse_is_syn(p))
		return -NK_DROP_NOT_SYN;
	return 0;
}

/* Whether a container's packet goes on in a live flow that came to the same port of the host. */
static __always_inline bool nk_publish_is_under_way(const struct nk_packet *p)
{
	void *table = nk_flow_table(p->endpoint_id, NK_EGRESS);
	struct nk_flow *flow;

	flow = table ? bpf_map_lookup_elem(table, &p->key) : 0;
	return flow && nk_publish_same_way(p, flow);
}

/* What of another container's is behind the port of the host that a container sends to. */
static __always_inline struct nk_published *nk_publish_beyond(const struct nk_packet *p)
{
	struct nk_published *found;
	__u8 protocol = p->key.protocol;
	__be16 port = p->key.remote_port;

	if (p->kind != NK_KIND_OPENS || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return 0;
	found = __nk_publish_lookup(p->key.remote, protocol, port);
	if (!found && bpf_map_lookup_elem(&nk_host_addrs, p->key.remote))
		found = nk_publish_lookup_any(p->is_v6, protocol, port);
	/* To itself by the host there is no way, as its own address is the source. */
	return found && found->endpoint_id != p->endpoint_id ? found : 0;
}

/*
 * From here on the packet is one to the other container: rules, flow and way are
 * those between containers, and the flow knows what to call the other one towards
 * this one. 0 or -NK_DROP_*. As ever, a socket of the host that has the port goes
 * first.
 */
static __noinline int nk_publish_turn(struct __sk_buff *skb, struct nk_packet *p)
{
	struct nk_published *found = nk_publish_beyond(p);
	struct nk_nat_change c = {};
	struct nk_addr_key *local;
	struct nk_local_key key;

	if (!found)
		return 0;
	key.endpoint_id = found->endpoint_id;
	key.local_index = found->local_index;
	c.to_port = found->port;
	local = bpf_map_lookup_elem(&nk_locals, &key);
	if (!local)
		return 0;
	__builtin_memcpy(c.to_addr, local->addr, 16);
	__builtin_memcpy(c.from_addr, p->key.remote, 16);
	c.from_port = p->key.remote_port;
	__builtin_memcpy(p->nat_addr, c.from_addr, 16);
	p->nat_port = c.from_port;
	__builtin_memcpy(p->key.remote, c.to_addr, 16);
	p->key.remote_port = c.to_port;
	if (!nk_publish_is_under_way(p) && nk_publish_is_taken(skb, p)) {
		__builtin_memcpy(p->key.remote, c.from_addr, 16);
		p->key.remote_port = c.from_port;
		p->nat_port = 0;
		return 0;
	}
	return nk_nat_rewrite(skb, p, NK_INGRESS, &c);
}

/* An answer or an error, as the container knows the other side. 0 or -NK_DROP_*. */
static __noinline int nk_publish_return(struct __sk_buff *skb, const struct nk_packet *p)
{
	struct nk_nat_change c;

	__builtin_memcpy(c.from_addr, p->key.remote, 16);
	__builtin_memcpy(c.to_addr, p->nat_addr, 16);
	c.from_port = p->key.remote_port;
	c.to_port = p->nat_port;
	return nk_nat_rewrite(skb, p, NK_EGRESS, &c);
}

#endif /* __NK_PUBLISH_H */

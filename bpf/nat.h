/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Masquerading: a container's address and port in exchange for an uplink's, and
 * back. Here are the claim on a port and the rewriting of headers; when that
 * happens is datapath.bpf.c's.
 *
 * A translation has two halves: the flow (nk_flow: nat_addr, nat_port) and the
 * way back (nk_nats). The way back is written first and counts only while the
 * flow lives and names the same port, so either half may be forgotten: the other
 * one is dead then, and its port is free again.
 *
 * Ports come from a share that is the endpoint's alone, and one is used towards
 * many remote sides at a time. Thus no container can take another's, and the
 * port in a packet from the wire says whose it may be.
 *
 * Neighbours: flow.h holds the flows, route.h finds the address.
 */
#ifndef __NK_NAT_H
#define __NK_NAT_H

enum nk_nat_tries {
	NK_NAT_TRIES = 32, /* random ports of the share, before a packet is dropped */
	NK_NAT_GENTLE = 24, /* the first of these leave flows alone that are just closing */
};

/* One end of a packet: what it says and what it shall say. */
struct nk_nat_change {
	__u8 from_addr[16];
	__u8 to_addr[16];
	__be16 from_port;
	__be16 to_port;
	__u32 addr_delta;
	__u32 port_delta;
} __attribute__((aligned(8)));

/* Whether there are two numbers that can tell flows apart. */
static __always_inline bool nk_nat_knows(const struct nk_packet *p)
{
	if (p->kind != NK_KIND_OPENS)
		return false;
	return p->key.protocol == IPPROTO_TCP || p->key.protocol == IPPROTO_UDP ||
	       nk_parse_is_icmp(p);
}

static __always_inline void *nk_nat_table(__u32 endpoint_id)
{
	return bpf_map_lookup_elem(&nk_nats, &endpoint_id);
}

static __always_inline __u64 nk_nat_word(const struct nk_nat *nat)
{
	return *(const __u64 *)nat;
}

/* The key of the way back of the packet's flow by a port. */
static __always_inline void nk_nat_key(const struct nk_packet *p, __be16 port,
				       struct nk_flow_key *key)
{
	*key = p->key;
	key->local_index = 0;
	key->local_port = port;
	if (nk_parse_is_icmp(p))
		key->remote_port = port; /* an echo has one id */
}

/* And back: the key of the flow that a way back names. */
static __always_inline void nk_nat_flow_key(const struct nk_flow_key *key, const struct nk_nat *nat,
					    struct nk_flow_key *flow_key)
{
	*flow_key = *key;
	flow_key->local_index = nat->local_index;
	flow_key->local_port = nat->local_port;
	if (key->protocol == IPPROTO_ICMP || key->protocol == IPPROTO_ICMPV6)
		flow_key->remote_port = nat->local_port;
}

/* Whether a way back is in use; evict: just closing does not count. */
static __always_inline bool nk_nat_is_live(const struct nk_packet *p, const struct nk_flow_key *key,
					   const struct nk_nat *nat, bool evict)
{
	void *table = nk_flow_table(p->endpoint_id, NK_EGRESS);
	struct nk_flow_key flow_key;
	struct nk_flow *flow;

	if (!table)
		return false;
	nk_nat_flow_key(key, nat, &flow_key);
	flow = bpf_map_lookup_elem(table, &flow_key);
	if (!flow || !nk_flow_same_key(&flow->key, &flow_key))
		return false;
	if (flow->nat_port != key->local_port || nk_flow_is_expired(flow, p->now))
		return false;
	return !evict || flow->state != NK_FLOW_CLOSING;
}

/* Whether any endpoint has the port published, for whichever address and protocol. */
static __always_inline bool nk_nat_is_published(__be16 port)
{
	__u32 number = bpf_ntohs(port), chunk = number / NK_NAT_CHUNK, *bits;

	bits = bpf_map_lookup_elem(&nk_published_bits, &chunk);
	return bits && *bits >> number % NK_NAT_CHUNK & 1;
}

/* Whether a socket of the host has the port: what comes for it is the host's. */
NK_GLOBAL int nk_nat_has_socket(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull,
				const struct nk_flow *flow __arg_nonnull)
{
	const __u32 *local = (const __u32 *)flow->nat_addr, *remote = (const __u32 *)p->key.remote;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sock;
	__u32 bytes;

	if (p->is_v6) {
		__builtin_memcpy(tuple.ipv6.saddr, remote, 16);
		__builtin_memcpy(tuple.ipv6.daddr, local, 16);
		tuple.ipv6.sport = p->key.remote_port;
		tuple.ipv6.dport = flow->nat_port;
		bytes = sizeof(tuple.ipv6);
	} else {
		tuple.ipv4.saddr = remote[3];
		tuple.ipv4.daddr = local[3];
		tuple.ipv4.sport = p->key.remote_port;
		tuple.ipv4.dport = flow->nat_port;
		bytes = sizeof(tuple.ipv4);
	}
	if (p->key.protocol == IPPROTO_TCP)
		sock = bpf_skc_lookup_tcp(skb, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else if (p->key.protocol == IPPROTO_UDP)
		sock = bpf_sk_lookup_udp(skb, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!sock)
		return false;
	bpf_sk_release(sock);
	return true;
}

/*
 * Takes the place of a way back that nobody uses. Exchanged as one word, so that
 * of two CPUs one gets it; looked up again, as an LRU element may have become
 * another key's meanwhile.
 */
static __always_inline bool nk_nat_replace(const struct nk_packet *p, void *table,
					   const struct nk_flow_key *key, __u64 mine, bool evict)
{
	struct nk_nat *there = bpf_map_lookup_elem(table, key), old;
	__u64 word;

	if (!there)
		return false;
	word = *(volatile __u64 *)there;
	__builtin_memcpy(&old, &word, sizeof(old));
	/* This very flow's own, from before it had to be opened again, is no other's. */
	if ((old.local_port != p->key.local_port || old.local_index != p->key.local_index) &&
	    nk_nat_is_live(p, key, &old, evict))
		return false;
	if (__sync_val_compare_and_swap((__u64 *)there, word, mine) != word)
		return false;
	there = bpf_map_lookup_elem(table, key);
	return there && *(volatile __u64 *)there == mine;
}

/* Whether the port could be had. */
NK_GLOBAL int nk_nat_claim(const struct nk_packet *p __arg_nonnull, __be16 port, bool evict)
{
	void *table = nk_nat_table(p->endpoint_id);
	struct nk_nat mine = {
		.local_port = p->key.local_port,
		.local_index = p->key.local_index,
		.opened = p->now,
	};
	struct nk_flow_key key;

	if (!table)
		return false;
	nk_nat_key(p, port, &key);
	return !bpf_map_update_elem(table, &key, &mine, BPF_NOEXIST) ||
	       nk_nat_replace(p, table, &key, nk_nat_word(&mine), evict);
}

/* Gives a port back that came to nothing. */
NK_GLOBAL int nk_nat_release(const struct nk_packet *p __arg_nonnull, __be16 port)
{
	void *table = nk_nat_table(p->endpoint_id);
	struct nk_flow_key key;

	nk_nat_key(p, port, &key);
	return table ? bpf_map_delete_elem(table, &key) : 0;
}

/*
 * A port for a new flow, whose nat_addr is known. The first choice depends on
 * the container's port only, so that a socket keeps its port towards all remote
 * sides (RFC 4787, REQ-1, where nothing is in the way); the others are random.
 */
NK_GLOBAL int nk_nat_open(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull,
			  struct nk_flow *flow __arg_nonnull)
{
	__u32 first, ports, offset, id = p->endpoint_id;
	struct nk_endpoint *endpoint;
	int i;

	endpoint = bpf_map_lookup_elem(&nk_endpoints, &id);
	if (!endpoint || !endpoint->nat_ports)
		return -NK_DROP_NAT_PORTS;
	first = endpoint->nat_port;
	ports = endpoint->nat_ports;
	offset = bpf_ntohs(p->key.local_port);
	for (i = 0; i < NK_NAT_TRIES; i++) {
		__be16 port = bpf_htons(first + offset % ports);

		if (!nk_nat_is_published(port) && nk_nat_claim(p, port, i >= NK_NAT_GENTLE)) {
			flow->nat_port = port;
			if (!nk_nat_has_socket(skb, p, flow))
				return 0;
			nk_nat_release(p, port);
		}
		offset = bpf_get_prandom_u32();
	}
	return -NK_DROP_NAT_PORTS;
}

/*
 * Whether the way back of a live flow is there, or could be put there again: the
 * table may have forgotten it in favour of a dead one.
 */
NK_GLOBAL int nk_nat_renew(const struct nk_packet *p __arg_nonnull,
			   const struct nk_flow *flow __arg_nonnull)
{
	void *table = nk_nat_table(p->endpoint_id);
	struct nk_nat *there, mine = {
				      .local_port = p->key.local_port,
				      .local_index = p->key.local_index,
				      .opened = p->now,
			      };
	struct nk_flow_key key;

	if (!table)
		return false;
	nk_nat_key(p, flow->nat_port, &key);
	there = bpf_map_lookup_elem(table, &key);
	if (!there)
		return !bpf_map_update_elem(table, &key, &mine, BPF_NOEXIST);
	return there->local_port == mine.local_port && there->local_index == mine.local_index;
}

/*
 * The transport header at a constant offset, its first port at `at`. Where the
 * device computes the checksum, only the pseudo header's part is ours to mend.
 */
static __always_inline int nk_nat_rewrite_transport(struct __sk_buff *skb,
						    const struct nk_packet *p, __u32 offset,
						    __u32 at, const struct nk_nat_change *c)
{
	bool partial = nk_csum_is_partial(skb);
	__u32 delta = partial ? c->addr_delta : nk_csum_carry((__u64)c->addr_delta + c->port_delta);
	struct tcphdr *tcp;
	struct udphdr *udp;
	__be16 *words;

	switch (p->key.protocol) {
	case IPPROTO_TCP:
		tcp = nk_parse_pull(skb, offset, sizeof(*tcp));
		if (!tcp)
			return -NK_DROP_INTERNAL;
		((__be16 *)tcp)[at] = c->to_port;
		tcp->check = partial ? nk_csum_replaced_partial(tcp->check, delta)
				     : nk_csum_replaced(tcp->check, delta);
		break;
	case IPPROTO_UDP:
		udp = nk_parse_pull(skb, offset, sizeof(*udp));
		if (!udp)
			return -NK_DROP_INTERNAL;
		((__be16 *)udp)[at] = c->to_port;
		if (partial) {
			udp->check = nk_csum_replaced_partial(udp->check, delta);
		} else if (udp->check) {
			udp->check = nk_csum_replaced(udp->check, delta) ?: 0xffff;
		} else {
			nk_csum_complete(skb, c->port_delta); /* IPv4 without one */
			return 0;
		}
		break;
	case IPPROTO_ICMP: /* without a pseudo header */
		words = nk_parse_pull(skb, offset, NK_ICMP_BYTES);
		if (!words)
			return -NK_DROP_INTERNAL;
		words[2] = c->to_port;
		words[1] = nk_csum_replaced(words[1], c->port_delta);
		return 0;
	case IPPROTO_ICMPV6:
		words = nk_parse_pull(skb, offset, NK_ICMP_BYTES);
		if (!words)
			return -NK_DROP_INTERNAL;
		words[2] = c->to_port;
		words[1] = partial ? nk_csum_replaced_partial(words[1], delta)
				   : nk_csum_replaced(words[1], delta);
		break;
	default:
		return -NK_DROP_INTERNAL;
	}
	/* The transport checksum took back an address that IPv4's header took back too. */
	if (!p->is_v6 && !partial)
		nk_csum_complete(skb, ~c->addr_delta);
	return 0;
}

static __always_inline int nk_nat_rewrite_address(struct __sk_buff *skb, const struct nk_packet *p,
						  __u32 dir, const struct nk_nat_change *c)
{
	struct ipv6hdr *ip6;
	struct iphdr *ip;

	if (p->is_v6) {
		ip6 = nk_parse_pull(skb, ETH_HLEN, sizeof(*ip6));
		if (!ip6)
			return -NK_DROP_INTERNAL;
		__builtin_memcpy(dir == NK_EGRESS ? ip6->saddr : ip6->daddr, c->to_addr, 16);
		return 0;
	}
	ip = nk_parse_pull(skb, ETH_HLEN, sizeof(*ip));
	if (!ip)
		return -NK_DROP_INTERNAL;
	if (dir == NK_EGRESS)
		ip->saddr = ((const __u32 *)c->to_addr)[3];
	else
		ip->daddr = ((const __u32 *)c->to_addr)[3];
	ip->check = nk_csum_replaced(ip->check, c->addr_delta);
	return 0;
}

/* A word of the quoted packet, and what the sum grows by. */
static __always_inline int nk_nat_quote_word(struct __sk_buff *skb, __u32 offset, __be16 to,
					     __u64 *sum)
{
	__be16 from;

	if (bpf_skb_load_bytes(skb, offset, &from, sizeof(from)))
		return -NK_DROP_INTERNAL;
	*sum += nk_csum_delta_word(from, to);
	return bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0) ? -NK_DROP_INTERNAL : 0;
}

/* Likewise for a checksum of it; a quote may end before it, and UDP may have none. */
static __always_inline int nk_nat_quote_sum(struct __sk_buff *skb, __u32 offset, __u32 delta,
					    bool is_udp, __u64 *sum)
{
	__sum16 from, to;

	if (bpf_skb_load_bytes(skb, offset, &from, sizeof(from)) || (is_udp && !from))
		return 0;
	to = nk_csum_replaced(from, delta);
	if (is_udp && !to)
		to = 0xffff;
	return nk_nat_quote_word(skb, offset, to, sum);
}

/*
 * The packet that an ICMP error quotes went the other way, so its other end is
 * the one to change. *sum grows by all changes inside the ICMP message.
 */
static __always_inline int nk_nat_rewrite_quote(struct __sk_buff *skb, const struct nk_packet *p,
						__u32 dir, const struct nk_nat_change *c,
						__u64 *sum)
{
	__u32 ip = p->l4_offset + NK_ICMP_BYTES, at = dir == NK_EGRESS ? 2 : 0;
	__u32 l4 = ip + (p->is_v6 ? NK_IPV6_BYTES : NK_IPV4_BYTES);
	__u32 both = nk_csum_carry((__u64)c->addr_delta + c->port_delta);
	__u8 protocol = p->key.protocol;
	int failed;

	*sum += c->addr_delta;
	if (p->is_v6) {
		failed = bpf_skb_store_bytes(skb, ip + (dir == NK_EGRESS ? 24 : 8), c->to_addr, 16,
					     0);
	} else {
		failed = bpf_skb_store_bytes(skb, ip + (dir == NK_EGRESS ? 16 : 12),
					     c->to_addr + 12, 4, 0);
		if (!failed)
			failed = nk_nat_quote_sum(skb, ip + 10, c->addr_delta, false, sum);
	}
	if (failed)
		return -NK_DROP_INTERNAL;
	switch (protocol) {
	case IPPROTO_TCP:
		return nk_nat_quote_word(skb, l4 + at, c->to_port, sum)
			       ?: nk_nat_quote_sum(skb, l4 + 16, both, false, sum);
	case IPPROTO_UDP:
		return nk_nat_quote_word(skb, l4 + at, c->to_port, sum)
			       ?: nk_nat_quote_sum(skb, l4 + 6, both, true, sum);
	}
	return nk_nat_quote_word(skb, l4 + 4, c->to_port, sum)
		       ?: nk_nat_quote_sum(skb, l4 + 2, p->is_v6 ? both : c->port_delta, false,
					   sum);
}

static __noinline int nk_nat_rewrite_error(struct __sk_buff *skb, const struct nk_packet *p,
					   __u32 dir, const struct nk_nat_change *c)
{
	bool partial = nk_csum_is_partial(skb);
	__u32 at = p->l4_offset + 2;
	__sum16 check;
	__u64 sum = 0;
	int failed;

	failed = nk_nat_rewrite_quote(skb, p, dir, c, &sum);
	if (failed)
		return failed;
	if (partial)
		sum = 0; /* the device will add up what we changed */
	if (p->is_v6)
		sum += c->addr_delta;
	if (bpf_skb_load_bytes(skb, at, &check, sizeof(check)))
		return -NK_DROP_INTERNAL;
	check = partial ? nk_csum_replaced_partial(check, nk_csum_carry(sum))
			: nk_csum_replaced(check, nk_csum_carry(sum));
	if (bpf_skb_store_bytes(skb, at, &check, sizeof(check), 0))
		return -NK_DROP_INTERNAL;
	return nk_nat_rewrite_address(skb, p, dir, c);
}

/* Source for egress, destination for ingress. The last thing before a redirect. */
NK_GLOBAL int nk_nat_rewrite(struct __sk_buff *skb, const struct nk_packet *p __arg_nonnull,
			     __u32 dir, struct nk_nat_change *c __arg_nonnull)
{
	__u32 at = dir == NK_EGRESS ? 0 : 1;
	int failed;

	c->addr_delta = nk_csum_delta_addr(c->from_addr, c->to_addr);
	c->port_delta = nk_csum_delta_word(c->from_port, c->to_port);
	if (p->kind == NK_KIND_ERROR)
		return nk_nat_rewrite_error(skb, p, dir, c);
	failed = nk_nat_rewrite_address(skb, p, dir, c);
	if (failed)
		return failed;
	if (p->is_v6)
		return nk_nat_rewrite_transport(skb, p, ETH_HLEN + NK_IPV6_BYTES, at, c);
	return nk_nat_rewrite_transport(skb, p, ETH_HLEN + NK_IPV4_BYTES, at, c);
}

/* What leaves by an uplink, under the uplink's address. */
static __noinline int nk_nat_leave(struct __sk_buff *skb, const struct nk_packet *p,
				   const struct nk_flow *flow)
{
	struct nk_nat_change c;

	__builtin_memcpy(c.from_addr, p->local, 16);
	__builtin_memcpy(c.to_addr, flow->nat_addr, 16);
	c.from_port = p->key.local_port;
	c.to_port = flow->nat_port;
	return nk_nat_rewrite(skb, p, NK_EGRESS, &c);
}

#endif /* __NK_NAT_H */

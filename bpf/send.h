/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The last step of what a container sends: MACs, marks and the redirect. Runs
 * only in from_container; every function returns a netkit verdict or -NK_DROP_*.
 */
#ifndef __NK_SEND_H
#define __NK_SEND_H

/*
 * What the container chose for its own device must not steer the host's: a
 * delivery time in the far future would fill the uplink's fq, and a queue of a
 * device with one queue puts everything on the uplink's first.
 */
static __always_inline void nk_send_reset(struct __sk_buff *skb)
{
	skb->queue_mapping = 0;
	skb->tstamp = 0;
}

static __always_inline int nk_send_by_mac(struct __sk_buff *skb, __u32 ifindex, const __u8 *mac)
{
	const __u32 *from = (const __u32 *)mac;
	__u32 *to = nk_data(skb);

	if ((void *)to + ETH_HLEN > nk_data_end(skb))
		return -NK_DROP_INTERNAL;
	/* By words, which clang does only for what it thinks is aligned. */
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	nk_send_reset(skb);
	return bpf_redirect(ifindex, 0);
}

/* The kernel's neighbour code resolves and probes; family 0: it also routes. */
static __always_inline int nk_send_by_neighbour(struct __sk_buff *skb, __u32 ifindex,
						struct bpf_redir_neigh *hop)
{
	nk_send_reset(skb);
	if (hop->nh_family)
		return bpf_redirect_neigh(ifindex, hop, sizeof(*hop), 0);
	return bpf_redirect_neigh(ifindex, 0, 0, 0);
}

/* To another endpoint, whose to_container judges by its own ingress rules. */
static __always_inline int nk_send_to_primary(struct __sk_buff *skb, __u32 ifindex)
{
	struct nk_settings *settings;
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	if (!settings)
		return -NK_DROP_NO_ENDPOINT;
	skb->mark = settings->mark_judged; /* peer scrub zeroed what the container set */
	nk_send_reset(skb);
	return bpf_redirect(ifindex, 0);
}

static __always_inline int nk_send_to_endpoint(struct __sk_buff *skb, const struct nk_packet *p)
{
	struct nk_addr *other = bpf_map_lookup_elem(&nk_addrs, p->key.remote);

	return other ? nk_send_to_primary(skb, other->primary_ifindex) : -NK_DROP_NO_ENDPOINT;
}

/* To the host's stack, by the backlog; the guard lets only marked ones through. */
static __always_inline int nk_send_to_host(struct __sk_buff *skb, const struct nk_packet *p)
{
	struct nk_endpoint *endpoint;
	struct nk_settings *settings;
	__u32 zero = 0, id = p->endpoint_id;

	endpoint = bpf_map_lookup_elem(&nk_endpoints, &id);
	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	if (!endpoint || !settings)
		return -NK_DROP_INTERNAL;
	/* Always written: a container must not choose a mark that the host acts on. */
	skb->mark = endpoint->flags & NK_ENDPOINT_GUARD ? settings->mark_judged : 0;
	return TC_ACT_OK;
}

static __always_inline int nk_send_by_route(struct __sk_buff *skb, const struct nk_packet *p,
					    struct nk_route *r, bool by_neighbour)
{
	if (r->via == NK_VIA_ENDPOINT)
		return nk_send_to_endpoint(skb, p);
	if (r->via == NK_VIA_HOST)
		return nk_send_to_host(skb, p);
	if (!r->ifindex)
		return -NK_DROP_NO_ROUTE; /* multicast, and no uplink for it */
	if (r->has_mac && !by_neighbour)
		return nk_send_by_mac(skb, r->ifindex, r->mac);
	return nk_send_by_neighbour(skb, r->ifindex, &r->hop);
}

#endif /* __NK_SEND_H */

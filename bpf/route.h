/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a remote address lives (its scope) and how a packet gets there: asked of
 * the host's own routing, never of a list made at start.
 *
 * Runs only in the host's namespace: from_container and from_wire.
 * Neighbours: flow.h keeps the answer for a second.
 */
#ifndef __NK_ROUTE_H
#define __NK_ROUTE_H

enum nk_route_refresh {
	NK_ROUTE_REFRESH = NK_FLOW_SECONDS(1), /* ask again, in ticks */
	NK_ROUTE_PROBE = NK_FLOW_SECONDS(5), /* per flow: one by the kernel's neighbour code */
	NK_ROUTE_PROBE_NEW = NK_FLOW_SECONDS(1), /* per uplink: a new flow likewise */
};

struct nk_route {
	struct bpf_redir_neigh hop; /* nh_family 0: unknown, the kernel finds it */
	__u32 ifindex; /* NK_VIA_UPLINK */
	__u8 mac[12]; /* destination, source */
	__u16 mtu_bytes; /* 0 = not known */
	__u8 has_mac;
	__u8 scope; /* enum nk_scope */
	__u8 has_scope;
	__u8 via; /* enum nk_via */
	__u8 has_source; /* nk_packet's nat_addr is what the host itself would send from */
	__u8 pad;
} __attribute__((aligned(8)));

/* Addresses that need no routing to know. 0, a reason, or a scope plus one. */
static __always_inline int nk_route_static_v4(__be32 addr)
{
	__u32 a = bpf_ntohl(addr);

	if (a >> 24 == 0 || a >> 24 == 127 || a >> 28 == 15)
		return -NK_DROP_MARTIAN; /* this network, loopback, reserved and broadcast */
	if (a >> 28 == 14)
		return NK_SCOPE_MULTICAST + 1;
	switch (a) {
	case 0xa9fea9fe: /* 169.254.169.254 AWS, GCP, Azure, OpenStack, ... */
	case 0xa9feaa02: /* 169.254.170.2 AWS ECS credentials */
	case 0xa9feaa17: /* 169.254.170.23 AWS EKS credentials */
	case 0x646464c8: /* 100.100.100.200 Alibaba */
	case 0xa83f8110: /* 168.63.129.16 Azure wire server */
	case 0xc00000c0: /* 192.0.0.192 Oracle */
		return NK_SCOPE_METADATA + 1;
	}
	if (a >> 16 == 0xa9fe)
		return NK_SCOPE_LINK_LOCAL + 1;
	return 0;
}

static __always_inline int nk_route_static_v6(const __u32 *words)
{
	__u32 a = bpf_ntohl(words[0]), b = bpf_ntohl(words[1]);
	__u32 c = bpf_ntohl(words[2]), d = bpf_ntohl(words[3]);

	if (!a && !b && (!c || c == 0xffff))
		return -NK_DROP_MARTIAN; /* ::, ::1, IPv4-compatible, IPv4-mapped */
	if (a >> 24 == 0xff)
		return NK_SCOPE_MULTICAST + 1;
	if (a >> 22 == 0xfe80 >> 6)
		return NK_SCOPE_LINK_LOCAL + 1;
	if (a == 0xfd000ec2 && !b && !c && (d == 0x254 || d == 0x23)) /* AWS, EKS */
		return NK_SCOPE_METADATA + 1;
	if (a == 0xfd2000ce && !b && !c && d == 0x254) /* GCP */
		return NK_SCOPE_METADATA + 1;
	return 0;
}

static __always_inline int nk_route_static_addr(const struct nk_packet *p, const __u8 *addr)
{
	const __u32 *words = (const __u32 *)addr;

	return p->is_v6 ? nk_route_static_v6(words) : nk_route_static_v4(words[3]);
}

static __always_inline int nk_route_static(const struct nk_packet *p)
{
	return nk_route_static_addr(p, p->key.remote);
}

/* 0 = not known. */
static __always_inline __u32 nk_route_uplink_mtu(__u32 ifindex)
{
	struct nk_uplink *uplink = bpf_map_lookup_elem(&nk_uplinks, &ifindex);

	return uplink ? uplink->mtu_bytes : 0;
}

static __always_inline __u32 nk_route_flags(const struct nk_packet *p)
{
	return p->masquerade ? BPF_FIB_LOOKUP_SRC : 0;
}

/* What the host's routing says of a packet that came in by the primary. */
static __always_inline int nk_route_ask(struct __sk_buff *skb, const struct nk_packet *p,
					__u32 primary_ifindex, struct bpf_fib_lookup *fib)
{
	const __u32 *remote = (const __u32 *)p->key.remote, *local = (const __u32 *)p->local;

	fib->ifindex = primary_ifindex;
	fib->l4_protocol = p->key.protocol;
	fib->sport = p->key.local_port;
	fib->dport = p->key.remote_port;
	/* 0 would check the whole skb, segments or not (bpf_skb_fib_lookup()). */
	fib->tot_len = p->path_bytes > 0xffff ? 0xffff : p->path_bytes ?: 1;
	if (p->is_v6) {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, local, 16);
		__builtin_memcpy(fib->ipv6_dst, remote, 16);
	} else {
		fib->family = AF_INET;
		fib->ipv4_src = local[3];
		fib->ipv4_dst = remote[3];
	}
	return bpf_fib_lookup(skb, fib, sizeof(*fib), nk_route_flags(p));
}

static __always_inline void nk_route_keep_source(struct nk_route *r, struct nk_packet *p,
						 const struct bpf_fib_lookup *fib)
{
	if (p->is_v6) {
		__builtin_memcpy(p->nat_addr, fib->ipv6_src, 16);
		r->has_source = 1;
	} else {
		nk_parse_map_v4(p->nat_addr, fib->ipv4_src);
		r->has_source = fib->ipv4_src != 0;
	}
}

static __always_inline void nk_route_keep_hop(struct nk_route *r, const struct bpf_fib_lookup *fib,
					      const struct nk_uplink *uplink, bool has_mac)
{
	r->via = NK_VIA_UPLINK;
	r->ifindex = fib->ifindex;
	r->mtu_bytes = uplink->mtu_bytes;
	r->hop.nh_family = fib->family; /* the gateway may be of the other family */
	if (fib->family == AF_INET6)
		__builtin_memcpy(r->hop.ipv6_nh, fib->ipv6_dst, 16);
	else
		r->hop.ipv4_nh = fib->ipv4_dst;
	r->has_mac = has_mac;
	if (!has_mac)
		return; /* mtu_result is the length we gave in */
	__builtin_memcpy(r->mac, fib->dmac, 6);
	__builtin_memcpy(r->mac + 6, fib->smac, 6);
	if (fib->mtu_result && fib->mtu_result < r->mtu_bytes)
		r->mtu_bytes = fib->mtu_result;
}

/*
 * The fib's answer as scope and way. An address of this host, a broadcast and no
 * route at all look the same (NOT_FWDED): all of them are the host's to answer,
 * if a rule lets the container speak to the host.
 */
NK_GLOBAL int nk_route_by_fib(struct __sk_buff *skb, struct nk_packet *p __arg_nonnull,
			      __u32 primary_ifindex, struct nk_route *r __arg_nonnull)
{
	struct bpf_fib_lookup fib = {};
	struct nk_uplink *uplink;
	__u16 most_bytes = 0;
	int answer;

	r->via = NK_VIA_HOST;
	r->scope = NK_SCOPE_HOST;
	answer = nk_route_ask(skb, p, primary_ifindex, &fib);
	if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		/* Where it leads comes first: the rules speak before the size does. */
		most_bytes = fib.mtu_result;
		fib.tot_len = 1;
		answer = bpf_fib_lookup(skb, &fib, sizeof(fib), nk_route_flags(p));
	}
	switch (answer) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
	case BPF_FIB_LKUP_RET_NO_SRC_ADDR: /* comes before the neighbour: neither is known */
		break;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		r->has_scope = 1;
		return 0;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
	case BPF_FIB_LKUP_RET_UNSUPP_LWT:
		return -NK_DROP_NO_ROUTE;
	default: /* forwarding is off on our own device, or we asked nonsense */
		return -NK_DROP_INTERNAL;
	}
	r->has_scope = 1;
	r->scope = NK_SCOPE_NETWORK;
	/* Key from fib, which is on the stack and stays valid. */
	uplink = bpf_map_lookup_elem(&nk_uplinks, &fib.ifindex);
	if (uplink) {
		r->scope = NK_SCOPE_OUTSIDE;
		nk_route_keep_hop(r, &fib, uplink, answer == BPF_FIB_LKUP_RET_SUCCESS);
		if (p->masquerade && answer != BPF_FIB_LKUP_RET_NO_SRC_ADDR)
			nk_route_keep_source(r, p, &fib);
	}
	if (most_bytes)
		r->mtu_bytes = most_bytes;
	return 0;
}

/*
 * Whether an address is this host's: its lookup ends in no route that leads on.
 * So does that of an address without any route; then nothing leaves anyway.
 * ifindex is a primary's: forwarding is on there.
 */
static __noinline bool nk_route_is_local(struct __sk_buff *skb, const struct nk_packet *p,
					 const __u8 *addr, __u32 ifindex)
{
	const __u32 *words = (const __u32 *)addr;
	struct bpf_fib_lookup fib = {.ifindex = ifindex, .tot_len = 1};

	if (p->is_v6) {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_dst, words, 16);
	} else {
		fib.family = AF_INET;
		fib.ipv4_dst = words[3];
	}
	return bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH) ==
	       BPF_FIB_LKUP_RET_NOT_FWDED;
}

/*
 * The fib hands out the MAC of a neighbour that is stale or dead, and a plain
 * redirect never tells the kernel that it is in use. Long flows probe for
 * themselves; this is for short ones, such as one DNS query after the other.
 */
static __always_inline bool nk_route_wants_probe(const struct nk_packet *p,
						 const struct nk_route *r)
{
	__u32 ifindex = r->ifindex;
	struct nk_uplink *uplink;

	if (r->via != NK_VIA_UPLINK || !r->hop.nh_family)
		return false;
	uplink = bpf_map_lookup_elem(&nk_uplinks, &ifindex);
	if (!uplink || (__s32)(p->now - uplink->probed) <= (__s32)NK_ROUTE_PROBE_NEW)
		return false;
	uplink->probed = p->now;
	return true;
}

/* Multicast leaves by one uplink; its MAC is computed (RFC 1112, RFC 2464). */
static __always_inline void nk_route_multicast(const struct nk_packet *p, struct nk_route *r)
{
	struct nk_settings *settings;
	struct nk_uplink *uplink;
	__u32 zero = 0, ifindex;

	r->via = NK_VIA_UPLINK;
	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	if (!settings)
		return;
	ifindex = settings->multicast_ifindex;
	uplink = bpf_map_lookup_elem(&nk_uplinks, &ifindex);
	if (!uplink)
		return; /* ifindex stays 0: NO_ROUTE once a rule allowed it */
	r->ifindex = ifindex;
	r->mtu_bytes = uplink->mtu_bytes;
	r->has_mac = 1;
	__builtin_memcpy(r->mac + 2, p->key.remote + 12, 4);
	if (p->is_v6) {
		r->mac[0] = 0x33;
		r->mac[1] = 0x33;
	} else {
		r->mac[0] = 0x01;
		r->mac[1] = 0x00;
		r->mac[2] = 0x5e;
		r->mac[3] &= 0x7f;
	}
	__builtin_memcpy(r->mac + 6, uplink->mac, 6);
}

/*
 * Scope and way of the remote side of what a container sends. An error leaves
 * has_scope set where the scope is known anyway: then the rules may speak first.
 *   1. never: loopback, reserved, mapped
 *   2. metadata, link-local and multicast keep their scope wherever they are routed
 *   3. other endpoints
 *   4. the fib
 */
static __always_inline int nk_route_resolve(struct __sk_buff *skb, struct nk_packet *p,
					    struct nk_route *r)
{
	int fixed = nk_route_static(p), reason;
	struct nk_addr *other;

	if (fixed < 0)
		return fixed;
	if (fixed == NK_SCOPE_MULTICAST + 1) {
		nk_route_multicast(p, r);
		r->scope = NK_SCOPE_MULTICAST;
		r->has_scope = 1;
		return 0;
	}
	if (!fixed) {
		other = bpf_map_lookup_elem(&nk_addrs, p->key.remote);
		if (other) {
			if (other->endpoint_id == p->endpoint_id)
				return -NK_DROP_MARTIAN; /* to itself: never leaves a sane stack */
			r->scope = NK_SCOPE_CONTAINERS;
			r->has_scope = 1;
			r->via = NK_VIA_ENDPOINT;
			return 0;
		}
	}
	reason = nk_route_by_fib(skb, p, skb->ifindex, r);
	if (fixed) {
		r->scope = fixed - 1;
		r->has_scope = 1;
	}
	return reason;
}

#endif /* __NK_ROUTE_H */

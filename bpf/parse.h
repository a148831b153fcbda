/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From frame to struct nk_packet, or the reason why it is none. Everything is
 * checked here once: what comes after reads no header again, except the packet
 * an ICMP error quotes. Addresses and ports are in network order, lengths in
 * host order.
 *
 * Neighbours: offload.h checks what the sender asks the NIC to do.
 * Mustn't: read maps.
 */
#ifndef __NK_PARSE_H
#define __NK_PARSE_H

enum nk_kind {
	NK_KIND_OPENS, /* TCP, UDP, SCTP, echo request, any other protocol: has or opens a flow */
	NK_KIND_ANSWERS, /* echo reply: has a flow, never opens one */
	NK_KIND_SINGLE, /* other ICMP: judged each time */
	NK_KIND_ERROR, /* ICMP error: passes with the flow it is about */
};

enum nk_tcp_flags {
	NK_TCP_FIN = 0x01,
	NK_TCP_SYN = 0x02,
	NK_TCP_RST = 0x04,
	NK_TCP_ACK = 0x10,
};

enum nk_icmp {
	NK_ICMP_ECHO_REPLY = 0,
	NK_ICMP_UNREACHABLE = 3,
	NK_ICMP_QUENCH = 4,
	NK_ICMP_REDIRECT = 5,
	NK_ICMP_ECHO = 8,
	NK_ICMP_ROUTER_ADVERTISEMENT = 9,
	NK_ICMP_ROUTER_SOLICITATION = 10,
	NK_ICMP_TIME_EXCEEDED = 11,
	NK_ICMP_PARAMETER = 12,
	NK_ICMPV6_UNREACHABLE = 1,
	NK_ICMPV6_TOO_BIG = 2,
	NK_ICMPV6_PARAMETER = 4,
	NK_ICMPV6_ECHO = 128,
	NK_ICMPV6_ECHO_REPLY = 129,
	NK_ICMPV6_MLD_QUERY = 130, /* MLD, router and neighbour discovery, redirect */
	NK_ICMPV6_REDIRECT = 137,
	NK_ICMPV6_MLD2_REPORT = 143,
};

enum nk_sizes {
	NK_IPV4_BYTES = 20, /* options are refused, so always */
	NK_IPV6_BYTES = 40,
	NK_TCP_BYTES = 20, /* without options */
	NK_UDP_BYTES = 8,
	NK_ICMP_BYTES = 8,
	NK_SCTP_BYTES = 12,
	NK_SHORT_FRAME_BYTES = 60, /* Ethernet pads to this (IEEE 802.3, without FCS) */
};

enum nk_ports {
	NK_DNS_PORT = 53,
};

/* One packet in hand, seen from the endpoint: remote and local, not source and destination. */
struct nk_packet {
	struct nk_flow_key key;
	__u8 local[16];
	__u8 nat_addr[16]; /* of nat_port; or what a new flow is masqueraded with */
	__u64 word; /* struct nk_policy_word, read once per packet */
	__u32 endpoint_id;
	__u32 now; /* tick */
	__u32 path_bytes; /* L3 length of the largest packet a wire would see */
	__u32 l4_bytes; /* transport header and payload */
	__u32 l4_offset; /* from the start of the frame */
	__u32 mtu_bytes; /* of the path; set with NK_DROP_OVERSIZE only */
	__u8 kind; /* enum nk_kind */
	__u8 icmp_type;
	__u8 tcp_flags; /* enum nk_tcp_flags */
	__u8 arrival; /* enum nk_via; ingress only */
	__u8 opened; /* it opened a flow */
	__u8 is_v6;
	__u8 has_headers; /* the network header is fine: local and remote are known */
	__u8 masquerade; /* its address leaves by an uplink only translated; egress only */
	/*
	 * The host's port, 0 = none, that was published and stands for the local port
	 * (from the wire) or for the remote one (from and to other containers).
	 */
	__be16 nat_port;
	__u8 is_live; /* of a flow that lives and is judged anew */
	__u8 audited; /* no rule allows it: the enum nk_drop that trial mode spared it */
	__u8 is_rated; /* its endpoint may send only so much; egress only */
} __attribute__((aligned(8)));

/*
 * A header at a constant offset. Only 14 bytes of a container's frame are sure
 * to be linear; pulling is left to the packets that need it. NULL = truncated.
 * Earlier packet pointers are dead after this.
 *
 * barrier_var: clang would turn the caller's NULL check into a comparison of
 * data with -offset and share it between callers, and the verifier would then
 * forget which of them checked how many bytes.
 */
static __always_inline void *nk_parse_pull(struct __sk_buff *skb, __u32 offset, __u32 bytes)
{
	void *data = nk_data(skb), *end = nk_data_end(skb);

	if (data + offset + bytes > end) {
		if (bpf_skb_pull_data(skb, offset + bytes))
			return 0;
		data = nk_data(skb);
		end = nk_data_end(skb);
		if (data + offset + bytes > end)
			return 0;
	}
	data += offset;
	barrier_var(data);
	return data;
}

static __always_inline void nk_parse_map_v4(__u8 *to, __be32 addr)
{
	__u32 *words = (__u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = addr;
}

/* An IPv4 address as 16 bytes: in an IPv6 header nobody has one (RFC 4291, 2.5.5.2). */
static __always_inline bool nk_parse_is_mapped(const __u8 *addr)
{
	const __u32 *words = (const __u32 *)addr;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

static __always_inline bool nk_parse_same_addr(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* A new connection and nothing else. */
static __always_inline bool nk_parse_is_syn(const struct nk_packet *p)
{
	__u8 flags = NK_TCP_SYN | NK_TCP_ACK | NK_TCP_RST | NK_TCP_FIN;

	return p->key.protocol == IPPROTO_TCP && (p->tcp_flags & flags) == NK_TCP_SYN;
}

static __always_inline bool nk_parse_is_icmp(const struct nk_packet *p)
{
	return p->key.protocol == (p->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/*
 * What kind of frame: its own EtherType decides, and the sender's claim in
 * skb->protocol must say the same. AF_PACKET lets a container choose both, and
 * the kernel routes by one and we judge by the other. Tags come first, since a
 * tag in metadata leaves both other fields innocent.
 */
static __always_inline int nk_parse_ethernet(struct __sk_buff *skb, __be16 *proto)
{
	struct ethhdr *eth = nk_parse_pull(skb, 0, sizeof(*eth));

	if (!eth)
		return -NK_DROP_MALFORMED;
	*proto = eth->h_proto;
	if (skb->vlan_present || *proto == bpf_htons(ETH_P_8021Q) ||
	    *proto == bpf_htons(ETH_P_8021AD))
		return -NK_DROP_VLAN;
	if (*proto == bpf_htons(ETH_P_ARP))
		return -NK_DROP_ARP;
	if (*proto != bpf_htons(ETH_P_IP) && *proto != bpf_htons(ETH_P_IPV6))
		return -NK_DROP_ETHERTYPE;
	if (skb->protocol != *proto)
		return -NK_DROP_PROTOCOL_FIELD;
	return 0;
}

/*
 * l3_bytes is what the header says, 0 for "too long to say": BIG TCP, which only
 * a GSO packet of TCP may be (iph_totlen(), include/linux/ip.h). A container
 * pads short frames and nothing else; on the wire trailers are legal, and the
 * receiver's stack trims them.
 */
static __always_inline int nk_parse_length(struct __sk_buff *skb, struct nk_packet *p,
					   __u32 l3_bytes, __u32 header_bytes, bool strict)
{
	__u32 have = skb->len - ETH_HLEN;

	if (!l3_bytes) {
		if (!skb->gso_size || p->key.protocol != IPPROTO_TCP)
			return -NK_DROP_MALFORMED;
		l3_bytes = have;
	}
	if (l3_bytes < header_bytes || l3_bytes > have)
		return -NK_DROP_MALFORMED;
	if (strict && l3_bytes != have && skb->len > NK_SHORT_FRAME_BYTES)
		return -NK_DROP_MALFORMED;
	p->path_bytes = l3_bytes;
	p->l4_bytes = l3_bytes - header_bytes;
	p->l4_offset = ETH_HLEN + header_bytes;
	return 0;
}

static __always_inline int nk_parse_ipv4(struct __sk_buff *skb, struct nk_packet *p,
					 enum nk_dir dir, bool strict)
{
	struct iphdr *ip = nk_parse_pull(skb, ETH_HLEN, sizeof(*ip));
	__be16 frag_off;
	int reason;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return -NK_DROP_MALFORMED;
	nk_parse_map_v4(p->key.remote, dir == NK_EGRESS ? ip->daddr : ip->saddr);
	nk_parse_map_v4(p->local, dir == NK_EGRESS ? ip->saddr : ip->daddr);
	p->has_headers = 1;
	p->key.protocol = ip->protocol;
	frag_off = ip->frag_off;
	if (ip->ihl != 5)
		return -NK_DROP_IP_OPTIONS;
	reason = nk_parse_length(skb, p, bpf_ntohs(ip->tot_len), NK_IPV4_BYTES, strict);
	if (reason)
		return reason;
	if (frag_off & bpf_htons(0x3fff)) /* more fragments, or an offset */
		return -NK_DROP_FRAGMENT;
	return 0;
}

/*
 * The transport header must follow at once: what hides behind a chain of
 * extension headers is what parsers get wrong. BIG TCP before Linux 7.0 has a
 * hop-by-hop header and drops too: IPv6 GSO sizes of our devices stay at 64 KiB there.
 */
static __always_inline int nk_parse_next_header(__u8 next)
{
	switch (next) {
	case 44:
		return -NK_DROP_FRAGMENT;
	case 0: /* hop by hop */
	case 43: /* routing */
	case 51: /* authentication */
	case 59: /* nothing follows */
	case 60: /* destination options */
	case 135: /* mobility */
	case 139: /* HIP */
	case 140: /* shim6 */
		return -NK_DROP_EXTENSION_HEADER;
	}
	return 0;
}

static __always_inline int nk_parse_ipv6(struct __sk_buff *skb, struct nk_packet *p,
					 enum nk_dir dir, bool strict)
{
	struct ipv6hdr *ip = nk_parse_pull(skb, ETH_HLEN, sizeof(*ip));
	__u32 payload;
	int reason;

	if (!ip || ip->version != 6)
		return -NK_DROP_MALFORMED;
	__builtin_memcpy(p->key.remote, dir == NK_EGRESS ? ip->daddr : ip->saddr, 16);
	__builtin_memcpy(p->local, dir == NK_EGRESS ? ip->saddr : ip->daddr, 16);
	/* Or an IPv6 packet would pass for one of the endpoint's IPv4 addresses. */
	if (nk_parse_is_mapped(p->local))
		return -NK_DROP_MARTIAN;
	p->has_headers = 1;
	p->is_v6 = 1;
	p->key.protocol = ip->nexthdr;
	payload = bpf_ntohs(ip->payload_len);
	reason = nk_parse_next_header(ip->nexthdr);
	if (reason)
		return reason;
	return nk_parse_length(skb, p, payload ? payload + NK_IPV6_BYTES : 0, NK_IPV6_BYTES,
			       strict);
}

static __always_inline void nk_parse_ports(struct nk_packet *p, __be16 source, __be16 dest,
					   enum nk_dir dir)
{
	p->key.remote_port = dir == NK_EGRESS ? dest : source;
	p->key.local_port = dir == NK_EGRESS ? source : dest;
}

static __always_inline int nk_parse_tcp(struct __sk_buff *skb, struct nk_packet *p, __u32 offset,
					enum nk_dir dir)
{
	struct tcphdr *tcp = nk_parse_pull(skb, offset, sizeof(*tcp));
	__u32 header_bytes;

	if (!tcp)
		return -NK_DROP_MALFORMED;
	header_bytes = (tcp->doff_res >> 4) * 4;
	if (header_bytes < NK_TCP_BYTES || header_bytes > p->l4_bytes)
		return -NK_DROP_MALFORMED;
	nk_parse_ports(p, tcp->source, tcp->dest, dir);
	p->tcp_flags = tcp->flags;
	if (skb->gso_size)
		p->path_bytes = offset - ETH_HLEN + header_bytes + skb->gso_size;
	return 0;
}

/*
 * A container's UDP length is the payload's, GSO or not (udp_send_skb(),
 * net/ipv4/udp.c). On the wire the rest may hold UDP options.
 */
static __always_inline int nk_parse_udp(struct __sk_buff *skb, struct nk_packet *p, __u32 offset,
					enum nk_dir dir, bool strict)
{
	struct udphdr *udp = nk_parse_pull(skb, offset, sizeof(*udp));
	__u32 bytes;

	if (!udp)
		return -NK_DROP_MALFORMED;
	bytes = bpf_ntohs(udp->len);
	if (bytes < NK_UDP_BYTES || bytes > p->l4_bytes || (strict && bytes != p->l4_bytes))
		return -NK_DROP_MALFORMED;
	nk_parse_ports(p, udp->source, udp->dest, dir);
	if (skb->gso_size)
		p->path_bytes = offset - ETH_HLEN + NK_UDP_BYTES + skb->gso_size;
	return 0;
}

/*
 * Redirects, router and neighbour discovery and multicast membership steer other
 * hosts: a container never sends them, and its netkit needs none (no rule helps).
 */
static __always_inline int nk_parse_icmp_kind(struct nk_packet *p)
{
	__u8 type = p->icmp_type;

	p->kind = NK_KIND_SINGLE;
	if (p->is_v6) {
		if (type >= NK_ICMPV6_UNREACHABLE && type <= NK_ICMPV6_PARAMETER)
			p->kind = NK_KIND_ERROR;
		else if (type == NK_ICMPV6_ECHO)
			p->kind = NK_KIND_OPENS;
		else if (type == NK_ICMPV6_ECHO_REPLY)
			p->kind = NK_KIND_ANSWERS;
		else if ((type >= NK_ICMPV6_MLD_QUERY && type <= NK_ICMPV6_REDIRECT) ||
			 type == NK_ICMPV6_MLD2_REPORT)
			return -NK_DROP_ICMP_TYPE;
		return 0;
	}
	switch (type) {
	case NK_ICMP_UNREACHABLE:
	case NK_ICMP_TIME_EXCEEDED:
	case NK_ICMP_PARAMETER:
		p->kind = NK_KIND_ERROR;
		return 0;
	case NK_ICMP_ECHO:
		p->kind = NK_KIND_OPENS;
		return 0;
	case NK_ICMP_ECHO_REPLY:
		p->kind = NK_KIND_ANSWERS;
		return 0;
	case NK_ICMP_QUENCH:
	case NK_ICMP_REDIRECT:
	case NK_ICMP_ROUTER_ADVERTISEMENT:
	case NK_ICMP_ROUTER_SOLICITATION:
		return -NK_DROP_ICMP_TYPE;
	}
	return 0;
}

static __always_inline int nk_parse_icmp(struct __sk_buff *skb, struct nk_packet *p, __u32 offset)
{
	__u8 *icmp = nk_parse_pull(skb, offset, NK_ICMP_BYTES);
	int reason;

	if (!icmp || p->l4_bytes < NK_ICMP_BYTES)
		return -NK_DROP_MALFORMED;
	p->icmp_type = icmp[0];
	reason = nk_parse_icmp_kind(p);
	if (!reason && (p->kind == NK_KIND_OPENS || p->kind == NK_KIND_ANSWERS)) {
		p->key.remote_port = *(__be16 *)(icmp + 4); /* the id */
		p->key.local_port = p->key.remote_port;
	}
	return reason;
}

/* offset is a constant, or the verifier would not know where the header lies. */
static __always_inline int nk_parse_transport(struct __sk_buff *skb, struct nk_packet *p,
					      __u32 offset, enum nk_dir dir, bool strict)
{
	__be16 *ports;

	p->kind = NK_KIND_OPENS;
	if (p->key.protocol == IPPROTO_TCP)
		return nk_parse_tcp(skb, p, offset, dir);
	if (p->key.protocol == IPPROTO_UDP)
		return nk_parse_udp(skb, p, offset, dir, strict);
	if (nk_parse_is_icmp(p))
		return nk_parse_icmp(skb, p, offset);
	if (p->key.protocol == IPPROTO_SCTP) {
		ports = nk_parse_pull(skb, offset, NK_SCTP_BYTES);
		if (!ports || p->l4_bytes < NK_SCTP_BYTES)
			return -NK_DROP_MALFORMED;
		nk_parse_ports(p, ports[0], ports[1], dir);
	}
	return 0;
}

/* strict: the sender is a container. Otherwise the wire or the host's stack. */
static __always_inline int nk_parse(struct __sk_buff *skb, struct nk_packet *p, enum nk_dir dir,
				    bool strict)
{
	__be16 proto;
	int reason;

	reason = nk_parse_ethernet(skb, &proto);
	if (reason)
		return reason;
	if (proto == bpf_htons(ETH_P_IP)) {
		reason = nk_parse_ipv4(skb, p, dir, strict);
		if (reason)
			return reason;
		return nk_parse_transport(skb, p, ETH_HLEN + NK_IPV4_BYTES, dir, strict);
	}
	reason = nk_parse_ipv6(skb, p, dir, strict);
	if (reason)
		return reason;
	return nk_parse_transport(skb, p, ETH_HLEN + NK_IPV6_BYTES, dir, strict);
}

#endif /* __NK_PARSE_H */

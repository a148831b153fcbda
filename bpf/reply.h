/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets we answer ourselves: who has an endpoint's address, asked by the
 * neighbours on the uplink's own network by ARP (RFC 826, RFC 5227) and neighbour
 * discovery (RFC 4861). The question becomes the answer and leaves by the uplink
 * it came in by. All that is not exactly such a question goes on untouched.
 *
 * Runs only in from_wire. Neighbours: wire.h decides what of the rest is ours.
 */
#ifndef __NK_REPLY_H
#define __NK_REPLY_H

enum nk_reply_verdict {
	NK_NO_REPLY = 0, /* no verdict of from_wire */
};

enum nk_reply_arp {
	NK_ARP_ETHERNET = 1,
	NK_ARP_REQUEST = 1,
	NK_ARP_REPLY = 2,
};

enum nk_reply_nd {
	NK_ND_SOLICITATION = 135,
	NK_ND_ADVERTISEMENT = 136,
	NK_ND_HOPS = 255, /* from this very link, or a router would have lowered it */
	NK_ND_TARGET_MAC = 2, /* option */
	NK_ND_SOLICITED = 0x40000000,
	NK_ND_OVERRIDE = 0x20000000,
};

/* A solicitation or advertisement from its IP header on. */
struct nk_reply_nd_message {
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 flags;
	__u32 target[4];
	__u8 option; /* from here on only what we answer */
	__u8 option_words;
	__u8 option_mac[6];
};

enum nk_reply_sizes {
	NK_ND_QUESTION_BYTES = __builtin_offsetof(struct nk_reply_nd_message, option),
	NK_ND_ANSWER_BYTES = sizeof(struct nk_reply_nd_message),
};

_Static_assert(NK_ND_QUESTION_BYTES == NK_IPV6_BYTES + 24, "RFC 4861, 4.3");
_Static_assert(NK_ND_ANSWER_BYTES == NK_IPV6_BYTES + 32, "RFC 4861, 4.4");

static __always_inline bool nk_reply_same_mac(const __u8 *a, const __u8 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
		 (a[5] ^ b[5]));
}

/* One machine's: an answer to a group would reach everybody. */
static __always_inline bool nk_reply_is_station(const __u8 *mac)
{
	return !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* Whose address, if the neighbours on the uplink of this packet may ask for it. */
static __always_inline struct nk_addr *nk_reply_owner(struct __sk_buff *skb, const void *addr)
{
	struct nk_addr *owner = bpf_map_lookup_elem(&nk_addrs, addr);

	return owner && owner->lan_ifindex == skb->ifindex ? owner : 0;
}

/*
 * Somebody else speaks as an endpoint's address: counted, since it was free when
 * the container started and nobody would look for that, and left to the host.
 */
static __always_inline bool nk_reply_is_claimed(struct __sk_buff *skb, const void *addr,
						const __u8 *mac, const struct nk_uplink *uplink)
{
	struct nk_addr *owner = nk_reply_owner(skb, addr);

	if (!owner)
		return false;
	if (!nk_reply_same_mac(mac, uplink->mac)) /* our own, come back by the switch */
		nk_count_drop(owner->endpoint_id, NK_INGRESS, -NK_DROP_ADDRESS_CONFLICT);
	return true;
}

/* Out of the uplink it came in by, from the uplink's MAC. */
static __always_inline int nk_reply_send(struct __sk_buff *skb, const __u8 *to,
					 const struct nk_uplink *uplink)
{
	__u8 macs[12];

	__builtin_memcpy(macs, to, 6);
	__builtin_memcpy(macs + 6, uplink->mac, 6);
	/* The device's sum (CHECKSUM_COMPLETE) begins after the MACs. */
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return TCX_DROP; /* half an answer */
	return bpf_redirect(skb->ifindex, 0);
}

/* A probe, whose sender has no address yet, is a question like any other (RFC 5227, 2.1.1). */
static __always_inline int nk_reply_arp(struct __sk_buff *skb, const struct nk_uplink *uplink)
{
	struct arphdr_ipv4 arp;
	__u32 words[4];
	__be32 addr;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return NK_NO_REPLY;
	if (arp.ar_hrd != bpf_htons(NK_ARP_ETHERNET) || arp.ar_pro != bpf_htons(ETH_P_IP) ||
	    arp.ar_hln != sizeof(arp.ar_sha) || arp.ar_pln != sizeof(arp.ar_sip))
		return NK_NO_REPLY;
	__builtin_memcpy(&addr, arp.ar_sip, 4);
	nk_parse_map_v4((__u8 *)words, addr);
	if (nk_reply_is_claimed(skb, words, arp.ar_sha, uplink))
		return NK_NO_REPLY;
	__builtin_memcpy(&addr, arp.ar_tip, 4);
	nk_parse_map_v4((__u8 *)words, addr);
	if (arp.ar_op != bpf_htons(NK_ARP_REQUEST) || !nk_reply_is_station(arp.ar_sha) ||
	    !nk_reply_owner(skb, words))
		return NK_NO_REPLY;
	arp.ar_op = bpf_htons(NK_ARP_REPLY);
	__builtin_memcpy(arp.ar_tha, arp.ar_sha, sizeof(arp.ar_tha));
	__builtin_memcpy(arp.ar_tip, arp.ar_sip, sizeof(arp.ar_tip));
	__builtin_memcpy(arp.ar_sha, uplink->mac, sizeof(arp.ar_sha));
	__builtin_memcpy(arp.ar_sip, &addr, sizeof(arp.ar_sip));
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &arp, sizeof(arp), BPF_F_RECOMPUTE_CSUM))
		return NK_NO_REPLY;
	return nk_reply_send(skb, arp.ar_tha, uplink);
}

/* ff02::1:ff and the last three bytes of the address (RFC 4291, 2.7.1). */
static __always_inline bool nk_reply_is_solicited_node(const __u32 *group, const __u32 *addr)
{
	return group[0] == bpf_htonl(0xff020000) && !group[1] && group[2] == bpf_htonl(1) &&
	       group[3] == (addr[3] | bpf_htonl(0xff000000));
}

static __always_inline bool nk_reply_is_unspecified(const __u32 *addr)
{
	return !(addr[0] | addr[1] | addr[2] | addr[3]);
}

/*
 * The checks of RFC 4861, 7.1.1, but for checksum and options: nothing in the
 * answer depends on the options, and a damaged question gets a true answer.
 */
static __always_inline bool nk_reply_is_sound(struct __sk_buff *skb,
					      const struct nk_reply_nd_message *m)
{
	__u32 bytes = bpf_ntohs(m->ip.payload_len);

	return m->ip.version == 6 && m->ip.hop_limit == NK_ND_HOPS && !m->code &&
	       bytes >= NK_ND_QUESTION_BYTES - NK_IPV6_BYTES &&
	       bytes + NK_IPV6_BYTES + ETH_HLEN <= skb->len && !nk_csum_is_partial(skb);
}

static __always_inline bool nk_reply_is_solicitation(const struct nk_reply_nd_message *m)
{
	if (m->type != NK_ND_SOLICITATION || nk_parse_is_mapped((const __u8 *)m->target))
		return false;
	if (nk_reply_is_solicited_node(m->ip.daddr, m->target))
		return *(const __u8 *)m->ip.saddr != 0xff;
	/* A known neighbour that makes sure we are still there. */
	return nk_parse_same_addr((const __u8 *)m->ip.daddr, (const __u8 *)m->target) &&
	       *(const __u8 *)m->ip.saddr != 0xff && !nk_reply_is_unspecified(m->ip.saddr);
}

/*
 * From question to advertisement; to whom in mac. Who looks whether an address is
 * free has none to be answered at: everybody hears it (RFC 4861, 7.2.4).
 */
static __always_inline void nk_reply_advertise(struct nk_reply_nd_message *m, __u8 *mac,
					       const struct nk_uplink *uplink)
{
	__u32 flags = NK_ND_OVERRIDE;

	if (nk_reply_is_unspecified(m->ip.saddr)) {
		m->ip.daddr[0] = bpf_htonl(0xff020000);
		m->ip.daddr[1] = 0;
		m->ip.daddr[2] = 0;
		m->ip.daddr[3] = bpf_htonl(1);
		mac[0] = 0x33;
		mac[1] = 0x33;
		__builtin_memcpy(mac + 2, &m->ip.daddr[3], 4);
	} else {
		flags |= NK_ND_SOLICITED;
		__builtin_memcpy(m->ip.daddr, m->ip.saddr, 16);
	}
	__builtin_memcpy(m->ip.saddr, m->target, 16);
	m->ip.priority = 0;
	__builtin_memset(m->ip.flow_lbl, 0, sizeof(m->ip.flow_lbl));
	m->ip.payload_len = bpf_htons(NK_ND_ANSWER_BYTES - NK_IPV6_BYTES);
	m->type = NK_ND_ADVERTISEMENT;
	m->flags = bpf_htonl(flags);
	m->option = NK_ND_TARGET_MAC;
	m->option_words = 1; /* of 8 bytes */
	__builtin_memcpy(m->option_mac, uplink->mac, 6);
	m->check = 0;
	/* Addresses and message lie side by side; length and protocol complete the pseudo header. */
	m->check = ~nk_csum_fold((__u32)bpf_csum_diff(
		0, 0, m->ip.saddr, 2 * 16 + NK_ND_ANSWER_BYTES - NK_IPV6_BYTES,
		bpf_htonl(NK_ND_ANSWER_BYTES - NK_IPV6_BYTES + IPPROTO_ICMPV6)));
}

static __always_inline int nk_reply_nd(struct __sk_buff *skb, const struct nk_uplink *uplink)
{
	struct nk_reply_nd_message m = {};
	__u8 mac[6];

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &m, NK_ND_QUESTION_BYTES) ||
	    bpf_skb_load_bytes(skb, 6, mac, sizeof(mac)) || !nk_reply_is_sound(skb, &m))
		return NK_NO_REPLY;
	if (m.type == NK_ND_ADVERTISEMENT)
		nk_reply_is_claimed(skb, m.target, mac, uplink);
	if (!nk_reply_is_solicitation(&m) || nk_reply_is_claimed(skb, m.ip.saddr, mac, uplink) ||
	    !nk_reply_is_station(mac) || !nk_reply_owner(skb, m.target))
		return NK_NO_REPLY;
	if (skb->len != ETH_HLEN + NK_ND_ANSWER_BYTES &&
	    bpf_skb_change_tail(skb, ETH_HLEN + NK_ND_ANSWER_BYTES, 0))
		return NK_NO_REPLY;
	nk_reply_advertise(&m, mac, uplink);
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &m, sizeof(m), BPF_F_RECOMPUTE_CSUM))
		return TCX_DROP; /* its length may be the answer's already */
	return nk_reply_send(skb, mac, uplink);
}

NK_GLOBAL int nk_reply_by_uplink(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct nk_uplink *uplink = bpf_map_lookup_elem(&nk_uplinks, &ifindex);

	if (!uplink)
		return NK_NO_REPLY;
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return nk_reply_arp(skb, uplink);
	return nk_reply_nd(skb, uplink);
}

/* A verdict of from_wire, or NK_NO_REPLY. Asked of all that arrives, hence what it asks first. */
static __always_inline int nk_reply(struct __sk_buff *skb)
{
	__u8 protocol;

	if (skb->protocol != bpf_htons(ETH_P_ARP)) {
		if (skb->protocol != bpf_htons(ETH_P_IPV6) ||
		    !nk_wire_load(skb, ETH_HLEN + 6, &protocol, 1) || protocol != IPPROTO_ICMPV6)
			return NK_NO_REPLY;
	}
	if (skb->vlan_present || skb->pkt_type == PACKET_OTHERHOST)
		return NK_NO_REPLY;
	return nk_reply_by_uplink(skb);
}

#endif /* __NK_REPLY_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an endpoint's rules say about a remote address, scope, protocol and port.
 * Precedence, decided by the compiler in user space and only looked up here:
 *   1. no policy loaded          drop, NO_POLICY
 *   2. a deny rule covers it     drop, DENY_RULE
 *   3. an allow rule covers it   pass
 *   4. its name is allowed       pass: the address was the answer to one, names.h
 *   5. it is on trial            pass, and say so: p->audited
 *   6. none of these             drop, with the scope as the reason
 * Two lookups at most, however many rules there are, and some more where addresses
 * were learned by name.
 */
#ifndef __NK_POLICY_H
#define __NK_POLICY_H

struct nk_class_data {
	__u8 scope;
	__u8 protocol;
	__be16 port;
};

#include "names.h"

/* 0 = no policy, which drops: fail closed while user space fills the maps. */
static __always_inline __u64 nk_policy_load(__u32 endpoint_id)
{
	struct nk_policy_word *word = bpf_map_lookup_elem(&nk_policy, &endpoint_id);

	return word ? *(volatile __u64 *)&word->word : 0;
}

static __always_inline __u32 nk_policy_epoch(__u64 word)
{
	return (__u32)word;
}

static __always_inline int nk_policy_default(__u32 scope, __u8 protocol)
{
	switch (scope) {
	case NK_SCOPE_HOST:
		return -NK_DROP_HOST;
	case NK_SCOPE_CONTAINERS:
		return -NK_DROP_CONTAINERS;
	case NK_SCOPE_NETWORK:
		return -NK_DROP_NETWORK;
	case NK_SCOPE_METADATA:
		return -NK_DROP_METADATA;
	case NK_SCOPE_LINK_LOCAL:
		return -NK_DROP_LINK_LOCAL;
	case NK_SCOPE_MULTICAST:
		return -NK_DROP_MULTICAST;
	}
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
	case IPPROTO_SCTP:
		return -NK_DROP_NO_RULE;
	}
	return -NK_DROP_PROTOCOL;
}

/* The deciding entry, copied; verdict NONE when nothing covers it. */
static __always_inline void nk_policy_lookup(void *trie, const struct nk_packet *p, __u32 dir,
					     struct nk_class_data data, struct nk_rule *found)
{
	struct nk_rule_key key = {.prefixlen = NK_RULE_ADDR_BITS, .table = bpf_htonl(dir)};
	struct nk_rule *entry;
	__u32 class;

	__builtin_memcpy(key.data, p->key.remote, sizeof(key.data));
	entry = bpf_map_lookup_elem(trie, &key);
	if (!entry)
		return;
	class = entry->id;
	if (class < NK_TABLE_FIRST_CLASS) /* 0: no rule covers the address */
		return;
	key.prefixlen = NK_RULE_PORT_BITS;
	key.table = bpf_htonl(class);
	__builtin_memcpy(key.data, &data, sizeof(data));
	entry = bpf_map_lookup_elem(trie, &key);
	if (entry)
		*found = *entry;
}

/*
 * 0 = allowed, and *rule is the index of the rule that said so; else -NK_DROP_*.
 * dir is the direction of the opener, port in network order: the remote one for
 * egress, the container's for ingress, the type for ICMP.
 */
NK_GLOBAL int nk_policy_judge(struct nk_packet *p __arg_nonnull, __u32 dir, __u32 scope,
			      __be16 port, __u32 *rule __arg_nonnull)
{
	struct nk_class_data data = {.port = port};
	__u32 slot = p->word >> 32;
	struct nk_rule found = {};
	void *trie;

	data.scope = scope;
	data.protocol = p->key.protocol;
	trie = p->word ? bpf_map_lookup_elem(&nk_rules, &slot) : 0;
	if (!trie)
		return -NK_DROP_NO_POLICY;
	nk_policy_lookup(trie, p, dir, data, &found);
	if (found.verdict == NK_VERDICT_ALLOW) {
		*rule = found.id;
		return 0;
	}
	if (found.verdict == NK_VERDICT_DENY)
		return -NK_DROP_DENY_RULE;
	if (dir == NK_EGRESS && nk_names_trie(p->word) && nk_names_allow(p, *(__u32 *)&data))
		return 0;
	if (found.verdict == NK_VERDICT_AUDIT) {
		p->audited = -nk_policy_default(scope, p->key.protocol);
		return 0;
	}
	return nk_policy_default(scope, p->key.protocol);
}

/* What stands for the port in a rule about the packet in hand. */
static __always_inline __be16 nk_policy_port(const struct nk_packet *p, __u32 dir)
{
	if (nk_parse_is_icmp(p))
		return bpf_htons(p->icmp_type);
	return dir == NK_EGRESS ? p->key.remote_port : p->key.local_port;
}

#endif /* __NK_POLICY_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rules with names: which doors a name has, and which of them a remote address
 * may go through, because it was the answer to such a name. A door is what a rule
 * says but the name, see abi.h.
 *
 * A learned address names its names, and these keep their doors with the epoch of
 * the policy that they are of: under new rules each is looked up once more, so a
 * revoked name ends at once, and what stays allowed stays.
 *
 * Neighbours: dns_answer.h learns, policy.h asks.
 */
#ifndef __NK_NAMES_H
#define __NK_NAMES_H

static __always_inline void *nk_names_trie(__u64 word)
{
	__u32 slot = word >> 32;

	return bpf_map_lookup_elem(&nk_names, &slot);
}

/* 0: no rule names it. */
static __always_inline __u64 nk_names_doors(__u64 word, const struct nk_name_key *key, __u32 labels)
{
	void *trie = nk_names_trie(word);
	struct nk_name_rule *rule;
	__u32 more;

	if (!trie || !key)
		return 0;
	rule = bpf_map_lookup_elem(trie, key);
	if (!rule)
		return 0;
	more = labels - rule->labels;
	if (!more)
		return rule->exact;
	return more == 1 ? rule->one | rule->deep : rule->deep;
}

/* Of a name that was asked for, under the policy of `word`. */
static __noinline __u64 nk_names_resolved(__u32 endpoint_id, __u64 word, __u64 name)
{
	void *table = bpf_map_lookup_elem(&nk_resolved, &endpoint_id);
	struct nk_resolved *resolved;
	__u64 doors;

	resolved = table ? bpf_map_lookup_elem(table, &name) : 0;
	if (!resolved)
		return 0;
	doors = resolved->doors;
	if (resolved->epoch != (__u32)word)
		doors = nk_names_doors(word, &resolved->key, resolved->labels);
	barrier();
	/* The element may be another name's by now. */
	return resolved->hash == name ? doors : 0;
}

/* All doors of an address. Names whose time is over count only for flows that live. */
static __always_inline __u64 nk_names_of(const struct nk_packet *p)
{
	__u32 id = p->endpoint_id, i;
	struct nk_learned *learned;
	struct nk_learned_name one;
	__u64 doors = 0, some;
	void *table;

	table = bpf_map_lookup_elem(&nk_learned, &id);
	learned = table ? bpf_map_lookup_elem(table, p->key.remote) : 0;
	if (!learned)
		return 0;
	for (i = 0; i < NK_LEARNED_NAMES; i++) {
		one = learned->names[i];
		if (!one.name || (!p->is_live && (__s32)(one.expires - p->now) <= 0))
			continue;
		some = nk_names_resolved(id, p->word, one.name);
		if (one.flags & NK_LEARNED_PRIVATE)
			some &= NK_DOORS_PRIVATE;
		doors |= some;
	}
	return doors;
}

/*
 * Whether a rule with a name lets a container's packet through: 0 or 1. `data` is a
 * struct nk_class_data.
 */
NK_GLOBAL int nk_names_allow(const struct nk_packet *p __arg_nonnull, __u32 data)
{
	struct nk_rule_key key = {
		.prefixlen = NK_RULE_PORT_BITS,
		.table = bpf_htonl(NK_TABLE_DOORS),
	};
	__u32 slot = p->word >> 32;
	struct nk_rule *doors;
	void *trie;

	trie = bpf_map_lookup_elem(&nk_rules, &slot);
	if (!trie)
		return 0;
	__builtin_memcpy(key.data, &data, sizeof(data));
	doors = bpf_map_lookup_elem(trie, &key);
	if (!doors)
		return 0;
	return !!(nk_names_of(p) & (doors->id | (__u64)doors->verdict << 32));
}

#endif /* __NK_NAMES_H */

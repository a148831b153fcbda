/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map, all pinned and filled by user space, which also creates the inner
 * maps. Programs write only inner maps of nk_flows, nk_nats, nk_denied, nk_queries,
 * nk_resolved, nk_learned and nk_refused, nk_passed's and nk_dropped's elements, nk_uplinks' probed,
 * nk_endpoints' answered and rate_paid. Pinning is not left to libbpf, since the directory depends on the host's
 * bpffs, and inner maps have no name of their own.
 *
 * Neighbours: abi.h has the types. Mustn't: hold lookups.
 */
#ifndef __NK_MAPS_H
#define __NK_MAPS_H

/* One element, read on each redirect: an array lookup is inlined to an address. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nk_settings);
} nk_settings SEC(".maps");

/* Mmapable, so that user space stores a word with one atomic instruction. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, struct nk_policy_word);
} nk_policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, struct nk_endpoint);
} nk_endpoints SEC(".maps");

/* Primary ifindex to endpoint id: only to account packets whose source lies. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, __u32);
} nk_ifindexes SEC(".maps");

/*
 * Whose an address is: the first question about every packet. Not preallocated:
 * hosts use a few addresses, and only user space inserts.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NK_MAX_ADDRESSES);
	__type(key, struct nk_addr_key);
	__type(value, struct nk_addr);
} nk_addrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NK_MAX_UPLINKS);
	__type(key, __u32);
	__type(value, struct nk_uplink);
} nk_uplinks SEC(".maps");

/*
 * Two slots per endpoint: a new policy fills the unused one before the policy
 * word names it. An inner map's max_entries is what its policy needs.
 */
struct nk_rules_inner {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct nk_rule_key);
	__type(value, struct nk_rule);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_rules_inner);
} nk_rules SEC(".maps");

/* By slot as nk_rules; there only where a policy has names, or is on trial. */
struct nk_names_inner {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct nk_name_key);
	__type(value, struct nk_name_rule);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_names_inner);
} nk_names SEC(".maps");

/* By endpoint id, as the next three; there only where names were ever in a policy. */
struct nk_queries_inner {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct nk_query_key);
	__type(value, struct nk_query);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_queries_inner);
} nk_queries SEC(".maps");

struct nk_resolved_inner {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct nk_resolved);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_resolved_inner);
} nk_resolved SEC(".maps");

struct nk_learned_inner {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct nk_addr_key);
	__type(value, struct nk_learned);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_learned_inner);
} nk_learned SEC(".maps");

struct nk_refused_inner {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct nk_refused);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_refused_inner);
} nk_refused SEC(".maps");

/*
 * 2 * endpoint id + direction of the opener. LRU, so that a full table costs
 * the oldest flow of the same endpoint and direction and nobody else's.
 */
struct nk_flows_inner {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct nk_flow_key);
	__type(value, struct nk_flow);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_flows_inner);
} nk_flows SEC(".maps");

/* The other way round, for what comes back to a masqueraded address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NK_MAX_ADDRESSES);
	__type(key, struct nk_local_key);
	__type(value, struct nk_addr_key);
} nk_locals SEC(".maps");

/* Which endpoint has the port / NK_NAT_CHUNK: its id plus one, 0 = nobody. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NK_NAT_CHUNKS);
	__type(key, __u32);
	__type(value, __u32);
} nk_ports SEC(".maps");

/*
 * By endpoint id; there only where an address is masqueraded. LRU as nk_flows,
 * and larger than its flow table: what it forgets first is dead already.
 */
struct nk_nats_inner {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct nk_flow_key);
	__type(value, struct nk_nat);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_nats_inner);
} nk_nats SEC(".maps");

/* An exact address of the host goes before any one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NK_MAX_PUBLISHED);
	__type(key, struct nk_published_key);
	__type(value, struct nk_published);
} nk_published SEC(".maps");

/*
 * One bit per port that is in nk_published for whichever address and protocol, in
 * words of NK_NAT_CHUNK: asked of every packet to the host, so no hash.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NK_NAT_CHUNKS);
	__type(key, __u32);
	__type(value, __u32);
} nk_published_bits SEC(".maps");

/*
 * Addresses of the host, loopback aside: what its own processes may mean by a
 * port published at any. As user space saw them last, since programs at sockets
 * have no fib; from_wire asks that instead.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NK_MAX_ADDRESSES);
	__type(key, struct nk_addr_key);
	__type(value, __u32);
} nk_host_addrs SEC(".maps");

/* Goes with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct nk_asked);
} nk_asked SEC(".maps");

/*
 * 2 * endpoint id + direction. LRU and apart, so that the record is bounded and
 * the wire's noise never hides what the container tried.
 */
struct nk_denied_inner {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct nk_denied_key);
	__type(value, struct nk_denied);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__array(values, struct nk_denied_inner);
} nk_denied SEC(".maps");

/*
 * Per CPU, so no atomics. An array, 196 KiB per CPU, since every packet that passes
 * is counted: a lookup in a hash would be a tenth of its cost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, struct nk_passed);
} nk_passed SEC(".maps");

/*
 * A hash, because an array of NK_MAX_ENDPOINTS would take 3 MiB per CPU on every
 * host. User space enters each endpoint's element, and that of NK_NO_ENDPOINT; a
 * missing one loses counts, not packets.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NK_MAX_ENDPOINTS + 1);
	__type(key, __u32);
	__type(value, struct nk_dropped);
} nk_dropped SEC(".maps");

#endif /* __NK_MAPS_H */

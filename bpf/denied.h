/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The record of what was refused, or let through on trial: distinct packets per
 * endpoint and direction, each counted, with nobody listening. Never changes a
 * verdict, and costs nothing where there is nothing to record.
 *
 * Neighbours: count.h counts by reason alone; hook/kernel/bpf/maps/denied.rs reads.
 */
#ifndef __NK_DENIED_H
#define __NK_DENIED_H

/* An LRU element may become another record at any moment: then one count is off. */
static __noinline void nk_denied_note(const struct nk_packet *p, __u32 dir, __u32 reason,
				      __u8 passed)
{
	struct nk_denied_key key = {.reason = reason, .passed = passed};
	__u32 index = 2 * p->endpoint_id + dir;
	struct nk_denied first = {.count = 1}, *slot;
	void *table;

	table = bpf_map_lookup_elem(&nk_denied, &index);
	if (!table)
		return;
	if (p->has_headers) {
		__builtin_memcpy(key.remote, p->key.remote, sizeof(key.remote));
		key.protocol = p->key.protocol;
		key.port = nk_policy_port(p, dir);
	}
	first.first = bpf_ktime_get_boot_ns();
	slot = bpf_map_lookup_elem(table, &key);
	if (slot) {
		__sync_fetch_and_add(&slot->count, 1);
		slot->last = first.first;
		return;
	}
	first.last = first.first;
	bpf_map_update_elem(table, &key, &first, BPF_NOEXIST);
}

/* verdict is enum nk_drop, negated. */
static __always_inline void nk_denied_drop(const struct nk_packet *p, enum nk_dir dir, int verdict)
{
	nk_count_drop(p->endpoint_id, dir, verdict);
	if (p->endpoint_id != NK_NO_ENDPOINT)
		nk_denied_note(p, dir, -verdict, 0);
}

static __always_inline void nk_denied_audit(const struct nk_packet *p, enum nk_dir dir)
{
	if (!p->audited)
		return;
	nk_count_drop(p->endpoint_id, dir, -NK_DROP_AUDIT);
	nk_denied_note(p, dir, p->audited, 1);
}

#endif /* __NK_DENIED_H */

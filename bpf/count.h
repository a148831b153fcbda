/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counters, per CPU and endpoint. A packet is counted once per program: let
 * through, or dropped for one reason. Missing counters never change a verdict.
 */
#ifndef __NK_COUNT_H
#define __NK_COUNT_H

/* reason is enum nk_drop, negated, as the stages return it. */
static __noinline void nk_count_drop(__u32 endpoint_id, __u32 dir, int reason)
{
	struct nk_dropped *dropped = bpf_map_lookup_elem(&nk_dropped, &endpoint_id);
	__u32 code = ~reason;

	/* Not plainly -reason: until 6.17 the verifier knows no bounds after a negation. */
	barrier_var(code);
	code++;
	if (dropped && dir < NK_DIRS && code < NK_MAX_DROPS)
		dropped->drops[dir].packets[code]++;
}

static __always_inline void nk_count_pass(__u32 endpoint_id, enum nk_dir dir, __u32 bytes,
					  __u8 flows)
{
	struct nk_passed *passed = bpf_map_lookup_elem(&nk_passed, &endpoint_id);

	if (!passed)
		return;
	passed->traffic[dir].packets++;
	passed->traffic[dir].bytes += bytes;
	if (flows)
		passed->traffic[dir].flows += flows;
}

/* For a packet that another program counts. */
static __always_inline void nk_count_opened(__u32 endpoint_id, enum nk_dir dir, __u8 flows)
{
	struct nk_passed *passed;

	if (!flows)
		return;
	passed = bpf_map_lookup_elem(&nk_passed, &endpoint_id);
	if (passed)
		passed->traffic[dir].flows += flows;
}

#endif /* __NK_COUNT_H */

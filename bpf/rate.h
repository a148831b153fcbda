/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rates. The queue (sch_tbf) of the device that a packet is sent to keeps them,
 * and holds the sender back instead of dropping: the peer's for what a container
 * sends, the primary's for what it receives. Two ways lead around the queues:
 * a packet socket with PACKET_QDISC_BYPASS, and redirect_peer.
 *
 * Mustn't: drop what has been through the queue. The plan (hook/plan/shape.rs)
 * allows more here than there.
 */
#ifndef __NK_RATE_H
#define __NK_RATE_H

/*
 * The generic cell rate algorithm (ITU-T I.371): one time instead of tokens and a
 * time, so that CPUs share it by compare-and-swap. 0 or -NK_DROP_*.
 */
NK_GLOBAL int nk_rate_take(__u32 endpoint_id, __u32 bytes)
{
	struct nk_endpoint *endpoint = bpf_map_lookup_elem(&nk_endpoints, &endpoint_id);
	__u64 now = bpf_ktime_get_ns(), paid, then;
	int tries;

	if (!endpoint)
		return -NK_DROP_INTERNAL;
	for (tries = 0; tries < 8; tries++) {
		paid = *(volatile __u64 *)&endpoint->rate_paid;
		then = paid > now ? paid : now;
		then += (bytes * endpoint->rate_mib_ns) >> 20;
		if (then - now > endpoint->rate_burst_ns)
			return -NK_DROP_RATE;
		if (__sync_val_compare_and_swap(&endpoint->rate_paid, paid, then) == paid)
			return 0;
	}
	return -NK_DROP_RATE; /* eight CPUs were quicker */
}

#endif /* __NK_RATE_H */

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The four programs: which stages a packet passes and in which order, and what
 * a reason to drop becomes at each hook. The stages live in the headers.
 *
 * netkit runs PASS, DROP and REDIRECT only as such; any other verdict could
 * pass the packet (facts: netkit.c, netkit_run()). Minimum kernel: 6.12.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "maps.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Keeps in BTF what no map mentions, so that Rust gets it from the skeleton. */
const volatile struct nk_types {
	enum nk_limits limits;
	enum nk_dir dir;
	enum nk_scope scope;
	enum nk_via via;
	enum nk_drop drop;
	enum nk_endpoint_flags endpoint_flags;
	enum nk_table table;
	enum nk_rule_bits rule_bits;
	enum nk_verdict verdict;
	enum nk_flow_state flow_state;
	enum nk_flow_flags flow_flags;
	enum nk_time time;
	struct nk_rule_key rule_key;
	struct nk_rule rule;
	struct nk_flow flow;
} nk_types = {.limits = NK_ABI_VERSION};

SEC("netkit/peer")
int nk_from_container(struct __sk_buff *skb)
{
	return TC_ACT_SHOT; /* fail closed */
}

SEC("netkit/primary")
int nk_to_container(struct __sk_buff *skb)
{
	return TC_ACT_SHOT; /* fail closed */
}

SEC("tcx/ingress")
int nk_from_wire(struct __sk_buff *skb)
{
	return TCX_NEXT; /* fail open: the host's own traffic comes through here */
}

SEC("tcx/ingress")
int nk_guard(struct __sk_buff *skb)
{
	return TCX_DROP; /* fail closed: attached only where the container is not trusted */
}

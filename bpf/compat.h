/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What depends on the kernel's version or on the machine: kfuncs, each with the
 * version that brought it, and the assumptions that would break silently.
 */
#ifndef __NK_COMPAT_H
#define __NK_COMPAT_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bit fields in vmlinux.h are laid out for little endian"
#endif

/* v6.2, older than our minimum, so not weak; both are inlined by the verifier. */
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern void *bpf_rdonly_cast(const void *address, __u32 btf_id) __ksym;

/*
 * A function that the verifier judges once, by the types of its arguments, and
 * not again for each caller and state: what costs much to verify. Who calls one
 * has no packet pointers any more.
 */
#define NK_GLOBAL __attribute__((noinline))

/*
 * Packet pointers. In plain C clang computes the address of the context's field
 * once and reads through it again after a helper call, which the verifier
 * refuses ("dereference of modified ctx ptr").
 */
static __always_inline void *nk_data(const struct __sk_buff *skb)
{
	void *data;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(data)
		     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data)));
	return data;
}

static __always_inline void *nk_data_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(end)
		     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data_end)));
	return end;
}

#endif /* __NK_COMPAT_H */

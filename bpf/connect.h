/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's own processes at published ports, by its addresses and by localhost:
 * they are sent to the container itself, before their socket chooses a route and
 * a source. So the container sees an address of the host, and to_container judges
 * by the rule `host`. What the process asked for is what it is shown later.
 *
 * Programs on the root cgroup, there only while something is published; other
 * namespaces' processes are told by the cookie. Minimum kernel: 6.12.
 * Mustn't: see packets. A socket of the host that has the port keeps it.
 */
#ifndef __NK_CONNECT_H
#define __NK_CONNECT_H

enum {
	NK_EADDRNOTAVAIL = 99, /* include/uapi/asm-generic/errno.h */
};

enum nk_connect_verdict {
	NK_CONNECT_REFUSE = 0, /* with the error of bpf_set_retval() */
	NK_CONNECT_GO_ON = 1,
};

/* An end of a connection as the programs of both families see it. */
struct nk_end {
	__u8 addr[16];
	__be16 port;
} __attribute__((aligned(8)));

static __always_inline void nk_connect_read(const struct bpf_sock_addr *ctx, bool is_v6,
					    struct nk_end *end)
{
	__u32 *words = (__u32 *)end->addr;

	if (is_v6) {
		words[0] = ctx->user_ip6[0];
		words[1] = ctx->user_ip6[1];
		words[2] = ctx->user_ip6[2];
		words[3] = ctx->user_ip6[3];
	} else {
		nk_parse_map_v4(end->addr, ctx->user_ip4);
	}
	end->port = ctx->user_port;
}

static __always_inline void nk_connect_write(struct bpf_sock_addr *ctx, bool is_v6,
					     const __u8 *addr, __be16 port)
{
	const __u32 *words = (const __u32 *)addr;

	if (is_v6) {
		ctx->user_ip6[0] = words[0];
		ctx->user_ip6[1] = words[1];
		ctx->user_ip6[2] = words[2];
		ctx->user_ip6[3] = words[3];
	} else {
		ctx->user_ip4 = words[3];
	}
	ctx->user_port = port;
}

static __always_inline bool nk_connect_is_loopback(const __u8 *addr)
{
	const __u32 *words = (const __u32 *)addr;

	if (nk_parse_is_mapped(addr))
		return addr[12] == 127;
	return !words[0] && !words[1] && !words[2] && words[3] == bpf_htonl(1);
}

static __always_inline bool nk_connect_is_bound_to_loopback(struct bpf_sock *sk)
{
	__u32 words[4];

	if (sk->family == AF_INET6) {
		words[0] = sk->src_ip6[0];
		words[1] = sk->src_ip6[1];
		words[2] = sk->src_ip6[2];
		words[3] = sk->src_ip6[3];
	} else {
		nk_parse_map_v4((__u8 *)words, sk->src_ip4);
	}
	return nk_connect_is_loopback((__u8 *)words);
}

/* One of the host's own that listens there. The other end does not matter for that. */
static __always_inline bool nk_connect_has_socket(struct bpf_sock_addr *ctx,
						  const struct nk_end *end)
{
	const __u32 *words = (const __u32 *)end->addr;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sock;
	__u32 bytes;

	if (nk_parse_is_mapped(end->addr)) {
		tuple.ipv4.saddr = words[3];
		tuple.ipv4.daddr = words[3];
		tuple.ipv4.dport = end->port;
		bytes = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, words, 16);
		__builtin_memcpy(tuple.ipv6.daddr, words, 16);
		tuple.ipv6.dport = end->port;
		bytes = sizeof(tuple.ipv6);
	}
	if (ctx->protocol == IPPROTO_TCP)
		sock = bpf_sk_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else
		sock = bpf_sk_lookup_udp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	if (!sock)
		return false;
	bpf_sk_release(sock);
	return true;
}

/* The container's port behind what a process of the host asks for, or NULL. */
static __always_inline struct nk_published *nk_connect_find(struct bpf_sock_addr *ctx,
							    const struct nk_end *end)
{
	struct nk_published *found;
	struct nk_settings *settings;
	__u8 protocol = ctx->protocol;
	__u32 zero = 0;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	if (!nk_nat_is_published(end->port))
		return 0;
	settings = bpf_map_lookup_elem(&nk_settings, &zero);
	if (!settings || bpf_get_netns_cookie(ctx) != settings->host_netns)
		return 0;
	found = __nk_publish_lookup(end->addr, protocol, end->port);
	if (found)
		return found;
	if (!nk_connect_is_loopback(end->addr) && !bpf_map_lookup_elem(&nk_host_addrs, end->addr))
		return 0;
	return nk_publish_lookup_any(!nk_parse_is_mapped(end->addr), protocol, end->port);
}

/* Fail open: whatever is not certainly a published port is left as it is. */
static __always_inline int nk_connect(struct bpf_sock_addr *ctx, bool is_v6)
{
	struct nk_published *found;
	struct nk_addr_key *local;
	struct nk_local_key key;
	struct nk_asked *asked;
	struct nk_end end;
	__be16 port;

	nk_connect_read(ctx, is_v6, &end);
	found = nk_connect_find(ctx, &end);
	if (!found)
		return NK_CONNECT_GO_ON;
	key.endpoint_id = found->endpoint_id;
	key.local_index = found->local_index;
	port = found->port;
	local = bpf_map_lookup_elem(&nk_locals, &key);
	if (!local || nk_connect_has_socket(ctx, &end))
		return NK_CONNECT_GO_ON;
	/* From there nothing leads to the container: said at once, not by a timeout. */
	if (nk_connect_is_bound_to_loopback(ctx->sk)) {
		bpf_set_retval(-NK_EADDRNOTAVAIL);
		return NK_CONNECT_REFUSE;
	}
	asked = bpf_sk_storage_get(&nk_asked, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (asked) {
		__builtin_memcpy(asked->addr, end.addr, 16);
		__builtin_memcpy(asked->container_addr, local->addr, 16);
		asked->port = end.port;
		asked->container_port = port;
	}
	nk_connect_write(ctx, is_v6, local->addr, port);
	return NK_CONNECT_GO_ON;
}

/* An address that the process is shown: the one it asked for, where it is that one's. */
static __always_inline int nk_connect_show(struct bpf_sock_addr *ctx, bool is_v6)
{
	struct nk_asked *asked = bpf_sk_storage_get(&nk_asked, ctx->sk, 0, 0);
	struct nk_end end;

	if (!asked)
		return NK_CONNECT_GO_ON;
	nk_connect_read(ctx, is_v6, &end);
	if (end.port == asked->container_port &&
	    nk_parse_same_addr(end.addr, asked->container_addr))
		nk_connect_write(ctx, is_v6, asked->addr, asked->port);
	return NK_CONNECT_GO_ON;
}

SEC("cgroup/connect4")
int nk_connect4(struct bpf_sock_addr *ctx)
{
	return nk_connect(ctx, false);
}

/* IPv4 too, mapped, of sockets for both. */
SEC("cgroup/connect6")
int nk_connect6(struct bpf_sock_addr *ctx)
{
	return nk_connect(ctx, true);
}

/* Datagrams of sockets that are not connected. */
SEC("cgroup/sendmsg4")
int nk_sendmsg4(struct bpf_sock_addr *ctx)
{
	return nk_connect(ctx, false);
}

SEC("cgroup/sendmsg6")
int nk_sendmsg6(struct bpf_sock_addr *ctx)
{
	return nk_connect(ctx, true);
}

SEC("cgroup/recvmsg4")
int nk_recvmsg4(struct bpf_sock_addr *ctx)
{
	return nk_connect_show(ctx, false);
}

SEC("cgroup/recvmsg6")
int nk_recvmsg6(struct bpf_sock_addr *ctx)
{
	return nk_connect_show(ctx, true);
}

SEC("cgroup/getpeername4")
int nk_getpeername4(struct bpf_sock_addr *ctx)
{
	return nk_connect_show(ctx, false);
}

SEC("cgroup/getpeername6")
int nk_getpeername6(struct bpf_sock_addr *ctx)
{
	return nk_connect_show(ctx, true);
}

#endif /* __NK_CONNECT_H */

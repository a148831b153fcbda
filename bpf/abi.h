/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything user space and the programs agree on: structs, enums, limits,
 * drop reasons. The maps made of these outlive a generation of programs, so a
 * change of any layout here is a change of NK_ABI_VERSION.
 *
 * Addresses are 16 bytes everywhere; IPv4 is v4-mapped (RFC 4291, 2.5.5.2).
 * Mustn't: touch packets or maps.
 */
#ifndef __NK_ABI_H
#define __NK_ABI_H

enum nk_limits {
	NK_ABI_VERSION = 4,
	NK_MAX_ENDPOINTS = 4096, /* managed namespaces on this host */
	NK_MAX_ADDRESSES = 65536, /* addresses of all endpoints together */
	NK_MAX_UPLINKS = 64,
	NK_MAX_DROPS = 48, /* room for drop reasons; grows with the ABI only */
	NK_NO_ENDPOINT = 0xffffffff, /* drops that belong to no endpoint */
	NK_NAT_CHUNK = 32, /* ports; shares are whole chunks, aligned */
	NK_NAT_CHUNKS = 65536 / NK_NAT_CHUNK,
	NK_MAX_PUBLISHED = 65536, /* ports of all endpoints together, per family and protocol */
	NK_NAME_BYTES =
		256, /* of a name in wire format, length bytes included (RFC 1035, 3.1: 255) */
	NK_LEARNED_NAMES = 4, /* that one address may have at a time */
};

enum nk_dir {
	NK_EGRESS = 0, /* the container sends */
	NK_INGRESS = 1, /* the container receives */
	NK_DIRS = 2,
};

/* Where the remote side lives. Decided when a flow opens, never by a list. */
enum nk_scope {
	NK_SCOPE_OUTSIDE = 0, /* the route leads out of an uplink */
	NK_SCOPE_HOST = 1, /* an address of this host */
	NK_SCOPE_CONTAINERS = 2, /* another endpoint */
	NK_SCOPE_NETWORK = 3, /* a network behind another interface: docker0, a VPN */
	NK_SCOPE_METADATA = 4, /* cloud metadata services */
	NK_SCOPE_LINK_LOCAL = 5, /* 169.254.0.0/16, fe80::/10 */
	NK_SCOPE_MULTICAST = 6, /* 224.0.0.0/4, ff00::/8 */
	NK_SCOPES = 7,
};

/* How packets of a flow travel between us and the remote side. */
enum nk_via {
	NK_VIA_UPLINK = 0, /* redirected to and from an uplink */
	NK_VIA_HOST = 1, /* through the host's own stack */
	NK_VIA_ENDPOINT = 2, /* redirected to the other endpoint's primary */
};

/*
 * One space of reasons for both directions; programs pass them around negated.
 * Append only, and give each new one its sentence in hook/types/drop.rs.
 */
enum nk_drop {
	NK_DROP_NONE = 0,
	NK_DROP_MALFORMED = 1, /* truncated, or lengths and version disagree */
	NK_DROP_PROTOCOL_FIELD = 2, /* skb->protocol is not the frame's EtherType */
	NK_DROP_VLAN = 3,
	NK_DROP_ARP = 4,
	NK_DROP_ETHERTYPE = 5, /* neither IPv4, IPv6 nor ARP */
	NK_DROP_IP_OPTIONS = 6,
	NK_DROP_EXTENSION_HEADER = 7, /* IPv6 */
	NK_DROP_FRAGMENT = 8,
	NK_DROP_SPOOFED_SOURCE = 9,
	NK_DROP_CHECKSUM_OFFLOAD = 10, /* checksum would land outside the L4 header's field */
	NK_DROP_SEGMENTATION = 11, /* GSO type or size that does not fit the packet */
	NK_DROP_OVERSIZE = 12, /* larger than the path takes */
	NK_DROP_MARTIAN = 13, /* loopback, unspecified, broadcast, reserved */
	NK_DROP_ICMP_TYPE = 14, /* redirects, router and neighbour discovery */
	NK_DROP_ICMP_UNRELATED = 15, /* an ICMP error about no live flow */
	NK_DROP_DENY_RULE = 16,
	NK_DROP_NO_RULE = 17, /* outside, and no rule allows it */
	NK_DROP_HOST = 18, /* the host's own address, and no rule names it */
	NK_DROP_CONTAINERS = 19,
	NK_DROP_NETWORK = 20,
	NK_DROP_METADATA = 21,
	NK_DROP_LINK_LOCAL = 22,
	NK_DROP_MULTICAST = 23,
	NK_DROP_PROTOCOL = 24, /* not tcp, udp, icmp or sctp, and no rule names it */
	NK_DROP_NOT_SYN = 25, /* inbound TCP without a flow that does not open one */
	NK_DROP_NO_ROUTE = 26,
	NK_DROP_FLOW_TABLE = 27, /* the flow could not be recorded */
	NK_DROP_NO_ENDPOINT = 28, /* no endpoint has this address or device */
	NK_DROP_UNJUDGED = 29, /* reached us around from_container */
	NK_DROP_NO_POLICY = 30, /* the endpoint has no rules loaded */
	NK_DROP_INTERNAL = 31, /* a helper failed */
	NK_DROP_NAT_PORTS = 32, /* no port of the endpoint's share is free towards this remote */
	NK_DROP_NAT_ADDRESS = 33, /* the uplink has no address to masquerade with */
	NK_DROP_NAT_PROTOCOL = 34, /* has no ports that could be translated */
	NK_DROP_NAT_DIRECT = 35, /* from the wire to an address that only this host knows */
	NK_DROP_ADDRESS_CONFLICT = 36, /* not dropped: another machine claims the address */
	NK_DROP_RATE = 37, /* around the queue of its device, and faster than that */
	NK_DROP_AUDIT = 38, /* not dropped: opened a flow by NK_VERDICT_AUDIT */
	NK_DROP_DNS_NAME = 39, /* a query for a name that no rule names; answered */
	NK_DROP_DNS_TYPE = 40, /* a query for what may not be asked; answered */
	NK_DROP_DNS_QUERY = 41, /* not exactly one plain query */
	NK_DROP_DNS_ANSWER = 42, /* an answer to no query, or to another question, or malformed */
	NK_DROP_DNS_TABLE = 43, /* the query could not be recorded */
	NK_DROPS = 44,
};

struct nk_addr_key {
	__u8 addr[16];
};

enum nk_addr_flags {
	NK_ADDR_MASQUERADE = 1 << 0, /* leaves by an uplink only under the uplink's own address */
	NK_ADDR_RATE_EGRESS = 1 << 1, /* what its endpoint sends has a rate, see nk_endpoint */
	NK_ADDR_RATE_INGRESS = 1 << 2, /* from the wire by way of the primary, which has a queue */
};

/* nk_addrs: which endpoint owns an address. */
struct nk_addr {
	__u32 endpoint_id;
	__u32 primary_ifindex; /* host netns */
	__u32 peer_ifindex; /* container netns */
	__u8 local_index; /* position among the endpoint's addresses; part of nk_flow_key */
	__u8 flags; /* enum nk_addr_flags */
	__u8 pad[2];
	__u32 lan_ifindex; /* the uplink whose neighbours ask for it; 0 = none does */
	__u32 reserved;
};

/* nk_locals: the address that a masqueraded local_index stands for. */
struct nk_local_key {
	__u32 endpoint_id;
	__u32 local_index;
};

enum nk_endpoint_flags {
	NK_ENDPOINT_GUARD = 1 << 0, /* guard is attached: mark what passes to the host */
	NK_ENDPOINT_RATE_INGRESS = 1 << 1, /* as NK_ADDR_RATE_INGRESS of all its addresses */
	NK_ENDPOINT_NXDOMAIN = 1 << 2, /* the answer to queries for names that no rule names */
};

/* nk_endpoints: indexed by endpoint id; all zero where there is none. */
struct nk_endpoint {
	__u32 primary_ifindex;
	__u32 peer_ifindex;
	__u32 flags; /* enum nk_endpoint_flags */
	__u32 mtu_bytes;
	__u16 nat_port; /* first of its share, host order; a multiple of NK_NAT_CHUNK */
	__u16 nat_ports; /* how many; 0 = masquerades nothing */
	__u32 answered; /* tick of the last packet it got an answer of ours to; programs' */
	__u64 rate_paid; /* ns of CLOCK_MONOTONIC up to which what it sent is paid; programs' */
	__u64 rate_mib_ns; /* what 2^20 bytes cost */
	__u64 rate_burst_ns; /* how far ahead of the clock it may be */
	__u32 reserved[4];
};

/*
 * nk_policy: indexed by endpoint id; one aligned 64-bit word that user space
 * stores at once through the map's memory, so no packet sees half a policy.
 * Low half: epoch, never 0 for a loaded policy. High half: index into nk_rules.
 */
struct nk_policy_word {
	__u64 word;
};

/*
 * nk_rules[slot] is one LPM trie per policy with two kinds of tables, told
 * apart by `table`:
 *   NK_TABLE_EGRESS, NK_TABLE_INGRESS: data is the remote address; the entry's
 *     id is the class of the address: all addresses under the same rules.
 *   any other: the class. data is scope, protocol, port (network order), the
 *     container's port for ingress, the type for ICMP; the entry's id is the
 *     deciding rule, verdict what it says.
 * Every longer entry carries what the shorter ones say, so the one entry that
 * longest-prefix match returns is the whole answer.
 */
enum nk_table {
	NK_TABLE_EGRESS = 0,
	NK_TABLE_INGRESS = 1,
	NK_TABLE_FIRST_CLASS = 2,
	NK_TABLE_DOORS =
		0xfffffffe, /* as a class; id and verdict are the doors, low and high half */
	NK_TABLE_RESOLVERS = 0xffffffff, /* as addresses: those whose port 53 is filtered by name */
};

/*
 * A door is what a rule with a name says but the name: protocol, ports, and whether
 * private addresses count. Bit n stands for the nth of a policy.
 */
#define NK_DOORS_PRIVATE 0x7fffffff00000000ULL /* doors that private addresses go through */
#define NK_DOOR_AUDIT 0x8000000000000000ULL /* no door: the name may be asked for on trial */

enum nk_rule_bits {
	NK_RULE_ADDR_BITS = 32 + 128, /* prefixlen of an address lookup */
	NK_RULE_PORT_BITS = 32 + 8 + 8 + 16, /* prefixlen of a class lookup */
};

struct nk_rule_key {
	__u32 prefixlen; /* bits, counted from the start of table */
	__be32 table;
	__u8 data[16];
};

enum nk_verdict {
	NK_VERDICT_NONE = 0, /* no rule: the default decides */
	NK_VERDICT_ALLOW = 1,
	NK_VERDICT_DENY = 2,
	NK_VERDICT_AUDIT = 3, /* no rule, but the endpoint is on trial: pass, and note it */
};

struct nk_rule {
	__u32 id; /* class, or index of the deciding rule in its direction's list; 0 for AUDIT */
	__u32 verdict; /* enum nk_verdict; 0 in address tables */
};

/*
 * nk_names[slot]: names of the same policy, in wire format backwards, so that each
 * length byte stands behind its label and a prefix is a domain. Lower case. Every
 * entry carries what shorter ones say.
 *
 * Length bytes are marked, and no byte of a label looks like a marked one: 0 in
 * "x0<48 letters>" would begin a label of 48 letters else.
 */
enum nk_name_marks {
	NK_NAME_LENGTH = 0x80, /* of length bytes, which are at most 63 */
	NK_NAME_FOREIGN = 0xc0, /* of bytes of labels from 0x80 on, which no rule has */
};

struct nk_name_key {
	__u32 prefixlen; /* bits */
	__u8 name[NK_NAME_BYTES];
};

struct nk_name_rule {
	__u64 exact; /* doors of the name itself */
	__u64 one; /* of those with one label more, */
	__u64 deep; /* and with one or more */
	__u32 labels; /* of the name */
	__u32 reserved;
};

/*
 * nk_resolved[endpoint id]: names that were asked for, by a keyed hash of the name,
 * which stands in the value too, as LRU elements are reused; doors are those of the
 * policy with this epoch.
 */
struct nk_resolved {
	__u64 hash;
	__u64 doors;
	__u32 epoch;
	__u32 labels;
	struct nk_name_key key;
	__u32 pad;
};

enum nk_learned_flags {
	NK_LEARNED_PRIVATE = 1 << 0, /* the address goes through private doors only */
};

/* nk_learned[endpoint id]: by address, the names it was the answer to. */
struct nk_learned_name {
	__u64 name; /* key in nk_resolved; 0 = none */
	__u32 expires; /* tick */
	__u32 flags; /* enum nk_learned_flags */
};

struct nk_learned {
	struct nk_learned_name names[NK_LEARNED_NAMES];
};

/* nk_queries[endpoint id]: what was asked and not answered yet, as the resolver sees it. */
struct nk_query_key {
	__u8 resolver[16];
	__be16 port; /* the container's, not its own choice for UDP */
	__be16 id;
	__u8 protocol;
	__u8 local_index;
	__u8 pad[2];
};

struct nk_query {
	__u64 name; /* key in nk_resolved */
	__u32 asked; /* tick */
	__be16 port; /* as the container has it */
	__be16 id;
	__u16 type; /* host order */
	__u16 bytes; /* of the question */
	__u32 proved; /* over TCP: the answer to it over UDP was truncated */
	__u8 question[NK_NAME_BYTES + 8]; /* name, type and class as they were sent */
};

/* nk_refused[endpoint id]: names that were refused, or passed on trial, by the same hash. */
struct nk_refused {
	__u64 count;
	__u64 first; /* ns of CLOCK_BOOTTIME */
	__u64 last;
	__u32 passed;
	struct nk_name_key key;
};

/* From the container's side whoever opened it. ICMP echo: both ports are the id. */
struct nk_flow_key {
	__u8 remote[16];
	__be16 remote_port;
	__be16 local_port;
	__u8 protocol; /* IPPROTO_* as in the packet */
	__u8 local_index; /* struct nk_addr */
	__u8 pad[2];
};

enum nk_flow_state {
	NK_FLOW_OPENING = 0, /* nothing came back yet */
	NK_FLOW_ESTABLISHED = 1,
	NK_FLOW_CLOSING = 2, /* TCP: FIN both ways, or RST */
};

enum nk_flow_flags {
	NK_FLOW_FIN_OUT = 1 << 0,
	NK_FLOW_FIN_IN = 1 << 1,
	NK_FLOW_MAC = 1 << 2, /* mac is known */
};

/*
 * One tick is 2^24 ns of CLOCK_MONOTONIC_COARSE (16.8 ms), so that 32 bits last
 * two years: a flow cannot come back to life by wrap-around.
 */
enum nk_time {
	NK_TICK_SHIFT = 24,
};

/*
 * nk_flows[2 * endpoint id + dir of the opener]: per endpoint and direction, so
 * that a flood can evict only its own kind. The key stands in the value too:
 * LRU elements are reused without a grace period, so a reader copies what it
 * needs and then checks that the element is still the one it asked for.
 */
struct nk_flow {
	struct nk_flow_key key;
	__u8 nat_addr[16]; /* what the wire sees in place of the local address */
	__u32 epoch; /* of the policy that last judged it */
	__u32 seen; /* tick of the last packet */
	__u32 routed; /* tick of the last fib lookup */
	__u32 probed; /* tick of the last packet sent through the kernel's neighbour code */
	__u32 ifindex; /* NK_VIA_UPLINK: the uplink */
	__u32 rule; /* index of the rule that allowed it */
	__u8 mac[12]; /* destination and source, as they stand in the frame */
	__u16 mtu_bytes; /* of the route, 0 = not known */
	__u8 state; /* enum nk_flow_state */
	__u8 flags; /* enum nk_flow_flags */
	__u8 scope; /* enum nk_scope */
	__u8 via; /* enum nk_via */
	__be16 nat_port; /* and in place of the local port; 0 = neither masqueraded nor published */
	__u32 reserved;
} __attribute__((aligned(8)));

/*
 * nk_nats[endpoint id]: the way back of its masqueraded flows. local_port of the
 * key is the translated one, local_index is 0. The word is exchanged as one, so
 * that of two flows that want a dead flow's place only one gets it.
 *
 * It counts only while the flow it names is alive and names it in turn, so the
 * two halves of a translation die together, whichever table forgets first.
 */
struct nk_nat {
	__be16 local_port;
	__u8 local_index;
	__u8 pad;
	__u32 opened; /* tick, so that words differ */
} __attribute__((aligned(8)));

/* nk_published: a port of the host that is a container's towards the wire. */
struct nk_published_key {
	__u8 addr[16]; /* of the host; any one: 0.0.0.0, v4-mapped, or :: */
	__be16 port;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

struct nk_published {
	__u32 endpoint_id;
	__be16 port; /* the container's */
	__u8 local_index; /* which of its addresses */
	__u8 pad;
};

/* nk_asked: what a socket of the host asked for, and what it got instead. */
struct nk_asked {
	__u8 addr[16];
	__u8 container_addr[16];
	__be16 port;
	__be16 container_port;
};

/* nk_uplinks: by ifindex; a device is an uplink when it is in here. */
struct nk_uplink {
	__u8 mac[6];
	__u8 pad[2];
	__u32 mtu_bytes;
	__u32 probed; /* tick of the last new flow sent through the kernel's neighbour code */
	__u32 reserved[4];
};

/* nk_settings[0]: what is the same for every generation on this host. */
struct nk_settings {
	__u32 mark_judged; /* random, never 0: skb->mark of what from_container let through */
	__u32 mark_reply; /* random, never 0: of our own answers, and of what from_wire judged */
	__u32 multicast_ifindex; /* uplink for allowed multicast, 0 = none */
	__u32 pad;
	__u64 host_netns; /* cookie of the namespace that the uplinks are in */
	__u64 name_seed; /* random: of the hash of names */
	__u32 reserved[8];
};

struct nk_traffic {
	__u64 packets; /* let through; drops are not among them */
	__u64 bytes; /* skb->len: frames as the device sees them, GSO ones count once */
	__u64 flows; /* opened */
};

/* nk_passed: per CPU, indexed by endpoint id. */
struct nk_passed {
	struct nk_traffic traffic[NK_DIRS];
};

struct nk_drops {
	__u64 packets[NK_MAX_DROPS]; /* by enum nk_drop */
};

/* nk_dropped: per CPU, keyed by endpoint id or NK_NO_ENDPOINT. */
struct nk_dropped {
	struct nk_drops drops[NK_DIRS];
};

/*
 * nk_denied[2 * endpoint id + direction of the packet]: distinct packets that were
 * dropped, or let through on trial only. All but the reason is 0 where the packet
 * was not understood that far.
 */
struct nk_denied_key {
	__u8 remote[16];
	__be16 port; /* the remote one in egress, the container's in ingress, the type for ICMP */
	__u8 protocol; /* IPPROTO_* */
	__u8 reason; /* enum nk_drop; what would have been, if passed */
	__u8 passed; /* 1: NK_VERDICT_AUDIT let it through */
	__u8 pad[3];
};

struct nk_denied {
	__u64 count; /* packets; flows if passed */
	__u64 first; /* ns of CLOCK_BOOTTIME */
	__u64 last;
};

_Static_assert(sizeof(struct nk_addr) == 24, "ABI");
_Static_assert(sizeof(struct nk_endpoint) == 64, "ABI");
_Static_assert(sizeof(struct nk_rule_key) == 24, "ABI");
_Static_assert(sizeof(struct nk_flow_key) == 24, "ABI");
_Static_assert(sizeof(struct nk_flow) == 88, "ABI");
_Static_assert(sizeof(struct nk_nat) == 8, "ABI");
_Static_assert(sizeof(struct nk_published_key) == 20, "ABI");
_Static_assert(sizeof(struct nk_published) == 8, "ABI");
_Static_assert(sizeof(struct nk_asked) == 36, "ABI");
_Static_assert(sizeof(struct nk_denied_key) == 24, "ABI");
_Static_assert(sizeof(struct nk_name_key) == 260, "ABI");
_Static_assert(sizeof(struct nk_name_rule) == 32, "ABI");
_Static_assert(sizeof(struct nk_resolved) == 288, "ABI");
_Static_assert(sizeof(struct nk_learned) == 64, "ABI");
_Static_assert(sizeof(struct nk_query_key) == 24, "ABI");
_Static_assert(sizeof(struct nk_query) == 288, "ABI");
_Static_assert(sizeof(struct nk_refused) == 288, "ABI");
_Static_assert(sizeof(struct nk_denied) == 24, "ABI");
_Static_assert(sizeof(struct nk_uplink) == 32, "ABI");
_Static_assert(sizeof(struct nk_settings) == 64, "ABI");
_Static_assert(sizeof(struct nk_passed) == NK_DIRS * 3 * 8, "ABI");
_Static_assert(sizeof(struct nk_dropped) == NK_DIRS * NK_MAX_DROPS * 8, "ABI");
_Static_assert(NK_DROPS <= NK_MAX_DROPS, "ABI");

#endif /* __NK_ABI_H */

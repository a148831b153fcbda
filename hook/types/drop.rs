//! Why a packet was dropped; mirrors `enum nk_drop` in bpf/abi.h, with a sentence each. Pure.

/// Name in `--json`, number in the ABI and sentence of one drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropReason {
    /// `NK_DROP_*`.
    pub code: u32,
    /// Stable name for `--json` and the tests.
    pub name: &'static str,
    /// What it means, for people.
    pub sentence: &'static str,
}

macro_rules! reasons {
    ($($code:literal $name:literal $sentence:literal;)*) => {
        &[$(DropReason { code: $code, name: $name, sentence: $sentence }),*]
    };
}

/// All of them, ordered by code.
pub const DROP_REASONS: &[DropReason] = reasons! {
    1 "malformed" "truncated, or its lengths and version disagree";
    2 "protocol-field" "announced as another protocol than the frame carries";
    3 "vlan" "carries a VLAN tag";
    4 "arp" "ARP, which this network does not use";
    5 "ethertype" "neither IPv4 nor IPv6";
    6 "ip-options" "has IPv4 options";
    7 "extension-header" "has IPv6 extension headers";
    8 "fragment" "is a fragment";
    9 "spoofed-source" "its source is not an address of the sender";
    10 "checksum-offload" "asks for a checksum outside its own checksum field";
    11 "segmentation" "asks for a segmentation that does not fit the packet";
    12 "oversize" "larger than the path takes; told to the sender, unless routers may fragment it";
    13 "martian" "to or from a loopback, broadcast or reserved address";
    14 "icmp-type" "an ICMP type no container may use: redirects, router or neighbour discovery";
    15 "icmp-unrelated" "an ICMP error about no live flow";
    16 "deny-rule" "a deny rule matches";
    17 "no-rule" "no rule allows it";
    18 "host" "the host itself, and no rule says host";
    19 "containers" "another container, and no rule says containers";
    20 "other-network" "a network behind another interface of the host, and no rule names it";
    21 "metadata" "a cloud metadata service, and no rule says metadata";
    22 "link-local" "a link-local address, and no rule says link-local";
    23 "multicast" "multicast, and no rule says multicast";
    24 "protocol" "neither tcp, udp, icmp nor sctp, and no rule names the protocol";
    25 "not-syn" "a TCP segment that belongs to no flow and opens none";
    26 "no-route" "the host has no route";
    27 "flow-table" "the flow could not be recorded";
    28 "no-endpoint" "no container has this address";
    29 "unjudged" "reached the host side around the container's own program";
    30 "no-policy" "the container's rules are not loaded";
    31 "internal" "a kernel helper failed";
    32 "nat-ports" "masqueraded: all ports of the container's share are busy towards that remote side";
    33 "nat-address" "masqueraded: the uplink has no address to send it from";
    34 "nat-protocol" "masqueraded: neither TCP, UDP nor an echo request to a single address";
    35 "nat-direct" "from the wire to a masqueraded address, which only this host knows";
    36 "address-conflict" "another machine on the network claims the container's address (seen, not dropped)";
    37 "rate" "around the queue that keeps the container's rate-egress, and faster than that";
    38 "audit" "no rule allows it, and it passed because the container is on trial (mode=audit)";
    39 "dns-name" "a DNS query for a name that no rule names; answered at once";
    40 "dns-type" "a DNS query of a type that may not be asked for; answered at once";
    41 "dns-query" "to a resolver, and not exactly one plain DNS query";
    42 "dns-answer" "from a resolver, and no answer to what was asked";
    43 "dns-table" "the DNS query or its answer could not be recorded";
};

/// The reason with this ABI number.
#[must_use]
pub fn reason(code: u32) -> Option<&'static DropReason> {
    DROP_REASONS.iter().find(|r| r.code == code)
}

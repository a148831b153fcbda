//! What an attacker with a raw socket sends: each frame is an honest datagram but for one lie, or
//! honest in form and addressed to what no rule names. Sent by tests/podman_attacker.rs, which
//! says what must happen, from a container that may reach all of the outside with TCP, UDP and ICMP.

use super::container::Shot;
use super::frames::{
    self, ACK, ARP, ICMP, ICMP6, IPV4, IPV6, Ip4, Ip6, QINQ, SCTP, SYN, TCP, UDP, VLAN, Vnet,
};
use super::{HOST, HOST_6, OUTSIDE, OUTSIDE_6};

/// The attacker.
pub const OWN: &str = "198.51.100.70";
pub const OWN_6: &str = "2001:db8:2::70";
/// Another container on the same host.
pub const VICTIM: &str = "198.51.100.71";
pub const VICTIM_6: &str = "2001:db8:2::71";
/// What it is allowed to do.
pub const RULES: &str = "tcp:any udp:any icmp:any";
/// Stands in every frame that has room for it.
pub const MARKER: &str = "nobody should see this";

/// One frame and the reason under which it must be dropped.
#[derive(Clone, Debug)]
pub struct Attack {
    pub what: String,
    pub reason: &'static str,
    /// As many packets.
    pub times: u64,
    pub shot: Shot,
}

fn attack(what: impl Into<String>, reason: &'static str, shot: Shot) -> Attack {
    Attack {
        what: what.into(),
        reason,
        times: 1,
        shot,
    }
}

/// A port of the wire machine where nobody listens: what it answers makes no stack answer back.
pub const QUIET: u16 = 9;

/// Frames that must be allowed: the same kind without the lie.
pub fn honest() -> Vec<(&'static str, Shot)> {
    let four = frames::udp_frame(OWN, OUTSIDE, QUIET, MARKER);
    let six = frames::udp_frame(OWN_6, OUTSIDE_6, QUIET, MARKER);
    let mut addressed = four.clone();
    addressed[..12].copy_from_slice(&[0xff; 12]);
    vec![
        ("a datagram", Shot::new(four.clone())),
        ("a datagram in IPv6", Shot::new(six.clone())),
        (
            "a datagram around the queueing discipline",
            Shot::new(four.clone()).bypassing_the_qdisc(),
        ),
        ("a datagram whose checksum is to be filled in", {
            Shot::new(without_checksum(four.clone(), 40)).vnet(Vnet::checksum(34, 6))
        }),
        ("the same in IPv6", {
            Shot::new(without_checksum(six.clone(), 60)).vnet(Vnet::checksum(54, 6))
        }),
        (
            "a datagram with an empty offload header",
            Shot::new(four).vnet(Vnet::default()),
        ),
        (
            "a datagram between broadcast MAC addresses",
            Shot::new(addressed),
        ),
        ("a segment", Shot::new(segment_to(QUIET, OWN, OUTSIDE))),
    ]
}

/// The field holds the sum of the pseudo header then; zero does for what is only looked at.
fn without_checksum(mut frame: Vec<u8>, at: usize) -> Vec<u8> {
    frame[at..at + 2].copy_from_slice(&[0, 0]);
    frame
}

fn datagram(source: &str, destination: &str) -> Vec<u8> {
    frames::udp_frame(source, destination, 7777, MARKER)
}

fn segment(source: &str, destination: &str) -> Vec<u8> {
    segment_to(7777, source, destination)
}

fn segment_to(port: u16, source: &str, destination: &str) -> Vec<u8> {
    let tcp = frames::tcp((source, 40001), (destination, port), SYN, MARKER.as_bytes());
    frames::ip_frame(source, destination, TCP, tcp)
}

fn four(protocol: u8, payload: Vec<u8>) -> Ip4 {
    Ip4::new(OWN, OUTSIDE, protocol, payload)
}

fn six(next: u8, payload: Vec<u8>) -> Ip6 {
    Ip6::new(OWN_6, OUTSIDE_6, next, payload)
}

fn udp4() -> Vec<u8> {
    frames::udp(OWN, OUTSIDE, 40000, 7777, MARKER.as_bytes())
}

fn udp6() -> Vec<u8> {
    frames::udp(OWN_6, OUTSIDE_6, 40000, 7777, MARKER.as_bytes())
}

/// A source that is not its own.
pub fn spoofed() -> Vec<Attack> {
    let mut list = Vec::new();
    for source in [
        "198.51.100.99",
        VICTIM,
        HOST,
        "192.0.2.1",
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
    ] {
        let shot = Shot::new(datagram(source, OUTSIDE));
        list.push(attack(
            format!("from {source}"),
            "spoofed-source",
            shot.clone(),
        ));
        if source == VICTIM {
            let what = format!("from {source} around the queueing discipline");
            list.push(attack(what, "spoofed-source", shot.bypassing_the_qdisc()));
        }
    }
    for source in [
        "2001:db8:2::99",
        VICTIM_6,
        HOST_6,
        "fe80::1",
        "::",
        "::1",
        "ff02::1",
    ] {
        let shot = Shot::new(datagram(source, OUTSIDE_6));
        list.push(attack(format!("from {source}"), "spoofed-source", shot));
    }
    list.push(attack("its own IPv4 address in IPv6", "martian", {
        Shot::new(datagram("::ffff:198.51.100.70", OUTSIDE_6))
    }));
    list.push(attack("a segment of the victim's", "spoofed-source", {
        Shot::new(segment(VICTIM, OUTSIDE))
    }));
    list.push(attack("to the victim, from the wire", "spoofed-source", {
        Shot::new(datagram(OUTSIDE, VICTIM))
    }));
    list
}

/// What the kernel is told about the frame is not what is in it, or it is no IP at all.
pub fn link_layer() -> Vec<Attack> {
    let (v4, v6) = (datagram(OWN, OUTSIDE), datagram(OWN_6, OUTSIDE_6));
    let packet = v4[14..].to_vec();
    let arp = {
        let mut p = vec![0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0];
        p.extend(frames::v4(OWN).octets());
        p.extend([0; 6]);
        p.extend(frames::v4(HOST).octets());
        p.extend(MARKER.as_bytes());
        frames::ethernet(ARP, &p)
    };
    let inner = [&100_u16.to_be_bytes()[..], &IPV4.to_be_bytes(), &packet].concat();
    let qinq = frames::tagged(QINQ, 200, VLAN, &inner);
    vec![
        attack(
            "IPv4 announced as IPv6",
            "protocol-field",
            Shot::new(v4.clone()).announced_as(IPV6),
        ),
        attack(
            "IPv6 announced as IPv4",
            "protocol-field",
            Shot::new(v6).announced_as(IPV4),
        ),
        attack(
            "IPv4 announced as LLDP",
            "protocol-field",
            Shot::new(v4.clone()).announced_as(0x88cc),
        ),
        attack(
            "IPv4 announced as ARP",
            "protocol-field",
            Shot::new(v4.clone()).announced_as(ARP),
        ),
        attack("LLDP announced as IPv4", "ethertype", {
            Shot::new(frames::ethernet(0x88cc, &packet)).announced_as(IPV4)
        }),
        attack("a tag announced as IPv4", "vlan", {
            Shot::new(frames::tagged(VLAN, 100, IPV4, &packet)).announced_as(IPV4)
        }),
        attack(
            "a VLAN tag",
            "vlan",
            Shot::new(frames::tagged(VLAN, 100, IPV4, &packet)),
        ),
        attack(
            "a priority tag",
            "vlan",
            Shot::new(frames::tagged(VLAN, 0, IPV4, &packet)),
        ),
        attack(
            "a service tag",
            "vlan",
            Shot::new(frames::tagged(QINQ, 100, IPV4, &packet)),
        ),
        attack("two tags", "vlan", Shot::new(qinq)),
        attack("ARP", "arp", Shot::new(arp)),
        attack(
            "LLDP",
            "ethertype",
            Shot::new(frames::ethernet(0x88cc, MARKER.as_bytes())),
        ),
        attack(
            "PPPoE",
            "ethertype",
            Shot::new(frames::ethernet(0x8864, &packet)),
        ),
        attack(
            "MPLS",
            "ethertype",
            Shot::new(frames::ethernet(0x8847, &packet)),
        ),
        attack(
            "a local experiment",
            "ethertype",
            Shot::new(frames::ethernet(0x88b5, &packet)),
        ),
    ]
}

/// Fragments, options, extension headers.
pub fn ip_headers() -> Vec<Attack> {
    let fragment = |field: u16| {
        let mut p = four(UDP, udp4());
        p.fragment = field;
        Shot::new(p.frame())
    };
    let options = |bytes: &[u8]| {
        let mut p = four(UDP, udp4());
        p.options = bytes.to_vec();
        Shot::new(p.frame())
    };
    let fragment6 = |offset_and_flag: u16| {
        let mut p = vec![UDP, 0];
        p.extend(offset_and_flag.to_be_bytes());
        p.extend([0, 0, 0, 9]);
        p.extend(udp6());
        Shot::new(six(44, p).frame())
    };
    let extended = |kind: u8| {
        let p = [frames::extension(UDP), udp6()].concat();
        Shot::new(six(kind, p).frame())
    };
    let ah = [&[UDP, 4, 0, 0][..], &[0; 20], &udp6()].concat();
    let chain = [frames::extension(60), frames::extension(UDP), udp6()].concat();
    vec![
        attack("a first fragment", "fragment", fragment(0x2000)),
        attack("a later fragment", "fragment", fragment(0x2001)),
        attack("a last fragment", "fragment", fragment(0x00b9)),
        attack("a first fragment in IPv6", "fragment", fragment6(1)),
        attack(
            "a later fragment in IPv6",
            "fragment",
            fragment6(185 << 3 | 1),
        ),
        attack("an atomic fragment in IPv6", "fragment", fragment6(0)),
        attack(
            "a no-operation option",
            "ip-options",
            options(&[1, 1, 1, 0]),
        ),
        attack("a router alert", "ip-options", options(&[148, 4, 0, 0])),
        attack(
            "a source route",
            "ip-options",
            options(&[131, 7, 4, 192, 0, 2, 2, 0]),
        ),
        attack(
            "a record of the route",
            "ip-options",
            options(&[7, 7, 4, 0, 0, 0, 0, 0]),
        ),
        attack("a hop-by-hop header", "extension-header", extended(0)),
        attack("a routing header", "extension-header", extended(43)),
        attack("destination options", "extension-header", extended(60)),
        attack(
            "an authentication header",
            "extension-header",
            Shot::new(six(51, ah).frame()),
        ),
        attack("a mobility header", "extension-header", extended(135)),
        attack(
            "two extension headers",
            "extension-header",
            Shot::new(six(0, chain).frame()),
        ),
        attack("no next header", "extension-header", {
            Shot::new(six(59, MARKER.as_bytes().to_vec()).frame())
        }),
    ]
}

/// Lengths and versions that do not fit.
pub fn malformed() -> Vec<Attack> {
    let ip4 = |change: &dyn Fn(&mut Ip4)| {
        let mut p = four(UDP, udp4());
        change(&mut p);
        Shot::new(p.frame())
    };
    let ip6 = |change: &dyn Fn(&mut Ip6)| {
        let mut p = six(UDP, udp6());
        change(&mut p);
        Shot::new(p.frame())
    };
    let cut = |frame: Vec<u8>, to: usize| Shot::new(frame[..to].to_vec());
    let datagram_length = |length: u16| {
        let mut p = udp4();
        p[4..6].copy_from_slice(&length.to_be_bytes());
        Shot::new(four(UDP, p).frame())
    };
    let segment_offset = |words: u8| {
        let mut frame = segment(OWN, OUTSIDE);
        frame[14 + 20 + 12] = words << 4;
        Shot::new(frame)
    };
    let four_cut = |at| cut(datagram(OWN, OUTSIDE), at);
    let six_cut = |at| cut(datagram(OWN_6, OUTSIDE_6), at);
    let mut list = vec![
        attack("no packet in the frame", "malformed", four_cut(14)),
        attack("half an IPv4 header", "malformed", four_cut(14 + 10)),
        attack(
            "an IPv4 header and nothing else",
            "malformed",
            four_cut(14 + 20),
        ),
        attack("half a UDP header", "malformed", four_cut(14 + 20 + 4)),
        attack("half an IPv6 header", "malformed", six_cut(14 + 20)),
        attack(
            "half a UDP header in IPv6",
            "malformed",
            six_cut(14 + 40 + 4),
        ),
        attack(
            "a header length of 4 words",
            "malformed",
            ip4(&|p| p.ihl = Some(4)),
        ),
        attack(
            "a header length of 0",
            "malformed",
            ip4(&|p| p.ihl = Some(0)),
        ),
        attack("version 6 in IPv4", "malformed", ip4(&|p| p.version = 6)),
        attack("version 4 in IPv6", "malformed", ip6(&|p| p.version = 4)),
        attack("a total length beyond the frame", "malformed", {
            ip4(&|p| p.total_length = Some(1400))
        }),
        attack("a total length below the header's", "malformed", {
            ip4(&|p| p.total_length = Some(19))
        }),
        attack(
            "a total length of 0",
            "malformed",
            ip4(&|p| p.total_length = Some(0)),
        ),
        attack(
            "a payload length beyond the frame",
            "malformed",
            ip6(&|p| p.length = Some(1400)),
        ),
        attack(
            "a payload length of 0",
            "malformed",
            ip6(&|p| p.length = Some(0)),
        ),
        attack(
            "a datagram longer than its packet",
            "malformed",
            datagram_length(1400),
        ),
        attack(
            "a datagram shorter than its header",
            "malformed",
            datagram_length(7),
        ),
        attack(
            "a segment with 4 words of header",
            "malformed",
            segment_offset(4),
        ),
        attack(
            "a segment whose header outgrows it",
            "malformed",
            segment_offset(15),
        ),
    ];
    let tcp_cut = cut(segment(OWN, OUTSIDE), 14 + 20 + 12);
    list.push(attack("half a TCP header", "malformed", tcp_cut));
    list
}

/// Honest in form, to places no rule names.
pub fn places() -> Vec<Attack> {
    let to = |what: &str, reason: &'static str, destination: &str| {
        let source = if destination.contains(':') {
            OWN_6
        } else {
            OWN
        };
        attack(
            format!("{what}, {destination}"),
            reason,
            Shot::new(datagram(source, destination)),
        )
    };
    let dhcp = frames::udp(OWN, "255.255.255.255", 68, 67, MARKER.as_bytes());
    vec![
        to("mDNS", "multicast", "224.0.0.251"),
        to("SSDP", "multicast", "239.255.255.250"),
        to("mDNS in IPv6", "multicast", "ff02::fb"),
        to("all nodes", "multicast", "ff02::1"),
        to("a site's group", "multicast", "ff05::1:3"),
        to("broadcast", "martian", "255.255.255.255"),
        attack("DHCP", "martian", {
            Shot::new(Ip4::new(OWN, "255.255.255.255", UDP, dhcp).frame())
        }),
        // The routing table calls it the host's own, as any broadcast of a network it is in.
        to("the subnet's broadcast", "host", "192.0.2.255"),
        to("no address", "martian", "0.0.0.0"),
        to("loopback", "martian", "127.0.0.1"),
        to("loopback in IPv6", "martian", "::1"),
        to("reserved", "martian", "240.0.0.1"),
        to("metadata", "metadata", "169.254.169.254"),
        to("metadata in IPv6", "metadata", "fd00:ec2::254"),
        to("link-local", "link-local", "169.254.1.1"),
        to("link-local in IPv6", "link-local", "fe80::1"),
        to("the host", "host", HOST),
        to("the host in IPv6", "host", HOST_6),
        to(
            "the host's address on another interface",
            "host",
            "172.31.0.1",
        ),
        to("the same in IPv6", "host", "2001:db8:d::1"),
        to(
            "a network behind another interface",
            "other-network",
            "172.31.0.55",
        ),
        to("the same in IPv6", "other-network", "2001:db8:d::55"),
        to("the victim", "containers", VICTIM),
        to("the victim in IPv6", "containers", VICTIM_6),
        attack(
            "a segment to the host",
            "host",
            Shot::new(segment(OWN, HOST)),
        ),
        attack(
            "a segment to the victim",
            "containers",
            Shot::new(segment(OWN, VICTIM)),
        ),
    ]
}

/// Protocols and ICMP messages.
pub fn protocols() -> Vec<Attack> {
    let mut list = Vec::new();
    let inner4 = four(UDP, udp4()).packet();
    for (what, protocol) in [
        ("IP in IP", 4),
        ("IPv6 in IP", 41),
        ("GRE", 47),
        ("ESP", 50),
    ] {
        list.push(attack(
            what,
            "protocol",
            Shot::new(four(protocol, inner4.clone()).frame()),
        ));
        let what = format!("{what} over IPv6");
        list.push(attack(
            what,
            "protocol",
            Shot::new(six(protocol, inner4.clone()).frame()),
        ));
    }
    list.push(attack(
        "OSPF",
        "protocol",
        Shot::new(four(89, inner4.clone()).frame()),
    ));
    let mut init = vec![0x9c, 0x40, 0x1e, 0x61, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20];
    init.extend([0; 16]);
    init.extend(MARKER.as_bytes());
    list.push(attack(
        "SCTP",
        "no-rule",
        Shot::new(four(SCTP, init.clone()).frame()),
    ));
    list.push(attack(
        "SCTP over IPv6",
        "no-rule",
        Shot::new(six(SCTP, init).frame()),
    ));

    let message = |kind: u8, rest: &[u8]| {
        let rest = [rest, MARKER.as_bytes()].concat();
        Shot::new(four(ICMP, frames::icmp(OWN, OUTSIDE, kind, 0, &rest)).frame())
    };
    let message6 = |kind: u8, rest: &[u8]| {
        let rest = [rest, MARKER.as_bytes()].concat();
        Shot::new(six(ICMP6, frames::icmp(OWN_6, OUTSIDE_6, kind, 0, &rest)).frame())
    };
    for (what, kind) in [
        ("a redirect", 5),
        ("a router's advertisement", 9),
        ("a router's solicitation", 10),
    ] {
        list.push(attack(what, "icmp-type", message(kind, &[0; 4])));
    }
    for (what, kind) in [
        ("a router's solicitation in IPv6", 133),
        ("a router's advertisement in IPv6", 134),
        ("a neighbour's solicitation", 135),
        ("a neighbour's advertisement", 136),
        ("a redirect in IPv6", 137),
    ] {
        list.push(attack(what, "icmp-type", message6(kind, &[0; 20])));
    }
    // An error about a packet that nobody sent: from the attacker's view, one that it received.
    let quoted = Ip4::new(
        OUTSIDE,
        OWN,
        UDP,
        frames::udp(OUTSIDE, OWN, 9999, 9998, b"?"),
    )
    .packet();
    let quoted6 = Ip6::new(
        OUTSIDE_6,
        OWN_6,
        UDP,
        frames::udp(OUTSIDE_6, OWN_6, 9999, 9998, b"?"),
    )
    .packet();
    for (what, kind) in [
        ("unreachable", 3),
        ("time exceeded", 11),
        ("a parameter problem", 12),
    ] {
        let rest = [&[0; 4], &quoted[..28]].concat();
        list.push(attack(
            format!("forged: {what}"),
            "icmp-unrelated",
            message(kind, &rest),
        ));
    }
    for (what, kind) in [
        ("unreachable", 1),
        ("too big", 2),
        ("time exceeded", 3),
        ("a parameter problem", 4),
    ] {
        let rest = [&[0, 0, 5, 0][..], &quoted6[..48]].concat();
        let what = format!("forged in IPv6: {what}");
        list.push(attack(what, "icmp-unrelated", message6(kind, &rest)));
    }
    list
}

/// Lies in the offload header that a packet socket may put in front of a frame.
pub fn offloads() -> Vec<Attack> {
    let plain = || datagram(OWN, OUTSIDE);
    let plain6 = || datagram(OWN_6, OUTSIDE_6);
    let sum = |what: &str, start: u16, offset: u16| {
        let shot = Shot::new(plain()).vnet(Vnet::checksum(start, offset));
        attack(what, "checksum-offload", shot)
    };
    let mut list = vec![
        // The kernel itself takes nothing that starts before byte 20.
        sum("a checksum over the source address", 20, 6),
        sum("a checksum over the rest of the source address", 20, 8),
        sum("a checksum into the destination address", 20, 10),
        sum("a checksum into the IP header's own", 20, 4),
        sum("a checksum into the port", 34, 2),
        sum("a checksum into the data", 34, 10),
        sum("a checksum where TCP has it", 34, 16),
        sum("a checksum from within the UDP header", 36, 4),
        attack(
            "an IPv6 checksum over the source address",
            "checksum-offload",
            Shot::new(plain6()).vnet(Vnet::checksum(20, 2)),
        ),
    ];
    let big = |length: usize| {
        let data = vec![b'x'; length];
        frames::ip_frame(
            OWN,
            OUTSIDE,
            UDP,
            frames::udp(OWN, OUTSIDE, 40000, 7777, &data),
        )
    };
    let gso = |gso_type, gso_size| Vnet {
        gso_type,
        gso_size,
        header_length: 42,
        ..Vnet::checksum(34, 6)
    };
    list.extend([
        Attack {
            // The kernel does it before the device, which has no hardware for it.
            times: 3,
            ..attack("a datagram to be fragmented by others", "fragment", {
                Shot::new(big(3000)).vnet(gso(Vnet::UFO, 1480))
            })
        },
        // Segments below 8 bytes the kernel refuses before it asks us (TCP_MIN_GSO_SIZE,
        // include/net/tcp.h).
        attack("segments larger than the path takes", "oversize", {
            Shot::new(big(8000)).vnet(gso(Vnet::UDP_L4, 3000))
        }),
    ]);
    list
}

/// Packets of flows that nobody opened the way they claim.
pub fn flows() -> Vec<Attack> {
    let segment = frames::tcp((OWN, 40002), (VICTIM, 7777), ACK, MARKER.as_bytes());
    vec![attack(
        "a segment within a connection to the victim",
        "containers",
        Shot::new(Ip4::new(OWN, VICTIM, TCP, segment).frame()),
    )]
}

/// All of them.
pub fn all() -> Vec<Attack> {
    [
        spoofed(),
        link_layer(),
        ip_headers(),
        malformed(),
        places(),
        protocols(),
        offloads(),
        flows(),
    ]
    .concat()
}

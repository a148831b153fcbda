use netlink_packet_core::{Emitable, Parseable};

use super::*;

fn spec() -> PairSpec {
    PairSpec {
        primary: IfName::new("onk1").unwrap(),
        peer: IfName::new("eth0").unwrap(),
        sizes: LinkSizes {
            mtu_bytes: 1500,
            gso_max_bytes: 65536,
            headroom_bytes: 32,
            ..LinkSizes::default()
        },
    }
}

/// What a kernel that took everything would answer for the primary.
fn taken() -> LinkMessage {
    let mut link = pair_request(&spec(), 3);
    let Some(LinkAttribute::LinkInfo(infos)) = link.attributes.last_mut() else {
        panic!()
    };
    let Some(LinkInfo::Data(InfoData::Netkit(data))) = infos.last_mut() else {
        panic!()
    };
    data.retain(|a| !matches!(a, InfoNetkit::Peer(_) | InfoNetkit::Other(_)));
    data.extend([InfoNetkit::Primary(true), InfoNetkit::Headroom(32)]);
    link
}

#[test]
fn reserve_is_what_the_kernel_computes() {
    for (needed, bytes) in [(0, 16), (1, 16), (2, 32), (12, 32), (18, 48), (60, 80)] {
        assert_eq!(reserve(needed), bytes, "{needed}");
    }
}

#[test]
fn headroom_travels_in_two_bytes() {
    let request = pair_request(&spec(), 3);
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut bytes);
    let wanted = [6, 0, 8, 0, 32, 0]; // length, type, value
    assert!(bytes.windows(6).any(|w| w == wanted));
    LinkMessage::parse(bytes.as_slice()).unwrap();
}

#[test]
fn everything_taken_is_no_difference() {
    assert_eq!(
        differences(&taken(), &spec().sizes, NetkitScrub::None),
        Vec::<String>::new()
    );
}

#[test]
fn each_attribute_the_kernel_ignored_is_named() {
    let sizes = LinkSizes {
        mtu_bytes: 9000,
        ..spec().sizes
    };
    assert_eq!(
        differences(&taken(), &sizes, NetkitScrub::None),
        ["mtu 9000 (is 1500)"]
    );
    let sizes = LinkSizes {
        headroom_bytes: 16,
        ..spec().sizes
    };
    assert_eq!(
        differences(&taken(), &sizes, NetkitScrub::None),
        ["headroom 16 (is 32)"]
    );
    let swapped = differences(&taken(), &spec().sizes, NetkitScrub::Default);
    assert_eq!(swapped, ["scrub", "primary"]);
    let empty = LinkMessage::default();
    let all = differences(&empty, &spec().sizes, NetkitScrub::None);
    assert_eq!(all.len(), 7, "{all:?}");
}

#[test]
fn kernel_without_headroom_is_accepted() {
    let mut link = taken();
    let Some(LinkAttribute::LinkInfo(infos)) = link.attributes.last_mut() else {
        panic!()
    };
    let Some(LinkInfo::Data(InfoData::Netkit(data))) = infos.last_mut() else {
        panic!()
    };
    data.retain(|a| !matches!(a, InfoNetkit::Headroom(_)));
    assert!(differences(&link, &spec().sizes, NetkitScrub::None).is_empty());
}

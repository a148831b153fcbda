//! The kernel's answers about devices, addresses and routes: any message that the packet crate
//! reads has a meaning here. The first two bytes are the message type.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use oci_netkit::kernel::netlink::{addr, link, route};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, payload)) = bytes.split_first_chunk() else {
        return;
    };
    let mut header = NetlinkHeader::default();
    header.message_type = u16::from_le_bytes(*kind);
    let Ok(message) = RouteNetlinkMessage::deserialize(&header, payload) else {
        return;
    };
    if let RouteNetlinkMessage::NewLink(message) = &message {
        let found = link::decode(message);
        assert_eq!(found.ifindex, message.header.index);
    }
    let _ = addr::decode(&message);
    let is_route = matches!(message, RouteNetlinkMessage::NewRoute(_));
    let single = route::single(payload).filter(|_| is_route);
    for any in ["0.0.0.0", "::"] {
        let any: IpAddr = any.parse().expect("an address");
        for hop in route::decode(&message, any) {
            assert!(hop.destination.prefix_len() <= hop.destination.max_prefix_len());
            if let Some((ifindex, to)) = single {
                assert_eq!((hop.ifindex, hop.destination), (Some(ifindex), to.into()));
            }
        }
    }
});

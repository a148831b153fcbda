//! What each endpoint has that no other one of the host may have, in so few bytes that a start reads
//! those of a thousand. Pure.
//!
//! A claim says at a glance what cannot be in the way of a start; of what may be, the
//! [`EndpointRecord`] tells. So names, containers and ports are digests or sets of digests
//! here, which may speak of more than there is, never of less.

use std::net::IpAddr;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::addr::{mapped, unmapped};
use super::id::{ContainerId, EndpointId, NetnsCookie};
use super::name::digest;
use super::port::PortShare;
use super::publish::Publication;
use super::record::{EndpointRecord, Phase};

/// Addresses that have room in a claim; one that is not there is 0.
const ADDRESSES: usize = 4;
const NO_ADDRESS: [u8; 16] = [0; 16];

const CREATING: u8 = 1;
const ACTIVE: u8 = 2;
const ENDING: u8 = 3;

/// All in host byte order but the addresses. A change is a change of the file that `state/claims.rs`
/// keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Claim {
    cookie: u64,
    /// Namespace of the primary; 0 = not known.
    host: u64,
    /// Of the endpoint's name.
    name: u64,
    /// Of the first container's id; 0 = nobody lives there.
    container: u64,
    /// Of that one, as its pid.
    start_time: u64,
    /// A bit for each other container, by its id.
    others: u64,
    /// A bit for each published port of the host.
    ports: u64,
    addresses: [[u8; 16]; ADDRESSES],
    id: u32,
    primary_ifindex: u32,
    pid: i32,
    nat_first: u16,
    /// 0 = none.
    nat_count: u16,
    /// 0 = nobody has this id.
    phase: u8,
    /// 1 = it has addresses that have no room here.
    has_more: u8,
    reserved: [u8; 6],
}

impl From<&EndpointRecord> for Claim {
    fn from(record: &EndpointRecord) -> Self {
        let first = record.members.first();
        let others = record.members.iter().skip(1);
        let mut addresses = [NO_ADDRESS; ADDRESSES];
        for (place, net) in addresses.iter_mut().zip(&record.addresses) {
            *place = mapped(net.addr());
        }
        let nat = record.nat.unwrap_or(PortShare { first: 0, count: 0 });
        Self {
            cookie: record.cookie.0,
            host: record.host.map_or(0, |host| host.0),
            name: digest(&record.name),
            container: first.map_or(0, |m| digest(m.container_id.as_str())),
            start_time: first.map_or(0, |m| m.start_time),
            others: bits(others.map(|m| digest(m.container_id.as_str()))),
            ports: port_bits(&record.publish),
            addresses,
            id: record.id.0,
            primary_ifindex: record.primary_ifindex,
            pid: first.map_or(0, |m| m.pid),
            nat_first: nat.first,
            nat_count: nat.count,
            phase: match record.phase {
                Phase::Creating => CREATING,
                Phase::Active => ACTIVE,
                Phase::Ending => ENDING,
            },
            has_more: u8::from(record.addresses.len() > ADDRESSES),
            reserved: [0; 6],
        }
    }
}

impl Claim {
    /// That of an id that nobody has.
    #[must_use]
    pub fn free() -> Self {
        Self::new_zeroed()
    }

    /// That of a namespace, of claims in the order of their namespaces.
    #[must_use]
    pub fn find(claims: &[Self], cookie: NetnsCookie) -> Option<&Self> {
        let index = claims.binary_search_by_key(&cookie, Self::cookie);
        claims.get(index.ok()?)
    }

    /// Whether it is [`Claim::free`].
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.phase == 0
    }

    /// The namespace.
    #[must_use]
    pub fn cookie(&self) -> NetnsCookie {
        NetnsCookie(self.cookie)
    }

    /// Index in the maps.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        EndpointId(self.id)
    }

    /// Device on the host; 0 until it exists.
    #[must_use]
    pub fn primary_ifindex(&self) -> u32 {
        self.primary_ifindex
    }

    /// Those that have room here.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let there = self.addresses.into_iter().take_while(|a| *a != NO_ADDRESS);
        there.map(unmapped)
    }

    /// Ports of the host that its masqueraded addresses leave by.
    #[must_use]
    pub fn nat(&self) -> Option<PortShare> {
        (self.nat_count > 0).then_some(PortShare {
            first: self.nat_first,
            count: self.nat_count,
        })
    }

    /// All steps are done, and it is not being taken down.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.phase == ACTIVE
    }

    /// Pid and start time (clock ticks since boot) of the container that came first; `None` if nobody
    /// lives there.
    #[must_use]
    pub fn first_member(&self) -> Option<(i32, u64)> {
        (self.container != 0).then_some((self.pid, self.start_time))
    }

    /// Whether there are containers beside [`Claim::first_member`].
    #[must_use]
    pub fn has_other_members(&self) -> bool {
        self.others != 0
    }

    /// Whether the container may live there, or nobody does.
    #[must_use]
    pub fn may_have(&self, container: &ContainerId) -> bool {
        let digest = digest(container.as_str());
        self.container == 0 || self.container == digest || self.others & bits([digest]) != 0
    }
}

/// Which ids have a claim, by number.
#[must_use]
pub fn ids(claims: &[Claim]) -> Vec<bool> {
    let mut ids = vec![false; EndpointId::COUNT as usize];
    for claim in claims {
        if let Some(is_there) = ids.get_mut(claim.id as usize) {
            *is_there = true;
        }
    }
    ids
}

/// Their addresses, each [`mapped`]. The first of each, then the second: what was given out in
/// ascending order comes in it.
pub fn addresses(claims: &[Claim]) -> impl Iterator<Item = [u8; 16]> {
    let of_place = |place| claims.iter().map(move |claim| claim.addresses[place]);
    let all = (0..ADDRESSES).flat_map(of_place);
    all.filter(|addr| *addr != NO_ADDRESS)
}

/// What a start asks of the endpoints there are.
#[derive(Clone, Debug)]
pub struct Interest {
    host: u64,
    name: u64,
    addresses: Vec<[u8; 16]>,
    ports: u64,
}

impl Interest {
    /// Of an endpoint on this host, with the name, and addresses and ports that it asks for itself.
    #[must_use]
    pub fn new(
        host: NetnsCookie,
        name: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
        publish: &[Publication],
    ) -> Self {
        Self {
            host: host.0,
            name: digest(name),
            addresses: addresses.into_iter().map(mapped).collect(),
            ports: port_bits(publish),
        }
    }

    /// Whether the endpoint's record has to be read: it may have the same name, address or
    /// port, lives on another host, or has more addresses than its claim says.
    #[must_use]
    pub fn concerns(&self, claim: &Claim) -> bool {
        self.may_meet(claim) || (claim.host != 0 && claim.host != self.host) || claim.has_more != 0
    }

    /// Whether it may have the same name, address or port.
    #[must_use]
    pub fn may_meet(&self, claim: &Claim) -> bool {
        claim.name == self.name
            || claim.ports & self.ports != 0
            || self.addresses.iter().any(|a| claim.addresses.contains(a))
    }
}

/// A bit for each of so many numbers.
fn bits(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, |bits, n| bits | 1 << (n % 64))
}

fn port_bits(publish: &[Publication]) -> u64 {
    bits(publish.iter().map(|p| p.host_port.into()))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::types::record::Member;

    fn example() -> EndpointRecord {
        let addresses = ["192.0.2.7/24", "2001:db8::7/128"];
        EndpointRecord {
            addresses: addresses.map(|a| a.parse().unwrap()).to_vec(),
            publish: vec!["8080:80".parse().unwrap()],
            members: ["one", "two"].map(member).to_vec(),
            ..EndpointRecord::example()
        }
    }

    fn member(id: &str) -> Member {
        Member {
            container_id: ContainerId::new(id).unwrap(),
            pid: 42,
            start_time: 7,
        }
    }

    #[test]
    fn a_claim_says_what_the_record_says() {
        let record = EndpointRecord {
            nat: Some(PortShare {
                first: 4096,
                count: 32,
            }),
            primary_ifindex: 12,
            ..example()
        };
        let claim = Claim::from(&record);
        assert_eq!((claim.cookie(), claim.id()), (record.cookie, record.id));
        assert_eq!(claim.primary_ifindex(), 12);
        let addresses: Vec<IpAddr> = record.addresses.iter().map(IpNet::addr).collect();
        assert_eq!(claim.addresses().collect::<Vec<_>>(), addresses);
        assert_eq!(claim.nat(), record.nat);
        assert_eq!(claim.first_member(), Some((42, 7)));
        assert!(claim.is_active() && claim.has_other_members() && !claim.is_free());
        for (id, may) in [("one", true), ("two", true), ("three", false)] {
            assert_eq!(claim.may_have(&ContainerId::new(id).unwrap()), may, "{id}");
        }
        let in_order: Vec<IpAddr> = super::addresses(&[claim, Claim::free(), claim])
            .map(unmapped)
            .collect();
        let [v4, v6] = addresses[..] else { panic!() };
        assert_eq!(in_order, [v4, v4, v6, v6]);
        let empty = Claim::from(&EndpointRecord::example());
        assert_eq!((empty.first_member(), empty.nat()), (None, None));
        assert!(empty.may_have(&ContainerId::new("any").unwrap()));
        assert!(Claim::free().is_free() && !Claim::free().is_active());
        assert_eq!(Claim::read_from_bytes(claim.as_bytes()), Ok(claim));
    }

    #[test]
    fn what_may_be_in_the_way_concerns_a_start() {
        let claim = Claim::from(&example());
        let here = NetnsCookie(1);
        let of = |host, name: &str, address: &str, port: &str| {
            let addresses = (!address.is_empty()).then(|| address.parse().unwrap());
            let publish: Vec<_> = (!port.is_empty())
                .then(|| port.parse().unwrap())
                .into_iter()
                .collect();
            Interest::new(host, name, addresses, &publish).concerns(&claim)
        };
        assert!(!of(here, "other", "192.0.2.8", "8081:80"));
        assert!(of(here, "web", "", ""));
        assert!(of(here, "other", "192.0.2.7", ""));
        assert!(of(here, "other", "2001:db8::7", ""));
        assert!(of(here, "other", "", "8080:81"));
        assert!(of(NetnsCookie(2), "other", "", ""));
        // More addresses than have room.
        let many = EndpointRecord {
            addresses: (1..=5u8)
                .map(|n| IpAddr::from([192, 0, 2, n]).into())
                .collect(),
            host: None,
            ..example()
        };
        let concerns = |record: &EndpointRecord| {
            Interest::new(NetnsCookie(2), "other", None, &[]).concerns(&Claim::from(record))
        };
        assert!(concerns(&many));
        assert!(!concerns(&EndpointRecord {
            addresses: many.addresses[..4].to_vec(),
            ..many
        }));
    }
}

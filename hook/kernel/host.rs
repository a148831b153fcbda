//! Runs one step or undo of a plan on the real kernel, as `apply/` orders.
//!
//! A step fills in what becomes known (interface indexes, generation) in the record. An undo is
//! right whether its step ran whole, half or never, and may run twice.

use std::net::IpAddr;
use std::time::Duration;

use super::bpf::maps::Maps;
use super::bpf::{attach, cgroup, load};
use super::bpffs::{self, Pins};
use super::lan;
use super::netlink::{Netlink, addr, devconf, link, neighbour, qdisc, route};
use super::netns::Netns;
use super::reserved_ports;
use super::sysctl;
use super::whole;
use crate::error::{Error, Kind, Result};
use crate::plan::step::{
    Ipv4Setting, LanSpec, PairSpec, PortSpec, QueueSpec, RouteSpec, Side, Step, Undo, Uplink,
};
use crate::state::Paths;
use crate::state::fresh::Fresh;
use crate::state::lock::{Deadline, Lock};
use crate::state::store::{Store, View};
use crate::types::id::EndpointId;
use crate::types::name::IfName;
use crate::types::port::PortRange;
use crate::types::reach::LanAddress;
use crate::types::record::EndpointRecord;

/// For the generation lock: a first load takes a second or two on a slow machine.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(15);
/// For it when the deadline has passed: some undos need the lock, and the runtime kills a hook that
/// takes much longer than its deadline, before it could say why.
const LOCK_GRACE: Duration = Duration::from_millis(500);

/// What can be done to a host; the seam at which tests let steps fail.
pub trait Host {
    /// Does one thing.
    ///
    /// # Errors
    /// Why it did not happen; part of it may have.
    fn run(&mut self, step: &Step) -> Result<()>;

    /// Takes one thing back.
    ///
    /// # Errors
    /// Why it may still be there. "Already gone" is no error.
    fn undo(&mut self, undo: &Undo) -> Result<()>;

    /// The attempt succeeded: programs it loaded stay when the endpoint goes.
    ///
    /// # Errors
    /// When that cannot be written down.
    fn commit(&mut self) -> Result<()>;

    /// The endpoint's record with what has become known.
    fn record(&self) -> &EndpointRecord;
}

/// This machine's kernel, as seen by one endpoint.
#[derive(Debug)]
pub struct RealHost {
    paths: Paths,
    pins: Pins,
    record: EndpointRecord,
    netns: Option<Netns>,
    outside: Option<Netlink>,
    inside: Option<Netlink>,
    maps: Option<Maps>,
    store: Option<Store>,
    deadline: Option<Deadline>,
}

impl RealHost {
    /// For an endpoint; without its namespace only undos can run.
    #[must_use]
    pub fn new(paths: &Paths, record: EndpointRecord, netns: Option<Netns>) -> Self {
        Self {
            paths: paths.clone(),
            pins: Pins::new(&paths.bpffs_dir),
            record,
            netns,
            outside: None,
            inside: None,
            maps: None,
            store: None,
            deadline: None,
        }
    }

    /// Asks and changes the host by a socket that is open already.
    #[must_use]
    pub fn by(mut self, outside: Netlink) -> Self {
        self.outside = Some(outside);
        self
    }

    /// Waits for other processes until then only.
    #[must_use]
    pub fn until(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    fn netns(&self) -> Result<&Netns> {
        self.netns
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Internal, "the namespace is not open"))
    }

    fn outside(&mut self) -> Result<&Netlink> {
        let netlink = match self.outside.take() {
            Some(netlink) => netlink,
            None => Netlink::open()?,
        };
        Ok(self.outside.insert(netlink))
    }

    fn inside(&mut self) -> Result<&Netlink> {
        let netlink = match self.inside.take() {
            Some(netlink) => netlink,
            None => Netlink::open_in(self.netns()?)?,
        };
        Ok(self.inside.insert(netlink))
    }

    fn maps(&mut self) -> Result<&Maps> {
        let maps = match self.maps.take() {
            Some(maps) => maps,
            None => load::open_maps(&self.pins)?,
        };
        Ok(self.maps.insert(maps))
    }

    fn store(&mut self) -> Result<Store> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::open(&self.paths)?,
        };
        Ok(self.store.insert(store).clone())
    }

    fn lock(&mut self) -> Result<(Store, Lock)> {
        let store = self.store()?;
        let patience = self.deadline.map_or(LOCK_PATIENCE, |deadline| {
            deadline.remaining().clamp(LOCK_GRACE, LOCK_PATIENCE)
        });
        let lock = store.lock_generation(&Deadline::after(patience))?;
        Ok((store, lock))
    }

    /// Whether other endpoints of this boot need what is shared: those of which that is true.
    /// Reservations count, as does a record that cannot be read: it may be one.
    fn has_others(&self, store: &Store, needs: fn(&EndpointRecord) -> bool) -> Result<bool> {
        store.view().has_any(&|r| {
            r.boot_id == self.record.boot_id && r.cookie != self.record.cookie && needs(r)
        })
    }

    fn ensure_generation(&mut self) -> Result<()> {
        let (store, _lock) = self.lock()?;
        self.make_way(&store)?;
        if !load::is_loaded(&self.pins) {
            let maps = !load::has_maps(&self.pins);
            store.set_fresh(&Fresh {
                generation: load::CURRENT.into(),
                maps,
            })?;
            load::load(&self.pins)?;
        }
        load::CURRENT.clone_into(&mut self.record.generation);
        Ok(())
    }

    /// Programs of another ABI do not see our maps, so the two cannot serve one host: what they
    /// left behind goes, but only when nobody needs it.
    fn make_way(&self, store: &Store) -> Result<()> {
        if !load::has_other_abi(&self.pins)? {
            return Ok(());
        }
        if self.has_others(store, |_| true)? {
            return Err(load::other_abi());
        }
        whole::remove_pins(&self.pins).into_result(())
    }

    fn ensure_uplinks(&mut self, uplinks: &[Uplink]) -> Result<()> {
        let (_, _lock) = self.lock()?;
        let pins = self.pins.clone();
        let maps = self.maps()?;
        for uplink in uplinks {
            maps.add_uplink(uplink)?;
            attach::ensure_uplink(&pins, load::CURRENT, uplink.ifindex)?;
        }
        maps.set_multicast_uplink(uplinks.first().map_or(0, |u| u.ifindex))
    }

    fn reserve_ports(&mut self, ports: PortRange) -> Result<()> {
        let (store, _lock) = self.lock()?;
        reserved_ports::reserve(&store, &self.record.boot_id, ports)
    }

    fn release_ports(&mut self) -> Result<()> {
        let (store, _lock) = self.lock()?;
        if self.has_others(&store, |r| r.nat.is_some())? {
            return Ok(());
        }
        reserved_ports::release(&store, &self.record.boot_id)
    }

    fn publish_ports(&mut self, id: EndpointId, ports: &[PortSpec]) -> Result<()> {
        let (_, _lock) = self.lock()?;
        let own = addr::own(self.outside()?)?;
        let maps = self.maps()?;
        maps.set_host_addresses(&own)?;
        maps.publish_ports(id, ports)?;
        if !cgroup::ensure(&self.pins, &self.record.generation)? {
            log::warn!("no cgroup version 2 here: the host itself reaches no published port");
        }
        Ok(())
    }

    fn retract_ports(&mut self, id: EndpointId) -> Result<()> {
        let (_, _lock) = self.lock()?;
        if self.maps()?.retract_ports(id)? {
            return Ok(());
        }
        cgroup::remove(&self.pins)?;
        self.maps()?.set_host_addresses(&[])
    }

    fn create_pair(&mut self, spec: &PairSpec) -> Result<()> {
        self.outside()?;
        let outside = self.outside.as_ref();
        let outside = outside.ok_or_else(|| Error::new(Kind::Internal, "no netlink socket"))?;
        let (indexes, inside) = link::create_pair(outside, self.netns()?, spec)?;
        self.inside = Some(inside);
        self.record.primary_ifindex = indexes.primary;
        self.record.peer_ifindex = indexes.peer;
        Ok(())
    }

    /// Unless the name belongs to another endpoint: that is why this one's creation failed. The
    /// index tells, once it is known; the others are many.
    fn delete_pair(&mut self, primary: &IfName) -> Result<()> {
        let (outside, record) = (self.outside()?.clone(), &self.record);
        link::delete_pair(&outside, primary, |ifindex| {
            if ifindex == record.primary_ifindex {
                return Ok(true);
            }
            let records = View::new(&self.paths).records(&record.boot_id)?;
            let mut others = records.iter().filter(|r| r.cookie != record.cookie);
            Ok(others.all(|r| r.primary != *primary))
        })
    }

    /// One end of the pair, and the socket of its namespace.
    fn device(&mut self, side: Side) -> Result<(&Netlink, u32)> {
        let (primary, peer) = (self.record.primary_ifindex, self.record.peer_ifindex);
        Ok(match side {
            Side::Primary => (self.outside()?, primary),
            Side::Peer => (self.inside()?, peer),
        })
    }

    fn link_up(&mut self, side: Side) -> Result<()> {
        let (netlink, ifindex) = self.device(side)?;
        if side == Side::Peer {
            link::up(netlink, link::LOOPBACK_IFINDEX)?;
        }
        link::up(netlink, ifindex)
    }

    fn queue(&mut self, side: Side, spec: &QueueSpec) -> Result<()> {
        let (netlink, ifindex) = self.device(side)?;
        qdisc::add(netlink, ifindex, spec)
    }

    fn set_ipv4(&mut self, side: Side, settings: &[(Ipv4Setting, bool)]) -> Result<()> {
        let (netlink, ifindex) = self.device(side)?;
        devconf::set(netlink, ifindex, settings)
    }

    fn add_route(&mut self, side: Side, spec: &RouteSpec) -> Result<()> {
        let (netlink, ifindex) = self.device(side)?;
        route::add(netlink, ifindex, spec).map_err(|e| match (side, e.kind()) {
            // Another address may do.
            (Side::Primary, Kind::Conflict) => e
                .with_taken([spec.destination.addr()])
                .with_hint("take another address, or remove that route"),
            _ => e,
        })
    }

    fn add_proxies(&mut self, specs: &[LanSpec]) -> Result<()> {
        for spec in specs {
            for address in &spec.addresses {
                if let IpAddr::V6(v6) = address {
                    neighbour::add_proxy(self.outside()?, spec.uplink.ifindex, *v6)?;
                }
            }
        }
        Ok(())
    }

    fn remove_proxies(&mut self, lan: &[LanAddress]) -> Result<()> {
        let mut first = Ok(());
        for one in lan {
            if let IpAddr::V6(v6) = one.address {
                let removed = neighbour::remove_proxy(self.outside()?, one.ifindex, v6);
                first = first.and(removed);
            }
        }
        first
    }

    /// An announcement that does not leave is no failure: neighbours ask, and are answered.
    fn claim_addresses(&mut self, specs: &[LanSpec]) -> Result<()> {
        let (id, lan) = (self.record.id, self.record.lan.clone());
        self.maps()?.answer_for(id, &lan)?;
        lan::announce(specs).unwrap_or_else(|e| log::warn!("announce: {e}"));
        Ok(())
    }

    fn release_generation(&mut self) -> Result<()> {
        let (store, _lock) = self.lock()?;
        let Some(fresh) = store.view().fresh() else {
            return Ok(());
        };
        if self.has_others(&store, |_| true)? {
            return Ok(()); // theirs to keep, or to unload when they fail
        }
        self.maps = None;
        load::sweep(&self.pins)?;
        load::unload(&self.pins, &fresh.generation)?;
        if fresh.maps {
            load::unload_maps(&self.pins)?;
        }
        for dir in [
            self.pins.links(),
            self.pins.uplinks(),
            self.pins.base().to_owned(),
        ] {
            bpffs::remove_empty(&dir)?;
        }
        store.clear_fresh()
    }

    fn release_uplinks(&mut self) -> Result<()> {
        let (store, _lock) = self.lock()?;
        if self.has_others(&store, |_| true)? {
            return Ok(());
        }
        let has_maps = load::has_maps(&self.pins);
        for (ifindex, _) in attach::uplinks(&self.pins)? {
            attach::remove_uplink(&self.pins, ifindex)?;
            if has_maps {
                self.maps()?.remove_uplink(ifindex)?;
            }
        }
        if has_maps {
            self.maps()?.set_multicast_uplink(0)?;
        }
        bpffs::remove_empty(&self.pins.uplinks())
    }
}

impl Host for RealHost {
    fn run(&mut self, step: &Step) -> Result<()> {
        let (primary, peer) = (self.record.primary_ifindex, self.record.peer_ifindex);
        match step {
            Step::ProbeAddresses(specs) => lan::probe(specs),
            Step::AddProxies(specs) => self.add_proxies(specs),
            Step::ClaimAddresses(specs) => self.claim_addresses(specs),
            Step::EnsureGeneration => self.ensure_generation(),
            Step::EnsureUplinks(uplinks) => self.ensure_uplinks(uplinks),
            Step::ReservePorts(ports) => self.reserve_ports(*ports),
            Step::CreatePair(spec) => self.create_pair(spec),
            Step::Queue { side, queue } => self.queue(*side, queue),
            Step::SetIpv4 { side, settings, .. } => self.set_ipv4(*side, settings),
            Step::SetIpv6 {
                side,
                device,
                settings,
            } => {
                let netns = match side {
                    Side::Primary => None,
                    Side::Peer => Some(self.netns()?),
                };
                sysctl::set_ipv6(netns, device, settings)
            }
            Step::FillMaps(spec) => self.maps()?.fill(spec, primary, peer),
            Step::AttachPrograms { guard } => attach::attach_endpoint(
                &self.pins,
                &self.record.generation,
                self.record.cookie,
                primary,
                *guard,
            ),
            Step::AddAddress(net) => addr::add(self.inside()?, peer, net),
            Step::LinkUp(side) => self.link_up(*side),
            Step::AddRoute { side, route } => self.add_route(*side, route),
            Step::PublishPorts { id, ports } => self.publish_ports(*id, ports),
            Step::PublishAddresses { id, addresses } => {
                let rates = self.record.rates;
                self.maps()?.publish(*id, addresses, rates, primary, peer)
            }
        }
    }

    fn undo(&mut self, undo: &Undo) -> Result<()> {
        // Without maps nothing can be in them.
        let has_maps = load::has_maps(&self.pins);
        match undo {
            Undo::ReleaseGeneration => self.release_generation(),
            Undo::ReleaseUplinks => self.release_uplinks(),
            Undo::ReleasePorts => self.release_ports(),
            Undo::DeletePair { primary } => self.delete_pair(primary),
            Undo::RemoveProxies { lan } => self.remove_proxies(lan),
            Undo::ClearMaps { id } if has_maps => self.maps()?.clear(*id),
            Undo::RetractAddresses { id, addresses } if has_maps => {
                self.maps()?.retract(*id, addresses)
            }
            Undo::RetractPorts { id } if has_maps => self.retract_ports(*id),
            Undo::ClearMaps { .. } | Undo::RetractAddresses { .. } | Undo::RetractPorts { .. } => {
                Ok(())
            }
            Undo::DetachPrograms { cookie } => attach::detach_endpoint(&self.pins, *cookie),
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.store()?.clear_fresh()
    }

    fn record(&self) -> &EndpointRecord {
        &self.record
    }
}

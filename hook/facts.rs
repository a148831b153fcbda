//! What was found: the host, the namespace, the endpoints there are. Plain data,
//! filled by `kernel/probe.rs` and `state/`, judged by `plan/`. Pure.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv6Net};

use crate::types::addr::{AddrSet, mapped};
use crate::types::claim::{self, Claim};
use crate::types::engine::Engine;
use crate::types::id::NetnsCookie;
use crate::types::lease::Leases;
use crate::types::publish::Transport;
use crate::types::record::EndpointRecord;

/// A network device of the host's namespace (or, in [`NamespaceFacts`], of the container's).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`: "netkit", "veth", "bridge"; `None` for hardware.
    pub kind: Option<String>,
    /// Bytes.
    pub mtu_bytes: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// Link-layer address, if it has six bytes (ARPHRD_ETHER).
    pub mac: Option<[u8; 6]>,
    /// Has a device behind it (/sys/class/net/NAME/device).
    pub physical: bool,
    /// `IFLA_GSO_MAX_SIZE`, bytes; 0 = not reported.
    pub gso_max_bytes: u32,
    /// `IFLA_GSO_IPV4_MAX_SIZE`, bytes; 0 = not reported.
    pub gso_ipv4_max_bytes: u32,
    /// `IFLA_GRO_MAX_SIZE`, bytes; 0 = not reported.
    pub gro_max_bytes: u32,
    /// `IFLA_GRO_IPV4_MAX_SIZE`, bytes; 0 = not reported.
    pub gro_ipv4_max_bytes: u32,
    /// Bytes the device wants before the network header: what `IFLA_NETKIT_HEADROOM` should be.
    pub headroom_bytes: u16,
}

/// An address on a device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// Device.
    pub ifindex: u32,
    /// Address with its prefix length.
    pub net: IpNet,
}

/// A unicast route of the host (all tables but `local`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Destination; the zero prefix is the default route.
    pub destination: IpNet,
    /// Device it leads out of, if one.
    pub ifindex: Option<u32>,
    /// Next hop.
    pub gateway: Option<IpAddr>,
}

/// What a policy routing rule of the host asks of a packet, as far as containers' packets differ from
/// the host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutingRule {
    /// Of which family.
    pub is_ipv6: bool,
    /// Its number in `ip rule`.
    pub priority: u32,
    /// `not`.
    pub is_inverted: bool,
    /// `fwmark`, under `mask`; 0 = any.
    pub mark: u32,
    /// Bits of the mark that count.
    pub mask: u32,
    /// `tos`, `dsfield` or `flowlabel`.
    pub by_class: bool,
}

/// A socket of the host that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSocket {
    /// Where it is bound; unspecified = all addresses.
    pub addr: IpAddr,
    /// Of the host.
    pub port: u16,
    /// Its protocol.
    pub protocol: Transport,
    /// The process, in words.
    pub owner: String,
}

/// One thing the kernel must be able to do, as probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It can.
    Yes,
    /// It cannot; why, in words.
    No(String),
}

impl Ability {
    /// True for [`Ability::Yes`].
    #[must_use]
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Yes)
    }
}

/// The host at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// The network namespace that the links, addresses and routes are of.
    pub netns: NetnsCookie,
    /// uname -r.
    pub kernel_release: String,
    /// The kernel has the netkit device (CONFIG_NETKIT).
    pub netkit: Ability,
    /// The kernel has BTF (/sys/kernel/btf/vmlinux).
    pub btf: Ability,
    /// /sys/fs/bpf is a bpf file system.
    pub bpffs: Ability,
    /// This process may do it: capabilities, initial user namespace.
    pub privileges: Ability,
    /// The kernel speaks IPv6 (/proc/net/if_inet6 exists); else it has no sysctls of it.
    pub ipv6: bool,
    /// Prefix of the built-in IPv6 pool (RFC 4193, 3.1): a /64 that this host drew once. `None`
    /// before a container needed it.
    pub ula: Option<Ipv6Net>,
    /// Devices; to a start those that matter to it, without the endpoints'.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<HostAddress>,
    /// Routes; to a start without those that lead to the endpoints' own addresses.
    pub routes: Vec<HostRoute>,
    /// Name servers of the host that a container can reach: /etc/resolv.conf, or systemd-resolved's
    /// upstreams where that has only loopback.
    pub resolvers: Vec<IpAddr>,
    /// Domains that the same file says to search.
    pub search: Vec<String>,
    /// Those that hold a port which is to be published; looked for only then.
    pub sockets: Vec<HostSocket>,
    /// Addresses that neighbours on an uplink turned out to have when this start asked for them.
    pub neighbours: Vec<IpAddr>,
    /// Seconds since 1970, for the record.
    pub now: u64,
}

/// The container's namespace and init process, as found through its pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// The namespace.
    pub cookie: NetnsCookie,
    /// It is the namespace this hook runs in.
    pub is_host: bool,
    /// Its devices but `lo`.
    pub links: Vec<Link>,
    /// The init process is in another user namespace than the host's.
    pub has_user_namespace: bool,
    /// Capabilities of the container that let it bypass any device policy when it has no user
    /// namespace of its own: "CAP_NET_ADMIN", "CAP_SYS_ADMIN".
    pub bypass_capabilities: Vec<String>,
    /// The container's process is one of podman's with a network configured later (bridge + userns).
    pub network_comes_later: bool,
    /// Field 22 of /proc/PID/stat.
    pub start_time: u64,
    /// Root file system of the container, as its bundle says.
    pub root: PathBuf,
    /// What started the container; looked for only where no ceiling bounds what it may ask for.
    pub engine: Engine,
    /// The endpoint that the namespace has.
    pub endpoint: Option<EndpointRecord>,
}

/// The endpoints there are, of this boot. Those of another boot are gc's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Of all endpoints.
    pub claims: Vec<Claim>,
    /// Of those that may be in the way of a start; to others than a start, of all.
    pub records: Vec<EndpointRecord>,
    /// Of those that may have what a start asks for, where the record cannot be read.
    pub unreadable: Vec<Claim>,
    /// Who had which address, also before this boot; read only by who gives addresses out.
    pub leases: Leases,
}

impl Ledger {
    /// With the records of all endpoints.
    #[must_use]
    pub fn whole(records: Vec<EndpointRecord>, leases: Leases) -> Self {
        Self {
            claims: records.iter().map(Claim::from).collect(),
            records,
            unreadable: Vec::new(),
            leases,
        }
    }

    /// Addresses of endpoints.
    #[must_use]
    pub fn addresses(&self) -> AddrSet {
        let of_claims = claim::addresses(&self.claims);
        // Of more than a claim has room for.
        let of_records = self.records.iter().flat_map(|r| &r.addresses);
        AddrSet::of_mapped(of_claims.chain(of_records.map(|net| mapped(net.addr()))))
    }

    /// Goes on without some.
    pub fn forget(&mut self, is_gone: impl Fn(NetnsCookie) -> bool) {
        self.claims.retain(|c| !is_gone(c.cookie()));
        self.records.retain(|r| !is_gone(r.cookie));
        self.unreadable.retain(|c| !is_gone(c.cookie()));
    }
}

#[cfg(test)]
impl Link {
    /// A virtual device with a MAC.
    pub(crate) fn example(ifindex: u32, name: &str) -> Self {
        Self {
            ifindex,
            name: name.into(),
            kind: Some("dummy".into()),
            mtu_bytes: 1500,
            up: true,
            mac: Some([2, 0, 0, 0, 0, 1]),
            ..Self::default()
        }
    }
}

#[cfg(test)]
impl HostFacts {
    /// A host that can do everything and has no device.
    pub(crate) fn example() -> Self {
        Self {
            boot_id: String::new(),
            netns: NetnsCookie(1),
            kernel_release: String::new(),
            netkit: Ability::Yes,
            btf: Ability::Yes,
            bpffs: Ability::Yes,
            privileges: Ability::Yes,
            ipv6: true,
            ula: None,
            links: Vec::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            resolvers: Vec::new(),
            search: Vec::new(),
            sockets: Vec::new(),
            neighbours: Vec::new(),
            now: 0,
        }
    }
}

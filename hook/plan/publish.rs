//! Published ports: whether the host has them to give, and which of the container's addresses each
//! leads to. Pure.
//!
//! Judged as the kernel judges bind(2): a port at all addresses is in the way of the same port at
//! one of them. Ports that are masqueraded with may be published, since the programs leave either
//! alone for the other; so may those of `ip_local_port_range`, as a socket of the host that gets one
//! later has it.

use std::net::IpAddr;

use super::policy::Policy;
use super::step::PortSpec;
use crate::config::{Ceiling, PATH};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, HostSocket, Ledger};
use crate::types::port::PortRange;
use crate::types::publish::{Publication, Transport};
use crate::types::record::EndpointRecord;

#[cfg(test)]
mod tests;

fn fault(kind: Kind, publication: &Publication, what: &str) -> Error {
    Error::new(
        kind,
        format!("annotation io.oci-netkit.publish: {publication}: {what}"),
    )
}

/// The ports to enter, one per family.
///
/// # Errors
/// All faults: [`Kind::BadInput`] for what no container with these addresses can have,
/// [`Kind::Conflict`] for what somebody else has.
pub(super) fn ports(
    wanted: &[Publication],
    addresses: &[IpAddr],
    ceiling: Option<&Ceiling>,
    host: &HostFacts,
    ledger: &Ledger,
) -> std::result::Result<Vec<PortSpec>, ErrorList> {
    let (mut faults, mut ports) = (ErrorList::new(), Vec::<PortSpec>::new());
    for publication in wanted {
        faults.keep(check_ceiling(publication, ceiling));
        faults.keep(check_host(publication, host));
        let specs = specs(publication, addresses);
        if specs.is_empty() {
            let family = match publication.host {
                Some(IpAddr::V6(_)) => "IPv6",
                _ => "IPv4",
            };
            let what = format!("the container has no {family} address");
            faults.push(fault(Kind::BadInput, publication, &what));
        }
        for spec in &specs {
            if let Some(twice) = ports.iter().find(|p| meet(p, spec)) {
                let what = format!("{twice} is there already");
                faults.push(fault(Kind::BadInput, publication, &what));
                break;
            }
        }
        faults.keep(check_ledger(publication, &specs, ledger));
        faults.keep(check_sockets(publication, &specs, &host.sockets));
        ports.extend(specs);
    }
    if faults.is_empty() {
        Ok(ports)
    } else {
        Err(faults)
    }
}

/// What a publication means for a container with these addresses: per family the first of them.
fn specs(publication: &Publication, addresses: &[IpAddr]) -> Vec<PortSpec> {
    let spec = |host: IpAddr| {
        let mut all = (0u8..).zip(addresses);
        let (local_index, _) = all.find(|(_, a)| a.is_ipv4() == host.is_ipv4())?;
        Some(PortSpec {
            host,
            host_port: publication.host_port,
            protocol: publication.protocol,
            port: publication.port,
            local_index,
        })
    };
    publication.hosts().into_iter().filter_map(spec).collect()
}

fn specs_of(record: &EndpointRecord) -> Vec<PortSpec> {
    let addresses: Vec<IpAddr> = record.addresses.iter().map(ipnet::IpNet::addr).collect();
    let all = record.publish.iter();
    all.flat_map(|p| specs(p, &addresses)).collect()
}

fn meet(a: &PortSpec, b: &PortSpec) -> bool {
    (a.protocol, a.host_port) == (b.protocol, b.host_port) && hosts_meet(a.host, b.host)
}

/// Whether both mean a same address of the host.
fn hosts_meet(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Nothing comes to an address that is not this host's. Loopback is: its own processes come there.
fn check_ceiling(publication: &Publication, ceiling: Option<&Ceiling>) -> Result<()> {
    let port = publication.host_port;
    let holds = |range: &PortRange| (range.first()..=range.last()).contains(&port);
    if ceiling.is_none_or(|c| c.publish.iter().any(holds)) {
        return Ok(());
    }
    let what = "the ceiling of the config does not allow that port of the host";
    let hint = format!("write to {PATH}, under [ceiling]: publish = [\"{port}\"]");
    Err(fault(Kind::NotPermitted, publication, what).with_hint(hint))
}

fn check_host(publication: &Publication, host: &HostFacts) -> Result<()> {
    let Some(addr) = publication.host.filter(|a| !a.is_unspecified()) else {
        return Ok(());
    };
    if host.addresses.iter().any(|a| a.net.addr() == addr) {
        return Ok(());
    }
    let what = format!("{addr} is no address of this host");
    Err(fault(Kind::BadInput, publication, &what)
        .with_hint("leave the address out for all addresses of the host"))
}

fn check_ledger(publication: &Publication, specs: &[PortSpec], ledger: &Ledger) -> Result<()> {
    for record in ledger.records.iter().filter(|r| !r.publish.is_empty()) {
        let theirs = specs_of(record);
        if specs.iter().any(|s| theirs.iter().any(|t| meet(s, t))) {
            let what = format!("the port of the host belongs to {}", record.in_words());
            return Err(fault(Kind::Conflict, publication, &what).with_hint(
                "publish another port, or `oci-netkit gc` if that container has ended",
            ));
        }
    }
    Ok(())
}

fn check_sockets(
    publication: &Publication,
    specs: &[PortSpec],
    sockets: &[HostSocket],
) -> Result<()> {
    match in_the_way(specs, sockets) {
        None => Ok(()),
        Some(socket) => Err(fault(Kind::Conflict, publication, &owned(socket))
            .with_hint("publish another port, or stop it")),
    }
}

fn in_the_way<'s>(specs: &[PortSpec], sockets: &'s [HostSocket]) -> Option<&'s HostSocket> {
    let has = |socket: &HostSocket, spec: &PortSpec| {
        // A socket at :: has IPv4 too, unless it says otherwise, which cannot be seen.
        let both = socket.addr.is_unspecified() && socket.addr.is_ipv6();
        (spec.protocol, spec.host_port) == (socket.protocol, socket.port)
            && (both || hosts_meet(spec.host, socket.addr))
    };
    let mut all = sockets.iter();
    all.find(|socket| specs.iter().any(|spec| has(socket, spec)))
}

fn owned(socket: &HostSocket) -> String {
    let protocol = match socket.protocol {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    };
    format!(
        "{protocol} port {} of this host belongs to {}",
        socket.port, socket.owner
    )
}

/// Which sockets took ports of a running endpoint meanwhile, in words: new connections are theirs.
#[must_use]
pub fn taken(record: &EndpointRecord, sockets: &[HostSocket]) -> Vec<String> {
    let specs = specs_of(record);
    let each = specs.chunks(1).filter_map(|s| in_the_way(s, sockets));
    let mut found: Vec<String> = Vec::new();
    for socket in each {
        let words = format!("{}, which {} publishes", owned(socket), record.name);
        if !found.contains(&words) {
            found.push(words);
        }
    }
    found
}

/// Without an ingress rule nobody gets in, which is seldom what who publishes a port wants.
pub(super) fn warning(wanted: &[Publication], policy: &Policy) -> Option<String> {
    let lets_in = policy.ingress.rules().iter().any(|r| !r.deny);
    (!wanted.is_empty() && !lets_in).then(|| {
        "publish: no ingress rule lets anybody in, such as io.oci-netkit.ingress=any:80 for the \
         container's port 80"
            .to_owned()
    })
}

//! Whether this host, this namespace and this container may be served at all. Pure.

use crate::config::{Config, PATH};
use crate::error::{Error, ErrorList, Kind};
use crate::facts::{Ability, HostFacts, NamespaceFacts};

/// What the host lacks.
pub(super) fn check_host(host: &HostFacts, faults: &mut ErrorList) {
    let needs = [
        (
            Kind::NotPermitted,
            &host.privileges,
            "this process may not build networks",
            "rootless containers are not supported: run podman as root",
        ),
        (
            Kind::Unsupported,
            &host.netkit,
            "this kernel has no netkit device",
            "Linux 6.12 or newer with CONFIG_NETKIT is needed; `oci-netkit doctor` checks the host",
        ),
        (
            Kind::Unsupported,
            &host.btf,
            "this kernel has no BTF",
            "a kernel with CONFIG_DEBUG_INFO_BTF is needed; `oci-netkit doctor` checks the host",
        ),
        (
            Kind::Unsupported,
            &host.bpffs,
            "/sys/fs/bpf is no bpf file system",
            "mount -t bpf bpf /sys/fs/bpf",
        ),
    ];
    for (kind, ability, what, hint) in needs {
        if let Ability::No(why) = ability {
            faults.push(Error::new(kind, format!("{what}: {why}")).with_hint(hint));
        }
    }
}

/// Why a namespace cannot become an endpoint.
pub(super) fn check_namespace(namespace: &NamespaceFacts, faults: &mut ErrorList) {
    if namespace.is_host {
        let message = "the container shares the host's network namespace";
        faults.push(
            Error::new(Kind::NotPermitted, message)
                .with_hint("use --network none instead of --network host"),
        );
        return;
    }
    if !namespace.links.is_empty() {
        let names: Vec<&str> = namespace.links.iter().map(|l| l.name.as_str()).collect();
        let message = format!("the container has a network already: {}", names.join(", "));
        faults.push(Error::new(Kind::NotPermitted, message).with_hint("use --network none"));
    }
    check_later(namespace, faults);
}

/// podman with a user namespace and a network of its own adds the devices after this hook.
pub(super) fn check_later(namespace: &NamespaceFacts, faults: &mut ErrorList) {
    if namespace.network_comes_later {
        let message = "podman will add a network of its own to the container after this hook";
        faults.push(Error::new(Kind::NotPermitted, message).with_hint("use --network none"));
    }
}

/// True if the container needs the guard: it could go around its rules, and may all the same.
pub(super) fn check_capabilities(
    config: &Config,
    namespace: &NamespaceFacts,
    faults: &mut ErrorList,
) -> bool {
    if namespace.has_user_namespace || namespace.bypass_capabilities.is_empty() {
        return false;
    }
    if !config.allow_net_admin {
        let caps = namespace.bypass_capabilities.join(" and ");
        let message = format!(
            "with {caps} in the host's user namespace the container can go around its rules"
        );
        faults.push(Error::new(Kind::NotPermitted, message).with_hint(format!(
            "drop the capability, give the container a user namespace (--userns auto), or accept \
             it with allow_net_admin = true in {PATH}"
        )));
    }
    true
}

//! Whether this host, this namespace and this container may be served at all. Pure.

use super::rules::RuleSet;
use crate::annotations::{AddressWish, Wishes};
use crate::config::{Config, PATH, Pool};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{Ability, HostFacts, NamespaceFacts};
use crate::request::PREFIX;
use crate::types::engine::Engine;
use crate::types::mode::Mode;

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

/// Where an image can have written the annotations, they are granted nothing that reaches beyond the
/// container, unless the administrator said what any of them may ask for.
///
/// # Errors
/// [`Kind::NotPermitted`] with the keys that ask for more.
pub(super) fn check_images(
    engine: Engine,
    config: &Config,
    pools: &[Pool],
    wishes: &Wishes,
) -> Result<()> {
    if config.ceiling.is_some() || !engine.lets_images_annotate() {
        return Ok(());
    }
    let is_foreign = |wish: &AddressWish| match wish {
        AddressWish::Static { addr, .. } => !pools.iter().any(|p| p.prefix.contains(addr)),
        AddressWish::Auto | AddressWish::Auto4 | AddressWish::Auto6 => false,
    };
    let allows = |set: &Option<RuleSet>| set.iter().flat_map(RuleSet::rules).any(|r| !r.deny);
    let keys = [
        ("address", wishes.address.iter().any(is_foreign)),
        ("egress", allows(&wishes.egress)),
        ("ingress", allows(&wishes.ingress)),
        ("profile", wishes.profile.is_some()),
        ("mode", wishes.mode == Mode::Audit),
        ("reach", wishes.reach.is_some()),
        ("publish", !wishes.publish.is_empty()),
        // Whoever answers says where names lead.
        ("dns", wishes.dns.is_some()),
    ];
    let keys = keys.into_iter().filter(|(_, asks)| *asks);
    let keys: Vec<String> = keys.map(|(key, _)| format!("{PREFIX}{key}")).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let message = format!(
        "annotation {}: {engine} lets images annotate containers, and the config has no ceiling: \
         this may be the image's wish",
        keys.join(", ")
    );
    let hint = format!(
        "write to {PATH} a [ceiling] with what any image may have, or update podman to 4.5.1 or newer"
    );
    Err(Error::new(Kind::NotPermitted, message).with_hint(hint))
}

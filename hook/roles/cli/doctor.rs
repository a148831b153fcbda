//! `doctor`: can this host do it? Every line says what was found and how to mend it.
//!
//! Looks at the host only, never changes it; what concerns one container is `show`'s.

use std::path::Path;

use serde::Serialize;

use super::args::Output;
use super::endpoint;
use crate::config::Config;
use crate::error::Result;
use crate::facts::{Ability, HostFacts, HostSocket, RoutingRule};
use crate::inspect::{self, Datapath, EndpointView};
use crate::kernel::{engine, probe, sockets};
use crate::plan::{link, publish};
use crate::roles::environment::Environment;
use crate::roles::hooks_dir::{self, Registration};
use crate::roles::io::Io;
use crate::roles::render;
use crate::state::store::View;
use crate::types::engine::{Engine, PodmanVersion};

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    ok: bool,
    detail: String,
    fix: Option<String>,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            ok: true,
            detail: detail.into(),
            fix: None,
        }
    }

    fn bad(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            ok: false,
            detail: detail.into(),
            fix: Some(fix.into()),
        }
    }

    fn of(check: &'static str, ability: &Ability, good: &str, fix: &str) -> Self {
        match ability {
            Ability::Yes => Self::good(check, good),
            Ability::No(why) => Self::bad(check, why.clone(), fix),
        }
    }
}

/// Prints all findings; true if nothing fails.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, output: Output) -> Result<bool> {
    let loaded = environment.load_config();
    let default = Config::default();
    let config = loaded.as_ref().unwrap_or(&default);
    let mut findings = match probe::host_facts(&environment.paths) {
        Ok(facts) => of_host(&facts, config),
        Err(e) => vec![Finding::bad(
            "host",
            e.to_string(),
            "run as root on Linux 6.12 or newer",
        )],
    };
    findings.push(of_routing(probe::routing_rules()));
    findings.push(of_config(environment, &loaded));
    findings.extend(of_hooks(&hooks_dir::look(Path::new("/"))));
    findings.extend(of_podman(engine::version(Path::new("podman")), config));
    findings.push(of_programs(inspect::datapath(&environment.paths)));
    findings.push(of_state(environment));
    let views = endpoint::all(environment);
    findings.extend(of_ports(
        views.as_deref().unwrap_or_default(),
        sockets::holding,
    ));
    findings.extend(of_endpoints(views));
    let ok = findings.iter().all(|f| f.ok);
    if output.json {
        io.print(&render::json(&findings)?)?;
    } else {
        for f in &findings {
            let mark = if f.ok { "ok  " } else { "FAIL" };
            let mut line = format!("{mark}  {:<12} {}\n", f.check, f.detail);
            if let Some(fix) = &f.fix {
                line += &format!("      {:<12} fix: {fix}\n", "");
            }
            io.print(&line)?;
        }
    }
    Ok(ok)
}

fn of_host(facts: &HostFacts, config: &Config) -> Vec<Finding> {
    let kernel = format!("Linux {} has the netkit device", facts.kernel_release);
    let mut findings = vec![
        Finding::of(
            "netkit",
            &facts.netkit,
            &kernel,
            "boot a kernel with CONFIG_NETKIT=y: Debian's and Ubuntu's from 6.12 on have it",
        ),
        Finding::of(
            "btf",
            &facts.btf,
            "/sys/kernel/btf/vmlinux is there",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ),
        Finding::of(
            "bpffs",
            &facts.bpffs,
            "/sys/fs/bpf is a bpf file system",
            "mount -t bpf bpf /sys/fs/bpf",
        ),
        Finding::of(
            "privileges",
            &facts.privileges,
            "root with all capabilities it needs",
            "run as root in the host's user namespace; rootless containers are not supported",
        ),
    ];
    findings.push(match link::uplinks(config, facts) {
        Ok(uplinks) => {
            let names: Vec<String> = uplinks.specs().into_iter().map(|u| u.name).collect();
            Finding::good("uplinks", names.join(", "))
        }
        Err(e) => Finding::bad(
            "uplinks",
            e.to_string(),
            "name the devices that lead out: uplinks = [\"eth0\"] in the config",
        ),
    });
    findings
}

/// A container's packets follow the host's rules, but come with no mark and are routed without a look
/// at their traffic class. That fails nothing: such a rule may be about the host's own traffic only.
fn of_routing(rules: Result<Vec<RoutingRule>>) -> Finding {
    const CHECK: &str = "routing";
    let rules = match rules {
        Ok(rules) => rules,
        Err(e) => return Finding::bad(CHECK, e.to_string(), "run doctor as root"),
    };
    let passed_over: Vec<String> = rules.iter().filter_map(passes_over).collect();
    if passed_over.is_empty() {
        return Finding::good(CHECK, "containers follow all of the host's routing rules");
    }
    Finding {
        check: CHECK,
        ok: true,
        detail: format!("not for containers: {}", passed_over.join(", ")),
        fix: Some(
            "where containers should follow it too, select by from, to, iif, ipproto, sport or dport"
                .into(),
        ),
    }
}

/// Which rule it is, if it decides otherwise for a container than it would for a packet that the host
/// forwards with a mark or by traffic class.
fn passes_over(rule: &RoutingRule) -> Option<String> {
    let mark = rule.mark & rule.mask;
    // Without a mark `not fwmark` is true, as it should be.
    let what = if mark != 0 && !rule.is_inverted {
        format!("fwmark {mark:#x}, and their packets have no mark")
    } else if rule.by_class {
        "by traffic class".into()
    } else {
        return None;
    };
    let command = if rule.is_ipv6 {
        "ip -6 rule"
    } else {
        "ip rule"
    };
    Some(format!("{command} {} ({what})", rule.priority))
}

fn of_config(environment: &Environment, loaded: &Result<Config>) -> Finding {
    let place = environment.config.display();
    match loaded {
        Ok(_) if !environment.config.exists() => Finding::good(
            "config",
            format!("{place} does not exist: built-in defaults"),
        ),
        Ok(_) => Finding::good("config", place.to_string()),
        Err(e) => Finding::bad("config", e.to_string(), format!("mend {place}")),
    }
}

fn of_hooks(registrations: &[Registration]) -> Vec<Finding> {
    registrations
        .iter()
        .map(|r| match &r.fault {
            None => Finding::good("hooks.d", r.found.clone()),
            Some(fault) => Finding::bad("hooks.d", fault.clone(), r.fix.clone()),
        })
        .collect()
}

/// Of `podman` on the path, which may be another than the one that starts containers.
fn of_podman(version: Option<PodmanVersion>, config: &Config) -> Option<Finding> {
    const CHECK: &str = "podman";
    let engine = Engine::Podman(Some(version?));
    let detail = engine.to_string();
    Some(if !engine.lets_images_annotate() {
        Finding::good(CHECK, detail)
    } else if config.ceiling.is_some() {
        let detail = detail + " lets images annotate containers, within the ceiling of the config";
        Finding::good(CHECK, detail)
    } else {
        Finding::bad(
            CHECK,
            detail + " lets images annotate containers, so annotations grant little",
            "update podman to 4.5.1 or newer, or write a [ceiling] to the config with what any \
             image may have",
        )
    })
}

/// An upgrade that was not carried to the running containers leaves them without its fixes.
fn of_programs(datapath: Result<Datapath>) -> Finding {
    const CHECK: &str = "programs";
    let datapath = match datapath {
        Ok(datapath) => datapath,
        Err(e) => return Finding::bad(CHECK, e.to_string(), "run doctor as root"),
    };
    let other = |name: &&String| **name != datapath.current;
    let others = datapath.loaded.iter().filter(other).count();
    if others > 0 && !datapath.pinned.is_empty() {
        return Finding::bad(
            CHECK,
            "running containers may have the programs of another version",
            "oci-netkit reconcile",
        );
    }
    let loaded = datapath.loaded.contains(&datapath.current);
    Finding::good(
        CHECK,
        if loaded {
            "this version's are loaded"
        } else {
            "loaded with the first container"
        },
    )
}

fn of_state(environment: &Environment) -> Finding {
    match View::new(&environment.paths).contents() {
        Err(e) => Finding::bad("state", e.to_string(), "run doctor as root"),
        Ok(contents) if contents.faulty.is_empty() => Finding::good(
            "state",
            format!("{} endpoints on record", contents.records.len()),
        ),
        Ok(contents) => {
            let names: Vec<String> = contents
                .faulty
                .iter()
                .map(|f| format!("{} ({})", f.path.display(), f.reason))
                .collect();
            Finding::bad(
                "state",
                names.join("; "),
                "oci-netkit gc, which leaves those of running containers",
            )
        }
    }
}

/// Only what is wrong: how many there are says [`of_state`].
fn of_endpoints(views: Result<Vec<EndpointView>>) -> Vec<Finding> {
    const CHECK: &str = "endpoints";
    let views = match views {
        Ok(views) => views,
        Err(e) => return vec![Finding::bad(CHECK, e.to_string(), "run doctor as root")],
    };
    let broken = views.iter().filter(|v| v.is_broken());
    broken
        .map(|v| {
            let detail = format!("{} is broken", v.record.name);
            Finding::bad(CHECK, detail, endpoint::BROKEN)
        })
        .collect()
}

/// Published ports that a socket of the host took meanwhile.
fn of_ports(
    views: &[EndpointView],
    holding: impl FnOnce(&[u16]) -> Result<Vec<HostSocket>>,
) -> Vec<Finding> {
    let published = views.iter().flat_map(|v| &v.record.publish);
    let ports: Vec<u16> = published.map(|p| p.host_port).collect();
    match holding(&ports) {
        Ok(sockets) => views
            .iter()
            .flat_map(|v| publish::taken(&v.record, &sockets))
            .map(|detail| Finding::bad("ports", detail, "stop it, or publish another port"))
            .collect(),
        Err(e) => vec![Finding::bad("ports", e.to_string(), "run doctor as root")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ceiling;
    use crate::types::id::NetnsCookie;

    #[test]
    fn programs_of_another_version_matter_only_while_containers_run() {
        let mut datapath = Datapath {
            current: "gen-2".into(),
            loaded: vec!["gen-1".into()],
            uplinks: Vec::new(),
            pinned: Vec::new(),
        };
        assert!(of_programs(Ok(datapath.clone())).ok);
        datapath.pinned.push(NetnsCookie(9));
        assert!(!of_programs(Ok(datapath.clone())).ok);
        datapath.loaded = vec!["gen-2".into()];
        assert!(of_programs(Ok(datapath)).ok);
    }

    #[test]
    fn rules_by_mark_and_class_are_named_and_fail_nothing() {
        let plain = RoutingRule {
            is_ipv6: false,
            priority: 32766,
            is_inverted: false,
            mark: 0,
            mask: u32::MAX,
            by_class: false,
        };
        let marked = RoutingRule {
            priority: 5210,
            mark: 0x8_0000,
            mask: 0xff_0000,
            ..plain
        };
        let by_class = RoutingRule {
            is_ipv6: true,
            priority: 7,
            by_class: true,
            ..plain
        };
        // As wg-quick has it: everything but its own packets.
        let not_marked = RoutingRule {
            is_inverted: true,
            ..marked
        };
        let finding = of_routing(Ok(vec![plain, not_marked]));
        assert!(finding.ok && finding.fix.is_none(), "{finding:?}");
        let finding = of_routing(Ok(vec![plain, marked, by_class]));
        assert!(finding.ok && finding.fix.is_some(), "{finding:?}");
        assert_eq!(
            finding.detail,
            "not for containers: ip rule 5210 (fwmark 0x80000, and their packets have no mark), \
             ip -6 rule 7 (by traffic class)"
        );
    }

    #[test]
    fn an_old_podman_wants_a_ceiling() {
        let old = PodmanVersion::parse("podman version 4.3.1");
        let mut config = Config::default();
        assert!(!of_podman(old, &config).unwrap().ok);
        config.ceiling = Some(Ceiling::default());
        assert!(of_podman(old, &config).unwrap().ok);
        let new = PodmanVersion::parse("podman version 4.5.1");
        assert!(of_podman(new, &Config::default()).unwrap().ok);
        assert!(of_podman(None, &config).is_none());
    }
}

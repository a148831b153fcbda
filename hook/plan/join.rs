//! A container whose namespace has an endpoint already: a pod, `--network container:`. Pure.

use super::admit;
use super::{Decision, Join, member};
use crate::annotations::{Wishes, items};
use crate::config::Config;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::NamespaceFacts;
use crate::request::{PREFIX, Request};
use crate::types::name::shown;
use crate::types::record::{EndpointRecord, Phase};

/// Joins, if the container asks for nothing that the endpoint is not.
///
/// # Errors
/// [`Kind::Conflict`] for each key that differs, [`Kind::Timeout`] while the endpoint is being
/// built, and what is wrong with the annotations or capabilities.
pub(super) fn join(
    request: &Request,
    config: &Config,
    namespace: &NamespaceFacts,
    record: &EndpointRecord,
) -> Result<Decision> {
    let member = member(request, namespace);
    if record.phase != Phase::Active {
        let message = format!(
            "another hook is at work on this namespace: {}",
            record.in_words()
        );
        return Err(Error::new(Kind::Timeout, message)
            .with_hint("try again; if nothing runs, `oci-netkit gc` removes what is left of it"));
    }
    if record.members.contains(&member) {
        return Ok(Decision::Present);
    }
    let mut faults = ErrorList::new();
    faults.keep(Wishes::parse_joining(&request.keys));
    check_keys(request, record, &mut faults);
    admit::check_later(namespace, &mut faults);
    if admit::check_capabilities(config, namespace, &mut faults)
        && config.allow_net_admin
        && !record.guard
    {
        let message = format!(
            "the container can go around its rules, and {} was built without a guard",
            record.in_words()
        );
        faults.push(
            Error::new(Kind::Conflict, message)
                .with_hint("drop the capability, or start the container that has it first"),
        );
    }
    let join = Join {
        cookie: record.cookie,
        member,
        warnings: Vec::new(),
    };
    faults.into_result(Decision::Join(join))
}

/// Keys must be absent or say the same; separators do not count.
fn check_keys(request: &Request, record: &EndpointRecord, faults: &mut ErrorList) {
    for (key, value) in &request.keys {
        let there = record.keys.get(key);
        if there.is_some_and(|t| items(t).eq(items(value))) {
            continue;
        }
        let there = there.map_or_else(|| "is absent".to_owned(), |t| format!("is {}", shown(t)));
        let message = format!(
            "annotation {PREFIX}{} is {}, and {there} in {}",
            key.escape_debug(),
            shown(value),
            record.in_words()
        );
        faults.push(Error::new(Kind::Conflict, message).with_hint(
            "containers of one namespace share one network: leave the key out, or repeat the value",
        ));
    }
}

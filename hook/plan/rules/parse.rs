//! Text of rules into values; every message about a misspelt rule is here. Pure.

use super::{Rule, RuleSet};
use crate::error::{Error, Kind, Result};

/// Splits at spaces and `;`.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ';']).filter(|t| !t.is_empty())
}

pub(super) fn set<'a>(items: impl Iterator<Item = &'a str>) -> Result<RuleSet> {
    let rules = items.map(rule).collect::<Result<Vec<_>>>()?;
    Ok(RuleSet {
        rules,
        warnings: Vec::new(),
    })
}

pub(super) fn rule(text: &str) -> Result<Rule> {
    Err(Error::new(
        Kind::BadInput,
        format!("rule {text:?} is not understood"),
    ))
}

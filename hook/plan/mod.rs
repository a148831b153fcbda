//! Decides; touches nothing. Pure.

pub mod compile;
pub mod step;

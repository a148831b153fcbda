//! How long the parts of a hook take, for `hook --times`.
//!
//! Elapsed time, microseconds, as log records that only [`FILTER`] shows: waiting for the kernel is
//! most of it, and part of what a user waits for.

use std::fmt::Display;
use std::time::Instant;

const TARGET: &str = "times";
/// In the form of `RUST_LOG`: these records and warnings.
pub const FILTER: &str = "warn,times=debug";

/// Parts that follow on one another.
#[derive(Debug)]
pub struct Laps(Instant);

impl Laps {
    /// The first part begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// A part ends and the next begins: `bring the host end up: 88 us`.
    pub fn end(&mut self, part: impl Display) {
        let now = Instant::now();
        let us = now.duration_since(self.0).as_micros();
        log::debug!(target: TARGET, "{part}: {us} us");
        self.0 = now;
    }
}

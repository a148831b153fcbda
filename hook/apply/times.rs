//! How long the parts of a hook take, for `hook --times`.
//!
//! Elapsed time, microseconds, as records of level debug and target [`TARGET`], which nobody sees
//! unless asked: waiting for the kernel is most of it, and part of what a user waits for.

use std::fmt::Display;
use std::time::Instant;

/// Of the log records.
pub const TARGET: &str = "times";

/// Parts that follow on one another.
#[derive(Debug)]
pub struct Laps(Instant);

impl Laps {
    /// The first part begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// A part ends and the next begins: `create_pair: 1234 us`.
    pub fn end(&mut self, part: impl Display) {
        let now = Instant::now();
        let us = now.duration_since(self.0).as_micros();
        log::debug!(target: TARGET, "{part}: {us} us");
        self.0 = now;
    }
}

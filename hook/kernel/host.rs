//! Runs one step or undo of a plan on the real kernel, as `apply/` orders.
//!
//! A step fills in what becomes known (interface indexes, generation) in the record. An undo is
//! right whether its step ran whole, half or never, and may run twice.

use crate::error::{Error, Kind, Result};
use crate::plan::step::{Step, Undo};
use crate::state::Paths;
use crate::types::record::EndpointRecord;

use super::netns::Netns;

/// What can be done to a host; the seam at which tests let steps fail.
pub trait Host {
    /// Does one thing.
    ///
    /// # Errors
    /// Why it did not happen; part of it may have.
    fn run(&mut self, step: &Step) -> Result<()>;

    /// Takes one thing back.
    ///
    /// # Errors
    /// Why it may still be there. "Already gone" is no error.
    fn undo(&mut self, undo: &Undo) -> Result<()>;
}

/// This machine's kernel, as seen by one endpoint.
#[derive(Debug)]
pub struct RealHost {
    paths: Paths,
    record: EndpointRecord,
    netns: Option<Netns>,
}

impl RealHost {
    /// For an endpoint; without its namespace only undos can run.
    #[must_use]
    pub fn new(paths: &Paths, record: EndpointRecord, netns: Option<Netns>) -> Self {
        Self {
            paths: paths.clone(),
            record,
            netns,
        }
    }

    /// The record with what has become known.
    #[must_use]
    pub fn record(&self) -> &EndpointRecord {
        &self.record
    }

    /// The attempt succeeded: programs it loaded stay when the endpoint goes.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn commit(&mut self) -> Result<()> {
        let _ = &self.paths;
        Ok(())
    }
}

impl Host for RealHost {
    fn run(&mut self, step: &Step) -> Result<()> {
        let _ = (step, &self.netns);
        Err(Error::new(Kind::Internal, "not written"))
    }

    fn undo(&mut self, undo: &Undo) -> Result<()> {
        let _ = undo;
        Err(Error::new(Kind::Internal, "not written"))
    }
}

//! Read-only views for list, show, stats, doctor and gc. Can neither write state nor the kernel.

use crate::error::{Error, Kind, Result};
use crate::state::Paths;
use crate::types::direction::Direction;
use crate::types::drop::DropReason;
use crate::types::id::{EndpointId, NetnsCookie};
use crate::types::record::EndpointRecord;

/// Whether an endpoint is as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// What is written.
    pub record: EndpointRecord,
    /// Members whose init process runs, by position in `record.members`.
    pub alive: Vec<bool>,
    /// The primary exists under the recorded name and index.
    pub has_primary: bool,
    /// Links that are pinned and still attached: "from_container", "to_container", "guard".
    pub attached: Vec<String>,
    /// Epoch in the policy word; 0 = no policy loaded, all is dropped.
    pub epoch: u32,
}

/// Packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames as the device sees them: GSO ones count once.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Flows opened.
    pub flows: u64,
}

/// Counters of one endpoint, over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By [`Direction`].
    pub traffic: [Traffic; 2],
    /// What was dropped, where the count is not zero.
    pub drops: Vec<(Direction, &'static DropReason, u64)>,
}

/// An uplink with our program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkView {
    /// Index on the host.
    pub ifindex: u32,
    /// Its device exists and the program is attached.
    pub attached: bool,
}

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datapath {
    /// Generation this program would attach.
    pub current: String,
    /// Generations that are loaded.
    pub loaded: Vec<String>,
    /// Uplinks.
    pub uplinks: Vec<UplinkView>,
    /// Namespaces with pinned links.
    pub pinned: Vec<NetnsCookie>,
}

/// All endpoints of this boot.
///
/// # Errors
/// When state or kernel cannot be read.
pub fn endpoints(paths: &Paths, boot_id: &str) -> Result<Vec<EndpointView>> {
    let _ = (paths, boot_id);
    Err(Error::new(Kind::Internal, "not written"))
}

/// Counters of an endpoint; `None` for what belongs to no endpoint.
///
/// # Errors
/// When the maps are not there or cannot be read.
pub fn counters(paths: &Paths, id: Option<EndpointId>) -> Result<Counters> {
    let _ = (paths, id);
    Err(Error::new(Kind::Internal, "not written"))
}

/// Programs and links.
///
/// # Errors
/// When bpffs cannot be listed.
pub fn datapath(paths: &Paths) -> Result<Datapath> {
    let _ = paths;
    Err(Error::new(Kind::Internal, "not written"))
}

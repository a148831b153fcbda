//! oci-netkit: an OCI hook that gives a container a netkit network which only does what its
//! rules say. Front-ends translate, `plan/` decides, `apply/` does, `kernel/` touches.

pub mod annotations;
pub mod apply;
pub mod config;
pub mod error;
pub mod facts;
pub mod inspect;
pub mod kernel;
pub mod plan;
pub mod request;
pub mod roles;
pub mod state;
pub mod types;

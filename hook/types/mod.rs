//! Newtypes whose constructor is the only check, and plain records made of them. Pure.

pub mod addr;
pub mod claim;
pub mod denied;
pub mod direction;
pub mod domain;
pub mod drop;
pub mod engine;
pub mod id;
pub mod learned;
pub mod lease;
pub mod mode;
pub mod name;
pub mod port;
pub mod publish;
pub mod rate;
pub mod reach;
pub mod record;
pub mod scope;

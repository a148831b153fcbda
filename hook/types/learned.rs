//! What an endpoint learned of a name. Pure.

use std::net::IpAddr;

/// A name of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedName {
    /// As it was asked for, in lower case.
    pub name: String,
    /// How long new flows may go there yet; 0 = no more.
    pub seconds: u64,
    /// A private address, which counts only for rules with +private-ok.
    pub private: bool,
}

/// An address and the names that led to it, the one that lasts longest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The address.
    pub address: IpAddr,
    /// Its names.
    pub names: Vec<LearnedName>,
}

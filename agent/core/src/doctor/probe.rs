//! What a request to a peer's IKE daemon has come to, and which peers get one.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::{report::Report, system::Charon};

/// IKE, and IKE with ESP inside UDP (RFC 3948).
pub const IKE_PORTS: [u16; 2] = [500, 4500];

/// What came of a request to one of a peer's [`IKE_PORTS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The peer's IKE daemon has answered.
    Answered,
    /// The host is there, and says that nothing listens.
    Refused,
    /// Nobody has answered.
    Silent,
    /// It could not be sent; a phrase says why.
    Unsent(String),
}

/// The peers of the last refresh in use that charon has no IKE_SA with, by their addresses. Those are to be tried.
pub fn to_try(report: &Report, charon: &Charon) -> BTreeSet<Ipv4Addr> {
    let up = |name: &str| charon.sas.iter().any(|sa| sa.conn == name && sa.is_authenticated());
    let used = report.tunnels.iter().filter(|(_, tunnel)| !tunnel.stands_by);
    used.filter(|(name, _)| !up(name)).map(|(_, tunnel)| tunnel.remote).collect()
}

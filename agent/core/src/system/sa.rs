//! Security associations as charon lists them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    model::{ConnName, Place},
    swanctl::Summary,
};

/// An IKE_SA. Until it has authenticated, the peer's identity and address are only a claim, and foreign text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sa {
    /// The connection it belongs to.
    pub conn: String,
    /// charon's unique id, which grows and is not reused until charon restarts.
    pub id: u32,
    /// `CREATED`, `CONNECTING`, `ESTABLISHED`, `REKEYING`, `REKEYED`, `DELETING`, …
    pub state: String,
    /// This end's address.
    pub local_host: String,
    /// The peer's address.
    pub remote_host: String,
    /// This end's identity; empty until it has authenticated.
    pub local_id: String,
    /// The peer's identity; empty until it has authenticated.
    pub remote_id: String,
    /// Whether this end initiated it: then `ESTABLISHED` also means that the peer has accepted this end's key.
    pub initiator: bool,
    /// Seconds since it was established.
    pub established: Option<u64>,
    /// Whether the creation or rekeying of a CHILD_SA is queued or under way. The child may not be listed yet.
    pub child_pending: bool,
    /// Its CHILD_SAs, by unique id.
    pub children: Vec<ChildSa>,
}

/// A CHILD_SA, as charon lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChildSa {
    /// The child's name in its connection.
    pub name: String,
    /// charon's unique id, which grows.
    pub id: u32,
    /// `CREATED`, `INSTALLING`, `INSTALLED`, `UPDATING`, `REKEYING`, `REKEYED`, `RETRYING`, `DELETING`, …
    pub state: String,
    /// The `if_id` of the XFRM interface that its packets come and go through; `None` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_id: Option<u32>,
    /// The networks at this end.
    pub local_ts: Vec<String>,
    /// The networks at the peer's end.
    pub remote_ts: Vec<String>,
    /// Bytes received since it was installed.
    pub bytes_in: u64,
    /// Bytes sent since it was installed.
    pub bytes_out: u64,
    /// Seconds since it was installed.
    pub installed: Option<u64>,
}

impl Sa {
    /// Whether it is established, and neither being rekeyed nor on its way out.
    pub fn is_established(&self) -> bool {
        self.state == "ESTABLISHED"
    }
    /// Whether the peer has proved who it is, and the IKE_SA is not on its way out.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.state.as_str(), "ESTABLISHED" | "REKEYING" | "REKEYED")
    }
    /// Whether its first exchanges are under way.
    pub fn is_connecting(&self) -> bool {
        matches!(self.state.as_str(), "CREATED" | "CONNECTING")
    }
}

/// Whether every child that crosswan's connections are to have is up in these SAs.
pub fn all_are_up(connections: &BTreeMap<String, Summary>, sas: &[Sa]) -> bool {
    let up =
        sas.iter().flat_map(|sa| sa.children.iter().filter(|child| child.is_up()).map(|child| (&sa.conn, &child.name)));
    let up: BTreeSet<(&String, &String)> = up.collect();
    let own = connections.iter().filter(|(name, _)| name.parse::<ConnName>().is_ok());
    let mut wanted = own.flat_map(|(name, summary)| summary.children.keys().map(move |child| (name, child)));
    wanted.all(|child| up.contains(&child))
}

impl ChildSa {
    /// The place of the far end's gateway; `None` if it has no interface of crosswan's.
    pub fn place(&self) -> Option<Place> {
        self.if_id.and_then(Place::with_if_id)
    }
    /// Whether it carries packets.
    pub fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "INSTALLED" | "UPDATING" | "REKEYING")
    }
}

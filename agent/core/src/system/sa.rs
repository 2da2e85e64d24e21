//! Security associations as charon lists them.

use serde::Serialize;

/// An IKE_SA. Identities and addresses are the peer's claim: foreign text until authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sa {
    /// The connection it belongs to.
    pub conn: String,
    /// charon's unique id: grows, never reused until charon restarts.
    pub id: u32,
    /// `CREATED`, `CONNECTING`, `ESTABLISHED`, `REKEYING`, `REKEYED`, `DELETING`, …
    pub state: String,
    pub local_host: String,
    pub remote_host: String,
    /// Empty until it has authenticated.
    pub local_id: String,
    pub remote_id: String,
    /// This end initiated it: then `ESTABLISHED` means that the peer has accepted this end's key, too.
    pub initiator: bool,
    /// Seconds since it was established.
    pub established: Option<u64>,
    /// Creating or rekeying a CHILD_SA is queued or under way; such a child need not be listed yet.
    pub child_pending: bool,
    /// By unique id.
    pub children: Vec<ChildSa>,
}

/// A CHILD_SA.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChildSa {
    pub name: String,
    pub id: u32,
    pub reqid: u32,
    /// `CREATED`, `INSTALLING`, `INSTALLED`, `UPDATING`, `REKEYING`, `REKEYED`, `RETRYING`, `DELETING`, …
    pub state: String,
    pub local_ts: Vec<String>,
    pub remote_ts: Vec<String>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    /// Seconds since it was installed.
    pub installed: Option<u64>,
}

impl Sa {
    pub fn is_established(&self) -> bool {
        self.state == "ESTABLISHED"
    }
    /// The peer has proved who it is, and the IKE_SA is not on its way out.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.state.as_str(), "ESTABLISHED" | "REKEYING" | "REKEYED")
    }
    pub fn is_connecting(&self) -> bool {
        matches!(self.state.as_str(), "CREATED" | "CONNECTING")
    }
}

impl ChildSa {
    /// It carries packets.
    pub fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "INSTALLED" | "UPDATING" | "REKEYING")
    }
}

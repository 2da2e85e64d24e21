//! The steps to a configuration, and how an operator reads them. If a peer's step fails ([`Step::peer`]), that peer gets back
//! what it had; if a shared one fails, everything is rolled back.

use std::fmt;

use crate::{
    iptables,
    model::{ConnName, PrivateKey, PublicKey},
    swanctl::{Shared, Tree},
    system::{ManagedFile, RoutingChange, Touched},
};

/// One change. `Display` is what an operator reads; it never shows a secret.
#[derive(Debug, Clone)]
pub enum Step {
    /// Changes the own chains, and the jumps to them, in one `iptables-restore`.
    RestoreRules(iptables::Change),
    /// Changes an interface, a policy rule or a route.
    Route {
        /// The change.
        change: RoutingChange,
        /// The connection whose network the route leads to.
        peer: Option<ConnName>,
    },
    /// Loads a private key of this gateway.
    LoadKey {
        /// The key pair.
        key: PrivateKey,
    },
    /// Makes charon forget a private key of this gateway.
    UnloadKey {
        /// Its public half.
        key: PublicKey,
    },
    /// Loads a pre-shared key, in place of one with the same id.
    LoadSecret {
        /// Its id in charon.
        id: String,
        /// The pre-shared key with its owners.
        secret: Shared,
        /// The reason, for the operator.
        why: &'static str,
    },
    /// Loads a connection, in place of one with the same name. Its SAs stay.
    LoadConnection {
        /// Its name in charon.
        name: ConnName,
        /// The body of the `load-conn` message.
        tree: Tree,
        /// The reason, for the operator.
        why: String,
    },
    /// A change of selectors or of the interface reaches a live SA only if the child is initiated again and the old one is ended
    /// then (`docs/facts.md`, "Loading connections").
    RenewChild {
        /// The connection.
        connection: ConnName,
        /// The child's name in it.
        child: String,
        /// The unique ids of the CHILD_SAs with the old selectors. Those of the old interface are ended by steps of their own, after
        /// the routes have moved.
        old: Vec<u32>,
        /// The reason, for the operator.
        why: &'static str,
    },
    /// A gateway that stood by gets a place: these children come up over its IKE_SA before those of another gateway go.
    TakeOver {
        /// The connection to the gateway that takes over.
        connection: ConnName,
        /// The names of its children.
        children: Vec<String>,
    },
    /// Unloads a connection. Its SAs are ended by a step of their own.
    UnloadConnection {
        /// Its name in charon.
        name: String,
    },
    /// Makes charon forget a pre-shared key.
    UnloadSecret {
        /// Its id in charon.
        id: String,
    },
    /// Ends one CHILD_SA of a connection that stays.
    TerminateChild {
        /// The connection.
        connection: String,
        /// The child's name.
        child: String,
        /// The CHILD_SA's unique id.
        id: u32,
        /// The reason, for the operator.
        why: &'static str,
    },
    /// Ends, with force, one IKE_SA of a connection that stays, or all of one that goes.
    Terminate {
        /// The connection.
        connection: String,
        /// The IKE_SA's unique id; `None` for all.
        id: Option<u32>,
        /// The reason, for the operator.
        why: &'static str,
    },
    /// Writes a managed file whole, with its permissions.
    WriteFile {
        /// Which one.
        file: ManagedFile,
        /// The whole text.
        contents: String,
        /// The reason, for the operator.
        why: &'static str,
    },
    /// Removes a managed file.
    RemoveFile {
        /// Which one.
        file: ManagedFile,
    },
}

impl Step {
    /// The connection that this step belongs to: if the step fails, only that one is affected.
    ///
    /// `None` for a shared step: rules, files, interfaces, this gateway's keys, and the shunt of a version before.
    pub fn peer(&self) -> Option<ConnName> {
        let name = match self {
            Step::LoadConnection { name, .. }
            | Step::RenewChild { connection: name, .. }
            | Step::TakeOver { connection: name, .. } => name.as_str(),
            Step::UnloadConnection { name } => name,
            Step::LoadSecret { id, .. } | Step::UnloadSecret { id } => id.strip_prefix("ike-")?,
            Step::TerminateChild { connection, .. } | Step::Terminate { connection, .. } => connection,
            Step::Route { peer, .. } => return peer.clone(),
            Step::RestoreRules(_)
            | Step::LoadKey { .. }
            | Step::UnloadKey { .. }
            | Step::WriteFile { .. }
            | Step::RemoveFile { .. } => return None,
        };
        name.parse().ok().filter(|name: &ConnName| !name.is_old_shunt())
    }

    /// Whether it ends an SA, which charon still lists for a moment.
    pub fn ends(&self) -> bool {
        matches!(self, Step::Terminate { .. } | Step::TerminateChild { .. })
    }

    /// Whether it takes something away. Such steps come after all that add something, so that what works goes only when its
    /// successor works.
    pub fn takes_away(&self) -> bool {
        matches!(self, Step::UnloadConnection { .. } | Step::UnloadSecret { .. } | Step::UnloadKey { .. })
            || matches!(self, Step::Route { change, .. } if change.takes_away())
            || self.ends()
    }

    /// Whether it makes an interface or gives it its address, which must be there before charon uses it.
    pub(super) fn is_interface(&self) -> bool {
        matches!(self, Step::Route { change: RoutingChange::MakeInterface(_) | RoutingChange::AddAddress(_), .. })
    }

    /// Whether it adds a policy rule, which leads packets to the table of routes.
    pub(super) fn is_policy_rule(&self) -> bool {
        matches!(self, Step::Route { change: RoutingChange::AddRule(_), .. })
    }

    /// Whether it is one of the managed files' steps.
    pub fn is_file(&self) -> bool {
        matches!(self, Step::WriteFile { .. } | Step::RemoveFile { .. })
    }
}

/// The connections and secrets that these steps load, which are in doubt until they have been read back.
pub fn touched(steps: &[Step]) -> Touched {
    let name = |step: &Step| match step {
        Step::LoadConnection { name, .. } => Some(name.to_string()),
        Step::LoadSecret { id, .. } => Some(id.clone()),
        _ => None,
    };
    Touched::named(steps.iter().filter_map(name))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::RestoreRules(change) => write!(f, "restore {change}"),
            Step::Route { change, .. } => write!(f, "{change}"),
            Step::LoadKey { key } => write!(f, "load this gateway's key {}", key.public.fingerprint()),
            Step::UnloadKey { key } => write!(f, "unload this gateway's key {}", key.fingerprint()),
            Step::LoadSecret { id, why, .. } => write!(f, "load secret {id} ({why})"),
            Step::LoadConnection { name, why, .. } => write!(f, "load connection {name} ({why})"),
            Step::RenewChild { connection, child, why, .. } => write!(f, "renew {connection}/{child} ({why})"),
            Step::TakeOver { connection, children } => {
                write!(f, "bring up {} of {connection} (it has worked)", children.join(", "))
            }
            Step::UnloadConnection { name } => write!(f, "unload connection {name}"),
            Step::UnloadSecret { id } => write!(f, "unload secret {id}"),
            Step::TerminateChild { connection, child, id, why } => {
                write!(f, "end CHILD_SA {connection}/{} #{id} ({why})", child.escape_default())
            }
            Step::Terminate { connection, id: None, why } => write!(f, "end every IKE_SA of {connection} ({why})"),
            Step::Terminate { connection, id: Some(id), why } => write!(f, "end IKE_SA {connection} #{id} ({why})"),
            Step::WriteFile { file, why, .. } => write!(f, "write {file} ({why})"),
            Step::RemoveFile { file } => write!(f, "remove {file}"),
        }
    }
}

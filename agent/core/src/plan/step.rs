//! The steps to a configuration, and how an operator reads them. Whose a step is says what its failure means: a peer's
//! ([`Step::peer`]) is that peer's, who gets back what it had; if a shared one fails, everything goes back.

use std::fmt;

use crate::{
    iptables,
    model::{ConnName, PrivateKey, PublicKey},
    swanctl::{Shared, Tree},
    system::{ManagedFile, Touched},
};

/// One change. `Display` is what an operator reads; secrets never show.
#[derive(Debug, Clone)]
pub enum Step {
    RestoreRules(iptables::Change),
    LoadKey {
        key: PrivateKey,
    },
    UnloadKey {
        key: PublicKey,
    },
    LoadSecret {
        id: String,
        secret: Shared,
        why: &'static str,
    },
    LoadConnection {
        name: ConnName,
        tree: Tree,
        why: String,
    },
    /// A loaded change of selectors reaches a live SA only so: initiate again, then end the old one (`docs/facts.md`,
    /// "Loading connections").
    RenewChild {
        connection: ConnName,
        child: String,
        old: Vec<u32>,
    },
    /// The gateway that stood by becomes the one in use: these children come up over its IKE_SA, before the ones of the
    /// gateway before it go.
    TakeOver {
        connection: ConnName,
        children: Vec<String>,
    },
    UnloadConnection {
        name: String,
    },
    UnloadSecret {
        id: String,
    },
    TerminateChild {
        connection: String,
        child: String,
        id: u32,
    },
    /// Ends, with force, one IKE_SA of a connection that stays, or every one (`id` is `None`) of one that goes.
    Terminate {
        connection: String,
        id: Option<u32>,
        why: &'static str,
    },
    WriteFile {
        file: ManagedFile,
        contents: String,
        why: &'static str,
    },
    RemoveFile {
        file: ManagedFile,
    },
}

impl Step {
    /// The connection that this step is for: if it fails, it fails for that one alone.
    ///
    /// `None` for what is shared: rules, files, this gateway's keys, and the pass shunt of the own VPC, without which a
    /// tunnel would take the VPC's own traffic.
    pub fn peer(&self) -> Option<ConnName> {
        let name = match self {
            Step::LoadConnection { name, .. }
            | Step::RenewChild { connection: name, .. }
            | Step::TakeOver { connection: name, .. } => name.as_str(),
            Step::UnloadConnection { name } => name,
            Step::LoadSecret { id, .. } | Step::UnloadSecret { id } => id.strip_prefix("ike-")?,
            Step::TerminateChild { connection, .. } | Step::Terminate { connection, .. } => connection,
            Step::RestoreRules(_)
            | Step::LoadKey { .. }
            | Step::UnloadKey { .. }
            | Step::WriteFile { .. }
            | Step::RemoveFile { .. } => return None,
        };
        name.parse().ok().filter(|name| *name != ConnName::own())
    }

    /// Whether it ends an SA. charon shows for a moment that it is going.
    pub fn ends(&self) -> bool {
        matches!(self, Step::Terminate { .. } | Step::TerminateChild { .. })
    }

    /// Whether it takes something away: after all that adds, so that what works goes when what follows it works.
    pub fn takes_away(&self) -> bool {
        matches!(self, Step::UnloadConnection { .. } | Step::UnloadSecret { .. } | Step::UnloadKey { .. })
            || self.ends()
    }

    /// Whether it is one of the managed files' steps.
    pub fn is_file(&self) -> bool {
        matches!(self, Step::WriteFile { .. } | Step::RemoveFile { .. })
    }
}

/// What these steps load: in doubt until it has been read back.
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
            Step::LoadKey { key } => write!(f, "load this gateway's key {}", key.public.fingerprint()),
            Step::UnloadKey { key } => write!(f, "unload this gateway's key {}", key.fingerprint()),
            Step::LoadSecret { id, why, .. } => write!(f, "load secret {id} ({why})"),
            Step::LoadConnection { name, why, .. } => write!(f, "load connection {name} ({why})"),
            Step::RenewChild { connection, child, .. } => write!(f, "renew {connection}/{child} (selectors changed)"),
            Step::TakeOver { connection, children } => {
                write!(f, "bring up {} of {connection} (it takes over)", children.join(", "))
            }
            Step::UnloadConnection { name } => write!(f, "unload connection {name}"),
            Step::UnloadSecret { id } => write!(f, "unload secret {id}"),
            Step::TerminateChild { connection, child, id } => {
                write!(f, "end CHILD_SA {connection}/{} #{id} (no longer configured)", child.escape_default())
            }
            Step::Terminate { connection, id: None, why } => write!(f, "end every IKE_SA of {connection} ({why})"),
            Step::Terminate { connection, id: Some(id), why } => write!(f, "end IKE_SA {connection} #{id} ({why})"),
            Step::WriteFile { file, why, .. } => write!(f, "write {file} ({why})"),
            Step::RemoveFile { file } => write!(f, "remove {file}"),
        }
    }
}

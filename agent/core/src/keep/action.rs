//! The actions of `crosswan keep`, and how an operator reads them.

use std::fmt;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Initiates a child that is missing.
    Initiate {
        /// The connection.
        conn: String,
        /// The child in it.
        child: String,
        /// How often it has been tried in a row, this time included.
        attempt: u32,
    },
    /// Initiates an IKE_SA without a child, by which the other end shows that it works, or accepts a next key.
    Prove {
        /// The connection.
        conn: String,
        /// How often it has been tried in a row, this time included.
        attempt: u32,
    },
    /// Ends an IKE_SA with all its children.
    TerminateIke {
        /// The connection.
        conn: String,
        /// The IKE_SA's unique id.
        id: u32,
        /// For the journal.
        reason: Reason,
    },
    /// Ends one CHILD_SA.
    TerminateChild {
        /// The connection.
        conn: String,
        /// The child's name.
        child: String,
        /// The CHILD_SA's unique id.
        id: u32,
        /// For the journal.
        reason: Reason,
    },
}

/// Why an SA is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is established, but no attempt has brought up a child.
    Childless {
        /// The number of attempts.
        attempts: u32,
    },
    /// The SA with this id carries the same, and stays.
    DuplicateOf(u32),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Childless { attempts } => write!(f, "no child after {attempts} attempts"),
            Reason::DuplicateOf(kept) => write!(f, "duplicate of {kept}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Initiate { conn, child, attempt } => {
                write!(f, "initiate {conn} {} (attempt {attempt})", child.escape_default())
            }
            Action::Prove { conn, attempt } => write!(f, "initiate {conn} without a child (attempt {attempt})"),
            Action::TerminateIke { conn, id, reason } => write!(f, "end IKE_SA {id} of {conn}: {reason}"),
            Action::TerminateChild { conn, child, id, reason } => {
                write!(f, "end CHILD_SA {id} of {conn} {}: {reason}", child.escape_default())
            }
        }
    }
}

impl Action {
    /// The connection that the action is about.
    pub fn conn(&self) -> &str {
        match self {
            Action::Initiate { conn, .. }
            | Action::Prove { conn, .. }
            | Action::TerminateIke { conn, .. }
            | Action::TerminateChild { conn, .. } => conn,
        }
    }
    /// The child that the action is about, if it is about one.
    pub fn child(&self) -> Option<&str> {
        match self {
            Action::Initiate { child, .. } | Action::TerminateChild { child, .. } => Some(child),
            Action::Prove { .. } | Action::TerminateIke { .. } => None,
        }
    }
}

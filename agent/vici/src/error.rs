//! What can go wrong between this program and charon.

use std::{io, path::PathBuf, time::Duration};

use crate::codec::{Malformed, TooLarge};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was asked of charon, and what became of it. `Display` does not repeat the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens at charon's socket, or it does not answer.
    #[error("connect to charon at {} (is strongswan running?)", socket.display())]
    Connect {
        /// charon's socket.
        socket: PathBuf,
        /// The reason.
        source: Failure,
    },
    /// There is no answer, or one that cannot be understood. The connection is closed.
    #[error("ask charon at {} for {command}", socket.display())]
    Ask {
        /// charon's socket.
        socket: PathBuf,
        /// The command.
        command: String,
        /// The reason.
        source: Failure,
    },
    /// charon has refused. The connection stays open.
    #[error("{what}: {reason}")]
    Refused {
        /// The request, for a person.
        what: String,
        /// charon's reason, without control characters.
        reason: String,
    },
    /// The connection for events has failed.
    #[error("listen to charon's events")]
    Listen(#[source] Failure),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// charon has not answered in time.
    #[error("no answer in {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// charon has ended, or closed the connection.
    #[error("charon closed the connection")]
    Closed,
    /// An earlier request on this connection has failed or was given up: its late answer would look like the next request's.
    #[error("an earlier request on this connection has failed")]
    Broken,
    /// charon does not know this command or event: it is too old, or lacks a plugin.
    #[error("charon does not know {0}")]
    Unknown(String),
    /// charon has sent something that is not VICI.
    #[error("charon's answer cannot be understood")]
    Garbage(#[from] Malformed),
    /// charon has sent a packet of the wrong type, or an answer that lacks what belongs in it.
    #[error("charon's answer does not belong to this command")]
    Unexpected,
    /// The request has no form in VICI; nothing was sent.
    #[error("the request cannot be sent")]
    TooLarge(#[from] TooLarge),
    /// The socket has failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Failure {
    /// A process that is killed with unread requests resets the connection instead of closing it.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Io(error),
        }
    }
}

impl From<Error> for crosswan_core::error::Error {
    fn from(error: Error) -> Self {
        let what = error.to_string();
        match error {
            Error::Refused { .. } => Self::apply(what),
            Error::Connect { source, .. } | Error::Ask { source, .. } | Error::Listen(source) => {
                Self::observe(what).because(source)
            }
        }
    }
}

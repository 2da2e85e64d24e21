//! What can go wrong between this program and charon.

use std::{io, path::PathBuf, time::Duration};

use crate::codec::{Malformed, TooLarge};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was asked of charon, and what became of it. `Display` does not repeat the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at charon's socket, or does not answer there.
    #[error("connect to charon at {} (is strongswan running?)", socket.display())]
    Connect {
        /// charon's socket.
        socket: PathBuf,
        /// Why not.
        source: Failure,
    },
    /// There is no answer, or none that can be understood. The connection is closed.
    #[error("ask charon at {} for {command}", socket.display())]
    Ask {
        /// charon's socket.
        socket: PathBuf,
        /// The command.
        command: String,
        /// Why not.
        source: Failure,
    },
    /// charon has answered, and the answer is no. The connection goes on.
    #[error("{what}: {reason}")]
    Refused {
        /// What it was to do.
        what: String,
        /// charon's own words, without control characters.
        reason: String,
    },
    /// Events end.
    #[error("listen to charon's events")]
    Listen(#[source] Failure),
}

/// Why charon has not answered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It has not answered in time.
    #[error("no answer in {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// It has ended, or closed the connection.
    #[error("charon hung up")]
    Closed,
    /// An earlier request on this connection has failed or was given up: a late answer would be taken for the next
    /// request's.
    #[error("an earlier request on this connection has failed")]
    Broken,
    /// It does not know this command or event: it is too old, or lacks a plugin.
    #[error("charon does not know {0}")]
    Unknown(String),
    /// It has sent something that is not VICI.
    #[error("charon's answer is not understood")]
    Garbage(#[from] Malformed),
    /// It has sent a packet of a type that does not belong there, or an answer that lacks what belongs in it.
    #[error("charon's answer is not the one this command has")]
    Unexpected,
    /// The request has no form in VICI; nothing was sent.
    #[error("the request cannot be sent")]
    TooLarge(#[from] TooLarge),
    /// Its socket fails.
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

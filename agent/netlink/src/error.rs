//! Why the kernel did not do what it was asked for.

use std::{fmt, time::Duration};

use nix::errno::Errno;

/// What the kernel's answer gives.
pub(crate) type Answered<T> = Result<T, Failure>;

/// Why there is no answer, or not the one that was wanted. The operation and its subject are in the error that this is the source of.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// The kernel holds its lock on the network's configuration for somebody else. The request may still be carried out.
    #[error("the kernel has not answered in {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the kernel's answer cannot be understood")]
    Garbage,
    #[error("it kept changing while it was read")]
    Unsettled,
    /// Something that is there, or is not there, prevents it.
    #[error("{0}")]
    Prevented(String),
    /// The socket has failed.
    #[error("{}", .0.desc())]
    Socket(Errno),
}

/// The kernel's refusal of a request.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    /// What the kernel says about it, which may be empty.
    pub(crate) text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.errno.desc())?;
        if !self.text.is_empty() {
            write!(f, " ({})", self.text.trim_end_matches('.'))?;
        }
        match self.errno {
            Errno::EPERM => f.write_str("; this needs CAP_NET_ADMIN"),
            _ => Ok(()),
        }
    }
}

//! The one error type: what was being done, to what, and the exit code that follows.
//!
//! `Display` names the operation and its subject and never repeats the source; `main` prints the chain once.

use std::{error::Error as StdError, fmt};

/// What kind of thing went wrong. Each kind has an exit code of its own, by which the caller of `crosswan` can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A setting is wrong, unknown or missing: nothing was tried.
    Settings,
    /// Something could not be asked (IMDS, EC2, charon, a file): what worked was kept.
    Observe,
    /// A step failed or the system did not read back as planned: the old state was restored.
    Apply,
    /// Another pass holds the lock.
    Busy,
    /// None of the above; a bug or a broken host.
    Other,
}

/// The exit code of a pass that is in force, while something waits that only an operator, a peer or time can end. This is not an
/// error, and trying again at once would change nothing.
pub const WAITING: u8 = 6;
/// The exit code of a pass after which everything is as planned, but something else on this host stops packets. The pass
/// itself has not failed, and trying again does not help.
pub const STOPPED: u8 = 7;
/// The exit code of `status` and `doctor` when a tunnel is known to be down.
pub const TUNNEL_DOWN: u8 = 8;
/// The exit code of `status` and `doctor` when the rules of the last refresh are known not to be in force.
pub const NOT_IN_FORCE: u8 = 9;

impl Kind {
    /// The process's exit code. The codes are stable: `docs/operating.md`, the man page and `--help` list them.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Other => 1,
            Kind::Settings => 2,
            Kind::Observe => 3,
            Kind::Apply => 4,
            Kind::Busy => 5,
        }
    }
}

/// An error: its kind, the operation with its subject, and what caused it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What an operation returns that can fail with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `what` reads as "operation subject", e.g. `write /etc/swanctl/conf.d/crosswan.conf`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), source: None }
    }
    /// An error of [`Kind::Settings`].
    pub fn settings(what: impl Into<String>) -> Self {
        Self::new(Kind::Settings, what)
    }
    /// An error of [`Kind::Observe`].
    pub fn observe(what: impl Into<String>) -> Self {
        Self::new(Kind::Observe, what)
    }
    /// An error of [`Kind::Apply`].
    pub fn apply(what: impl Into<String>) -> Self {
        Self::new(Kind::Apply, what)
    }
    /// Attaches the cause.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// The kind, which decides the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// The whole chain on one line: `write X: No space left on device`. Journal lines and status use it.
    pub fn chain(&self) -> String {
        let mut out = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // SDK errors often repeat their source in Display: each text is printed once.
            if !out.ends_with(&text) {
                out.push_str(": ");
                out.push_str(&text);
            }
            next = cause.source();
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

/// `result.context(|| Error::observe("read X"))`: wraps a foreign error with what was being done.
pub trait Context<T> {
    /// The value, or `error()` with the original error as its cause.
    fn context(self, error: impl FnOnce() -> Error) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, error: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|e| error().because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_says_each_thing_once() {
        let io = std::io::Error::other("disk full");
        let error = Error::apply("write x").because(Error::apply("store y").because(io));
        assert_eq!(error.chain(), "write x: store y: disk full");
        let repeating = Error::observe("ask: refused").because(std::io::Error::other("refused"));
        assert_eq!(repeating.chain(), "ask: refused");
    }
}

//! The exit codes. A table of its own, apart from the agent's.

/// How a command ended. Stable: `--help`, the man page and docs/cloudcaster.md list the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// None of the others: a bug, or a broken machine.
    Other,
    /// The document or an argument is wrong; nothing was tried.
    Document,
    /// AWS, or what stands for it, could not be asked; nothing was changed.
    Observe,
    /// A step failed, a wait ran out, or something did not read back as planned.
    Apply,
    /// A resource that belongs to somebody else is in the way.
    Foreign,
    /// `plan --exit-code`, `status --exit-code`: there are changes.
    Changes,
}

impl Exit {
    pub const ALL: [Exit; 7] =
        [Exit::Done, Exit::Other, Exit::Document, Exit::Observe, Exit::Apply, Exit::Foreign, Exit::Changes];

    pub fn code(self) -> u8 {
        self as u8
    }
}

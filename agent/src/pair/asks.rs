//! The passes that are asked for, and the time between them.

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::files;

/// The time between two passes for the same reason.
const SPACING: Duration = Duration::from_mins(5);
/// And between two for different ones: the gateway that has just come in another one's place may be gone again. The same holds for beats of a
/// gateway that is not known, as one that boots again may be heard moments after a pass has found it gone.
pub(super) const NEWS: Duration = Duration::from_mins(1);

/// What asks for passes.
#[derive(Debug)]
pub(super) struct Asks {
    wanted: PathBuf,
    last: Option<Instant>,
    because: String,
}

impl Asks {
    /// By this file, which systemd watches.
    pub(super) fn new(wanted: PathBuf) -> Asks {
        Asks { wanted, last: None, because: String::new() }
    }

    /// Asks for a pass, unless one was asked for not long ago.
    pub(super) fn ask(&mut self, why: &str) {
        let spacing = if self.because == why { SPACING } else { NEWS };
        self.ask_after(spacing, why);
    }

    /// Asks for a pass, and soon for another one for the same reason: what it waits for may come at any moment.
    pub(super) fn ask_until_heeded(&mut self, why: &str) {
        self.ask_after(NEWS, why);
    }

    fn ask_after(&mut self, spacing: Duration, why: &str) {
        if is_due(&mut self.last, spacing) {
            self.ask_at_once(why);
            why.clone_into(&mut self.because);
        }
    }

    /// Asks for a pass, whenever one was asked for.
    pub(super) fn ask_at_once(&self, why: &str) {
        match files::touch(&self.wanted) {
            Ok(()) => info!("{why}: asked for a refresh"),
            Err(e) => warn!(reason = %e.chain(), "{why}: cannot ask for a refresh"),
        }
    }
}

/// Whether something that was done `last` then may be done again after this spacing. If so, that is now.
pub(super) fn is_due(last: &mut Option<Instant>, spacing: Duration) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= spacing);
    if due {
        *last = Some(Instant::now());
    }
    due
}

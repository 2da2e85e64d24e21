//! Whether this gateway hands over: `crosswan handover` orders it, or IMDS tells of the end of this instance.
//!
//! The order is a lock that `crosswan handover` holds, with its reason as the file's text: the kernel releases it when that process dies in
//! whatever way, and a `crosswan pair` that starts anew finds it as the one before did.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use tracing::{info, warn};

use super::tasks::Back;
use crate::{
    files::{self, Hold},
    host,
    observe::imds::Board,
    paths::Paths,
};
use crosswan_core::{
    error::Kind,
    model::plain,
    pair::{HandsOver, Leaving, Notices},
};

/// How often IMDS is asked. A spot instance is told two minutes ahead.
const ASK: Duration = Duration::from_secs(5);

/// What is known of that.
pub(super) struct Leaves {
    leaving: Leaving,
    board: Option<Arc<Board>>,
    notices: Notices,
    /// When IMDS is to be asked next; `None` while it is being asked.
    due: Option<Instant>,
    said: Option<String>,
}

impl Leaves {
    pub(super) fn new() -> Leaves {
        let board =
            Board::new().inspect_err(|e| warn!(reason = %e.chain(), "IMDS cannot tell when this instance ends"));
        let (leaving, notices) = (Leaving::default(), Notices::default());
        Leaves { leaving, board: board.ok().map(Arc::new), notices, due: Some(Instant::now()), said: None }
    }

    /// Looks at the files, and asks IMDS when it is time for that. Returns whether this gateway hands over at `now`.
    pub(super) fn look(&mut self, now: u64, paths: &Paths, back: &UnboundedSender<Back>) -> bool {
        if let (Some(board), Some(true)) = (&self.board, self.due.map(|due| due <= Instant::now())) {
            self.due = None;
            let (board, last, back) = (board.clone(), self.notices.clone(), back.clone());
            tokio::spawn(async move { back.send(Back::Notices(board.look(&last).await)) });
        }
        if paths.stay.exists() {
            self.leaving.stay();
            if let Err(e) = files::remove(&paths.stay) {
                warn!(reason = %e.chain(), "cannot take note that this gateway stays");
            }
        }
        self.leaving.ordered(now, ordered(paths).as_deref());
        let why = self.leaving.why(now).map(|(_, why)| why.to_owned());
        if why != self.said {
            match &why {
                Some(why) => warn!("this gateway hands its routes over, because {why}"),
                None => info!("this gateway does not hand over any more"),
            }
            self.said = why;
        }
        self.is_so()
    }

    /// IMDS has answered.
    pub(super) fn told(&mut self, now: u64, notices: Notices) {
        self.due = Some(Instant::now() + ASK);
        self.leaving.told(now, notices.reasons(host::now()));
        self.notices = notices;
    }

    /// Whether this gateway hands over, as the last look found.
    pub(super) fn is_so(&self) -> bool {
        self.said.is_some()
    }

    /// Whether EC2 has told of this instance's end, and that is why.
    pub(super) fn ends(&self, now: u64) -> bool {
        self.leaving.ends(now)
    }

    /// The same for those who look.
    pub(super) fn shown(&self, now: u64) -> Option<HandsOver> {
        let (since, why) = self.leaving.why(now)?;
        Some(HandsOver { seconds: (now - since) / 1000, why: why.to_owned() })
    }
}

/// Why somebody orders it; `None` if nobody does.
fn ordered(paths: &Paths) -> Option<String> {
    let free = files::lock(&paths.handover, Hold::Shared, Duration::ZERO, "crosswan handover");
    let text = || files::read(&paths.handover).ok().flatten().map(|(text, _)| plain(text.trim()));
    free.err().filter(|e| e.kind() == Kind::Busy).map(|_| text().unwrap_or_default())
}

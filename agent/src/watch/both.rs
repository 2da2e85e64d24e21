//! What looks at rules and routes share with looks at the words of far pairs.

use std::time::Duration;

use tracing::warn;

use crosswan_core::system::RoutingChange;
use crosswan_netlink::Events;

/// The time between two looks when nothing happens.
pub(super) const POLL: Duration = Duration::from_secs(3);

/// Returns at the next change, or never if there is no subscription.
pub(super) async fn changed(events: &mut Option<Events>) {
    let Some(open) = events else { return std::future::pending().await };
    if let Err(e) = open.next().await {
        warn!(reason = %e.chain(), "the kernel's events have ended; looking every {POLL:?} instead");
        *events = None;
    }
}

/// The first few changes, and how many more there are.
pub(super) fn in_words(changes: &[RoutingChange]) -> String {
    let shown = changes.iter().take(4).map(RoutingChange::to_string).collect::<Vec<_>>().join(", ");
    let more = changes.len().saturating_sub(4);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

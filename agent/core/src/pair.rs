//! Two gateways of one mode in one VPC watch each other: what they tell each other, and who of them is dead.
//!
//! [`Beat`] is what a member sends; [`Hearing`] says which beats count; [`Pair`] decides, from them and from its own timer, whether the
//! other member is dead and whether its routes are to be taken over. Time is passed in, in milliseconds of a clock that never
//! goes back. `docs/decisions.md`, "A pair", has the reasons.

mod beat;
mod beside;
mod far;
mod follow;
mod hearing;
mod judge;
mod leaving;
mod members;
mod moves;
mod notices;
mod quiet;
mod shown;
mod takeovers;
#[cfg(test)]
mod tests;

use std::fmt;

pub use beat::{Beat, LENGTH, Says, Unverified};
pub use beside::Beside;
pub use far::{Exchange, FarEnd, IDLE, far_ends, known_by_most};
pub use follow::Follow;
pub use hearing::{Hearing, Refused};
pub use judge::{Action, Event, Handing, Judgement, Pair, Peer, Wait, Ways, Word};
pub use leaving::{LONGEST, Leaving, handover_patience};
pub use members::{Me, Members, Newcomer, Other};
pub use moves::Moves;
pub use notices::Notices;
pub use quiet::{QUIET, Quiet, forwarded};
pub use shown::{HandsOver, MemberRole, PairStatus, PeerState, Taken};
pub use takeovers::Takeovers;

/// How a member is, as it sees itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Its kernel forwards IPv4.
    pub forwards: bool,
    /// Its default route's interface is there and has a carrier.
    pub uplink: bool,
    /// Its charon takes connections, or it is a `nat-hub`, which needs none.
    pub charon: bool,
    /// EC2 has answered it within a minute.
    pub ec2: bool,
    /// To how many parties its tunnels carry packets: on a hub the VPCs, on a `nat-vpn` the hubs as one. 1 on a `nat-hub`, which has no
    /// tunnel and no route that needs one.
    pub tunnels: u16,
}

impl Health {
    /// Whether it carries traffic to the internet. A member that says of itself that it does not counts as dead.
    pub fn is_fit(self) -> bool {
        self.forwards && self.uplink
    }

    /// Whether it may take over. What it takes it must be able to do, and EC2 must hear it. Routes to the private network need a tunnel, too.
    pub fn is_able(self) -> bool {
        self.is_fit() && self.charon && self.ec2
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = [
            (self.forwards, "its kernel does not forward"),
            (self.uplink, "its uplink is gone"),
            (self.charon, "its charon is away"),
            (self.ec2, "EC2 has not answered it for a minute"),
            (self.tunnels > 0, "no tunnel of its is up"),
        ];
        let wrong: Vec<_> = wrong.into_iter().filter(|(well, _)| !well).map(|(_, what)| what).collect();
        f.write_str(if wrong.is_empty() { "well".into() } else { wrong.join(", ") }.as_str())
    }
}

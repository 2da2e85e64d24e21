//! The place of a tunnel's far end, which decides its interface and the routes into it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::BadName;

/// One of the two places at the far end, as a VPC has at most two gateways with a tunnel, and a network two hubs; or the other hub of a pair.
///
/// All tunnels of one place share one XFRM interface, whatever their number, and a route says which place carries a network. So
/// both gateways of a VPC may have their tunnels up, and a replacement is one moved route (`docs/facts.md`, "Interfaces and
/// routes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum Place {
    /// The first place, which a far end with one gateway has.
    One,
    /// The second place.
    Two,
    /// The other hub of a pair, across the own VPC.
    Across,
}

impl Place {
    /// The places at the far end.
    pub const FAR_ENDS: [Place; 2] = [Place::One, Place::Two];
    /// All of them.
    pub const ALL: [Place; 3] = [Place::One, Place::Two, Place::Across];

    /// The `if_id` of the place's interface and of the CHILD_SAs that use it.
    pub fn if_id(self) -> u32 {
        match self {
            Place::One => 1,
            Place::Two => 2,
            Place::Across => 3,
        }
    }

    /// The place with this `if_id`.
    pub fn with_if_id(if_id: u32) -> Option<Place> {
        Place::ALL.into_iter().find(|place| place.if_id() == if_id)
    }

    /// The name of its interface.
    pub fn interface(self) -> &'static str {
        match self {
            Place::One => "cw1",
            Place::Two => "cw2",
            Place::Across => "cw3",
        }
    }

    /// The other place at the far end.
    pub fn other(self) -> Place {
        match self {
            Place::One => Place::Two,
            Place::Two => Place::One,
            Place::Across => Place::Across,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.if_id())
    }
}

impl From<Place> for u32 {
    fn from(place: Place) -> u32 {
        place.if_id()
    }
}

impl TryFrom<u32> for Place {
    type Error = BadName;
    fn try_from(if_id: u32) -> Result<Self, BadName> {
        Place::with_if_id(if_id).ok_or_else(|| BadName { expected: "the place 1, 2 or 3", found: if_id.to_string() })
    }
}

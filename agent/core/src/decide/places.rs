//! Which place each gateway at the far end has. A live tunnel keeps its place, and a new one takes a free one.

use std::collections::BTreeMap;

use crate::{
    model::{ConnName, Place},
    system::System,
};

/// The places of the connections that exist. Nothing else remembers them: the live CHILD_SAs tell, otherwise the file of
/// connections does.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<ConnName, Place>);

impl Places {
    /// The places in this system.
    pub(super) fn of(system: &System) -> Places {
        let mut places = system.places.clone();
        for sa in system.charon.iter().flat_map(|charon| &charon.sas).filter(|sa| sa.is_authenticated()) {
            let live = sa.children.iter().filter(|child| child.is_up()).find_map(|child| child.place());
            if let (Ok(name), Some(place)) = (sa.conn.parse(), live) {
                places.insert(name, place);
            }
        }
        Places(places)
    }

    /// The place that a connection has.
    pub(super) fn held(&self, name: &ConnName) -> Option<Place> {
        self.0.get(name).copied()
    }

    /// The connections that have this place.
    pub(super) fn at(&self, place: Place) -> impl Iterator<Item = &ConnName> {
        self.0.iter().filter(move |(_, held)| **held == place).map(|(name, _)| name)
    }

    /// The place for a connection whose network it is to carry: its own, or one that no other connection of its party has. If
    /// there is none, all others of its party are on their way out.
    pub(super) fn for_use(&self, name: &ConnName) -> Place {
        let others = || self.0.iter().filter(|(other, _)| *other != name && other.party() == name.party());
        let is_free = |place: &Place| others().all(|(_, taken)| taken != place);
        self.held(name).or_else(|| Place::FAR_ENDS.into_iter().find(is_free)).unwrap_or(Place::One)
    }
}

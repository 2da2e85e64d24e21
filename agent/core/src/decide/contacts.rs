//! What charon's IKE_SAs show about the peers at the other ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{ConnName, IkeId},
    system::Sa,
};

/// One look at charon. `None` if charon was not asked or did not answer: then nobody is dead and nothing is proved.
#[derive(Debug, Clone, Default)]
pub(super) struct Contacts(Option<BTreeMap<String, Contact>>);

#[derive(Debug, Clone, Default)]
struct Contact {
    authenticated: bool,
    /// The children that carry packets.
    carries: BTreeSet<String>,
    /// The identities of this end in the IKE_SAs that it has initiated.
    initiated_as: BTreeSet<String>,
}

impl Contacts {
    /// Reads the SAs that charon lists.
    pub(super) fn of(sas: &[Sa]) -> Contacts {
        let mut contacts: BTreeMap<String, Contact> = BTreeMap::new();
        for sa in sas.iter().filter(|sa| sa.is_authenticated()) {
            let contact = contacts.entry(sa.conn.clone()).or_default();
            contact.authenticated = true;
            contact.carries.extend(sa.children.iter().filter(|c| c.is_up()).map(|c| c.name.clone()));
            contact.initiated_as.extend(sa.initiator.then(|| sa.local_id.clone()));
        }
        Contacts(Some(contacts))
    }

    fn with(&self, name: &ConnName) -> Option<&Contact> {
        self.0.as_ref()?.get(name.as_str())
    }

    /// Whether packets can pass.
    pub(super) fn carries(&self, name: &ConnName) -> bool {
        self.with(name).is_some_and(|contact| !contact.carries.is_empty())
    }

    /// Whether no packet can pass: charon shows no tunnel of that connection. Dead peer detection has ended it, or it never
    /// came up.
    pub(super) fn is_dead(&self, name: &ConnName) -> bool {
        self.0.is_some() && !self.carries(name)
    }

    /// Whether every packet that passes by connection `old` could also pass by `name`, which carries at least one child.
    pub(super) fn carries_as(&self, name: &ConnName, old: &ConnName) -> bool {
        let carries = |name| self.with(name).map_or(const { &BTreeSet::new() }, |contact| &contact.carries);
        !carries(name).is_empty() && carries(name).is_superset(carries(old))
    }

    /// Whether the peer has authenticated and its IKE_SA still stands.
    pub(super) fn has_authenticated(&self, name: &ConnName) -> bool {
        self.with(name).is_some_and(|contact| contact.authenticated)
    }

    /// Whether the peer has accepted this end as `id`. An IKE_SA that the peer has initiated does not show that, as the peer's
    /// refusal may still be on its way.
    pub(super) fn has_accepted(&self, name: &ConnName, id: &IkeId) -> bool {
        self.with(name).is_some_and(|contact| contact.initiated_as.contains(&id.to_string()))
    }
}

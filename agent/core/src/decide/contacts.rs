//! What charon's IKE_SAs say about the peers at the other ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{ConnName, IkeId},
    system::Sa,
};

/// One look at charon. Empty: it was not asked or did not answer, and then nobody is dead and nothing is proved.
#[derive(Debug, Clone, Default)]
pub struct Contacts(Option<BTreeMap<String, Contact>>);

#[derive(Debug, Clone, Default)]
struct Contact {
    authenticated: bool,
    carries: bool,
    /// The identities under which this end has initiated it.
    initiated_as: BTreeSet<String>,
}

impl Contacts {
    /// From the SAs that charon lists.
    pub fn of(sas: &[Sa]) -> Contacts {
        let mut contacts: BTreeMap<String, Contact> = BTreeMap::new();
        for sa in sas.iter().filter(|sa| sa.is_authenticated()) {
            let contact = contacts.entry(sa.conn.clone()).or_default();
            contact.authenticated = true;
            contact.carries |= sa.children.iter().any(|child| child.is_up());
            contact.initiated_as.extend(sa.initiator.then(|| sa.local_id.clone()));
        }
        Contacts(Some(contacts))
    }

    fn with(&self, name: &ConnName) -> Option<&Contact> {
        self.0.as_ref()?.get(name.as_str())
    }

    /// No packet can pass: charon shows no tunnel by that connection. Dead peer detection has ended it, or it never was.
    pub fn is_dead(&self, name: &ConnName) -> bool {
        self.0.is_some() && !self.with(name).is_some_and(|contact| contact.carries)
    }

    /// The peer has authenticated, and has been there since.
    pub fn has_authenticated(&self, name: &ConnName) -> bool {
        self.with(name).is_some_and(|contact| contact.authenticated)
    }

    /// The peer has accepted this end as `id`. Of an IKE_SA that the peer has initiated this is not known: its last word,
    /// a refusal, may be on its way.
    pub fn has_accepted(&self, name: &ConnName, id: &IkeId) -> bool {
        self.with(name).is_some_and(|contact| contact.initiated_as.contains(&id.to_string()))
    }
}

//! Which id each part that this cast made has got.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    aws::Failure,
    part::{Part, Ref},
};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    made: Mutex<BTreeMap<Part, String>>,
    /// Versions of launch templates, where the number is another than planned.
    versions: Mutex<BTreeMap<String, u32>>,
}

impl Ledger {
    pub fn note(&self, part: &Part, id: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(part.clone(), id.to_owned());
    }
    /// Whether this cast made anything yet: then AWS may not see it everywhere.
    pub fn is_empty(&self) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
    /// # Errors
    /// An earlier step should have made it and has not: a mistake of the plan.
    pub fn id(&self, reference: &Ref) -> Result<String, Failure> {
        match reference {
            Ref::Id(id) => Ok(id.clone()),
            Ref::New(part) => {
                let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                let missing = || Failure::waited(format!("{part} was not made by any earlier step"));
                made.get(part).cloned().ok_or_else(missing)
            }
        }
    }
    pub fn note_version(&self, template: &str, version: u32) {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(template.to_owned(), version);
    }
    pub fn version(&self, template: &str) -> Option<u32> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(template).copied()
    }
}

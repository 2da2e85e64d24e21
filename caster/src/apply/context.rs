//! What every step works with.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use crate::{
    aws::{Aws, Failure},
    document::{Digest, Secret},
    part::Ref,
    progress::Progress,
    seen::Seen,
};

/// What apply works with.
pub struct Apply<'a> {
    pub aws: &'a Aws,
    /// What the plan was made from.
    pub seen: &'a Seen,
    /// User data by its digest, which is all that a plan has of it.
    pub texts: &'a BTreeMap<Digest, Secret>,
    pub progress: &'a Progress,
    /// The VPC, if it was there before.
    pub(super) vpc: Option<String>,
    /// Whether instances and groups are waited for until they serve.
    pub wait: bool,
    pub(super) ledger: Ledger,
}

impl<'a> Apply<'a> {
    pub fn new(aws: &'a Aws, seen: &'a Seen, texts: &'a BTreeMap<Digest, Secret>, progress: &'a Progress) -> Self {
        Apply { aws, seen, texts, progress, vpc: None, wait: true, ledger: Ledger::default() }
    }

    /// The id of what a reference names.
    pub(super) fn id(&self, reference: &Ref) -> Result<String, Failure> {
        self.ledger.id(reference)
    }
    pub(super) fn ids<'r>(&self, references: impl IntoIterator<Item = &'r Ref>) -> Result<Vec<String>, Failure> {
        references.into_iter().map(|r| self.id(r)).collect()
    }
}

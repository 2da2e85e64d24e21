//! What is decided on.

use std::collections::BTreeMap;

use crate::{
    document::{Document, UserData},
    names::Names,
    seen::Seen,
};

/// A document with what goes with it.
pub(super) struct Input<'a> {
    pub document: &'a Document,
    pub data: &'a BTreeMap<String, UserData>,
    pub seen: &'a Seen,
    pub names: Names,
}

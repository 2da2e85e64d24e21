//! Who carries the private network.

use super::Document;

/// Who carries the private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Nat,
    /// An app, by its place in the document.
    App(usize),
    Nobody,
}

/// Who the document makes the way to the private network. The document has passed the check, or what it says is arbitrary.
pub fn way_of(document: &Document) -> Way {
    match document.aws.privnet_via.as_deref() {
        Some("nat") if document.nat.is_some() => Way::Nat,
        Some(name) => document.apps.iter().position(|a| a.name == name).map_or(Way::Nobody, Way::App),
        None => match document.apps.iter().position(|a| a.svctag == "vpn-hub") {
            Some(hub) => Way::App(hub),
            None if document.nat.is_some() => Way::Nat,
            None => Way::Nobody,
        },
    }
}

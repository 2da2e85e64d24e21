//! strongSwan settings text: parsed into the tree that is compared and sent over VICI.

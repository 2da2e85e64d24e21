//! `swanctl`, `vici` and `keep` against the real charon. Needs root; fails without it.

mod host;
mod requests;
mod tunnel;

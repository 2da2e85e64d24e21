//! `swanctl`, `vici` and `keep` against the real charon. Needs root; fails without it.

#![allow(unreachable_pub, reason = "nothing outside a test uses its items")]
#![allow(clippy::disallowed_methods, reason = "a test crate: starts real programs")]

mod host;
mod proof;
mod requests;
mod transact;
mod tunnel;

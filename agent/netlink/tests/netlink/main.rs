//! The real kernel: each test makes a network namespace of its own. They need root, and a kernel with XFRM interfaces.

#![allow(clippy::disallowed_methods, reason = "a test crate: runs ip, measures time")]

mod changes;
mod events;
mod foreign;
mod moves;
mod sas;
mod space;

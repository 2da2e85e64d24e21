//! The codec by itself, and the client against a charon that each test plays, well or badly.

#![allow(clippy::disallowed_methods, reason = "a test crate: measures how long an error takes")]

mod charon;
mod client;
mod codec;
mod events;
mod requests;

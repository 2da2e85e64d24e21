//! VICI, the protocol in which strongSwan's charon is configured, asked and listened to.
//!
//! The codec ([`Packet`], [`Decoder`]) is pure: it turns bytes into packets and back. [`Vici`] sends charon one request at a time, and
//! has a method with values of crosswan-core for each request that crosswan makes. [`Events`] receives charon's events. The protocol is
//! documented in strongSwan's `src/libcharon/plugins/vici/README.md`.

mod client;
mod codec;
mod error;
mod events;
mod message;
mod requests;
mod values;

pub use client::Vici;
pub use codec::{Decoder, MAX_DEPTH, MAX_PACKET, Malformed, Packet, TooLarge};
pub use error::{Error, Failure, Result};
pub use events::{Event, Events};
pub use message::{Message, Value};
pub use requests::Sas;

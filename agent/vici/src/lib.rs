//! VICI, the protocol in which strongSwan's charon is configured, asked and listened to.
//!
//! [`codec`](Packet) is pure: bytes to packets and back. [`Vici`] asks charon, one request at a time; [`Events`] listens
//! to what charon tells. What crosswan asks is a method of [`Vici`] each, with values of crosswan-core. The protocol is documented in strongSwan's `src/libcharon/plugins/vici/README.md`.

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
pub use requests::Target;

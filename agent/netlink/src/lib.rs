//! The kernel's interfaces, policy rules and routes over rtnetlink: read as values of crosswan-core, and changed one by one. Also
//! what its SAs have carried.
//!
//! [`Netlink`] reads what is there and makes changes. What crosswan has made is told by its name and `if_id` (interfaces) or by its
//! protocol number (rules, routes); everything else is left alone, and what of it matters is named. [`Events`] tells that something
//! has changed. [`Sas`] reads what the kernel's SAs have carried.

mod addresses;
mod client;
mod error;
mod events;
mod links;
mod message;
mod routes;
mod rules;
mod sas;
mod wire;

pub use client::{Look, Netlink};
pub use events::{Events, Topic};
pub use sas::Sas;

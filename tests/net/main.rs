//! Real packets through real charon and iptables, in a region on one machine. Needs root.

#![allow(unreachable_pub, reason = "nothing outside a test uses its items")]
#![allow(clippy::disallowed_methods, reason = "a test runs programs and waits")]

use crosswan_faults::region;

mod snapshot;

mod address;
mod campaign;
mod cast;
mod clear;
mod cloud;
mod doctor;
mod faults;
mod gather;
mod gone;
mod growth;
mod hubs;
mod keys;
mod knock;
mod late;
mod metrics;
mod mtu;
mod nat_pair;
mod pair;
mod place;
mod plan2014;
mod points;
mod routes;
mod segments;
mod settings;
mod stacks;
mod stores;
mod strongswans;
mod zones;

//! The pure stages as one: settings and what was seen in, files and plan out. No root, no network.

#![allow(clippy::disallowed_methods, reason = "goldens are files")]

mod golden;
mod modes;
mod reference;
mod rotation;
mod world;

mod properties;

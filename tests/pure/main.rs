//! The pure stages as one: settings and what was seen in, files and plan out. No root, no network.

mod golden;
mod world;

mod properties;

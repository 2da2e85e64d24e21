//! Processes that die, and others that interfere: it heals.

mod charon;
mod look;
mod starts;

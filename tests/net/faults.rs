//! Processes that die, and others that interfere: it heals.

mod charon;
mod foreign;
mod kills;
mod look;
mod meddler;
mod rollback;
mod starts;
mod tampering;

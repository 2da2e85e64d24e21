//! Processes that die, and others that interfere: it heals.

mod charon;
mod foreign;
mod kills;
mod look;
mod meddler;
mod passes;
mod refusals;
mod rollback;
mod secrets;
mod starts;
mod tampering;

//! Processes that die, and others that interfere: it heals.

use crosswan_faults::look;

mod charon;
mod foreign;
mod forwarding;
mod kills;
mod last;
mod meddler;
mod passes;
mod peers;
mod refusals;
mod rollback;
mod secrets;
mod starts;
mod tampering;

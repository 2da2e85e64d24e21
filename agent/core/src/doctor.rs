//! doctor: what is wrong with this gateway, check by check, and the command that mends it. Pure.
//!
//! [`Examined`] is what one look found, [`CHECKS`] judge it one by one, and [`Diagnosis`] is the result. A check that depends on
//! another one which fails is not looked at, so that one cause is one failure. A new check is a row of [`CHECKS`] and a function
//! from [`Examined`] in the file of its kind.

mod checks;
mod cloud;
mod diagnosis;
mod examined;
mod host;
mod pairs;
mod passes;
mod path;
mod probe;
mod routes;
mod show;
mod surroundings;
#[cfg(test)]
mod tests;
mod tunnels;
mod verdict;
mod vpc;
mod why;

pub use checks::{CHECKS, Check, Look};
pub use diagnosis::{Diagnosis, Finding, State, diagnose};
pub use examined::{Examined, Found, Lead};
pub use pairs::hears;
pub use probe::{IKE_PORTS, Probe, to_try};
pub use surroundings::{Subnet, Surroundings};
pub use verdict::{Matter, Trouble, Verdict};
pub use why::{Answer, why};

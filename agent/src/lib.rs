//! The agent's edges and the order of its stages: one pass, in one direction.
//!
//! ```text
//! observe  ->  decide  ->  plan  ->  transact  ->  report
//! (IO in)      (pure)      (pure)    (IO out, in)  (pure, then IO out)
//! ```
//!
//! Each stage takes the value of the one before; only [`refresh`](mod@refresh) knows their order. The pure stages are in
//! crosswan-core; IO is here. `docs/architecture.md` has the map.

pub mod accounts;
pub mod apply;
pub mod cli;
pub mod doctor;
mod files;
mod followed;
pub mod gather;
pub mod handover;
pub mod host;
pub mod keep;
pub mod keyring;
#[cfg(test)]
mod manual;
pub mod map;
pub mod metrics;
pub mod observe;
pub mod pair;
pub mod paths;
pub mod refresh;
pub mod settings;
pub mod status;
pub mod transact;
pub mod watch;

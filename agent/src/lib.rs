//! crosswan: one pass, in one direction.
//!
//! ```text
//! observe  -> decide -> render -> plan -> apply -> verify -> report
//! (IO in)     (pure)    (pure)    (pure)  (IO out) (IO in)
//! ```
//!
//! Each stage is a module and takes the result of the one before; only [`refresh`] knows their order.
//! IO lives at the two ends: the pure stages may not spawn, write files or read the clock (see `clippy.toml`).

pub mod apply;
pub mod cli;
pub mod decide;
pub mod disabled;
pub mod error;
pub mod files;
pub mod forwarding;
pub mod host;
pub mod iptables;
pub mod keep;
pub mod keyring;
#[cfg(test)]
mod manual;
pub mod model;
pub mod observe;
mod own;
pub mod paths;
pub mod plan;
mod recover;
pub mod refresh;
pub mod render;
pub mod report;
pub mod settings;
pub mod state;
pub mod status;
pub mod swanctl;
pub mod transact;
pub mod vici;
pub mod watch;

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
pub mod files;
pub mod host;
pub mod keep;
pub mod keyring;
#[cfg(test)]
mod manual;
pub mod observe;
pub mod paths;
pub mod refresh;
pub mod settings;
pub mod status;
pub mod transact;
pub mod watch;

//! crosswan: one pass, in one direction.
//!
//! ```text
//! observe  -> decide -> render -> plan -> apply -> verify -> report
//! (IO in)     (pure)    (pure)    (pure)  (IO out) (IO in)
//! ```
//!
//! Each stage is a module and takes the result of the one before; only [`refresh`] knows their order.
//! IO lives at the two ends: the pure stages may not spawn, write files or read the clock (see `clippy.toml`).

pub mod error;
pub mod host;
pub mod iptables;
pub mod keep;
pub mod model;
pub mod observe;
pub mod settings;
pub mod swanctl;
pub mod vici;

//! The document: its types, how it is read, and the rules that need no AWS.
//!
//! The types are filled by serde after the shape check has passed; `schema` holds the other half of the format.

mod across;
mod apps;
mod balancers;
mod check;
mod groups;
mod health;
mod read;
mod secret;
mod types;
mod way;

pub use across::across;
pub use check::check;
pub use health::{Health, HealthProtocol};
pub use read::{Loaded, Options, Ready, load, parse};
pub use secret::{Digest, Secret, UserData};
pub use types::*;
pub use way::{Way, way_of};

//! The pure half of crosswan: from what was seen to what should be done about it, without a clock, a file or a process.
//!
//! `Cargo.toml` keeps tokio, the AWS SDK and system calls out; `clippy.toml` forbids what the standard library could do.
//! The rooms, from the ground up, each using only those above it in this list:
//!
//! | room | holds |
//! |---|---|
//! | [`error`], [`text`] | the one error type; small pieces of text for people |
//! | [`model`] | names, networks, keys: what crosswan talks about |
//! | [`swanctl`], [`iptables`] | the text forms of connections and rules, parsed and compared |
//! | [`system`] | what is: files, charon, rules |
//! | [`settings`], [`state`] | what the operator has set, what is remembered |
//! | [`traffic`], [`metrics`] | what tunnels have carried; measurements as text |
//! | [`forwarding`] | whether other programs' rules let this gateway's traffic pass |
//! | [`observed`] | stage 1's value: everything that a pass has found out |
//! | [`decide`], [`mod@keep`] | what should be, and why |
//! | [`pair`] | whether the other gateway of a pair is dead, and what follows; no command uses it yet |
//! | [`mod@render`] | a decision as files |
//! | [`mod@plan`] | the steps from what is to what should be |
//! | [`outcome`] | what came of the steps |
//! | [`report`] | what came of a pass, in words |
//! | [`map`] | the network as a picture |
//! | [`accounts`] | the further accounts, and an organization's as settings |
//! | [`redact`] | text for others, without secrets |
//! | [`doctor`] | what is wrong with a gateway, check by check, and what mends it |

pub mod accounts;
pub mod decide;
pub mod doctor;
pub mod error;
pub mod forwarding;
pub mod iptables;
pub mod keep;
pub mod map;
pub mod metrics;
pub mod model;
pub mod observed;
pub mod outcome;
pub mod pair;
pub mod plan;
pub mod redact;
pub mod render;
pub mod report;
pub mod settings;
pub mod state;
pub mod swanctl;
pub mod system;
pub mod text;
pub mod traffic;

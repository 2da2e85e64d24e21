//! cloudcaster: makes a VPC environment of one region from one JSON document.
//!
//! One pass in one direction: read -> observe -> decide -> plan -> apply -> verify -> report. `document` reads, `observe` asks AWS,
//! `decide` and `plan` are pure, `apply` changes AWS, and `cast` has the order.

#[cfg(feature = "aws")]
pub mod apply;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "aws")]
pub mod cast;
pub mod cli;
#[cfg(feature = "aws")]
pub mod commands;
pub mod decide;
pub mod desired;
pub mod document;
pub mod exit;
pub mod export;
pub mod files;
pub mod health;
pub mod names;
#[cfg(feature = "aws")]
pub mod observe;
pub mod part;
pub mod plan;
pub mod policy;
pub mod problem;
#[cfg(feature = "aws")]
pub mod progress;
pub mod rule;
pub mod schema;
pub mod seen;
#[cfg(feature = "aws")]
pub mod survey;
pub mod text;
pub mod tree;

//! cloudcaster: makes a VPC environment of one region from one JSON document.
//!
//! One pass in one direction: read -> observe -> decide -> plan (-> apply -> verify -> report, which a later version
//! brings). `document` reads, `seen` is what was observed, `decide` and `plan` are pure.

pub mod cli;
pub mod commands;
pub mod decide;
pub mod desired;
pub mod document;
pub mod exit;
pub mod files;
pub mod names;
pub mod observe;
pub mod part;
pub mod plan;
pub mod problem;
pub mod rule;
pub mod schema;
pub mod seen;
pub mod text;
pub mod tree;

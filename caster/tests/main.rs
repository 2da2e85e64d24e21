//! The tests of cloudcaster, in one program.

#![allow(clippy::disallowed_methods, reason = "tests write files and start the program")]

mod agent;
mod cases;
mod cli;
mod damage;
mod documents;
mod golden;
mod manual;
mod model;
mod packets;
mod properties;
mod reader;
mod rules;
mod schema;
mod together;

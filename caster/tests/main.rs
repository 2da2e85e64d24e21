//! The tests of cloudcaster, in one program.

#![allow(clippy::disallowed_methods, reason = "tests write files and start the program")]

mod cli;
mod documents;
mod golden;
mod reader;
mod rules;
mod schema;

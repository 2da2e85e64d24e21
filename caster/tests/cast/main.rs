//! cloudcaster against AWS as the lab has it: moto, made as strict as AWS by the lab's proxy. Needs root, for network namespaces.

#![allow(clippy::disallowed_methods, reason = "test code, outside the pure stages")]

mod adoption;
mod cloud;
mod documents;
mod export;
mod interruption;
mod lenience;
mod policy;
mod simultaneous;
mod user_data;

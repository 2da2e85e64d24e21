//! The cloud edge: the agent's EC2, IMDS and key store clients against a canned server that answers as badly as a cloud can.

#![allow(unreachable_pub, reason = "nothing outside a test uses its items")]
#![allow(clippy::disallowed_methods, reason = "a test plays the cloud and measures time")]

mod accounts;
mod address;
mod ec2;
mod environment;
mod failures;
mod iam;
mod image;
mod imds;
mod organization;
mod own;
mod own_vpc;
mod server;
mod store;
mod surroundings;
mod xml;

//! The cloud edge: the agent's EC2 and IMDS clients against a canned server that answers as badly as a cloud can.

mod ec2;
mod environment;
mod failures;
mod imds;
mod server;
mod xml;

//! A region on one machine: VPCs made of network namespaces, EC2 and IMDS as AWS has them, real charon and iptables.
//!
//! [`Lab::standard`] brings up the hub VPC and two clients; [`Gateway`]s run the agent, [`Host`]s send packets.
//! moto is the only truth about the region: routers forward by its route tables, and [`Lab::sync`] makes the wires,
//! the NAT and IMDS fit it after every change. Nothing outlives the process: namespaces have no names, children die
//! with it, and its directory is swept by the next lab.

pub mod account;
mod adopt;
mod capture;
mod change;
mod daemons;
pub mod ec2;
mod files;
mod follow;
mod gateway;
mod host;
mod http;
pub mod iam;
mod image;
mod imds;
pub mod internet;
pub mod kernel;
mod lab;
mod launch;
mod moto;
mod netns;
mod ping;
mod proxy;
mod router;
mod spawn;
mod store;
mod topology;
mod vm;
mod workdir;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use capture::{Capture, Packet, Packets};
pub use daemons::AgentProcess;
pub use ec2::{RouteTable, Target};
pub use files::{Auth, Plan, Role};
pub use gateway::Gateway;
pub use host::{DfProbe, Host, SINK, Transfer, WHOAMI};
pub use http::{Request, Response, Service, decoded};
pub use image::MachineImage;
pub use imds::{Imds, ImdsFault};
pub use lab::{Builder, Lab};
pub use moto::server as moto_server;
pub use netns::Netns;
pub use ping::{PingReport, PingStream};
pub use proxy::stop::Side;
pub use proxy::{Fault, Faults};
pub use router::{INTERFACE, Leaks, VPC_MTU};
pub use spawn::{Output, Process};
pub use topology::VpcSpec;
pub use vm::{Arch, Image, Vm, check as check_machines};

/// A failed test that held a lock must not fail the clean-up of the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

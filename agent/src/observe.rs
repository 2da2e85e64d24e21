//! observe, IO in: what IMDS, EC2, AWS's key stores, the disk, charon and iptables say. "Could not ask" is never "nothing there".

pub mod disk;
pub mod ec2;
pub mod imds;
pub mod includes;
pub mod kernel;
pub mod live;
pub mod resolver;
pub mod store;

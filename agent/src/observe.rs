//! IO in: what IMDS, EC2, the disk, charon and iptables say.

pub mod ec2;
pub mod imds;

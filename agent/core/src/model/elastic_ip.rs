//! The Elastic IPs that settings ask for, as EC2 shows them.

use std::net::Ipv4Addr;

use super::{AllocationId, AssociationId, InstanceId};

/// An Elastic IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticIp {
    /// Its allocation id.
    pub allocation: AllocationId,
    /// The address.
    pub address: Ipv4Addr,
    /// Who has it; `None` if it is free.
    pub holder: Option<AddressHolder>,
}

/// What an Elastic IP is associated with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressHolder {
    /// The association.
    pub association: AssociationId,
    /// The instance; `None` for anything else, such as a NAT gateway's interface.
    pub instance: Option<InstanceId>,
    /// The private address to which packets for it are led.
    pub private: Option<Ipv4Addr>,
    /// Whether an instance has it that is stopped or gone. What EC2 does not say counts as running.
    pub stopped: bool,
}

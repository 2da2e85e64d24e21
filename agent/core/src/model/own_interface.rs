//! What EC2 shows of the own instance's first interface.

use super::{InterfaceId, SubnetId, Timestamp};

/// The own instance's first interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnInterface {
    /// Its id.
    pub id: InterfaceId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// When the instance was launched.
    pub launched: Timestamp,
}

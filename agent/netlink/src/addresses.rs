//! The addresses of crosswan's interfaces (`RTM_NEWADDR` and `RTM_GETADDR`, linux/if_addr.h).

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST};
use nix::libc::{AF_INET, IFA_LOCAL, RT_SCOPE_HOST, RTM_GETADDR, RTM_NEWADDR};

use crate::{
    error::{Answered, Failure},
    message::{Attributes, Request},
};

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index of the interface.
const HEADER: usize = 8;

/// An address of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: Ipv4Addr,
    pub(crate) interface: u32,
}

/// Asks for all IPv4 addresses.
pub(crate) fn list() -> Request {
    let mut header = [0; HEADER];
    header[0] = AF_INET as u8;
    Request::new(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &header)
}

/// Gives an interface an address of its own, which no packet gets as its source: its scope is `host`.
pub(crate) fn add(found: Found) -> Request {
    let mut header = [AF_INET as u8, 32, 0, RT_SCOPE_HOST, 0, 0, 0, 0];
    header[4..].copy_from_slice(&found.interface.to_ne_bytes());
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    Request::new(RTM_NEWADDR, flags, &header).with(IFA_LOCAL, found.address.octets())
}

impl Found {
    /// Reads a message of the kernel; `None` for an address that is not alone in its network.
    pub(crate) fn read(message: &[u8]) -> Answered<Option<Found>> {
        let attributes = Attributes::read(message, HEADER)?;
        let &[_, length, _, _, i0, i1, i2, i3, ..] = message else { return Err(Failure::Garbage) };
        let address = attributes.address(IFA_LOCAL).filter(|_| length == 32);
        Ok(address.map(|address| Found { address, interface: u32::from_ne_bytes([i0, i1, i2, i3]) }))
    }
}

//! The kernel's events of changes to nft's rules: one netlink message or several for each transaction of any program.

use std::{
    io::ErrorKind,
    os::{fd::AsRawFd, unix::net::UnixDatagram as Datagrams},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket},
};
use tokio::net::UnixDatagram;

use crosswan_core::error::{Context, Error, Kind, Result};

/// The multicast group of changes to nft's rules (linux/netfilter/nfnetlink.h).
const NFNLGRP_NFTABLES: u32 = 7;

/// A subscription. tokio has no netlink sockets; its datagram socket only waits and calls recv(2), which is the same.
pub(super) struct Events(UnixDatagram);

impl Events {
    /// Subscribes. Needs CAP_NET_ADMIN, and must be called within the runtime.
    pub(super) fn subscribe() -> Result<Events> {
        let failed = || Error::new(Kind::Other, "subscribe to nft's events");
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter);
        let fd = fd.context(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1 << (NFNLGRP_NFTABLES - 1))).context(failed)?;
        Ok(Events(UnixDatagram::from_std(Datagrams::from(fd)).context(failed)?))
    }

    /// Returns when something has changed since the last call. What has changed is left to the look that follows.
    pub(super) async fn next(&mut self) -> Result<()> {
        let mut any = false;
        loop {
            match self.0.try_recv(&mut [0; 8192]) {
                Ok(_) => any = true,
                // Some messages were lost, so something has changed.
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => any = true,
                // All messages so far count as one change, because one look follows.
                Err(e) if e.kind() == ErrorKind::WouldBlock && any => return Ok(()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.0.readable().await.context(|| Error::new(Kind::Other, "wait for nft's events"))?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::new(Kind::Other, "read nft's events").because(e)),
            }
        }
    }
}

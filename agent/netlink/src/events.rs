//! The kernel's events of changes, whoever makes them.

use std::{
    io::ErrorKind,
    os::{fd::AsRawFd, unix::net::UnixDatagram as Datagrams},
};

use crosswan_core::error::{Context, Error, Kind, Result};
use nix::{
    errno::Errno,
    libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_LINK},
    sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket},
};
use tokio::net::UnixDatagram;

/// The multicast group of changes to nft's rules (linux/netfilter/nfnetlink.h).
const NFNLGRP_NFTABLES: i32 = 7;

/// What events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Interfaces, their IPv4 addresses, IPv4 routes and IPv4 policy rules.
    Routing,
    /// nft's rules, those of iptables-nft included: one message or several for each transaction. Needs CAP_NET_ADMIN.
    Nft,
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Topic::Routing => "interfaces, routes and policy rules",
            Topic::Nft => "nft's rules",
        }
    }
}

/// A subscription. tokio has no netlink sockets; its datagram socket only waits and calls recv(2), which is the same.
#[derive(Debug)]
pub struct Events {
    socket: UnixDatagram,
    topic: Topic,
}

impl Events {
    /// Subscribes, in the network namespace of the thread. Must be called within the runtime.
    ///
    /// # Errors
    /// [`Kind::Other`] if the kernel does not have such events, or a right is missing, or there are too many open files.
    pub fn subscribe(topic: Topic) -> Result<Events> {
        let failed = || Error::new(Kind::Other, format!("subscribe to the kernel's events of {}", topic.name()));
        let (protocol, groups) = match topic {
            Topic::Routing => {
                (SockProtocol::NetlinkRoute, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE)
            }
            Topic::Nft => (SockProtocol::NetlinkNetFilter, 1 << (NFNLGRP_NFTABLES - 1)),
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).context(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups as u32)).context(failed)?;
        Ok(Events { socket: UnixDatagram::from_std(Datagrams::from(fd)).context(failed)?, topic })
    }

    /// Returns when something has changed since the last call. What has changed is left to the look that follows.
    ///
    /// # Errors
    /// [`Kind::Other`] if the socket has failed. Then there are no more events.
    pub async fn next(&mut self) -> Result<()> {
        let failed = || Error::new(Kind::Other, format!("read the kernel's events of {}", self.topic.name()));
        let mut any = false;
        loop {
            match self.socket.try_recv(&mut [0; 8192]) {
                Ok(_) => any = true,
                // Some messages were lost, so something has changed.
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => any = true,
                // All messages so far count as one change, because one look follows.
                Err(e) if e.kind() == ErrorKind::WouldBlock && any => return Ok(()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.socket.readable().await.context(failed)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(failed().because(e)),
            }
        }
    }
}

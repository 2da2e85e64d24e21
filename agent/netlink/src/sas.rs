//! What the kernel's ESP SAs have carried, and the last word of those that end. The kernel tells nobody without CAP_NET_ADMIN.
//!
//! The messages also hold the SAs' keys. Nothing but what [`KernelSa`] has is taken out of them.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    os::{fd::AsFd, unix::net::UnixDatagram as Datagrams},
};

use crosswan_core::{
    error::{Context, Error, Kind, Result},
    model::Place,
    traffic::{Count, KernelSa},
};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_XFRM};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};
use tokio::net::UnixDatagram;

use crate::{
    error::{Answered, Failure},
    message::{Attributes, Request, messages},
    wire::Wire,
};

// linux/xfrm.h
const XFRM_MSG_DELSA: u16 = 0x11;
const XFRM_MSG_GETSA: u16 = 0x12;
const XFRMNLGRP_SA: u32 = 3;
const XFRMA_SA: u16 = 6;
const XFRMA_IF_ID: u16 = 31;
/// The sizes of `struct xfrm_usersa_info` and `struct xfrm_usersa_id`.
const INFO: usize = 224;
const ID: usize = 24;
/// Offsets in `struct xfrm_usersa_info`: `id.daddr`, `id.spi`, `id.proto`, `saddr`, `curlft.bytes`, `curlft.packets`, `family`.
const TO: usize = 56;
const SPI: usize = 72;
const PROTOCOL: usize = 76;
const FROM: usize = 80;
const BYTES: usize = 160;
const PACKETS: usize = 168;
const FAMILY: usize = 212;
const ESP: u8 = 50;
const AF_INET: u16 = 2;
/// Room for what 3,000 tunnels say that end at once. Without it there is room for about a hundred.
const ROOM: usize = 16 << 20;

/// A connection to the kernel's IPsec, in the network namespace of the thread that has opened it.
#[derive(Debug)]
pub struct Sas {
    wire: Wire,
    events: UnixDatagram,
}

impl Sas {
    /// Opens it and subscribes to the end of SAs. Must be called within the runtime.
    ///
    /// # Errors
    /// [`Kind::Other`] if the kernel has no IPsec, or a right is missing, or there are too many open files.
    pub fn open() -> Result<Sas> {
        let failed = || Error::new(Kind::Other, "open a connection to the kernel's IPsec (xfrm)");
        let mut socket = Socket::new(NETLINK_XFRM).context(failed)?;
        socket.bind(&SocketAddr::new(0, 1 << (XFRMNLGRP_SA - 1))).context(failed)?;
        // Where this is not permitted, there is less room, and a larger part may be missed.
        let _ = setsockopt(&socket, RcvBufForce, &ROOM);
        socket.set_non_blocking(true).context(failed)?;
        let events = Datagrams::from(socket.as_fd().try_clone_to_owned().context(failed)?);
        let events = UnixDatagram::from_std(events).context(failed)?;
        Ok(Sas { wire: Wire::open(NETLINK_XFRM).context(failed)?, events })
    }

    /// The SAs of crosswan's interfaces, of which some may have ended while they were read.
    ///
    /// # Errors
    /// [`Kind::Observe`] if the kernel does not answer.
    pub async fn list(&self) -> Result<Vec<KernelSa>> {
        let answer = self.wire.ask(Request::new(XFRM_MSG_GETSA, NLM_F_REQUEST | NLM_F_DUMP, &[])).await;
        let read = |parts: Vec<Vec<u8>>| parts.iter().filter_map(|part| listed(part).transpose()).collect();
        answer.and_then(|a| a.done()).and_then(read).context(|| Error::observe("read the kernel's IPsec SAs"))
    }

    /// Returns once an SA has been made, changed or ended since the last call of [`Sas::ended`].
    ///
    /// # Errors
    /// [`Kind::Other`] if the socket has failed.
    pub async fn changed(&self) -> Result<()> {
        self.events.readable().await.context(|| Error::new(Kind::Other, "wait for the kernel's IPsec SAs"))
    }

    /// The SAs that have ended since the last call, and whether the kernel had more to say than there was room for.
    ///
    /// # Errors
    /// [`Kind::Observe`] if the socket has failed, or the kernel says what cannot be understood.
    pub fn ended(&mut self) -> Result<(Vec<KernelSa>, bool)> {
        let failed = || Error::observe("read how the kernel's IPsec SAs ended");
        let (mut all, mut missed, mut buffer) = (Vec::new(), false, [0; 8192]);
        loop {
            match self.events.try_recv(&mut buffer) {
                Ok(length) => all.extend(ends(&buffer[..length]).context(failed)?),
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => missed = true,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok((all, missed)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(failed().because(e)),
            }
        }
    }
}

/// The SAs of crosswan's that a datagram says have ended.
fn ends(datagram: &[u8]) -> Answered<Vec<KernelSa>> {
    let mut all = Vec::new();
    for message in messages(datagram) {
        let message = message?;
        if message.message_type() == XFRM_MSG_DELSA {
            let attributes = Attributes::read(message.payload(), ID)?;
            all.extend(sa(attributes.bytes(XFRMA_SA).ok_or(Failure::Garbage)?, &attributes)?);
        }
    }
    Ok(all)
}

/// An entry of the list, if it is crosswan's.
fn listed(entry: &[u8]) -> Answered<Option<KernelSa>> {
    sa(entry, &Attributes::read(entry, INFO)?)
}

fn sa(info: &[u8], attributes: &Attributes<'_>) -> Answered<Option<KernelSa>> {
    let four = |at: usize| info.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().ok_or(Failure::Garbage);
    let eight = |at: usize| info.get(at..).and_then(|rest| rest.first_chunk::<8>()).copied().ok_or(Failure::Garbage);
    let family = info.get(FAMILY..).and_then(|rest| rest.first_chunk::<2>()).copied().ok_or(Failure::Garbage)?;
    let ours = attributes.u32(XFRMA_IF_ID).and_then(Place::with_if_id).is_some();
    let [protocol, ..] = four(PROTOCOL)?;
    if !ours || protocol != ESP || u16::from_ne_bytes(family) != AF_INET {
        return Ok(None);
    }
    Ok(Some(KernelSa {
        from: Ipv4Addr::from(four(FROM)?),
        to: Ipv4Addr::from(four(TO)?),
        spi: u32::from_be_bytes(four(SPI)?),
        count: Count { bytes: u64::from_ne_bytes(eight(BYTES)?), packets: u64::from_ne_bytes(eight(PACKETS)?) },
    }))
}

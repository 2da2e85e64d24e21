//! The sockets of beats: one for the other member, and one for each place's tunnels.

use std::{
    ffi::OsString,
    io::{self, ErrorKind, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space,
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recvmsg, setsockopt,
        socket, sockopt,
    },
};
use tokio::{io::Interest, net::UdpSocket};

use crosswan_core::model::Place;

/// What a packet has whose sender is the other end of the tunnel itself: a router on the way, and so the gateway that forwards for a host
/// behind it, takes one off (RFC 5082).
pub(super) const TTL: i32 = 255;

/// Room for what many far ends answer in one moment. The kernel gives no more than twice `net.core.rmem_max`, which is some 500 beats where nobody
/// has set it, and half of that unless it is asked for (socket(7)).
const ROOM: usize = 1 << 20;

/// The socket for the other member, which others may be bound beside that are for tunnels only. It is an error if the port is taken.
pub(super) async fn to_member(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    Ok(socket)
}

/// The socket for the tunnels of a place. It sends from `local` through the interface of the place and hears what comes from there,
/// whatever routes say: the kernel takes any destination as reachable at an interface that is given (`docs/facts.md`, "Beats").
/// An unbound socket may be bound to an interface without any right since Linux 5.7.
pub(super) fn to_tunnels(place: Place, local: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::RcvBuf, &ROOM)?;
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(place.interface()))?;
    setsockopt(&fd, sockopt::Ipv4Ttl, &TTL)?;
    setsockopt(&fd, sockopt::Ipv4RecvTtl, &true)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(local, port)))?;
    UdpSocket::from_std(std::net::UdpSocket::from(fd))
}

/// A datagram that has come out of a tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub length: usize,
    pub from: Ipv4Addr,
    pub ttl: i32,
}

/// The next datagram; never without a socket.
pub(super) async fn receive(socket: Option<&UdpSocket>, datagram: &mut [u8]) -> Received {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        if socket.readable().await.is_err() {
            return std::future::pending().await;
        }
        match socket.try_io(Interest::READABLE, || received(socket, datagram)) {
            Ok(Some(received)) => return received,
            // Whatever is wrong, such as an interface that has gone, shows when the socket is looked at next.
            Err(e) if e.kind() != ErrorKind::WouldBlock => tokio::task::yield_now().await,
            _ => {}
        }
    }
}

fn received(socket: &UdpSocket, datagram: &mut [u8]) -> io::Result<Option<Received>> {
    let mut control = cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(datagram)];
    let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let ttl = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Ttl(ttl) => Some(ttl),
        _ => None,
    });
    Ok(message.address.zip(ttl).map(|(from, ttl)| Received { length: message.bytes, from: from.ip(), ttl }))
}

//! A capture of what VPCs send to the internet, by a packet socket: complete from the call that starts it to the one that stops it.
//!
//! tcpdump would need a wait for its start and another for its buffers, and its text would have to be parsed.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ipnet::Ipv4Net;
use nix::libc;

use crate::http::readable;
use crate::internet;
use crate::netns::Netns;

/// One IPv4 packet as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Since the capture's start.
    pub at: Duration,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Source and destination port of TCP and UDP; zeros in later fragments and other protocols.
    pub ports: (u16, u16),
    /// Length of the IP packet, bytes.
    pub length: u16,
    /// Whether this is a later fragment, which has no ports.
    pub fragment: bool,
    /// Time to live on arrival.
    pub ttl: u8,
    /// Whether this is an ICMP error about an IKE or ESP packet, as a gateway without charon sends.
    pub refuses_ipsec: bool,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Packet { at, protocol, src, dst, ports, length, .. } = self;
        write!(f, "{:.3}s proto {protocol} {src}:{} > {dst}:{} {length} B", at.as_secs_f64(), ports.0, ports.1)
    }
}

impl Packet {
    /// IKE or ESP, in UDP or plain, or an ICMP error about one.
    pub fn is_ipsec(&self) -> bool {
        let port = |p| p == 500 || p == 4500;
        let udp = self.protocol == 17 && (self.fragment || port(self.ports.0) || port(self.ports.1));
        udp || self.protocol == 50 || self.refuses_ipsec
    }

    fn parse(at: Duration, bytes: &[u8]) -> Option<Packet> {
        let word = |i: usize| Some(u16::from_be_bytes([*bytes.get(i)?, *bytes.get(i + 1)?]));
        let address = |i: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(i..i + 4)?).ok()?));
        let header = usize::from(bytes.first()? & 15) * 4;
        let (protocol, fragment) = (*bytes.get(9)?, word(6)? & 0x1fff != 0);
        let ports = if matches!(protocol, 6 | 17) && !fragment { (word(header)?, word(header + 2)?) } else { (0, 0) };
        Some(Packet {
            at,
            protocol,
            src: address(12)?,
            dst: address(16)?,
            ports,
            length: word(2)?,
            fragment,
            ttl: bytes[8],
            refuses_ipsec: protocol == 1
                && matches!(bytes.get(header), Some(3 | 11))
                && bytes.get(header + 8..).and_then(|inner| Packet::parse(at, inner)).is_some_and(|p| p.is_ipsec()),
        })
    }
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Packet>>>,
    private: Vec<Ipv4Net>,
    socket: Arc<OwnedFd>,
}

impl Capture {
    /// Starts to collect every IPv4 packet that comes *in* anywhere in `ns`; `private` is what counts as clear.
    pub fn start(ns: &Netns, private: Vec<Ipv4Net>) -> Result<Capture> {
        // ETH_P_IP, unlike ETH_P_ALL, taps incoming packets only: each forwarded one is seen once.
        let protocol = i32::from((libc::ETH_P_IP as u16).to_be());
        let socket = ns.run(|| {
            // SAFETY: plain system call; the new descriptor is owned here.
            let fd = unsafe {
                libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol)
            };
            if fd < 0 {
                Err(io::Error::last_os_error()).context("packet socket")
            } else {
                Ok(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        })?;
        let socket = Arc::new(socket);
        let room = 64i32 << 20;
        // SAFETY: an int option, given an int.
        unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const room).cast(), 4);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, tap) = (stop.clone(), socket.clone());
        let thread = std::thread::spawn(move || collect(&tap, &stopped));
        Ok(Capture { stop, thread: Some(thread), private, socket })
    }

    /// Ends it, with every packet that arrived before this call; fails if the kernel had to drop any.
    pub fn stop(mut self) -> Result<Packets> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already stopped")?;
        let all = thread.join().map_err(|_| anyhow!("the capture's thread panicked"))?;
        let mut counts = [0u32; 2];
        let mut size = 8;
        // SAFETY: tpacket_stats is two 32-bit counters: seen and dropped.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        if result != 0 || counts[1] != 0 {
            return Err(anyhow!("the capture is not complete: {} packets dropped", counts[1]));
        }
        Ok(Packets { all, private: std::mem::take(&mut self.private) })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn collect(socket: &OwnedFd, stop: &AtomicBool) -> Vec<Packet> {
    let (started, mut packets, mut buffer) = (Instant::now(), Vec::new(), [0u8; 128]);
    loop {
        // Read before the last look at the socket, so that what came before stop() is in.
        let last = stop.load(Ordering::Relaxed);
        loop {
            // SAFETY: the buffer is ours and its size is given.
            let n = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(n) = usize::try_from(n) else { break };
            packets.extend(Packet::parse(started.elapsed(), &buffer[..n]));
        }
        if last {
            return packets;
        }
        readable(socket);
    }
}

/// What a capture saw.
#[derive(Clone, Debug)]
pub struct Packets {
    /// Everything, in order.
    pub all: Vec<Packet>,
    private: Vec<Ipv4Net>,
}

impl Packets {
    /// What must not be there: a private address on the internet, or anything but IKE and ESP between public addresses.
    /// Traffic with the echo host and the EC2 endpoint is allowed.
    pub fn clear_private(&self) -> Vec<Packet> {
        let public: Ipv4Net = internet::PUBLIC.parse().unwrap_or_default();
        let private = |a: &Ipv4Addr| a.is_private() || self.private.iter().any(|net| net.contains(a));
        let clear = |p: &&Packet| {
            private(&p.src) || private(&p.dst) || public.contains(&p.src) && public.contains(&p.dst) && !p.is_ipsec()
        };
        self.all.iter().filter(clear).copied().collect()
    }

    /// IKE and ESP packets between these two public addresses, either way.
    pub fn ipsec_between(&self, a: Ipv4Addr, b: Ipv4Addr) -> usize {
        let between = |p: &&Packet| (p.src, p.dst) == (a, b) || (p.src, p.dst) == (b, a);
        self.all.iter().filter(between).filter(|p| p.is_ipsec()).count()
    }
}

//! A machine that sends and answers: private hosts, the internet's echo host, and gateways when tests speak from them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;
use socket2::{Domain, Socket, Type};

use crate::http::{Service, TICK, some, uninterrupted};
use crate::netns::Netns;
use crate::ping::{PingReport, PingStream};
use crate::spawn::Output;

/// TCP and UDP: answers with the address it saw.
pub const WHOAMI: u16 = 7777;
/// TCP: takes a stream and answers with its length and checksum.
pub const SINK: u16 = 7778;
/// Longest wait for a connection or for one read.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Host {
    /// Its name in the lab.
    pub name: String,
    /// Its network namespace.
    pub ns: Arc<Netns>,
    /// The address it sends from.
    pub address: Ipv4Addr,
    _services: Vec<Service>,
}

/// What became of a bulk transfer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes the other side counted.
    pub bytes: u64,
    /// From the connection's start to the other side's answer.
    pub elapsed: Duration,
}

/// What became of a large datagram with DF set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DfProbe {
    /// Whether the other side got it and answered.
    pub answered: bool,
    /// Whether the sender was told that it is too large.
    pub too_big: bool,
    /// Path MTU the kernel learned (or its own interface's), bytes.
    pub mtu: u32,
}

impl Host {
    /// A host with its services listening.
    pub fn new(name: &str, ns: Arc<Netns>, address: Ipv4Addr) -> Result<Host> {
        let whoami = Service::tcp(&ns, address, WHOAMI, |mut stream| {
            if let Ok(peer) = stream.peer_addr() {
                let _ = write!(stream, "{}", peer.ip());
            }
        })?;
        let sink = Service::tcp(&ns, address, SINK, |mut stream| drop(drain(&mut stream)))?;
        let udp = whoami_udp(&ns, address)?;
        Ok(Host { _services: vec![whoami, sink, udp], ..Host::bare(name, ns, address) })
    }

    /// A host that only sends.
    pub fn bare(name: &str, ns: Arc<Netns>, address: Ipv4Addr) -> Host {
        Host { name: name.to_string(), ns, address, _services: Vec::new() }
    }

    /// Pings `count` times, ten a second.
    pub fn ping(&self, to: Ipv4Addr, count: u32) -> Result<PingReport> {
        PingStream::start(&self.ns, self.address, to, Duration::from_millis(100), count)?.finish()
    }

    /// Pings twenty times a second until stopped.
    pub fn ping_stream(&self, to: Ipv4Addr) -> Result<PingStream> {
        PingStream::start(&self.ns, self.address, to, Duration::from_millis(50), u32::MAX)
    }

    /// Whether `to` answers at least one of three pings.
    pub fn reaches(&self, to: Ipv4Addr) -> Result<bool> {
        Ok(self.ping(to, 3)?.received > 0)
    }

    /// Pings until the first answer and returns how long that took; an error after `limit`.
    pub fn wait_for(&self, to: Ipv4Addr, limit: Duration) -> Result<Duration> {
        let (started, stream) = (Instant::now(), self.ping_stream(to)?);
        while stream.answers() == 0 {
            if started.elapsed() > limit {
                bail!("{} did not reach {to} within {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started.elapsed())
    }

    /// Connects to the other side's service and returns the source address it saw.
    pub fn whoami_tcp(&self, to: Ipv4Addr) -> Result<Ipv4Addr> {
        let mut text = String::new();
        self.connect(to, WHOAMI)?.read_to_string(&mut text).context("read whoami")?;
        text.parse().with_context(|| format!("whoami answered {text:?}"))
    }

    /// As [`Host::whoami_tcp`], with one datagram.
    pub fn whoami_udp(&self, to: Ipv4Addr) -> Result<Ipv4Addr> {
        let socket = self.udp(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.send(b"?")?;
        let mut buffer = [0; 64];
        let n = socket.recv(&mut buffer).with_context(|| format!("{} got no answer from {to}", self.name))?;
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        text.parse().with_context(|| format!("whoami answered {text:?}"))
    }

    /// Sends a TCP stream of `bytes`; an error unless all of it arrives unchanged.
    pub fn transfer(&self, to: Ipv4Addr, bytes: u64) -> Result<Transfer> {
        let started = Instant::now();
        let mut stream = self.connect(to, SINK)?;
        let (mut sum, mut left) = (0u64, bytes);
        let mut chunk = vec![0u8; 64 << 10];
        while left > 0 {
            let size = left.min(chunk.len() as u64) as usize;
            // Every chunk differs, so that a lost or repeated one shows.
            chunk.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i as u64 ^ left) as u8);
            sum = fold(sum, &chunk[..size]);
            stream.write_all(&chunk[..size]).with_context(|| format!("send, {left} of {bytes} bytes left"))?;
            left -= size as u64;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = [0; 16];
        stream.read_exact(&mut answer).context("read the other side's count")?;
        let word = |i: usize| answer[i..i + 8].iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        if (word(0), word(8)) != (bytes, sum) {
            bail!("{bytes} bytes sent, {} arrived or they differ", word(0));
        }
        Ok(Transfer { bytes, elapsed: started.elapsed() })
    }

    /// Sends a datagram of `size` bytes of payload with DF set, twice: the first may teach the path MTU.
    pub fn udp_df(&self, to: Ipv4Addr, size: usize) -> Result<DfProbe> {
        let socket = self.udp(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        option(&socket, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
        let mut probe = DfProbe::default();
        let (payload, mut buffer) = (vec![0x5a; size], [0; 64]);
        for _ in 0..2 {
            let result = socket.send(&payload).and_then(|_| uninterrupted(|| socket.recv(&mut buffer)));
            match result {
                Ok(_) => probe.answered = true,
                Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => probe.too_big = true,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e).with_context(|| format!("send {size} bytes to {to}")),
            }
            if probe.answered {
                break;
            }
        }
        let (mut mtu, mut length) = (0i32, 4);
        // SAFETY: an int option, read into an int.
        let read = unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU, (&raw mut mtu).cast(), &raw mut length)
        };
        if read == 0 {
            probe.mtu = mtu as u32;
        }
        Ok(probe)
    }

    /// Runs a program in this host's network.
    pub fn exec(&self, program: &str, args: &[&str]) -> Result<Output> {
        self.ns.command(program, args, "", Duration::from_secs(30))
    }

    fn connect(&self, to: Ipv4Addr, port: u16) -> Result<TcpStream> {
        let subject = || format!("{} connects to {to}:{port}", self.name);
        let socket = self.ns.run(|| Ok(Socket::new(Domain::IPV4, Type::STREAM, None)?))?;
        socket.bind(&SocketAddrV4::new(self.address, 0).into()).with_context(subject)?;
        socket.connect_timeout(&SocketAddrV4::new(to, port).into(), PATIENCE).with_context(subject)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    }

    fn udp(&self, to: Ipv4Addr) -> Result<UdpSocket> {
        let from = SocketAddrV4::new(self.address, 0);
        let socket = self.ns.run(|| Ok(UdpSocket::bind(from)?))?;
        socket.connect((to, WHOAMI)).with_context(|| format!("{} to {to}", self.name))?;
        Ok(socket)
    }
}

fn option(socket: &UdpSocket, name: i32, value: i32) -> Result<()> {
    // SAFETY: an int option, given an int.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, name, (&raw const value).cast(), 4) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("setsockopt") }
}

fn whoami_udp(ns: &Netns, address: Ipv4Addr) -> Result<Service> {
    let socket = ns.run(|| Ok(UdpSocket::bind((address, WHOAMI))?))?;
    socket.set_read_timeout(Some(TICK))?;
    let (service, stop) = Service::flag();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        }
    });
    Ok(service)
}

/// Reads a stream to its end and answers with its length and checksum.
fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut sum, mut count) = (0u64, 0u64);
    let mut chunk = vec![0u8; 64 << 10];
    let mut have = 0;
    loop {
        let n = some(stream, &mut chunk[have..])?;
        (have, count) = (have + n, count + n as u64);
        // Summed in the sender's chunks: the checksum depends on where they end.
        if have == chunk.len() || n == 0 {
            sum = fold(sum, &chunk[..have]);
            have = 0;
        }
        if n == 0 {
            return stream.write_all(&[count.to_be_bytes(), sum.to_be_bytes()].concat());
        }
    }
}

/// A checksum that depends on order, cheap enough not to be what is measured.
fn fold(sum: u64, chunk: &[u8]) -> u64 {
    chunk.chunks(8).fold(sum, |sum, part| {
        let word = part.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        sum.rotate_left(5).wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

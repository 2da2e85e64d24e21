//! Clients of two hubs by number, in one process: each has an address, a key, an identity, its own exchanges with both hubs and its own
//! following, by the code that the agent has ([`Exchange`], [`Follow`]). Their beats are signed and come and go in real tunnels: those of
//! one whole gateway, behind whose interfaces all their addresses are. They have no IKE_SA each, no charon, which a whole gateway asks
//! before it follows, and no route that moves.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use crosswan_core::model::{ConnName, Place, PrivateKey};
use crosswan_core::pair::{Exchange, FarEnd, Follow, IDLE, LENGTH, Refused, Says};
use crosswan_lab::Netns;
use nix::cmsg_space;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recvmsg,
    sendmsg, setsockopt, socket, sockopt,
};

use crate::key;
use crate::xml::ike_id;

/// As the agent looks for beats that are due.
const TICK: Duration = Duration::from_millis(50);
/// As the agent reads in one of these, so that a flood keeps no beat from being sent.
const DATAGRAMS: usize = 500;
/// What a packet has that comes from the other end itself.
const TTL: i32 = 255;
/// Room for all datagrams of one moment: a real client has a socket of its own.
const ROOM: usize = 8 << 20;

/// What is seen of all clients.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// When each client began to follow the hub that it follows, by number.
    pub moved: Vec<Option<Instant>>,
    /// Whom each has heard since it was last forgotten, at the places.
    pub heard: Vec<[bool; 2]>,
    pub refused: BTreeMap<Refused, u64>,
    /// Datagrams sent, and those that counted.
    pub sent: u64,
    pub counted: u64,
}

impl Seen {
    /// How many have heard the hubs that they speak with.
    pub fn hear_all(&self) -> usize {
        self.heard.iter().filter(|heard| **heard == [true, true]).count()
    }
}

struct End {
    end: FarEnd,
    exchange: Exchange,
}

struct Client {
    key: PrivateKey,
    follow: Follow<ConnName>,
    ends: [End; 2],
}

/// Whom the clients speak with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hubs {
    Both,
    /// That at this place, as one processor can bear no more.
    Only(Place),
}

impl Hubs {
    fn has(self, place: Place) -> bool {
        self == Hubs::Both || self == Hubs::Only(place)
    }
}

/// The clients, until this is dropped.
pub struct Mass {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    hubs: Hubs,
    count: usize,
    thread: Option<JoinHandle<Result<()>>>,
}

/// The address of client `n`.
pub fn address(first: Ipv4Addr, n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits() + n as u32)
}

impl Mass {
    /// So many clients with addresses from `first` on, who speak with these `hubs`. `ends` are those of the gateway that lends its tunnels,
    /// by places; `ns` is its namespace.
    pub fn start(ns: &Netns, ends: &[FarEnd; 2], port: u16, first: Ipv4Addr, count: usize, hubs: Hubs) -> Result<Mass> {
        ns.ip(&format!("route replace local {first}/18 dev lo"))?;
        let sockets = Place::FAR_ENDS.map(|place| ns.run(|| to_tunnels(place, port)));
        let sockets: [UdpSocket; 2] = match sockets {
            [one, two] => [one?, two?],
        };
        let start = Instant::now();
        let client = |n: usize| Client {
            key: key::private(n),
            follow: Follow::default(),
            ends: ends.each_ref().map(|end| End {
                end: FarEnd { local: address(first, n), ids: [ike_id(n), end.ids[1].clone()], ..end.clone() },
                // Nobody has so many clients that come in one moment.
                exchange: Exchange::new(n as u64 * IDLE / count as u64, seed(n, end.place), session(n)),
            }),
        };
        let seen = Seen { moved: vec![None; count], ..Seen::default() };
        let (seen, stop) = (Arc::new(Mutex::new(seen)), Arc::new(AtomicBool::new(false)));
        let mut run =
            Run { start, first, port, hubs, sockets, clients: (0..count).map(client).collect(), seen: seen.clone() };
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                run.tick()?;
            }
            Ok(())
        });
        let mass = Mass { seen, stop, hubs, count, thread: Some(thread) };
        mass.forget_heard();
        Ok(mass)
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// From now on it counts who is heard.
    pub fn forget_heard(&self) {
        lock(&self.seen).heard = vec![Place::FAR_ENDS.map(|place| !self.hubs.has(place)); self.count];
    }

    /// Ends them; an error if they had ended by themselves.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped already")?;
        thread.join().map_err(|_| anyhow!("the clients have panicked"))?
    }
}

impl Drop for Mass {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody guards against these.
fn seed(n: usize, place: Place) -> [u8; 32] {
    let mut seed = [u32::from(place) as u8; 32];
    seed[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    seed
}

/// Another one in each run of the same numbers, as for a process that has started anew.
fn session(n: usize) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ ((n as u64) << 40) | 1
}

struct Run {
    start: Instant,
    first: Ipv4Addr,
    port: u16,
    hubs: Hubs,
    /// By places.
    sockets: [UdpSocket; 2],
    clients: Vec<Client>,
    seen: Arc<Mutex<Seen>>,
}

impl Run {
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Sends what is due, and hears what comes until the next time. Nobody answers before all have heard what has come: each is to be as a
    /// machine of its own, which no other one's answer keeps waiting.
    fn tick(&mut self) -> Result<()> {
        let (began, mut left) = (Instant::now(), DATAGRAMS);
        for n in 0..self.clients.len() {
            self.send(n);
        }
        while left > 0 && began.elapsed() < TICK {
            let wait = TICK.saturating_sub(began.elapsed()).as_millis() as u16;
            let mut ready = self.sockets.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            if poll(&mut ready, PollTimeout::from(wait))? == 0 {
                break;
            }
            let mut heard = BTreeSet::new();
            for place in Place::FAR_ENDS {
                while left > 0 {
                    let Some(datagram) = receive(&self.sockets[index(place)])? else { break };
                    left -= 1;
                    heard.extend(self.hear(place, &datagram));
                }
            }
            for n in heard {
                self.send(n);
            }
        }
        // A loaded machine comes late to the next tick and catches up with nothing.
        std::thread::sleep(TICK.saturating_sub(began.elapsed()));
        Ok(())
    }

    /// Returns who has heard something.
    fn hear(&mut self, place: Place, datagram: &Datagram) -> Option<usize> {
        let now = self.now();
        let n = datagram.to.to_bits().wrapping_sub(self.first.to_bits()) as usize;
        let client = self.clients.get_mut(n).filter(|_| self.hubs.has(place))?;
        let End { end, exchange } = &mut client.ends[index(place)];
        if datagram.ttl != TTL || Some(datagram.from) != end.address {
            *lock(&self.seen).refused.entry(Refused::Stranger).or_default() += 1;
            return None;
        }
        let heard = exchange.hear(now, &datagram.bytes, end);
        {
            let mut seen = lock(&self.seen);
            match heard {
                Ok(says) => {
                    seen.counted += 1;
                    seen.heard[n][index(place)] = true;
                    let before = client.follow.followed().cloned();
                    if client.follow.is_news(&says)
                        && client.follow.follow(end.name.clone(), says.generation)
                        && before.as_ref() != Some(&end.name)
                    {
                        seen.moved[n] = Some(Instant::now());
                    }
                }
                Err(why) => *seen.refused.entry(why).or_default() += 1,
            }
        }
        Some(n)
    }

    /// Sends the beats of a client that are due.
    fn send(&mut self, n: usize) {
        let now = self.now();
        let client = &mut self.clients[n];
        for End { end, exchange } in client.ends.iter_mut().filter(|of| self.hubs.has(of.end.place)) {
            let follows = client.follow.followed() == Some(&end.name);
            let says = Says {
                interval: Duration::from_millis(IDLE),
                follows,
                known: client.follow.generation(),
                ..Says::default()
            };
            let (Some(beat), Some(to)) = (exchange.beat(now, says), end.address) else { continue };
            let [own, other] = &end.ids;
            if let Some(datagram) = beat.signed_in_tunnel(&client.key, own, other) {
                // One that the kernel cannot send now is as one that was lost.
                let _ = send(&self.sockets[index(end.place)], end.local, SocketAddrV4::new(to, self.port), &datagram);
                lock(&self.seen).sent += 1;
            }
        }
    }
}

fn index(place: Place) -> usize {
    usize::from(place == Place::Two)
}

/// As the agent's, for all addresses at once.
fn to_tunnels(place: Place, port: u16) -> Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(place.interface()))?;
    setsockopt(&fd, sockopt::Ipv4Ttl, &TTL)?;
    setsockopt(&fd, sockopt::Ipv4RecvTtl, &true)?;
    setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
    setsockopt(&fd, sockopt::RcvBufForce, &ROOM)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)))?;
    Ok(UdpSocket::from(fd))
}

struct Datagram {
    bytes: Vec<u8>,
    from: Ipv4Addr,
    to: Ipv4Addr,
    ttl: i32,
}

/// The next datagram, if one has come.
fn receive(socket: &UdpSocket) -> Result<Option<Datagram>> {
    let mut bytes = [0; LENGTH + 1];
    let mut control = cmsg_space!(i32, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        message => message?,
    };
    let (mut to, mut ttl) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4Ttl(its) => ttl = Some(its),
            ControlMessageOwned::Ipv4PacketInfo(info) => to = Some(from_c(info.ipi_addr)),
            _ => {}
        }
    }
    let (length, from) = (message.bytes, message.address.context("no sender")?.ip());
    let (to, ttl) = (to.context("no destination")?, ttl.context("no TTL")?);
    Ok(Some(Datagram { bytes: bytes[..length].to_vec(), from, to, ttl }))
}

/// Sends from this address.
fn send(socket: &UdpSocket, from: Ipv4Addr, to: SocketAddrV4, datagram: &[u8]) -> nix::Result<usize> {
    let spec = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
    let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec, ipi_addr: libc::in_addr { s_addr: 0 } };
    let (parts, control) = ([IoSlice::new(datagram)], [ControlMessage::Ipv4PacketInfo(&info)]);
    sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&SockaddrIn::from(to)))
}

fn from_c(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

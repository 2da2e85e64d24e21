//! Packets of an attacker on the internet: made here, or captured and sent again, with any source address.

use std::{
    fs::File,
    io::Read,
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use crosswan_lab::Netns;
use socket2::{Domain, Protocol, Socket, Type};

/// IPPROTO_RAW: this program writes the header, including the source address (raw(7)).
const RAW: i32 = 255;

/// Sends whole IPv4 packets from a namespace.
pub struct Forger(Socket);

impl Forger {
    pub fn new(ns: &Netns) -> Result<Forger> {
        let socket = ns.run(|| Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?));
        Ok(Forger(socket.context("raw socket")?))
    }

    /// Sends a packet where its header says.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let to = packet.get(16..20).context("no IPv4 header")?;
        let to = Ipv4Addr::new(to[0], to[1], to[2], to[3]);
        self.0.send_to(packet, &SocketAddrV4::new(to, 0).into()).with_context(|| format!("send to {to}"))?;
        Ok(())
    }
}

/// An IPv4 packet of UDP without checksum; the kernel adds the header's own.
pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = |header: usize| ((payload.len() + header) as u16).to_be_bytes();
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes(), length(8), [0, 0]].concat();
    let head = [&[0x45, 0][..], &length(28), &[0, 0, 0, 0, 64, 17, 0, 0], &from.0.octets(), &to.0.octets()].concat();
    [head, ports, payload.to_vec()].concat()
}

/// An IKE_SA_INIT request that charon accepts: AES-GCM-16-256, PRF-SHA2-384, x25519 (RFC 7296, 3.1 to 3.9).
pub fn ike_sa_init(random: &mut File) -> Result<Vec<u8>> {
    let mut bytes = [0; 72];
    random.read_exact(&mut bytes)?;
    let (spi, rest) = bytes.split_at(8);
    let (public, nonce) = rest.split_at(32);
    // Type, last or more, transform type and id, attributes.
    let transform = |more: u8, kind: u8, id: u8, attributes: &[u8]| {
        [&[more, 0, 0, 8 + attributes.len() as u8, kind, 0, 0, id][..], attributes].concat()
    };
    let transforms =
        [transform(3, 1, 20, &[0x80, 14, 1, 0]), transform(3, 2, 6, &[]), transform(0, 4, 31, &[])].concat();
    let proposal = [&[0, 0, 0, 8 + transforms.len() as u8, 1, 1, 0, 3][..], &transforms].concat();
    let payload = |next: u8, body: &[u8]| [&[next, 0, 0, 4 + body.len() as u8][..], body].concat();
    let payloads =
        [payload(34, &proposal), payload(40, &[&[0, 31, 0, 0][..], public].concat()), payload(0, nonce)].concat();
    let length = (28 + payloads.len() as u32).to_be_bytes();
    Ok([spi, &[0; 8], &[33, 0x20, 34, 0x08, 0, 0, 0, 0][..], &length, &payloads].concat())
}

/// Captures every UDP packet between two addresses that passes through a namespace.
pub struct Recorder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Vec<u8>>>>,
}

impl Recorder {
    pub fn start(ns: &Netns, between: [Ipv4Addr; 2]) -> Result<Recorder> {
        // ETH_P_IP taps incoming packets only: each forwarded one is seen once.
        let protocol = Protocol::from(i32::from(0x0800_u16.to_be()));
        let socket =
            ns.run(|| Ok(Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?)).context("packet socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        socket.set_recv_buffer_size(4 << 20)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
                let Ok(n) = socket.recv(&mut buffer) else { continue };
                // SAFETY: the kernel filled the first n bytes.
                let packet: Vec<u8> = buffer[..n].iter().map(|b| unsafe { b.assume_init() }).collect();
                let address = |at: usize| packet.get(at..at + 4).map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3]));
                let ends = [address(12), address(16)];
                if packet.get(9) == Some(&17) && between.iter().all(|end| ends.contains(&Some(*end))) {
                    all.push(packet);
                }
            }
            all
        });
        Ok(Recorder { stop, thread: Some(thread) })
    }

    /// What passed.
    pub fn stop(mut self) -> Result<Vec<Vec<u8>>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already stopped")?;
        thread.join().map_err(|_| anyhow!("the recorder panicked"))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

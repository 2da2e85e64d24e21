//! What a takeover costs those who talk: fifty datagrams a second, echoed, and new connections one after the other. Gaps are told by the
//! arrivals alone, whenever something was done to a gateway.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use crosswan_lab::{Host, WHOAMI};

use crate::results::Budget;

const EVERY: Duration = Duration::from_millis(20);
/// Shorter than any takeover, and longer than most of what a busy machine delays.
const SILENCE: Duration = Duration::from_millis(200);
/// How long an answer may take after the last datagram.
const LATE: Duration = Duration::from_secs(2);
/// A new connection that takes longer is given up for another one: a SYN is not sent again for a second.
const CONNECTION: Duration = Duration::from_millis(200);

/// A thread that works until it is told to stop, and then tells what it has seen.
struct Job<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Job<T> {
    fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Job<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        Job { stop, thread: std::thread::spawn(move || work(&stopped)) }
    }

    fn end(self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a probe has panicked"))
    }
}

/// The longest time between two arrivals, and so without any.
fn longest(arrivals: &[Instant]) -> Duration {
    arrivals.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(Duration::MAX)
}

/// Datagrams from one private host to another, which sends each back.
pub struct Echo {
    sends: Job<u32>,
    hears: Job<Vec<(u32, Instant)>>,
    answers: Job<Vec<Instant>>,
}

/// What became of them.
pub struct Echoed {
    pub sent: u32,
    /// Those that came back.
    pub echoed: u32,
    /// The longest time without an arrival at the other host.
    pub there: Duration,
    arrivals: Vec<Instant>,
}

impl Echoed {
    /// The last arrival before the first silence that lasts beyond `from`.
    pub fn silent_since(&self, from: Instant) -> Option<Instant> {
        self.arrivals.windows(2).find(|two| two[1] >= from && two[1] - two[0] >= SILENCE).map(|two| two[0])
    }
}

impl Echo {
    pub fn start(from: &Host, to: &Host) -> Result<Echo> {
        static PORT: AtomicU16 = AtomicU16::new(20_000);
        let bind = |host: &Host, port: u16| {
            let socket = host.ns.run(|| Ok(UdpSocket::bind((host.address, port))?))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            Ok::<_, anyhow::Error>(socket)
        };
        let at = SocketAddr::from((to.address, PORT.fetch_add(1, Ordering::Relaxed)));
        let (server, client) = (bind(to, at.port())?, bind(from, 0)?);
        let ears = client.try_clone()?;
        let answers = Job::start(move |stop| {
            let (mut arrivals, mut buffer) = (Vec::new(), [0; 64]);
            while !stop.load(Ordering::Relaxed) {
                if let Ok((n, peer)) = server.recv_from(&mut buffer) {
                    arrivals.push(Instant::now());
                    // What no route leads to now is as lost as what a dead gateway had.
                    let _ = server.send_to(&buffer[..n], peer);
                }
            }
            arrivals
        });
        let hears = Job::start(move |stop| {
            let (mut echoes, mut buffer) = (Vec::new(), [0; 64]);
            while !stop.load(Ordering::Relaxed) {
                if let Ok((4, _)) = ears.recv_from(&mut buffer) {
                    echoes.push((u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]), Instant::now()));
                }
            }
            echoes
        });
        let sends = Job::start(move |stop| {
            let (mut number, mut due) = (0_u32, Instant::now());
            while !stop.load(Ordering::Relaxed) {
                let _ = client.send_to(&number.to_be_bytes(), at);
                number += 1;
                // On a machine too busy to keep up, fewer are sent.
                due = (due + EVERY).max(Instant::now());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            number
        });
        Ok(Echo { sends, hears, answers })
    }

    /// Ends it, once the last echo may have come.
    pub fn stop(self) -> Result<Echoed> {
        let sent = self.sends.end()?;
        std::thread::sleep(LATE);
        let (echoes, arrivals) = (self.hears.end()?, self.answers.end()?);
        let echoed = echoes.iter().map(|(number, _)| number).collect::<BTreeSet<_>>().len() as u32;
        Ok(Echoed { sent, echoed, there: longest(&arrivals), arrivals })
    }
}

/// Packets lost of those sent, of all streams.
#[derive(Default, Clone, Copy)]
pub struct Lost {
    pub lost: u32,
    pub sent: u32,
}

impl Lost {
    pub fn plus(self, more: Lost) -> Lost {
        Lost { lost: self.lost + more.lost, sent: self.sent + more.sent }
    }

    pub fn and(self, echoes: &[Echoed]) -> Lost {
        let of = |echoed: &Echoed| Lost { lost: echoed.sent - echoed.echoed, sent: echoed.sent };
        echoes.iter().map(of).fold(self, Lost::plus)
    }

    pub fn nothing(self, work: &str) -> Budget {
        Budget {
            work: work.into(),
            budget: "0 lost".into(),
            baseline: "–".into(),
            measured: format!("{} of {} lost", self.lost, self.sent),
            met: self.lost == 0 && self.sent > 0,
        }
    }
}

/// New connections from a host, one after the other.
pub struct Connections(Job<Vec<Instant>>);

impl Connections {
    /// To the service of the lab's host on the internet.
    pub fn start(from: &Host, to: Ipv4Addr) -> Connections {
        let ns = from.ns.clone();
        Connections(Job::start(move |stop| {
            let mut made = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let connected = ns.run(|| Ok(TcpStream::connect_timeout(&(to, WHOAMI).into(), CONNECTION)?));
                if connected.is_ok() {
                    made.push(began);
                }
                std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
            }
            made
        }))
    }

    /// The longest time in which none was begun that came to something.
    pub fn stop(self) -> Result<Duration> {
        Ok(longest(&self.0.end()?))
    }
}

//! ICMP echo from inside a namespace, counted packet by packet.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// How long a reply may take in a series that asks whether somebody answers.
const LATE: Duration = Duration::from_secs(1);
/// And in a stream that counts losses: a machine that is busy with other things delays packets, which is no loss.
const LOST: Duration = Duration::from_secs(20);
const PAYLOAD: usize = 56;

/// What became of a series of pings.
#[derive(Clone, Debug, Default)]
pub struct PingReport {
    /// Echo requests sent, or tried to.
    pub sent: u32,
    /// Those answered, in a stream within twenty seconds, else within one.
    pub received: u32,
    /// Those not.
    pub lost: u32,
    /// Longest time in which every request was lost; zero without loss.
    pub longest_gap: Duration,
    /// Slowest answer.
    pub slowest: Duration,
    /// Time to live of the last answer.
    pub ttl: Option<u8>,
    /// ICMP errors that came for the requests: sender, type, code.
    pub errors: Vec<(Ipv4Addr, u8, u8)>,
    /// Why sending failed, the last time it did.
    pub send_error: Option<String>,
}

/// A running series; ends on drop.
#[derive(Debug)]
pub struct PingStream {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU32>,
    thread: Option<JoinHandle<PingReport>>,
}

impl PingStream {
    /// Pings `to` from `from` every `interval`, `count` times or until stopped.
    pub fn start(ns: &Netns, from: Ipv4Addr, to: Ipv4Addr, interval: Duration, count: u32) -> Result<PingStream> {
        static IDS: AtomicU16 = AtomicU16::new(1);
        let socket =
            ns.run(|| Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?)).context("ICMP socket")?;
        socket.bind(&SocketAddrV4::new(from, 0).into()).with_context(|| format!("bind {from}"))?;
        socket.set_recv_buffer_size(4 << 20)?;
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU32::new(0));
        let (stopped, counter) = (stop.clone(), answers.clone());
        let late = if count == u32::MAX { LOST } else { LATE };
        let series = Series::new(socket, to, id, counter, late);
        let thread = std::thread::spawn(move || series.run(interval, count, &stopped));
        Ok(PingStream { stop, answers, thread: Some(thread) })
    }

    /// Answers so far.
    pub fn answers(&self) -> u32 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Stops sending, waits up to twenty seconds for what is under way, and reports.
    pub fn stop(mut self) -> Result<PingReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for the last of `count`.
    pub fn finish(&mut self) -> Result<PingReport> {
        let thread = self.thread.take().context("already finished")?;
        thread.join().map_err(|_| anyhow!("the pinger panicked"))
    }
}

impl Drop for PingStream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Series {
    socket: Socket,
    to: Ipv4Addr,
    id: u16,
    answers: Arc<AtomicU32>,
    late: Duration,
    /// Whether it was answered, by sequence number.
    sent: Vec<bool>,
    waiting: BTreeMap<u32, Instant>,
    report: PingReport,
}

impl Series {
    fn new(socket: Socket, to: Ipv4Addr, id: u16, answers: Arc<AtomicU32>, late: Duration) -> Series {
        let (sent, waiting, report) = (Vec::new(), BTreeMap::new(), PingReport::default());
        Series { socket, to, id, answers, late, sent, waiting, report }
    }

    fn run(mut self, interval: Duration, count: u32, stop: &AtomicBool) -> PingReport {
        let mut due = Instant::now();
        for n in 0..count {
            self.receive_until(due);
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.send(n);
            // On a machine too busy to keep up, fewer are sent: if it caught up, nobody would read the answers meanwhile.
            due = (due + interval).max(Instant::now());
        }
        while !self.waiting.is_empty() {
            self.receive_once(self.late);
        }
        self.summary(interval)
    }

    fn send(&mut self, n: u32) {
        let mut packet = vec![8, 0, 0, 0];
        packet.extend_from_slice(&self.id.to_be_bytes());
        packet.extend_from_slice(&(n as u16).to_be_bytes());
        packet.extend_from_slice(&n.to_be_bytes());
        packet.resize(8 + PAYLOAD, 0xa5);
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        let now = Instant::now();
        self.sent.push(false);
        match self.socket.send_to(&packet, &SocketAddrV4::new(self.to, 0).into()) {
            Ok(_) => {
                self.waiting.insert(n, now);
            }
            Err(e) => self.report.send_error = Some(e.to_string()),
        }
    }

    /// Takes answers until `deadline`.
    fn receive_until(&mut self, deadline: Instant) {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.receive_once(left) && left.is_zero() {
                return;
            }
        }
    }

    /// Takes one packet, waiting `at_most`, and gives up on answers that are late. Returns whether there was one.
    fn receive_once(&mut self, at_most: Duration) -> bool {
        // The kernel takes a zero timeout as none at all.
        let timeout = at_most.clamp(Duration::from_micros(200), Duration::from_millis(50));
        let _ = self.socket.set_read_timeout(Some(timeout));
        let mut buffer = [MaybeUninit::<u8>::uninit(); 256];
        let received = self.socket.recv_from(&mut buffer);
        let any = received.is_ok();
        if let Ok((n, from)) = received {
            // SAFETY: the kernel filled the first n bytes.
            let packet: Vec<u8> = buffer[..n].iter().map(|b| unsafe { b.assume_init() }).collect();
            let from = from.as_socket_ipv4().map_or(Ipv4Addr::UNSPECIFIED, |a| *a.ip());
            self.take(&packet, from);
        }
        while self.waiting.first_entry().is_some_and(|first| first.get().elapsed() >= self.late) {
            self.waiting.pop_first();
        }
        any
    }

    fn take(&mut self, packet: &[u8], from: Ipv4Addr) -> Option<()> {
        let icmp = packet.get(usize::from(packet.first()? & 15) * 4..)?;
        let is_ours = |header: &[u8]| header.get(4..6) == Some(self.id.to_be_bytes().as_slice());
        match icmp.first()? {
            0 if is_ours(icmp) => {
                let n = u32::from_be_bytes(icmp.get(8..12)?.try_into().ok()?);
                let sent = self.waiting.remove(&n)?;
                *self.sent.get_mut(n as usize)? = true;
                self.answers.fetch_add(1, Ordering::Relaxed);
                self.report.slowest = self.report.slowest.max(sent.elapsed());
                self.report.ttl = packet.get(8).copied();
            }
            kind @ (3 | 5 | 11) => {
                let inner = icmp.get(8..)?;
                if is_ours(inner.get(usize::from(inner.first()? & 15) * 4..)?) {
                    self.report.errors.push((from, *kind, *icmp.get(1)?));
                }
            }
            _ => {}
        }
        Some(())
    }

    fn summary(mut self, interval: Duration) -> PingReport {
        let (mut run, mut longest) = (0, 0);
        for answered in &self.sent {
            run = if *answered { 0 } else { run + 1 };
            longest = longest.max(run);
        }
        let report = &mut self.report;
        report.sent = self.sent.len() as u32;
        report.received = self.sent.iter().filter(|answered| **answered).count() as u32;
        report.lost = report.sent - report.received;
        report.longest_gap = interval * longest;
        self.report
    }
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

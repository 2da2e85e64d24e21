//! The byte stream under rsvici: whole packets only, and an end that is told once.
//!
//! rsvici reads a packet inside a `select!` branch that is dropped whenever there is something to send; a byte it has
//! read by then is lost. So a packet is handed over only when all of it is here: reading it never waits halfway.
//! At the end of the stream rsvici reads again at once, forever; so the end is never shown to it, but told
//! through a channel, and its next read waits until the client is dropped.
//! Its parser goes down into sections by recursion: a packet that is nested too deep would end the process, so it is not
//! handed over either.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::oneshot,
};

/// VICI's own limit on a packet (512 kB), and its length header.
const MAX_PACKET: usize = 512 * 1024;
const HEADER: usize = 4;
/// charon's deepest answer, `list-sas`, is at four.
const MAX_DEPTH: usize = 16;

pub struct Wire {
    stream: UnixStream,
    /// Bytes of the packet being collected or handed over.
    packet: Vec<u8>,
    /// How many of them rsvici has taken.
    taken: usize,
    /// Dropped at the end of the stream: that is the message.
    alive: Option<oneshot::Sender<()>>,
}

impl Wire {
    /// The receiver completes when the peer has hung up or sent what cannot be a packet.
    pub fn new(stream: UnixStream) -> (Wire, oneshot::Receiver<()>) {
        let (alive, closed) = oneshot::channel();
        (Wire { stream, packet: Vec::new(), taken: 0, alive: Some(alive) }, closed)
    }

    /// Length of the packet being collected, as far as it is known: the header first.
    fn wanted(&self) -> usize {
        match self.packet.first_chunk::<HEADER>() {
            Some(header) => HEADER + u32::from_be_bytes(*header) as usize,
            None => HEADER,
        }
    }

    /// Collects one whole packet. `Err` is the end.
    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.packet.len() < HEADER || self.packet.len() < self.wanted() {
            let wanted = self.wanted();
            if wanted > HEADER + MAX_PACKET {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let have = self.packet.len();
            self.packet.resize(wanted, 0);
            let mut buf = ReadBuf::new(&mut self.packet[have..]);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
            let got = buf.filled().len();
            self.packet.truncate(have + got);
            ready!(read)?;
            if got == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        match too_deep(&self.packet[HEADER..]) {
            true => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

/// Sections inside sections beyond [`MAX_DEPTH`]. Element types as in strongSwan's `vici_message.h`; at the first thing
/// that is none rsvici's parser stops, too.
fn too_deep(packet: &[u8]) -> bool {
    let name = |at: usize| 1 + packet.get(at).map_or(0, |len| usize::from(*len));
    let value = |at: usize| match packet.get(at..at + 2) {
        Some(len) => 2 + usize::from(len[0]) * 256 + usize::from(len[1]),
        None => 2,
    };
    const EVENT: u8 = 7;
    let mut at = if packet.first() == Some(&EVENT) { 1 + name(1) } else { 1 };
    let mut depth = 0usize;
    while let Some(element) = packet.get(at) {
        at += 1;
        match element {
            1 => (at, depth) = (at + name(at), depth + 1),
            2 => depth = depth.saturating_sub(1),
            3 => {
                at += name(at);
                at += value(at);
            }
            4 => at += name(at),
            5 => at += value(at),
            6 => {}
            _ => return false,
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.taken == 0 {
            if this.alive.is_none() {
                return Poll::Pending;
            }
            if ready!(this.poll_packet(cx)).is_err() {
                this.alive = None;
                return Poll::Pending;
            }
        }
        let rest = &this.packet[this.taken..];
        let now = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..now]);
        this.taken += now;
        if this.taken == this.packet.len() {
            (this.taken, this.packet) = (0, Vec::new());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

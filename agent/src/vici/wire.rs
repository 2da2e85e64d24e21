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
/// At first; a longer packet makes room for itself.
const ROOM: usize = 32 * 1024;
/// charon's deepest answer, `list-sas`, is at four.
const MAX_DEPTH: usize = 16;

pub struct Wire {
    stream: UnixStream,
    /// Room for what is read: as much as there is at once, for charon sends thousands of small packets in a row.
    room: Vec<u8>,
    /// How much of it is filled.
    filled: usize,
    /// How much of that rsvici has taken.
    taken: usize,
    /// Where the packet ends that is being handed over; as `taken` if there is none.
    whole: usize,
    /// Dropped at the end of the stream: that is the message.
    alive: Option<oneshot::Sender<()>>,
}

impl Wire {
    /// The receiver completes when the peer has hung up or sent what cannot be a packet.
    pub fn new(stream: UnixStream) -> (Wire, oneshot::Receiver<()>) {
        let (alive, closed) = oneshot::channel();
        (Wire { stream, room: vec![0; ROOM], filled: 0, taken: 0, whole: 0, alive: Some(alive) }, closed)
    }

    /// The packet after those that were taken: whether all of it is here, and its length with the header, as far as that
    /// is known. `Err` if it cannot be one.
    fn next_packet(&self) -> io::Result<(bool, usize)> {
        let received = &self.room[self.taken..self.filled];
        let Some(header) = received.first_chunk::<HEADER>() else { return Ok((false, HEADER)) };
        let length = HEADER + u32::from_be_bytes(*header) as usize;
        match received.get(HEADER..length) {
            _ if length > HEADER + MAX_PACKET => Err(io::ErrorKind::InvalidData.into()),
            Some(packet) if too_deep(packet) => Err(io::ErrorKind::InvalidData.into()),
            packet => Ok((packet.is_some(), length)),
        }
    }

    /// Waits for one whole packet. `Err` is the end.
    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (here, length) = self.next_packet()?;
            if here {
                self.whole = self.taken + length;
                return Poll::Ready(Ok(()));
            }
            self.room.copy_within(self.taken..self.filled, 0);
            (self.filled, self.taken, self.whole) = (self.filled - self.taken, 0, 0);
            if self.room.len() < length {
                self.room.resize(length, 0);
            }
            let mut buf = ReadBuf::new(&mut self.room[self.filled..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                got => self.filled += got,
            }
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
        if this.taken == this.whole {
            if this.alive.is_none() {
                return Poll::Pending;
            }
            if ready!(this.poll_packet(cx)).is_err() {
                this.alive = None;
                return Poll::Pending;
            }
        }
        let rest = &this.room[this.taken..this.whole];
        let now = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..now]);
        this.taken += now;
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

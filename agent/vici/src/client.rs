//! A connection for requests, and the packets on a socket under it and under [`crate::Events`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time,
};

use crate::{
    codec::{Decoder, Packet},
    error::{Error, Failure, Result},
    message::Message,
};

/// A connection for requests, one at a time.
///
/// After an error, and after a request whose future was dropped before its end, the connection is closed, and each later
/// request is refused with [`Failure::Broken`] until [`Vici::reopen`]: answers carry no number, so a late answer would look
/// like the next request's.
#[derive(Debug)]
pub struct Vici {
    socket: PathBuf,
    timeout: Duration,
    /// `None` while a request is under way, and after an error.
    wire: Option<Wire>,
}

impl Vici {
    /// Connects to charon's socket. `timeout` bounds this and every later request, in addition to what a request itself waits for.
    pub async fn connect(socket: &Path, timeout: Duration) -> Result<Vici> {
        let wire = Some(Wire::connect(socket, timeout).await?);
        Ok(Vici { socket: socket.to_owned(), timeout, wire })
    }

    /// Whether the connection can be used.
    pub fn is_open(&self) -> bool {
        self.wire.is_some()
    }

    /// Connects anew, after an error.
    pub async fn reopen(&mut self) -> Result<()> {
        self.wire = Some(Wire::connect(&self.socket, self.timeout).await?);
        Ok(())
    }

    /// Sends one command and returns charon's answer, which may well be a refusal. charon may take `wait` longer than the
    /// connection's timeout.
    pub async fn request(&mut self, command: &str, message: Message, wait: Duration) -> Result<Message> {
        self.bounded(command, wait, async |wire| wire.ask(command, message, |_, _| ()).await).await
    }

    /// Sends a command that charon answers with a series of events, as it answers `list-sas` with `list-sa`. `each` is called with
    /// every event as it comes: thousands of them together would be most of a program's memory.
    pub async fn stream(
        &mut self,
        command: &str,
        event: &str,
        message: Message,
        mut each: impl FnMut(Message),
    ) -> Result<()> {
        self.bounded(command, Duration::ZERO, async |wire| {
            wire.confirmed(Packet::Register(event.into()), event, |_, _| ()).await?;
            let each = |name: String, message| {
                if name == event {
                    each(message)
                }
            };
            wire.ask(command, message, each).await?;
            wire.confirmed(Packet::Unregister(event.into()), event, |_, _| ()).await
        })
        .await
    }

    async fn bounded<T>(
        &mut self,
        command: &str,
        wait: Duration,
        request: impl AsyncFnOnce(&mut Wire) -> Result<T, Failure>,
    ) -> Result<T> {
        let limit = self.timeout + wait;
        // The wire is taken out, and put back only after an answer.
        let outcome = match self.wire.take() {
            None => Err(Failure::Broken),
            Some(mut wire) => match time::timeout(limit, request(&mut wire)).await {
                Err(_) => Err(Failure::TimedOut(limit)),
                Ok(Err(failure)) => Err(failure),
                Ok(Ok(answer)) => {
                    self.wire = Some(wire);
                    Ok(answer)
                }
            },
        };
        outcome.map_err(|source| self.failed(command, source))
    }

    /// The error for an answer that does not belong to `command`.
    pub(crate) fn unexpected(&self, command: &str) -> Error {
        self.failed(command, Failure::Unexpected)
    }

    fn failed(&self, command: &str, source: Failure) -> Error {
        Error::Ask { socket: self.socket.clone(), command: command.to_owned(), source }
    }
}

/// A socket that carries packets.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
    decoder: Decoder,
}

impl Wire {
    pub(crate) async fn connect(socket: &Path, timeout: Duration) -> Result<Wire> {
        let connected = match time::timeout(timeout, UnixStream::connect(socket)).await {
            Ok(connected) => connected.map_err(Failure::Io),
            Err(_) => Err(Failure::TimedOut(timeout)),
        };
        match connected {
            Ok(stream) => Ok(Wire { stream, decoder: Decoder::default() }),
            Err(source) => Err(Error::Connect { socket: socket.to_owned(), source }),
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), Failure> {
        Ok(self.stream.write_all(&packet.encode()?).await?)
    }

    /// The next packet. Cancelling loses nothing: the bytes received so far are in the decoder.
    pub(crate) async fn receive(&mut self) -> Result<Packet, Failure> {
        loop {
            if let Some(packet) = self.decoder.next_packet()? {
                return Ok(packet);
            }
            if self.stream.read_buf(self.decoder.room()).await? == 0 {
                return Err(Failure::Closed);
            }
        }
    }

    /// The next packet that is not an event; events go to `each`.
    async fn answer(&mut self, mut each: impl FnMut(String, Message)) -> Result<Packet, Failure> {
        loop {
            match self.receive().await? {
                Packet::Event { name, message } => each(name, message),
                other => return Ok(other),
            }
        }
    }

    async fn ask(
        &mut self,
        command: &str,
        message: Message,
        each: impl FnMut(String, Message),
    ) -> Result<Message, Failure> {
        self.send(&Packet::Request { command: command.to_owned(), message }).await?;
        match self.answer(each).await? {
            Packet::Response(message) => Ok(message),
            Packet::UnknownCommand => Err(Failure::Unknown(command.to_owned())),
            _ => Err(Failure::Unexpected),
        }
    }

    /// Registers or unregisters an event.
    pub(crate) async fn confirmed(
        &mut self,
        packet: Packet,
        event: &str,
        each: impl FnMut(String, Message),
    ) -> Result<(), Failure> {
        self.send(&packet).await?;
        match self.answer(each).await? {
            Packet::Confirm => Ok(()),
            Packet::UnknownEvent => Err(Failure::Unknown(event.to_owned())),
            _ => Err(Failure::Unexpected),
        }
    }
}

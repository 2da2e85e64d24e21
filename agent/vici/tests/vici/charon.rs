//! charon's end of a connection, to be played by a test.

use std::path::Path;

use crosswan_vici::{Decoder, Message, Packet};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

pub(crate) struct Charon {
    stream: UnixStream,
    decoder: Decoder,
}

impl Charon {
    /// The next packet from the client; `None` when it has closed the connection.
    pub(crate) async fn hear(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.next_packet().expect("the client speaks VICI") {
                return Some(packet);
            }
            if self.stream.read_buf(self.decoder.room()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn say(&mut self, packet: Packet) {
        self.write(&packet.encode().unwrap()).await;
    }

    /// The client may have gone meanwhile.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }
}

/// Plays charon for the connections to one socket, in the order in which they come, while `client` runs.
pub(crate) async fn play<T>(charon: impl AsyncFn(Charon), client: impl AsyncFnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("charon.vici");
    let listener = UnixListener::bind(&socket).unwrap();
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            charon(Charon { stream, decoder: Decoder::default() }).await;
        }
    };
    tokio::select! {
        biased;
        done = client(&socket) => done,
        () = serve => unreachable!("charon is played without end"),
    }
}

pub(crate) fn request(command: &str) -> Packet {
    Packet::Request { command: command.into(), message: Message::new() }
}

pub(crate) fn event(name: &str, n: usize) -> Packet {
    Packet::Event { name: name.into(), message: numbered(n) }
}

pub(crate) fn numbered(n: usize) -> Message {
    Message::new().with("n", n.to_string())
}

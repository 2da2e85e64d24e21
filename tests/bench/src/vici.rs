//! Counts what is asked of charon: a relay in front of its socket that reads the names of the requests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use crosswan_lab::Gateway;
use crosswan_vici::{Decoder, Packet};

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

/// The relay; dropped, charon's socket is back in its place.
pub struct Relay {
    socket: PathBuf,
    moved: PathBuf,
    counts: Counts,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// Takes the place of the socket of this gateway's charon.
    pub fn before(gateway: &Gateway) -> Result<Relay> {
        let (socket, moved) = (gateway.path("/run/charon.vici"), gateway.path("/run/charon.real"));
        fs::rename(&socket, &moved).context("move charon's socket")?;
        let relay = Relay { socket, moved, counts: Counts::default(), stop: Arc::default() };
        let listener = UnixListener::bind(&relay.socket).context("listen as charon")?;
        let (counts, moved, stop) = (relay.counts.clone(), relay.moved.clone(), relay.stop.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (counts, moved) = (counts.clone(), moved.clone());
                std::thread::spawn(move || {
                    let _ = serve(&client, &moved, &counts);
                });
            }
        });
        Ok(relay)
    }

    /// Requests so far, by name.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.socket); // wakes the thread, which then ends
        let _ = fs::rename(&self.moved, &self.socket);
    }
}

fn serve(client: &UnixStream, charon: &PathBuf, counts: &Counts) -> std::io::Result<()> {
    let charon = UnixStream::connect(charon)?;
    let (mut answers, mut back) = (charon.try_clone()?, client.try_clone()?);
    let answering = std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let requests = relay_requests(client, &charon, counts);
    let _ = charon.shutdown(Shutdown::Both);
    let _ = answering.join();
    requests
}

fn relay_requests(mut from: &UnixStream, mut to: &UnixStream, counts: &Counts) -> std::io::Result<()> {
    let (mut decoder, mut piece) = (Decoder::default(), [0; 4096]);
    loop {
        let piece = match from.read(&mut piece)? {
            0 => return Ok(()),
            length => &piece[..length],
        };
        decoder.room().extend(piece);
        while let Some(packet) = decoder.next_packet().map_err(std::io::Error::other)? {
            if let Packet::Request { command, .. } = packet {
                *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(command).or_default() += 1;
            }
        }
        to.write_all(piece)?;
    }
}

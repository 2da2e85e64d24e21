//! Stands between the agent and charon's VICI socket, and answers some commands itself.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use anyhow::Result;
use crosswan_lab::Gateway;
use crosswan_vici::{Decoder, Message, Packet};

/// What it does instead of passing a command on.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// `success=no` with this reason.
    Refuse(&'static str),
    /// `success=yes`, and charon never hears of it.
    Pretend,
    /// None at all, though charon goes on answering everything else.
    Silence,
}

/// In place until dropped.
pub struct Meddler {
    socket: PathBuf,
    real: PathBuf,
    stopped: Arc<AtomicBool>,
    met: Arc<AtomicU32>,
}

impl Meddler {
    /// Answers every `command` whose message contains `about`; charon gets everything else.
    pub fn between(gateway: &Gateway, command: &'static str, about: &str, answer: Answer) -> Result<Meddler> {
        let (socket, real) = (gateway.path("/run/charon.vici"), gateway.path("/run/charon.real"));
        fs::rename(&socket, &real)?;
        let listener = UnixListener::bind(&socket)?;
        let (stopped, met) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let meddler = Meddler { socket, real, stopped: stopped.clone(), met: met.clone() };
        let (real, about) = (meddler.real.clone(), about.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten().take_while(|_| !stopped.load(Ordering::Relaxed)) {
                let (real, about, met) = (real.clone(), about.clone(), met.clone());
                thread::spawn(move || pass_on(client, &real, command, about.as_bytes(), answer, &met));
            }
        });
        Ok(meddler)
    }

    /// How many commands it has answered.
    pub fn met(&self) -> u32 {
        self.met.load(Ordering::Relaxed)
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.socket); // wakes the listener
        let _ = fs::rename(&self.real, &self.socket);
    }
}

/// One connection, packet by packet.
fn pass_on(
    mut client: UnixStream,
    real: &Path,
    command: &str,
    about: &[u8],
    answer: Answer,
    met: &AtomicU32,
) -> Option<()> {
    let mut charon = UnixStream::connect(real).ok()?;
    let (mut from, mut to) = (charon.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let (mut decoder, mut piece) = (Decoder::default(), [0; 4096]);
    loop {
        let length = client.read(&mut piece).ok().filter(|length| *length > 0)?;
        decoder.room().extend(&piece[..length]);
        while let Some(packet) = decoder.next_packet().ok()? {
            let bytes = packet.encode().ok()?;
            let meant = matches!(&packet, Packet::Request { command: asked, .. } if asked == command);
            if !meant || !bytes.windows(about.len()).any(|part| part == about) {
                charon.write_all(&bytes).ok()?;
                continue;
            }
            met.fetch_add(1, Ordering::Relaxed);
            let reply = match answer {
                Answer::Refuse(why) => Message::new().with("success", "no").with("errmsg", why),
                Answer::Pretend => Message::new().with("success", "yes"),
                Answer::Silence => continue,
            };
            client.write_all(&Packet::Response(reply).encode().ok()?).ok()?;
        }
    }
}

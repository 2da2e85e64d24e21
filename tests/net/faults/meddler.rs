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

/// One connection, packet by packet: a length of four bytes, then a type, for a command (0) its name, and the message.
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
    let head = [&[0, command.len() as u8], command.as_bytes()].concat();
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length).ok()?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        client.read_exact(&mut packet).ok()?;
        if packet.starts_with(&head) && packet.windows(about.len()).any(|bytes| bytes == about) {
            met.fetch_add(1, Ordering::Relaxed);
            if matches!(answer, Answer::Silence) {
                continue;
            }
            client.write_all(&reply(answer)).ok()?;
        } else {
            charon.write_all(&[&length[..], &packet].concat()).ok()?;
        }
    }
}

/// A response (1) of key-value pairs (3).
fn reply(answer: Answer) -> Vec<u8> {
    let pair = |key: &str, value: &str| {
        [&[3, key.len() as u8], key.as_bytes(), &(value.len() as u16).to_be_bytes(), value.as_bytes()].concat()
    };
    let body = match answer {
        Answer::Refuse(why) => [pair("success", "no"), pair("errmsg", why)].concat(),
        Answer::Pretend | Answer::Silence => pair("success", "yes"),
    };
    [&(body.len() as u32 + 1).to_be_bytes()[..], &[1], &body].concat()
}

//! Listens to what charon logs, for gateways that knock. charon keeps what a listener has not read yet, without a bound: so this is a
//! task of its own that reads always, whatever the loop is waiting for.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use tokio::{sync::mpsc, task::AbortHandle};

use crosswan_core::{
    error::Result,
    keep::{Ear, Knock},
};
use crosswan_vici::Events;

/// Knocks that the loop has yet to take. Further ones are dropped: whoever wants a tunnel knocks again.
const ROOM: usize = 1024;

/// Listens until it is dropped, or charon has gone.
pub(super) struct Listener {
    heard: mpsc::Receiver<(Ipv4Addr, Knock)>,
    task: AbortHandle,
}

impl Listener {
    pub(super) async fn start(socket: &Path, timeout: Duration) -> Result<Listener> {
        let mut events = Events::subscribe(socket, &["log"], timeout).await?;
        let (sender, heard) = mpsc::channel(ROOM);
        let listen = async move {
            let mut ear = Ear::default();
            while let Ok(event) = events.next().await {
                let line = event.message.text("msg").unwrap_or_default();
                let ike = event.message.number("ikesa-uniqueid").unwrap_or_default();
                if let Some(knock) = ear.hear(ike, &line) {
                    let _ = sender.try_send(knock);
                }
            }
        };
        Ok(Listener { heard, task: tokio::spawn(listen).abort_handle() })
    }

    /// The next knock; never, once charon has gone.
    pub(super) async fn next(&mut self) -> (Ipv4Addr, Knock) {
        match self.heard.recv().await {
            Some(knock) => knock,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

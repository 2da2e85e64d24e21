//! VICI: the few requests crosswan makes to charon, each with a timeout.
//!
//! Over rsvici, which leaves two things to us: its listener spins and answers nothing once charon has hung up, and its
//! receive loses bytes when a send interrupts it. `wire` repairs both; here every request is bounded, and the
//! connection is dropped at the first error that is not charon's own answer.

mod events;
mod message;
mod sa;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{TryStreamExt, pin_mut};
use serde::Serialize;
use tokio::{net::UnixStream, sync::oneshot, time};

pub use events::Events;

use crosswan_core::{
    error::{Error, Kind, Result},
    model::{Secret, plain, printable},
    swanctl::{Node, Shared, Summary, Tree},
    system::Sa,
};

/// charon's default; Debian's packages keep it (`/var/run` is a link to `/run`).
pub const SOCKET: &str = "/run/charon.vici";

/// A connection for requests, one at a time.
pub struct Vici {
    socket: PathBuf,
    timeout: Duration,
    /// `None` after an error: the answers on the wire no longer belong to the questions.
    open: Option<Open>,
}

struct Open {
    client: rsvici::Client,
    closed: oneshot::Receiver<()>,
}

impl Open {
    async fn to(socket: &Path, timeout: Duration) -> Result<Open> {
        let failed = || Error::observe(format!("connect to charon at {} (is strongswan running?)", socket.display()));
        let stream = match time::timeout(timeout, UnixStream::connect(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Err(failed().because(e)),
            Err(_) => return Err(failed().because("timed out")),
        };
        let (wire, closed) = wire::Wire::new(stream);
        Ok(Open { client: rsvici::Client::new(wire), closed })
    }
}

/// What [`Vici::terminate`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Every IKE_SA of a connection.
    Ike(&'a str),
    /// The IKE_SA with this unique id.
    IkeId(u32),
    /// The CHILD_SA with this unique id.
    ChildId(u32),
    /// Every CHILD_SA of this name under a connection.
    Child { ike: &'a str, child: &'a str },
}

impl Vici {
    /// Connects; `timeout` bounds this and every later request, beside what the request itself waits for.
    pub async fn connect(socket: &Path, timeout: Duration) -> Result<Vici> {
        let open = Some(Open::to(socket, timeout).await?);
        Ok(Vici { socket: socket.to_owned(), timeout, open })
    }

    /// Whether the connection is usable: no error on it yet but charon's own answers.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Connects anew, after an error.
    pub async fn reopen(&mut self) -> Result<()> {
        self.open = Some(Open::to(&self.socket, self.timeout).await?);
        Ok(())
    }

    /// charon's version, as in `5.9.8`.
    pub async fn version(&mut self) -> Result<String> {
        let answer = self.ask("version", Tree::new(), Duration::ZERO).await?;
        message::text(&answer, "version").map(str::to_owned).ok_or_else(|| self.odd("version"))
    }

    /// The key exchange methods charon has plugins for, as in `CURVE_25519`. Its version does not tell: Debian 13's
    /// 6.0.1 has no ML-KEM.
    pub async fn key_exchanges(&mut self) -> Result<BTreeSet<String>> {
        let answer = self.ask("get-algorithms", Tree::new(), Duration::ZERO).await?;
        // `dh` until 5.9, `ke` since 6.0.
        let sections = ["ke", "dh"].into_iter().filter_map(|name| message::section(&answer, name));
        Ok(sections.flat_map(|methods| methods.keys().cloned()).collect())
    }

    /// How long charon has been running. Exact to the second below two minutes, then as coarse as charon says it.
    pub async fn uptime(&mut self) -> Result<Duration> {
        let answer = self.ask("stats", Tree::new(), Duration::ZERO).await?;
        let running = message::section(&answer, "uptime").and_then(|u| message::text(u, "running"));
        running.and_then(message::ago).ok_or_else(|| self.odd("stats"))
    }

    /// Every loaded connection, foreign ones included.
    pub async fn list_conns(&mut self) -> Result<BTreeMap<String, Summary>> {
        let summary = |(name, conn): (&String, &Tree)| (name.clone(), Summary::of(conn));
        self.stream("list-conns", "list-conn", Tree::new(), summary).await
    }

    /// The ids of all shared keys loaded over VICI, foreign ones included.
    pub async fn shared_ids(&mut self) -> Result<BTreeSet<String>> {
        let answer = self.ask("get-shared", Tree::new(), Duration::ZERO).await?;
        Ok(message::list(&answer, "keys").into_iter().collect())
    }

    /// Every IKE_SA with its CHILD_SAs. One that charon is working on at this moment is left out (`noblock`):
    /// a single look does not prove that an SA is gone.
    pub async fn sas(&mut self) -> Result<Vec<Sa>> {
        self.stream("list-sas", "list-sa", message::of([("noblock", "yes")]), |(name, sa)| sa::ike_sa(name, sa)).await
    }

    /// Loads or replaces one connection; `conn` comes from [`crosswan_core::swanctl::connections`].
    pub async fn load_conn(&mut self, name: &str, conn: &Tree) -> Result<()> {
        let message = Tree::from([(name.to_owned(), Node::Section(conn.clone()))]);
        let answer = self.ask("load-conn", message, Duration::ZERO).await?;
        accepted(&answer, || format!("load connection {}", printable(name)))
    }

    /// `false`: it was not loaded.
    pub async fn unload_conn(&mut self, name: &str) -> Result<bool> {
        let answer = self.ask("unload-conn", message::of([("name", name)]), Duration::ZERO).await?;
        found(&answer, || format!("unload connection {}", printable(name)))
    }

    /// Loads or replaces the shared key `id`.
    pub async fn load_shared(&mut self, id: &str, shared: &Shared) -> Result<()> {
        let answer = self.ask("load-shared", message::LoadShared::new(id, shared), Duration::ZERO).await?;
        accepted(&answer, || format!("load secret {}", printable(id)))
    }

    /// charon does not say whether it was loaded: [`Vici::shared_ids`] does.
    pub async fn unload_shared(&mut self, id: &str) -> Result<()> {
        let answer = self.ask("unload-shared", message::of([("id", id)]), Duration::ZERO).await?;
        accepted(&answer, || format!("unload secret {}", printable(id)))
    }

    /// The ids of all private keys, foreign ones included.
    pub async fn key_ids(&mut self) -> Result<BTreeSet<String>> {
        let answer = self.ask("get-keys", Tree::new(), Duration::ZERO).await?;
        Ok(message::list(&answer, "keys").into_iter().collect())
    }

    /// Loads a private key, `text` being its PEM.
    pub async fn load_key(&mut self, text: &Secret) -> Result<()> {
        let answer = self.ask("load-key", message::LoadKey::new(text), Duration::ZERO).await?;
        accepted(&answer, || "load private key".into())
    }

    /// `false`: it was not loaded.
    pub async fn unload_key(&mut self, id: &str) -> Result<bool> {
        let answer = self.ask("unload-key", message::of([("id", id)]), Duration::ZERO).await?;
        found(&answer, || format!("unload private key {}", printable(id)))
    }

    /// Initiates a CHILD_SA, or without `child` the IKE_SA alone. With `wait`, until it is there or has failed; without,
    /// only until charon has begun. A waiting call holds charon's threads: eight of them at once stop 5.9.8 for
    /// everything until they return.
    pub async fn initiate(&mut self, ike: &str, child: Option<&str>, wait: Option<Duration>) -> Result<()> {
        let mut message = message::of([("ike", ike), ("loglevel", "-1"), ("timeout", &millis(wait))]);
        message.extend(child.iter().flat_map(|child| message::of([("child", *child)])));
        let answer = self.ask("initiate", message, wait.unwrap_or_default()).await?;
        accepted(&answer, || format!("initiate {} of {}", printable(child.unwrap_or("the IKE_SA")), printable(ike)))
    }

    /// Ends SAs; `false`: there were none. Without `wait`, returns once the DELETE is sent. `force` ends an IKE_SA
    /// whose peer does not answer: after `wait`, or at once without it. charon 5.9.8 then drops the SA and still says
    /// "terminating SA failed", so with `force` that is no error: whether the SA is gone, the caller must look.
    pub async fn terminate(&mut self, target: Target<'_>, force: bool, wait: Option<Duration>) -> Result<bool> {
        let mut message = message::of([("loglevel", "-1"), ("timeout", &millis(wait))]);
        message.extend(match target {
            Target::Ike(ike) => message::of([("ike", ike)]),
            Target::IkeId(id) => message::of([("ike-id", &id.to_string())]),
            Target::ChildId(id) => message::of([("child-id", &id.to_string())]),
            Target::Child { ike, child } => message::of([("ike", ike), ("child", child)]),
        });
        if force {
            message.extend(message::of([("force", "yes")]));
        }
        // charon ends the SAs one after the other, each with the whole timeout.
        let answer = self.ask("terminate", message, wait.unwrap_or_default() * 4).await?;
        if message::text(&answer, "matches") == Some("0") {
            return Ok(false);
        }
        if force && message::text(&answer, "errmsg") == Some("terminating SA failed") {
            return Ok(true);
        }
        accepted(&answer, || format!("terminate {target:?}")).map(|()| true)
    }

    async fn ask(&mut self, command: &str, message: impl Serialize, wait: Duration) -> Result<Tree> {
        let limit = self.timeout + wait;
        self.bounded(command, limit, async |client| client.request(command, message).await).await
    }

    /// Every section of every event, turned into what is kept of it as it comes: thousands of them as trees would be most
    /// of a pass's memory.
    async fn stream<T, All: Default + Extend<T>>(
        &mut self,
        command: &str,
        event: &str,
        message: Tree,
        keep: impl Fn((&String, &Tree)) -> T,
    ) -> Result<All> {
        let limit = self.timeout;
        self.bounded(command, limit, async |client| {
            let events = client.stream_request::<Tree, Tree>(command, event, message);
            pin_mut!(events);
            let mut all = All::default();
            while let Some(event) = events.try_next().await? {
                all.extend(message::sections(&event).map(&keep));
            }
            Ok(all)
        })
        .await
    }

    async fn bounded<T>(
        &mut self,
        command: &str,
        limit: Duration,
        request: impl AsyncFnOnce(&mut rsvici::Client) -> std::result::Result<T, rsvici::Error>,
    ) -> Result<T> {
        let failed = |cause: String| {
            Error::observe(format!("ask charon at {} for {command}", self.socket.display())).because(cause)
        };
        // Taken out, put back only after an answer: an error, or a caller that stops waiting, closes the connection.
        let Some(mut open) = self.open.take() else { return Err(failed("this connection has failed before".into())) };
        let outcome = tokio::select! {
            _ = &mut open.closed => Err(failed("charon hung up".into())),
            answer = time::timeout(limit, request(&mut open.client)) => match answer {
                Ok(answer) => answer.map_err(|e| failed(e.to_string())),
                Err(_) => Err(failed(format!("no answer in {} s", limit.as_secs()))),
            },
        };
        if outcome.is_ok() {
            self.open = Some(open);
        }
        outcome
    }

    fn odd(&self, command: &str) -> Error {
        Error::observe(format!("ask charon at {} for {command}: not the answer we know", self.socket.display()))
    }
}

/// VICI's timeout: milliseconds, 0 forever (never sent), -1 not at all.
fn millis(wait: Option<Duration>) -> String {
    wait.map_or("-1".into(), |w| w.as_millis().clamp(1, i32::MAX as u128).to_string())
}

fn accepted(answer: &Tree, what: impl FnOnce() -> String) -> Result<()> {
    match message::text(answer, "success") {
        Some("yes") => Ok(()),
        _ => Err(Error::new(Kind::Apply, what()).because(reason(answer))),
    }
}

fn found(answer: &Tree, what: impl FnOnce() -> String) -> Result<bool> {
    match message::text(answer, "errmsg") {
        Some(e) if e.ends_with("not found") => Ok(false),
        _ => accepted(answer, what).map(|()| true),
    }
}

fn reason(answer: &Tree) -> String {
    message::text(answer, "errmsg").map_or("charon gave no reason".into(), plain)
}

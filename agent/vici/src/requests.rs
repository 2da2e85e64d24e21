//! The requests that crosswan makes of charon, with values of crosswan-core.
//!
//! Their errors are crosswan's: of kind `Observe` where charon gave no answer, so that nobody knows what became of the request, and
//! of kind `Apply` where it refused.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crosswan_core::{
    error::Result,
    model::{Secret, plain, printable},
    swanctl::{Shared, Summary, Tree},
    system::Sa,
};
use tokio::time::sleep;

use crate::{
    client::Vici,
    error::{self, Error},
    message::Message,
    values::{self, ago, millis},
};

/// How often [`Vici::all_sas`] looks at most: charon works on an SA for some milliseconds, on a busy machine for some tens of them.
const LOOKS: u32 = 3;
/// The time between two of these looks.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The SAs that [`Vici::terminate`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sas<'a> {
    /// Every IKE_SA of the connection of this name.
    OfConnection(&'a str),
    /// The IKE_SA with this unique id.
    Ike(u32),
    /// The CHILD_SA with this unique id.
    Child(u32),
}

impl fmt::Display for Sas<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sas::OfConnection(conn) => write!(f, "every IKE_SA of {}", printable(conn)),
            Sas::Ike(id) => write!(f, "IKE_SA {id}"),
            Sas::Child(id) => write!(f, "CHILD_SA {id}"),
        }
    }
}

impl Vici {
    /// charon's version, as in `5.9.8`.
    pub async fn version(&mut self) -> Result<String> {
        let answer = self.ask("version", Message::new()).await?;
        Ok(answer.text("version").map(Cow::into_owned).ok_or_else(|| self.unexpected("version"))?)
    }

    /// The key exchange methods that charon has plugins for, as in `CURVE_25519`. Its version does not say: Debian 13's
    /// 6.0.1 has no ML-KEM.
    pub async fn key_exchanges(&mut self) -> Result<BTreeSet<String>> {
        let answer = self.ask("get-algorithms", Message::new()).await?;
        // The section is `dh` until 5.9 and `ke` since 6.0.
        let sections = ["ke", "dh"].into_iter().filter_map(|name| answer.section(name));
        Ok(sections.flat_map(|methods| methods.iter().map(|(name, _)| name.to_owned())).collect())
    }

    /// How long charon has been running: exact to the second below two minutes, then in charon's coarser unit, rounded down.
    pub async fn uptime(&mut self) -> Result<Duration> {
        let answer = self.ask("stats", Message::new()).await?;
        let running = answer.section("uptime").and_then(|uptime| ago(&uptime.text("running")?));
        Ok(running.ok_or_else(|| self.unexpected("stats"))?)
    }

    /// Every loaded connection, foreign ones included.
    pub async fn list_conns(&mut self) -> Result<BTreeMap<String, Summary>> {
        let mut all = BTreeMap::new();
        let keep = |event: Message| {
            all.extend(event.sections().map(|(name, conn)| (name.to_owned(), Summary::of(&values::tree(conn)))));
        };
        self.stream("list-conns", "list-conn", Message::new(), keep).await?;
        Ok(all)
    }

    /// Every IKE_SA with its CHILD_SAs. One that charon is working on at this moment is left out (`noblock`):
    /// a single look does not prove that an SA is gone, which [`Vici::all_sas`] does.
    pub async fn sas(&mut self) -> Result<Vec<Sa>> {
        let mut all = Vec::new();
        let keep = |event: Message| all.extend(event.sections().map(|(name, sa)| values::ike_sa(name, sa)));
        self.stream("list-sas", "list-sa", Message::new().with("noblock", "yes"), keep).await?;
        Ok(all)
    }

    /// As [`Vici::sas`], with further looks until `complete` says that nothing is missing, or charon that it has no more than it has listed:
    /// at most three in half a second. An SA that one of them has shown is there, unless it was on its way out. Whoever acts on a missing SA,
    /// or reports one, asks this.
    pub async fn all_sas(&mut self, complete: impl Fn(&[Sa]) -> bool) -> Result<Vec<Sa>> {
        let mut all: Vec<Sa> = Vec::new();
        for look in 1..=LOOKS {
            let now = self.sas().await?;
            let listed = now.len();
            all.retain(|seen| seen.state != "DELETING" && now.iter().all(|sa| sa.id != seen.id));
            all.extend(now);
            if look == LOOKS || complete(&all) || listed >= self.ike_sas().await? {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(all)
    }

    /// How many IKE_SAs charon has, those included that it is working on.
    async fn ike_sas(&mut self) -> Result<usize> {
        let answer = self.ask("stats", Message::new()).await?;
        let total = answer.section("ikesas").and_then(|sas| sas.text("total")?.parse().ok());
        Ok(total.ok_or_else(|| self.unexpected("stats"))?)
    }

    /// The ids of all shared keys loaded over VICI, foreign ones included.
    pub async fn shared_ids(&mut self) -> Result<BTreeSet<String>> {
        self.ids("get-shared").await
    }

    /// The ids of all private keys, foreign ones included.
    pub async fn key_ids(&mut self) -> Result<BTreeSet<String>> {
        self.ids("get-keys").await
    }

    /// Loads or replaces one connection; `conn` comes from [`crosswan_core::swanctl::connections`].
    pub async fn load_conn(&mut self, name: &str, conn: &Tree) -> Result<()> {
        let answer = self.ask("load-conn", Message::new().with_section(name, conn.into())).await?;
        Ok(accepted(&answer, || format!("load connection {}", printable(name)))?)
    }

    /// Unloads a connection; its SAs stay. Returns `false` if it was not loaded.
    pub async fn unload_conn(&mut self, name: &str) -> Result<bool> {
        let answer = self.ask("unload-conn", Message::new().with("name", name)).await?;
        Ok(found(&answer, || format!("unload connection {}", printable(name)))?)
    }

    /// Loads or replaces the shared key `id`.
    pub async fn load_shared(&mut self, id: &str, shared: &Shared) -> Result<()> {
        let message = Message::new().with("id", id).with("type", "IKE").with("data", shared.secret.bytes());
        let answer = self.ask("load-shared", message.with_list("owners", &shared.owners)).await?;
        Ok(accepted(&answer, || format!("load secret {}", printable(id)))?)
    }

    /// Unloads the shared key `id`. charon does not say whether it was loaded; [`Vici::shared_ids`] does.
    pub async fn unload_shared(&mut self, id: &str) -> Result<()> {
        let answer = self.ask("unload-shared", Message::new().with("id", id)).await?;
        Ok(accepted(&answer, || format!("unload secret {}", printable(id)))?)
    }

    /// Loads a private key; `text` is its PEM, which names its type.
    pub async fn load_key(&mut self, text: &Secret) -> Result<()> {
        let answer = self.ask("load-key", Message::new().with("type", "any").with("data", text.bytes())).await?;
        Ok(accepted(&answer, || "load private key".into())?)
    }

    /// Unloads the private key `id`. Returns `false` if it was not loaded.
    pub async fn unload_key(&mut self, id: &str) -> Result<bool> {
        let answer = self.ask("unload-key", Message::new().with("id", id)).await?;
        Ok(found(&answer, || format!("unload private key {}", printable(id)))?)
    }

    /// Initiates a CHILD_SA, or without `child` the IKE_SA alone. With `wait`, it returns when the SA is established or has failed;
    /// without, as soon as charon has begun. A waiting call holds charon's threads: eight of them at once stop 5.9.8 for
    /// everything until they return.
    pub async fn initiate(&mut self, ike: &str, child: Option<&str>, wait: Option<Duration>) -> Result<()> {
        let mut message = Message::new().with("ike", ike).with("loglevel", "-1").with("timeout", millis(wait));
        if let Some(child) = child {
            message = message.with("child", child);
        }
        let answer = self.request("initiate", message, wait.unwrap_or_default()).await?;
        let what = || format!("initiate {} of {}", printable(child.unwrap_or("the IKE_SA")), printable(ike));
        Ok(accepted(&answer, what)?)
    }

    /// Ends SAs. Returns `false` if there were none. Without `wait`, it returns once the DELETE is sent. `force` ends an IKE_SA
    /// whose peer does not answer: after `wait`, or at once without it. charon 5.9.8 then drops the SA and still says
    /// "terminating SA failed", so with `force` that is not an error, and the caller must look whether the SA is gone.
    pub async fn terminate(&mut self, sas: Sas<'_>, force: bool, wait: Option<Duration>) -> Result<bool> {
        let message = Message::new().with("loglevel", "-1").with("timeout", millis(wait));
        let mut message = match sas {
            Sas::OfConnection(conn) => message.with("ike", conn),
            Sas::Ike(id) => message.with("ike-id", id.to_string()),
            Sas::Child(id) => message.with("child-id", id.to_string()),
        };
        if force {
            message = message.with("force", "yes");
        }
        // charon ends the SAs one after the other, and each may take the whole timeout.
        let answer = self.request("terminate", message, wait.unwrap_or_default() * 4).await?;
        if answer.text("matches").is_some_and(|matches| matches == "0") {
            return Ok(false);
        }
        if force && answer.text("errmsg").is_some_and(|e| e == "terminating SA failed") {
            return Ok(true);
        }
        accepted(&answer, || format!("terminate {sas}"))?;
        Ok(true)
    }

    async fn ask(&mut self, command: &str, message: Message) -> error::Result<Message> {
        self.request(command, message, Duration::ZERO).await
    }

    async fn ids(&mut self, command: &str) -> Result<BTreeSet<String>> {
        Ok(self.ask(command, Message::new()).await?.list("keys").map(Cow::into_owned).collect())
    }
}

fn accepted(answer: &Message, what: impl FnOnce() -> String) -> error::Result<()> {
    match answer.text("success") {
        Some(success) if success == "yes" => Ok(()),
        _ => {
            let reason = answer.text("errmsg").map_or("charon gave no reason".into(), |reason| plain(&reason));
            Err(Error::Refused { what: what(), reason })
        }
    }
}

fn found(answer: &Message, what: impl FnOnce() -> String) -> error::Result<bool> {
    match answer.text("errmsg") {
        Some(reason) if reason.ends_with("not found") => Ok(false),
        _ => accepted(answer, what).map(|()| true),
    }
}

//! The pre-shared keys that lie in SSM Parameter Store or Secrets Manager, fetched at each pass.
//!
//! Each name gets its key, or the store's explicit answer that there is none, or the reason why it could not be asked. In the last
//! case the key in use stays. A fetched key is used as a key from a file is, and is never written to a file of its own.
//! SDK types go no further than this module: [`parameter`] and [`secret`] ask one store each, [`location`] has what they share.

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for all names")]

mod location;
mod parameter;
mod secret;

use std::{collections::BTreeSet, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_ec2::config::Credentials;
use tokio::time::{Instant, timeout_at};

use self::location::Location;
use super::ec2::Clients;
use crosswan_core::{
    model::{AskError, Region},
    settings::{Fetched, Service, StoredPsk},
};

/// The store that `stored` names in one region, ready to be asked.
pub struct Store<'a> {
    location: Location<'a>,
    client: Client,
}

enum Client {
    Parameters(aws_sdk_ssm::Client),
    Secrets(aws_sdk_secretsmanager::Client),
}

impl<'a> Store<'a> {
    /// The store of `stored` in `region`, with the configuration and credentials that all clients share.
    pub fn new(shared: &(SdkConfig, Credentials), stored: &'a StoredPsk, region: &'a Region) -> Store<'a> {
        let client = match stored.service {
            Service::Parameter => Client::Parameters(parameter::client(shared, region)),
            Service::Secret => Client::Secrets(secret::client(shared, region)),
        };
        Store { location: Location { stored, region }, client }
    }

    /// Asks for the keys under `names`, as many at once as one call takes. Afterwards each name has an entry in `fetched`.
    pub async fn fetch(&self, names: &[String], fetched: &mut Fetched) {
        let at_once = match self.client {
            Client::Parameters(_) => parameter::AT_ONCE,
            Client::Secrets(_) => secret::AT_ONCE,
        };
        for batch in names.chunks(at_once) {
            let answer = match &self.client {
                Client::Parameters(client) => parameter::ask(client, self.location, batch).await,
                Client::Secrets(client) => secret::ask(client, self.location, batch).await,
            };
            match answer {
                Ok(answered) => fetched.extend(answered),
                // The next batch may fare better: a role may be allowed to read some of them.
                Err(why) => {
                    fetched.extend(batch.iter().map(|name| (name.clone(), Err(self.location.unasked(why.clone())))))
                }
            }
        }
    }
}

/// Asks for the keys under `names`, in `stored`'s region or else in `own`. Takes no longer than `timeout`, credentials and
/// retries included. Each name has an entry in the result.
///
/// Calls are made one after the other: SSM allows 40 calls a second, so 3,000 names take about ten seconds (`docs/facts.md`,
/// "Keys in AWS").
pub async fn fetch(
    clients: &Clients,
    stored: &StoredPsk,
    names: &BTreeSet<String>,
    own: &Region,
    timeout: Duration,
) -> Fetched {
    let region = stored.region.as_ref().unwrap_or(own);
    let mut fetched = Fetched::new();
    if names.is_empty() {
        return fetched;
    }
    let deadline = Instant::now() + timeout;
    let asked = async {
        let store = Store::new(clients.shared(region, timeout, deadline).await?, stored, region);
        let names: Vec<String> = names.iter().cloned().collect();
        store.fetch(&names, &mut fetched).await;
        Ok(())
    };
    let ended = timeout_at(deadline, asked).await.unwrap_or(Err(AskError::TimedOut { after: timeout }));
    if let Err(why) = ended {
        let location = Location { stored, region };
        for name in names {
            fetched.entry(name.clone()).or_insert_with(|| Err(location.unasked(why.clone())));
        }
    }
    fetched
}

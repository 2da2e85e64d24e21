//! The pre-shared keys that lie in SSM Parameter Store or Secrets Manager, fetched at each pass.
//!
//! A name brings its key, or the store's own word that there is none, or why it could not be asked: in the last case the
//! key in use stays. What is fetched goes where keys from files go, and nowhere else.
//! SDK types end in this module: [`parameter`] and [`secret`] ask one store each, [`place`] has what they share.

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for all names")]

mod parameter;
mod place;
mod secret;

use std::{collections::BTreeSet, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_ec2::config::Credentials;
use tokio::time::{Instant, timeout_at};

use self::place::Place;
use super::ec2::Session;
use crosswan_core::{
    model::{AskError, Region},
    settings::{Fetched, Service, StoredPsk},
};

/// The store that `stored` names in one region, ready to be asked.
pub struct Store<'a> {
    place: Place<'a>,
    client: Client,
}

enum Client {
    Parameters(aws_sdk_ssm::Client),
    Secrets(aws_sdk_secretsmanager::Client),
}

impl<'a> Store<'a> {
    /// With what the clients of all regions share.
    pub fn new(shared: &(SdkConfig, Credentials), stored: &'a StoredPsk, region: &'a Region) -> Store<'a> {
        let client = match stored.service {
            Service::Parameter => Client::Parameters(parameter::client(shared, region)),
            Service::Secret => Client::Secrets(secret::client(shared, region)),
        };
        Store { place: Place { stored, region }, client }
    }

    /// Asks for the keys under `names`, as many as one call takes after the other. Each name has an entry.
    pub async fn fetch(&self, names: &[String], fetched: &mut Fetched) {
        let at_once = match self.client {
            Client::Parameters(_) => parameter::AT_ONCE,
            Client::Secrets(_) => secret::AT_ONCE,
        };
        for batch in names.chunks(at_once) {
            let answer = match &self.client {
                Client::Parameters(client) => parameter::ask(client, self.place, batch).await,
                Client::Secrets(client) => secret::ask(client, self.place, batch).await,
            };
            match answer {
                Ok(answered) => fetched.extend(answered),
                // The next batch may fare better: a role may be allowed to read some of them.
                Err(why) => {
                    fetched.extend(batch.iter().map(|name| (name.clone(), Err(self.place.unasked(why.clone())))))
                }
            }
        }
    }
}

/// Asks for the keys under `names`, in `stored`'s region or else in `own`. Takes no longer than `timeout`, credentials and
/// retries included. Each name has an entry.
///
/// One call after the other: SSM allows 40 calls a second, so that 3,000 names take some ten seconds (`docs/facts.md`,
/// "Keys in AWS").
pub async fn fetch(
    session: &Session,
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
        let store = Store::new(session.shared(region, timeout, deadline).await?, stored, region);
        let names: Vec<String> = names.iter().cloned().collect();
        store.fetch(&names, &mut fetched).await;
        Ok(())
    };
    let ended = timeout_at(deadline, asked).await.unwrap_or(Err(AskError::TimedOut { after: timeout }));
    if let Err(why) = ended {
        let place = Place { stored, region };
        for name in names {
            fetched.entry(name.clone()).or_insert_with(|| Err(place.unasked(why.clone())));
        }
    }
    fetched
}

//! The pre-shared keys that lie in SSM Parameter Store or Secrets Manager, fetched at each pass.
//!
//! A name brings its key, or the store's own word that there is none, or why it could not be asked: in the last case the
//! key in use stays. What is fetched goes where keys from files go, and nowhere else.

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for all names")]

mod answer;
mod call;
mod place;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use self::call::{Failure, Found, Store};
pub use self::{answer::answered, place::Place};
use super::ec2::Session;
use crosswan_core::{
    model::Region,
    settings::{Fetched, Service, StoredKey},
};

/// Names that one GetParameters takes.
const PARAMETERS: usize = 10;
/// Names that one BatchGetSecretValue takes.
const SECRETS: usize = 20;

/// Asks for the keys under `names`, in `stored`'s region or else in `own`. Takes no longer than `timeout`, credentials and
/// retries included. Each name has an entry.
///
/// One call after the other: SSM allows 40 calls a second, so that 3,000 names take some ten seconds (`docs/facts.md`,
/// "Keys in AWS").
pub async fn fetch(
    session: &Session,
    stored: &StoredKey,
    names: &BTreeSet<String>,
    own: &Region,
    timeout: Duration,
) -> Fetched {
    let place = Place { stored, region: stored.region.as_ref().unwrap_or(own) };
    let mut fetched = Fetched::new();
    if names.is_empty() {
        return fetched;
    }
    let deadline = Instant::now() + timeout;
    let asked = async {
        let store = Store::connect(session, place, timeout, deadline).await?;
        let names: Vec<String> = names.iter().cloned().collect();
        let at_once = if stored.service == Service::Parameter { PARAMETERS } else { SECRETS };
        for batch in names.chunks(at_once) {
            match ask(&store, batch).await {
                Ok(answered) => fetched.extend(answered),
                // The next batch may fare better: a role may be allowed to read some of them.
                Err(why) => fetched.extend(batch.iter().map(|name| (name.clone(), Err(place.unasked(&why))))),
            }
        }
        Ok(())
    };
    let ended = timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(format!("timed out after {timeout:?}")));
    if let Err(why) = ended {
        for name in names {
            fetched.entry(name.clone()).or_insert_with(|| Err(place.unasked(&why)));
        }
    }
    fetched
}

/// One batch: an entry for each of its names, or why the store could not be asked.
async fn ask(store: &Store<'_>, names: &[String]) -> Result<Fetched, String> {
    let (operation, body) = match (store.place.stored.service, names) {
        (Service::Parameter, _) => (answer::PARAMETERS, json!({ "Names": names, "WithDecryption": true })),
        // One permission less than a batch needs, and all that a gateway asks that is no hub.
        (Service::Secret, [name]) => (answer::SECRET, json!({ "SecretId": name })),
        (Service::Secret, _) => (answer::SECRETS, json!({ "SecretIdList": names })),
    };
    match (store.call(operation, body).await, names) {
        (Ok(Found(found)), _) => answered(store.place, &found, names),
        (Err(Failure { code, reason }), [name]) if operation == answer::SECRET => {
            Ok(Fetched::from([(name.clone(), Err(answer::no_secret(store.place, name, &code, &reason)))]))
        }
        (Err(failure), _) => Err(failure.reason),
    }
}

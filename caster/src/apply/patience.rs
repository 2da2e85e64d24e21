//! When a call is made again, and how long a state is waited for.

use std::{future::Future, time::Duration};

use aws_sdk_ec2::types::Filter;
use tokio::time::{Instant, sleep};

use super::context::Apply;
use crate::{
    aws::{Failure, Kind, listed},
    part::{CAST, PART, Part, Tags},
};

/// What was just made may not be seen everywhere for some seconds (EC2 Developer Guide, "Eventual consistency").
const UNSEEN: Duration = Duration::from_secs(60);
/// After the SDK's own attempts.
const THROTTLED: Duration = Duration::from_secs(120);
/// A call whose effect nobody knows.
const UNCLEAR: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pauses that grow.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub fn new() -> Self {
        Pauses(FIRST_PAUSE)
    }
    pub async fn pause(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

impl Apply<'_> {
    /// A call that may be made twice with the effect of once, again as long as its kind of failure can pass.
    pub(super) async fn persist<T, F>(&self, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (started, mut pauses, mut unclear) = (Instant::now(), Pauses::new(), 0);
        loop {
            let failure = match call().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let again = match failure.kind {
                Kind::NotFound => !self.ledger.is_empty() && started.elapsed() < UNSEEN,
                Kind::Busy => started.elapsed() < UNSEEN,
                Kind::Throttled => started.elapsed() < THROTTLED,
                Kind::Unclear => {
                    unclear += 1;
                    unclear < UNCLEAR
                }
                Kind::Exists | Kind::Denied | Kind::Refused => false,
            };
            if !again {
                return Err(failure);
            }
            self.progress.waiting(&failure.to_string());
            pauses.pause().await;
        }
    }

    /// A call that makes something and for which EC2 takes no client token. After a failure that leaves open whether it took effect
    /// the thing is looked for by its tags before another is made. Gives its id.
    pub(super) async fn make<F>(&self, part: &Part, tags: &Tags, call: impl Fn() -> F) -> Result<String, Failure>
    where
        F: Future<Output = Result<String, Failure>>,
    {
        let (started, mut pauses, mut unclear) = (Instant::now(), Pauses::new(), 0);
        let id = loop {
            let failure = match call().await {
                Ok(id) => break id,
                Err(failure) => failure,
            };
            match failure.kind {
                Kind::Throttled if started.elapsed() < THROTTLED => {}
                Kind::NotFound if !self.ledger.is_empty() && started.elapsed() < UNSEEN => {}
                Kind::Unclear if unclear < UNCLEAR => {
                    unclear += 1;
                    // Long enough for the tags of what was made to be seen.
                    sleep(Duration::from_secs(2)).await;
                    if let Some(id) = self.tagged(tags).await?.into_iter().next() {
                        break id;
                    }
                }
                _ => return Err(failure),
            }
            self.progress.waiting(&failure.to_string());
            pauses.pause().await;
        };
        self.ledger.note(part, &id);
        Ok(id)
    }

    /// Ids of EC2's resources with both of a part's tags, sorted.
    pub(super) async fn tagged(&self, tags: &Tags) -> Result<Vec<String>, Failure> {
        let mut ids: Option<Vec<String>> = None;
        for key in [CAST, PART] {
            let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
            let value = tags.get(key).map(String::as_str).unwrap_or_default();
            let call = self.aws.ec2.describe_tags().filters(filter("key", key)).filters(filter("value", value));
            let found = listed!("ec2:DescribeTags", call, tags).await?;
            let mut found: Vec<String> = found.into_iter().filter_map(|t| t.resource_id).collect();
            found.retain(|id| ids.as_ref().is_none_or(|ids| ids.contains(id)));
            ids = Some(found);
        }
        let mut ids = ids.unwrap_or_default();
        ids.sort();
        Ok(ids)
    }

    /// Looks until `look` gives something, at most `longest`. What is waited for shows in the heartbeat.
    ///
    /// # Errors
    /// The time is over, or `look` failed for good.
    pub(super) async fn wait_for<T, F>(&self, what: &str, longest: Duration, look: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Option<T>, Failure>>,
    {
        let (started, mut pauses) = (Instant::now(), Pauses::new());
        self.progress.waiting(what);
        loop {
            if let Some(found) = self.persist(&look).await? {
                return Ok(found);
            }
            if started.elapsed() > longest {
                return Err(Failure::waited(format!("waited {} s for {what}; cast again to go on", longest.as_secs())));
            }
            pauses.pause().await;
        }
    }
}

//! charon's events, on a separate connection: a slow request must not delay them, and they must not delay a request.

use std::{collections::VecDeque, path::Path, time::Duration};

use tokio::time;

use crate::{
    client::Wire,
    codec::Packet,
    error::{Error, Failure, Result},
    message::Message,
};

/// Something that charon reports without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's name, as in [`Events::subscribe`].
    pub name: String,
    /// Its content.
    pub message: Message,
}

/// A subscription to some of charon's events.
#[derive(Debug)]
pub struct Events {
    wire: Wire,
    /// What came while the subscription was still being made.
    early: VecDeque<Event>,
}

impl Events {
    /// Connects to charon's socket and subscribes to the events of these names (`ike-updown`, `child-updown`, `log`, …).
    /// `timeout` bounds each of the two.
    pub async fn subscribe(socket: &Path, names: &[&str], timeout: Duration) -> Result<Events> {
        let mut wire = Wire::connect(socket, timeout).await?;
        let mut early = VecDeque::new();
        let subscribed = async {
            for name in names {
                let event = |name, message| early.push_back(Event { name, message });
                wire.confirmed(Packet::Register((*name).to_owned()), name, event).await?;
            }
            Ok(())
        };
        match time::timeout(timeout, subscribed).await {
            Ok(Ok(())) => Ok(Events { wire, early }),
            Ok(Err(failure)) => Err(Error::Listen(failure)),
            Err(_) => Err(Error::Listen(Failure::TimedOut(timeout))),
        }
    }

    /// Waits for the next event, for ever if need be; cancelling loses none. After an error, a new subscription is needed.
    pub async fn next(&mut self) -> Result<Event> {
        if let Some(event) = self.early.pop_front() {
            return Ok(event);
        }
        match self.wire.receive().await {
            Ok(Packet::Event { name, message }) => Ok(Event { name, message }),
            Ok(_) => Err(Error::Listen(Failure::Unexpected)),
            Err(failure) => Err(Error::Listen(failure)),
        }
    }

    /// Waits until there has been no event for `quiet`, but no longer than ten times that.
    pub async fn settle(&mut self, quiet: Duration) -> Result<()> {
        let burst = async {
            while let Ok(event) = time::timeout(quiet, self.next()).await {
                event?;
            }
            Ok(())
        };
        time::timeout(quiet * 10, burst).await.unwrap_or(Ok(()))
    }
}

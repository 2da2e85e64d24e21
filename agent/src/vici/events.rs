//! charon's events, on a connection of their own: a slow request must not hold them up, nor they a request.

use std::{path::Path, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use tokio::{sync::oneshot, time};

use super::Open;
use crosswan_core::{
    error::{Error, Result},
    swanctl::Tree,
};

/// IKE_SAs and CHILD_SAs coming up and going down.
pub struct Events {
    stream: Pin<Box<dyn Stream<Item = std::result::Result<Tree, rsvici::Error>> + Send>>,
    closed: oneshot::Receiver<()>,
    /// Its listener feeds the stream.
    _client: rsvici::Client,
}

impl Events {
    /// Connects and registers for `ike-updown` and `child-updown`. Registration completes with the first
    /// [`Events::next`].
    pub async fn connect(socket: &Path, timeout: Duration) -> Result<Events> {
        let Open { mut client, closed } = Open::to(socket, timeout).await?;
        let ike = client.subscribe::<Tree>("ike-updown");
        let child = client.subscribe::<Tree>("child-updown");
        Ok(Events { stream: Box::pin(stream::select(Box::pin(ike), Box::pin(child))), closed, _client: client })
    }

    /// Waits for the next event, without end; cancelling loses none. An error means that charon is gone.
    pub async fn next(&mut self) -> Result<Tree> {
        let gone = |cause: String| Error::observe("listen to charon's events").because(cause);
        if self.closed.is_terminated() {
            return Err(gone("charon hung up before".into()));
        }
        tokio::select! {
            _ = &mut self.closed => Err(gone("charon hung up".into())),
            event = self.stream.next() => match event {
                Some(Ok(event)) => Ok(event),
                Some(Err(e)) => Err(gone(e.to_string())),
                None => Err(gone("the stream ended".into())),
            },
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

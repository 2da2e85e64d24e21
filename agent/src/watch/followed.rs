//! Leads the networks of a far pair to the member that has taken over, as soon as its word is written: without a look at rules, and while a
//! refresh is at work, which may take minutes.

use std::{
    convert::Infallible,
    ffi::OsString,
    io::ErrorKind,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    net::unix::pipe::Receiver,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::both::{POLL, changed, in_words};
use crate::files;
use crosswan_core::{
    error::{Context, Error, Kind, Result},
    system::{Followed, Routing, RoutingChange},
};
use crosswan_netlink::{Events, Netlink, Topic};

/// After a look there is none for so long, so that a storm of events costs a bounded share of a processor.
const REST: Duration = Duration::from_millis(20);

/// Looks at each word, at each change of routes that somebody may have made against it, and now and then.
pub(super) async fn run(followed: &Path, routing: &Path) -> Infallible {
    let mut words =
        Words::open(followed).inspect_err(|e| warn!(reason = %e.chain(), "looking every {POLL:?} instead")).ok();
    let mut routes = Events::subscribe(Topic::Routing).ok();
    let (mut before, mut logged) = (None, None);
    loop {
        let began = Instant::now();
        let failure = look(followed, routing, &mut before).await.err().map(|e| e.chain());
        if failure.is_some() && failure != logged {
            warn!(reason = failure.as_deref().unwrap_or_default(), "a route could not follow the word of its pair");
        }
        logged = failure;
        let spoken_for = before.as_ref().is_some_and(|words: &Followed| !words.is_empty());
        tokio::select! {
            () = new_word(&mut words) => {}
            () = async { sleep(REST.max(began.elapsed() * 4)).await; changed(&mut routes).await }, if spoken_for => {}
            () = sleep(POLL) => {}
        }
    }
}

/// Makes the routes that somebody has spoken for as they should be, and reads them back. A new word is done without a look before.
async fn look(followed: &Path, routing: &Path, before: &mut Option<Followed>) -> Result<()> {
    let words: Followed = files::read_json(followed)?.unwrap_or_default();
    if words.is_empty() {
        *before = Some(words);
        return Ok(());
    }
    let Some((text, _)) = files::read(routing)? else { return Ok(()) };
    let want = words.over(Routing::parse(&text));
    let networks = words.by_network();
    let spoken_for = |routes: &Routing| -> Vec<RoutingChange> {
        let all = networks.keys().filter_map(|net| Some((*net, *want.routes.get(net)?)));
        let wrong = all.filter(|(net, via)| routes.routes.get(net) != Some(via));
        wrong.map(|(net, via)| RoutingChange::SetRoute(net, via)).collect()
    };
    let netlink = Netlink::open()?;
    let known = before.take().unwrap_or_default();
    let known = known.by_network();
    let new = |change: &RoutingChange| match change {
        RoutingChange::SetRoute(net, _) => networks.get(net) != known.get(net),
        _ => false,
    };
    let mut made: Vec<RoutingChange> = spoken_for(&Routing::default()).into_iter().filter(new).collect();
    netlink.changes(&made).await.into_iter().collect::<Result<()>>()?;
    let left = spoken_for(&netlink.look().await?.routing);
    netlink.changes(&left).await.into_iter().collect::<Result<()>>()?;
    made.extend(&left);
    let wrong = if left.is_empty() { left } else { spoken_for(&netlink.look().await?.routing) };
    if !wrong.is_empty() {
        return Err(Error::apply(format!("{}: they were made, and are gone again", in_words(&wrong))));
    }
    if !made.is_empty() {
        info!(what = %in_words(&made), "routes follow the word of their pair");
    }
    *before = Some(words.clone());
    Ok(())
}

/// Tells when the file is written anew, which is a rename.
#[derive(Debug)]
struct Words {
    /// inotify, which tokio does not know; its pipe only waits and calls read(2), which is the same.
    events: Receiver,
    name: OsString,
}

impl Words {
    fn open(file: &Path) -> Result<Words> {
        let failed = || Error::new(Kind::Other, format!("watch for {}", file.display()));
        let (folder, name) = file.parent().zip(file.file_name()).ok_or_else(failed)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context(failed)?;
        inotify.add_watch(folder, AddWatchFlags::IN_MOVED_TO).context(failed)?;
        let fd = inotify.as_fd().try_clone_to_owned().context(failed)?;
        Ok(Words { events: Receiver::from_owned_fd_unchecked(fd).context(failed)?, name: name.to_owned() })
    }

    async fn next(&mut self) -> Result<()> {
        let failed = || Error::new(Kind::Other, format!("watch for {}", self.name.display()));
        let mut events = [0; 4096];
        loop {
            match self.events.try_read(&mut events) {
                // Each event has the name of what it is about (inotify(7)).
                Ok(length) if events[..length].windows(self.name.len()).any(|name| name == self.name.as_bytes()) => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.events.readable().await.context(failed)?,
                Err(e) => return Err(failed().because(e)),
            }
        }
    }
}

/// Returns at the next word, or never if words are not announced.
async fn new_word(words: &mut Option<Words>) {
    let Some(open) = words else { return std::future::pending().await };
    if let Err(e) = open.next().await {
        warn!(reason = %e.chain(), "looking every {POLL:?} instead");
        *words = None;
    }
}

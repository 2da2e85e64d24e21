use std::{
    path::Path,
    time::{Duration, Instant},
};

use crosswan_vici::{Error, Event, Events, Failure, Packet};
use tokio::time::{sleep, timeout};

use crate::charon::{Charon, event, numbered, play};

const LIMIT: Duration = Duration::from_secs(5);
const NAMES: [&str; 2] = ["ike-updown", "child-updown"];

async fn subscribe(socket: &Path) -> Events {
    Events::subscribe(socket, &NAMES, LIMIT).await.unwrap()
}

/// Takes the two registrations and tells one event between them.
async fn register(charon: &mut Charon) {
    for (n, name) in NAMES.iter().enumerate() {
        assert_eq!(charon.hear().await, Some(Packet::Register((*name).into())));
        if n == 1 {
            charon.say(event("ike-updown", 0)).await;
        }
        charon.say(Packet::Confirm).await;
    }
}

fn heard(name: &str, n: usize) -> Event {
    Event { name: name.into(), message: numbered(n) }
}

#[tokio::test]
async fn every_event_is_told_in_order_also_one_from_before_the_last_registration() {
    let charon = async |mut charon: Charon| {
        register(&mut charon).await;
        for n in 1..100 {
            charon.say(event(NAMES[n % 2], n)).await;
        }
        charon.hear().await;
    };
    play(charon, async |socket| {
        let mut events = subscribe(socket).await;
        assert_eq!(events.next().await.unwrap(), heard("ike-updown", 0));
        for n in 1..100 {
            assert_eq!(events.next().await.unwrap(), heard(NAMES[n % 2], n));
        }
    })
    .await;
}

#[tokio::test]
async fn waiting_that_is_cancelled_halfway_through_an_event_loses_none_of_it() {
    let charon = async |mut charon: Charon| {
        register(&mut charon).await;
        for n in 1..20 {
            for byte in event("child-updown", n).encode().unwrap() {
                charon.write(&[byte]).await;
                tokio::task::yield_now().await;
            }
        }
        charon.hear().await;
    };
    play(charon, async |socket| {
        let mut events = subscribe(socket).await;
        assert_eq!(events.next().await.unwrap(), heard("ike-updown", 0));
        let (mut n, mut cancelled) = (1, 0);
        while n < 20 {
            tokio::select! {
                biased;
                event = events.next() => {
                    assert_eq!(event.unwrap(), heard("child-updown", n));
                    n += 1;
                }
                () = tokio::task::yield_now() => cancelled += 1,
            }
            assert!(cancelled < 1_000_000, "event {n} is lost");
        }
        assert!(cancelled > 20, "it was cancelled {cancelled} times: that shows nothing");
    })
    .await;
}

#[tokio::test]
async fn the_end_is_an_error_each_time_it_is_asked_for() {
    let ends = async |mut charon: Charon| {
        register(&mut charon).await;
        charon.write(&event("ike-updown", 1).encode().unwrap()[..9]).await;
    };
    play(ends, async |socket| {
        let mut events = subscribe(socket).await;
        assert_eq!(events.next().await.unwrap(), heard("ike-updown", 0));
        for _ in 0..3 {
            let error = timeout(LIMIT, events.next()).await.expect("an end in time").unwrap_err();
            assert!(matches!(error, Error::Listen(Failure::Closed)), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_that_charon_does_not_know_and_a_silent_charon_are_errors() {
    let unknown = async |mut charon: Charon| {
        charon.hear().await;
        charon.say(Packet::UnknownEvent).await;
        charon.hear().await;
    };
    let error = play(unknown, async |socket| Events::subscribe(socket, &["nosuch"], LIMIT).await.unwrap_err()).await;
    assert!(matches!(error, Error::Listen(Failure::Unknown(event)) if event == "nosuch"));

    let silent = async |mut charon: Charon| while charon.hear().await.is_some() {};
    let short = Duration::from_millis(50);
    let error = play(silent, async |socket| Events::subscribe(socket, &NAMES, short).await.unwrap_err()).await;
    assert!(matches!(error, Error::Listen(Failure::TimedOut(after)) if after == short));
}

#[tokio::test]
async fn a_burst_is_waited_out_and_one_without_an_end_is_not() {
    let quiet = Duration::from_millis(50);
    let bursts = async |mut charon: Charon| {
        register(&mut charon).await;
        for n in 1..5 {
            charon.say(event("ike-updown", n)).await;
            sleep(quiet / 8).await;
        }
        sleep(quiet * 10).await;
        for n in 5..10_000 {
            charon.say(event("ike-updown", n)).await;
            sleep(Duration::from_millis(1)).await;
        }
    };
    play(bursts, async |socket| {
        let mut events = subscribe(socket).await;
        events.settle(quiet).await.unwrap();
        assert_eq!(events.next().await.unwrap(), heard("ike-updown", 5), "the first burst was taken whole");
        let begun = Instant::now();
        events.settle(quiet).await.unwrap();
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
        assert_ne!(events.next().await.unwrap(), heard("ike-updown", 6), "it did wait");
    })
    .await;
}

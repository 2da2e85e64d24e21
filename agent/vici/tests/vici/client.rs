use std::{
    future::poll_fn,
    io,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use crosswan_vici::{Error, Failure, Malformed, Message, Packet, Vici};
use tokio::time::{sleep, timeout};

use crate::charon::{Charon, event, numbered, play, request};

const LIMIT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(100);
/// By when a test that waits for an end or an error has it.
const SOON: Duration = Duration::from_secs(2);

async fn open(socket: &Path) -> Vici {
    Vici::connect(socket, LIMIT).await.unwrap()
}

async fn version(vici: &mut Vici) -> Result<Message, Error> {
    vici.request("version", Message::new(), Duration::ZERO).await
}

async fn stream(vici: &mut Vici) -> Result<Vec<Message>, Error> {
    let mut all = Vec::new();
    vici.stream("list-sas", "list-sa", Message::new(), |message| all.push(message)).await?;
    Ok(all)
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Ask { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

/// Answers whatever is asked.
async fn answer_all(mut charon: Charon) {
    while let Some(packet) = charon.hear().await {
        match packet {
            Packet::Request { .. } => charon.say(Packet::Response(numbered(1))).await,
            _ => charon.say(Packet::Confirm).await,
        }
    }
}

#[tokio::test]
async fn requests_are_answered_one_after_the_other() {
    let charon = async |mut charon: Charon| {
        for n in 0..3 {
            assert_eq!(charon.hear().await, Some(request("version")));
            charon.say(Packet::Response(numbered(n))).await;
        }
    };
    play(charon, async |socket| {
        let mut vici = open(socket).await;
        for n in 0..3 {
            assert_eq!(version(&mut vici).await.unwrap(), numbered(n));
            assert!(vici.is_open());
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_registered_read_to_its_end_and_unregistered() {
    let charon = async |mut charon: Charon| {
        for _ in 0..2 {
            assert_eq!(charon.hear().await, Some(Packet::Register("list-sa".into())));
            charon.say(Packet::Confirm).await;
            assert_eq!(charon.hear().await, Some(request("list-sas")));
            for n in 0..500 {
                charon.say(event("list-sa", n)).await;
                charon.say(event("another", n)).await;
            }
            charon.say(Packet::Response(Message::new())).await;
            assert_eq!(charon.hear().await, Some(Packet::Unregister("list-sa".into())));
            charon.say(Packet::Confirm).await;
        }
    };
    play(charon, async |socket| {
        let mut vici = open(socket).await;
        for _ in 0..2 {
            assert_eq!(stream(&mut vici).await.unwrap(), (0..500).map(numbered).collect::<Vec<_>>());
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_in_two_pieces_reads_the_same_wherever_it_is_cut() {
    let answer = Packet::Response(Message::new().with_section("s", numbered(1)).with_list("l", ["a", "b"]));
    let bytes = [event("list-sa", 7), answer, Packet::Confirm].map(|packet| packet.encode().unwrap()).concat();
    for at in 1..bytes.len() {
        let (first, rest) = bytes.split_at(at);
        let charon = async |mut charon: Charon| {
            charon.hear().await;
            charon.say(Packet::Confirm).await;
            charon.hear().await;
            charon.write(first).await;
            sleep(Duration::from_millis(1)).await;
            charon.write(rest).await;
            charon.hear().await;
        };
        let read = play(charon, async |socket| stream(&mut open(socket).await).await.unwrap()).await;
        assert_eq!(read, [numbered(7)], "cut at {at}");
    }
}

#[tokio::test]
async fn after_a_cancelled_request_no_late_answer_is_taken_for_the_next_ones() {
    // The answer is cut everywhere: the request is given up with that much of it received.
    let late = Packet::Response(numbered(99)).encode().unwrap();
    for at in 0..late.len() {
        let charon = async |mut charon: Charon| match charon.hear().await {
            Some(packet) if packet == request("slow") => {
                charon.write(&late[..at]).await;
                if charon.hear().await.is_some() {
                    charon.write(&late[at..]).await;
                }
            }
            _ => charon.say(Packet::Response(numbered(1))).await,
        };
        play(charon, async |socket| {
            let mut vici = open(socket).await;
            let slow = vici.request("slow", Message::new(), Duration::ZERO);
            timeout(Duration::from_millis(2), slow).await.expect_err("only a part of the answer has come");
            assert!(!vici.is_open());
            assert!(matches!(failure(version(&mut vici).await.unwrap_err()), Failure::Broken), "cut at {at}");
            vici.reopen().await.unwrap();
            assert_eq!(version(&mut vici).await.unwrap(), numbered(1), "cut at {at}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_before_it_was_polled_leaves_the_connection_as_it_was() {
    play(answer_all, async |socket| {
        let mut vici = open(socket).await;
        drop(vici.request("version", Message::new(), Duration::ZERO));
        version(&mut vici).await.unwrap();
        {
            let mut begun = pin!(vici.request("version", Message::new(), Duration::ZERO));
            poll_fn(|cx| std::task::Poll::Ready(begun.as_mut().poll(cx).is_ready())).await;
        }
        assert!(!vici.is_open(), "one that was sent does not");
    })
    .await;
}

#[tokio::test]
async fn a_charon_that_says_nothing_is_given_up_in_time() {
    let silent = async |charon: Charon| {
        sleep(SOON * 2).await;
        drop(charon);
    };
    play(silent, async |socket| {
        let mut vici = Vici::connect(socket, SHORT).await.unwrap();
        let begun = Instant::now();
        let error = version(&mut vici).await.unwrap_err();
        assert_eq!(error.to_string(), format!("ask charon at {} for version", socket.display()));
        assert!(matches!(failure(error), Failure::TimedOut(SHORT)));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert!(matches!(failure(version(&mut vici).await.unwrap_err()), Failure::Broken));

        // More than a socket holds: the request is stuck on its way out.
        vici.reopen().await.unwrap();
        let heavy = (0..7).fold(Message::new(), |all, _| all.with("k", vec![0; 65_000]));
        let error = vici.request("load-conn", heavy, SHORT).await.unwrap_err();
        let Failure::TimedOut(limit) = failure(error) else { panic!("another failure") };
        assert_eq!(limit, SHORT * 2, "what the request waits for itself comes on top");
    })
    .await;
}

#[tokio::test]
async fn a_stream_without_an_end_is_given_up_in_time() {
    let endless = async |mut charon: Charon| {
        charon.hear().await;
        charon.say(Packet::Confirm).await;
        charon.hear().await;
        let many = event("list-sa", 1).encode().unwrap().repeat(1_000);
        for _ in 0..10_000 {
            charon.write(&many).await;
        }
    };
    play(endless, async |socket| {
        let mut vici = Vici::connect(socket, SHORT).await.unwrap();
        let begun = Instant::now();
        let mut heard = 0;
        let streamed = vici.stream("list-sas", "list-sa", Message::new(), |_| heard += 1).await;
        assert!(matches!(failure(streamed.unwrap_err()), Failure::TimedOut(_)));
        assert!(heard > 0 && begun.elapsed() < SOON, "{heard} events in {:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn an_end_is_an_error_at_once_wherever_it_comes() {
    let whole = [Packet::Confirm, event("list-sa", 1), Packet::Response(numbered(2))];
    let bytes = whole.map(|packet| packet.encode().unwrap()).concat();
    for at in 0..bytes.len() {
        let ends = async |mut charon: Charon| {
            charon.hear().await;
            charon.write(&bytes[..at]).await;
            if at >= 5 {
                charon.hear().await; // Not reset by a request that nobody has read.
            }
        };
        play(ends, async |socket| {
            let mut vici = open(socket).await;
            let error = timeout(SOON, stream(&mut vici)).await.expect("an end in time").unwrap_err();
            assert!(matches!(failure(error), Failure::Closed), "cut at {at}");
            assert!(matches!(failure(version(&mut vici).await.unwrap_err()), Failure::Broken));
        })
        .await;
    }
}

#[tokio::test]
async fn a_charon_that_dies_with_the_request_unread_has_hung_up_too() {
    let dies = async |charon: Charon| {
        sleep(Duration::from_millis(20)).await;
        drop(charon);
    };
    play(dies, async |socket| {
        let error = version(&mut open(socket).await).await.unwrap_err();
        assert!(matches!(failure(error), Failure::Closed));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_one_is_an_error_that_closes_the_connection() {
    type Is = fn(&Failure) -> bool;
    let cases: [(&[u8], Is); 6] = [
        (b"\0\0\0\x01\x02", |f| matches!(f, Failure::Unknown(command) if command == "version")),
        (b"\0\0\0\x01\x63", |f| matches!(f, Failure::Garbage(Malformed::PacketType(99)))),
        (b"\0\0\0\x0c\x01\x03\x07version\x00\x09", |f| matches!(f, Failure::Garbage(Malformed::Truncated))),
        (b"\xff\xff\xff\xff", |f| matches!(f, Failure::Garbage(Malformed::Oversized(_)))),
        (b"\0\0\0\x01\x05", |f| matches!(f, Failure::Unexpected)),
        (b"\0\0\0\x09\x00\x07version", |f| matches!(f, Failure::Unexpected)),
    ];
    for (bytes, expected) in cases {
        let odd = async |mut charon: Charon| {
            charon.hear().await;
            charon.write(bytes).await;
            charon.hear().await;
        };
        play(odd, async |socket| {
            let mut vici = open(socket).await;
            let error = failure(version(&mut vici).await.unwrap_err());
            assert!(expected(&error), "{bytes:?}: {error:?}");
            assert!(!vici.is_open());
        })
        .await;
    }
    let unknown = async |mut charon: Charon| {
        charon.hear().await;
        charon.say(Packet::UnknownEvent).await;
        charon.hear().await;
    };
    let error = play(unknown, async |socket| stream(&mut open(socket).await).await.unwrap_err()).await;
    assert!(matches!(failure(error), Failure::Unknown(event) if event == "list-sa"));
}

#[tokio::test]
async fn a_request_that_vici_cannot_say_is_never_sent() {
    let charon = async |mut charon: Charon| assert_eq!(charon.hear().await, None);
    play(charon, async |socket| {
        let mut vici = open(socket).await;
        let heavy = Message::new().with("data", vec![b'x'; 70_000]);
        let error = failure(vici.request("load-shared", heavy, Duration::ZERO).await.unwrap_err());
        assert!(matches!(error, Failure::TooLarge(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn without_charon_the_error_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("charon.vici");
    for kind in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused] {
        let error = Vici::connect(&socket, LIMIT).await.unwrap_err();
        assert!(error.to_string().ends_with("charon.vici (is strongswan running?)"), "{error}");
        assert!(matches!(error, Error::Connect { source: Failure::Io(e), .. } if e.kind() == kind));
        // A socket that a dead charon has left.
        drop(std::os::unix::net::UnixListener::bind(&socket));
    }
}

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crosswan_core::model::Secret;

fn tree(text: &str) -> Tree {
    crosswan_core::swanctl::parse(text).unwrap()
}

/// A packet as charon frames it.
fn packet(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

fn pair() -> (wire::Wire, oneshot::Receiver<()>, UnixStream) {
    let (ours, charons) = UnixStream::pair().unwrap();
    let (wire, closed) = wire::Wire::new(ours);
    (wire, closed, charons)
}

#[tokio::test]
async fn a_packet_is_handed_over_whole_or_not_at_all() {
    let (mut wire, mut closed, mut charon) = pair();
    let bytes = [packet(b"hello"), packet(b"")].concat();
    for byte in &bytes[..8] {
        charon.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
        let mut buf = [0; 64];
        assert!(wire.read(&mut buf).now_or_never().is_none(), "a read that waits halfway loses bytes when cancelled");
    }
    charon.write_all(&bytes[8..]).await.unwrap();
    // As rsvici reads: the length, then that many bytes.
    assert_eq!(wire.read_u32().await.unwrap(), 5);
    let mut body = [0; 5];
    wire.read_exact(&mut body).now_or_never().expect("already here").unwrap();
    assert_eq!(&body, b"hello");
    assert_eq!(wire.read_u32().await.unwrap(), 0);
    assert!((&mut closed).now_or_never().is_none());
}

#[tokio::test]
async fn packets_in_a_row_come_one_by_one_whatever_their_size() {
    let (mut wire, closed, mut charon) = pair();
    let lengths: Vec<usize> = (0..200).map(|n| n * 7).chain([70_000, 1, 512 * 1024, 3]).collect();
    let body = |n: usize, length: usize| [&[99], vec![n as u8; length].as_slice()].concat()[..length].to_vec();
    let bytes: Vec<u8> = lengths.iter().enumerate().flat_map(|(n, length)| packet(&body(n, *length))).collect();
    let sender = tokio::spawn(async move {
        // In pieces that end anywhere.
        for piece in bytes.chunks(9_973) {
            charon.write_all(piece).await.unwrap();
        }
    });
    for (n, length) in lengths.into_iter().enumerate() {
        assert_eq!(wire.read_u32().await.unwrap() as usize, length);
        let mut read = vec![0; length];
        wire.read_exact(&mut read).now_or_never().expect("already here").unwrap();
        assert_eq!(read, body(n, length));
    }
    sender.await.unwrap();
    assert!(time::timeout(Duration::from_millis(50), wire.read_u8()).await.is_err());
    closed.now_or_never().expect("charon hung up").unwrap_err();
}

#[tokio::test]
async fn the_end_is_told_once_and_read_never() {
    for last in [&b""[..], &[0, 0], &packet(b"cut")[..5], &[255, 255, 255, 255]] {
        let (mut wire, closed, mut charon) = pair();
        charon.write_all(last).await.unwrap();
        if last.len() < 4 || last[0] == 0 {
            drop(charon);
        }
        let read = time::timeout(Duration::from_millis(50), wire.read(&mut [0; 8])).await;
        assert!(read.is_err(), "rsvici spins on an end it can see");
        assert!(closed.now_or_never().is_some());
    }
}

#[test]
fn timeouts_are_never_forever() {
    assert_eq!(millis(None), "-1");
    assert_eq!(millis(Some(Duration::ZERO)), "1", "0 would wait without end");
    assert_eq!(millis(Some(Duration::from_secs(10))), "10000");
    assert_eq!(millis(Some(Duration::MAX)), "2147483647");
}

#[test]
fn charons_uptime_is_understood() {
    let cases = [
        ("1 second", 1),
        ("24 seconds", 24),
        ("119 seconds", 119),
        ("3 minutes", 180),
        ("2 hours", 7_200),
        ("2 days", 172_800),
    ];
    for (text, seconds) in cases {
        assert_eq!(message::ago(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "soon", "x seconds", "1 fortnight", "-1 seconds", "18446744073709551615 days"] {
        assert_eq!(message::ago(text), None, "{text}");
    }
}

#[test]
fn an_sa_is_read_as_list_sas_writes_it() {
    let mut sa = tree(
        "uniqueid = 7\n state = ESTABLISHED\n local-host = 10.0.0.10\n remote-host = 203.0.113.7\n remote-id = vpc-0aaa1111\n established = 61
         child-sas {
           c-10 { name = c\n uniqueid = 10\n reqid = 2\n state = REKEYED\n }
           c-9 { name = c\n uniqueid = 9\n reqid = 2\n state = INSTALLED\n bytes-in = 84\n packets-out = 3\n install-time = 60\n }
         }",
    );
    let read = sa::ike_sa("crosswan-x", &sa);
    assert_eq!((read.conn.as_str(), read.id, read.established), ("crosswan-x", 7, Some(61)));
    assert_eq!((read.local_host.as_str(), read.remote_host.as_str()), ("10.0.0.10", "203.0.113.7"));
    assert_eq!(read.remote_id, "vpc-0aaa1111");
    assert_eq!(read.children.iter().map(|c| (c.id, c.is_up())).collect::<Vec<_>>(), [(9, true), (10, false)]);
    let child = &read.children[0];
    assert_eq!((child.reqid, child.bytes_in, child.packets_out, child.installed), (2, 84, 3, Some(60)));
    assert!(!read.child_pending);
    for (key, task, pending) in [
        ("tasks-queued", "CHILD_CREATE", true),
        ("tasks-active", "CHILD_REKEY", true),
        ("tasks-active", "IKE_DPD", false),
    ] {
        let old = sa.insert(key.into(), Node::List(vec![task.into()]));
        assert_eq!(sa::ike_sa("x", &sa).child_pending, pending, "{task}");
        sa.remove(key);
        assert!(old.is_none());
    }
}

#[test]
fn an_answer_is_yes_or_the_reason() {
    let what = || "load connection \"x\"".to_owned();
    assert!(accepted(&tree("success = yes"), what).is_ok());
    let error = accepted(&tree("success = no\n errmsg = \"bad\\nnews\""), what).unwrap_err();
    assert_eq!(error.chain(), r#"load connection "x": bad\nnews"#, "no control character reaches a log line");
    assert_eq!(error.kind(), Kind::Apply);
    assert!(accepted(&Tree::new(), what).is_err(), "no answer is not a yes");
    assert!(!found(&tree("success = no\n errmsg = \"unload: connection 'x' not found\""), what).unwrap());
    assert!(found(&tree("success = no\n errmsg = \"out of memory\""), what).is_err());
    assert!(found(&tree("success = yes"), what).unwrap());
}

/// A charon of our own: answers every command with the given message, and returns the packets it got.
async fn converse(answer: &'static [u8], ask: impl AsyncFnOnce(&mut Vici)) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vici");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let charon = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let len = stream.read_u32().await.unwrap();
        let mut request = vec![0; len as usize];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&packet(answer)).await.unwrap();
        let _ = stream.read_u8().await;
        request
    });
    let mut vici = Vici::connect(&socket, Duration::from_secs(5)).await.unwrap();
    ask(&mut vici).await;
    drop(vici);
    charon.await.unwrap()
}

#[tokio::test]
async fn a_key_of_any_bytes_reaches_the_wire_as_it_is() {
    let shared = Shared { secret: Secret::new([0, 255, b'a']), owners: vec!["hub".into(), "vpc-0aaa1111".into()] };
    let request =
        converse(b"\x01\x03\x07success\x00\x03yes", async |vici| vici.load_shared("ike-x", &shared).await.unwrap());
    let expected = b"\x00\x0bload-shared\x03\x02id\x00\x05ike-x\x03\x04type\x00\x03IKE\x03\x04data\x00\x03\x00\xffa\
        \x04\x06owners\x05\x00\x03hub\x05\x00\x0cvpc-0aaa1111\x06";
    assert_eq!(request.await, expected);
}

#[tokio::test]
async fn bytes_that_are_no_text_do_not_spoil_an_answer() {
    converse(b"\x01\x03\x07version\x00\x055.9\xff8", async |vici| {
        assert_eq!(vici.version().await.unwrap(), "5.9\u{fffd}8")
    })
    .await;
}

#[tokio::test]
async fn sections_inside_sections_do_not_exhaust_the_stack() {
    // An answer, and an event: with a value before each section, and with none.
    for (head, section) in [(&[1][..], &b"\x03\x01a\x00\x02\x01\x01\x01\x01x"[..]), (b"\x07\x02no", b"\x01\x01x")] {
        for (depth, fine) in [(16, true), (17, false), (40_000, false)] {
            let (mut wire, closed, mut charon) = pair();
            let body = [head, &section.repeat(depth), &b"\x02".repeat(depth)].concat();
            tokio::spawn(async move { charon.write_all(&packet(&body)).await });
            let read = time::timeout(Duration::from_millis(300), wire.read_u32()).await;
            assert_eq!((read.is_ok(), closed.now_or_never().is_none()), (fine, fine), "{head:?} {depth}");
        }
    }
    let closed: &[u8] = &[&[1][..], &b"\x01\x01x\x02".repeat(50)].concat();
    let (mut wire, _closed, mut charon) = pair();
    charon.write_all(&packet(closed)).await.unwrap();
    assert_eq!(wire.read_u32().await.unwrap(), closed.len() as u32, "many beside each other are no depth");
}

#[tokio::test]
async fn an_unknown_command_or_garbage_is_an_error_and_ends_the_connection() {
    for answer in [&b"\x02"[..], b"\x01\x03\x07version\x00\x09cut", b"\x63"] {
        converse(answer, async |vici| {
            vici.timeout = Duration::from_millis(200);
            assert_eq!(vici.version().await.unwrap_err().kind(), Kind::Observe, "{answer:?}");
            assert!(vici.open.is_none());
        })
        .await;
    }
}

//! VICI: bytes to packets, and charon's side of the conversation over its socket and through the real client.
//!
//! The first byte says what is asked and what the rest is: the raw stream; messages, each behind its length; or messages
//! as settings text, which gets deeper: mutated text stays a message more often than mutated lengths do.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use crosswan_core::{
    error::Result,
    keep::{self, Memory, Pace},
    model::Mode,
    plan::plan,
    swanctl::{Node, Tree, parse},
    system::Charon,
};
use crosswan_vici::{Decoder, Events, Malformed, Message, Packet, Sas, Vici};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::{
    fake::{RUNTIME, root},
    oracle,
    swanctl::OURS,
};

/// Never reached: charon hangs up when it has nothing more to say.
const LIMIT: Duration = Duration::from_secs(5);

static SOCKET: LazyLock<(PathBuf, UnixListener)> = LazyLock::new(|| {
    let path = root().join("charon.vici");
    let listener = UnixListener::bind(&path).unwrap();
    (path, listener)
});

pub fn target(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let (asked, form) = (first & 15, first >> 4);
    let trees: Vec<Tree> = match form % 3 {
        2 => rest.split(|b| *b == 0).filter_map(|t| parse(str::from_utf8(t).ok()?).ok()).map(with_lists).collect(),
        _ => Vec::new(),
    };
    let answers = match form % 3 {
        0 => {
            codec(rest);
            Answers::Raw(rest.into())
        }
        1 => Answers::Messages { messages: messages(rest), hangs_up: true },
        _ => Answers::Messages { messages: trees.iter().map(bytes).collect(), hangs_up: false },
    };
    RUNTIME.block_on(async {
        let (path, listener) = &*SOCKET;
        let charon = async {
            let (stream, _) = listener.accept().await.unwrap();
            charon(stream, answers).await.unwrap_or_default()
        };
        match (asked, trees.first()) {
            (6, Some(tree)) => {
                let load = async { Vici::connect(path, LIMIT).await?.load_conn("crosswan-x", tree).await };
                let (loaded, request) = tokio::join!(load, charon);
                let _ = loaded.map_err(|e| oracle::error(&e));
                let message = Message::new().with_section("crosswan-x", tree.into());
                let sent = Packet::Request { command: "load-conn".into(), message };
                assert_eq!(request.as_ref(), sent.encode().is_ok().then_some(&sent), "charon gets another connection");
            }
            (9, _) => drop(tokio::join!(events((form % 3 == 2).then_some(&trees), path), charon)),
            _ => {
                if let (Err(e), _) = tokio::join!(ask(asked, path), charon) {
                    oracle::error(&e);
                }
            }
        }
    });
}

/// The requests of `refresh` and `keep`, and what these make of the answers.
async fn ask(asked: u8, path: &Path) -> Result<()> {
    let mut vici = Vici::connect(path, LIMIT).await?;
    match asked {
        0 => drop(vici.version().await?),
        1 => drop(vici.key_exchanges().await?),
        2 => drop(vici.uptime().await?),
        3 => drop(vici.list_conns().await?),
        4 => drop(vici.shared_ids().await?),
        5 => drop(vici.sas().await?),
        7 => drop(vici.unload_conn("crosswan-x").await?),
        8 => drop(vici.terminate(Sas::OfConnection("crosswan-x"), true, None).await?),
        _ => {
            let (connections, secrets) = (vici.list_conns().await?, vici.shared_ids().await?);
            let sas = vici.sas().await?;
            let conns = connections.clone();
            let view = keep::View { uptime: Duration::from_secs(60), conns, sas: sas.clone(), ..keep::View::default() };
            let mut now = oracle::settled(&OURS);
            now.charon = Some(Charon { connections, secrets, sas, ..Charon::default() });
            let steps = plan(&OURS, &now);
            oracle::steps(&steps);
            oracle::only_ours(&steps);
            for mode in [Mode::VpnHub, Mode::NatVpn] {
                let (mut memory, pace) = (Memory::default(), Pace { mode, interval: Duration::from_secs(15) });
                for look in 0..4 {
                    keep::decide(look * 30_000, &view, &mut memory, pace).iter().for_each(oracle::line);
                    memory.take_transitions().iter().for_each(oracle::line);
                }
            }
        }
    }
    Ok(())
}

/// A stream reads the same in two pieces as in one, and what was read is written so that it reads the same again.
fn codec(stream: &[u8]) {
    let whole = packets(&[stream]);
    for at in [1, stream.len() / 2, stream.len().saturating_sub(1)] {
        let (first, rest) = stream.split_at(at.min(stream.len()));
        assert_eq!(packets(&[first, rest]), whole, "cut at {at}");
    }
    let written: Vec<u8> = whole.0.iter().filter_map(|packet| packet.encode().ok()).flatten().collect();
    // Bytes that are not UTF-8 get longer in a name, and then there may be no form for it.
    if whole.0.iter().all(|packet| packet.encode().is_ok()) {
        assert_eq!(packets(&[&written]), (whole.0, None));
    }
    let _ = Packet::decode(stream);
}

/// The packets of a stream that comes in these pieces, and what ended them.
fn packets(pieces: &[&[u8]]) -> (Vec<Packet>, Option<Malformed>) {
    let (mut decoder, mut packets) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.room().extend(*piece);
        loop {
            match decoder.next_packet() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(malformed) => return (packets, Some(malformed)),
            }
        }
    }
    (packets, None)
}

/// What charon tells unasked arrives as it was said. `None`: what it tells is no message, and then it hangs up.
async fn events(told: Option<&[Tree]>, path: &Path) {
    let mut events = match Events::subscribe(path, &["ike-updown", "child-updown"], LIMIT).await {
        Ok(events) => events,
        Err(e) => {
            assert!(told.is_none(), "charon's confirmations are understood");
            return oracle::error(&e.into());
        }
    };
    for tree in told.unwrap_or_default() {
        match timeout(LIMIT, events.next()).await.expect("an event in time") {
            Ok(heard) => assert_eq!(heard.message, Message::from(tree), "heard something else"),
            Err(e) => return oracle::error(&e.into()),
        }
    }
    while told.is_none() {
        match timeout(LIMIT, events.next()).await.expect("an end in time") {
            Ok(_) => {}
            Err(e) => return oracle::error(&e.into()),
        }
    }
}

enum Answers {
    /// Whatever is asked, these bytes, then the end.
    Raw(Vec<u8>),
    /// One per request; to a request that streams all up to an empty one, and to who listens all, maybe followed by the
    /// end.
    Messages { messages: Vec<Vec<u8>>, hangs_up: bool },
}

/// Cuts at lengths of 16 bits.
fn messages(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let [high, low, text @ ..] = rest {
        let (message, after) = text.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(text.len()));
        out.push(message.into());
        rest = after;
    }
    out
}

/// charon; tells the first command it got.
async fn charon(mut stream: UnixStream, answers: Answers) -> std::io::Result<Option<Packet>> {
    let (mut next, hangs_up) = match answers {
        Answers::Raw(bytes) => {
            stream.read_u8().await?;
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        Answers::Messages { messages, hangs_up } => (messages.into_iter(), hangs_up),
    };
    let (mut decoder, mut event, mut first) = (Decoder::default(), String::new(), None);
    loop {
        let Some(packet) = decoder.next_packet().expect("the client speaks VICI") else {
            if stream.read_buf(decoder.room()).await? == 0 {
                return Ok(first);
            }
            continue;
        };
        let head = |name: &str| Packet::Event { name: name.to_owned(), message: Message::new() };
        match &packet {
            Packet::Register(name) => {
                send(&mut stream, &Packet::Confirm, &[]).await?;
                if name == "child-updown" {
                    for message in next.by_ref() {
                        send(&mut stream, &head(&event), &message).await?;
                    }
                    if hangs_up {
                        stream.shutdown().await?;
                    }
                } else {
                    event.clone_from(name);
                }
            }
            Packet::Unregister(_) => {
                event.clear();
                send(&mut stream, &Packet::Confirm, &[]).await?;
            }
            Packet::Request { .. } => {
                if !event.is_empty() {
                    for message in next.by_ref().take_while(|m| !m.is_empty()) {
                        send(&mut stream, &head(&event), &message).await?;
                    }
                }
                let answer = if event.is_empty() { next.next().unwrap_or_default() } else { Vec::new() };
                send(&mut stream, &Packet::Response(Message::new()), &answer).await?;
                first.get_or_insert(packet);
            }
            other => panic!("no request: {other:?}"),
        }
    }
}

/// A packet without a message, and the bytes that are its message, whatever they are.
async fn send(stream: &mut UnixStream, packet: &Packet, message: &[u8]) -> std::io::Result<()> {
    let head = packet.encode().expect("its name is short");
    let length = (head.len() - 4 + message.len()) as u32;
    stream.write_all(&[&length.to_be_bytes(), &head[4..], message].concat()).await
}

/// A message's bytes; none of what VICI cannot say.
fn bytes(tree: &Tree) -> Vec<u8> {
    Packet::Response(tree.into()).encode().map(|packet| packet[5..].to_vec()).unwrap_or_default()
}

/// Values that begin with `[` are lists: settings text has none.
fn with_lists(tree: Tree) -> Tree {
    let list = |node| match node {
        Node::Value(v) => match v.strip_prefix('[') {
            Some(items) => Node::List(items.split(',').map(str::to_owned).collect()),
            None => Node::Value(v),
        },
        Node::Section(inner) => Node::Section(with_lists(inner)),
        list => list,
    };
    tree.into_iter().map(|(name, node)| (name, list(node))).collect()
}

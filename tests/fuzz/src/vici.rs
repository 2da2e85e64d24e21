//! VICI: charon's side of the conversation, over its socket and through the real client.
//!
//! The first byte says what is asked and what the rest is: the raw stream; messages, each behind its length; or messages
//! as settings text, which gets deeper: mutated text stays a message more often than mutated lengths do.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use crosswan::vici::{Events, Target, Vici};
use crosswan_core::{
    error::Result,
    keep::{self, Memory, Role},
    plan::plan,
    swanctl::{Node, Tree, parse},
    system::Charon,
};
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
        0 => Answers::Raw(rest.into()),
        1 => Answers::Messages { messages: messages(rest), hangs_up: true },
        _ => Answers::Messages { messages: trees.iter().map(encode).collect(), hangs_up: false },
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
                let sent = encode(&[("crosswan-x".into(), Node::Section(tree.clone()))].into());
                assert_eq!(request, [&b"\0\x09load-conn"[..], &sent].concat(), "charon gets another connection");
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
        8 => drop(vici.terminate(Target::Ike("crosswan-x"), true, None).await?),
        _ => {
            let (connections, secrets) = (vici.list_conns().await?, vici.shared_ids().await?);
            let sas = vici.sas().await?;
            let view = keep::View { uptime: Duration::from_secs(60), conns: connections.clone(), sas: sas.clone() };
            let mut now = oracle::settled(&OURS);
            now.charon = Some(Charon { connections, secrets, sas, ..Charon::default() });
            let steps = plan(&OURS, &now);
            oracle::steps(&steps);
            oracle::only_ours(&steps);
            for role in [Role::Hub, Role::Spoke] {
                let (mut memory, rules) = (Memory::default(), keep::Rules { role, interval: Duration::from_secs(15) });
                for look in 0..4 {
                    keep::decide(look * 30_000, &view, &mut memory, rules).iter().for_each(oracle::line);
                    memory.take_changes().iter().for_each(oracle::line);
                }
            }
        }
    }
    Ok(())
}

/// What charon tells unasked arrives as it was said. `None`: what it tells is no message, and then it hangs up.
async fn events(told: Option<&[Tree]>, path: &Path) {
    let mut events = Events::connect(path, LIMIT).await.unwrap();
    for tree in told.unwrap_or_default() {
        match timeout(LIMIT, events.next()).await.expect("an event in time") {
            Ok(heard) => assert_eq!(heard, *tree, "heard something else"),
            Err(e) => return oracle::error(&e),
        }
    }
    while told.is_none() {
        match timeout(LIMIT, events.next()).await.expect("an end in time") {
            Ok(_) => {}
            Err(e) => return oracle::error(&e),
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

/// charon, with the packet types of strongSwan's `src/libcharon/plugins/vici/README.md`; tells the first command it got.
async fn charon(mut stream: UnixStream, answers: Answers) -> std::io::Result<Vec<u8>> {
    let (mut next, hangs_up) = match answers {
        Answers::Raw(bytes) => {
            stream.read_u8().await?;
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(Vec::new());
        }
        Answers::Messages { messages, hangs_up } => (messages.into_iter(), hangs_up),
    };
    let (mut event, mut first) = (Vec::new(), None);
    while let Ok(len) = stream.read_u32().await {
        let mut request = vec![0; len as usize];
        stream.read_exact(&mut request).await?;
        let name = &request[2..2 + usize::from(request[1])];
        let head = |event: &[u8]| [&[7, event.len() as u8], event].concat();
        match request[0] {
            3 => {
                send(&mut stream, &[5], &[]).await?;
                match name {
                    b"ike-updown" => event = name.to_owned(),
                    b"child-updown" => {
                        for message in next.by_ref() {
                            send(&mut stream, &head(&event), &message).await?;
                        }
                        if hangs_up {
                            stream.shutdown().await?;
                        }
                    }
                    name => event = name.to_owned(),
                }
            }
            4 => {
                event.clear();
                send(&mut stream, &[5], &[]).await?;
            }
            0 => {
                if !event.is_empty() {
                    for message in next.by_ref().take_while(|m| !m.is_empty()) {
                        send(&mut stream, &head(&event), &message).await?;
                    }
                }
                let answer = if event.is_empty() { next.next().unwrap_or_default() } else { Vec::new() };
                send(&mut stream, &[1], &answer).await?;
                first.get_or_insert(request);
            }
            kind => panic!("no request: {kind}"),
        }
    }
    Ok(first.unwrap_or_default())
}

async fn send(stream: &mut UnixStream, head: &[u8], message: &[u8]) -> std::io::Result<()> {
    let len = (head.len() + message.len()) as u32;
    stream.write_all(&[&len.to_be_bytes(), head, message].concat()).await
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

/// A message's bytes.
fn encode(tree: &Tree) -> Vec<u8> {
    let short = |kind: u8, name: &str| [&[kind, name.len() as u8], name.as_bytes()].concat();
    let long = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let mut out = Vec::new();
    for (name, node) in tree {
        match node {
            Node::Value(v) => out.extend([short(3, name), long(v)].concat()),
            Node::List(items) => {
                out.extend(short(4, name));
                items.iter().for_each(|item| out.extend([&[5], &long(item)[..]].concat()));
                out.push(6);
            }
            Node::Section(inner) => out.extend([short(1, name), encode(inner), vec![2]].concat()),
        }
    }
    out
}

//! IMDS: its answers over HTTP, through the SDK's client. One identity comes of them, or an error in one line.

use std::{sync::LazyLock, time::Duration};

use crosswan::observe::imds;
use crosswan_core::{model::Identity, state::State};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    fake::{self, KINDS, RUNTIME},
    oracle,
};

/// Shorter than the first pause between two tries: there is one.
const ONCE: Duration = Duration::from_millis(90);

static LISTENER: LazyLock<TcpListener> =
    LazyLock::new(|| RUNTIME.block_on(async { TcpListener::bind("127.0.0.1:0").await.unwrap() }));

/// The answers to [`PATHS`], NUL between them. One that begins with a control character has another status than 200. The
/// last is the token, behind its lifetime and a blank.
const PATHS: [&str; 8] = [
    "/mac",
    "/instance-id",
    "/placement/region",
    "/vpc-id",
    "/vpc-ipv4-cidr-blocks",
    "/local-ipv4s",
    "/public-ipv4",
    "/token",
];
const STATUS: [u16; 8] = [404, 401, 403, 429, 500, 503, 301, 204];

pub fn target(data: &[u8]) {
    let answers: [&[u8]; PATHS.len()] = fake::parts(data);
    let listener = &*LISTENER;
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let identity = RUNTIME.block_on(async {
        let mut open = tokio::task::JoinSet::new();
        let answers: std::sync::Arc<[Vec<u8>]> = answers.map(<[u8]>::to_vec).into();
        let serve = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(serve(stream, answers.clone()));
            }
        };
        tokio::select! {
            identity = imds::identity_at(Some(&endpoint), ONCE) => identity,
            () = serve => unreachable!(),
        }
    });
    match identity {
        Ok(me) => found(&me),
        Err(e) => oracle::error(&e),
    }
}

fn found(me: &Identity) {
    assert!(!me.cidrs.is_empty() && me.cidrs.iter().all(|c| *c == c.trunc()));
    for settings in KINDS.iter() {
        oracle::pass(settings, me, &fake::answers(), &State::default(), b"the key of both ends");
    }
}

/// Requests on one connection, each with its answer.
async fn serve(mut stream: TcpStream, answers: std::sync::Arc<[Vec<u8>]>) {
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut request).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
        request.clear();
        let which = PATHS.iter().position(|known| path.ends_with(known)).unwrap_or(PATHS.len() - 1);
        let (status, body) = match &answers[which][..] {
            [special, body @ ..] if *special < 9 && *special > 0 => (STATUS[usize::from(*special) - 1], body),
            body => (200, body),
        };
        let (lifetime, body) = match body.iter().position(|b| *b == b' ').filter(|_| which == PATHS.len() - 1) {
            Some(blank) => (String::from_utf8_lossy(&body[..blank]), &body[blank + 1..]),
            None => ("21600".into(), body),
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\nx-aws-ec2-metadata-token-ttl-seconds: {}\r\ncontent-length: {}\r\n\r\n",
            lifetime.replace(char::is_control, ""),
            body.len()
        );
        if stream.write_all(&[head.as_bytes(), body].concat()).await.is_err() {
            return;
        }
    }
}

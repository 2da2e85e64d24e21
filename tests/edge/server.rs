//! A small HTTP server on 127.0.0.1: one request per connection, each answered by the test's own function.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What the client sent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The form of an EC2 query.
    pub form: BTreeMap<String, String>,
    /// As sent.
    pub body: String,
}

impl Request {
    /// The region the request was signed for: `Credential=<key>/<date>/<region>/ec2/aws4_request`.
    pub fn region(&self) -> &str {
        self.headers["authorization"].split('/').nth(2).unwrap()
    }
    /// The service the request was signed for.
    pub fn service(&self) -> &str {
        self.headers["authorization"].split('/').nth(3).unwrap()
    }
    /// `Action` of an EC2 query, else what a JSON call aims at: `AmazonSSM.GetParameters`.
    pub fn action(&self) -> &str {
        self.headers.get("x-amz-target").map_or_else(|| self.field("Action"), String::as_str)
    }
    pub fn field(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }
    /// The tags that CreateTags is to write, in the order of the request.
    pub fn tags(&self) -> impl Iterator<Item = (String, String)> {
        let nth = |n: usize, part: &str| self.form.get(&format!("Tag.{n}.{part}")).cloned();
        (1..).map_while(move |n| Some((nth(n, "Key")?, nth(n, "Value").unwrap_or_default())))
    }
    /// The values of the filter with this name, as sent.
    pub fn filter(&self, name: &str) -> Vec<&str> {
        let number = self.form.iter().find(|(k, v)| k.ends_with(".Name") && *v == name);
        let Some((key, _)) = number else { return vec![] };
        let values = key.replace(".Name", ".Value.");
        self.form.iter().filter(|(k, _)| k.starts_with(&values)).map(|(_, v)| v.as_str()).collect()
    }
}

/// What the server does about it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub delay: Duration,
    /// Promise this many bytes more than are sent.
    pub missing: usize,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, headers: vec![], body: body.into(), delay: Duration::ZERO, missing: 0 }
    }
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }
    /// EC2's own form of an error.
    pub fn error(status: u16, code: &str) -> Self {
        let error = format!("<Error><Code>{code}</Code><Message>canned</Message></Error>");
        Self::new(status, format!("<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>"))
    }
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// The server; its threads end with the process.
pub struct Server {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets each request and how many like it (same path, region and action) came before.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    pub fn on(listener: TcpListener, answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Server { endpoint, seen }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests for one action.
    pub fn asked(&self, action: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|r| r.action() == action).collect()
    }
}

/// An address on which nothing listens.
pub fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request, usize) -> Reply) {
    let Some(request) = read(&stream) else { return };
    let like = |r: &&Request| {
        (&r.path, r.headers.get("authorization").map(|_| r.region()), r.action())
            == (&request.path, request.headers.get("authorization").map(|_| request.region()), request.action())
    };
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(like).count();
        log.push(request.clone());
        before
    };
    let reply = answer(&request, before);
    thread::sleep(reply.delay);
    let mut head = format!("HTTP/1.1 {} Canned\r\nConnection: close\r\n", reply.status);
    head += &format!("Content-Length: {}\r\n", reply.body.len() + reply.missing);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    // The client may have given up: that is what some tests are about.
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(b"\r\n"));
    let _ = (&stream).write_all(&reply.body);
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    request.form =
        body.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v))).collect();
    request.body = body;
    Some(request)
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap());
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap()
}

//! HTTP/1.1 as far as EC2, IMDS and their clients need it: one request per connection, Content-Length bodies.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::libc;

use crate::netns::Netns;

/// Longest wait for one read or write.
const IO: Duration = Duration::from_secs(120);
/// How soon a stopped service notices.
pub(crate) const TICK: Duration = Duration::from_millis(150);
/// No request or answer here is larger.
const MAX: usize = 64 << 20;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// As long as Content-Length said.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of that (lower case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Reads one from a connection.
    pub fn read(stream: &mut TcpStream) -> Result<Request> {
        let (head, body) = read_head(stream)?;
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let mut request = Request {
            method: first.next().unwrap_or_default().to_string(),
            path: first.next().unwrap_or_default().to_string(),
            headers: headers(lines),
            body,
        };
        let length: usize = request.header("content-length").map_or(Ok(0), str::parse).context("Content-Length")?;
        if length > MAX {
            bail!("a body of {length} bytes");
        }
        let have = request.body.len();
        request.body.resize(length.max(have), 0);
        stream.read_exact(&mut request.body[have..]).context("read a request's body")?;
        Ok(request)
    }
}

/// An answer: status, extra headers, body.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Content-Length and Connection are added.
    pub headers: Vec<(&'static str, String)>,
    /// Sent as it is.
    pub body: Vec<u8>,
}

impl Response {
    /// One without extra headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response { status, headers: Vec::new(), body: body.into() }
    }

    /// The bytes on the wire, of the last answer on a connection.
    pub fn bytes(&self) -> Vec<u8> {
        self.on_the_wire("close")
    }

    /// The bytes on the wire, where the connection stays open for the next request.
    pub fn bytes_before_more(&self) -> Vec<u8> {
        self.on_the_wire("keep-alive")
    }

    fn on_the_wire(&self, connection: &str) -> Vec<u8> {
        let (status, length) = (self.status, self.body.len());
        let mut head = format!("HTTP/1.1 {status} Lab\r\nContent-Length: {length}\r\nConnection: {connection}\r\n");
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// Takes the percent-encoding off a form's name or value; bytes that are not UTF-8 afterwards are replaced.
pub fn decoded(text: &str) -> String {
    let hex = |two: &str| u8::from_str_radix(two, 16).ok();
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let byte = rest.get(1..3).and_then(hex).filter(|_| first == b'%');
        bytes.push(byte.unwrap_or(if first == b'+' { b' ' } else { first }));
        rest = std::str::from_utf8(&rest.as_bytes()[if byte.is_some() { 3 } else { 1 }..]).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// POSTs a body of that type from inside `ns`, with further headers (`Name: value\r\n`), and returns status and body.
pub fn post(ns: &Netns, to: SocketAddr, content_type: &str, headers: &str, body: &str) -> Result<(u16, String)> {
    post_at(ns, to, "/", content_type, headers, body)
}

/// [`post`] to another path than the root.
pub fn post_at(
    ns: &Netns,
    to: SocketAddr,
    path: &str,
    content_type: &str,
    headers: &str,
    body: &str,
) -> Result<(u16, String)> {
    let mut stream = ns.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?))?;
    prepare(&stream)?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: aws\r\n{headers}\
         Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let (head, mut body) = read_head(&mut stream)?;
    stream.read_to_end(&mut body).context("read an answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(IO))?;
    stream.set_write_timeout(Some(IO))?;
    Ok(stream.set_nodelay(true)?)
}

/// Reads what is there.
pub(crate) fn some(stream: &mut impl Read, chunk: &mut [u8]) -> std::io::Result<usize> {
    uninterrupted(|| stream.read(chunk))
}

/// Begins again what something interrupts: the kernel does not do that where there is a timeout.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Everything up to the empty line, and what came of the body with it.
fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let (mut data, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        let n = some(stream, &mut chunk).context("read an HTTP head")?;
        if n == 0 || data.len() > MAX {
            bail!("the connection ended inside an HTTP head");
        }
        data.extend_from_slice(&chunk[..n]);
        if let Some(end) = data.windows(4).position(|w| w == b"\r\n\r\n") {
            let body = data.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&data).into_owned(), body));
        }
    }
}

fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(n, v)| (n.trim().to_lowercase(), v.trim().to_string()))
        .collect()
}

/// A listener that ends, within [`TICK`], when this is dropped.
#[derive(Debug)]
pub struct Service(Arc<AtomicBool>);

impl Service {
    /// A stop flag and its handle.
    pub(crate) fn flag() -> (Service, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (Service(flag.clone()), flag)
    }

    /// Serves TCP connections on `ip:port` inside `ns`, each on a thread of its own.
    pub fn tcp(
        ns: &Netns,
        ip: Ipv4Addr,
        port: u16,
        handler: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Result<Service> {
        let listener = ns.run(|| TcpListener::bind((ip, port)).with_context(|| format!("listen on {ip}:{port}")))?;
        listener.set_nonblocking(true)?;
        let (service, stop) = Service::flag();
        let handler = Arc::new(handler);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let handler = handler.clone();
                        let ready = stream.set_nonblocking(false).is_ok() && prepare(&stream).is_ok();
                        if ready {
                            std::thread::spawn(move || handler(stream));
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => readable(&listener),
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        });
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until `fd` can be read, at most [`TICK`].
pub(crate) fn readable(fd: &impl AsRawFd) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&mut poll, 1, TICK.as_millis() as i32) };
}

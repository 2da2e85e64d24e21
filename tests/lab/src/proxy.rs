//! The endpoint of AWS that gateways and cloudcaster talk to: moto behind a proxy that counts, refuses what a role may not do in
//! EC2, is strict where moto is lenient, and fails on request, per region and action.

mod answer;
pub mod call;
mod stale;
pub mod stop;
pub mod strict;
mod targets;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use roxmltree::Document;
use socket2::SockRef;

use self::answer::{denied, empty, error, error_of, json_error, xml};
use self::call::{Call, field};
use self::stale::Stale;
use self::stop::{Side, Stop};
use self::strict::{Strict, Verdict};
use crate::ec2::Elements;
use crate::follow::Follow;
use crate::http::{Request, Service};
use crate::iam::{self, Iam};
use crate::lock;
use crate::netns::Netns;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 RequestLimitExceeded.
    Throttle,
    /// 403 UnauthorizedOperation.
    Unauthorized,
    /// 401 AuthFailure, as right after an instance's start.
    AuthFailure,
    /// 500 InternalError.
    ServerError,
    /// The right answer, this much later.
    Slow(Duration),
    /// The right answer, of which the connection carries one half.
    Cut,
    /// A valid answer with nothing in it.
    Empty,
    /// 200 with something that is not XML.
    Garbage,
    /// The right answer in pages of this many reservations.
    Paged(usize),
    /// Pages of one reservation, of which the first comes and the second is a 500.
    SecondPageFails,
    /// The connection is reset, as if nobody listened.
    Reset,
    /// The request is taken and never answered (the connection stays open two minutes).
    Silent,
}

#[derive(Debug)]
struct Rule {
    region: String,
    action: String,
    fault: Fault,
    /// Calls it still applies to; `None` is for ever.
    left: Option<u32>,
}

/// Faults in force and calls counted; shared with the proxy's threads.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<BTreeMap<(String, String), u64>>,
    /// Stops everything at a chosen call.
    pub stop: Stop,
    /// Where moto is more lenient than AWS.
    pub strict: Strict,
    /// Answers that do not show a change yet.
    pub stale: Stale,
}

impl Faults {
    /// From now on, calls of `action` in `region` (`*` is any) fail so; `times` of them, or for ever. The latest rule wins.
    pub fn set(&self, region: &str, action: &str, fault: Fault, times: Option<u32>) {
        lock(&self.rules).push(Rule { region: region.into(), action: action.into(), fault, left: times });
    }

    /// Everything works again.
    pub fn heal(&self) {
        lock(&self.rules).clear();
    }

    /// Calls so far by region and action, failed ones included.
    pub fn calls(&self) -> BTreeMap<(String, String), u64> {
        lock(&self.calls).clone()
    }

    fn count(&self, region: &str, action: &str) -> Option<Fault> {
        *lock(&self.calls).entry((region.into(), action.into())).or_default() += 1;
        let matches = |rule: &&mut Rule| {
            let fits = |pattern: &str, value| pattern == "*" || pattern == value;
            fits(&rule.region, region) && fits(&rule.action, action) && rule.left != Some(0)
        };
        let mut rules = lock(&self.rules);
        let rule = rules.iter_mut().rev().find(matches)?;
        rule.left = rule.left.map(|n| n - 1);
        Some(rule.fault)
    }
}

/// Serves on `ip:80` inside `ns`, in front of `moto`.
pub fn serve(
    ns: &Arc<Netns>,
    ip: Ipv4Addr,
    moto: SocketAddr,
    faults: Arc<Faults>,
    iam: Arc<Iam>,
    follow: Arc<Follow>,
) -> Result<Service> {
    let inside = ns.clone();
    Service::tcp(ns, ip, 80, move |mut stream| {
        // A client that gives up, or a fault, ends the connection: nothing to do about it here.
        let _ = answer(&mut stream, &inside, moto, &faults, &iam, &follow);
    })
}

fn answer(
    stream: &mut TcpStream,
    ns: &Netns,
    moto: SocketAddr,
    faults: &Faults,
    iam: &Iam,
    follow: &Follow,
) -> Result<()> {
    let request = Request::read(stream)?;
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let call = Call::of(&request, &form);
    let json = call.json;
    let action = call.action.as_str();
    let send = |stream: &mut TcpStream, status, body: String| Ok(stream.write_all(&xml(status, body).bytes())?);
    let fault = faults.count(&call.region, action);
    // A gateway's policies are for EC2, an operator's for everything but the question who one is.
    let operator = iam.is_operator(&call.access_key);
    let counts = if operator { call.service != "sts" } else { call.service == "ec2" && !json };
    if counts && iam.counts() {
        let mut all = iam::Call::all(&call, &request.path, &form);
        let ask = |form: &str| body_of(&self::forward(ns, moto, &request, form)?).context("no HTTP body");
        all.iter_mut().filter(|_| call.service == "ec2").try_for_each(|one| one.look_up(ask))?;
        if let Some(refusal) = all.iter().find_map(|one| iam.refusal(&call.access_key, one)) {
            return match json {
                true => json_error(stream, 400, "AccessDeniedException"),
                false => send(stream, 403, error_of(&call, denied(&call), &refusal)),
            };
        }
    }
    if call.service == "sts" && action == "AssumeRole" && !operator && fault.is_none() {
        let asked = iam::Call::all(&call, &request.path, &form).remove(0);
        return match iam.assumed(&call.access_key, &asked) {
            Ok(body) => send(stream, 200, body),
            Err(why) => send(stream, 403, error_of(&call, denied(&call), &why)),
        };
    }
    // moto does what some calls only ask about. In EC2 it is refused by this name.
    if call.service == "ec2" && field(&form, "DryRun") == Some("true") && fault.is_none() {
        let message = "Request would have succeeded, but DryRun flag is set.";
        return send(stream, 412, error_of(&call, "DryRunOperation", message));
    }
    let side = faults.stop.side(call.changes());
    if side == Some(Side::Before) {
        faults.stop.reached();
        faults.stop.hold();
        return Ok(());
    }
    let forward = |form: &str| shown_to(iam, &call, strictly(ns, moto, &request, &call, form, faults, follow)?);
    if side == Some(Side::After) {
        forward(&form)?;
        faults.stop.reached();
        faults.stop.hold();
        return Ok(());
    }
    match fault {
        Some(Fault::Throttle) if json => json_error(stream, 400, "ThrottlingException"),
        Some(Fault::Unauthorized) if json => json_error(stream, 400, "AccessDeniedException"),
        Some(Fault::AuthFailure) if json => json_error(stream, 400, "UnrecognizedClientException"),
        Some(Fault::ServerError) if json => json_error(stream, 500, "InternalServerError"),
        None => Ok(stream.write_all(&forward(&form)?)?),
        Some(Fault::Throttle) => send(stream, 503, error("RequestLimitExceeded", "Request limit exceeded.")),
        Some(Fault::Unauthorized) => send(stream, 403, error("UnauthorizedOperation", "You are not authorized.")),
        Some(Fault::AuthFailure) => send(stream, 401, error("AuthFailure", "Credentials could not be validated.")),
        Some(Fault::ServerError) => send(stream, 500, error("InternalError", "An internal error has occurred")),
        Some(Fault::Garbage) => send(stream, 200, "<html>It works!<html>".into()),
        Some(Fault::Empty) => send(stream, 200, empty(action)),
        Some(Fault::Slow(delay)) => {
            std::thread::sleep(delay);
            Ok(stream.write_all(&forward(&form)?)?)
        }
        Some(Fault::Cut) => {
            let whole = forward(&form)?;
            Ok(stream.write_all(&whole[..whole.len() / 2])?)
        }
        Some(Fault::Paged(size)) => send(stream, 200, page(&whole_list(&form, &forward)?, &form, size)?),
        Some(Fault::SecondPageFails) if field(&form, "NextToken").is_some() => {
            send(stream, 500, error("InternalError", "An internal error has occurred"))
        }
        Some(Fault::SecondPageFails) => send(stream, 200, page(&whole_list(&form, &forward)?, &form, 1)?),
        Some(Fault::Reset) => Ok(SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?),
        Some(Fault::Silent) => {
            std::thread::sleep(Duration::from_secs(120));
            Ok(())
        }
    }
}

/// As [`forward`], with what AWS would refuse, remember, hide or show later; and routers follow.
fn strictly(
    ns: &Netns,
    moto: SocketAddr,
    request: &Request,
    call: &Call,
    form: &str,
    faults: &Faults,
    follow: &Follow,
) -> Result<Vec<u8>> {
    let Faults { strict, stale, .. } = faults;
    let ask = |form: &str| body_of(&forward(ns, moto, request, form)?).context("no HTTP body");
    let list = |action: &str| ask(&format!("Action={action}&Version=2016-11-15"));
    let form = match strict.before(call, form, ask)? {
        Verdict::Pass(form) => form,
        Verdict::Answer(body) => return Ok(xml(200, body).bytes()),
        Verdict::Refuse(status, code, message) => return Ok(xml(status, error_of(call, code, &message)).bytes()),
    };
    let before = stale.lists(call, |action| {
        let call = Call { action: action.into(), ..call.clone() };
        targets::shown(&call, list(action)?, list)
    })?;
    let answer = forward(ns, moto, request, &form)?;
    if !answer.starts_with(b"HTTP/1.1 200") || call.json {
        return Ok(answer);
    }
    let Some(text) = body_of(&answer) else { return Ok(answer) };
    strict.after(call, &form, &text);
    strict::one_check(call, &form, &text, ask)?;
    stale.changed(call, before);
    follow.changed(call, &form);
    let shown = strict::not_yet(call, strict.without_hidden(call, text.clone())?);
    let shown = stale.shown(call, targets::shown(call, shown, list)?)?;
    Ok(if shown == text { answer } else { xml(200, shown).bytes() })
}

/// An answer as the caller's account gets it.
fn shown_to(iam: &Iam, call: &Call, answer: Vec<u8>) -> Result<Vec<u8>> {
    match body_of(&answer).filter(|_| call.service == "ec2" && answer.starts_with(b"HTTP/1.1 200")) {
        Some(text) => {
            let shown = iam.shown(&call.access_key, &call.action, text.clone())?;
            Ok(if shown == text { answer } else { xml(200, shown).bytes() })
        }
        None => Ok(answer),
    }
}

/// What follows the head of an answer.
fn body_of(answer: &[u8]) -> Option<String> {
    String::from_utf8_lossy(answer).split_once("\r\n\r\n").map(|(_, body)| body.to_string())
}

/// Sends the request on, with another body, and returns the answer byte for byte.
fn forward(ns: &Netns, moto: SocketAddr, request: &Request, form: &str) -> Result<Vec<u8>> {
    let mut stream = ns.run(|| Ok(TcpStream::connect_timeout(&moto, Duration::from_secs(5))?))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut head = format!("{} {} HTTP/1.0\r\nContent-Length: {}\r\n", request.method, request.path, form.len());
    let own = ["content-length", "connection", "expect", "transfer-encoding"];
    for (name, value) in request.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n{form}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read moto's answer")?;
    Ok(answer)
}

/// The unpaged list: moto's own MaxResults is left out of it.
fn whole_list(form: &str, forward: &impl Fn(&str) -> Result<Vec<u8>>) -> Result<String> {
    let paging = |pair: &&str| !pair.starts_with("MaxResults=") && !pair.starts_with("NextToken=");
    let answer = forward(&form.split('&').filter(paging).collect::<Vec<_>>().join("&"))?;
    body_of(&answer).context("no HTTP body")
}

/// One page of `list`; tokens are the number of items already sent.
fn page(list: &str, form: &str, size: usize) -> Result<String> {
    let start: usize = field(form, "NextToken").map_or(Ok(0), str::parse).context("NextToken")?;
    let document = Document::parse(list)?;
    let set = document.root_element().children().find(|n| n.tag_name().name().ends_with("Set")).context("no set")?;
    let items: Vec<&str> = set.children().filter(|n| n.is_called("item")).map(|n| &list[n.range()]).collect();
    let here = items.iter().skip(start).take(size).copied().collect::<String>();
    let more = start + size < items.len();
    let token = if more { format!("<nextToken>{}</nextToken>", start + size) } else { String::new() };
    let name = set.tag_name().name();
    let (before, after) = (&list[..set.range().start], &list[set.range().end..]);
    Ok(format!("{before}<{name}>{here}</{name}>{token}{after}"))
}

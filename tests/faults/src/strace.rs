//! A pass of the real agent under strace: records its calls, then makes the same pass and interferes at one of them.
//!
//! No failpoints: where those calls are comes from a recording of the same pass undisturbed.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use crosswan_lab::{Gateway, Output};

use crate::region::{agent, show};

/// Calls that change something, or start a program that does.
const CALLS: &str = "trace=openat,fchmod,fsync,rename,unlink,sendto,write,clone,clone3,vfork";
/// VICI requests that only ask; between two of them everything is as it was.
const QUESTIONS: [&str; 4] = ["version", "get-algorithms", "list-", "get-shared"];

/// One call of the agent's: the n-th of its name.
#[derive(Debug, Clone)]
pub struct Point {
    call: String,
    nth: usize,
    /// strace's words for it.
    pub line: String,
}

/// What happens at a call.
#[derive(Debug, Clone, Copy)]
pub enum Strike {
    /// SIGKILL just before it.
    Kill,
    /// It waits this many seconds before it.
    Wait(u32),
}

/// Makes a pass and returns the calls worth dying at: each that changes something, from the marker on.
pub fn record(gateway: &Gateway) -> Result<Vec<Point>> {
    strace(gateway, &[])?.ok()?;
    let mut seen = BTreeMap::new();
    let mut points: Vec<Point> = Vec::new();
    let (mut begun, mut asked) = (false, false);
    for line in gateway.read_file("/run/trace")?.lines() {
        let Some((call, rest)) = line.split_once('(') else { continue };
        let nth = seen.entry(call.to_owned()).or_insert(0);
        *nth += 1;
        begun |= rest.contains("/unfinished");
        let question = call == "sendto" && QUESTIONS.iter().any(|q| rest.contains(q));
        let telling = match call {
            "sendto" => rest.contains("load") || rest.contains("terminate") || question && !asked,
            // A program's stdin. The agent's log and its wake-ups change nothing, and are not always as many; a file is
            // written between its fchmod and its fsync.
            "write" => rest.contains("*nat"),
            "openat" => rest.contains(".new\""),
            // Temporary files exist only after a kill.
            "unlink" => !rest.contains(".new\""),
            "clone" | "clone3" | "vfork" => !asked,
            _ => true,
        };
        if begun && telling {
            asked |= question;
            points.push(Point { call: call.into(), nth: *nth, line: plain(line).chars().take(90).collect() });
        }
    }
    Ok(points)
}

/// Makes the same pass, strikes at that call, or as many of its name later, and returns what came of the agent and
/// whether that was the place meant.
pub fn strike(gateway: &Gateway, point: &Point, off: isize, how: Strike) -> Result<(Output, bool)> {
    let nth = point.nth.saturating_add_signed(off).max(1);
    let what = match how {
        Strike::Kill => "signal=SIGKILL".to_owned(),
        Strike::Wait(seconds) => format!("delay_enter={}", u64::from(seconds) * 1_000_000),
    };
    let output = strace(gateway, &["-e", &format!("inject={}:{what}:when={nth}", point.call)])?;
    let trace = gateway.read_file("/run/trace")?;
    let same = |line: &str| plain(line).chars().take_while(|c| *c != '=').take(40).collect::<String>();
    // A call that was killed is the last one; a delayed one is marked.
    let mark = if matches!(how, Strike::Kill) { "(" } else { "(DELAYED)" };
    let last = trace.lines().rev().find(|line| line.contains(mark)).unwrap_or_default();
    Ok((output, same(last) == same(&point.line) || point.call.starts_with("clone")))
}

/// Makes the same pass and kills the agent just before that call; whether that was the place meant.
pub fn kill_at(gateway: &Gateway, point: &Point, off: isize) -> Result<bool> {
    let (output, same) = strike(gateway, point, off, Strike::Kill)?;
    ensure!(matches!(output.code, 0 | 137), "it was not killed: {}", show(&output));
    Ok(same && output.code != 0)
}

fn strace(gateway: &Gateway, more: &[&str]) -> Result<Output> {
    let agent = agent()?;
    let args = [&["-o", "/run/trace", "-y", "-s", "60", "-e", CALLS], more, &[&agent.to_string_lossy(), "refresh"]];
    gateway.run("strace", &args.concat(), "")
}

/// A line without descriptors (`14<...>`): sockets have other numbers in every run, and how many are open at once varies with EC2's answers.
fn plain(line: &str) -> String {
    let (mut plain, mut depth) = (String::new(), 0);
    for c in line.chars() {
        if c == '<' && depth == 0 {
            plain.truncate(plain.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        }
        depth += i32::from(c == '<') - i32::from(c == '>');
        if depth == 0 && c != '>' {
            plain.push(c);
        }
    }
    plain
}

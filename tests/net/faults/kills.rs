//! The agent dies at every step of an apply: no other tunnel loses a packet, and one more refresh makes all good.
//!
//! No failpoints: strace kills the real agent just before its n-th call of a kind. Where those calls are comes from
//! a recording of the same pass undisturbed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use crosswan::model::{ConnName, VpcId, child_name};
use crosswan_lab::{Gateway, Role};
use nix::libc::SIGKILL;

use super::look::{Snapshot, all_well, ask, sas, stream, unharmed};
use crate::region::{AGENT, Region, UP, eventually, lines, refresh, show};

/// Calls that change something, or start a program that does.
const CALLS: &str = "rename,unlink,sendto,write,clone,clone3,vfork";
/// VICI requests that only ask; between two of them everything is as it was.
const QUESTIONS: [&str; 4] = ["version", "get-algorithms", "list-", "get-shared"];

/// One call of the agent's: the n-th of its name.
#[derive(Debug, Clone)]
struct Point {
    call: String,
    nth: usize,
    /// strace's words for it.
    line: String,
}

#[test]
fn killed_at_every_step_of_an_apply_one_more_refresh_heals() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    // It would initiate at moments of its own, and the plan depends on which SAs there are.
    drop(region.keepers.remove(&hub.name));
    hub.set_env("CROSSWAN_AFTER_MISSES", "1");
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    let first = region.gateway("c/nat-vpn")?;
    let second = region.lab.add_gateway("c", Role::NatVpn)?;
    first.start_charon()?;
    refresh(&first)?;
    let peer = Peer { region: &region, hub: &hub, first: &first, second: &second };

    let others =
        [("a/host", "b/host"), ("b/host-2", "hub/host")].map(|(from, to)| stream(&region, from, to)).into_iter();
    let others = others.collect::<Result<Vec<_>>>()?;
    let mut points = 0;
    for (what, from, to) in
        [("add", At::Nowhere, At::First), ("move", At::First, At::Second), ("remove", At::First, At::Nowhere)]
    {
        peer.is(from)?;
        let start = Snapshot::of(&hub)?;
        peer.prepare(from, to)?;
        let recorded = record(&hub)?;
        let end = Snapshot::of(&hub)?;
        ensure!(start != end && !end.unfinished);
        ensure!(recorded.len() >= 8, "{what}: too few steps: {recorded:#?}");
        for point in recorded {
            // Wake-ups between threads are writes too, and not always as many: the place may be missed by a call or two.
            // A kill elsewhere must heal just as well.
            let mut hit = false;
            for off in [0, 0, 1, -1, 2, -2] {
                let when = format!("{what}, killed before {} ({off:+})", point.line);
                peer.is(from)?;
                Snapshot::of(&hub)?.must_be(&start, &format!("back from {when}"))?;
                peer.prepare(from, to)?;
                hit = kill_at(&hub, &point, off).context(when.clone())?;
                for (path, file) in Snapshot::of(&hub)?.files {
                    ensure!(file == start.files[path] || file == end.files[path], "{when}: {path} is half written");
                }
                refresh(&hub).context(when.clone())?;
                Snapshot::of(&hub)?.must_be(&end, &when)?;
                ensure!(peer.sas()? == 0 || to == At::First, "{when}: an SA of the old place is left");
                let leftovers = hub.sh("ls -A /etc/swanctl/conf.d /var/lib/crosswan /run/crosswan | grep new")?;
                ensure!(leftovers.stdout.is_empty(), "{when}: {}", show(&leftovers));
                if hit {
                    break;
                }
            }
            ensure!(hit, "{what}: never killed before {}", point.line);
            points += 1;
        }
    }
    for other in others {
        let report = unharmed(other, "another tunnel")?;
        println!("{points} kills, {} pings through other tunnels, none lost", report.sent);
    }
    Ok(())
}

/// The new key is loaded, no file says so yet, and by the next pass the old one is wanted again: files and wish agree,
/// only the marker tells that charon may hold something else.
#[test]
fn a_key_that_was_changed_and_changed_back_around_a_kill() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let start = Snapshot::of(&hub)?;
    let psk = format!("/etc/crosswan/psk.d/{}", region.lab.vpc_id("a")?);
    hub.write_file(&psk, "another-key-for-this-spoke-alone\n", 0o600)?;
    let points = record(&hub)?;
    let end = Snapshot::of(&hub)?;
    ensure!(start != end);
    let old = format!("{}\n", region.lab.psk());
    hub.write_file(&psk, &old, 0o600)?;
    refresh(&hub)?;

    let loaded = points.iter().position(|point| point.line.contains("load-shared")).context("no load-shared")?;
    let point = points.get(loaded + 1).context("nothing after it")?;
    hub.write_file(&psk, "another-key-for-this-spoke-alone\n", 0o600)?;
    ensure!(kill_at(&hub, point, 0)?, "killed elsewhere");
    hub.write_file(&psk, &old, 0o600)?;
    let report = refresh(&hub)?;
    Snapshot::of(&hub)?.must_be(&start, "after the key was changed back")?;
    // Only a key exchange shows which key charon holds.
    spoke.kill_charon(SIGKILL)?;
    spoke.start_charon()?;
    drop(region.keepers.remove(&hub.name));
    region.lab.host("a/host")?.wait_for(region.address("hub/host")?, UP)?;
    ensure!(lines(&report, "notes").concat().contains("cut off"), "{report:#}");
    all_well(&region, UP)
}

/// Where the peer is that comes, moves and goes: two gateways in one VPC, of which the newer one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Nowhere,
    First,
    Second,
}

struct Peer<'a> {
    region: &'a Region,
    hub: &'a Gateway,
    first: &'a Gateway,
    second: &'a Gateway,
}

impl Peer<'_> {
    /// Tells EC2.
    fn tag(&self, at: At) -> Result<()> {
        let gateways = [(self.first, at != At::Nowhere), (self.second, at == At::Second)];
        gateways
            .into_iter()
            .try_for_each(|(gateway, on)| self.region.lab.tag(gateway, "service", Some(if on { "nat" } else { "off" })))
    }

    /// Brings the hub there, undisturbed.
    fn is(&self, at: At) -> Result<()> {
        self.tag(at)?;
        refresh(self.hub).map(drop)
    }

    /// A pass from `from` to `to` now has an SA to end, if there can be one, and rules to restore.
    fn prepare(&self, from: At, to: At) -> Result<()> {
        if from == At::First && self.sas()? == 0 {
            let cidr = "10.3.0.0/16".parse()?;
            let name = self.connection()?;
            ask(self.hub, async |vici| vici.initiate(&name, &child_name(&cidr), Some(UP)).await)?;
            eventually(UP, "the peer's SA", || Ok(self.sas()? == 1))?;
        }
        self.hub.run("iptables", &["-t", "nat", "-F", "CROSSWAN-NAT"], "")?.ok()?;
        self.tag(to)
    }

    fn connection(&self) -> Result<String> {
        Ok(ConnName::to_vpc(&self.region.lab.vpc_id("c")?.parse::<VpcId>()?).to_string())
    }

    fn sas(&self) -> Result<usize> {
        let name = self.connection()?;
        Ok(sas(self.hub)?.iter().filter(|sa| sa.conn == name).count())
    }
}

/// Makes a pass under strace and returns the calls worth dying at: each that changes something, from the marker on.
fn record(hub: &Gateway) -> Result<Vec<Point>> {
    let args = ["-o", "/run/trace", "-s", "60", "-e", &format!("trace={CALLS}"), AGENT, "refresh"];
    hub.run("strace", &args, "")?.ok()?;
    let mut seen = BTreeMap::new();
    let mut points: Vec<Point> = Vec::new();
    let (mut begun, mut asked) = (false, false);
    for line in hub.read_file("/run/trace")?.lines() {
        let Some((call, rest)) = line.split_once('(') else { continue };
        let nth = seen.entry(call.to_owned()).or_insert(0);
        *nth += 1;
        begun |= call == "rename" && rest.contains("/unfinished");
        let question = call == "sendto" && QUESTIONS.iter().any(|q| rest.contains(q));
        let telling = match call {
            "sendto" => rest.contains("load") || rest.contains("terminate") || question && !asked,
            // To a program's stdin; the agent's log and its wake-ups change nothing.
            "write" => rest.contains("*nat"),
            "unlink" => rest.contains("/unfinished"),
            "clone" | "clone3" | "vfork" => !asked,
            _ => true,
        };
        if begun && telling {
            asked |= question;
            points.push(Point { call: call.into(), nth: *nth, line: line.chars().take(90).collect() });
        }
    }
    Ok(points)
}

/// Makes the same pass and kills the agent just before that call, or as many of its name later; whether that was the
/// place meant.
fn kill_at(hub: &Gateway, point: &Point, off: isize) -> Result<bool> {
    let trace = format!("trace={CALLS}");
    let inject = format!("inject={}:signal=SIGKILL:when={}", point.call, point.nth.saturating_add_signed(off).max(1));
    let args = ["-o", "/run/trace", "-s", "60", "-e", &trace, "-e", &inject, AGENT, "refresh"];
    let output = hub.run("strace", &args, "")?;
    if output.code == 0 {
        return Ok(false);
    }
    ensure!(output.code == 137, "it was not killed: {}", show(&output));
    let trace = hub.read_file("/run/trace")?;
    let last = trace.lines().rev().find(|line| line.contains('(')).unwrap_or_default();
    // The same place as in the recording, and the call itself not made.
    let same = |line: &str| line.chars().take_while(|c| *c != '=').take(40).collect::<String>();
    Ok(same(last) == same(&point.line) || point.call.starts_with("clone"))
}

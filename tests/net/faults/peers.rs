//! A peer's failure is that peer's: it keeps what it had and is named, and all other changes go on.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use crosswan_core::model::{ConnName, InstanceId, PublicKey, VpcId};
use crosswan_faults::{
    paper::Paper,
    peer::Peer,
    strace::{Strike, record, strike},
};
use crosswan_lab::{Auth, Fault, Gateway};
use nix::libc::{SIGCONT, SIGSTOP};
use serde_json::Value;

use super::{
    look::{CONNECTIONS, Snapshot, all_well, gap, rules, sas, stream, unharmed},
    meddler::{Answer, Meddler},
};
use crate::{
    keys::{reconnect, ring, rotation::proved},
    region::{Region, UP, eventually, lines, refresh, refresh_with, show},
};

/// The hub's private network, and what it is widened by.
const WIDER: &str = "172.16.0.0/12";

fn connection(region: &Region, vpc: &str) -> Result<String> {
    region.lab.connection_to(&*region.gateway(&format!("{vpc}/nat-vpn"))?)
}

/// The lines of one connection in the hub's file.
fn section(gateway: &Gateway, name: &str) -> Result<String> {
    let text = gateway.read_file(CONNECTIONS)?;
    let from = text.split_once(&format!("\n    {name} {{\n")).context("no such connection in the file")?.1;
    Ok(from.split_once("\n    }\n").context("it does not end")?.0.to_owned())
}

/// The peers that a report says have failed: name, reason, and whether what they had is back.
fn failed(report: &Value) -> Vec<(String, String, bool)> {
    let one = |(name, f): (&String, &Value)| {
        (name.clone(), f["why"].as_str().unwrap_or_default().to_owned(), f["restored"] == true)
    };
    report["failed"].as_object().into_iter().flatten().map(one).collect()
}

/// The spoke accepts no new child, because its ESP proposal is not the hub's.
fn refuse_children(spoke: &Gateway) -> Result<()> {
    let change = format!("sed -i 's/esp_proposals = .*/esp_proposals = aes128-sha256-modp2048/' {CONNECTIONS}");
    spoke.sh(&format!("{change} && swanctl --load-all --noprompt"))?.ok().map(drop)
}

#[test]
fn a_spoke_that_refuses_a_new_child_vetoes_nothing_of_anybody_else() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    hub.set_env("CROSSWAN_AFTER_MISSES", "1");
    let leaver = Peer::launch(&region.lab)?;
    leaver.tag(&region.lab, crosswan_faults::peer::At::First)?;
    refresh(&hub)?;
    region.boot(&leaver.first)?;
    all_well(&region, UP)?;
    let [of_a, of_b, of_c] = ["a", "b", Peer::VPC].map(|vpc| connection(&region, vpc));
    let (of_a, of_b, of_c) = (of_a?, of_b?, of_c?);
    let had = section(&hub, &of_a)?;
    let child = |hub: &Gateway| -> Result<Vec<u32>> {
        Ok(sas(hub)?.iter().filter(|sa| sa.conn == of_a).flat_map(|sa| &sa.children).map(|c| c.id).collect())
    };
    let child_of_a = child(&hub)?;
    let streams = [("a/host", "b/host"), ("hub/host", "a/host"), ("b/host-2", "hub/host")];
    let streams = streams.into_iter().map(|(from, to)| stream(&region, from, to)).collect::<Result<Vec<_>>>()?;

    refuse_children(&a)?;
    // Everything at once: every selector and the guard, one peer that goes, and one that comes.
    hub.set_env("CROSSWAN_PRIVATE_NET", &format!("10.0.0.0/8,{WIDER}"));
    region.lab.tag(&leaver.first, "service", Some("off"))?;
    let newcomer = Paper::client(&region.lab, "us-west-2", "10.50.0.0/16", 200)?;
    let report = refresh_with(&hub, &[], 4)?;
    ensure!(report["outcome"] == "partly", "{report:#}");
    let named = failed(&report);
    ensure!(named.len() == 1 && named[0].0 == of_a && named[0].2, "{named:#?}");
    ensure!(named[0].1.contains(&format!("renew {of_a}/")), "{named:#?}");
    ensure!(lines(&report, "problems").is_empty(), "{report:#}");

    // The peer that failed has what it had, in charon and in the file, and its tunnel.
    let now = Snapshot::of(&hub)?;
    let selectors = |name: &str| format!("{:?}", now.connections.get(name));
    ensure!(section(&hub, &of_a)? == had && !selectors(&of_a).contains(WIDER), "{}", selectors(&of_a));
    ensure!(child(&hub)? == child_of_a, "its child is another");
    // Everyone else has what was decided.
    ensure!(section(&hub, &of_b)?.contains(WIDER) && selectors(&of_b).contains(WIDER), "{}", selectors(&of_b));
    let newcomer = connection_of(&newcomer)?;
    ensure!(now.connections.contains_key(&newcomer) && section(&hub, &newcomer)?.contains(WIDER));
    ensure!(!now.connections.contains_key(&of_c) && !now.secrets.contains(&format!("ike-{of_c}")), "not revoked");
    ensure!(sas(&hub)?.iter().all(|sa| sa.conn != of_c) && !hub.read_file(CONNECTIONS)?.contains(&of_c));
    ensure!(!rules(&hub, |line| line.contains("CROSSWAN-GUARD") && line.contains(WIDER))?.is_empty(), "no new rules");
    let state = hub.read_file("/var/lib/crosswan/state.json")?;
    let state: Value = serde_json::from_str(&state)?;
    let known = |name: &str| -> Result<bool> { Ok(state["peers"].get(name.parse::<ConnName>()?.party()).is_some()) };
    ensure!(known(&of_a)? && known(&newcomer)? && !known(&of_c)?, "{state:#}");
    ensure!(!now.unfinished, "nothing is in doubt");
    let told = hub.agent(&["status"])?;
    let line = format!("FAILED    {of_a}: renew {of_a}/");
    ensure!(told.stdout.contains(&line) && told.stdout.contains("is in force again"), "{}", show(&told));

    // Again, with only that one left: the same result, and nobody else is touched.
    let report = refresh_with(&hub, &[], 4)?;
    ensure!(failed(&report).len() == 1 && lines(&report, "steps").is_empty(), "{report:#}");
    Snapshot::of(&hub)?.must_be(&now, "the same failure again")?;
    for stream in streams {
        unharmed(stream, "a tunnel that worked")?;
    }

    // The reason is gone: nothing is left of it.
    refresh(&a)?;
    let report = refresh(&hub)?;
    ensure!(report["outcome"] == "changed" && failed(&report).is_empty(), "{report:#}");
    ensure!(section(&hub, &of_a)?.contains(WIDER));
    ensure!(refresh(&hub)?["outcome"] == "unchanged");
    Ok(())
}

fn connection_of(paper: &Paper) -> Result<String> {
    Ok(ConnName::to_gateway(&paper.vpc.parse::<VpcId>()?, &paper.instance.parse::<InstanceId>()?).to_string())
}

/// charon accepts the request and answers neither it nor anything after it.
#[test]
fn a_charon_that_hangs_in_the_middle_leaves_rules_and_nat_going_on() -> Result<()> {
    let region = Region::standard()?;
    let spoke = region.gateway("a/nat-vpn")?;
    let before = Snapshot::of(&spoke)?;
    let others = stream(&region, "b/host", "hub/host")?;
    let own = stream(&region, "a/host", "hub/host")?;
    // A pass with a connection to load, and rules to restore.
    let forget = format!("rm {CONNECTIONS}; iptables -t nat -F CROSSWAN-NAT");
    spoke.sh(&forget)?.ok()?;
    let points = record(&spoke)?;
    Snapshot::of(&spoke)?.must_be(&before, "the recorded pass")?;
    let point = points.iter().find(|point| point.line.contains("load-conn")).context("no load-conn in the pass")?;
    spoke.sh(&forget)?.ok()?;
    let (output, there) = thread::scope(|scope| {
        let pass = scope.spawn(|| strike(&spoke, point, 0, Strike::Wait(4)));
        eventually(UP, "the rules are there", || {
            Ok(!rules(&spoke, |line| line.starts_with("-A CROSSWAN-NAT"))?.is_empty())
        })?;
        thread::sleep(Duration::from_secs(1));
        spoke.signal_charon(SIGSTOP)?;
        pass.join().map_err(|_| anyhow!("the pass panicked"))?
    })?;
    ensure!(there, "the agent was not held at load-conn");
    ensure!(output.code == 4, "{}", show(&output));
    let report: Value = serde_json::from_str(&spoke.read_file("/run/crosswan/status.json")?)?;
    ensure!(report["outcome"] == "partly", "{report:#}");
    let named = failed(&report);
    ensure!(
        !named.is_empty() && named.iter().all(|(name, _, restored)| name.contains("-hub-") && !restored),
        "{named:#?}"
    );
    ensure!(lines(&report, "problems").concat().contains("no answer"), "{report:#}");
    ensure!(lines(&report, "steps").concat().contains("CROSSWAN-NAT"), "{report:#}");
    // The internet needs no tunnel.
    let host = region.lab.host("a/host")?;
    ensure!(Some(host.whoami_tcp(region.lab.internet().address)?) == spoke.public());
    spoke.signal_charon(SIGCONT)?;
    let outage = gap(own)?;
    println!("charon hung in a pass: its own packets missing for {outage:?}");
    let after = Snapshot::of(&spoke)?;
    ensure!(after.unfinished && after.rules == before.rules && after.files[CONNECTIONS].is_none(), "{after:#?}");
    refresh(&spoke)?;
    Snapshot::of(&spoke)?.must_be(&before, "the pass after")?;
    all_well(&region, UP)?;
    unharmed(others, "a tunnel of another spoke").map(drop)
}

/// What was decided is not remembered as done: else the peer, still loaded, would count as new to a state that lost it.
#[test]
fn a_removal_that_a_hung_charon_hears_nothing_of_is_made_up_for_by_the_next_pass() -> Result<()> {
    let region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let leaver = Paper::client(&region.lab, "us-west-2", "10.50.0.0/16", 200)?;
    let name = connection_of(&leaver)?;
    refresh(&hub)?;
    leaver.tag(&region.lab, "service", Some("off"))?;
    ensure!(lines(&refresh(&hub)?, "kept").concat().contains("poll 1 of 2"));
    hub.signal_charon(SIGSTOP)?;
    let report = refresh_with(&hub, &[], 3);
    hub.signal_charon(SIGCONT)?;
    let report = report?;
    ensure!(lines(&report, "removed").is_empty(), "{report:#}");
    ensure!(Snapshot::of(&hub)?.connections.contains_key(&name));
    let report = refresh(&hub)?;
    ensure!(lines(&report, "removed") == [leaver.vpc.clone()], "{report:#}");
    let now = Snapshot::of(&hub)?;
    ensure!(!now.connections.contains_key(&name) && !now.secrets.contains(&format!("ike-{name}")));
    all_well(&region, UP)
}

/// A gateway destroys its old key once the new one is accepted. charon says when that is, so it does not happen before.
#[test]
fn the_next_key_of_a_peer_that_failed_is_not_accepted_and_anothers_is() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, a, b) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?, region.gateway("b/nat-vpn")?);
    let packets = [("a/host", "hub/host"), ("b/host", "hub/host")].map(|(from, to)| stream(&region, from, to));
    let next = |spoke: &Gateway| -> Result<PublicKey> {
        spoke.agent(&["rotate-key"])?.ok()?;
        Ok(ring(spoke)?.next.context("no next key")?.public)
    };
    let (next_of_a, next_of_b) = (next(&a)?, next(&b)?);
    let of_a = connection(&region, "a")?;
    let meddler = Meddler::between(&hub, "load-conn", &of_a, Answer::Refuse("no"))?;
    let report = refresh_with(&hub, &[], 4)?;
    // Its tunnel, and the place where it would prove its next key.
    let failed = failed(&report);
    ensure!(failed.len() == 2 && failed.iter().all(|(name, ..)| name.starts_with(&of_a)), "{report:#}");
    ensure!(meddler.met() > 0);
    proved(&b)?;
    for (spoke, takes_over) in [(&a, false), (&b, true)] {
        refresh(spoke)?;
        ensure!(ring(spoke)?.next.is_none() == takes_over, "{}", spoke.name);
    }
    ensure!(ring(&b)?.current.public == next_of_b);
    drop(meddler);
    refresh(&hub)?;
    proved(&a)?;
    refresh(&a)?;
    refresh(&hub)?;
    ensure!(ring(&a)?.current.public == next_of_a);
    for stream in packets {
        unharmed(stream?, "keys were rotated")?;
    }
    [&a, &b].into_iter().try_for_each(|spoke| reconnect(&region, spoke))
}

/// EC2 is slow with the tag. Writing it needs no charon, so `keep` may go on.
#[test]
fn keep_heals_while_ec2_takes_its_time_over_the_tag() -> Result<()> {
    const SLOW: Duration = Duration::from_secs(25);
    let mut region = Region::with(Auth::Key)?;
    let spoke = region.gateway("a/nat-vpn")?;
    // Just after its boot the hub's would initiate, too.
    drop(region.keepers.remove("hub/vpn-hub"));
    let keeper = &region.keepers[&spoke.name];
    let tags = || -> u64 {
        let calls = region.lab.ec2_calls();
        calls.iter().filter(|((_, action), _)| action == "CreateTags").map(|(_, n)| n).sum()
    };
    region.lab.ec2_fault("*", "CreateTags", Fault::Slow(SLOW));
    let before = tags();
    thread::scope(|scope| {
        let began = Instant::now();
        let pass = scope.spawn(|| spoke.agent(&["rotate-key"]));
        eventually(UP, "the tag is being written", || Ok(tags() > before))?;
        let tried = keeper.log().matches("initiate").count();
        for sa in sas(&spoke)? {
            spoke.swanctl(&["--terminate", "--ike-id", &sa.id.to_string(), "--timeout", "5"])?;
        }
        // No packet triggers it.
        eventually(SLOW * 2, "keep brings the tunnel back", || {
            let up = sas(&spoke)?.iter().any(|sa| sa.is_established() && !sa.children.is_empty());
            Ok(up && keeper.log().matches("initiate").count() > tried)
        })?;
        ensure!(!pass.is_finished(), "the tunnel came back only after the refresh, {:?}", began.elapsed());
        println!("the tunnel was back {:?} after the refresh began", began.elapsed());
        region.lab.ec2_heal();
        let output = pass.join().map_err(|_| anyhow!("the pass panicked"))??;
        ensure!(output.code == 0, "{}", show(&output));
        Ok(())
    })
}

//! A peer, or its charon, fails in the middle of a pass: that part is named and restored, and the rest goes on.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::libc::{SIGCONT, SIGSTOP};

use super::Healed;
use crate::{
    look::{CONNECTIONS, Snapshot, gap, rules},
    region::{UP, eventually, lines, refresh, refresh_with},
    stage::Stage,
    strace::{Strike, record, strike},
};

/// Settings that change every selector and the guard.
const WIDER: &str = "/etc/crosswan/conf.d/60-wider.toml";

/// Its ESP proposal is not the hub's: each new child is refused with NO_PROPOSAL_CHOSEN.
pub fn vetoing(stage: &mut Stage) -> Result<Healed> {
    let (hub, victim, name) = (&stage.hub, &stage.peer.first, stage.region.lab.connection_to(&stage.peer.first)?);
    let own = stage.own_stream()?;
    let change = format!("sed -i 's/esp_proposals = .*/esp_proposals = aes128-sha256-modp2048/' {CONNECTIONS}");
    victim.sh(&format!("{change} && swanctl --load-all --noprompt"))?.ok()?;
    hub.write_file(WIDER, "private_net = [\"10.0.0.0/8\", \"172.16.0.0/12\"]\n", 0o644)?;
    stage.work(true)?;
    let began = Instant::now();
    let vetoed = judge(stage, &name)?;
    let whole = began.elapsed();
    // Whenever it is cut off, also while the peer gets back what it had, the next pass leaves the same.
    let times = if stage.quick { 2 } else { 24 };
    for n in 0..times {
        let agent = hub.spawn_agent(&["refresh"])?;
        thread::sleep(whole * n / times);
        agent.stop()?;
        let again = judge(stage, &name)?;
        again.must_be(&vetoed, &format!("a pass was cut off after {:?}", whole * n / times))?;
    }
    // Its tunnel never ended: it has the child that it had.
    let report = own.stop()?;
    ensure!(report.lost == 0 && report.sent > 0, "the victim's own tunnel: {report:?}");
    refresh(victim)?;
    let began = Instant::now();
    refresh(hub)?;
    let took = began.elapsed();
    std::fs::remove_file(hub.path(WIDER))?;
    stage.heal_hub("the private network is what it was")?;
    Healed::by("never broken: it kept what it had, the others got theirs; once it agrees, the next pass", took)
}

/// One pass that the victim vetoes: what it leaves on the hub.
fn judge(stage: &Stage, victim: &str) -> Result<Snapshot> {
    let report = refresh_with(&stage.hub, &[], 4)?;
    let failed = report["failed"].as_object().context("no peer is named")?;
    ensure!(report["outcome"] == "partly" && failed.keys().eq([victim]), "{report:#}");
    ensure!(failed[victim]["restored"] == true, "{report:#}");
    let now = Snapshot::of(&stage.hub)?;
    ensure!(now.connections.get(victim) == stage.idle.connections.get(victim), "{:#?}", now.connections);
    ensure!(now.connections.len() == stage.busy.connections.len(), "the peer that came was not loaded");
    ensure!(now.rules != stage.busy.rules && !now.unfinished, "the rules are the old ones");
    Ok(now)
}

/// strace holds the agent just before it loads a connection; when it goes on, charon answers nothing any more.
pub fn hung_in_pass(stage: &mut Stage) -> Result<Healed> {
    let victim = &stage.peer.first;
    let forget = format!("rm {CONNECTIONS}; iptables -t nat -F CROSSWAN-NAT");
    victim.sh(&forget)?.ok()?;
    let points = record(victim)?;
    Snapshot::of(victim)?.must_be(&stage.victim, "the recorded pass")?;
    let point = points.iter().find(|point| point.line.contains("load-conn")).context("no load-conn in the pass")?;
    victim.sh(&forget)?.ok()?;
    let packets = stage.own_stream()?;
    let (output, there) = thread::scope(|scope| {
        let pass = scope.spawn(|| strike(victim, point, 0, Strike::Wait(4)));
        // The rules come first.
        eventually(UP, "the rules are there", || {
            Ok(!rules(victim, |line| line.starts_with("-A CROSSWAN-NAT"))?.is_empty())
        })?;
        thread::sleep(Duration::from_secs(1));
        victim.signal_charon(SIGSTOP)?;
        pass.join().map_err(|_| anyhow!("the pass panicked"))?
    })?;
    victim.signal_charon(SIGCONT)?;
    ensure!(there && output.code == 4, "the pass ended with {}, held at load-conn: {there}", output.code);
    let report: serde_json::Value = serde_json::from_str(&victim.read_file("/run/crosswan/status.json")?)?;
    ensure!(report["outcome"] == "partly" && lines(&report, "problems").concat().contains("no answer"), "{report:#}");
    ensure!(Snapshot::of(victim)?.rules == stage.victim.rules, "the rules did not stay");
    let outage = gap(packets)?;
    let took = stage.heal(victim, &stage.victim, "charon hung in the middle of a pass")?;
    Healed::by(format!("the pass, which kept its rules; the next took {:.1} s; outage", took.as_secs_f64()), outage)
}

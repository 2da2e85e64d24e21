//! IMDS and EC2 fail: what worked is kept, and the failure is reported.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Fault, ImdsFault, iam::accounts::HOME};

use super::Healed;
use crate::{
    account::{Account, OTHER},
    look::Snapshot,
    paper::Paper,
    region::{lines, refresh_with},
    stage::Stage,
};

/// Every region fails for this long: every pass ends with 3 and changes nothing.
fn everywhere(stage: &Stage, fault: Fault, lasting: Duration, said: &str) -> Result<Healed> {
    stage.region.lab.ec2_fault("*", "DescribeInstances", fault);
    stage.work(true)?;
    let (until, mut passes) = (Instant::now() + lasting, 0);
    loop {
        let report = stage.pass(3, &stage.idle, said)?;
        let unasked = lines(&report, "unasked");
        // The three regions, and this gateway's own tags, for which there may be no time left.
        let of_this = |line: &&String| line.starts_with("look up this gateway's own tags: ");
        let (own, regions): (Vec<_>, Vec<_>) = unasked.iter().partition(of_this);
        ensure!(own.len() <= 1 && regions.len() == 3 && regions.iter().all(|line| line.contains(said)), "{unasked:#?}");
        passes += 1;
        (stage.say)(&format!("{passes} passes without an answer"));
        if Instant::now() > until {
            break;
        }
    }
    stage.region.lab.ec2_heal();
    let took = stage.heal_hub("EC2 answers again")?;
    Healed::by(format!("{passes} passes changed nothing; the next pass"), took)
}

pub fn throttled(stage: &mut Stage) -> Result<Healed> {
    let lasting = Duration::from_secs(if stage.quick { 5 } else { 120 });
    everywhere(stage, Fault::Throttle, lasting, "throttled")
}

pub fn garbage(stage: &mut Stage) -> Result<Healed> {
    everywhere(stage, Fault::Garbage, Duration::ZERO, "a web page came in place of EC2")
}

pub fn cut(stage: &mut Stage) -> Result<Healed> {
    everywhere(stage, Fault::Cut, Duration::ZERO, "did not parse")
}

/// One region fails, the others go on: what is new there joins.
fn in_one_region(stage: &Stage, fault: Fault, said: &str) -> Result<Healed> {
    stage.region.lab.ec2_fault("eu-west-1", "DescribeInstances", fault);
    stage.work(true)?;
    let report = stage.pass(3, &stage.busy, said)?;
    let unasked = lines(&report, "unasked");
    ensure!(unasked.len() == 1 && unasked[0].contains("eu-west-1") && unasked[0].contains(said), "{unasked:#?}");
    stage.region.lab.ec2_heal();
    let took = stage.heal_hub("the region answers again")?;
    Healed::by("never broken, the other regions went on; the next pass", took)
}

pub fn second_page(stage: &mut Stage) -> Result<Healed> {
    in_one_region(stage, Fault::SecondPageFails, "EC2 answered 500")
}

pub fn disabled(stage: &mut Stage) -> Result<Healed> {
    in_one_region(stage, Fault::AuthFailure, "AuthFailure")
}

/// The peer that comes belongs to another account. It keeps its tunnel while that account's role cannot be assumed, and what is new in
/// the hub's own account joins meanwhile.
pub fn account_fails(stage: &mut Stage) -> Result<Healed> {
    const LISTED: &str = "/etc/crosswan/conf.d/60-account.toml";
    let (lab, work) = (&stage.region.lab, &stage.work);
    let account = Account::new(lab)?;
    account.gets(lab, &[&work.vpc, &work.instance]);
    stage.hub.write_file(LISTED, &account.settings(&work.region), 0o600)?;
    stage.work(true)?;
    stage.pass(0, &stage.busy, "the peer of another account")?;
    let mut newcomer = Paper::client(lab, "us-west-2", "10.51.0.0/16", 201)?;
    newcomer.tag(lab, "service", None)?;
    account.answers(lab, false);
    for _ in 0..2 {
        let report = stage.pass(3, &stage.busy, "the account fails")?;
        let unasked = lines(&report, "unasked");
        let begin = format!("{OTHER}/{} (payments): not permitted", work.region);
        ensure!(unasked.len() == 1 && unasked[0].starts_with(&begin), "{unasked:#?}");
    }
    newcomer.tag(lab, "service", Some("nat"))?;
    let report = refresh_with(&stage.hub, &[], 3)?;
    ensure!(lines(&report, "steps").iter().any(|step| step.contains(&newcomer.vpc)), "{report:#}");
    newcomer.tag(lab, "service", None)?;
    refresh_with(&stage.hub, &[], 3)?;
    stage.pass(3, &stage.busy, "the newcomer has left")?;
    account.answers(lab, true);
    let took = stage.heal_hub("the account answers again")?;
    newcomer.disassociate(lab)?;
    // Back into the hub's own account.
    lab.iam().accounts.give(&[&work.vpc, &work.instance], HOME);
    std::fs::remove_file(stage.hub.path(LISTED))?;
    stage.heal_hub("the VPC is in the hub's own account again")?;
    Healed::by("never broken, the own account went on; the next pass", took)
}

/// The role's credentials come from there, too: EC2 cannot be asked either.
pub fn imds_gone(stage: &mut Stage) -> Result<Healed> {
    stage.hub.imds.set("", Some(ImdsFault::Down));
    stage.work(true)?;
    let report = stage.pass(3, &stage.idle, "IMDS is gone");
    stage.hub.imds.set("", None);
    let report = report?;
    ensure!(lines(&report, "unasked").concat().contains("going on as"), "{report:#}");
    let took = stage.heal_hub("IMDS is back")?;
    Healed::by("never broken, it went on as who it was and kept what worked; the next pass", took)
}

/// Malformed answers count as no answer, and well-formed ones are followed: for a while both gateways have one more CIDR of
/// their VPC, and then not any more.
pub fn imds_changing(stage: &mut Stage) -> Result<Healed> {
    let mut slowest = Duration::ZERO;
    for (gateway, as_it_was) in [(&stage.hub, &stage.idle), (&stage.peer.first, &stage.victim)] {
        let view = gateway.view();
        let mac = view.instance(&gateway.instance).context("no such instance")?.mac.clone();
        let path = |key: &str| format!("meta-data/network/interfaces/macs/{mac}/{key}");
        for (key, text) in [
            (path("vpc-ipv4-cidr-blocks"), "10.0.0.0/33\n}\n"),
            (path("vpc-ipv4-cidr-blocks"), ""),
            (path("vpc-id"), "vpc-\u{1b}[31m`reboot`"),
            ("meta-data/mac".into(), "../../../../secret"),
            ("meta-data/instance-id".into(), "<html>not found</html>"),
        ] {
            gateway.imds.set(&key, Some(ImdsFault::Garbage(text.into())));
            let report = refresh_with(gateway, &[], 3);
            gateway.imds.set(&key, None);
            let report = report.context(key.clone())?;
            ensure!(report["outcome"] == "unchanged" && !report.to_string().contains('\u{1b}'), "{key}: {report:#}");
            Snapshot::of(gateway)?.must_be(as_it_was, &key)?;
        }
        let (key, more) = (path("vpc-ipv4-cidr-blocks"), format!("{}\n10.200.0.0/16", view.cidrs[0]));
        gateway.imds.set(&key, Some(ImdsFault::Garbage(more)));
        let report = refresh_with(gateway, &[], 0);
        gateway.imds.set(&key, None);
        ensure!(report?["outcome"] == "changed", "{}: one more CIDR made no difference", gateway.name);
        slowest = slowest.max(stage.heal(gateway, as_it_was, "IMDS tells the truth again")?);
    }
    Healed::by_a_pass(slowest)
}

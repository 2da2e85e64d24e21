//! A region that cannot be asked keeps its tunnels, and the others go on: every way in which EC2 fails.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Fault, Gateway};

use super::{
    ELSEWHERE, REGION_A, REGION_B, ensure_no_steps, has_tunnel, ids, look_in, misses, paper::Paper, standard,
    watch::Watch, why,
};
use crate::region::{Region, UP, lines, refresh, refresh_with};

/// One way to fail, and what the report must say of it.
type Case = (&'static str, Fault, &'static str);

const INSTANCES: &str = "DescribeInstances";
const VPCS: &str = "DescribeVpcs";

/// Each pass fails in two regions at once, one way each.
const PASSES: [[Case; 2]; 6] = [
    [
        (INSTANCES, Fault::Throttle, "throttled: EC2 answered \"RequestLimitExceeded\""),
        (
            INSTANCES,
            Fault::Unauthorized,
            "not permitted: the instance's role needs ec2:DescribeInstances in ap-southeast-2",
        ),
    ],
    [
        (INSTANCES, Fault::AuthFailure, "credentials refused (AuthFailure)"),
        (INSTANCES, Fault::ServerError, "EC2 answered 500 to DescribeInstances"),
    ],
    [(INSTANCES, Fault::Slow(Duration::from_secs(20)), "timed out"), (INSTANCES, Fault::Silent, "timed out")],
    [
        (INSTANCES, Fault::Cut, "the answer to DescribeInstances did not parse"),
        (INSTANCES, Fault::SecondPageFails, "EC2 answered 500 to DescribeInstances"),
    ],
    [
        (INSTANCES, Fault::Garbage, "a web page came in place of EC2's answer to DescribeInstances"),
        (INSTANCES, Fault::Reset, "cannot reach EC2 in ap-southeast-2"),
    ],
    [
        (VPCS, Fault::Unauthorized, "not permitted: the instance's role needs ec2:DescribeVpcs in eu-west-1"),
        (VPCS, Fault::Throttle, "throttled: EC2 answered \"RequestLimitExceeded\""),
    ],
];

#[test]
fn a_region_that_fails_keeps_its_tunnels_and_the_others_go_on() -> Result<()> {
    let mut region = standard()?;
    let lab = &region.lab;
    let hub = region.gateway("hub/vpn-hub")?;
    let [a, b] = ids(lab, ["a", "b"])?;
    // A second gateway where the second page is to fail.
    let second = Paper::client(lab, REGION_B, "10.20.0.0/16", 200)?;
    refresh(&hub)?;
    let pairs = [("a/host", "b/host"), ("b/host", "a/host"), ("a/host", "hub/host"), ("hub/host", "b/host-2")];
    let watch = Watch::over(&region, &pairs)?;

    for (n, [in_a, in_b]) in PASSES.into_iter().enumerate() {
        // One call that works less than it takes to be asked again: the first misses nobody either.
        for (at, (action, fault, _)) in [(REGION_A, in_a), (REGION_B, in_b)] {
            lab.ec2_fault(at, action, fault);
        }
        let cidr = format!("10.{}.0.0/16", 30 + n);
        let newcomer = Paper::client(lab, ELSEWHERE, &cidr, 210 + n as u8)?;
        let report = refresh_with(&hub, &[], 3)?;
        let unasked = lines(&report, "unasked");
        ensure!(unasked.len() == 2, "{unasked:?}");
        for (at, (_, fault, words)) in [(REGION_A, in_a), (REGION_B, in_b)] {
            let reason = unasked.iter().find(|line| line.starts_with(at)).with_context(|| format!("{unasked:?}"))?;
            ensure!(reason.contains(words) && !reason.contains('\n'), "{fault:?} in {at}: {reason}");
            ensure!(report["regions"][at]["failed"].is_string(), "{report:#}");
        }
        for vpc in [&a, &b, &second.vpc] {
            ensure!(has_tunnel(&report, vpc), "{in_a:?} {in_b:?}: {vpc} has lost its tunnel: {report:#}");
            let kept = why(&report, "kept", vpc).unwrap_or_default();
            ensure!(kept.contains("could not be asked"), "{vpc}: {kept:?}");
            ensure!(misses(&hub, vpc)? == Some(0), "a failure counted as a miss of {vpc}");
        }
        ensure!(has_tunnel(&report, &newcomer.vpc), "the newcomer elsewhere did not join: {report:#}");
        ensure!(
            lines(&report, "steps")
                .iter()
                .all(|s| s.contains(&newcomer.vpc) || s.contains(&cidr) || s.starts_with("write ")),
            "{report:#}"
        );
        lab.ec2_heal();
    }

    // What passes by itself is ridden out, and pages are put together.
    for (fault, times) in [(Fault::Throttle, 3), (Fault::ServerError, 2), (Fault::Cut, 1), (Fault::Reset, 1)] {
        lab.ec2_fault_times(REGION_A, INSTANCES, fault, times);
        ensure_no_steps(&refresh(&hub).with_context(|| format!("{fault:?} {times} times"))?)?;
        lab.ec2_heal();
    }
    lab.ec2_fault("*", INSTANCES, Fault::Paged(1));
    lab.ec2_fault("*", VPCS, Fault::Paged(1));
    let before = calls(&region.lab, ELSEWHERE);
    ensure_no_steps(&refresh(&hub)?)?;
    ensure!(calls(lab, ELSEWHERE) - before == PASSES.len() as u64, "the pages were not fetched");
    lab.ec2_heal();

    // A gateway whose VPC's CIDRs do not come is refused with the reason, and what it has stays.
    lab.ec2_fault(REGION_A, VPCS, Fault::Empty);
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    ensure!(
        why(&report, "refused", &a).is_some_and(|why| why.contains("DescribeVpcs did not return its VPC")),
        "{report:#}"
    );
    lab.ec2_heal();

    // The report for people names it too.
    lab.ec2_fault(REGION_A, INSTANCES, Fault::Unauthorized);
    let text = hub.agent(&["refresh"])?;
    ensure!(text.code == 3 && text.stdout.contains("NO ANSWER eu-west-1: not permitted"), "{}", text.stdout);
    lab.ec2_heal();

    // And by packets: a client is launched in a region that works, while all others fail.
    for at in ["us-west-2", REGION_A, REGION_B] {
        lab.ec2_fault(at, INSTANCES, Fault::ServerError);
    }
    lab.add_client("c", ELSEWHERE, &["10.3.0.0/16"])?;
    join(&hub)?;
    let c = region.gateway("c/nat-vpn")?;
    region.boot(&c)?;
    region.lab.host("c/host")?.wait_for(region.address("a/host")?, UP)?;
    watch.undisturbed("regions failed in every way")
}

/// A region of the list that the account has not enabled answers AuthFailure for ever.
#[test]
fn a_region_that_is_not_enabled_is_an_error_for_three_polls_and_a_note_from_then_on() -> Result<()> {
    const NOT_ENABLED: &str = "ap-east-1";
    let region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    look_in(&hub, &["us-west-2", REGION_A, REGION_B, NOT_ENABLED])?;
    region.lab.ec2_fault(NOT_ENABLED, INSTANCES, Fault::AuthFailure);
    for poll in 1..=2 {
        let report = refresh_with(&hub, &[], 3)?;
        ensure!(lines(&report, "unasked").concat().contains("AuthFailure"), "poll {poll}: {report:#}");
    }
    for _ in 0..2 {
        let report = refresh(&hub)?;
        ensure!(lines(&report, "unasked").is_empty() && report["tunnels"].as_object().is_some_and(|t| t.len() == 2));
        let notes = lines(&report, "notes").concat();
        ensure!(notes.contains("region ap-east-1 is not enabled for this account"), "{report:#}");
    }
    // It hides no other failure, and is asked all the same.
    region.lab.ec2_fault(REGION_A, INSTANCES, Fault::AuthFailure);
    let report = refresh_with(&hub, &[], 3)?;
    ensure!(matches!(&lines(&report, "unasked")[..], [one] if one.starts_with(REGION_A)), "{report:#}");
    region.lab.ec2_heal();
    let report = refresh(&hub)?;
    ensure!(report["regions"][NOT_ENABLED]["failed"].is_null(), "{report:#}");
    Ok(())
}

fn join(hub: &Gateway) -> Result<()> {
    let report = refresh_with(hub, &[], 3)?;
    ensure!(report["outcome"] == "changed", "{report:#}");
    Ok(())
}

/// Calls of DescribeInstances that gateways made in a region.
fn calls(lab: &crosswan_lab::Lab, region: &str) -> u64 {
    lab.ec2_calls().get(&(region.to_string(), INSTANCES.to_string())).copied().unwrap_or_default()
}

//! Which peers are removed, and when: the polls that must miss a peer, and the hold on too many at once.

use anyhow::{Result, ensure};
use crosswan_lab::Fault;

use super::{
    ELSEWHERE, REGION_A, REGION_B, ensure_no_steps, ensure_revoked, has_tunnel, ids, look_in, misses, paper::Paper,
    standard, watch::Watch, why,
};
use crate::region::{Region, UP, refresh, refresh_with};

const INSTANCES: &str = "DescribeInstances";

#[test]
fn nobody_leaves_by_mistake() -> Result<()> {
    let region = standard()?;
    a_peer_leaves_after_two_polls_that_miss_it_and_failures_do_not_count(&region)?;
    an_empty_cloud_is_held_until_forced_and_a_region_taken_off_the_list_leaves(&region)
}

fn a_peer_leaves_after_two_polls_that_miss_it_and_failures_do_not_count(region: &Region) -> Result<()> {
    let lab = &region.lab;
    let hub = region.gateway("hub/vpn-hub")?;
    let [a, b] = ids(lab, ["a", "b"])?;
    let papers = [("10.50.0.0/16", 200), ("10.51.0.0/16", 201)].map(|(cidr, n)| Paper::client(lab, ELSEWHERE, cidr, n));
    let [p, q] = papers;
    let (p, q) = (p?, q?);
    refresh(&hub)?;
    let pairs = [("a/host", "b/host"), ("b/host", "a/host"), ("a/host", "hub/host")];
    let watch = Watch::over(region, &pairs)?;

    // Without its service tag an instance is no longer a gateway: one poll.
    p.tag(lab, "service", None)?;
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    ensure!(why(&report, "kept", &p.vpc).as_deref() == Some("not seen: poll 1 of 2"), "{report:#}");
    ensure!(misses(&hub, &p.vpc)? == Some(1));
    // Polls that fail between do not count, however many.
    for fault in [Fault::ServerError, Fault::Unauthorized] {
        lab.ec2_fault(ELSEWHERE, INSTANCES, fault);
        ensure_no_steps(&refresh_with(&hub, &[], 3)?)?;
        ensure!(misses(&hub, &p.vpc)? == Some(1), "a failed poll counted");
        lab.ec2_heal();
    }
    // A dry run counts nothing either.
    ensure!(hub.agent(&["refresh", "--dry-run"])?.code == 0);
    ensure!(misses(&hub, &p.vpc)? == Some(1), "a dry run counted");
    // When the peer is seen again, the count starts over.
    p.tag(lab, "service", Some("nat"))?;
    refresh(&hub)?;
    ensure!(misses(&hub, &p.vpc)? == Some(0));
    // A tag that only looks like it is another tag: in a filter EC2 treats a `*` as any value, but never in a tag.
    p.tag(lab, "service", Some("nat*"))?;
    ensure!(misses_after(&hub, &p.vpc)? == Some(1));
    let report = refresh(&hub)?;
    ensure!(report["removed"][0] == p.vpc.as_str() && has_tunnel(&report, &q.vpc), "{report:#}");
    ensure_revoked(&hub, &p.vpc)?;

    // Two of three would leave at once. One is terminated by EC2's own word, and goes; the tunnel of the other carries
    // packets, and EC2 says no such thing of it: it is held.
    q.terminate(lab)?;
    let gateway_b = region.gateway("b/nat-vpn")?;
    lab.tag(&gateway_b, "service", None)?;
    ensure_no_steps(&refresh(&hub)?)?;
    let report = refresh_with(&hub, &[], 6)?;
    ensure!(report["removed"] == serde_json::json!([q.vpc]) && report["held"]["would_remove"] == 2, "{report:#}");
    ensure!(why(&report, "kept", &b).is_some_and(|why| why.contains("held")), "{report:#}");
    ensure_revoked(&hub, &q.vpc)?;
    lab.tag(&gateway_b, "service", Some("nat"))?;
    let report = refresh(&hub)?;
    ensure!(report["held"].is_null(), "{report:#}");
    ensure!(misses(&hub, &a)? == Some(0) && misses(&hub, &b)? == Some(0));
    watch.undisturbed("peers came and went")
}

/// [`misses`] after one more poll.
fn misses_after(hub: &crosswan_lab::Gateway, vpc: &str) -> Result<Option<u64>> {
    refresh(hub)?;
    misses(hub, vpc)
}

fn an_empty_cloud_is_held_until_forced_and_a_region_taken_off_the_list_leaves(region: &Region) -> Result<()> {
    let lab = &region.lab;
    let hub = region.gateway("hub/vpn-hub")?;
    let [a, b] = ids(lab, ["a", "b"])?;
    refresh(&hub)?;

    // EC2 answers well formed and empty wherever there are clients, as when a role or a tag was changed.
    let empty = || [REGION_A, REGION_B].iter().for_each(|region| lab.ec2_fault(region, INSTANCES, Fault::Empty));
    let watch = Watch::over(region, &[("a/host", "b/host"), ("a/host", "hub/host")])?;
    empty();
    ensure_no_steps(&refresh(&hub)?)?;
    for _ in 0..3 {
        let report = refresh_with(&hub, &[], 6)?;
        ensure_no_steps(&report)?;
        ensure!(report["held"]["would_remove"] == 2 && report["held"]["of"] == 2, "{report:#}");
    }
    let text = hub.agent(&["refresh"])?.stdout;
    ensure!(text.contains("HELD      2 of 2 peers would leave") && text.contains("--force"), "{text}");
    lab.ec2_heal();
    ensure_no_steps(&refresh(&hub)?)?;
    ensure!(misses(&hub, &a)? == Some(0) && misses(&hub, &b)? == Some(0));
    watch.undisturbed("EC2 was empty and the peers were held")?;

    // A region that is no longer listed: its peer leaves as one that is not seen; the other is not disturbed.
    let watch = Watch::over(region, &[("hub/host", "b/host"), ("b/host-2", "hub/host")])?;
    look_in(&hub, &["us-west-2", REGION_B])?;
    let report = refresh(&hub)?;
    ensure!(why(&report, "kept", &a).as_deref() == Some("its region is no longer listed: poll 1 of 2"), "{report:#}");
    let report = refresh(&hub)?;
    ensure!(report["removed"][0] == a.as_str(), "{report:#}");
    ensure_revoked(&hub, &a)?;
    let (host_a, address_b) = (lab.host("a/host")?, region.address("b/host")?);
    ensure!(!host_a.reaches(address_b)?, "a still reaches b");
    look_in(&hub, &["us-west-2", REGION_A, REGION_B])?;
    ensure!(has_tunnel(&refresh(&hub)?, &a));
    eprintln!("back after {:?}", host_a.wait_for(address_b, UP)?);
    watch.undisturbed("a region was taken off the list and put back")?;

    // With --force all peers are removed, but not before they are due.
    empty();
    ensure_no_steps(&refresh_with(&hub, &["--force"], 0)?)?;
    ensure!(refresh_with(&hub, &[], 6)?["held"].is_object());
    let report = refresh_with(&hub, &["--force"], 0)?;
    ensure!(report["removed"].as_array().map(Vec::len) == Some(2) && report["held"].is_null(), "{report:#}");
    for vpc in [&a, &b] {
        ensure_revoked(&hub, vpc)?;
    }
    ensure!(!host_a.reaches(address_b)?, "a still reaches b");
    lab.ec2_heal();
    refresh(&hub)?;
    eprintln!("back after {:?}", host_a.wait_for(address_b, UP)?);
    region.settle()
}

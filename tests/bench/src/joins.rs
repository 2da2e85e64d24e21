//! A VPC that is new to a running hub: seconds from the end of its gateway's first refresh until packets pass. Nothing but the gateways
//! themselves tells the hub, whose timer is left out.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crosswan_faults::attended::Attended;
use crosswan_lab::Lab;

use crate::results::{Budget, Section, seconds};
use crate::{Setup, say};

const INTERVAL: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(300);
/// A hub asks EC2 at most once a minute for those who knock.
const SPACING: Duration = Duration::from_secs(61);

/// Joins VPCs one after the other.
pub fn bench(setup: &Setup) -> Result<Section> {
    let joins = if setup.quick { 1 } else { 4 };
    say("bringing up a hub and two clients");
    let lab = Lab::builder(&setup.agent);
    let lab = Lab::standard_vpcs()?.into_iter().fold(lab, crosswan_lab::Builder::vpc).build()?;
    let boot = |gateway| Attended::boot(gateway, INTERVAL);
    let mut attended = lab.gateways().into_iter().map(boot).collect::<Result<Vec<_>>>()?;
    let hub = lab.host("hub/host")?;
    lab.host("b/host")?.wait_for(hub.address, LIMIT)?;
    let mut took = Vec::new();
    for n in 0..joins {
        let vpc = format!("new-{n}");
        lab.add_client(&vpc, "eu-west-1", &[&format!("10.{}.0.0/16", 10 + n)])?;
        let host = lab.host(&format!("{vpc}/host"))?;
        let new = Attended::boot(lab.gateway(&format!("{vpc}/nat-vpn"))?, INTERVAL)?;
        let first = new.first_pass()?;
        host.wait_for(hub.address, LIMIT)?;
        took.push(Instant::now().duration_since(first).as_secs_f64());
        say(&format!("{vpc}: {}", seconds(took[n])));
        attended.push(new);
        thread::sleep(if n + 1 < joins { SPACING } else { Duration::ZERO });
    }
    drop(attended);
    took.sort_by(f64::total_cmp);
    let (least, most) = took.first().zip(took.last()).context("none has joined")?;
    Ok(Section {
        name: "joins",
        title: "A VPC that is new",
        budgets: vec![Budget {
            work: "a new VPC's first packet to the hub's VPC, from the end of its gateway's first refresh".into(),
            budget: "3 s".into(),
            baseline: "the hub's next refresh, at most an hour".into(),
            measured: seconds(*most),
            met: *most < 3.0,
        }],
        text: format!(
            "{joins} VPCs, one after the other: {} to {}. `keep` looks every {} s, and the VPCs' routes are made by an operator, so a \
             first refresh does not wait for the tunnel.",
            seconds(*least),
            seconds(*most),
            INTERVAL.as_secs()
        ),
        plots: Vec::new(),
    })
}

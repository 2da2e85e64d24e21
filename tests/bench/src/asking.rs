//! Many accounts with many slow regions take as long as the slowest.
//!
//! This is measured on this machine's own kernel. Asking 200 regions at once is thousands of calls of the network, and in a user-mode
//! kernel they take several times as long as on an instance, for the agent and for the canned EC2, on one processor.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::accounts::Fleet;
use crate::hub::{Hub, Pass};
use crate::results::{Budget, Section, seconds, table};
use crate::{Setup, say};

/// Measures one account with one region, then all, each as slow.
pub fn bench(setup: &Setup) -> Result<Section> {
    let (latency, repeats) = if setup.quick { (20, 1) } else { (200, 5) };
    say("bringing up the lab on this kernel");
    let hub = Hub::without_key(&setup.agent)?;
    let mut rows = Vec::new();
    let all = Fleet::of(setup);
    for (fleet, name) in [
        (Fleet { accounts: 1, regions: 1, ..all }, "one account with one region".to_owned()),
        (Fleet { accounts: 1, ..all }, format!("one account with {} regions", all.regions)),
        (all, all.name()),
    ] {
        say(&format!("{name} with {latency} ms latency, {repeats} times"));
        fleet.list(&hub, fleet.all())?;
        hub.cloud.set(|shape| shape.latency = Duration::from_millis(latency));
        let passes = (0..repeats).map(|_| hub.refresh(&["--dry-run"])).collect::<Result<Vec<_>>>()?;
        rows.push((name, Pass::least(passes)?));
    }
    let asked = |(_, pass): &(String, Pass)| pass.stage("observe EC2");
    let (one, many) = (&rows[0], rows.last().context("no fleet")?);
    let ratio = |row: &(String, Pass)| asked(row) / asked(one);
    let cells = |row: &(String, Pass)| {
        vec![row.0.clone(), seconds(asked(row)), format!("{:.2}", ratio(row)), seconds(row.1.run.cpu)]
    };
    let text = format!(
        "AssumeRole for each account, DescribeInstances and DescribeVpcs for each of its regions. All answer equally late, so one alone \
         is the slowest. Measured on this machine's own kernel, with a dry run of a gateway that has no tunnels yet: in a user-mode \
         kernel each call of the network takes several times as long as on an instance.\n\n{}",
        table("fleet | asking | to one region | CPU", rows.iter().map(cells))
    );
    let budget = Budget {
        work: format!("{}, {latency} ms latency each", many.0),
        budget: "at most 1.5 times the slowest".into(),
        baseline: format!("{} {}", one.0, seconds(asked(one))),
        measured: format!("{}, {:.2} times", seconds(asked(many)), ratio(many)),
        met: ratio(many) <= 1.5,
    };
    Ok(Section {
        name: "asking",
        title: "20 accounts with 10 slow regions each",
        budgets: vec![budget],
        text,
        plots: vec![],
    })
}

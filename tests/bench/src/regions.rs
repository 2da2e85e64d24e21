//! Many slow regions take as long as the slowest; a throttling EC2 is ridden out.

use std::time::Duration;

use anyhow::{Context, Result};
use crosswan_lab::Auth;

use crate::hub::Pass;
use crate::peers::poller;
use crate::plot::{Scale, Series, lines};
use crate::results::{Budget, Section, seconds, table};
use crate::{Setup, say};

/// Gateways in each region: one page and one chunk of VPCs.
const EACH: usize = 50;
const THROTTLED: u64 = 3;

/// One number of regions.
struct Row {
    regions: usize,
    pass: Pass,
    poller: f64,
}

/// Measures 1 to 20 regions, one of them being "the slowest alone", since all are as slow.
pub fn bench(setup: &Setup) -> Result<Section> {
    let (latency, repeats) = if setup.quick { (20, 1) } else { (200, 5) };
    let sizes: &[usize] = if setup.quick { &[1, 3] } else { &[1, 5, 10, 20] };
    let each = if setup.quick { 2 } else { EACH };
    let hub = setup.hub()?;
    let least = || Pass::least((0..repeats).map(|_| hub.refresh(&["--dry-run"])).collect::<Result<Vec<_>>>()?);
    let mut rows = Vec::new();
    for &regions in sizes {
        say(&format!("{regions} regions with {latency} ms latency each, {repeats} times; then the boto3 poller"));
        hub.reset(regions, regions * each, Auth::Key)?;
        hub.cloud.set(|shape| shape.latency = Duration::from_millis(latency));
        rows.push(Row { regions, pass: least()?, poller: poller(hub)?.wall });
    }
    say(&format!("the same, with every region throttling its first {THROTTLED} calls"));
    hub.cloud.set(|shape| shape.throttled = THROTTLED);
    let throttled = hub.refresh(&["--dry-run"])?;

    let (one, all) = (&rows[0], rows.last().context("no sizes")?);
    let asked = |row: &Row| row.pass.stage("observe EC2");
    let ratio = asked(all) / asked(one);
    let text = format!(
        "{each} gateways in each region; DescribeInstances, then DescribeVpcs. All regions are equally slow, so one alone \
         is the slowest. With each region throttling its first {THROTTLED} calls, asking {} regions took {}.\n\n{}\n\
         ![regions](regions.svg)\n",
        all.regions,
        seconds(throttled.stage("observe EC2")),
        table(
            "regions | asking EC2 | to one region | whole pass | CPU | boto3 poller",
            rows.iter().map(|row| vec![
                row.regions.to_string(),
                seconds(asked(row)),
                format!("{:.2}", asked(row) / asked(one)),
                seconds(row.pass.run.wall),
                seconds(row.pass.run.cpu),
                seconds(row.poller),
            ])
        )
    );
    let points = |value: &dyn Fn(&Row) -> f64| rows.iter().map(|row| (row.regions as f64, value(row))).collect();
    let plot = [
        Series::new("boto3 poller", points(&|row| row.poller)),
        Series::new("crosswan: whole pass", points(&|row| row.pass.run.wall)),
        Series::new("crosswan: asking EC2", points(&asked)),
    ];
    let title = format!("Regions with {latency} ms latency each");
    Ok(Section {
        name: "regions",
        title: "20 slow regions",
        budgets: vec![Budget {
            work: format!("{} regions with {latency} ms latency each", all.regions),
            budget: "at most 1.3 times the slowest region".into(),
            baseline: format!("one region {}; boto3 poller {}", seconds(asked(one)), seconds(all.poller)),
            measured: format!("{}, {ratio:.2} times", seconds(asked(all))),
            met: ratio <= 1.3,
        }],
        text,
        plots: vec![("regions.svg", lines(&title, "regions", "seconds", Scale::Linear, &plot))],
    })
}

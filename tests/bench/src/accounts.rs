//! Many accounts with many slow regions take as long as the slowest, and cost no more than as many regions of one account.

use std::time::Duration;

use anyhow::{Result, ensure};
use crosswan_lab::Auth;

use crate::cloud::region;
use crate::hub::{Hub, Pass};
use crate::results::{Budget, Section, megabytes, millis, seconds, table};
use crate::xml::{SEGMENTS, segment};
use crate::{Setup, say};

/// Over all accounts and regions.
const PEERS: usize = 1000;

/// So many accounts, with so many regions each; no account is the own one.
#[derive(Clone, Copy)]
struct Fleet {
    accounts: usize,
    regions: usize,
    /// Whether its VPCs are kept apart in [`SEGMENTS`] segments, each of which may initiate to the next.
    segments: bool,
}

impl Fleet {
    fn all(self) -> usize {
        self.accounts.max(1) * self.regions
    }

    /// A hub that knows nothing yet, and lists them.
    fn list(self, hub: &Hub, peers: usize) -> Result<()> {
        hub.reset(self.all(), peers, Auth::Key)?;
        let names = |from: usize| {
            (from..from + self.regions).map(|n| format!("{:?}", region(n))).collect::<Vec<_>>().join(", ")
        };
        let mut settings = String::from("mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n");
        if self.accounts == 0 {
            settings += &format!("regions = [{}]\n", names(0));
        } else {
            settings += "own_account = false\n";
        }
        for n in 0..self.accounts {
            let role = format!("arn:aws:iam::{:012}:role/crosswan-discover", 100_000_000_000_u64 + n as u64);
            settings += &format!("[[accounts]]\nrole_arn = \"{role}\"\nregions = [{}]\n", names(n * self.regions));
        }
        if self.segments {
            settings += "[segments]\n";
            for n in 0..SEGMENTS {
                settings += &format!("{} = [\"{}\"]\n", segment(n), segment(n + 1));
            }
        }
        hub.gateway.write_settings(&settings)
    }
}

/// One fleet, and what a pass over it takes.
struct Row {
    name: String,
    pass: Pass,
}

/// Measures one account with one region, then all, each as slow; and with nothing to change, all beside as many regions of the own
/// account.
pub fn bench(setup: &Setup) -> Result<Section> {
    let (latency, repeats) = if setup.quick { (20, 1) } else { (200, 5) };
    let (accounts, regions) = if setup.quick { (2, 2) } else { (20, 10) };
    let peers = if setup.quick { 8 } else { PEERS };
    let hub = setup.hub()?;
    let least = |flags: &[&str]| Pass::least((0..repeats).map(|_| hub.refresh(flags)).collect::<Result<Vec<_>>>()?);
    let slow = |fleet: Fleet, name: &str| {
        say(&format!("{name} with {latency} ms latency, {repeats} times"));
        fleet.list(hub, fleet.all())?;
        hub.cloud.set(|shape| shape.latency = Duration::from_millis(latency));
        Ok::<_, anyhow::Error>(Row { name: name.into(), pass: least(&["--dry-run"])? })
    };
    let all = Fleet { accounts, regions, segments: false };
    let whole = format!("{accounts} accounts with {regions} regions each");
    let one = slow(Fleet { accounts: 1, regions: 1, segments: false }, "one account with one region")?;
    let many = slow(all, &whole)?;
    let idle = |fleet: Fleet, name: &str| {
        say(&format!("{name} with nothing to change, {peers} peers, {repeats} times"));
        fleet.list(hub, peers)?;
        let first = hub.refresh(&[])?;
        ensure!(first.steps("load connection") == peers, "{}", first.run.stdout);
        let pass = least(&[])?;
        ensure!(pass.steps("") == 0, "{}", pass.run.stdout);
        Ok(Row { name: format!("{name}, nothing to change, {peers} peers"), pass })
    };
    let own = idle(Fleet { accounts: 0, regions: all.all(), ..all }, &format!("{} regions of one account", all.all()))?;
    let apart = idle(Fleet { segments: true, ..all }, &format!("{whole} and {SEGMENTS} segments"))?;
    let idle = idle(all, &whole)?;

    let asked = |row: &Row| row.pass.stage("observe EC2");
    let ratio = asked(&many) / asked(&one);
    let cells = |row: &Row| {
        let Pass { run, .. } = &row.pass;
        vec![
            row.name.clone(),
            seconds(asked(row)),
            millis(row.pass.pure()),
            seconds(run.wall),
            seconds(run.cpu),
            megabytes(run.memory),
        ]
    };
    let text = format!(
        "AssumeRole for each account, DescribeInstances and DescribeVpcs for each of its regions. All answer equally late, so one alone \
         is the slowest.\n\n{}",
        table(
            "fleet | asking | decide + render + plan | whole pass | CPU | memory",
            [&one, &many, &own, &idle, &apart].into_iter().map(cells)
        )
    );
    let idle_budget = |row: &Row, how: String| {
        let (pure, times, memory) = (row.pass.pure(), row.pass.pure() / own.pass.pure(), row.pass.run.memory);
        Budget {
            work: format!("refresh with nothing to change, {peers} peers in {whole}{how}"),
            budget: "decide + render + plan at most 1.2 times those of one account, and 0.25 s; 60 MB".into(),
            baseline: format!(
                "{} regions of one account {}, {} CPU, {}",
                all.all(),
                millis(own.pass.pure()),
                seconds(own.pass.run.cpu),
                megabytes(own.pass.run.memory)
            ),
            measured: format!(
                "{}, {times:.2} times; {} CPU, {}",
                millis(pure),
                seconds(row.pass.run.cpu),
                megabytes(memory)
            ),
            met: times <= 1.2 && pure <= 0.25 && memory <= 60.0,
        }
    };
    let budgets = vec![
        Budget {
            work: format!("{whole}, {latency} ms latency each"),
            budget: "at most 1.5 times the slowest".into(),
            baseline: format!("one account with one region {}", seconds(asked(&one))),
            measured: format!("{}, {ratio:.2} times", seconds(asked(&many))),
            met: ratio <= 1.5,
        },
        idle_budget(&idle, String::new()),
        idle_budget(&apart, format!(", in {SEGMENTS} segments")),
    ];
    Ok(Section { name: "accounts", title: "20 accounts with 10 slow regions each", budgets, text, plots: vec![] })
}

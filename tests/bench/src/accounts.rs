//! Many accounts cost no more than as many regions of one account. How long they take to answer: [`crate::asking`].

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
pub struct Fleet {
    pub accounts: usize,
    pub regions: usize,
    /// Whether its VPCs are kept apart in [`SEGMENTS`] segments, each of which may initiate to the next.
    pub segments: bool,
}

impl Fleet {
    /// That of the budgets, or a tiny one.
    pub fn of(setup: &Setup) -> Fleet {
        let (accounts, regions) = if setup.quick { (2, 2) } else { (20, 10) };
        Fleet { accounts, regions, segments: false }
    }

    pub fn name(self) -> String {
        format!("{} accounts with {} regions each", self.accounts, self.regions)
    }

    pub fn all(self) -> usize {
        self.accounts.max(1) * self.regions
    }

    /// A hub that knows nothing yet, and lists them.
    pub fn list(self, hub: &Hub, peers: usize) -> Result<()> {
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

/// Measures a pass with nothing to change, beside one over as many regions of the own account.
pub fn bench(setup: &Setup) -> Result<Section> {
    let repeats = if setup.quick { 1 } else { 5 };
    let peers = if setup.quick { 8 } else { PEERS };
    let hub = setup.hub()?;
    let least = || Pass::least((0..repeats).map(|_| hub.refresh(&[])).collect::<Result<Vec<_>>>()?);
    let all = Fleet::of(setup);
    let whole = all.name();
    let idle = |fleet: Fleet, name: &str| {
        say(&format!("{name} with nothing to change, {peers} peers, {repeats} times"));
        fleet.list(hub, peers)?;
        let first = hub.refresh(&[])?;
        ensure!(first.steps("load connection") == peers, "{}", first.run.stdout);
        let pass = least()?;
        ensure!(pass.steps("") == 0, "{}", pass.run.stdout);
        hub.cloud.set(|shape| shape.moved = [0].into());
        let moved = hub.refresh(&[])?;
        ensure!(moved.steps("load connection") == 1, "one peer has moved: {}", moved.run.stdout);
        Ok::<_, anyhow::Error>(Row { name: name.into(), pass })
    };
    let own = idle(Fleet { accounts: 0, regions: all.all(), ..all }, &format!("{} regions of one account", all.all()))?;
    let apart = idle(Fleet { segments: true, ..all }, &format!("{whole} and {SEGMENTS} segments"))?;
    let idle = idle(all, &whole)?;

    let cells = |row: &Row| {
        let Pass { run, .. } = &row.pass;
        vec![
            row.name.clone(),
            seconds(row.pass.stage("observe EC2")),
            millis(row.pass.pure()),
            seconds(run.wall),
            seconds(run.cpu),
            megabytes(run.memory),
        ]
    };
    let text = format!(
        "A refresh with nothing to change, {peers} peers. EC2 answers at once.\n\n{}",
        table(
            "fleet | asking | decide + render + plan | whole pass | CPU | memory",
            [&own, &idle, &apart].into_iter().map(cells)
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
    let budgets = vec![idle_budget(&idle, String::new()), idle_budget(&apart, format!(", in {SEGMENTS} segments"))];
    Ok(Section { name: "accounts", title: "20 accounts with 10 regions each", budgets, text, plots: vec![] })
}

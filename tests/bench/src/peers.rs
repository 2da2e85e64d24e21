//! Growth from 10 to 10,000 peers, and the three budgets that are points on its curves.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use crosswan_lab::Auth;

use crate::cloud::{self, ENDPOINT};
use crate::hub::{Hub, LOAD_ALL, Pass, REGIONS};
use crate::measure::Run;
use crate::plot::{Scale, Series, lines};
use crate::results::{Budget, Section, megabytes, millis, seconds, table};
use crate::vici::Relay;
use crate::{Setup, say};

/// The most peers for the poller: it takes minutes to load more, into a charon that has to forget as many keys.
const POLLED: usize = 5000;

/// Everything measured with one number of peers.
struct Row {
    peers: usize,
    first: Pass,
    unchanged: Pass,
    changed: Pass,
    /// `None`: cut off after [`LOAD_ALL`].
    load_all: Option<Run>,
    /// With its EC2 calls; `None` above [`POLLED`].
    poller: Option<(Run, u64)>,
    ec2_calls: u64,
    /// VICI requests by name, of a pass with nothing to change and of one with one changed peer.
    vici: [BTreeMap<String, u64>; 2],
    charon: f64,
}

impl Row {
    /// Seconds of load-all, at least.
    fn load_all(&self) -> f64 {
        self.load_all.as_ref().map_or(LOAD_ALL.as_secs_f64(), |run| run.wall)
    }
}

/// Runs the growth.
pub fn bench(setup: &Setup) -> Result<Section> {
    let hub = setup.hub()?;
    let rows = setup.peers.iter().map(|peers| row(setup, hub, *peers).inspect(tell)).collect::<Result<Vec<_>>>()?;
    let at = |peers| rows.iter().rev().find(|row| row.peers <= peers).or(rows.last()).context("no sizes");
    Ok(Section {
        name: "peers",
        title: "Growth from 10 to 10,000 peers",
        budgets: vec![changed(at(5000)?), unchanged(at(1000)?), pure(at(1000)?, at(5000)?, at(10_000)?)],
        text: text(&rows),
        plots: plots(&rows),
    })
}

fn row(setup: &Setup, hub: &Hub, peers: usize) -> Result<Row> {
    let repeats = match peers {
        _ if setup.quick => 1,
        ..=1000 => 5,
        1001..=5000 => 3,
        _ => 1,
    };
    say(&format!("{peers} peers in {REGIONS} regions: first pass"));
    hub.reset(REGIONS, peers, Auth::Key)?;
    let first = hub.refresh(&[])?;
    ensure!(first.steps("load connection") == peers, "{} of {peers} loaded", first.steps("load connection"));
    let charon = hub.charon_memory()?;

    say(&format!("{peers} peers: nothing to change, then one changed peer, {repeats} times each"));
    let idle = || {
        let pass = hub.refresh(&[])?;
        ensure!(pass.steps("") == 0, "something was done: {}", pass.run.stdout);
        Ok(pass)
    };
    let unchanged = (0..repeats).map(|_| idle()).collect::<Result<Vec<_>>>()?;
    let mut next = 0;
    let mut change = || {
        hub.cloud.set(|shape| shape.moved.extend([next % peers]));
        next += 1;
        let pass = hub.refresh(&[])?;
        ensure!(pass.steps("load connection") == 1, "not one load: {}", pass.run.stdout);
        Ok(pass)
    };
    let changed = (0..repeats).map(|_| change()).collect::<Result<Vec<_>>>()?;

    let relay = Relay::before(&hub.gateway)?;
    change()?;
    let after_change = relay.counts();
    hub.cloud.set(|_| ());
    idle()?;
    let (both, ec2_calls) = (relay.counts(), hub.cloud.calls());
    drop(relay);
    let idle_counts = both.into_iter().map(|(name, n)| (name.clone(), n - after_change.get(&name).unwrap_or(&0)));
    let vici = [idle_counts.filter(|(_, n)| *n > 0).collect(), after_change];

    say(&format!("{peers} peers: swanctl --load-all, and the boto3 poller"));
    let load_all = hub.load_all()?;
    hub.cloud.set(|_| ());
    let poller = (peers <= POLLED).then(|| poller(hub)).transpose()?.map(|run| (run, hub.cloud.calls()));
    Ok(Row {
        peers,
        first,
        unchanged: Pass::least(unchanged)?,
        changed: Pass::least(changed)?,
        load_all,
        poller,
        ec2_calls,
        vici,
        charon,
    })
}

/// A row's summary, for a person who waits.
fn tell(row: &Row) {
    let Row { peers, unchanged, changed, .. } = row;
    let (cpu, pure) = (seconds(unchanged.run.cpu), millis(unchanged.pure()));
    let (apply, all) = (millis(changed.stage("apply")), waited(&row.load_all));
    say(&format!("{peers} peers: {cpu} CPU, of it {pure} pure; one change applied in {apply}, load-all {all}"));
}

/// The time of a load-all, or that it was not waited for.
pub fn waited(load_all: &Option<Run>) -> String {
    load_all.as_ref().map_or_else(|| format!("over {} s", LOAD_ALL.as_secs()), |run| seconds(run.wall))
}

/// The plain boto3 script, over the same cloud and into the same charon.
pub fn poller(hub: &Hub) -> Result<Run> {
    let python = crosswan_lab::moto_server()?.with_file_name("python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/poller.py");
    let key: String = hub.lab.psk().bytes().map(|byte| format!("{byte:02x}")).collect();
    let (local, id) = (hub.gateway.address.to_string(), hub.gateway.public().context("no public address")?.to_string());
    let regions: Vec<String> = (0..hub.cloud.shape().regions).map(cloud::region).collect();
    let (python, key) = (python.to_string_lossy(), format!("0x{key}"));
    let mut argv = vec![&*python, script, ENDPOINT, "/run/poller.conf", &key, &local, &id];
    argv.extend(regions.iter().map(String::as_str));
    let run = hub.run(&argv)?;
    let expected = format!("{} connections", hub.cloud.shape().gateways);
    ensure!(run.stdout.trim() == expected, "the poller found {:?}, not {expected}", run.stdout);
    Ok(run)
}

fn changed(row: &Row) -> Budget {
    let loads = row.vici[1].get("load-conn").copied().unwrap_or_default();
    let (apply, all) = (row.changed.stage("apply"), row.load_all());
    Budget {
        work: format!("one changed peer among {}", row.peers),
        budget: "exactly one load-conn; apply at most 1/100 of `swanctl --load-all` over the same files".into(),
        baseline: format!("load-all {}", waited(&row.load_all)),
        measured: format!("{loads} load-conn; apply {}, 1/{:.0}", millis(apply), all / apply),
        met: loads == 1 && apply * 100.0 <= all,
    }
}

fn unchanged(row: &Row) -> Budget {
    let Run { cpu, memory, .. } = row.unchanged.run;
    Budget {
        work: format!("refresh with nothing to change, {} peers", row.peers),
        budget: "at most 0.25 s CPU and 60 MB".into(),
        baseline: row.poller.as_ref().map_or("–".into(), |(run, _)| {
            format!("boto3 poller {} CPU, {}", seconds(run.cpu), megabytes(run.memory))
        }),
        measured: format!("{} CPU, {}", seconds(cpu), megabytes(memory)),
        met: cpu <= 0.25 && memory <= 60.0,
    }
}

fn pure(small: &Row, row: &Row, large: &Row) -> Budget {
    let each = |row: &Row| row.unchanged.pure() / row.peers as f64;
    let (time, growth) = (row.unchanged.pure(), each(large) / each(small));
    Budget {
        work: format!("decide + render + plan, {} peers, {REGIONS} regions", row.peers),
        budget: "at most 0.25 s, linear in peers (per peer at most 1.5 times from 1,000 to 10,000)".into(),
        baseline: format!("per peer among {}: {:.1} µs", small.peers, each(small) * 1e6),
        measured: format!("{}; per peer among {}: {:.1} µs", millis(time), large.peers, each(large) * 1e6),
        met: time <= 0.25 && growth <= 1.5,
    }
}

fn text(rows: &[Row]) -> String {
    let idle = rows.iter().map(|row| {
        let pass = &row.unchanged;
        let vici: u64 = row.vici[0].values().sum();
        let stages = ["observe EC2", "observe", "decide", "render", "plan"].map(|stage| millis(pass.stage(stage)));
        [row.peers.to_string(), row.ec2_calls.to_string(), vici.to_string()]
            .into_iter()
            .chain([seconds(pass.run.wall), seconds(pass.run.cpu), megabytes(pass.run.memory)])
            .chain(stages)
            .chain(row.poller.as_ref().map_or_else(
                || ["–"; 4].map(String::from),
                |(run, calls)| [calls.to_string(), seconds(run.wall), seconds(run.cpu), megabytes(run.memory)],
            ))
            .collect()
    });
    let one = rows.iter().map(|row| {
        let pass = &row.changed;
        let vici = |name: &str| row.vici[1].get(name).copied().unwrap_or_default().to_string();
        vec![
            row.peers.to_string(),
            vici("load-conn"),
            row.vici[1].values().sum::<u64>().to_string(),
            millis(pass.stage("apply")),
            millis(pass.stage("verify")),
            seconds(pass.run.wall),
            waited(&row.load_all),
            format!("1/{:.0}", row.load_all() / pass.stage("apply")),
        ]
    });
    let first = rows.iter().map(|row| {
        let pass = &row.first;
        vec![
            row.peers.to_string(),
            seconds(pass.run.wall),
            seconds(pass.stage("apply")),
            seconds(pass.run.cpu),
            megabytes(pass.run.memory),
            megabytes(row.charon),
        ]
    });
    format!(
        "Every peer has a key of its own. A pass with nothing to change, beside the poller (which has one pre-shared key \
         for all, as in 2014, and loads everything, every time; at most {POLLED} peers). \"observe\" is files, charon and iptables; EC2 answers \
         at once here, with 4 kB an instance. One call more than the poller's is for the hub's own tag.\n\n{}\n\
         One peer has a new address. \"apply\" is the load-conn and the files, \"verify\" reads all back. load-all runs \
         once, over the same files and into the same charon, for at most {} s.\n\n{}\n\
         The first pass, into an empty charon, and charon's memory after it.\n\n{}\n\
         ![time](time.svg)\n![memory](memory.svg)\n![stages](stages.svg)\n",
        table(
            "peers | EC2 calls | VICI calls | wall | CPU | peak | EC2 | observe | decide | render | plan | poller: EC2 calls | wall | CPU | peak",
            idle
        ),
        LOAD_ALL.as_secs(),
        table(
            "peers | load-conn | VICI calls | apply | verify | whole pass | swanctl --load-all | apply to load-all",
            one
        ),
        table("peers | wall | of it apply | CPU | peak | charon", first),
    )
}

fn plots(rows: &[Row]) -> Vec<(&'static str, String)> {
    let series = |name, value: &dyn Fn(&Row) -> f64| {
        Series::new(name, rows.iter().map(|row| (row.peers as f64, value(row))).collect())
    };
    let polled = |value: &dyn Fn(&Run) -> f64| {
        let point = |row: &Row| Some((row.peers as f64, value(&row.poller.as_ref()?.0)));
        Series::new("boto3 poller", rows.iter().filter_map(point).collect())
    };
    let time = [
        polled(&|run| run.wall),
        series("swanctl --load-all", &Row::load_all),
        series("crosswan: nothing to change", &|r| r.unchanged.run.wall),
        series("crosswan: apply, one changed", &|r| r.changed.stage("apply")),
    ];
    let memory = [
        polled(&|run| run.memory),
        series("charon", &|r| r.charon),
        series("crosswan: nothing to change", &|r| r.unchanged.run.memory),
    ];
    let stages = [
        series("decide", &|r| r.unchanged.stage("decide") * 1e3),
        series("render", &|r| r.unchanged.stage("render") * 1e3),
        series("plan", &|r| r.unchanged.stage("plan") * 1e3),
        series("together", &|r| r.unchanged.pure() * 1e3),
    ];
    vec![
        ("time.svg", lines("Time of a pass and of its baselines", "peers", "seconds", Scale::Log, &time)),
        ("memory.svg", lines("Peak memory", "peers", "MB", Scale::Log, &memory)),
        ("stages.svg", lines("The pure stages", "peers", "milliseconds", Scale::Log, &stages)),
    ]
}

//! Both hubs alive for an hour that leaves them no rest: nobody may take over, and nothing may be lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_core::model::{Holder, InstanceId, PrivateKey, Timestamp, VpcId};
use crosswan_core::swanctl;
use crosswan_faults::look::CONNECTIONS;
use crosswan_faults::pair::TOOK;
use crosswan_faults::paper::Paper;
use crosswan_lab::{Gateway, Lab};

use super::stage::Stage;
use crate::results::{Budget, Section, seconds};
use crate::xml::KEY_TAG;
use crate::{Setup, say};

/// Two hubs and two clients under load, for `CROSSWAN_HOURS`.
pub fn bench(setup: &Setup) -> Result<Section> {
    say("two hubs and two clients");
    let mut stage = Stage::new(&["a", "b"])?;
    stage.well(&stage.hubs.one.clone())?;
    let loaded = under_load(&mut stage, time(setup.quick)?)?;
    let budget = Budget {
        work: format!(
            "{} s of full load, {} passes, {} rekeyings, {} changes of other peers, both hubs alive",
            loaded.time.as_secs(),
            loaded.passes,
            loaded.rekeyed,
            loaded.changes
        ),
        budget: "0 takeovers, 0 lost".into(),
        baseline: "–".into(),
        measured: format!(
            "{} takeovers, {} calls that move a route, {} of {} lost",
            loaded.takeovers, loaded.calls, loaded.lost, loaded.sent
        ),
        met: loaded.is_good(),
    };
    let text = format!(
        "Two vpn-hub in a VPC that are a pair, and two clients. On each hub runs a loop without end, and all gateways share one processor. \
         They make passes one after the other, of which {} could not ask everything; each tunnel is rekeyed after the other, and a VPC with \
         a gateway comes or leaves at each turn. Between private hosts of the clients and of the hubs' VPC go fifty datagrams a second, \
         four ways, which are echoed. The longest time without an arrival was {}.\n",
        loaded.unasked,
        seconds(loaded.gap),
    );
    Ok(Section {
        name: "hubs-load",
        title: "A pair of hubs under load",
        budgets: vec![budget],
        text,
        plots: Vec::new(),
    })
}

/// `CROSSWAN_HOURS`, else an hour.
fn time(quick: bool) -> Result<Duration> {
    let hours = match std::env::var("CROSSWAN_HOURS") {
        Ok(hours) => hours.parse().ok().filter(|hours| (0.0..=1000.0).contains(hours)),
        Err(_) => Some(1.0),
    };
    let hours: f64 = hours.context("CROSSWAN_HOURS is a number of hours, such as 0.05")?;
    Ok(Duration::from_secs_f64(if quick { 10.0 } else { hours * 3600.0 }))
}

/// What happened meanwhile.
#[derive(Default)]
pub struct Loaded {
    pub time: Duration,
    pub takeovers: usize,
    /// Calls that move a route of the hubs' VPC.
    pub calls: u64,
    pub lost: u32,
    pub sent: u32,
    /// The longest time without an arrival, any way, in seconds.
    pub gap: f64,
    pub passes: u32,
    /// Those that could not ask everything.
    pub unasked: u32,
    pub rekeyed: u32,
    /// Other peers that came or left.
    pub changes: u32,
}

impl Loaded {
    pub fn is_good(&self) -> bool {
        self.takeovers == 0
            && self.calls == 0
            && self.lost == 0
            && self.sent > 0
            && self.rekeyed > 0
            && self.changes > 0
    }
}

/// A loop without end on each hub, and on this machine's one processor beside everything else; passes of everybody one after the other;
/// each tunnel rekeyed in turn, and another peer that comes or leaves.
pub fn under_load(stage: &mut Stage, time: Duration) -> Result<Loaded> {
    say(&format!("full load for {} s", time.as_secs()));
    let hubs = [stage.hubs.one.clone(), stage.hubs.two.clone()];
    let busy = |hub: &Gateway| hub.sh("sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $!");
    let loops = hubs.each_ref().map(|hub| busy(hub));
    let before = (took(stage), moves(stage)?);
    let mut loaded = Loaded::default();
    let began = Instant::now();
    let echoes = stage.echoes(|stage| {
        let mut others = Vec::new();
        let mut said = Instant::now();
        while began.elapsed() < time || loaded.changes < 2 {
            let round = loaded.changes;
            match others.pop() {
                None => others.push(newcomer(&stage.hubs.region.lab, round)?),
                Some(paper) => Paper::terminate(&paper, &stage.hubs.region.lab)?,
            }
            loaded.changes += 1;
            for gateway in stage.hubs.all() {
                let code = gateway.agent(&["refresh"])?.code;
                ensure!(matches!(code, 0 | 3), "{}: a pass ended with {code}", gateway.name);
                loaded.passes += 1;
                loaded.unasked += u32::from(code == 3);
            }
            for client in &stage.hubs.clients {
                loaded.rekeyed += rekey(client, round)?;
            }
            if said.elapsed() > Duration::from_mins(1) {
                said = Instant::now();
                say(&format!(
                    "{} s: {} passes, {} rekeyings",
                    began.elapsed().as_secs(),
                    loaded.passes,
                    loaded.rekeyed
                ));
            }
        }
        Ok(())
    })?;
    for (hub, busy) in hubs.iter().zip(loops) {
        hub.sh(&format!("kill -9 {}", busy?.stdout.trim()))?.ok()?;
    }
    loaded.time = began.elapsed();
    (loaded.takeovers, loaded.calls) = (took(stage) - before.0, moves(stage)? - before.1);
    for echoed in &echoes {
        loaded.lost += echoed.sent - echoed.echoed;
        loaded.sent += echoed.sent;
        loaded.gap = loaded.gap.max(echoed.there.as_secs_f64());
    }
    Ok(loaded)
}

/// How often the hubs have said that they took over.
fn took(stage: &Stage) -> usize {
    let hubs = [&stage.hubs.one, &stage.hubs.two];
    hubs.iter()
        .filter_map(|hub| stage.hubs.residents.get(&hub.name))
        .map(|its| its.pair.log().matches(TOOK).count())
        .sum()
}

fn moves(stage: &Stage) -> Result<u64> {
    let region = stage.hubs.region.lab.region("hub")?;
    let calls = stage.hubs.region.lab.ec2_calls();
    let of = |action: &str| calls.get(&(region.clone(), action.into())).copied().unwrap_or_default();
    Ok(of("ReplaceRoute") + of("CreateRoute"))
}

/// A gateway in EC2 that announces a key, and that never speaks.
fn newcomer(lab: &Lab, round: u32) -> Result<Paper> {
    let paper = Paper::client(lab, "eu-west-1", &format!("10.{}.0.0/16", 100 + round % 100), (round % 50) as u8 + 50)?;
    let (instance, vpc): (InstanceId, VpcId) = (paper.instance.parse()?, paper.vpc.parse()?);
    let key = PrivateKey::from_seed(&[0x5e; 32], &instance, Timestamp(0));
    let proven = key.and_then(|key| key.proven(&Holder { vpc: &vpc, instance: &instance }));
    paper.tag(lab, KEY_TAG, proven.map(|proven| proven.to_string()).as_deref())?;
    Ok(paper)
}

/// Rekeys both tunnels of a client, in turn their IKE_SAs and their CHILD_SAs; how many charon has rekeyed.
fn rekey(client: &Gateway, round: u32) -> Result<u32> {
    let mut rekeyed = 0;
    for (name, tree) in swanctl::connections(swanctl::parse(&client.read_file(CONNECTIONS)?)?) {
        let child = swanctl::Summary::of(&tree).children.keys().next().cloned();
        let what = match child.filter(|_| round.is_multiple_of(2)) {
            Some(child) => ["--rekey".to_owned(), "--child".into(), child],
            None => ["--rekey".into(), "--ike".into(), name],
        };
        let output = client.run("/usr/sbin/swanctl", &what.each_ref().map(String::as_str), "")?;
        rekeyed += u32::from(output.code == 0);
    }
    Ok(rekeyed)
}

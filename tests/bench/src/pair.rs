//! A pair of nat-vpn: what is lost when the one that has the routes dies, beside a second one that only stands by, and beside a
//! replacement whose boot script moves the route, as fck-nat's does. And what it costs to be a pair.

mod nat;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_faults::memory::status_kb;
use crosswan_faults::pair::{SOON, Two, hubs::Residents, stage::PairStage};
use crosswan_faults::region::{eventually, status};
use crosswan_lab::{Gateway, Role};

use crate::measure::ticks;
use crate::probes::{Connections, Echo, Echoed, Lost};
use crate::results::{Budget, Section, megabytes, middle_and_worst, seconds, table};
use crate::takeover::{calls, die, hand_over, phases};
use crate::{Setup, say};

/// The budgets, seconds, to which the time comes that EC2 takes.
const CONNECTION: f64 = 0.6;
const PRIVATE: f64 = 0.7;
/// How long one that stands by is left alone before it is refreshed by hand.
const ALONE: Duration = Duration::from_mins(5);

/// What one death cost: the longest time, in seconds, without something.
struct Death {
    connection: f64,
    out: f64,
    back: f64,
    echoes: [Echoed; 2],
    /// How long EC2's calls took the heir, in seconds, and its phases for the table.
    calls: f64,
    phases: String,
}

struct Streams {
    connections: Connections,
    out: Echo,
    back: Echo,
}

impl Streams {
    fn start(stage: &PairStage) -> Result<Streams> {
        let (near, far) = (&stage.pair.host, stage.pair.region.lab.host("hub/host")?);
        let streams = Streams {
            connections: Connections::start(near, stage.pair.internet),
            out: Echo::start(near, &far)?,
            back: Echo::start(&far, near)?,
        };
        std::thread::sleep(Duration::from_secs(2));
        Ok(streams)
    }

    fn stop(self) -> Result<Death> {
        std::thread::sleep(Duration::from_secs(2));
        let connection = self.connections.stop()?.as_secs_f64();
        let (out, back) = (self.out.stop()?, self.back.stop()?);
        Ok(Death {
            connection,
            out: out.there.as_secs_f64(),
            back: back.there.as_secs_f64(),
            echoes: [out, back],
            calls: 0.0,
            phases: "–".into(),
        })
    }
}

/// Deaths of the active member, where EC2's changes take effect after so long.
struct Deaths {
    effect: Duration,
    all: Vec<Death>,
    /// Echoes lost while the dead one returned.
    returned: Lost,
}

/// The other member.
fn other(stage: &PairStage, member: &Gateway) -> Arc<Gateway> {
    let Two { one, two, .. } = &stage.pair;
    if member.name == one.name { two.clone() } else { one.clone() }
}

/// Kills the member that has the routes and that the hub sends to, again and again.
fn deaths(stage: &mut PairStage, active: &mut Arc<Gateway>, effect: Duration, rounds: usize) -> Result<Deaths> {
    let mut deaths = Deaths { effect, all: Vec::new(), returned: Lost::default() };
    for round in 1..=rounds {
        say(&format!("death {round} of {rounds}, packets follow EC2 {} s later", effect.as_secs()));
        let (dead, heir) = (active.clone(), other(stage, active));
        stage.settle(&dead)?;
        stage.pair.region.lab.ec2_effect_delay(effect);
        let streams = Streams::start(stage)?;
        die(&dead)?;
        eventually(SOON, "the routes have moved", || stage.pair.leads_to(&heir))?;
        stage.passes()?;
        let mut death = streams.stop()?;
        let taken = status(&heir)?["pair"]["taken"].clone();
        (death.calls, death.phases) = (calls(&taken)?, phases(&taken));
        say(&format!(
            "nothing for {:.3}, {:.3} and {:.3} s; {}",
            death.connection, death.out, death.back, death.phases
        ));
        stage.pair.region.lab.ec2_effect_delay(Duration::ZERO);
        stage.kill(&dead)?;
        deaths.all.push(death);
        let back = Streams::start(stage)?;
        stage.boot(&dead)?;
        stage.both_live()?;
        deaths.returned = deaths.returned.and(&back.stop()?.echoes);
        *active = heir;
    }
    Ok(deaths)
}

/// The member that has the routes hands over, to and fro, and the hub follows.
fn handovers(stage: &mut PairStage, active: &mut Arc<Gateway>, rounds: usize) -> Result<Lost> {
    let mut lost = Lost::default();
    for round in 1..=rounds {
        say(&format!("handover {round} of {rounds}"));
        stage.settle(active)?;
        let streams = Streams::start(stage)?;
        hand_over(active)?;
        *active = other(stage, active);
        eventually(SOON, "the routes have moved", || stage.pair.leads_to(active))?;
        stage.passes()?;
        lost = lost.and(&streams.stop()?.echoes);
    }
    Ok(lost)
}

/// The second one stands by, and nobody watches: what moves when the one in use dies, and when.
fn cold_standby(stage: &mut PairStage, active: &mut Arc<Gateway>, alone: Duration) -> Result<(Death, Duration)> {
    // Without a pair the newer one has the routes, and the hub is to send to it, too.
    if active.name != stage.pair.two.name {
        handovers(stage, active, 1)?;
    }
    let (dead, standby) = (active.clone(), other(stage, active));
    stage.settle(&dead)?;
    stage.part()?;
    say(&format!("the same without a pair; left alone for at most {} s", alone.as_secs()));
    let streams = Streams::start(stage)?;
    stage.kill(&dead)?;
    let began = Instant::now();
    let (near, far) = (stage.pair.host.clone(), stage.pair.region.lab.host("hub/host")?);
    // Nothing asks the one that stands by for a pass: its own tunnel is up. Its timer does, hourly.
    while began.elapsed() < alone && !stage.pair.leads_to(&standby)? {
        std::thread::sleep(Duration::from_secs(1).min(alone / 4));
    }
    let waited = began.elapsed();
    standby.agent(&["refresh"])?;
    stage.pair.region.gateway("hub/vpn-hub")?.agent(&["refresh"])?;
    near.wait_for(stage.pair.internet, ALONE)?;
    near.wait_for(far.address, ALONE)?;
    let death = streams.stop()?;
    stage.boot(&dead)?;
    Ok((death, waited))
}

/// The one with the route dies; another machine, which is there at once, does what fck-nat's boot script does.
fn replacement(stage: &mut PairStage) -> Result<f64> {
    say("the same with a replacement, as fck-nat has it");
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
    stage.pair.region.lab.route_through(&two)?;
    stage.kill(&one)?;
    let connections = Connections::start(&stage.pair.host, stage.pair.internet);
    std::thread::sleep(Duration::from_secs(2));
    stage.kill(&two)?;
    let lab = &stage.pair.region.lab;
    let new = lab.add_gateway("a", Role::NatVpn)?;
    new.sh("sysctl -qw net.ipv4.ip_forward=1; iptables -t nat -A POSTROUTING -s 10.1.0.0/16 -j MASQUERADE")?.ok()?;
    lab.source_dest_check(&new, false)?;
    lab.route_through(&new)?;
    stage.pair.host.wait_for(stage.pair.internet, ALONE)?;
    std::thread::sleep(Duration::from_secs(1));
    let gap = connections.stop()?;
    Ok(gap.as_secs_f64())
}

/// What `crosswan pair` of a member that stands by takes: MB of memory of its own and at its peak, and CPU, seconds in an hour.
fn cost(stage: &PairStage, time: Duration) -> Result<[f64; 3]> {
    let pid = stage.pair.watch_two.pid();
    let (before, began) = (ticks(pid)?, Instant::now());
    std::thread::sleep(time);
    // USER_HZ is 100 everywhere (time(7)).
    let cpu = (ticks(pid)? - before) as f64 / 100.0 / began.elapsed().as_secs_f64() * 3600.0;
    let memory = |key| status_kb(pid, key).map(|kb| kb as f64 * 1024.0 / 1e6).context("crosswan pair has ended");
    Ok([memory("RssAnon")?, memory("VmHWM")?, cpu])
}

/// All processors of both members are busy, and passes come one after the other: nothing may move.
fn under_load(stage: &mut PairStage, time: Duration) -> Result<(u64, u32, u32, u32)> {
    say(&format!("full load for {} s", time.as_secs()));
    let members = [stage.pair.one.clone(), stage.pair.two.clone()];
    let busy = |gateway: &Arc<Gateway>| gateway.sh("sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $!");
    let loops = members.each_ref().map(busy);
    let mut passes = 0;
    let seen = stage.during(|_| {
        let began = Instant::now();
        while began.elapsed() < time {
            for member in &members {
                ensure!(matches!(member.agent(&["refresh"])?.code, 0 | 3), "a pass under load");
                passes += 1;
            }
        }
        Ok(())
    });
    for (member, busy) in members.iter().zip(loops) {
        member.sh(&format!("kill -9 {}", busy?.stdout.trim()))?.ok()?;
    }
    let seen = seen?;
    let lost = seen.internet.lost + seen.out.lost + seen.back.lost;
    Ok((seen.calls, lost, seen.internet.sent + seen.out.sent + seen.back.sent, passes))
}

/// Everything that the issue on pairs asks of two nat-vpn, and of two nat-hub.
pub fn bench(setup: &Setup) -> Result<Section> {
    let quick = setup.quick;
    let pick = |long: u64, short: u64| Duration::from_secs(if quick { short } else { long });
    let (effects, rounds) = if quick { (&[0_u64][..], 1_usize) } else { (&[0, 2][..], 4) };
    let nat = nat::measure(effects, rounds)?;

    let mut stage = PairStage::new(quick, &say)?;
    // The hub hears who is to be used, and follows.
    let _hears = Residents::of(&*stage.pair.region.gateway("hub/vpn-hub")?)?;
    let mut active = stage.pair.one.clone();
    stage.settle(&active)?;
    let [own, peak, cpu] = cost(&stage, pick(60, 2))?;
    let (calls, lost, sent, passes) = under_load(&mut stage, pick(180, 2))?;
    let handed = handovers(&mut stage, &mut active, if quick { 1 } else { 6 })?;
    let all = effects.iter().map(|effect| deaths(&mut stage, &mut active, Duration::from_secs(*effect), rounds));
    let all = all.collect::<Result<Vec<_>>>()?;
    let (cold, waited) = cold_standby(&mut stage, &mut active, if quick { Duration::from_secs(2) } else { ALONE })?;
    let fck_nat = replacement(&mut stage)?;

    let alone = waited.as_secs_f64();
    let baseline = |cold: f64| if cold > alone { format!("none in {alone:.0} s") } else { seconds(cold) };
    let mut budgets = Vec::new();
    let mut budget = |what: &str, effect: u64, budget: f64, baseline: String, figures: Vec<f64>| {
        let count = figures.len();
        let (middle, worst) = middle_and_worst(figures.into_iter());
        budgets.push(Budget {
            work: format!("active {what}, EC2's change takes effect after {effect} s"),
            budget: seconds(budget),
            baseline,
            measured: format!("{}, at worst {} of {count}", seconds(middle), seconds(worst)),
            met: worst <= budget,
        });
    };
    for Deaths { effect, all, .. } in &all {
        let (beside, effect) = (effect.as_secs_f64(), effect.as_secs());
        let of = |figure: &dyn Fn(&Death) -> f64| all.iter().map(figure).collect::<Vec<_>>();
        let connection = of(&|death| death.connection - death.calls - beside);
        let what = "nat-vpn killed, new connection to the internet, without what EC2 takes";
        budget(what, effect, CONNECTION, baseline(cold.connection), connection);
        let out = of(&|death| death.out - death.calls - beside);
        let what = "nat-vpn killed, private, to the hub's VPC, without what EC2 takes";
        budget(what, effect, PRIVATE, baseline(cold.out), out);
        let what = "nat-vpn killed, private, from the hub's VPC";
        budget(what, effect, PRIVATE, baseline(cold.back), of(&|death| death.back));
        let connection = nat.of(effect).map(|death| death.connection - death.calls - beside).collect();
        let what = "nat-hub killed, new connection to the internet, without what EC2 takes";
        budget(what, effect, CONNECTION, format!("as fck-nat: {}", seconds(fck_nat)), connection);
    }
    let returned = all.iter().fold(Lost::default(), |sum, deaths| sum.plus(deaths.returned));
    budgets.push(handed.nothing("handover of a nat-vpn, private packets"));
    budgets.push(returned.nothing("return of the dead nat-vpn, private packets"));
    budgets.push(nat.handed.nothing("handover of a nat-hub, packets to the internet"));
    budgets.push(nat.returned.nothing("return of the dead nat-hub, packets to the internet"));
    budgets.push(Budget {
        work: format!("{} s of full load and {passes} passes, both members alive", pick(180, 2).as_secs()),
        budget: "0 moves, 0 lost".into(),
        baseline: "–".into(),
        measured: format!("{calls} moves, {lost} of {sent} lost"),
        met: calls == 0 && lost == 0,
    });
    let row = |name: String, death: &Death| {
        vec![name, seconds(death.connection), seconds(death.out), seconds(death.back), death.phases.clone()]
    };
    let mut rows = Vec::new();
    for Deaths { effect, all, .. } in &all {
        let name = |n| format!("nat-vpn, EC2 {} s, death {n}", effect.as_secs());
        rows.extend((1..).zip(all).map(|(n, death)| row(name(n), death)));
    }
    for (n, death) in (1..).zip(&nat.deaths) {
        let name = format!("nat-hub, EC2 {} s, death {n}", death.effect.as_secs());
        rows.push([name, seconds(death.connection), "–".into(), "–".into(), death.phases.clone()].into());
    }
    rows.push(row("cold standby".into(), &cold));
    rows.push(["replacement, as fck-nat".into(), seconds(fck_nat), "–".into(), "–".into(), "–".into()].into());
    let text = format!(
        "Two nat-vpn in a VPC, and in another region two nat-hub. All that reaches or leaves the one that has the VPC's routes is dropped from \
         one moment on, and what runs in it is killed. Between a private host behind the nat-vpn and one in the hub's VPC go fifty \
         datagrams a second each way, which are echoed, and a host makes new connections to the internet, one after the other. Each \
         figure is the longest time without an arrival at the other end, or without a connection that came to something. Between two \
         deaths the dead one boots again, and what members remember of moves is removed, as there are at most three in ten minutes.\n\n{}\n\
         Decided: from the last beat heard to the heir's decision, and EC2's calls after that. These take as long as the EC2 of this \
         machine needs, and are not in the figures above of what waits for them.\n\n\
         Cold standby: `pair.enabled = false`, the second one has its tunnel up, and the hub's DPD and `keep` do what they do. It was left \
         alone for {} s, in which {}; then it and the hub were refreshed by hand. Its timer would do so hourly.\n\n\
         Replacement: another instance runs as soon as the old one is gone, sets one rule and moves the routes, as fck-nat's boot script \
         does. Not in it: the minutes in which an Auto Scaling group notices a dead instance, and the time in which a machine boots. It \
         has no tunnel.\n\n\
         `crosswan pair` of a nat-vpn, standing by: {} of memory of its own, {} at its peak with all that is mapped, {cpu:.0} s of CPU an \
         hour.\n",
        table("what | new connection | to the hub's VPC | from the hub's VPC | decided", rows.into_iter()),
        alone as u64,
        if cold.connection < alone { "it took the routes" } else { "no route moved" },
        megabytes(own),
        megabytes(peak),
    );
    Ok(Section { name: "pair", title: "A member of a pair that dies", budgets, text, plots: Vec::new() })
}

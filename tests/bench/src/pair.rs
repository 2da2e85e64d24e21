//! A pair of nat-vpn: what is lost when the one that has the routes dies, beside a second one that only stands by, and beside a
//! replacement whose boot script moves the route, as fck-nat's does. And what it costs to be a pair.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_faults::memory::status_kb;
use crosswan_faults::pair::{SOON, stage::PairStage};
use crosswan_faults::region::eventually;
use crosswan_lab::{Gateway, Role};

use crate::probes::{Connections, Echo, Echoed};
use crate::results::{Budget, Section, megabytes, seconds, table};
use crate::{Setup, say};

/// The budgets, seconds, to which the time comes that EC2 takes.
const CONNECTION: f64 = 0.6;
const PRIVATE: f64 = 0.7;
/// How long one that stands by is left alone before it is refreshed by hand.
const ALONE: Duration = Duration::from_mins(5);

/// How long a hub has to follow by itself.
const FOLLOWS: Duration = Duration::from_secs(10);

/// What one death cost: the longest time, in seconds, without something.
struct Death {
    connection: f64,
    out: f64,
    back: f64,
    /// Echoes that were lost of those asked for, of both streams.
    lost: u32,
    sent: u32,
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
        let lost = |echoed: &Echoed| echoed.sent - echoed.echoed;
        Ok(Death {
            connection,
            out: out.there.as_secs_f64(),
            back: back.there.as_secs_f64(),
            lost: lost(&out) + lost(&back),
            sent: out.sent + back.sent,
        })
    }
}

/// Deaths of the active member, of which each figure is the middle one and the worst.
struct Deaths {
    effect: Duration,
    all: Vec<Death>,
    /// Echoes lost while the dead one returned, of so many.
    returned: (u32, u32),
}

impl Deaths {
    fn middle_and_worst(&self, figure: impl Fn(&Death) -> f64) -> (f64, f64) {
        let mut all: Vec<f64> = self.all.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[all.len() - 1])
    }
}

/// Waits until everything passes by the survivor. A hub that does not follow by itself is refreshed.
fn heals(stage: &PairStage, survivor: &Gateway) -> Result<()> {
    eventually(SOON, "the routes have moved", || stage.pair.leads_to(survivor))?;
    stage.pair.host.wait_for(stage.pair.internet, SOON)?;
    let far = stage.pair.region.lab.host("hub/host")?;
    if far.wait_for(stage.pair.host.address, FOLLOWS).is_err() {
        say("the hub does not follow, and is refreshed");
        refresh_hub(stage)?;
    }
    stage.passes()
}

/// It finds who has come or gone, and sends to the newer one if that works.
fn refresh_hub(stage: &PairStage) -> Result<()> {
    stage.pair.region.gateway("hub/vpn-hub")?.agent(&["refresh"]).map(drop)
}

/// Kills the member that has the routes, again and again.
fn deaths(stage: &mut PairStage, effect: Duration, rounds: usize) -> Result<Deaths> {
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
    let mut deaths = Deaths { effect, all: Vec::new(), returned: (0, 0) };
    for round in 1..=rounds {
        say(&format!("death {round} of {rounds}, packets follow EC2 {} s later", effect.as_secs()));
        // To the newer one the hub sends, too: so its death takes both directions.
        refresh_hub(stage)?;
        stage.settle(&two)?;
        refresh_hub(stage)?;
        stage.pair.region.lab.ec2_effect_delay(effect);
        let streams = Streams::start(stage)?;
        stage.kill(&two)?;
        heals(stage, &one)?;
        deaths.all.push(streams.stop()?);
        stage.pair.region.lab.ec2_effect_delay(Duration::ZERO);
        let back = Streams::start(stage)?;
        stage.boot(&two)?;
        stage.both_live()?;
        let back = back.stop()?;
        deaths.returned = (deaths.returned.0 + back.lost, deaths.returned.1 + back.sent);
    }
    Ok(deaths)
}

/// The second one stands by, and nobody watches: what moves when the one in use dies, and when.
fn cold_standby(stage: &mut PairStage, alone: Duration) -> Result<(Death, Duration)> {
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
    refresh_hub(stage)?;
    stage.settle(&two)?;
    stage.part()?;
    refresh_hub(stage)?;
    say(&format!("the same without a pair; left alone for at most {} s", alone.as_secs()));
    let streams = Streams::start(stage)?;
    stage.kill(&two)?;
    let began = Instant::now();
    let (near, far) = (stage.pair.host.clone(), stage.pair.region.lab.host("hub/host")?);
    // Nothing asks the one that stands by for a pass: its own tunnel is up. Its timer does, hourly.
    while began.elapsed() < alone && !stage.pair.leads_to(&one)? {
        std::thread::sleep(Duration::from_secs(1).min(alone / 4));
    }
    let waited = began.elapsed();
    one.agent(&["refresh"])?;
    refresh_hub(stage)?;
    near.wait_for(stage.pair.internet, ALONE)?;
    near.wait_for(far.address, ALONE)?;
    let death = streams.stop()?;
    stage.boot(&two)?;
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
    let ticks = || -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        Ok([11, 12].iter().filter_map(|n| fields.get(*n)?.parse::<u64>().ok()).sum())
    };
    let (before, began) = (ticks()?, Instant::now());
    std::thread::sleep(time);
    // USER_HZ is 100 everywhere (time(7)).
    let cpu = (ticks()? - before) as f64 / 100.0 / began.elapsed().as_secs_f64() * 3600.0;
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

/// Everything that the issue on pairs asks of two nat-vpn.
pub fn bench(setup: &Setup) -> Result<Section> {
    let quick = setup.quick;
    let pick = |long: u64, short: u64| Duration::from_secs(if quick { short } else { long });
    let mut stage = PairStage::new(quick, &say)?;
    stage.settle(&stage.pair.one.clone())?;
    let [own, peak, cpu] = cost(&stage, pick(60, 2))?;
    let (calls, lost, sent, passes) = under_load(&mut stage, pick(180, 2))?;
    let effects = if quick { &[0][..] } else { &[0, 2] };
    let rounds = if quick { 1 } else { 3 };
    let all = effects.iter().map(|effect| deaths(&mut stage, Duration::from_secs(*effect), rounds));
    let all = all.collect::<Result<Vec<_>>>()?;
    let (cold, waited) = cold_standby(&mut stage, if quick { Duration::from_secs(2) } else { ALONE })?;
    let fck_nat = replacement(&mut stage)?;

    let alone = waited.as_secs_f64();
    let mut budgets = Vec::new();
    for deaths in &all {
        let effect = deaths.effect.as_secs_f64();
        let mut budget = |what: &str, budget: f64, cold: f64, figure: fn(&Death) -> f64| {
            let (middle, worst) = deaths.middle_and_worst(figure);
            budgets.push(Budget {
                work: format!("active nat-vpn killed, {what}, EC2's change takes effect after {effect:.0} s"),
                budget: seconds(budget + effect),
                baseline: if cold > alone { format!("none in {alone:.0} s") } else { seconds(cold) },
                measured: format!("{}, at worst {}", seconds(middle), seconds(worst)),
                met: worst <= budget + effect,
            });
        };
        budget("new connection to the internet", CONNECTION, cold.connection, |death| death.connection);
        budget("private, to the hub's VPC", PRIVATE, cold.out, |death| death.out);
        budget("private, from the hub's VPC", PRIVATE, cold.back, |death| death.back);
    }
    let returned = all.iter().fold((0, 0), |sum, deaths| (sum.0 + deaths.returned.0, sum.1 + deaths.returned.1));
    let of = |(lost, sent): (u32, u32)| format!("{lost} of {sent} lost");
    budgets.push(Budget {
        work: "return of the dead member".into(),
        budget: "0 lost".into(),
        baseline: "–".into(),
        measured: of(returned),
        met: returned.0 == 0,
    });
    budgets.push(Budget {
        work: format!("{} s of full load and {passes} passes, both members alive", pick(180, 2).as_secs()),
        budget: "0 moves, 0 lost".into(),
        baseline: "–".into(),
        measured: format!("{calls} moves, {}", of((lost, sent))),
        met: calls == 0 && lost == 0,
    });
    let row = |name: &str, death: Option<&Death>, connection: f64| {
        let time = |figure: fn(&Death) -> f64| death.map_or("–".into(), |death| seconds(figure(death)));
        vec![name.to_owned(), seconds(connection), time(|death| death.out), time(|death| death.back)]
    };
    let mut rows: Vec<_> = all
        .iter()
        .flat_map(|deaths| {
            deaths.all.iter().enumerate().map(|(n, death)| {
                let name = format!("pair, EC2 {} s, death {}", deaths.effect.as_secs(), n + 1);
                row(&name, Some(death), death.connection)
            })
        })
        .collect();
    rows.push(row("cold standby", Some(&cold), cold.connection));
    rows.push(row("replacement, as fck-nat", None, fck_nat));
    let lost: Vec<_> = all.iter().flat_map(|deaths| &deaths.all).map(|death| of((death.lost, death.sent))).collect();
    let text = format!(
        "Two nat-vpn in a VPC; the one that has its routes is stopped, its processes, kernel and network gone, and EC2 answers at once. \
         Between a private host behind it and one in the hub's VPC go fifty datagrams a second each way, which are echoed, and the host \
         makes new connections to the internet, one after the other. Each figure is the longest time without an arrival at the other \
         end, or without a connection that came to something. A hub that has not followed within {} s is refreshed by hand.\n\n{}\n\
         Echoes lost: {}.\n\n\
         Cold standby: `pair.enabled = false`, the second one has its tunnel up, and the hub's DPD and `keep` do what they do. It was left \
         alone for {} s, in which {}; then it and the hub were refreshed by hand. Its timer would do so hourly.\n\n\
         Replacement: another instance runs as soon as the old one is gone, sets one rule and moves the routes, as fck-nat's boot script \
         does. Not in it: the minutes in which an Auto Scaling group notices a dead instance, and the time in which a machine boots. It \
         has no tunnel.\n\n\
         `crosswan pair`, standing by: {} of memory of its own, {} at its peak with all that is mapped, {cpu:.0} s of CPU an hour.\n",
        FOLLOWS.as_secs(),
        table("what | new connection | to the hub's VPC | from the hub's VPC", rows.into_iter()),
        lost.join(", "),
        alone as u64,
        if cold.connection < alone { "it took the routes" } else { "no route moved" },
        megabytes(own),
        megabytes(peak),
    );
    Ok(Section { name: "pair", title: "A member of a pair that dies", budgets, text, plots: Vec::new() })
}

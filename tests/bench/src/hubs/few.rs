//! Two whole clients: deaths, returns and handovers of a hub.

use std::time::Duration;

use anyhow::Result;
use crosswan_faults::pair::SOON;

use super::GAP;
use super::cold::Cold;
use super::stage::{Stage, WAYS};
use crate::probes::Lost;
use crate::results::{Budget, Section, middle_and_worst, seconds, table};
use crate::takeover::{calls, die, hand_over, phases};
use crate::{Setup, say};

/// What one death cost: the longest time, in seconds, in which nothing arrived at the other host, each way.
struct Death {
    name: String,
    effect: Duration,
    gaps: [f64; 4],
    /// How long EC2's calls took the heir, in seconds.
    calls: f64,
    /// By the heir: from the last beat to its decision, and EC2's calls.
    phases: String,
}

impl Death {
    fn spokes(&self) -> f64 {
        self.gaps[0].max(self.gaps[1])
    }

    /// The hubs' VPC follows EC2: what is longer than its calls and their effect take.
    fn beside_ec2(&self) -> f64 {
        self.gaps[2] - self.calls - self.effect.as_secs_f64()
    }
}

/// One hub after the other dies, so often, and each returns. What is lost in the returns counts as well.
fn deaths(stage: &mut Stage, effect: Duration, rounds: usize, returns: &mut Lost) -> Result<Vec<Death>> {
    let mut deaths = Vec::new();
    let mut dead = stage.hubs.one.clone();
    for round in 1..=2 * rounds {
        say(&format!("death {round} of {}, packets follow EC2 {} s later", 2 * rounds, effect.as_secs()));
        let heir = stage.other(&dead);
        stage.hubs.forget_moves()?;
        stage.well(&dead)?;
        stage.hubs.region.lab.ec2_effect_delay(effect);
        let echoes = stage.echoes(|stage| {
            die(&dead)?;
            stage.follow(&heir, SOON)
        })?;
        stage.hubs.region.lab.ec2_effect_delay(Duration::ZERO);
        stage.stop(&dead)?;
        let taken = stage.taken(&heir)?;
        let gaps = [0, 1, 2, 3].map(|way: usize| echoes[way].there.as_secs_f64());
        let phases = phases(&taken);
        say(&format!("nothing for {gaps:.3?} s; {phases}"));
        if gaps[0] > 2.0 * GAP {
            say(&format!("why so long, by the heir:\n{}", stage.hubs.residents[&heir.name].pair.log()));
        }
        deaths.push(Death { name: dead.name.clone(), effect, gaps, calls: calls(&taken)?, phases });
        let back = stage.echoes(|stage| {
            stage.boot(&dead)?;
            stage.well(&heir)
        })?;
        *returns = returns.and(&back);
        say(&format!("returns have lost {} of {}", returns.lost, returns.sent));
        dead = heir;
    }
    Ok(deaths)
}

/// The hub that is used hands over, to and fro.
fn handovers(stage: &mut Stage, rounds: usize) -> Result<Lost> {
    let mut all = Lost::default();
    let mut from = stage.hubs.one.clone();
    for round in 1..=2 * rounds {
        say(&format!("handover {round} of {}", 2 * rounds));
        stage.hubs.forget_moves()?;
        stage.well(&from)?;
        let to = stage.other(&from);
        let echoes = stage.echoes(|stage| {
            hand_over(&from)?;
            stage.follow(&to, SOON)
        })?;
        all = all.and(&echoes);
        // Who hands over says so until it is done.
        from = to;
    }
    Ok(all)
}

/// Everything that the issue on pairs asks of two vpn-hub.
pub fn bench(setup: &Setup) -> Result<Section> {
    let quick = setup.quick;
    say("two hubs and two clients");
    let mut stage = Stage::new(&["a", "b"])?;
    let (effects, rounds) = if quick { (&[0_u64][..], 1_usize) } else { (&[0, 2][..], 5) };
    let mut returns = Lost::default();
    let mut all = Vec::new();
    for effect in effects {
        // With a delay only what EC2 decides is of interest.
        let rounds = if *effect == 0 { rounds } else { rounds.div_ceil(2) };
        all.extend(deaths(&mut stage, Duration::from_secs(*effect), rounds, &mut returns)?);
    }
    let handed = handovers(&mut stage, if quick { 1 } else { 3 })?;
    let cold = Cold::standby(stage, quick)?;

    let mut budgets = Vec::new();
    for effect in effects {
        let of = |figure: &dyn Fn(&Death) -> f64| {
            middle_and_worst(all.iter().filter(|death| death.effect.as_secs() == *effect).map(figure))
        };
        let count = all.iter().filter(|death| death.effect.as_secs() == *effect).count();
        let mut budget = |what: &str, budget: f64, without: f64, (middle, worst): (f64, f64)| {
            budgets.push(Budget {
                work: format!("hub killed, {what}, EC2's change takes effect after {effect} s"),
                budget: seconds(budget),
                baseline: cold.baseline(without),
                measured: format!("{}, at worst {} of {count}", seconds(middle), seconds(worst)),
                met: worst <= budget,
            });
        };
        budget("spoke to spoke, 2 clients", GAP, cold.spokes(), of(&Death::spokes));
        budget("hubs' VPC to spoke, without what EC2 takes", GAP, cold.gaps[2], of(&Death::beside_ec2));
        budget("spoke to hubs' VPC", GAP, cold.gaps[3], of(&|death| death.gaps[3]));
    }
    budgets.push(handed.nothing("handover of the hub"));
    budgets.push(returns.nothing("return of the dead hub"));
    let row = |name: String, gaps: [f64; 4], phases: &str| {
        [name].into_iter().chain(gaps.map(seconds)).chain([phases.to_owned()]).collect::<Vec<_>>()
    };
    let mut rows: Vec<_> = all
        .iter()
        .map(|death| row(format!("{} dies, EC2 {} s", death.name, death.effect.as_secs()), death.gaps, &death.phases))
        .collect();
    rows.push(row("cold standby".into(), cold.gaps, "–"));
    let ways = WAYS.map(|(from, to)| format!("{from} to {to}")).join(" | ");
    let text = format!(
        "Two vpn-hub in a VPC, and two clients, whose whole gateways have tunnels to both. All that reaches or leaves the hub that is used is \
         dropped from one moment on, and what runs in it is killed. Between private hosts of the clients and of the hubs' VPC go fifty \
         datagrams a second, which are echoed. Each figure is the longest time without an arrival at the other end. EC2 answers at once. \
         Between two deaths the dead one boots again, and what hubs remember of moves is removed, as there are at most three in ten \
         minutes.\n\n{}\n\
         Decided: from the last beat heard to the heir's decision, and EC2's calls after that. These take as long as the EC2 of this \
         machine needs, and are not in the figures of the hubs' VPC to a spoke above, which waits for them.\n\n{}",
        table(&format!("what | {ways} | decided"), rows.into_iter()),
        cold.text(),
    );
    Ok(Section { name: "hubs", title: "A hub of a pair that dies", budgets, text, plots: Vec::new() })
}

//! The same death with many clients, of which a few are whole gateways and the others are numbers of a [`Mass`].

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_core::model::{Gateway as Shown, Place};
use crosswan_core::pair::{FarEnd, far_ends};
use crosswan_core::state::State;
use crosswan_faults::look::CONNECTIONS;
use crosswan_faults::memory::status_kb;
use crosswan_faults::pair::SOON;
use crosswan_faults::pair::hubs::place;
use crosswan_faults::region::eventually;
use crosswan_lab::{Fault, Gateway};

use super::GAP;
use super::cold::Cold;
use super::mass::{self, Mass, address};
use super::stage::Stage;
use crate::measure::ticks;
use crate::results::{Budget, Section, megabytes, middle_and_worst, seconds, table};
use crate::takeover::{die, phases};
use crate::{Setup, key, say, xml};

/// `pair.port`.
const PORT: u16 = 4795;
/// Before the connections to clients by number, in the file of connections.
const BY_NUMBER: &str = "    # By number.\n";
const STATE: &str = "/var/lib/crosswan/state.json";
/// The whole gateways. The last one lends its tunnels to the others.
pub const WHOLE: [&str; 20] =
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];
/// Of the network of the last one, 10.20.0.0/16.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 20, 64, 0);
/// The time, in seconds, that each call of EC2 takes where it is slow.
const SLOW: u64 = 2;
/// The budget for 1,000 clients.
const LONG: f64 = 1.0;
/// All beats of a second of everybody have come and gone.
const SETTLES: Duration = Duration::from_secs(12);

/// Deaths before 100 and 1,000 clients, and what `crosswan pair` takes before up to 5,000.
pub fn bench(setup: &Setup) -> Result<Section> {
    let mut many = Many::new()?;
    let (deaths, costs) = crowds(&mut many, setup.quick)?;
    let cold = Cold::standby(many.end()?, setup.quick)?;
    let mut budgets = Vec::new();
    for (clients, calls, budget) in [(100, 0, GAP), (100, SLOW, GAP), (1000, 0, LONG)] {
        let of: Vec<f64> = deaths
            .iter()
            .filter(|death| death.clients == clients && death.calls == calls)
            .map(|death| death.most.unwrap_or(f64::INFINITY))
            .collect();
        if of.is_empty() {
            continue;
        }
        let count = of.len();
        let (middle, worst) = middle_and_worst(of.into_iter());
        budgets.push(Budget {
            work: format!("hub killed, {clients} clients, each call of EC2 takes {calls} s: 99 % follow"),
            budget: seconds(budget),
            baseline: cold.baseline(cold.spokes()),
            measured: format!("{}, at worst {} of {count}", seconds(middle), seconds(worst)),
            met: worst <= budget,
        });
    }
    let text = text(&deaths, &costs) + "\n" + &cold.text();
    Ok(Section { name: "hubs-many", title: "A hub that dies before many clients", budgets, text, plots: Vec::new() })
}

/// Deaths before many clients, and what `crosswan pair` takes before how many, on the hub that has the routes and on the other one.
fn crowds(many: &mut Many, quick: bool) -> Result<(Vec<Followed>, Vec<[Cost; 2]>)> {
    // How many, how often one dies while EC2 answers at once, and how often while it does not.
    let sizes = if quick { &[(30, 1, 1)][..] } else { &[(100, 3, 3), (1000, 3, 0), (5000, 0, 0)] };
    let time = Duration::from_secs(if quick { 5 } else { 40 });
    let (mut used, mut deaths, mut costs) = (many.stage.hubs.one.clone(), Vec::new(), Vec::new());
    many.stage.well(&used)?;
    for (clients, rounds, slow) in sizes {
        // Whoever only costs is heard by one hub, as all beats of 5,000 with two are too many for the one processor that everybody shares.
        let hubs = if *rounds > 0 { mass::Hubs::Both } else { mass::Hubs::Only(place(&*many.lender()?, &used)?) };
        many.be(*clients, hubs)?;
        let other = many.stage.other(&used);
        let cost = many.costs([&used, &other], time)?;
        say(&format!("crosswan pair, active and standby: {cost:.1?}"));
        costs.push(cost);
        for calls in [vec![0; *rounds], vec![SLOW; *slow]].concat() {
            deaths.push(many.death(&used, calls)?);
            used = many.stage.other(&used);
        }
    }
    Ok((deaths, costs))
}

fn text(deaths: &[Followed], costs: &[[Cost; 2]]) -> String {
    let time = |time: Option<f64>| time.map_or("not all".into(), seconds);
    let rows = deaths.iter().map(|death| {
        let [half, most, all] = [death.half, death.most, death.all].map(time);
        vec![
            death.clients.to_string(),
            format!("{} s", death.calls),
            half,
            most,
            all,
            seconds(death.gap),
            death.phases.clone(),
        ]
    });
    let costs = costs.iter().map(|[active, standby]| {
        let each = [active, standby]
            .map(|cost| vec![megabytes(cost.memory), megabytes(cost.peak), format!("{:.0} s", cost.cpu)]);
        [vec![active.clients.to_string()], each.concat()].concat()
    });
    format!(
        "Of the clients {} are whole gateways. The rest is one process that has an address, a key and an identity for each, two sockets for \
         all, and the code with which a gateway hears, answers and follows. Their beats are signed, and come and go through the real tunnels \
         of one of the whole gateways. They have no IKE_SA, no charon that is asked whether a tunnel works, and no route, and none answers before all have heard what has come. Both hubs are \
         whole, and their `crosswan pair` has a connection in its file for each client. The hubs and the clients by number share one \
         processor, and everything else another one, where there are two. Seconds count from the last packet that came through the dead hub from one whole client to another, until a client's following has moved; shown \
         beside it is how long nothing came from one whole client to another.\n\n{}\n\
         `crosswan pair` of a hub, while nothing happens: memory of its own, at its peak with all that is mapped, and CPU in an hour. Of \
         5,000 clients, whose beats with two hubs are too many for one processor, only the active hub hears anything; the standby speaks to \
         all of them in vain.\n\n{}",
        WHOLE.len(),
        table("clients | each call of EC2 | half follow | 99 % | all | nothing between whole clients | decided", rows),
        table("clients | active: own | peak | CPU | standby: own | peak | CPU", costs),
    )
}

/// One death.
struct Followed {
    pub clients: usize,
    /// How long each call of EC2 took beside its own time, in seconds.
    pub calls: u64,
    /// Seconds from the death until so many of a hundred of the clients by number followed; `None` if they did not.
    pub half: Option<f64>,
    pub most: Option<f64>,
    pub all: Option<f64>,
    /// The longest time in which nothing arrived from one whole client at the other.
    pub gap: f64,
    pub phases: String,
}

/// What `crosswan pair` of a hub takes while nothing happens.
#[derive(Clone, Copy, Debug)]
struct Cost {
    pub clients: usize,
    /// Of its own, at its peak with all that is mapped, MB.
    pub memory: f64,
    pub peak: f64,
    /// Seconds in an hour.
    pub cpu: f64,
}

/// Whole clients, and so many by number.
struct Many {
    pub stage: Stage,
    pub count: usize,
    mass: Option<Mass>,
}

impl Many {
    pub fn new() -> Result<Many> {
        say(&format!("two hubs and {} whole clients", WHOLE.len()));
        Ok(Many { stage: Stage::new(&WHOLE)?, count: 0, mass: None })
    }

    /// Only the whole ones are left, and the hubs know of no other.
    fn end(mut self) -> Result<Stage> {
        self.mass.take().map_or(Ok(()), Mass::stop)?;
        for hub in self.hubs() {
            self.tell(&hub, 0)?;
            self.stage.attend(&hub)?;
        }
        Ok(self.stage)
    }

    fn lender(&self) -> Result<Arc<Gateway>> {
        self.stage.hubs.clients.last().cloned().context("no client")
    }

    fn hubs(&self) -> [Arc<Gateway>; 2] {
        [self.stage.hubs.one.clone(), self.stage.hubs.two.clone()]
    }

    /// From now on there are so many clients, the whole ones among them.
    pub fn be(&mut self, clients: usize, hubs: mass::Hubs) -> Result<()> {
        say(&format!("{clients} clients"));
        if let Some(mass) = self.mass.take() {
            mass.stop()?;
        }
        self.count = clients - WHOLE.len();
        self.tell_all()?;
        let lender = self.lender()?;
        let text = lender.read_file(CONNECTIONS)?;
        let mut ends: Vec<FarEnd> = far_ends(&text, false, |_| None);
        for hub in self.hubs() {
            let at = place(&lender, &hub)?;
            let end = ends.iter_mut().find(|end| end.place == at).with_context(|| text.clone())?;
            end.address = Some(hub.address);
        }
        ends.sort_by_key(|end| u32::from(end.place));
        let ends: [FarEnd; 2] = ends.try_into().map_err(|ends| anyhow::anyhow!("not two ends: {ends:?}"))?;
        ensure!(ends.each_ref().map(|end| end.place) == Place::FAR_ENDS, "{ends:?}");
        let ns = lender.ns()?;
        self.mass = Some(Mass::start(&ns, &ends, PORT, FIRST, self.count, hubs)?);
        self.hear()
    }

    fn mass(&self) -> Result<&Mass> {
        self.mass.as_ref().context("no clients by number")
    }

    /// Waits until everybody has heard its hubs anew.
    pub fn hear(&self) -> Result<()> {
        let mass = self.mass()?;
        mass.forget_heard();
        eventually(SOON, "everybody hears its hubs", || Ok(mass.seen().hear_all() == self.count)).with_context(|| {
            let seen = mass.seen();
            format!(
                "{} of {} hear their hubs; {} sent, {} counted, refused {:?}",
                seen.hear_all(),
                self.count,
                seen.sent,
                seen.counted,
                seen.refused
            )
        })
    }

    /// Both hubs know all clients, and nobody looks at their files but `crosswan pair`.
    fn tell_all(&mut self) -> Result<()> {
        for hub in self.hubs() {
            self.stage.leave(&hub)?;
            self.tell(&hub, self.count)?;
        }
        Ok(())
    }

    /// Adds the clients by number to what the last pass of this hub has written. Nobody but `crosswan pair` reads it until the next pass.
    fn tell(&self, hub: &Gateway, count: usize) -> Result<()> {
        let text = hub.read_file(CONNECTIONS)?;
        let lender = self.lender()?;
        let ends = far_ends(&text, true, |_| None);
        let whole = match text.split_once(BY_NUMBER) {
            Some((before, _)) => before,
            None => text.trim_end().strip_suffix('}').context("no end of the connections")?,
        };
        let end = ends.iter().find(|end| end.name.as_str().contains(&lender.instance)).context("no tunnel to lend")?;
        let mut all = format!("{whole}{BY_NUMBER}");
        for n in 0..count {
            let (instance, vpc) = key::ids(n);
            let (address, public) = (xml::public(n, false), key::private(n).public);
            write!(
                all,
                "    {name} {{\n local_addrs = {local}\n remote_addrs = {address}\n local {{\n auth = pubkey\n id = {own}\n }}\n \
                 remote {{\n auth = pubkey\n id = {id}\n pubkeys = 0s{public}\n }}\n children {{\n c {{\n local_ts = 10.0.0.0/8\n \
                 remote_ts = {cidr}\n if_id_in = {place}\n }}\n }}\n }}\n",
                name = crosswan_core::model::ConnName::to_gateway(&vpc, &instance),
                local = end.local,
                own = end.ids[0],
                id = xml::ike_id(n),
                cidr = xml::cidr(n),
                place = end.place.if_id(),
            )?;
        }
        all.push_str("}\n");
        let mut state: State = serde_json::from_str(&hub.read_file(STATE)?)?;
        let of_lender = |shown: &&Shown| shown.instance.as_str() == lender.instance;
        for last in state.regions.values_mut() {
            let Some(like) = last.view.gateways.iter().find(of_lender).cloned() else { continue };
            last.view.gateways.retain(|shown| !(shown.instance.as_str().starts_with("i-000000000")));
            last.view.gateways.extend((0..count).map(|n| {
                let (instance, vpc) = key::ids(n);
                Shown {
                    instance,
                    vpc,
                    address: Some(address(FIRST, n)),
                    public: Some(xml::public(n, false)),
                    ..like.clone()
                }
            }));
        }
        replace(hub, STATE, &serde_json::to_string(&state)?)?;
        replace(hub, CONNECTIONS, &all)
    }

    /// The hub that is used dies while each call of EC2 takes so many seconds, and the clients follow the other one.
    pub fn death(&mut self, dead: &Arc<Gateway>, calls: u64) -> Result<Followed> {
        let heir = self.stage.other(dead);
        // Without keep a tunnel that is lost on a machine as busy as this would stay so.
        for hub in self.hubs() {
            self.tell(&hub, 0)?;
            self.stage.attend(&hub)?;
        }
        self.stage.hubs.forget_moves()?;
        self.stage.well(dead)?;
        self.tell_all()?;
        say("all tunnels are up");
        self.hear()?;
        std::thread::sleep(SETTLES);
        let before = self.mass()?.seen();
        let lab = &self.stage.hubs.region.lab;
        for action in ["DescribeRouteTables", "ReplaceRoute"].iter().filter(|_| calls > 0) {
            lab.ec2_fault("*", action, Fault::Slow(Duration::from_secs(calls)));
        }
        say(&format!("{} dies, each call of EC2 takes {calls} s", dead.name));
        let mut began = Instant::now();
        let echoes = self.stage.echoes(|stage| {
            began = Instant::now();
            die(dead)?;
            stage.follow(&heir, SOON)
        })?;
        self.stage.hubs.region.lab.ec2_heal();
        // The last packet that came through the dead hub from one whole client to another tells when it died, to 20 ms.
        let since = [&echoes[0], &echoes[1]].map(|echoed| echoed.silent_since(began));
        let died = since.into_iter().flatten().min().context("whole clients did not notice")?;
        let seen = self.mass()?.seen();
        let moved = seen.moved.iter().zip(&before.moved).filter(|(now, before)| now != before);
        let mut after: Vec<f64> =
            moved.filter_map(|(now, _)| Some(now.as_ref()?.checked_duration_since(died)?.as_secs_f64())).collect();
        after.sort_by(f64::total_cmp);
        let part = |percent: usize| after.get((self.count * percent).div_ceil(100) - 1).copied();
        let taken = self.stage.taken(&heir)?;
        let followed = Followed {
            clients: self.count + WHOLE.len(),
            calls,
            half: part(50),
            most: part(99),
            all: part(100),
            gap: echoes[0].there.max(echoes[1].there).as_secs_f64(),
            phases: phases(&taken),
        };
        say(&format!(
            "half followed after {:.3?} s, 99 % after {:.3?} s, all after {:.3?} s; nothing from client to client for {:.3} s; {}; \
             {} sent, {} counted, refused {:?}",
            followed.half,
            followed.most,
            followed.all,
            followed.gap,
            followed.phases,
            seen.sent - before.sent,
            seen.counted - before.counted,
            seen.refused
        ));
        if followed.most.is_none_or(|most| most > 2.0) {
            say(&format!("why so long, by the heir:\n{}", self.stage.hubs.residents[&heir.name].pair.log()));
        }
        self.stage.stop(dead)?;
        // Its charon would load those that have no tunnel.
        self.tell(dead, 0)?;
        self.stage.boot(dead)?;
        Ok(followed)
    }

    /// What `crosswan pair` of these hubs takes in so long.
    fn costs(&self, hubs: [&Gateway; 2], time: Duration) -> Result<[Cost; 2]> {
        let pid = |hub: &Gateway| {
            Ok::<_, anyhow::Error>(self.stage.hubs.residents.get(&hub.name).context("no resident")?.pair.pid())
        };
        let pids = [pid(hubs[0])?, pid(hubs[1])?];
        let (before, began) = ([ticks(pids[0])?, ticks(pids[1])?], Instant::now());
        std::thread::sleep(time);
        let cost = |n: usize| {
            // USER_HZ is 100 everywhere (time(7)).
            let cpu = (ticks(pids[n])? - before[n]) as f64 / 100.0 / began.elapsed().as_secs_f64() * 3600.0;
            let memory =
                |key| status_kb(pids[n], key).map(|kb| kb as f64 * 1024.0 / 1e6).context("crosswan pair has ended");
            Ok::<_, anyhow::Error>(Cost {
                clients: self.count + WHOLE.len(),
                memory: memory("RssAnon")?,
                peak: memory("VmHWM")?,
                cpu,
            })
        };
        Ok([cost(0)?, cost(1)?])
    }
}

/// Replaces a file of the gateway as a pass does: a reader sees the old one or the new one.
fn replace(gateway: &Gateway, inside: &str, text: &str) -> Result<()> {
    let beside = format!("{inside}.bench");
    gateway.write_file(&beside, text, 0o600)?;
    fs::rename(gateway.path(&beside), gateway.path(inside)).with_context(|| inside.to_owned())
}

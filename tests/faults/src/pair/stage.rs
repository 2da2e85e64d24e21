//! The campaign's set-up for pairs: a client VPC with two members of which the older one has the routes, and another one as those who
//! are untouched.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use crosswan_lab::{AgentProcess, Capture, Gateway, PingReport, PingStream, VpcSpec};

use super::{
    SOON, TOOK, Two, alone, are_well, believes, finds_nothing_to_do, forget_moves, nothing_in_the_clear, told,
};
use crate::{
    attended::Attended,
    clock::Clock,
    look::{Snapshot, stream},
    region::{eventually, refresh},
};

/// Hosts with whose gateways the pair has nothing to do.
const UNTOUCHED: [(&str, &str); 2] = [("b/host", "hub/host"), ("hub/host", "b/host")];

/// The members are well, and each is attended as by systemd, but for the timer.
pub struct PairStage<'a> {
    /// Who makes passes when they are asked for, by the gateway's name.
    attended: BTreeMap<String, Attended>,
    pub pair: Two,
    /// A clock for each member.
    pub clocks: [Clock; 2],
    /// What the first undisturbed pass left on each member.
    members: Option<[Snapshot; 2]>,
    capture: Capture,
    streams: Vec<PingStream>,
    /// The short cut: shorter faults.
    pub quick: bool,
    pub say: &'a dyn Fn(&str),
}

/// What moved, and what was lost, while something was done to the pair.
pub struct Seen {
    /// What the pair's host sent to the internet, and to the hub's VPC; and what the hub's VPC sent to it.
    pub internet: PingReport,
    pub out: PingReport,
    pub back: PingReport,
    /// How often each member has said that it took routes over.
    pub took: [usize; 2],
    /// The calls of EC2 that would move a route, by anybody.
    pub calls: u64,
}

impl Seen {
    /// What was lost, for the table.
    pub fn lost(&self) -> String {
        let of = |report: &PingReport| format!("{} of {}", report.lost, report.sent);
        format!(
            "lost {} to the internet, {} to the hub's VPC and {} from there",
            of(&self.internet),
            of(&self.out),
            of(&self.back)
        )
    }

    /// An error unless nothing moved.
    pub fn moved_nothing(&self) -> Result<()> {
        ensure!(self.took == [0, 0] && self.calls == 0, "took over {:?} times, {} calls", self.took, self.calls);
        Ok(())
    }

    /// An error unless every packet was answered, and some were sent.
    pub fn lost_nothing(&self) -> Result<()> {
        for report in [&self.internet, &self.out, &self.back] {
            ensure!(report.lost == 0 && report.sent > 0, "{}: {report:?}", self.lost());
        }
        Ok(())
    }
}

impl<'a> PairStage<'a> {
    pub fn new(quick: bool, say: &'a dyn Fn(&str)) -> Result<PairStage<'a>> {
        say("a region with a hub, a pair and another client");
        let pair = Two::beside(vec![VpcSpec::client("b", "ap-southeast-2", &["10.2.0.0/16"])?])?;
        let lab = &pair.region.lab;
        let clocks = [Clock::of(lab, &pair.one)?, Clock::of(lab, &pair.two)?];
        let capture = lab.capture_internet()?;
        let (attended, streams) = (BTreeMap::new(), Vec::new());
        let mut stage = PairStage { pair, clocks, attended, members: None, capture, streams, quick, say };
        let hub = stage.pair.region.gateway("hub/vpn-hub")?;
        for gateway in [hub, stage.pair.one.clone(), stage.pair.two.clone()] {
            stage.attend(&gateway);
        }
        stage.undisturbed()?;
        stage.members = Some([Snapshot::of(&stage.pair.one)?, Snapshot::of(&stage.pair.two)?]);
        stage.next_streams()?;
        Ok(stage)
    }

    /// The packets of untouched peers sent and lost since the last call, and the slowest answer; the next streams flow before these end.
    pub fn next_streams(&mut self) -> Result<(u32, u32, Duration)> {
        let region = &self.pair.region;
        let next = UNTOUCHED.map(|(from, to)| stream(region, from, to)).into_iter().collect::<Result<_>>()?;
        let mut sum = (0, 0, Duration::ZERO);
        for stream in std::mem::replace(&mut self.streams, next) {
            let report = stream.stop()?;
            sum = (sum.0 + report.sent, sum.1 + report.lost, sum.2.max(report.slowest));
        }
        Ok(sum)
    }

    /// What moves, and what is lost, while this is done; streams flow for a second before and after it.
    pub fn during(&mut self, what: impl FnOnce(&mut PairStage<'a>) -> Result<()>) -> Result<Seen> {
        let streams = [self.to_the_internet()?, self.own("a/host", "hub/host")?, self.own("hub/host", "a/host")?];
        let (calls, took) = (self.pair.moves(), self.took());
        std::thread::sleep(Duration::from_secs(1));
        what(self)?;
        std::thread::sleep(Duration::from_secs(1));
        let now = self.took();
        let calls = self.pair.moves() - calls;
        // Each waits for its last answers; the others end at the same time.
        let ends = streams.map(|stream| std::thread::spawn(|| stream.stop()));
        let [internet, out, back] = ends.map(|end| end.join().map_err(|_| anyhow!("a stream has panicked"))?);
        let took = [now[0] - took[0], now[1] - took[1]];
        Ok(Seen { internet: internet?, out: out?, back: back?, took, calls })
    }

    fn to_the_internet(&self) -> Result<PingStream> {
        self.pair.host.ping_stream(self.pair.internet)
    }

    fn own(&self, from: &str, to: &str) -> Result<PingStream> {
        stream(&self.pair.region, from, to)
    }

    /// How often each member has said that it took routes over, since it first ran.
    fn took(&self) -> [usize; 2] {
        [&self.pair.watch_one, &self.pair.watch_two].map(|watch| watch.log().matches(TOOK).count())
    }

    /// All routes lead to `two`, to which `one` lost them: by one move, which nobody took back.
    pub fn two_took_all(&self, seen: &Seen) -> Result<()> {
        // The routes of one move may read back in parts.
        let good = seen.took[0] == 0 && (1..=3).contains(&seen.took[1]) && self.pair.leads_to(&self.pair.two)?;
        let logs = || [&self.pair.watch_one, &self.pair.watch_two].map(AgentProcess::log).join("\n---\n");
        ensure!(good, "took over {:?} times, {} calls\n{}", seen.took, seen.calls, logs());
        Ok(())
    }

    /// Waits until all routes lead to `two`, and everybody reaches everybody again.
    pub fn heals_by_two(&self) -> Result<()> {
        eventually(SOON, "the routes have moved", || self.pair.leads_to(&self.pair.two))?;
        // Packets pass before EC2 has answered all that it was asked, and so before this is said.
        self.pair.watch_two.wait_for_log(TOOK, SOON)?;
        self.passes()
    }

    /// Waits until packets of the pair's host pass, and those to it.
    pub fn passes(&self) -> Result<()> {
        let (host, hub) = (&self.pair.host, self.pair.region.lab.host("hub/host")?);
        let all = host.wait_for(self.pair.internet, SOON).and_then(|_| host.wait_for(hub.address, SOON));
        all.and_then(|_| hub.wait_for(host.address, SOON)).map(drop).with_context(|| self.told())
    }

    /// What the members say of themselves, and where the routes lead, for the message of a failure.
    fn told(&self) -> String {
        let tables = self.pair.region.lab.tables("a").map(|tables| format!("{tables:#?}"));
        format!("{}\n{}", told([&self.pair.one, &self.pair.two]), tables.unwrap_or_default())
    }

    /// The EC2 instance of a member is stopped: everything in it dies, and its network is gone.
    pub fn kill(&mut self, member: &Arc<Gateway>) -> Result<()> {
        self.attended.remove(&member.name).map_or(Ok(()), |mut attended| attended.end())?;
        self.pair.region.keepers.remove(&member.name);
        self.pair.region.lab.stop_instance(member)
    }

    /// It boots again, as by systemd.
    pub fn boot(&mut self, member: &Arc<Gateway>) -> Result<()> {
        self.pair.region.lab.start_guarded(member)?;
        member.start_charon()?;
        self.attend(member);
        self.pair.region.keepers.insert(member.name.clone(), member.spawn_agent(&["keep"])?);
        self.watch_again(member)
    }

    fn attend(&mut self, gateway: &Arc<Gateway>) {
        self.attended.insert(gateway.name.clone(), Attended::refreshed(gateway.clone()));
    }

    /// `crosswan pair` of a member starts, and remembers nothing.
    fn watch_again(&mut self, member: &Gateway) -> Result<()> {
        let own = if member.name == self.pair.one.name { &mut self.pair.watch_one } else { &mut self.pair.watch_two };
        forget_moves(member, own)
    }

    /// A signal to a member's `crosswan pair`.
    pub fn signal_pair(&self, member: &Gateway, signal: i32) -> Result<()> {
        let watch = if member.name == self.pair.one.name { &self.pair.watch_one } else { &self.pair.watch_two };
        member.sh(&format!("kill -{signal} {}", watch.pid()))?.ok().map(drop)
    }

    /// Waits until both members hear each other and are well.
    pub fn both_live(&self) -> Result<()> {
        believes(&self.pair.one, "alive")?;
        believes(&self.pair.two, "alive")
    }

    /// Both members are alive and well, `active` has all routes, and everything passes. Neither remembers a move.
    pub fn settle(&mut self, active: &Gateway) -> Result<()> {
        let (one, two) = (self.pair.one.clone(), self.pair.two.clone());
        if !self.pair.leads_to(active)? {
            self.pair.region.lab.route_through(active)?;
        }
        [&one, &two].into_iter().try_for_each(|member| self.watch_again(member))?;
        self.both_live()?;
        let standby = if active.name == one.name { &two } else { &one };
        eventually(SOON, "both know where the routes lead and are well", || are_well([active, standby]))?;
        self.passes()
    }

    /// From now on they are two gateways of one VPC and no pair.
    pub fn part(&mut self) -> Result<()> {
        for member in [&self.pair.one, &self.pair.two] {
            alone(member)?;
            member.agent(&["refresh"])?;
        }
        for watch in [&self.pair.watch_one, &self.pair.watch_two] {
            self.pair.one.sh(&format!("kill -9 {}", watch.pid()))?.ok()?;
        }
        Ok(())
    }

    /// Returns to the initial state: `one` has the routes, everything passes, and a further pass finds nothing to do. Nothing private was
    /// in the clear since the last time.
    pub fn undisturbed(&mut self) -> Result<()> {
        self.pair.region.lab.ec2_heal();
        self.clocks.iter().try_for_each(|clock| clock.set(0))?;
        let (one, two) = (self.pair.one.clone(), self.pair.two.clone());
        self.settle(&one)?;
        let gateways = self.pair.region.lab.gateways();
        gateways.iter().try_for_each(|gateway| finds_nothing_to_do(gateway))?;
        for gateway in &gateways {
            let report = refresh(gateway)?;
            ensure!(report["outcome"] == "unchanged", "{}: {report:#}", gateway.name);
        }
        for (member, wanted) in [&one, &two].into_iter().zip(self.members.iter().flatten()) {
            Snapshot::of(member)?.must_be(wanted, &format!("{} after a further undisturbed pass", member.name))?;
        }
        ensure!(self.pair.leads_to(&one)?, "a pass has moved a route");
        nothing_in_the_clear(&self.pair.region.lab, &mut self.capture)
    }
}

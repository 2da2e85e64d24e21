//! The campaign's set-up for two hubs that are a pair: two clients that reach each other and the hubs' VPC, of which the older hub has the
//! routes.

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use crosswan_lab::{AgentProcess, Capture, Gateway, PingReport, PingStream};

use super::{
    SOON, TOOK, believes, finds_nothing_to_do,
    hubs::{Hubs, Residents, up_tunnels},
    nothing_in_the_clear, told,
};
use crate::{
    attended::Attended,
    clock::Clock,
    look::{Snapshot, stream},
    region::{eventually, status},
};

/// From client to client, and between the hubs' VPC and a client.
const WAYS: [(&str, &str); 3] = [("a/host", "b/host"), ("b/host", "hub/host"), ("hub/host", "a/host")];

/// All gateways are well, and each is attended as by systemd, but for the timer.
pub struct HubStage {
    /// Who makes passes when they are asked for, by the gateway's name.
    attended: BTreeMap<String, Attended>,
    pub hubs: Hubs,
    /// A clock for each hub.
    pub clocks: [Clock; 2],
    /// What an undisturbed pass leaves on each hub.
    after: Option<[Snapshot; 2]>,
    capture: Capture,
    /// From client to client, all the time.
    all_meet: Option<PingStream>,
    /// The short cut: shorter faults.
    pub quick: bool,
}

/// What moved, and what was lost, while something was done to the hubs.
pub struct Seen {
    /// From client to client, to the hubs' VPC, and from there.
    ways: [PingReport; 3],
    /// How often each hub has said that it took routes over.
    pub took: [usize; 2],
}

impl Seen {
    /// What was lost, for the table.
    pub fn lost(&self) -> String {
        let [between, to, from] = self.ways.each_ref().map(|report| format!("{} of {}", report.lost, report.sent));
        format!("lost {between} from client to client, {to} to the hubs' VPC and {from} from there")
    }

    /// The longest time without an answer from client to client, which EC2 has no part in.
    pub fn gap(&self) -> Duration {
        self.ways[0].longest_gap
    }

    pub fn lost_something(&self) -> Result<()> {
        ensure!(self.ways[0].lost > 0, "nobody noticed: {}", self.lost());
        Ok(())
    }

    /// An error unless nothing moved and every packet was answered.
    pub fn unmoved(&self) -> Result<()> {
        ensure!(self.took == [0, 0], "took over {:?} times", self.took);
        self.lost_nothing()
    }

    /// An error unless every packet was answered.
    pub fn lost_nothing(&self) -> Result<()> {
        ensure!(self.ways.iter().all(|report| report.lost == 0 && report.sent > 0), "{}", self.lost());
        Ok(())
    }
}

impl HubStage {
    pub fn new(quick: bool, say: &dyn Fn(&str)) -> Result<HubStage> {
        say("a region with two hubs and two clients");
        let hubs = Hubs::up()?;
        let lab = &hubs.region.lab;
        let clocks = [Clock::of(lab, &hubs.one)?, Clock::of(lab, &hubs.two)?];
        let capture = lab.capture_internet()?;
        let mut stage =
            HubStage { attended: BTreeMap::new(), hubs, clocks, after: None, capture, all_meet: None, quick };
        let gateways: Vec<_> = stage.hubs.all().cloned().collect();
        gateways.iter().for_each(|gateway| stage.attend(gateway));
        stage.undisturbed()?;
        stage.after = Some([Snapshot::of(&stage.hubs.one)?, Snapshot::of(&stage.hubs.two)?]);
        stage.next_streams()?;
        Ok(stage)
    }

    /// The packets sent and lost from client to client since the last call, and the slowest answer.
    pub fn next_streams(&mut self) -> Result<(u32, u32, Duration)> {
        let next = stream(&self.hubs.region, WAYS[0].0, WAYS[0].1)?;
        let Some(before) = self.all_meet.replace(next) else { return Ok((0, 0, Duration::ZERO)) };
        let report = before.stop()?;
        Ok((report.sent, report.lost, report.slowest))
    }

    /// What moves, and what is lost, while this is done; streams flow for a second before and after it.
    pub fn during(&mut self, what: impl FnOnce(&mut HubStage) -> Result<()>) -> Result<Seen> {
        let [one, two, three] = WAYS.map(|(from, to)| stream(&self.hubs.region, from, to));
        let streams = [one?, two?, three?];
        let took = self.took()?;
        thread::sleep(Duration::from_secs(1));
        what(self)?;
        thread::sleep(Duration::from_secs(1));
        let now = self.took()?;
        // Each waits for its last answers; the others end at the same time.
        let ends = streams.map(|stream| thread::spawn(|| stream.stop()));
        let [one, two, three] = ends.map(|end| end.join().map_err(|_| anyhow!("a stream has panicked"))?);
        Ok(Seen { ways: [one?, two?, three?], took: [now[0] - took[0], now[1] - took[1]] })
    }

    /// `crosswan pair` of this hub.
    pub fn pair(&self, hub: &Gateway) -> Result<&AgentProcess> {
        Ok(&self.hubs.residents.get(&hub.name).with_context(|| format!("{} is off", hub.name))?.pair)
    }

    /// How often each hub has said that it took routes over, since it first ran.
    fn took(&self) -> Result<[usize; 2]> {
        let times = |hub| Ok::<_, anyhow::Error>(self.pair(hub)?.log().matches(TOOK).count());
        Ok([times(&self.hubs.one)?, times(&self.hubs.two)?])
    }

    /// Everybody is led to this hub, and reaches everybody.
    pub fn heals_by(&self, hub: &Gateway) -> Result<()> {
        eventually(SOON, "clients follow", || self.hubs.clients_lead_to(hub)).with_context(|| told(self.hubs.all()))?;
        eventually(SOON, "the VPC's routes have moved", || self.hubs.vpc_leads_to(hub))
            .with_context(|| told(self.hubs.all()))?;
        self.passes()
    }

    /// Waits until packets pass on all ways.
    pub fn passes(&self) -> Result<()> {
        let lab = &self.hubs.region.lab;
        let pass = |(from, to)| lab.host(from)?.wait_for(lab.host(to)?.address, SOON).map(drop);
        WAYS.into_iter().try_for_each(pass).with_context(|| told(self.hubs.all()))
    }

    /// The EC2 instance of a hub is stopped: everything in it dies, and its network is gone.
    pub fn kill(&mut self, hub: &Arc<Gateway>) -> Result<()> {
        self.attended.remove(&hub.name).map_or(Ok(()), |mut attended| attended.end())?;
        self.hubs.region.keepers.remove(&hub.name);
        self.hubs.region.lab.stop_instance(hub)
    }

    /// It boots again, as by systemd.
    pub fn boot(&mut self, hub: &Arc<Gateway>) -> Result<()> {
        self.hubs.region.lab.start_guarded(hub)?;
        hub.start_charon()?;
        self.attend(hub);
        self.hubs.region.keepers.insert(hub.name.clone(), hub.spawn_agent(&["keep"])?);
        self.hubs.residents.insert(hub.name.clone(), Residents::of(hub)?);
        Ok(())
    }

    fn attend(&mut self, gateway: &Arc<Gateway>) {
        self.attended.insert(gateway.name.clone(), Attended::refreshed(gateway.clone()));
    }

    /// Waits until both hubs hear each other, are well, and have all their tunnels.
    pub fn both_live(&self) -> Result<()> {
        believes(&self.hubs.one, "alive")?;
        believes(&self.hubs.two, "alive")?;
        eventually(SOON, "both are well, and each client has a tunnel to both", || {
            let well = |hub: &Gateway| Ok::<_, anyhow::Error>(status(hub)?["pair"]["own_health"] == "well");
            let up = self.hubs.clients.iter().map(|client| up_tunnels(client)).collect::<Result<Vec<_>>>()?;
            Ok(well(&self.hubs.one)? && well(&self.hubs.two)? && up.iter().all(|up| *up == 2))
        })
        .with_context(|| told(self.hubs.all()))
    }

    /// Returns to the initial state: everybody is led to `one`, and a further pass of each finds nothing to do. Nothing private was in the
    /// clear since the last time.
    pub fn undisturbed(&mut self) -> Result<()> {
        self.hubs.region.lab.ec2_heal();
        self.clocks.iter().try_for_each(|clock| clock.set(0))?;
        let (one, two) = (self.hubs.one.clone(), self.hubs.two.clone());
        self.hubs.forget_moves()?;
        self.both_live()?;
        if !(self.hubs.vpc_leads_to(&one)? && self.hubs.clients_lead_to(&one)?) {
            let output = two.agent(&["handover", "--timeout", "60s"])?;
            ensure!(output.code == 0, "{output:?}");
            self.hubs.forget_moves()?;
            self.both_live()?;
        }
        self.heals_by(&one)?;
        self.hubs.all().try_for_each(|gateway| finds_nothing_to_do(gateway))?;
        for (hub, wanted) in [&one, &two].into_iter().zip(self.after.iter().flatten()) {
            Snapshot::of(hub)?.must_be(wanted, &format!("{} after a further undisturbed pass", hub.name))?;
        }
        self.heals_by(&one)?;
        nothing_in_the_clear(&self.hubs.region.lab, &mut self.capture)
    }
}

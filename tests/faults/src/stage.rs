//! The campaign's set-up: the standard region, another client VPC as the victim, and work for a pass.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use crosswan_lab::{Auth, Gateway, Lab, PingStream, Role};
use serde_json::Value;

use crate::{
    clock::Clock,
    look::{Snapshot, all_well, gap, stream},
    paper::Paper,
    peer::{At, Peer},
    region::{Region, UP, agent, refresh, refresh_with},
};

/// Hosts whose gateways nothing is done to, with the hub between them.
const UNTOUCHED: [(&str, &str); 3] = [("a/host", "b/host"), ("b/host-2", "hub/host"), ("hub/host", "a/host")];

/// Everything is up, and the hub and the victim hold what an undisturbed pass leaves there.
pub struct Stage<'a> {
    pub region: Region,
    pub hub: Arc<Gateway>,
    /// Of client VPC `c`: its first gateway is the victim, its second one is off.
    pub peer: Peer,
    pub clock: Clock,
    /// A peer that may come: then a pass on the hub has a key and a connection to load, and files to write.
    pub work: Paper,
    /// The hub without that peer, and with it.
    pub idle: Snapshot,
    pub busy: Snapshot,
    /// The victim.
    pub victim: Snapshot,
    streams: Vec<PingStream>,
    /// The short cut: fewer repetitions, shorter faults.
    pub quick: bool,
    pub say: &'a dyn Fn(&str),
}

impl<'a> Stage<'a> {
    pub fn new(quick: bool, say: &'a dyn Fn(&str)) -> Result<Stage<'a>> {
        say("a region with a hub and three clients");
        let lab = Lab::standard(agent()?, Auth::Psk)?;
        let peer = Peer::launch(&lab)?;
        peer.tag(&lab, At::First)?;
        let work = Paper::client(&lab, "us-west-2", "10.50.0.0/16", 200)?;
        work.tag(&lab, "service", None)?;
        let (hub, clock) = (lab.gateway("hub/vpn-hub")?, Clock::new(lab.dir())?);
        [&hub, &peer.first].into_iter().for_each(|gateway| clock.give(gateway));
        hub.set_env("CROSSWAN_AFTER_MISSES", "1");
        hub.write_file("/etc/crosswan/conf.d/50-faults.toml", "[ec2]\ntimeout = \"20s\"\n", 0o644)?;
        let mut region = Region::from(lab);
        for gateway in region.lab.gateways() {
            if gateway.name != peer.second.name {
                region.boot(&gateway)?;
            }
        }
        all_well(&region, UP)?;
        work.tag(&region.lab, "service", Some("nat"))?;
        refresh(&hub)?;
        let busy = Snapshot::of(&hub)?;
        work.tag(&region.lab, "service", None)?;
        refresh(&hub)?;
        let (idle, victim) = (Snapshot::of(&hub)?, Snapshot::of(&peer.first)?);
        ensure!(idle != busy && !idle.unfinished);
        let mut stage = Stage { region, hub, peer, clock, work, idle, busy, victim, streams: Vec::new(), quick, say };
        stage.next_streams()?;
        Ok(stage)
    }

    /// The packets sent and lost since the last call, and the slowest answer; the next streams flow before these end.
    pub fn next_streams(&mut self) -> Result<(u32, u32, Duration)> {
        let next = UNTOUCHED.map(|(from, to)| stream(&self.region, from, to)).into_iter().collect::<Result<_>>()?;
        let mut sum = (0, 0, Duration::ZERO);
        for stream in std::mem::replace(&mut self.streams, next) {
            let report = stream.stop()?;
            sum = (sum.0 + report.sent, sum.1 + report.lost, sum.2.max(report.slowest));
        }
        Ok(sum)
    }

    /// Whether the next pass on the hub has something to do.
    pub fn work(&self, on: bool) -> Result<()> {
        self.work.tag(&self.region.lab, "service", on.then_some("nat"))
    }

    /// A pass on the hub that must end with this code and leave the hub in this state.
    pub fn pass(&self, code: i32, then: &Snapshot, when: &str) -> Result<Value> {
        let report = refresh_with(&self.hub, &[], code)?;
        Snapshot::of(&self.hub)?.must_be(then, when)?;
        Ok(report)
    }

    /// The one undisturbed pass after a fault: how long it takes until the gateway is as it should be.
    pub fn heal(&self, gateway: &Gateway, wanted: &Snapshot, when: &str) -> Result<Duration> {
        let began = Instant::now();
        refresh(gateway)?;
        let took = began.elapsed();
        Snapshot::of(gateway)?.must_be(wanted, when)?;
        Ok(took)
    }

    /// As [`Stage::heal`], on the hub with its work to do.
    pub fn heal_hub(&self, when: &str) -> Result<Duration> {
        self.heal(&self.hub, &self.busy, when)
    }

    /// Packets from the victim's host to the hub's.
    pub fn own_stream(&self) -> Result<PingStream> {
        stream(&self.region, "c/host", "hub/host")
    }

    /// How long until they pass again.
    pub fn until_it_reaches(&self) -> Result<Duration> {
        let began = Instant::now();
        gap(self.own_stream()?)?;
        Ok(began.elapsed())
    }

    /// Returns to the initial state by undisturbed passes: every gateway must be as it was, and stay so.
    pub fn undisturbed(&self) -> Result<()> {
        self.work(false)?;
        self.peer.is(&self.region, &self.hub, At::First)?;
        Snapshot::of(&self.hub)?.must_be(&self.idle, "the hub after a further undisturbed pass")?;
        refresh(&self.peer.first)?;
        Snapshot::of(&self.peer.first)?.must_be(&self.victim, "the victim after a further undisturbed pass")?;
        for gateway in self.region.lab.gateways().iter().filter(|g| g.name != self.peer.second.name) {
            let report = refresh(gateway)?;
            ensure!(report["outcome"] == "unchanged", "{}: {report:#}", gateway.name);
        }
        all_well(&self.region, UP * 2)
    }

    /// `keep` on a gateway ends, or starts again.
    pub fn keep(&mut self, gateway: &Arc<Gateway>, on: bool) -> Result<()> {
        drop(self.region.keepers.remove(&gateway.name));
        if on && gateway.role != Role::NatHub {
            self.region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
        }
        Ok(())
    }
}

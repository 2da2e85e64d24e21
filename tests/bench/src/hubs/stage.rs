//! A pair of vpn-hub and its clients, all as systemd attends to them, of which one hub after the other dies and boots again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crosswan_faults::attended::Attended;
use crosswan_faults::pair::hubs::{Hubs, Residents, up_tunnels};
use crosswan_faults::pair::{SETTING, SOON, are_well, believes};
use crosswan_faults::region::{eventually, status};
use crosswan_lab::Gateway;
use serde_json::Value;

use crate::probes::{Echo, Echoed};

/// Between whose hosts the echoes go: first from spoke to spoke, then from the hubs' VPC and to it.
pub const WAYS: [(&str, &str); 4] = [("a", "b"), ("b", "a"), ("hub", "a"), ("b", "hub")];

pub struct Stage {
    /// Ends before the gateways do.
    attended: BTreeMap<String, Attended>,
    pub hubs: Hubs,
}

impl Stage {
    pub fn new(clients: &[&str]) -> Result<Stage> {
        let hubs = Hubs::with(clients)?;
        let attended = hubs.all().map(|gateway| (gateway.name.clone(), Attended::refreshed(gateway.clone()))).collect();
        Ok(Stage { hubs, attended })
    }

    /// Echoes go all ways, from a second before `what` until two seconds after it.
    pub fn echoes(&mut self, what: impl FnOnce(&mut Stage) -> Result<()>) -> Result<[Echoed; 4]> {
        let echo = |(from, to): (&str, &str)| Echo::start(&*self.hubs.host(from)?, &*self.hubs.host(to)?);
        let streams = WAYS.map(echo).into_iter().collect::<Result<Vec<_>>>()?;
        std::thread::sleep(Duration::from_secs(1));
        what(self)?;
        std::thread::sleep(Duration::from_secs(2));
        // Each waits for its last answers; all end at the same time.
        let ends: Vec<_> = streams.into_iter().map(|stream| std::thread::spawn(|| stream.stop())).collect();
        let ends = ends.into_iter().map(|end| end.join().map_err(|_| anyhow::anyhow!("an echo has panicked"))?);
        let ended = ends.collect::<Result<Vec<_>>>()?;
        ended.try_into().map_err(|_| anyhow::anyhow!("not four"))
    }

    /// The other hub.
    pub fn other(&self, hub: &Gateway) -> Arc<Gateway> {
        if hub.name == self.hubs.one.name { self.hubs.two.clone() } else { self.hubs.one.clone() }
    }

    /// EC2 stops the one that was killed.
    pub fn stop(&mut self, hub: &Gateway) -> Result<()> {
        self.hubs.region.lab.stop_instance(hub)?;
        self.hubs.region.keepers.remove(&hub.name);
        self.hubs.residents.remove(&hub.name);
        self.attended.remove(&hub.name).map_or(Ok(()), |mut attended| attended.end())
    }

    /// It boots again, as by systemd.
    pub fn boot(&mut self, hub: &Arc<Gateway>) -> Result<()> {
        self.hubs.region.lab.start_guarded(hub)?;
        hub.start_charon()?;
        self.attend(hub)?;
        self.hubs.residents.insert(hub.name.clone(), Residents::of(hub)?);
        Ok(())
    }

    /// From now on nothing but its charon, `crosswan pair` and `crosswan watch` run on this hub: no pass and no `keep` looks at its files.
    pub fn leave(&mut self, hub: &Gateway) -> Result<()> {
        self.hubs.region.keepers.remove(&hub.name);
        self.attended.remove(&hub.name).map_or(Ok(()), |mut attended| attended.end())
    }

    /// The opposite.
    pub fn attend(&mut self, hub: &Arc<Gateway>) -> Result<()> {
        self.attended.insert(hub.name.clone(), Attended::refreshed(hub.clone()));
        self.hubs.region.keepers.insert(hub.name.clone(), hub.spawn_agent(&["keep"])?);
        Ok(())
    }

    /// The packets of all pass by this hub, whom they follow by themselves.
    pub fn follow(&self, hub: &Gateway, limit: Duration) -> Result<()> {
        eventually(limit, "clients follow", || self.hubs.clients_lead_to(hub))?;
        eventually(limit, "the VPC's routes have moved", || self.hubs.vpc_leads_to(hub))?;
        self.passes(limit)
    }

    pub fn passes(&self, limit: Duration) -> Result<()> {
        WAYS.iter().try_for_each(|(from, to)| {
            self.hubs.host(from)?.wait_for(self.hubs.host(to)?.address, limit)?;
            Ok(())
        })
    }

    /// Both hubs hear each other, everybody has tunnels to both, and `active` has all routes.
    pub fn well(&self, active: &Gateway) -> Result<()> {
        let standby = self.other(active);
        for hub in [active, &standby] {
            believes(hub, "alive")?;
        }
        eventually(SOON, "all tunnels are up and both hubs know where the routes lead", || {
            let up = |gateway: &Arc<Gateway>| up_tunnels(gateway);
            let clients = self.hubs.clients.iter().map(up).collect::<Result<Vec<_>>>()?;
            let hubs = [up(&self.hubs.one)?, up(&self.hubs.two)?];
            // A hub has one more than clients, which leads to the other hub.
            let all = clients.iter().all(|up| *up == 2) && hubs.iter().all(|up| *up == clients.len() + 1);
            Ok(all && are_well([active, &standby])?)
        })?;
        ensure!(self.hubs.vpc_leads_to(active)? && self.hubs.clients_lead_to(active)?, "{} is not used", active.name);
        self.passes(SOON)
    }

    /// What this hub has taken last, with the times that it took.
    pub fn taken(&self, hub: &Gateway) -> Result<Value> {
        let taken = || Ok::<_, anyhow::Error>(status(hub)?["pair"]["taken"].clone());
        eventually(SOON, "the takeover is shown", || Ok(!taken()?.is_null()))?;
        taken()
    }

    /// From now on the hubs are two gateways of one VPC and no pair. Returns the one that is used.
    pub fn part(&mut self) -> Result<Arc<Gateway>> {
        for gateway in self.hubs.all() {
            gateway.write_file(SETTING, "pair.enabled = false\n", 0o644)?;
        }
        for residents in self.hubs.residents.values() {
            self.hubs.one.sh(&format!("kill -9 {}", residents.pair.pid()))?.ok()?;
        }
        self.refresh_all()?;
        self.refresh_all()?;
        let (one, two) = (self.hubs.one.clone(), self.hubs.two.clone());
        let used = if self.hubs.clients_lead_to(&one)? { one } else { two };
        eventually(SOON, "clients agree", || self.hubs.clients_lead_to(&used))?;
        if !self.hubs.vpc_leads_to(&used)? {
            self.hubs.region.lab.route_through(&used)?;
        }
        self.passes(SOON)?;
        Ok(used)
    }

    /// Everybody who is alive makes a pass.
    pub fn refresh_all(&self) -> Result<()> {
        let alive = self.hubs.all().filter(|gateway| self.attended.contains_key(&gateway.name));
        alive.map(|gateway| gateway.agent(&["refresh"])).try_for_each(|output| output.map(drop))
    }

    /// Whether all ways pass now.
    pub fn reach(&self) -> Result<bool> {
        WAYS.iter()
            .try_fold(true, |all, (from, to)| Ok(all && self.hubs.host(from)?.reaches(self.hubs.host(to)?.address)?))
    }

    /// Waits until all ways pass, for at most so long; after how long they did.
    pub fn left_alone(&self, limit: Duration) -> Result<Option<Duration>> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if self.reach()? {
                return Ok(Some(began.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(500).min(limit / 4));
        }
        Ok(None)
    }
}

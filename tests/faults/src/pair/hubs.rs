//! Two vpn-hub in one VPC that are a pair, and clients that have tunnels to both: the set-up that tests, faults and benchmarks share.

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_core::{model::Place, swanctl, system::Followed};
use crosswan_lab::{AgentProcess, Auth, Gateway, Host, Lab, PingReport, Role, VpcSpec};

use super::{SOON, believes, forget_moves, leads_to};
use crate::{
    look::CONNECTIONS,
    region::{Region, agent, eventually, status},
};

/// Where the routes to the private network of the hub's VPC are.
const HUB_REGION: &str = "us-west-2";
const PRIVATE: &str = "10.0.0.0/8";
const WORDS: &str = "/run/crosswan/followed.json";

/// A gateway's resident programs, but for `keep`.
pub struct Residents {
    pub pair: AgentProcess,
    pub watch: AgentProcess,
}

impl Residents {
    pub fn of(gateway: &Gateway) -> Result<Residents> {
        Ok(Residents { pair: gateway.spawn_agent(&["pair"])?, watch: gateway.spawn_agent(&["watch"])? })
    }
}

/// The hubs, of which the first one has the VPC's routes, and the clients' gateways, all well.
pub struct Hubs {
    pub region: Region,
    pub one: Arc<Gateway>,
    pub two: Arc<Gateway>,
    pub clients: Vec<Arc<Gateway>>,
    pub residents: BTreeMap<String, Residents>,
}

impl Hubs {
    /// With clients `a` and `b`, which reach each other and the hubs' VPC.
    pub fn up() -> Result<Hubs> {
        Hubs::with(&["a", "b"])
    }

    /// With clients of these names, of which the first has 10.1.0.0/16, and so on.
    pub fn with(names: &[&str]) -> Result<Hubs> {
        let hub = VpcSpec::hub("hub", HUB_REGION, &["10.0.0.0/16"])?.bare();
        let mut lab = Lab::builder(agent()?).auth(Auth::Key).vpc(hub);
        for (name, n) in names.iter().zip(1..) {
            lab = lab.vpc(VpcSpec::client(name, "eu-west-1", &[&format!("10.{n}.0.0/16")])?.bare());
        }
        let mut region = Region::booted(lab.build()?)?;
        let one = region.gateway("hub/vpn-hub")?;
        let clients =
            names.iter().map(|name| region.gateway(&format!("{name}/nat-vpn"))).collect::<Result<Vec<_>>>()?;
        region.settle()?;
        let mut residents = BTreeMap::new();
        for gateway in clients.iter().chain([&one]) {
            residents.insert(gateway.name.clone(), Residents::of(gateway)?);
        }
        let two = launch(&mut region, &mut residents)?;
        let hubs = Hubs { region, one, two, clients, residents };
        eventually(SOON, "all gateways know both hubs", || {
            let passes = hubs.all().map(|gateway| Ok(gateway.agent(&["refresh"])?.code == 0));
            Ok(passes.collect::<Result<Vec<_>>>()?.into_iter().all(|done| done))
        })?;
        believes(&hubs.one, "alive")?;
        believes(&hubs.two, "alive")?;
        eventually(SOON, "both hubs know where the routes lead, and each client has a tunnel to both", || {
            let is = |gateway: &Gateway, role| Ok::<_, anyhow::Error>(status(gateway)?["pair"]["role"] == role);
            let up = hubs.clients.iter().map(|client| up_tunnels(client)).collect::<Result<Vec<_>>>()?;
            Ok(is(&hubs.one, "active")? && is(&hubs.two, "standby")? && up.iter().all(|up| *up == 2))
        })?;
        ensure!(hubs.vpc_leads_to(&hubs.one)?, "the newer one does not take the routes from a member that lives");
        Ok(hubs)
    }

    /// Launches a third hub beside them, with all that runs on one.
    pub fn third(&mut self) -> Result<Arc<Gateway>> {
        launch(&mut self.region, &mut self.residents)
    }

    /// `crosswan pair` of both hubs starts anew, and remembers no move.
    pub fn forget_moves(&mut self) -> Result<()> {
        for hub in [&self.one, &self.two] {
            let residents = self.residents.get_mut(&hub.name).context("its programs")?;
            forget_moves(hub, &mut residents.pair)?;
        }
        Ok(())
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Gateway>> {
        self.clients.iter().chain([&self.one, &self.two])
    }

    pub fn host(&self, vpc: &str) -> Result<Arc<Host>> {
        self.region.lab.host(&format!("{vpc}/host"))
    }

    /// Whether the route of the hubs' VPC to the private network leads to this hub.
    pub fn vpc_leads_to(&self, hub: &Gateway) -> Result<bool> {
        let tables = self.region.lab.route_tables("hub")?;
        tables
            .iter()
            .try_fold(true, |all, table| Ok(all && leads_to(&self.region.lab, HUB_REGION, hub, table, PRIVATE)?))
    }

    /// Whether the kernel of this client leads the private network to that hub's tunnel.
    pub fn client_leads_to(&self, client: &Gateway, hub: &Gateway) -> Result<bool> {
        let route = client.sh(&format!("ip route show table 7105 {PRIVATE}"))?.ok()?.stdout;
        Ok(route.contains(place(client, hub)?.interface()))
    }

    /// The same of each client.
    pub fn clients_lead_to(&self, hub: &Gateway) -> Result<bool> {
        self.clients.iter().try_fold(true, |all, client| Ok(all && self.client_leads_to(client, hub)?))
    }

    /// The pings from one VPC's private host to another's, while this happens.
    pub fn pings(&self, pairs: &[(&str, &str)], what: impl FnOnce() -> Result<()>) -> Result<Vec<PingReport>> {
        let streams = pairs.iter().map(|(from, to)| self.host(from)?.ping_stream(self.host(to)?.address));
        let streams = streams.collect::<Result<Vec<_>>>()?;
        thread::sleep(Duration::from_secs(1));
        what()?;
        thread::sleep(Duration::from_secs(1));
        streams.into_iter().map(crosswan_lab::PingStream::stop).collect()
    }
}

fn launch(region: &mut Region, residents: &mut BTreeMap<String, Residents>) -> Result<Arc<Gateway>> {
    let hub = region.lab.add_gateway("hub", Role::VpnHub)?;
    hub.start_charon()?;
    let _ = hub.agent(&["refresh"])?;
    region.keepers.insert(hub.name.clone(), hub.spawn_agent(&["keep"])?);
    residents.insert(hub.name.clone(), Residents::of(&hub)?);
    Ok(hub)
}

/// How many of a gateway's tunnels are up.
pub fn up_tunnels(client: &Gateway) -> Result<usize> {
    let status = status(client)?;
    let tunnels = status["tunnels"].as_array().context("tunnels")?;
    Ok(tunnels.iter().filter(|tunnel| tunnel["up"] == true).count())
}

/// The place that a client has for this hub.
pub fn place(client: &Gateway, hub: &Gateway) -> Result<Place> {
    let text = client.read_file(CONNECTIONS)?;
    let all = swanctl::connections(swanctl::parse(&text)?);
    let address = hub.public().context("the hub's address")?;
    let found =
        all.into_iter().find(|(_, tree)| swanctl::Summary::of(tree).remote_addrs.contains(&address.to_string()));
    swanctl::place(&found.with_context(|| format!("no connection to {address} in {text}"))?.1).context("no place")
}

/// The number of the takeover by which this client follows a hub; 0 where none has spoken.
pub fn generation(client: &Gateway) -> Result<u32> {
    let Ok(text) = client.read_file(WORDS) else { return Ok(0) };
    let words: Followed = serde_json::from_str(&text)?;
    Ok(words.of("hub").map_or(0, |word| word.generation))
}

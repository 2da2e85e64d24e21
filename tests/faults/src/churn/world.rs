//! The peers of a churn, and what EC2 knows of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Result, ensure};
use crosswan_lab::{Auth, Gateway, Lab, Role, VpcSpec};
use serde_json::Value;

use crate::{
    look::ask,
    paper::Paper,
    peer::{At, Peer},
    region::{Region, agent, refresh},
};

/// A region in which there are peers on paper only.
const ELSEWHERE: &str = "sa-east-1";
/// Peers on paper.
const PAPERS: u8 = 8;
/// What the real peer gains and loses.
const SECOND: &str = "10.103.0.0/16";

/// A peer on paper: whether its gateway is tagged, its addresses' last bytes, the one it has first, and its second CIDR
/// with the association while it has one.
struct Client {
    paper: Paper,
    here: bool,
    addresses: [u8; 2],
    cidrs: [String; 2],
    second: Option<String>,
}

pub struct World {
    pub region: Region,
    pub hub: Arc<Gateway>,
    peer: Peer,
    at: At,
    second: Option<String>,
    clients: Vec<Client>,
    /// Second instances in the VPCs of the two clients whose packets are counted: with the tag, an address, and nothing that
    /// works. Whether each is there.
    newcomers: Vec<(Arc<Gateway>, bool)>,
    random: u64,
    pub changes: BTreeMap<&'static str, u32>,
    /// Tunnels established with the real peer.
    pub established: u32,
}

impl World {
    /// Everything is up, and no peer of the churn is there yet.
    pub fn new(seed: u64) -> Result<World> {
        let lab = Lab::builder(agent()?)
            .auth(Auth::Psk)
            .vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?)
            .vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?)
            .vpc(VpcSpec::client("b", "ap-southeast-2", &["10.2.0.0/16", "10.102.0.0/16"])?)
            .region(ELSEWHERE)
            .build()?;
        let region = Region::booted(lab)?;
        region.settle()?;
        let hub = region.gateway("hub/vpn-hub")?;
        // One poll is enough, and any number may leave at once: the changes are meant.
        hub.set_env("CROSSWAN_AFTER_MISSES", "1");
        hub.write_file("/etc/crosswan/conf.d/50-churn.toml", "[removal]\nhold_above = \"100%\"\n", 0o644)?;
        let peer = Peer::launch(&region.lab)?;
        for gateway in [&peer.first, &peer.second] {
            gateway.start_charon()?;
            refresh(gateway)?;
        }
        let client = |n: u8| -> Result<Client> {
            let cidrs = [60, 160].map(|base| format!("10.{}.0.0/16", base + n));
            let paper = Paper::client(&region.lab, ELSEWHERE, &cidrs[0], 200 + 2 * n)?;
            paper.tag(&region.lab, "service", None)?;
            Ok(Client { paper, here: false, addresses: [200 + 2 * n, 201 + 2 * n], cidrs, second: None })
        };
        let clients = (0..PAPERS).map(client).collect::<Result<_>>()?;
        let (changes, random) = (BTreeMap::new(), seed.max(1));
        let newcomer = |vpc| -> Result<(Arc<Gateway>, bool)> {
            let newcomer = region.lab.add_gateway(vpc, Role::NatVpn)?;
            region.lab.tag(&newcomer, "service", Some("off"))?;
            Ok((newcomer, false))
        };
        let newcomers = ["a", "b"].map(newcomer).into_iter().collect::<Result<_>>()?;
        Ok(World {
            hub,
            peer,
            at: At::Nowhere,
            second: None,
            clients,
            newcomers,
            random,
            changes,
            established: 0,
            region,
        })
    }

    /// One to three changes.
    pub fn change(&mut self) -> Result<()> {
        for _ in 0..=self.below(3) {
            let who = self.below(usize::from(PAPERS) + 3);
            let what = match self.clients.get(who) {
                Some(_) => self.change_paper(who)?,
                None if who == usize::from(PAPERS) => self.change_newcomer()?,
                None => self.change_peer()?,
            };
            *self.changes.entry(what).or_default() += 1;
        }
        Ok(())
    }

    fn change_paper(&mut self, who: usize) -> Result<&'static str> {
        let what = self.below(4);
        let (lab, client) = (&self.region.lab, &mut self.clients[who]);
        match what {
            0 if client.here => {
                client.paper.disassociate(lab)?;
                client.addresses.swap(0, 1);
                client.paper.associate(lab, client.addresses[0])?;
                Ok("changed address")
            }
            1 if client.here => match client.second.take() {
                Some(association) => {
                    client.paper.remove_cidr(lab, &association)?;
                    Ok("lost a CIDR")
                }
                None => {
                    client.second = Some(client.paper.add_cidr(lab, &client.cidrs[1])?);
                    Ok("gained a CIDR")
                }
            },
            _ => {
                client.here = !client.here;
                client.paper.tag(lab, "service", client.here.then_some("nat"))?;
                Ok(if client.here { "came" } else { "left" })
            }
        }
    }

    fn change_newcomer(&mut self) -> Result<&'static str> {
        let who = self.below(self.newcomers.len());
        let (gateway, here) = &mut self.newcomers[who];
        *here = !*here;
        self.region.lab.tag(gateway, "service", Some(if *here { "nat" } else { "off" }))?;
        Ok(if *here { "got a second gateway that does not work" } else { "lost that second gateway" })
    }

    /// How a refresh must end: with 6 while a newcomer waits.
    pub fn code(&self) -> i32 {
        if self.newcomers.iter().any(|(_, here)| *here) { 6 } else { 0 }
    }

    fn change_peer(&mut self) -> Result<&'static str> {
        let what = self.below(4);
        if what == 0 {
            return self.change_peers_cidr();
        }
        let (at, what) = match (self.at, what) {
            (At::Nowhere, 1) => (At::Second, "came"),
            (At::Nowhere, _) => (At::First, "came"),
            (At::First, 1) => (At::Second, "changed address"),
            (At::Second, 1) => (At::First, "changed address"),
            _ => (At::Nowhere, "left"),
        };
        self.at = at;
        self.peer.tag(&self.region.lab, at)?;
        Ok(what)
    }

    fn change_peers_cidr(&mut self) -> Result<&'static str> {
        let lab = &self.region.lab;
        let (region, vpc) = (lab.region(Peer::VPC)?, lab.vpc_id(Peer::VPC)?);
        let what = match self.second.take() {
            Some(association) => {
                lab.ec2().call(&region, "DisassociateVpcCidrBlock", &[("AssociationId", &association)])?;
                "lost a CIDR"
            }
            None => {
                let parameters = [("VpcId", vpc.as_str()), ("CidrBlock", SECOND)];
                self.second = Some(lab.ec2().get(&region, "AssociateVpcCidrBlock", &parameters, "associationId")?);
                "gained a CIDR"
            }
        };
        lab.sync(Peer::VPC)?;
        refresh(&self.peer.first)?;
        refresh(&self.peer.second)?;
        Ok(what)
    }

    /// As at the start.
    pub fn everybody_leaves(&mut self) -> Result<()> {
        if self.second.is_some() {
            self.change_peers_cidr()?;
        }
        for (gateway, here) in &mut self.newcomers {
            *here = false;
            self.region.lab.tag(gateway, "service", Some("off"))?;
        }
        self.at = At::Nowhere;
        self.peer.tag(&self.region.lab, At::Nowhere)?;
        for client in &mut self.clients {
            client.here = false;
            client.paper.tag(&self.region.lab, "service", None)?;
        }
        Ok(())
    }

    /// Has the real peer's tunnel established, if it should have one.
    pub fn connect(&mut self) -> Result<()> {
        if self.at != At::Nowhere && Peer::sas(&self.region.lab, &self.hub)? == 0 {
            Peer::connect(&self.region.lab, &self.hub)?;
            self.established += 1;
        }
        Ok(())
    }

    /// Peers of the churn that are there.
    pub fn here(&self) -> usize {
        self.clients.iter().filter(|c| c.here).count() + usize::from(self.at != At::Nowhere)
    }

    /// Fails unless a report has exactly the tunnels that EC2 knows, with their addresses and CIDRs, and charon too.
    pub fn must_be(&self, report: &Value) -> Result<()> {
        let lab = &self.region.lab;
        let mut wanted: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
        let mut add = |vpc: &str, address: String, cidrs: &[&str]| {
            wanted.insert(vpc.to_owned(), (address, cidrs.iter().map(|c| c.to_string()).collect()));
        };
        let public = |gateway: &Gateway| gateway.public().map(|a| a.to_string()).unwrap_or_default();
        add(&lab.vpc_id("a")?, public(&*self.region.gateway("a/nat-vpn")?), &["10.1.0.0/16"]);
        add(&lab.vpc_id("b")?, public(&*self.region.gateway("b/nat-vpn")?), &["10.2.0.0/16", "10.102.0.0/16"]);
        let gateway = if self.at == At::Second { &self.peer.second } else { &self.peer.first };
        if self.at != At::Nowhere {
            let cidrs = [Peer::CIDR, SECOND];
            add(&lab.vpc_id(Peer::VPC)?, public(gateway), &cidrs[..1 + usize::from(self.second.is_some())]);
        }
        for client in self.clients.iter().filter(|client| client.here) {
            let cidrs = client.cidrs.each_ref().map(String::as_str);
            let cidrs = &cidrs[..1 + usize::from(client.second.is_some())];
            add(&client.paper.vpc, format!("198.51.100.{}", client.addresses[0]), cidrs);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tunnels = report["tunnels"].as_object().into_iter().flatten();
        let tunnels = tunnels.filter(|(_, tunnel)| tunnel["stands_by"] != true);
        let seen: BTreeMap<_, _> = tunnels
            .map(|(_, t)| {
                let cidrs = t["remote_cidrs"].as_array().into_iter().flatten().map(text).collect();
                (text(&t["vpc"]), (text(&t["remote"]), cidrs))
            })
            .collect();
        ensure!(seen == wanted, "{seen:#?}\ninstead of {wanted:#?}\n{report:#}");
        let loaded = ask(&self.hub, async |vici| vici.list_conns().await)?;
        let of = |name: &str| wanted.keys().find(|vpc| name.starts_with(&format!("crosswan-{vpc}-")));
        let tunnels = loaded.iter().filter(|(_, conn)| !conn.children.is_empty()).filter_map(|(name, _)| of(name));
        let tunnels: BTreeSet<_> = tunnels.collect();
        ensure!(tunnels.len() == wanted.len(), "charon has other connections than {:?}", wanted.keys());
        Ok(())
    }

    /// A number below `n`: xorshift64.
    fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % n as u64) as usize
    }
}

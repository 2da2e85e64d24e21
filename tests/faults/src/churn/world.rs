//! The peers of a churn, and what EC2 knows of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Result, ensure};
use crosswan_lab::{Auth, Gateway, Lab, Role, VpcSpec};
use serde_json::Value;

use crate::{
    account::Account,
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

/// Segments of a VPC without a tag, and of one with. Those without a tag do not reach the others.
const SEGMENTS: [&str; 2] = ["default", "cut"];

/// A peer on paper: whether its gateway is tagged, its addresses' last bytes, the one it has first, and its second CIDR
/// with the association while it has one.
struct Client {
    paper: Paper,
    here: bool,
    addresses: [u8; 2],
    cidrs: [String; 2],
    second: Option<String>,
    /// Whether it is in the second of [`SEGMENTS`].
    cut: bool,
    /// Whether it belongs to the other account.
    others: bool,
    /// What EC2 has told of it, which counts while its account does not answer.
    told: Option<Tunnel>,
}

/// A tunnel's far address, its CIDRs and its segment.
type Tunnel = (String, BTreeSet<String>, String);

pub struct World {
    pub region: Region,
    pub hub: Arc<Gateway>,
    peer: Peer,
    at: At,
    second: Option<String>,
    clients: Vec<Client>,
    account: Account,
    /// Whether the other account answers.
    answers: bool,
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
        let account = Account::new(&region.lab)?;
        let settings = format!(
            "segments = {{ default = [], cut = [\"default\"] }}\n[removal]\nhold_above = \"100%\"\n{}",
            account.settings(ELSEWHERE)
        );
        hub.write_file("/etc/crosswan/conf.d/50-churn.toml", &settings, 0o644)?;
        let peer = Peer::launch(&region.lab)?;
        for gateway in [&peer.first, &peer.second] {
            gateway.start_charon()?;
            refresh(gateway)?;
        }
        let client = |n: u8| -> Result<Client> {
            let cidrs = [60, 160].map(|base| format!("10.{}.0.0/16", base + n));
            let paper = Paper::client(&region.lab, ELSEWHERE, &cidrs[0], 200 + 2 * n)?;
            paper.tag(&region.lab, "service", None)?;
            let others = n % 2 == 1;
            if others {
                account.gets(&region.lab, &[&paper.vpc, &paper.instance]);
            }
            let addresses = [200 + 2 * n, 201 + 2 * n];
            Ok(Client { paper, here: false, addresses, cidrs, second: None, cut: false, others, told: None })
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
            account,
            answers: true,
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
            let who = self.below(usize::from(PAPERS) + 4);
            let what = match self.clients.get(who) {
                Some(_) => self.change_paper(who)?,
                None if who == usize::from(PAPERS) => self.change_newcomer()?,
                None if who == usize::from(PAPERS) + 1 => self.change_account(),
                None => self.change_peer()?,
            };
            *self.changes.entry(what).or_default() += 1;
        }
        Ok(())
    }

    fn change_paper(&mut self, who: usize) -> Result<&'static str> {
        let what = self.below(5);
        let (lab, client) = (&self.region.lab, &mut self.clients[who]);
        match what {
            0 if client.here => {
                client.paper.disassociate(lab)?;
                client.addresses.swap(0, 1);
                client.paper.associate(lab, client.addresses[0])?;
                Ok("a peer changed address")
            }
            1 if client.here => match client.second.take() {
                Some(association) => {
                    client.paper.remove_cidr(lab, &association)?;
                    Ok("a peer lost a CIDR")
                }
                None => {
                    client.second = Some(client.paper.add_cidr(lab, &client.cidrs[1])?);
                    Ok("a peer gained a CIDR")
                }
            },
            2 if client.here => {
                client.cut = !client.cut;
                client.paper.tag_vpc(lab, "crosswan-segment", client.cut.then_some(SEGMENTS[1]))?;
                Ok("a peer moved to another segment")
            }
            _ => {
                client.here = !client.here;
                client.paper.tag(lab, "service", client.here.then_some("nat"))?;
                Ok(if client.here { "a peer came" } else { "a peer left" })
            }
        }
    }

    fn change_newcomer(&mut self) -> Result<&'static str> {
        let who = self.below(self.newcomers.len());
        let (gateway, here) = &mut self.newcomers[who];
        *here = !*here;
        self.region.lab.tag(gateway, "service", Some(if *here { "nat" } else { "off" }))?;
        Ok(if *here { "a peer got a second gateway that does not work" } else { "a peer lost that second gateway" })
    }

    /// Whatever changes in an account that does not answer counts when it answers again.
    fn change_account(&mut self) -> &'static str {
        self.answers = !self.answers;
        self.account.answers(&self.region.lab, self.answers);
        if self.answers { "an account answered again" } else { "an account stopped answering" }
    }

    /// How a refresh must end: with 3 while an account does not answer, with 6 while a newcomer waits.
    pub fn code(&self) -> i32 {
        if !self.answers {
            3
        } else if self.newcomers.iter().any(|(_, here)| *here) {
            6
        } else {
            0
        }
    }

    fn change_peer(&mut self) -> Result<&'static str> {
        let what = self.below(4);
        if what == 0 {
            return self.change_peers_cidr();
        }
        let (at, what) = match (self.at, what) {
            (At::Nowhere, 1) => (At::Second, "a peer came"),
            (At::Nowhere, _) => (At::First, "a peer came"),
            (At::First, 1) => (At::Second, "a peer changed address"),
            (At::Second, 1) => (At::First, "a peer changed address"),
            _ => (At::Nowhere, "a peer left"),
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
                "a peer lost a CIDR"
            }
            None => {
                let parameters = [("VpcId", vpc.as_str()), ("CidrBlock", SECOND)];
                self.second = Some(lab.ec2().get(&region, "AssociateVpcCidrBlock", &parameters, "associationId")?);
                "a peer gained a CIDR"
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
        if !self.answers {
            self.change_account();
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

    /// Fails unless a report has exactly the tunnels that EC2 knows, with their addresses, CIDRs and segments, and charon too.
    pub fn must_be(&mut self, report: &Value) -> Result<()> {
        let lab = &self.region.lab;
        let mut wanted: BTreeMap<String, Tunnel> = BTreeMap::new();
        let tunnel = |address: String, cidrs: &[&str], cut: bool| -> Tunnel {
            (address, cidrs.iter().map(|cidr| cidr.to_string()).collect(), SEGMENTS[usize::from(cut)].to_owned())
        };
        let public = |gateway: &Gateway| gateway.public().map(|a| a.to_string()).unwrap_or_default();
        for (vpc, cidrs) in [("a", &["10.1.0.0/16"][..]), ("b", &["10.2.0.0/16", "10.102.0.0/16"])] {
            let gateway = self.region.gateway(&format!("{vpc}/nat-vpn"))?;
            wanted.insert(lab.vpc_id(vpc)?, tunnel(public(&gateway), cidrs, false));
        }
        let gateway = if self.at == At::Second { &self.peer.second } else { &self.peer.first };
        if self.at != At::Nowhere {
            let cidrs = &[Peer::CIDR, SECOND][..1 + usize::from(self.second.is_some())];
            wanted.insert(lab.vpc_id(Peer::VPC)?, tunnel(public(gateway), cidrs, false));
        }
        for client in &mut self.clients {
            if self.answers || !client.others {
                let cidrs = client.cidrs.each_ref().map(String::as_str);
                let cidrs = &cidrs[..1 + usize::from(client.second.is_some())];
                let now = tunnel(format!("198.51.100.{}", client.addresses[0]), cidrs, client.cut);
                client.told = client.here.then_some(now);
            }
            wanted.extend(client.told.clone().map(|told| (client.paper.vpc.clone(), told)));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tunnels = report["tunnels"].as_object().into_iter().flatten();
        let tunnels = tunnels.filter(|(_, tunnel)| tunnel["stands_by"] != true);
        let seen: BTreeMap<_, _> = tunnels
            .map(|(_, t)| {
                let cidrs = t["remote_cidrs"].as_array().into_iter().flatten().map(text).collect();
                (text(&t["vpc"]), (text(&t["remote"]), cidrs, text(&t["segment"]["segment"])))
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

//! The lab as a whole: what exists, how to look at it, and how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use crate::capture::Capture;
use crate::ec2::Ec2;
use crate::files::{Auth, Plan, Role};
use crate::follow::Network;
use crate::gateway::Gateway;
use crate::host::Host;
use crate::image::{self, MachineImage};
use crate::internet::Internet;
use crate::lock;
use crate::proxy::{Fault, Faults};
use crate::router::Leaks;
use crate::topology::VpcSpec;
use crate::workdir::WorkDir;

/// moto's start takes about 2 s; on a busy machine several times that.
const MOTO_START: Duration = Duration::from_secs(60);

/// A region on one machine. Everything in it ends when it is dropped, and when the process dies.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: what runs, what it runs on, its files.
    pub(crate) state: Mutex<State>,
    pub(crate) internet: Internet,
    pub(crate) agent: PathBuf,
    pub(crate) private: Vec<Ipv4Net>,
    pub(crate) regions: Vec<String>,
    pub(crate) auth: Auth,
    /// Gateways whose instance profile has no role.
    pub(crate) roleless: BTreeSet<Role>,
    /// Whether gateways are launched with EC2's source/destination check off.
    pub(crate) check_off: bool,
    /// Whether gateways take their Elastic IPs themselves.
    pub(crate) pools: bool,
    pub(crate) psk: String,
    /// Elastic IPs given out so far; none is ever used twice.
    pub(crate) addresses: AtomicU8,
    pub(crate) dir: WorkDir,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub vpcs: BTreeMap<String, Vpc>,
}

/// A VPC that exists.
#[derive(Debug)]
pub(crate) struct Vpc {
    pub name: String,
    pub region: String,
    pub id: String,
    pub gateway: String,
    pub public_table: String,
    pub private_table: String,
    pub subnets: Vec<Subnet>,
    /// By name without the VPC's.
    pub gateways: BTreeMap<String, Arc<Gateway>>,
    pub hosts: BTreeMap<String, (String, Arc<Host>)>,
    /// Its router, which follows EC2.
    pub network: Arc<Network>,
}

#[derive(Debug)]
pub(crate) struct Subnet {
    pub id: String,
    /// Of its route table; moto keeps it when the subnet is deleted.
    pub association: String,
    pub cidr: Ipv4Net,
    pub public: bool,
    /// Offset of the next free address.
    pub next: u32,
}

/// Collects what a lab starts with.
#[derive(Debug)]
pub struct Builder {
    agent: PathBuf,
    private: Vec<Ipv4Net>,
    regions: BTreeSet<String>,
    auth: Auth,
    roleless: BTreeSet<Role>,
    check_off: bool,
    pools: bool,
    images: Vec<MachineImage>,
    vpcs: Vec<VpcSpec>,
}

impl Builder {
    /// Images that are in every region from the start.
    pub fn images(mut self, images: &[MachineImage]) -> Builder {
        self.images.extend_from_slice(images);
        self
    }

    /// The private network, instead of 10.0.0.0/8.
    pub fn private_net(mut self, networks: &[Ipv4Net]) -> Builder {
        self.private = networks.to_vec();
        self
    }

    /// A region the hub looks in besides those of the VPCs.
    pub fn region(mut self, region: &str) -> Builder {
        self.regions.insert(region.to_string());
        self
    }

    /// How gateways authenticate, instead of by their own keys.
    pub fn auth(mut self, auth: Auth) -> Builder {
        self.auth = auth;
        self
    }

    /// Gateways of this kind have no IAM role, with which they could ask EC2 or change anything there.
    pub fn without_role(mut self, role: Role) -> Builder {
        self.roleless.insert(role);
        self
    }

    /// EC2's source/destination check of all gateways is off from their launch on, as an operator leaves it where no agent will turn it
    /// off. Of gateways without a role it is so always.
    pub fn check_off(mut self) -> Builder {
        self.check_off = true;
        self
    }

    /// Gateways boot with the public address that EC2 assigns, and each has the setting `address.tag`: it takes one of the Elastic IPs
    /// that [`Lab::add_address`] allocates. One for each gateway is there from its launch on.
    pub fn pools(mut self) -> Builder {
        self.pools = true;
        self
    }

    /// A VPC; the hub comes first, since the others' settings name its address.
    pub fn vpc(mut self, vpc: VpcSpec) -> Builder {
        self.vpcs.push(vpc);
        self
    }

    /// Brings it all up: seconds. Agents and charons are left to the caller to start.
    pub fn build(self) -> Result<Lab> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes network namespaces: run it as root");
        }
        let dir = WorkDir::new()?;
        let images = (!self.images.is_empty()).then(|| image::write(dir.path(), &self.images)).transpose()?;
        let regions = self.vpcs.iter().map(|vpc| vpc.region.clone()).chain(self.regions).collect::<BTreeSet<_>>();
        let lab = Lab {
            state: Mutex::default(),
            internet: Internet::new(dir.path(), &self.private, images.as_deref())?,
            agent: std::path::absolute(self.agent)?,
            private: self.private,
            regions: regions.into_iter().collect(),
            auth: self.auth,
            roleless: self.roleless,
            check_off: self.check_off,
            pools: self.pools,
            psk: random_key()?,
            addresses: AtomicU8::new(0),
            dir,
        };
        lab.internet.wait_ready(MOTO_START)?;
        for vpc in self.vpcs {
            lab.add_vpc(vpc)?;
        }
        Ok(lab)
    }
}

impl Lab {
    /// An empty lab around the agent's binary, which may not be below /etc, /run or /var/lib: gateways have their own.
    pub fn builder(agent: impl AsRef<Path>) -> Builder {
        let private = vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)];
        Builder {
            agent: agent.as_ref().into(),
            private,
            regions: BTreeSet::new(),
            auth: Auth::Key,
            roleless: BTreeSet::new(),
            check_off: false,
            pools: false,
            images: Vec::new(),
            vpcs: Vec::new(),
        }
    }

    /// The hub VPC and two clients in three regions, client `b` with a secondary CIDR.
    pub fn standard(agent: impl AsRef<Path>, auth: Auth) -> Result<Lab> {
        Lab::standard_vpcs()?.into_iter().fold(Lab::builder(agent).auth(auth), Builder::vpc).build()
    }

    /// What [`Lab::standard`] is made of.
    pub fn standard_vpcs() -> Result<[VpcSpec; 3]> {
        Ok([
            VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?,
            VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?,
            VpcSpec::client("b", "ap-southeast-2", &["10.2.0.0/16", "10.102.0.0/16"])?,
        ])
    }

    /// A gateway by name: `hub/vpn-hub`, `hub/nat-hub`, `a/nat-vpn`; a second one is `a/nat-vpn-2`.
    pub fn gateway(&self, name: &str) -> Result<Arc<Gateway>> {
        let state = self.state();
        let found = name.split_once('/').and_then(|(vpc, gateway)| state.vpcs.get(vpc)?.gateways.get(gateway).cloned());
        found.with_context(|| format!("no gateway {name} in the lab"))
    }

    /// A private host by name: `a/host`; the one in a VPC's second CIDR is `b/host-2`.
    pub fn host(&self, name: &str) -> Result<Arc<Host>> {
        let state = self.state();
        let found =
            name.split_once('/').and_then(|(vpc, host)| state.vpcs.get(vpc)?.hosts.get(host).map(|(_, h)| h.clone()));
        found.with_context(|| format!("no host {name} in the lab"))
    }

    /// All gateways that exist, by name.
    pub fn gateways(&self) -> Vec<Arc<Gateway>> {
        self.state().vpcs.values().flat_map(|vpc| vpc.gateways.values().cloned()).collect()
    }

    /// All private hosts that exist, by name.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.state().vpcs.values().flat_map(|vpc| vpc.hosts.values().map(|(_, host)| host.clone())).collect()
    }

    /// The echo host on the internet.
    pub fn internet(&self) -> &Host {
        &self.internet.echo
    }

    /// EC2 without faults. After changing something there, [`Lab::sync`].
    pub fn ec2(&self) -> &Ec2 {
        &self.internet.ec2
    }

    /// Faults of the EC2 endpoint the gateways use.
    pub fn faults(&self) -> &Faults {
        &self.internet.faults
    }

    /// From now on `action` in `region` (`*` is any) fails so, for ever or until [`Lab::ec2_heal`].
    pub fn ec2_fault(&self, region: &str, action: &str, fault: Fault) {
        self.internet.faults.set(region, action, fault, None);
    }

    /// As [`Lab::ec2_fault`], for the next `times` calls.
    pub fn ec2_fault_times(&self, region: &str, action: &str, fault: Fault, times: u32) {
        self.internet.faults.set(region, action, fault, Some(times));
    }

    /// From now on packets follow a gateway's change in EC2 (routes, addresses, the source/destination check) this much later, at most
    /// five seconds. EC2's answers show the change at once.
    pub fn ec2_effect_delay(&self, delay: Duration) {
        self.internet.follow.delay(delay);
    }

    /// After the next such change in `region` (`*` is any), the next `calls` answers of `action`, an operation that lists something,
    /// show everything as it was before.
    pub fn ec2_stale(&self, region: &str, action: &str, calls: u32) {
        self.internet.faults.stale.set(region, action, calls);
    }

    /// EC2 works again.
    pub fn ec2_heal(&self) {
        self.internet.faults.heal();
    }

    /// Calls gateways made so far, by region and action.
    pub fn ec2_calls(&self) -> BTreeMap<(String, String), u64> {
        self.internet.faults.calls()
    }

    /// Starts a capture of everything VPCs send to the internet.
    pub fn capture_internet(&self) -> Result<Capture> {
        let state = self.state();
        let cidrs = state.vpcs.values().flat_map(|vpc| lock(&vpc.network.view).cidrs.clone());
        Capture::start(&self.internet.ns, self.private.iter().copied().chain(cidrs).collect())
    }

    /// What a VPC has sent that it should not have.
    pub fn leaks(&self, vpc: &str) -> Result<Leaks> {
        self.state().vpc(vpc)?.network.router.leaks()
    }

    /// `vpc-…` of a VPC of the lab.
    pub fn vpc_id(&self, vpc: &str) -> Result<String> {
        Ok(self.state().vpc(vpc)?.id.clone())
    }

    /// The ids of a VPC's route tables: that of its public subnet, and that of its private ones.
    pub fn route_tables(&self, vpc: &str) -> Result<[String; 2]> {
        let state = self.state();
        let vpc = state.vpc(vpc)?;
        Ok([vpc.public_table.clone(), vpc.private_table.clone()])
    }

    /// The name of the hub's connection to a client gateway.
    pub fn connection_to(&self, gateway: &Gateway) -> Result<String> {
        let vpc = gateway.name.split('/').next().unwrap_or_default();
        Ok(format!("crosswan-{}-{}", self.vpc_id(vpc)?, gateway.instance))
    }

    /// A VPC's region.
    pub fn region(&self, vpc: &str) -> Result<String> {
        Ok(self.state().vpc(vpc)?.region.clone())
    }

    /// The pre-shared key all gateways are given with [`Auth::Psk`].
    pub fn psk(&self) -> &str {
        &self.psk
    }

    /// The lab's directory; gone when the lab is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Elastic IP of the first vpn-hub.
    pub fn hub_address(&self) -> Option<Ipv4Addr> {
        self.gateways().into_iter().find(|gateway| gateway.role == Role::VpnHub)?.public()
    }

    /// What default settings are made of, now.
    pub fn plan(&self) -> Plan {
        self.plan_with(self.gateways().into_iter().find(|g| g.role == Role::VpnHub).as_deref())
    }

    pub(crate) fn plan_with(&self, hub: Option<&Gateway>) -> Plan {
        Plan {
            private: self.private.clone(),
            regions: self.regions.clone(),
            hub: hub.and_then(Gateway::public),
            auth: self.auth,
            psk: self.psk.clone(),
            hub_region: hub.map(|hub| hub.region.clone()),
        }
    }

    /// Numbers of all network namespaces of the lab, to see later that they are gone.
    pub fn namespaces(&self) -> Vec<u64> {
        let state = self.state();
        let mut all = vec![self.internet.ns.inode];
        for vpc in state.vpcs.values() {
            all.push(vpc.network.router.ns.inode);
            all.extend(vpc.hosts.values().map(|(_, host)| host.ns.inode));
            all.extend(vpc.gateways.values().filter_map(|gateway| Some(gateway.ns().ok()?.inode)));
        }
        all
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    pub fn vpc(&self, name: &str) -> Result<&Vpc> {
        self.vpcs.get(name).with_context(|| format!("no VPC {name} in the lab"))
    }

    pub fn vpc_mut(&mut self, name: &str) -> Result<&mut Vpc> {
        self.vpcs.get_mut(name).with_context(|| format!("no VPC {name} in the lab"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test may still hold a gateway; what runs in it must end all the same.
        for gateway in self.gateways() {
            gateway.power_off();
        }
    }
}

fn random_key() -> Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut key = String::new();
    for byte in bytes {
        write!(key, "{byte:02x}")?;
    }
    Ok(key)
}

//! Launching: VPCs, subnets, gateways and hosts, first in EC2, then as namespaces.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use crate::ec2::Instance;
use crate::files::{Plan, Role};
use crate::follow::Network;
use crate::gateway::Gateway;
use crate::host::Host;
use crate::imds::Imds;
use crate::lab::{Lab, Subnet, Vpc};
use crate::lock;
use crate::netns::Netns;
use crate::router::Router;
use crate::topology::{VpcSpec, subnet};

/// What `crosswan-guard.service` runs.
const GUARD: &str = include_str!("../../../images/guard/guard");

/// The tag of the Elastic IPs that gateways take.
pub const POOL_TAG: &str = "crosswan-address";

impl Lab {
    /// Makes a VPC with its gateways, hosts and route tables, and writes the gateways' default settings.
    pub fn add_vpc(&self, spec: VpcSpec) -> Result<()> {
        let plan = self.plan();
        let VpcSpec { name, region, cidrs, gateways, bare } = spec;
        let call =
            |action: &str, parameters: &[(&str, &str)], element| self.ec2().get(&region, action, parameters, element);
        let primary = cidrs.first().context("a VPC needs a CIDR")?;
        let id = call("CreateVpc", &[("CidrBlock", &primary.to_string())], "vpcId")?;
        let igw = call("CreateInternetGateway", &[], "internetGatewayId")?;
        self.ec2().call(&region, "AttachInternetGateway", &[("VpcId", &id), ("InternetGatewayId", &igw)])?;
        let public_table = call("CreateRouteTable", &[("VpcId", &id)], "routeTableId")?;
        let private_table = call("CreateRouteTable", &[("VpcId", &id)], "routeTableId")?;
        let default =
            [("RouteTableId", public_table.as_str()), ("DestinationCidrBlock", "0.0.0.0/0"), ("GatewayId", &igw)];
        self.ec2().call(&region, "CreateRoute", &default)?;
        self.open_default_group(&region, &id)?;
        let network = self.network(&region, &id)?;
        let mut vpc = Vpc {
            name: name.clone(),
            region: region.clone(),
            id,
            gateway: igw,
            public_table,
            private_table,
            subnets: Vec::new(),
            gateways: Default::default(),
            hosts: Default::default(),
            network,
        };
        self.add_subnet(&mut vpc, subnet(*primary, 0)?, true)?;
        let mut state = self.state();
        for role in gateways {
            self.launch_gateway(&mut vpc, role, None)?;
        }
        for cidr in &cidrs {
            self.add_private(&mut vpc, *cidr, cidr == primary)?;
        }
        if bare {
            self.manage(&vpc)?;
        } else {
            let gateway =
                |roles: [Role; 2]| vpc.gateways.values().find(|gateway| roles.contains(&gateway.role)).cloned();
            let (vpn, nat) = (gateway([Role::VpnHub, Role::NatVpn]), gateway([Role::NatHub, Role::NatVpn]));
            self.route(&vpc, vpn.as_deref(), nat.as_deref())?;
        }
        self.sync_vpc(&vpc)?;
        let new: Vec<_> = vpc.gateways.values().cloned().collect();
        state.vpcs.insert(name, vpc);
        drop(state);
        let plan = if plan.hub.is_some() { plan } else { self.plan() };
        new.iter().try_for_each(|gateway| self.write_plan(gateway, &plan))
    }

    /// Lets IKE and everything from the private network into a VPC's default security group, which all its instances have. The lab's
    /// wires do not ask it.
    fn open_default_group(&self, region: &str, vpc: &str) -> Result<()> {
        let group = self.default_group(region, vpc)?;
        let mut form = vec![("GroupId".to_owned(), group)];
        let ports = [("udp", "500"), ("udp", "4500")].map(|(protocol, port)| (protocol, port, "0.0.0.0/0".to_owned()));
        let private = self.private.iter().map(|net| ("-1", "-1", net.to_string()));
        for (n, (protocol, port, net)) in ports.into_iter().chain(private).enumerate() {
            let field = |name: &str| format!("IpPermissions.{}.{name}", n + 1);
            form.push((field("IpProtocol"), protocol.to_owned()));
            form.push((field("FromPort"), port.to_owned()));
            form.push((field("ToPort"), port.to_owned()));
            form.push((field("IpRanges.1.CidrIp"), net));
        }
        let form: Vec<_> = form.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.ec2().call(region, "AuthorizeSecurityGroupIngress", &form).map(drop)
    }

    /// The id of a VPC's default security group.
    pub fn default_group(&self, region: &str, vpc: &str) -> Result<String> {
        let of_vpc = [("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", vpc)];
        let by_name = [("Filter.2.Name", "group-name"), ("Filter.2.Value.1", "default")];
        self.ec2().get(region, "DescribeSecurityGroups", &[of_vpc, by_name].concat(), "groupId")
    }

    /// The network of a VPC that is in EC2, without any subnet yet.
    pub(crate) fn network(&self, region: &str, id: &str) -> Result<Arc<Network>> {
        let router = Router::new(&self.internet, &self.private)?;
        let network = Arc::new(Network::new(region, id, self.ec2().clone(), router));
        self.internet.follow.add(&network);
        Ok(network)
    }

    /// A client VPC with one nat-vpn and a private host per CIDR.
    pub fn add_client(&self, name: &str, region: &str, cidrs: &[&str]) -> Result<()> {
        self.add_vpc(VpcSpec::client(name, region, cidrs)?)
    }

    /// Launches one more gateway in a VPC, later by launch time than all before it, with default settings. The VPC's
    /// routes stay as they are.
    pub fn add_gateway(&self, vpc: &str, role: Role) -> Result<Arc<Gateway>> {
        let plan = self.plan();
        next_second();
        let mut state = self.state();
        let vpc = state.vpc_mut(vpc)?;
        let gateway = self.launch_gateway(vpc, role, None)?;
        self.sync_vpc(vpc)?;
        self.write_plan(&gateway, &plan)?;
        Ok(gateway)
    }

    /// A private subnet of a VPC's CIDR with a host in it.
    pub(crate) fn add_private(&self, vpc: &mut Vpc, cidr: Ipv4Net, primary: bool) -> Result<Arc<Host>> {
        if !primary {
            let parameters = [("VpcId", vpc.id.as_str()), ("CidrBlock", &cidr.to_string())];
            self.ec2().call(&vpc.region, "AssociateVpcCidrBlock", &parameters)?;
        }
        let subnet = self.add_subnet(vpc, subnet(cidr, 1)?, false)?;
        let name = numbered("host", vpc.hosts.len());
        let full = format!("{}/{name}", vpc.name);
        let instance = self.launch(vpc, subnet, &[("Name", &full)])?;
        let ns = Arc::new(Netns::new()?);
        vpc.network.router.attach(&ns, &instance, vpc.subnets[subnet].cidr)?;
        let host = Arc::new(Host::new(&full, ns, instance.private)?);
        vpc.hosts.insert(name, (instance.id, host.clone()));
        Ok(host)
    }

    fn add_subnet(&self, vpc: &mut Vpc, cidr: Ipv4Net, public: bool) -> Result<usize> {
        let parameters = [("VpcId", vpc.id.as_str()), ("CidrBlock", &cidr.to_string())];
        let id = self.ec2().get(&vpc.region, "CreateSubnet", &parameters, "subnetId")?;
        let table = if public { &vpc.public_table } else { &vpc.private_table };
        let parameters = [("RouteTableId", table.as_str()), ("SubnetId", &id)];
        let association = self.ec2().get(&vpc.region, "AssociateRouteTable", &parameters, "associationId")?;
        if public && self.pools {
            let map = [("SubnetId", id.as_str()), ("MapPublicIpOnLaunch.Value", "true")];
            self.ec2().call(&vpc.region, "ModifySubnetAttribute", &map)?;
        }
        vpc.network.router.add_subnet(cidr)?;
        // AWS keeps the first four addresses of a subnet for itself.
        let next = if cidr.prefix_len() > 24 { 4 } else { 10 };
        vpc.subnets.push(Subnet { id, association, cidr, public, next });
        Ok(vpc.subnets.len() - 1)
    }

    /// Launches a gateway under a free name of its role, or under that of the one it replaces.
    pub(crate) fn launch_gateway(&self, vpc: &mut Vpc, role: Role, name: Option<&str>) -> Result<Arc<Gateway>> {
        let names = (0..).map(|n| numbered(role.as_str(), n));
        let free = names.take(99).find(|name| !vpc.gateways.contains_key(name));
        let name = name.map(str::to_string).or(free).context("no name left for a gateway")?;
        let full = format!("{}/{name}", vpc.name);
        let subnet = vpc.subnets.iter().position(|subnet| subnet.public).context("no public subnet")?;
        let tags = [("Name", full.as_str()), ("service", role.service_tag()), ("env", "prod")];
        let instance = self.launch(vpc, subnet, &tags)?;
        // EC2 launches with it on, and an agent that may turns it off.
        if self.check_off || self.roleless.contains(&role) {
            self.switch_check(&vpc.region, &instance.id, false)?;
        }
        if self.pools {
            self.allocate(&vpc.region, Some(&full))?;
        } else {
            self.give_address(vpc, &instance.id)?;
        }
        let gateway = self.gateway_of(vpc, &full, role, &instance, vpc.subnets[subnet].cidr)?;
        self.plug_in(vpc, &gateway, &instance, false)?;
        vpc.gateways.insert(name, gateway.clone());
        Ok(gateway)
    }

    /// The gateway that runs on an instance, switched off.
    pub(crate) fn gateway_of(
        &self,
        vpc: &Vpc,
        full: &str,
        role: Role,
        instance: &Instance,
        subnet: Ipv4Net,
    ) -> Result<Arc<Gateway>> {
        let imds = Arc::new(Imds {
            instance: instance.id.clone(),
            region: vpc.region.clone(),
            subnet,
            role: (!self.roleless.contains(&role)).then(|| {
                let name = format!("crosswan-{}", role.as_str());
                let access_key = self.internet.iam.session(&name, &vpc.region, &instance.id);
                (name, access_key)
            }),
            vpc: vpc.network.view.clone(),
            faults: Mutex::default(),
        });
        let dir = self.dir().join(&instance.id);
        Ok(Arc::new(Gateway::new(full, role, imds, instance.private, dir, self.agent.clone())?))
    }

    /// Boots a gateway and connects it to its VPC; if it is guarded, with the rules of its last refresh before that.
    pub(crate) fn plug_in(&self, vpc: &Vpc, gateway: &Gateway, instance: &Instance, guarded: bool) -> Result<()> {
        let ns = gateway.power_on()?;
        if guarded {
            gateway.run("/bin/sh", &["-s"], GUARD)?.ok()?;
        }
        vpc.network.router.attach(&ns, instance, gateway.imds.subnet)?;
        gateway.configure()
    }

    /// RunInstances with the subnet's next address.
    fn launch(&self, vpc: &mut Vpc, subnet: usize, tags: &[(&str, &str)]) -> Result<Instance> {
        let subnet = &mut vpc.subnets[subnet];
        let address = Ipv4Addr::from_bits(subnet.cidr.network().to_bits() + subnet.next).to_string();
        subnet.next += 1;
        let mut parameters = vec![
            ("ImageId".to_string(), "ami-00000000000000000"),
            ("InstanceType".into(), "t3.small"),
            ("MinCount".into(), "1"),
            ("MaxCount".into(), "1"),
            ("SubnetId".into(), &subnet.id),
            ("PrivateIpAddress".into(), &address),
            ("TagSpecification.1.ResourceType".into(), "instance"),
        ];
        for (n, (key, value)) in tags.iter().enumerate() {
            parameters.push((format!("TagSpecification.1.Tag.{}.Key", n + 1), key));
            parameters.push((format!("TagSpecification.1.Tag.{}.Value", n + 1), value));
        }
        let parameters: Vec<_> = parameters.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let id = self.ec2().get(&vpc.region, "RunInstances", &parameters, "instanceId")?;
        let instance = self.ec2().instance(&vpc.region, &id)?;
        lock(&vpc.network.view).instances.push(instance.clone());
        Ok(instance)
    }

    /// Gives an instance a new Elastic IP.
    pub(crate) fn give_address(&self, vpc: &Vpc, instance: &str) -> Result<Ipv4Addr> {
        let (allocation, address) = self.allocate(&vpc.region, None)?;
        let parameters = [("AllocationId", allocation.as_str()), ("InstanceId", instance)];
        self.ec2().call(&vpc.region, "AssociateAddress", &parameters)?;
        Ok(address)
    }

    /// Allocates an Elastic IP for the pool of a gateway, by its name as in `a/nat-vpn`, and returns its allocation id and itself.
    pub fn add_address(&self, gateway: &Gateway) -> Result<(String, Ipv4Addr)> {
        self.allocate(&gateway.region, Some(&gateway.name))
    }

    /// A new Elastic IP, from 198.51.100.100 on; those of a pool have its name in [`POOL_TAG`].
    pub(crate) fn allocate(&self, region: &str, pool: Option<&str>) -> Result<(String, Ipv4Addr)> {
        let n = self.addresses.fetch_add(1, Ordering::Relaxed).checked_add(100).context("no Elastic IP left")?;
        let address = Ipv4Addr::new(198, 51, 100, n);
        // Without Address= moto invents one in 127/8.
        let parameters = [("Domain", "vpc"), ("Address", &address.to_string())];
        let allocation = self.ec2().get(region, "AllocateAddress", &parameters, "allocationId")?;
        if let Some(pool) = pool {
            let tag = [("ResourceId.1", allocation.as_str()), ("Tag.1.Key", POOL_TAG), ("Tag.1.Value", pool)];
            self.ec2().call(region, "CreateTags", &tag)?;
        }
        Ok((allocation, address))
    }

    /// Writes a gateway's settings, with the pool of its addresses if it has one.
    pub(crate) fn write_plan(&self, gateway: &Gateway, plan: &Plan) -> Result<()> {
        gateway.write_plan(plan)?;
        if !self.pools {
            return Ok(());
        }
        let pool = format!("[address]\ntag = \"{POOL_TAG}={}\"\n", gateway.name);
        gateway.write_file("/etc/crosswan/conf.d/address.toml", &pool, 0o644)
    }
}

pub(crate) fn numbered(name: &str, existing: usize) -> String {
    if existing == 0 { name.to_string() } else { format!("{name}-{}", existing + 1) }
}

/// Sleeps into the next second: moto's launch times have no finer resolution.
pub(crate) fn next_second() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    std::thread::sleep(Duration::from_millis(1010) - Duration::from_millis(u64::from(now.subsec_millis())));
}

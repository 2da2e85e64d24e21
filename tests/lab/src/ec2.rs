//! A tiny client of the EC2 query API, as the lab's own hand on moto. It never goes through the fault proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use roxmltree::{Document, Node};

use crate::http;
use crate::netns::Netns;

/// Calls EC2 actions. Regions do not see each other, as in life.
#[derive(Clone, Debug)]
pub struct Ec2 {
    pub(crate) ns: Arc<Netns>,
    pub(crate) address: SocketAddr,
}

/// The XML of an answer.
#[derive(Clone, Debug)]
pub struct Answer(pub String);

impl Answer {
    /// Text of the first element of that name, at any depth.
    pub fn first(&self, name: &str) -> Result<String> {
        let document = Document::parse(&self.0)?;
        let found = document.descendants().find(|n| n.is_called(name)).and_then(|n| n.text());
        found.map(str::to_string).with_context(|| format!("no {name} in {}", self.0))
    }
}

/// What an instance is, as EC2 tells it now.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `i-…`
    pub id: String,
    /// `running`, `stopped`, …
    pub state: String,
    /// Private address of the first interface.
    pub private: Ipv4Addr,
    /// Elastic or assigned public address.
    pub public: Option<Ipv4Addr>,
    /// MAC of the first interface.
    pub mac: String,
    /// `eni-…`
    pub interface: String,
    /// `subnet-…`
    pub subnet: String,
    /// Whether the VPC drops what is not from or to its own address.
    pub source_dest_check: bool,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The VPC itself.
    Local,
    /// The internet gateway.
    Internet,
    /// An instance, by id.
    Instance(String),
    /// A network interface, by id.
    Interface(String),
    /// Nothing the lab knows.
    Nowhere,
}

/// A route table and the subnets it stands for.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// `rtb-…`
    pub id: String,
    /// Whether subnets without an association use it.
    pub main: bool,
    /// Ids of the associated subnets.
    pub subnets: Vec<String>,
    /// Destination and target.
    pub routes: Vec<(Ipv4Net, Target)>,
}

/// One VPC as EC2 tells it now: the wires, the NAT and IMDS are made to fit this.
#[derive(Clone, Debug, Default)]
pub struct VpcView {
    /// `vpc-…`
    pub id: String,
    /// Associated CIDRs, the primary first.
    pub cidrs: Vec<Ipv4Net>,
    /// All but the terminated ones.
    pub instances: Vec<Instance>,
    /// All of them.
    pub tables: Vec<RouteTable>,
}

impl VpcView {
    /// The instance of that id.
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.id == id)
    }

    /// The routes that apply in `subnet`.
    pub fn routes(&self, subnet: &str) -> &[(Ipv4Net, Target)] {
        let own = self.tables.iter().find(|t| t.subnets.iter().any(|s| s == subnet));
        own.or_else(|| self.tables.iter().find(|t| t.main)).map_or(&[], |t| &t.routes)
    }
}

impl Ec2 {
    /// A client inside `ns` of the EC2 at `address`.
    pub fn new(ns: Arc<Netns>, address: SocketAddr) -> Ec2 {
        Ec2 { ns, address }
    }

    /// One action in one region; an error carries EC2's own words.
    pub fn call(&self, region: &str, action: &str, parameters: &[(&str, &str)]) -> Result<Answer> {
        self.query("ec2", "2016-11-15", region, action, parameters)
    }

    /// Sets a tag of the resource with this id, or with `None` removes it.
    pub fn tag(&self, region: &str, id: &str, key: &str, value: Option<&str>) -> Result<()> {
        let action = if value.is_some() { "CreateTags" } else { "DeleteTags" };
        let mut parameters = vec![("ResourceId.1", id), ("Tag.1.Key", key)];
        parameters.extend(value.map(|value| ("Tag.1.Value", value)));
        self.call(region, action, &parameters).map(drop)
    }

    /// An action of another service that is called as EC2 is, with the version of its API.
    pub fn query(
        &self,
        service: &str,
        version: &str,
        region: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut body = format!("Action={action}&Version={version}");
        for (key, value) in parameters {
            body += &format!("&{key}={}", encode(value));
        }
        let (form, signed) = ("application/x-www-form-urlencoded", authorization(region, service));
        let (status, text) = http::post(&self.ns, self.address, form, &signed, &body).context(action.to_string())?;
        if status != 200 {
            bail!("{action} in {region} with {parameters:?}: {status} {text}");
        }
        Ok(Answer(text))
    }

    /// Makes a public hosted zone in Route 53; `name` has its final dot.
    pub fn hosted_zone(&self, name: &str) -> Result<()> {
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{name}</Name>\
             <CallerReference>lab</CallerReference></CreateHostedZoneRequest>"
        );
        let signed = authorization("us-east-1", "route53");
        let path = "/2013-04-01/hostedzone";
        let (status, text) = http::post_at(&self.ns, self.address, path, "application/xml", &signed, &body)?;
        if status != 201 {
            bail!("CreateHostedZone {name}: {status} {text}");
        }
        Ok(())
    }

    /// As [`Ec2::call`], returning the text of one element of the answer.
    pub fn get(&self, region: &str, action: &str, parameters: &[(&str, &str)], element: &str) -> Result<String> {
        self.call(region, action, parameters)?.first(element)
    }

    /// One instance.
    pub fn instance(&self, region: &str, id: &str) -> Result<Instance> {
        let answer = self.call(region, "DescribeInstances", &[("InstanceId.1", id)])?;
        items(&Document::parse(&answer.0)?, "instancesSet", instance)?
            .pop()
            .with_context(|| format!("no instance {id}"))
    }

    /// Association and allocation ids of an instance's Elastic IPs.
    pub fn addresses(&self, region: &str, instance: &str) -> Result<Vec<(String, String)>> {
        let parameters = [("Filter.1.Name", "instance-id"), ("Filter.1.Value.1", instance)];
        let answer = self.call(region, "DescribeAddresses", &parameters)?;
        items(&Document::parse(&answer.0)?, "addressesSet", |item| {
            let id = |name| item.value(name).map(str::to_string);
            Ok(id("associationId").zip(id("allocationId")))
        })
    }

    /// Everything about one VPC.
    pub fn vpc(&self, region: &str, id: &str) -> Result<VpcView> {
        let of_vpc = [("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", id)];
        let vpcs = self.call(region, "DescribeVpcs", &[("VpcId.1", id)])?;
        let instances = self.call(region, "DescribeInstances", &of_vpc)?;
        let tables = self.call(region, "DescribeRouteTables", &of_vpc)?;
        Ok(VpcView {
            id: id.to_string(),
            cidrs: cidrs(&Document::parse(&vpcs.0)?)?,
            instances: items(&Document::parse(&instances.0)?, "instancesSet", instance)?,
            tables: items(&Document::parse(&tables.0)?, "routeTableSet", route_table)?,
        })
    }
}

/// The header by which moto knows region and service; it checks no signature.
pub(crate) fn authorization(region: &str, service: &str) -> String {
    let scope = format!("20250101/{region}/{service}/aws4_request");
    format!("Authorization: AWS4-HMAC-SHA256 Credential=lab/{scope}, SignedHeaders=host, Signature=0\r\n")
}

/// Percent-encoding of a form value.
fn encode(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    value.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Look-ups that ignore the namespace EC2 puts on every element.
pub(crate) trait Elements<'a, 'd: 'a> {
    fn is_called(&self, name: &str) -> bool;
    fn child(&self, name: &str) -> Option<Node<'a, 'd>>;
    fn value(&self, name: &str) -> Option<&'a str>;
}

impl<'a, 'd: 'a> Elements<'a, 'd> for Node<'a, 'd> {
    fn is_called(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
    fn child(&self, name: &str) -> Option<Node<'a, 'd>> {
        self.children().find(|n| n.is_called(name))
    }
    fn value(&self, name: &str) -> Option<&'a str> {
        self.child(name).and_then(|n| n.text())
    }
}

/// The `<item>`s of every set of that name; those for which `parse` gives `None` are left out.
fn items<T>(document: &Document, set: &str, parse: impl Fn(Node) -> Result<Option<T>>) -> Result<Vec<T>> {
    let sets = document.descendants().filter(|n| n.is_called(set));
    let items = sets.flat_map(|n| n.children()).filter(|n| n.is_called("item"));
    items.filter_map(|item| parse(item).transpose()).collect()
}

fn cidrs(document: &Document) -> Result<Vec<Ipv4Net>> {
    items(document, "cidrBlockAssociationSet", |item| {
        let state = item.child("cidrBlockState").and_then(|state| state.value("state"));
        let cidr = item.value("cidrBlock").filter(|_| state == Some("associated"));
        Ok(cidr.map(str::parse).transpose()?)
    })
}

fn instance(item: Node) -> Result<Option<Instance>> {
    let state = item.child("instanceState").and_then(|state| state.value("name")).unwrap_or_default();
    let Some(private) = item.value("privateIpAddress").filter(|_| state != "terminated") else { return Ok(None) };
    let interface = item.child("networkInterfaceSet").and_then(|set| set.child("item")).context("no interface")?;
    let text = |node: Node, name| node.value(name).map(str::to_string).with_context(|| format!("no {name}"));
    Ok(Some(Instance {
        id: text(item, "instanceId")?,
        state: state.to_string(),
        private: private.parse()?,
        public: item.value("ipAddress").map(str::parse).transpose()?,
        mac: text(interface, "macAddress")?,
        interface: text(interface, "networkInterfaceId")?,
        subnet: text(item, "subnetId")?,
        // moto keeps the instance's flag and the interface's apart. In EC2 they are one, and the proxy and the lab set both.
        source_dest_check: item.value("sourceDestCheck") != Some("false")
            || interface.value("sourceDestCheck") != Some("false"),
    }))
}

fn route_table(item: Node) -> Result<Option<RouteTable>> {
    let children = |set| item.child(set).into_iter().flat_map(|set: Node| set.children()).filter(Node::is_element);
    let id = item.value("routeTableId").context("a route table without an id")?.to_string();
    let mut table = RouteTable { id, main: false, subnets: Vec::new(), routes: Vec::new() };
    for association in children("associationSet") {
        table.main |= association.value("main") == Some("true");
        table.subnets.extend(association.value("subnetId").map(str::to_string));
    }
    for route in children("routeSet") {
        let Some(destination) = route.value("destinationCidrBlock") else { continue };
        let target = match (route.value("gatewayId"), route.value("instanceId")) {
            (Some("local"), _) => Target::Local,
            (Some(gateway), _) if gateway.starts_with("igw-") => Target::Internet,
            (_, Some(instance)) => Target::Instance(instance.to_string()),
            _ => match route.value("networkInterfaceId") {
                Some(interface) => Target::Interface(interface.to_string()),
                None => Target::Nowhere,
            },
        };
        table.routes.push((destination.parse()?, target));
    }
    Ok(Some(table))
}

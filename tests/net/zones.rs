//! A client VPC in three zones, each with a private subnet and a route table of its own, and one gateway that all of them are led to.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use crosswan_lab::{Fault, Gateway, Lab, Side, VpcSpec, iam::Policy};
use serde_json::Value;

use crate::region::{Region, UP, agent, eventually, lines, refresh, refresh_with, show};

const HUB: &str = "us-west-2";
const CLIENT: &str = "eu-west-1";
const PRIVATE: &str = "10.0.0.0/8";
const DEFAULT: &str = "0.0.0.0/0";
const ZONES: [(&str, &str); 3] = [("a", "10.1.1.0/24"), ("b", "10.1.2.0/24"), ("c", "10.1.3.0/24")];

/// A hub VPC, and the client VPC `a` in EC2 and in the lab; everything is booted.
struct Zones {
    region: Region,
    /// `vpc-…` of the client.
    vpc: String,
    /// The public subnet, and its table.
    public: [String; 2],
    /// Of the three zones: the subnets' associations with the tables, and the tables.
    private: Vec<[String; 2]>,
}

/// A call in the client's region, and one element of its answer.
fn made(lab: &Lab, action: &str, parameters: &[(&str, &str)], element: &str) -> Result<String> {
    lab.ec2().get(CLIENT, action, parameters, element)
}

fn call(lab: &Lab, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
    Ok(lab.ec2().call(CLIENT, action, parameters)?.0)
}

fn tag(lab: &Lab, of: &str, key: &str, value: &str) -> Result<()> {
    call(lab, "CreateTags", &[("ResourceId.1", of), ("Tag.1.Key", key), ("Tag.1.Value", value)]).map(drop)
}

/// An instance with that name, and perhaps the tag of a client's gateway.
fn launch(lab: &Lab, subnet: &str, name: &str, gateway: bool) -> Result<String> {
    let of = [("ImageId", "ami-00000001"), ("MinCount", "1"), ("MaxCount", "1"), ("SubnetId", subnet)];
    let id = made(lab, "RunInstances", &of, "instanceId")?;
    tag(lab, &id, "Name", name)?;
    if gateway {
        tag(lab, &id, "service", "nat")?;
    }
    Ok(id)
}

/// A subnet in a zone, with a route table of its own that gateways may write into: the subnet, the association and the table.
fn subnet(lab: &Lab, vpc: &str, zone: &str, cidr: &str) -> Result<[String; 3]> {
    let zone = format!("{CLIENT}{zone}");
    let of = [("VpcId", vpc), ("CidrBlock", cidr), ("AvailabilityZone", &zone)];
    let subnet = made(lab, "CreateSubnet", &of, "subnetId")?;
    let table = made(lab, "CreateRouteTable", &[("VpcId", vpc)], "routeTableId")?;
    tag(lab, &table, "crosswan-routes", "managed")?;
    let of = [("RouteTableId", table.as_str()), ("SubnetId", &subnet)];
    Ok([subnet.clone(), made(lab, "AssociateRouteTable", &of, "associationId")?, table.clone()])
}

impl Zones {
    fn new() -> Result<Zones> {
        let hub = VpcSpec::hub("hub", HUB, &["10.0.0.0/16"])?.bare();
        let lab = Lab::builder(agent()?).vpc(hub).region(CLIENT).build()?;
        let vpc = made(&lab, "CreateVpc", &[("CidrBlock", "10.1.0.0/16")], "vpcId")?;
        let internet = made(&lab, "CreateInternetGateway", &[], "internetGatewayId")?;
        call(&lab, "AttachInternetGateway", &[("VpcId", &vpc), ("InternetGatewayId", &internet)])?;
        let [public, _, table] = subnet(&lab, &vpc, "a", "10.1.0.0/24")?;
        let out = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", DEFAULT), ("GatewayId", &internet)];
        call(&lab, "CreateRoute", &out)?;
        let gateway = launch(&lab, &public, "nat-vpn", true)?;
        let allocate = [("Domain", "vpc"), ("Address", "198.51.100.200")];
        let address = made(&lab, "AllocateAddress", &allocate, "allocationId")?;
        call(&lab, "AssociateAddress", &[("AllocationId", &address), ("InstanceId", &gateway)])?;
        let mut private = Vec::new();
        for (zone, cidr) in ZONES {
            let [subnet, association, table] = subnet(&lab, &vpc, zone, cidr)?;
            launch(&lab, &subnet, zone, false)?;
            private.push([association, table]);
        }
        lab.adopt("a", CLIENT, &vpc)?;
        let region = Region::booted(lab)?;
        region.settle()?;
        Ok(Zones { region, vpc, public: [public, table], private })
    }

    fn lab(&self) -> &Lab {
        &self.region.lab
    }

    fn gateway(&self) -> Result<std::sync::Arc<Gateway>> {
        self.region.gateway("a/nat-vpn")
    }

    /// The routes that the gateway should have, by table and destination.
    fn wanted(&self) -> Vec<(&str, &str)> {
        let private = self.private.iter().flat_map(|[_, table]| [(table.as_str(), PRIVATE), (table.as_str(), DEFAULT)]);
        private.chain([(self.public[1].as_str(), PRIVATE)]).collect()
    }

    /// Where EC2 says that a route leads; "none" without it.
    fn leads_to(&self, table: &str, to: &str) -> Result<String> {
        let answer = call(self.lab(), "DescribeRouteTables", &[("RouteTableId.1", table)])?;
        let route = answer.split("<item>").find(|item| item.contains(&format!("<destinationCidrBlock>{to}<")));
        let Some(route) = route else { return Ok("none".into()) };
        for name in ["instanceId", "networkInterfaceId", "gatewayId"] {
            let text = route.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
            if let Some((id, _)) = text.filter(|(id, _)| !id.is_empty()) {
                return Ok(id.into());
            }
        }
        bail!("a route to nothing: {route}")
    }

    fn leads_here(&self, table: &str, to: &str) -> Result<bool> {
        let gateway = self.gateway()?;
        let interface = self.lab().ec2().instance(CLIENT, &gateway.instance)?.interface;
        Ok([&gateway.instance, &interface].contains(&&self.leads_to(table, to)?))
    }

    /// A pass in whose middle, at its first change in EC2, something is done.
    fn pass_in_which(&self, code: i32, something: impl FnOnce() -> Result<()>) -> Result<Value> {
        let (gateway, stop) = (self.gateway()?, &self.lab().faults().stop);
        stop.at(0, Side::Before);
        let output = thread::scope(|scope| {
            let pass = scope.spawn(|| gateway.agent(&["refresh", "--json"]));
            let done = if stop.wait(UP) { something() } else { bail!("the pass changed nothing") };
            stop.lift();
            let output = pass.join().map_err(|_| anyhow::anyhow!("the pass panicked"))?;
            done.and(output)
        })?;
        ensure!(output.code == code, "exit {}, not {code}\n{}", output.code, show(&output));
        serde_json::from_str(&output.stdout).with_context(|| show(&output))
    }
}

/// How the report says that a route is.
fn is<'r>(report: &'r Value, table: &str, to: &str) -> &'r Value {
    let routes = report["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = routes.iter().find(|route| route["table"] == table && route["to"] == to);
    found.map_or(&Value::Null, |route| &route["is"])
}

#[test]
fn three_zones_with_a_table_each_are_led_to_the_one_gateway_however_many_pages_ec2_needs() -> Result<()> {
    let zones = Zones::new()?;
    let (region, gateway) = (&zones.region, zones.gateway()?);
    for zone in ["a/a", "a/b", "a/c"] {
        let host = region.lab.host(zone)?;
        eventually(UP, "each zone reaches the internet", || host.reaches(region.lab.internet().address))?;
    }
    let report = refresh(&gateway)?;
    ensure!(report["routes"].as_array().is_some_and(|routes| routes.len() == 7), "{report:#}");
    for (table, to) in zones.wanted() {
        ensure!(zones.leads_here(table, to)? && is(&report, table, to) == "here", "{to} of {table}: {report:#}");
    }
    ensure!(zones.leads_to(&zones.public[1], DEFAULT)?.starts_with("igw-"), "the public subnets keep theirs");
    // The same, where EC2 shows one table at a time; none is passed over.
    region.lab.delete_routes("a")?;
    region.lab.ec2_fault("*", "DescribeRouteTables", Fault::Paged(1));
    let calls = || region.lab.ec2_calls().get(&(CLIENT.to_owned(), "DescribeRouteTables".to_owned())).copied();
    let before = calls().context("it has asked for tables")?;
    ensure!(lines(&refresh(&gateway)?, "steps").len() == 7);
    ensure!(calls().is_some_and(|now| now >= before + 5), "there are five pages");
    for (table, to) in zones.wanted() {
        ensure!(zones.leads_here(table, to)?, "{to} of {table}");
    }
    // A page that does not come is no table that is gone.
    region.lab.ec2_fault("*", "DescribeRouteTables", Fault::SecondPageFails);
    let report = refresh_with(&gateway, &[], 3)?;
    ensure!(lines(&report, "unasked").concat().contains("look up the VPC's route tables"), "{report:#}");
    region.lab.ec2_heal();
    let report = refresh(&gateway)?;
    ensure!(report["outcome"] == "unchanged" && is(&report, &zones.private[2][1], DEFAULT) == "here", "{report:#}");
    region.settle()
}

#[test]
fn a_table_that_is_deleted_or_loses_its_tag_in_the_middle_of_a_pass_is_named_and_holds_up_no_other() -> Result<()> {
    let zones = Zones::new()?;
    let (lab, gateway) = (zones.lab(), zones.gateway()?);
    // The agent goes through tables by their ids: the first of them is the one that fails.
    let mut private = zones.private.clone();
    private.sort_by(|one, other| one[1].cmp(&other[1]));
    let [[association, deleted], [_, untagged], [_, other]] = &private[..] else { bail!("three zones") };
    lab.delete_routes("a")?;
    let report = zones.pass_in_which(3, || {
        call(lab, "DisassociateRouteTable", &[("AssociationId", association)])?;
        call(lab, "DeleteRouteTable", &[("RouteTableId", deleted)]).map(drop)
    })?;
    let unasked = lines(&report, "unasked").join("\n");
    ensure!(unasked.contains(deleted) && unasked.contains("InvalidRouteTableID.NotFound"), "{report:#}");
    for table in [untagged, other] {
        ensure!(zones.leads_here(table, PRIVATE)? && zones.leads_here(table, DEFAULT)?, "{report:#}");
    }
    let report = refresh(&gateway)?;
    ensure!(report["outcome"] == "unchanged" && is(&report, deleted, PRIVATE).is_null(), "{report:#}");

    // The role, which may write into tables with the tag alone, decides about one that has lost it.
    let policy = fs::read_to_string(format!("{}/docs/iam/nat-vpn.json", env!("CARGO_MANIFEST_DIR")))?;
    lab.iam().enforce([("crosswan-nat-vpn", Policy::parse(&policy)?)]);
    lab.delete_routes("a")?;
    let report = zones.pass_in_which(3, || {
        call(lab, "DeleteTags", &[("ResourceId.1", untagged), ("Tag.1.Key", "crosswan-routes")]).map(drop)
    })?;
    let unasked = lines(&report, "unasked").join("\n");
    let named = format!("lead {PRIVATE} of {untagged} here: not permitted: the instance's role needs ec2:CreateRoute");
    ensure!(unasked.contains(&named), "{report:#}");
    ensure!(zones.leads_here(other, PRIVATE)? && zones.leads_here(other, DEFAULT)?, "{report:#}");
    let report = refresh(&gateway)?;
    ensure!(report["outcome"] == "unchanged" && is(&report, untagged, PRIVATE).is_null(), "{report:#}");
    ensure!(zones.leads_to(untagged, PRIVATE)? == "none");
    Ok(())
}

/// A NAT instance of somebody's, with the tag by which the hub finds gateways. Nothing tells it from a gateway that has just been
/// launched, so it keeps what leads to it.
#[test]
fn a_newer_instance_that_has_a_gateways_tag_and_no_crosswan_keeps_its_route_until_its_tag_or_itself_is_gone()
-> Result<()> {
    let zones = Zones::new()?;
    let (lab, gateway) = (zones.lab(), zones.gateway()?);
    let table = zones.private[0][1].as_str();
    thread::sleep(Duration::from_millis(1100));
    let stranger = launch(lab, &zones.public[0], "stranger", true)?;
    lab.adopt("a", CLIENT, &zones.vpc)?;
    let lead = || -> Result<()> {
        let to = [("RouteTableId", table), ("DestinationCidrBlock", DEFAULT), ("InstanceId", &stranger)];
        call(lab, "ReplaceRoute", &to)?;
        lab.sync("a")
    };
    lead()?;
    let toml = gateway.read_file("/etc/crosswan/crosswan.toml")?;
    let overrule =
        |on: bool| gateway.write_file("/etc/crosswan/crosswan.toml", &format!("routes.overrule = {on}\n{toml}"), 0o644);
    for on in [false, true] {
        overrule(on)?;
        let report = refresh(&gateway)?;
        let left = is(&report, table, DEFAULT)["left"].as_str().unwrap_or_default();
        ensure!(left == format!("leads to {stranger}, a newer gateway of this mode"), "{report:#}");
        ensure!(is(&report, table, PRIVATE) == "here", "{report:#}");
    }
    // Its hub still knows the one that works, and nobody else.
    let hub = zones.region.gateway("hub/vpn-hub")?;
    hub.agent(&["refresh"])?;
    zones.region.lab.host("a/b")?.wait_for(zones.region.address("hub/host")?, UP)?;
    // Without the tag it is any foreign target.
    overrule(false)?;
    call(lab, "DeleteTags", &[("ResourceId.1", &stranger), ("Tag.1.Key", "service")])?;
    let report = refresh(&gateway)?;
    ensure!(is(&report, table, DEFAULT)["left"].to_string().contains("which is not crosswan's"), "{report:#}");
    // With the tag, and not running, it gives way.
    tag(lab, &stranger, "service", "nat")?;
    call(lab, "StopInstances", &[("InstanceId.1", &stranger)])?;
    let report = refresh(&gateway)?;
    ensure!(
        lines(&report, "steps").concat().contains(&format!("it led to {stranger}, which does not run")),
        "{report:#}"
    );
    ensure!(zones.leads_here(table, DEFAULT)?);
    Ok(())
}

//! Where moto is more lenient than AWS, the proxy is as strict: it keeps client tokens, gives out addresses, refuses what is there
//! already, hides what is new for some calls, tells the quotas that moto does not know, takes its time with records, and has one
//! source/destination check where moto has two.
//!
//! It knows only what passed through it: what a test puts into moto directly is not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Mutex;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use roxmltree::Document;

use super::call::{Call, field};
use crate::ec2::Elements;
use crate::http::decoded;
use crate::lock;

/// Elastic IPs that moto would invent in 127/8 come from 198.51.100.10 on; the lab's own hand gives those from .100 on.
const FIRST_ELASTIC: u8 = 10;
/// AWS keeps the first four addresses of a subnet for itself.
const FIRST_OF_SUBNET: u32 = 4;

/// Of EC2's API, as every call names it.
const VERSION: &str = "Version=2016-11-15";

/// See the module. Shared by the proxy's threads.
#[derive(Debug, Default)]
pub struct Strict(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Answers by region, operation and client token.
    tokens: BTreeMap<(String, String, String), String>,
    /// Names and the like that can be taken once.
    taken: BTreeSet<String>,
    elastic: u8,
    /// How many Auto Scaling groups an account may have, where a test says so.
    scaling_groups: Option<u32>,
    /// Addresses given out, by subnet.
    subnets: BTreeMap<String, u32>,
    /// For how many calls what is made stays hidden from now on, by operation.
    hiding: BTreeMap<String, u32>,
    /// Ids that are hidden, and for how many more calls.
    hidden: BTreeMap<String, u32>,
}

/// An answer in moto's place.
#[derive(Debug)]
pub enum Verdict {
    /// Goes on to moto, with this form.
    Pass(String),
    /// This body, as if moto had answered.
    Answer(String),
    /// Status, code and message of an error.
    Refuse(u16, &'static str, String),
}

impl Strict {
    /// From now on what `action` makes is not seen by the next `calls` calls that name it or list it.
    pub fn hide(&self, action: &str, calls: u32) {
        lock(&self.0).hiding.insert(action.to_string(), calls);
    }

    /// From now on an account may have this many Auto Scaling groups.
    pub fn limit_scaling_groups(&self, most: u32) {
        lock(&self.0).scaling_groups = Some(most);
    }

    /// Before a call goes to moto. `ask` is a call of the proxy's own there.
    pub fn before(&self, call: &Call, form: &str, ask: impl Fn(&str) -> Result<String>) -> Result<Verdict> {
        if call.service != "ec2" && call.service != "elasticloadbalancing" && call.service != "autoscaling" {
            return Ok(Verdict::Pass(form.to_string()));
        }
        if call.action == "DescribeAccountLimits"
            && let Some(answer) = limits(form, lock(&self.0).scaling_groups.unwrap_or(500))
        {
            return Ok(Verdict::Answer(answer));
        }
        if let Some(id) = self.hidden(call, form) {
            let message = format!("The ID '{id}' does not exist");
            return Ok(Verdict::Refuse(400, "InvalidResourceID.NotFound", message));
        }
        let key =
            (call.region.clone(), call.action.clone(), field(form, "ClientToken").unwrap_or_default().to_string());
        if !key.2.is_empty()
            && let Some(answer) = lock(&self.0).tokens.get(&key)
        {
            return Ok(Verdict::Answer(answer.clone()));
        }
        if let Some(to) = routed(call, form, &ask)? {
            let message = format!("The route identified by {to} already exists.");
            return Ok(Verdict::Refuse(400, "RouteAlreadyExists", message));
        }
        if let Some((what, code)) = unique(call, form)
            && lock(&self.0).taken.contains(&what)
        {
            return Ok(Verdict::Refuse(400, code, format!("{what} exists already")));
        }
        Ok(Verdict::Pass(self.with_addresses(call, form, ask)?))
    }

    /// After moto has answered with 200.
    pub fn after(&self, call: &Call, form: &str, body: &str) {
        let mut state = lock(&self.0);
        if let Some(token) = field(form, "ClientToken") {
            let key = (call.region.clone(), call.action.clone(), token.to_string());
            state.tokens.insert(key, body.to_string());
        }
        state.taken.extend(unique(call, form).map(|(what, _)| what));
        if let Some(calls) = state.hiding.get(&call.action).copied()
            && let Some(id) = made(body)
        {
            state.hidden.insert(id, calls);
        }
    }

    /// A hidden id that a call names. Creating tags is a reference as any other.
    fn hidden(&self, call: &Call, form: &str) -> Option<String> {
        let mut state = lock(&self.0);
        let listed = call.action.starts_with("Describe") && !form.contains("Id.1=");
        let named = state.hidden.iter_mut().find(|(id, left)| **left > 0 && !listed && form.contains(id.as_str()))?;
        *named.1 -= 1;
        Some(named.0.clone())
    }

    /// A list without what is hidden.
    pub fn without_hidden(&self, call: &Call, body: String) -> Result<String> {
        let mut state = lock(&self.0);
        let hides = |(id, left): &(&String, &mut u32)| **left > 0 && body.contains(id.as_str());
        if !call.action.starts_with("Describe") || !state.hidden.iter_mut().any(|pair| hides(&pair)) {
            return Ok(body);
        }
        let document = Document::parse(&body)?;
        let mut cut = Vec::new();
        for (id, left) in state.hidden.iter_mut().filter(|(_, left)| **left > 0) {
            let sets = document.root_element().children().filter(|n| n.tag_name().name().ends_with("Set"));
            let item = sets.flat_map(|set| set.children()).find(|n| body[n.range()].contains(id.as_str()));
            if let Some(item) = item {
                *left -= 1;
                cut.push(item.range());
            }
        }
        cut.sort_by_key(|range| std::cmp::Reverse(range.start));
        let mut body = body.clone();
        cut.into_iter().for_each(|range| body.replace_range(range, ""));
        Ok(body)
    }

    /// Public and private addresses that the caller leaves to EC2.
    fn with_addresses(&self, call: &Call, form: &str, ask: impl Fn(&str) -> Result<String>) -> Result<String> {
        let (subnet, address) = match call.action.as_str() {
            "AllocateAddress" if field(form, "Address").is_none() => {
                let mut state = lock(&self.0);
                state.elastic += 1;
                let last = FIRST_ELASTIC + state.elastic - 1;
                return Ok(format!("{form}&Address={}", Ipv4Addr::new(198, 51, 100, last)));
            }
            "CreateNetworkInterface" => ("SubnetId", "PrivateIpAddress"),
            "RunInstances" if field(form, "SubnetId").is_some() => ("SubnetId", "PrivateIpAddress"),
            "RunInstances" => ("NetworkInterface.1.SubnetId", "NetworkInterface.1.PrivateIpAddress"),
            _ => return Ok(form.to_string()),
        };
        let Some(subnet) = field(form, subnet).filter(|_| field(form, address).is_none()) else {
            return Ok(form.to_string());
        };
        let body = ask(&format!("Action=DescribeSubnets&{VERSION}&SubnetId.1={subnet}"))?;
        let document = Document::parse(&body)?;
        let cidr = document.descendants().find(|n| n.is_called("cidrBlock")).and_then(|n| n.text());
        let cidr: Ipv4Net = cidr.context("the subnet's CIDR")?.parse()?;
        let mut state = lock(&self.0);
        let given = state.subnets.entry(decoded(subnet)).or_default();
        *given += 1;
        let next = Ipv4Addr::from_bits(cidr.network().to_bits() + FIRST_OF_SUBNET + *given - 1);
        Ok(format!("{form}&{address}={next}"))
    }
}

/// An instance's source/destination check is that of its interface; moto has two, and starts the instance's own as on. So the other one
/// follows the one that was switched.
pub fn one_check(call: &Call, form: &str, body: &str, ask: impl Fn(&str) -> Result<String>) -> Result<()> {
    let set = |action: &str, id: &str, value: &str| {
        let id =
            format!("{}={id}", if action == "ModifyInstanceAttribute" { "InstanceId" } else { "NetworkInterfaceId" });
        ask(&format!("Action={action}&{VERSION}&{id}&SourceDestCheck.Value={value}")).map(drop)
    };
    let of_instance = |id: &str| ask(&format!("Action=DescribeInstances&{VERSION}&InstanceId.1={id}"));
    let of_interface = |id: &str| ask(&format!("Action=DescribeNetworkInterfaces&{VERSION}&NetworkInterfaceId.1={id}"));
    match (call.action.as_str(), field(form, "SourceDestCheck.Value")) {
        ("RunInstances", _) => {
            let Some(interface) = field(form, "NetworkInterface.1.NetworkInterfaceId") else { return Ok(()) };
            let off = of_interface(interface)?.contains("<sourceDestCheck>false</sourceDestCheck>");
            made(body).filter(|_| off).map_or(Ok(()), |id| set("ModifyInstanceAttribute", &id, "false"))
        }
        ("ModifyInstanceAttribute", Some(value)) => {
            let Some(instance) = field(form, "InstanceId") else { return Ok(()) };
            let interface = first(&of_instance(instance)?, "networkInterfaceId")?;
            interface.map_or(Ok(()), |id| set("ModifyNetworkInterfaceAttribute", &id, value))
        }
        ("ModifyNetworkInterfaceAttribute", Some(value)) => {
            let Some(interface) = field(form, "NetworkInterfaceId") else { return Ok(()) };
            let instance = first(&of_interface(interface)?, "instanceId")?;
            instance.map_or(Ok(()), |id| set("ModifyInstanceAttribute", &id, value))
        }
        _ => Ok(()),
    }
}

/// The text of the first element of that name, if there is one with a text.
fn first(body: &str, name: &str) -> Result<Option<String>> {
    let document = Document::parse(body)?;
    let mut all = document.descendants().filter(|n| n.is_called(name));
    Ok(all.find_map(|n| n.text()).map(str::to_string))
}

/// The destination of a new route to an interface, if the table has a route there: moto looks only where the target is another.
fn routed(call: &Call, form: &str, ask: impl Fn(&str) -> Result<String>) -> Result<Option<String>> {
    let value = |name: &str| field(form, name).filter(|_| call.action == "CreateRoute");
    let (Some(table), Some(to), Some(_)) =
        (value("RouteTableId"), value("DestinationCidrBlock"), value("NetworkInterfaceId"))
    else {
        return Ok(None);
    };
    let to = decoded(to);
    let body = ask(&format!("Action=DescribeRouteTables&{VERSION}&RouteTableId.1={table}"))?;
    let document = Document::parse(&body)?;
    let mut routes = document.descendants().filter(|n| n.is_called("destinationCidrBlock"));
    Ok(routes.any(|n| n.text() == Some(&to)).then_some(to))
}

/// Route 53's servers have a change some time after it was made; moto's have it at once.
pub fn not_yet(call: &Call, body: String) -> String {
    if call.action == "ChangeResourceRecordSets" { body.replace(">INSYNC<", ">PENDING<") } else { body }
}

/// The answer of DescribeAccountLimits of a service whose limits moto does not know: Auto Scaling, and classic load balancers.
fn limits(form: &str, scaling_groups: u32) -> Option<String> {
    let (service, limits) = match field(form, "Version")? {
        "2011-01-01" => (
            "autoscaling.amazonaws.com/doc/2011-01-01",
            format!("<MaxNumberOfAutoScalingGroups>{scaling_groups}</MaxNumberOfAutoScalingGroups>"),
        ),
        "2012-06-01" => (
            "elasticloadbalancing.amazonaws.com/doc/2012-06-01",
            "<Limits><member><Name>classic-load-balancers</Name><Max>20</Max></member></Limits>".to_string(),
        ),
        _ => return None,
    };
    let action = "DescribeAccountLimits";
    Some(format!(
        "<{action}Response xmlns=\"http://{service}/\"><{action}Result>{limits}</{action}Result></{action}Response>"
    ))
}

/// What a call makes that can be there once, and what AWS says when it is.
fn unique(call: &Call, form: &str) -> Option<(String, &'static str)> {
    let value = |name: &str| field(form, name).map(decoded);
    let region = &call.region;
    match (call.service.as_str(), call.action.as_str()) {
        ("autoscaling", "CreateAutoScalingGroup") => {
            Some((format!("{region} group {}", value("AutoScalingGroupName")?), "AlreadyExists"))
        }
        ("elasticloadbalancing", "CreateLoadBalancer") => {
            let name = value("Name").or_else(|| value("LoadBalancerName"))?;
            Some((format!("{region} load balancer {name}"), "DuplicateLoadBalancerName"))
        }
        ("elasticloadbalancing", "CreateListener") => {
            let listener = format!("{region} listener {} {}", value("LoadBalancerArn")?, value("Port")?);
            Some((listener, "DuplicateListener"))
        }
        ("ec2", "AssociateRouteTable") => {
            Some((format!("{region} association of {}", value("SubnetId")?), "Resource.AlreadyAssociated"))
        }
        ("ec2", "AttachInternetGateway") => {
            Some((format!("{region} internet gateway of {}", value("VpcId")?), "Resource.AlreadyAssociated"))
        }
        _ => None,
    }
}

/// The id of what an answer of EC2 has made: the first `…Id` of the resource.
fn made(body: &str) -> Option<String> {
    let document = Document::parse(body).ok()?;
    let ids = ["vpcId", "subnetId", "groupId", "routeTableId", "internetGatewayId", "networkInterfaceId", "instanceId"];
    let root = document.root_element();
    let own = |n: &roxmltree::Node| ids.contains(&n.tag_name().name()) && n.text().is_some_and(|t| t.contains('-'));
    let name = root.tag_name().name();
    // A subnet's answer has its VPC's id, too: the resource's own is the one that the operation is named after.
    let wanted = ids.iter().find(|id| name.to_lowercase().contains(&id.trim_end_matches("Id").to_lowercase()));
    let node = match wanted {
        Some(wanted) => document.descendants().find(|n| n.is_called(wanted)),
        None => document.descendants().find(own),
    };
    node.and_then(|n| n.text()).map(str::to_string)
}

//! Checks of what is around the own interface in the VPC: security groups, the network ACL, and the subnets that lead here.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{
    cloud,
    examined::Examined,
    surroundings::{Subnet, Surroundings},
    tunnels::with_tunnels,
    verdict::{Matter, Verdict, failure, few, unasked, warning},
};
use crate::{
    model::{AskError, Carries, May, Mode, NetworkAcl, OwnInterface, SecurityGroups, SubnetId, Way},
    settings::Settings,
};

/// IKE, and IKE with ESP inside UDP.
const IKE: [Carries; 2] = [Carries::Udp(500), Carries::Udp(4500)];
/// Samples of what hosts send: a rule for one protocol alone does not fit all of them.
const HOSTS: [Carries; 3] = [Carries::Tcp(443), Carries::Udp(53), Carries::Icmp(8)];
/// The first and the last port that Linux sends from by default (`net.ipv4.ip_local_port_range`), to which answers come.
const EPHEMERAL: [Carries; 2] = [Carries::Tcp(32_768), Carries::Tcp(60_999)];
/// An address on the internet.
const INTERNET: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);

const SUBNETS: &str = "the VPC's subnets and route tables";

/// What EC2 shows around the own interface, and which that is.
pub(super) fn around(x: &Examined) -> Result<(&Surroundings, &OwnInterface), Matter> {
    let own = cloud::own(x)?;
    let wanted = "EC2 shows the first interface of this instance";
    let own = own.interface.as_ref().ok_or_else(|| unasked("EC2's answer has none", wanted, "crosswan doctor"))?;
    Ok((x.around.as_ref().ok_or(Matter::Blocked("settings"))?, own))
}

/// One part of it. The statement that allows it is not needed by any refresh, so a role without it is no failure.
pub(super) fn part<'a, T>(asked: &'a Result<T, AskError>, what: &str) -> Result<&'a T, Matter> {
    asked.as_ref().map_err(|why| match why {
        // Passes need this one, too.
        AskError::Denied { permission, .. } if permission.contains("RouteTables") => {
            Matter::Blocked("route-tables-tagged")
        }
        AskError::Denied { permission, .. } => Matter::Absent(format!(
            "the role does not allow {permission}, which is in the statement LookAround of docs/iam"
        )),
        why => unasked(why.to_string(), format!("EC2 describes {what}"), "crosswan doctor, once EC2 answers"),
    })
}

/// Which parts of it the role does not allow to ask for.
pub(super) fn not_allowed(x: &Examined) -> Vec<&'static str> {
    fn denied<T>(asked: &Result<T, AskError>) -> bool {
        matches!(asked, Err(AskError::Denied { .. }))
    }
    let Some(around) = &x.around else { return vec![] };
    let parts = [
        ("security groups", denied(&around.groups)),
        ("network ACLs", denied(&around.acl)),
        ("subnets", denied(&around.subnets)),
    ];
    parts.into_iter().filter(|(_, denied)| *denied).map(|(what, _)| what).collect()
}

/// The public addresses of the peers that the last refresh found.
fn peers(x: &Examined) -> BTreeSet<Ipv4Addr> {
    x.last_report().iter().flat_map(|report| report.tunnels.values()).map(|tunnel| tunnel.remote).collect()
}

/// The subnets with a route to this gateway.
fn leading_here<'a>(
    x: &Examined,
    around: &'a Surroundings,
    own: &OwnInterface,
) -> Result<Vec<(&'a SubnetId, &'a Subnet)>, Matter> {
    let me = x.me.as_ref().map_err(|_| Matter::Blocked("imds"))?;
    let subnets = part(&around.subnets, SUBNETS).map_err(|why| match why {
        why @ Matter::Absent(_) => why,
        _ => Matter::Blocked("subnet-unrouted"),
    })?;
    let leading: Vec<_> = subnets.iter().filter(|(_, subnet)| subnet.leads_to(me, &own.id)).collect();
    if leading.is_empty() {
        return Err(Matter::Absent("no subnet of this VPC has a route to this gateway".into()));
    }
    Ok(leading)
}

/// An address of a host in a network: EC2 keeps the first four for itself.
fn host(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(net.network().to_bits().saturating_add(4))
}

fn nats(settings: &Settings) -> bool {
    settings.masquerade && settings.mode != Mode::VpnHub
}

/// The command that lets these packets of these networks pass in the first group.
fn authorize(x: &Examined, groups: &SecurityGroups, way: Way, nets: &[Ipv4Net], ports: &[u16]) -> String {
    let ranges: Vec<String> = nets.iter().take(20).map(|net| format!("{{CidrIp={net}}}")).collect();
    let ranges = format!("IpRanges=[{}]", ranges.join(","));
    let permissions: Vec<String> = match ports {
        [] => vec![format!("'IpProtocol=-1,{ranges}'")],
        ports => ports.iter().map(|p| format!("'IpProtocol=udp,FromPort={p},ToPort={p},{ranges}'")).collect(),
    };
    let way = if way == Way::In { "ingress" } else { "egress" };
    let (region, group) = (region(x), groups.ids.first().map_or("GROUP", String::as_str));
    format!(
        "aws ec2 authorize-security-group-{way} --region {region} --group-id {group} --ip-permissions {}",
        permissions.join(" ")
    )
}

fn region(x: &Examined) -> &str {
    x.known_as().map_or("REGION", |me| me.region.as_str())
}

pub(super) fn security_group_ike(x: &Examined) -> Verdict {
    with_tunnels(x)?;
    let (around, _) = around(x)?;
    let groups = part(&around.groups, "the interface's security groups")?;
    let (peers, ids) = (peers(x), groups.ids.join(", "));
    if peers.is_empty() {
        return Err(Matter::Absent("no refresh has found a peer".into()));
    }
    for (way, word) in [(Way::Out, "to"), (Way::In, "from")] {
        let passes = |peer: &&Ipv4Addr| IKE.iter().all(|ike| groups.let_pass(way, **peer, *ike) != May::Not);
        let stopped: Vec<Ipv4Addr> = peers.iter().filter(|peer| !passes(peer)).copied().collect();
        if stopped.is_empty() {
            continue;
        }
        let nets: Vec<Ipv4Net> = stopped.iter().copied().map(Ipv4Net::from).collect();
        let found = format!("{ids}: not both of UDP 500 and 4500 {word} {}", few(&stopped));
        let (wanted, remedy) = ("both, for every peer", authorize(x, groups, way, &nets, &[500, 4500]));
        // A spoke initiates its tunnels, and the hub's packets are answers. Only after the hub's own restart the hub does.
        let answers = way == Way::In && x.mode() != Some(Mode::VpnHub);
        return Err(if answers { warning(found, wanted, remedy) } else { failure(found, wanted, remedy) });
    }
    Ok(format!("{ids}: UDP 500 and 4500 pass both ways"))
}

pub(super) fn security_group_private(x: &Examined) -> Verdict {
    let settings = x.settings.as_ref().map_err(|_| Matter::Blocked("settings"))?;
    let (around, own) = around(x)?;
    let groups = part(&around.groups, "the interface's security groups")?;
    let leading = leading_here(x, around, own)?;
    let ids = groups.ids.join(", ");
    // Hosts are served by what comes in. What comes out of a tunnel goes to them, and what NAT serves goes to the internet.
    let hosts = |way| {
        leading.iter().map(move |(id, subnet)| (way, subnet.net, host(subnet.net), format!("{id} ({})", subnet.net)))
    };
    let out = hosts(Way::Out).filter(|_| settings.mode.has_ipsec());
    let internet = nats(settings).then(|| (Way::Out, Ipv4Net::default(), INTERNET, "the internet".to_owned()));
    let mut partly = None;
    for (way, net, far, name) in hosts(Way::In).chain(out).chain(internet) {
        let word = if way == Way::In { "from" } else { "to" };
        let stopped: Vec<Carries> =
            HOSTS.into_iter().filter(|carries| groups.let_pass(way, far, *carries) == May::Not).collect();
        // The whole CIDR of the VPC, as other subnets of it may be led here one day.
        let cidr = x.me.iter().flat_map(|me| &me.cidrs).find(|cidr| cidr.contains(&net)).copied().unwrap_or(net);
        let trouble = |found| (found, format!("everything {word} {cidr}"), authorize(x, groups, way, &[cidr], &[]));
        if stopped.len() == HOSTS.len() {
            let (found, wanted, remedy) = trouble(format!("{ids}: nothing passes {word} {name}"));
            return Err(failure(found, wanted, remedy));
        } else if let Some(first) = stopped.first() {
            partly = partly
                .or_else(|| Some(trouble(format!("{ids}: not everything passes {word} {name}: {first} does not"))));
        }
    }
    match partly {
        Some((found, wanted, remedy)) => Err(warning(found, wanted, remedy)),
        None => {
            Ok(format!("{ids}: the hosts of {} are let in", few(&leading.iter().map(|(id, _)| id).collect::<Vec<_>>())))
        }
    }
}

pub(super) fn nacl(x: &Examined) -> Verdict {
    let settings = x.settings.as_ref().map_err(|_| Matter::Blocked("settings"))?;
    let (around, own) = around(x)?;
    let acl = part(&around.acl, "the subnet's network ACL")?;
    let mut needed: Vec<(Way, Ipv4Net, Ipv4Addr, Carries)> = Vec::new();
    let mut need = |way, net: Ipv4Net, far, all: &[Carries]| needed.extend(all.iter().map(|c| (way, net, far, *c)));
    if settings.mode.has_ipsec() {
        for peer in peers(x) {
            [Way::In, Way::Out].into_iter().for_each(|way| need(way, peer.into(), peer, &IKE));
        }
    }
    // An ACL is at the border of its subnet, and it knows no connections: answers need entries as well.
    let leading = match leading_here(x, around, own) {
        Ok(leading) => leading,
        Err(Matter::Absent(_)) => Vec::new(),
        Err(why) => return Err(why),
    };
    for (_, subnet) in leading.iter().filter(|(id, _)| **id != own.subnet) {
        let far = host(subnet.net);
        need(Way::In, subnet.net, far, &HOSTS[..1]);
        need(Way::Out, subnet.net, far, &EPHEMERAL);
        if settings.mode.has_ipsec() {
            need(Way::Out, subnet.net, far, &HOSTS[..1]);
            need(Way::In, subnet.net, far, &EPHEMERAL);
        }
    }
    if nats(settings) {
        need(Way::Out, Ipv4Net::default(), INTERNET, &HOSTS[..1]);
        need(Way::In, Ipv4Net::default(), INTERNET, &EPHEMERAL);
    }
    let denied = needed.iter().find_map(|(way, net, far, carries)| {
        acl.denied(*way, *far, *carries).map(|number| denial(x, acl, *way, *net, *carries, number))
    });
    denied.map_or_else(|| Ok(format!("{}: nothing that this gateway needs is denied", acl.id)), Err)
}

/// What an entry of the ACL denies.
fn denial(x: &Examined, acl: &NetworkAcl, way: Way, net: Ipv4Net, carries: Carries, number: i32) -> Matter {
    let (word, egress) = if way == Way::In { ("from", "--ingress") } else { ("to", "--egress") };
    let (protocol, range) = match carries {
        Carries::Tcp(_) if EPHEMERAL.contains(&carries) => ("tcp", "--port-range From=1024,To=65535".to_owned()),
        Carries::Tcp(port) => ("tcp", format!("--port-range From={port},To={port}")),
        Carries::Udp(port) => ("udp", format!("--port-range From={port},To={port}")),
        Carries::Icmp(_) => ("icmp", "--icmp-type-code Type=-1,Code=-1".to_owned()),
    };
    let (region, id) = (region(x), &acl.id);
    let remedy = match acl.free_before(way, number) {
        Some(free) => format!(
            "aws ec2 create-network-acl-entry --region {region} --network-acl-id {id} {egress} --rule-number {free} \
             --protocol {protocol} {range} --cidr-block {net} --rule-action allow"
        ),
        None => format!(
            "aws ec2 delete-network-acl-entry --region {region} --network-acl-id {id} {egress} --rule-number {number}"
        ),
    };
    failure(format!("{id}: entry {number} denies {carries} {word} {net}"), "it passes", remedy)
}

pub(super) fn subnet_unrouted(x: &Examined) -> Verdict {
    let settings = x.settings.as_ref().map_err(|_| Matter::Blocked("settings"))?;
    let (around, own) = around(x)?;
    let subnets = part(&around.subnets, SUBNETS)?;
    if !subnets.values().any(|subnet| subnet.tagged) {
        return Err(Matter::Absent("no table of this VPC has the tag: its routes are an operator's".into()));
    }
    for to in settings.destinations() {
        let default = to == Ipv4Net::default();
        let leads = |subnet: &Subnet| {
            subnet
                .routes
                .iter()
                .any(|(net, route)| !route.blackhole && net.contains(&to) && (default || net.prefix_len() > 0))
        };
        let without: Vec<_> = subnets
            .iter()
            .filter(|(id, subnet)| !(subnet.tagged || leads(subnet) || (default && **id == own.subnet)))
            .collect();
        if let Some((_, first)) = without.first() {
            let names: Vec<String> = without.iter().map(|(id, subnet)| format!("{id} ({})", subnet.table)).collect();
            let tag = &settings.routes_tag;
            let remedy = format!(
                "aws ec2 create-tags --region {} --resources {} --tags 'Key={},Value={}' && crosswan refresh",
                region(x),
                first.table,
                tag.key,
                tag.value
            );
            let found = format!("{to} leads nowhere from {}: its route table has no such tag", few(&names));
            return Err(warning(found, "a route to this gateway", remedy));
        }
    }
    Ok("every subnet has the routes that lead here".into())
}

//! Why one address reaches another, or does not: the way between the two, end by end, as far as this gateway sees it.
//!
//! What only the two ends decide is judged here. What stops every packet is taken from the whole diagnosis, where it fails.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{
    checks::{NOT_AS_PLANNED, UNASKED, WORST_FIRST},
    diagnosis::{Diagnosis, Finding, State, diagnose},
    examined::Examined,
    tunnels::peer,
    verdict::{Matter, Verdict, failure, few},
    vpc,
};
use crate::{
    error::{NOT_IN_FORCE, STOPPED, TUNNEL_DOWN},
    model::{Identity, Mode, Relation, relation},
    report::{Report, TunnelReport, cidrs},
};

/// The checks of the whole diagnosis that are about all packets.
const STOPS_EVERYTHING: [&str; 11] = [
    "uplink",
    "source-dest-check",
    "security-group-private",
    "nacl",
    "ip-forward",
    "rp-filter",
    "conntrack-room",
    "rules-in-force",
    "foreign-rules",
    "interfaces-and-routes",
    "foreign-routes",
];

/// The ids of what is judged at one end.
struct Ids {
    tunnel: &'static str,
    route: &'static str,
    subnet: &'static str,
}
const FROM: Ids = Ids { tunnel: "tunnel-from", route: "route-back", subnet: "subnet-from" };
const TO: Ids = Ids { tunnel: "tunnel-to", route: "route-there", subnet: "subnet-to" };

/// The answer for two addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Where packets come from.
    pub from: Ipv4Addr,
    /// Where they go.
    pub to: Ipv4Addr,
    /// Whether they get there and answers come back, as far as this gateway sees: behind a hub it sees no tunnel of another VPC. `None` if
    /// nothing is known to stop them, and something that would could not be asked.
    pub reaches: Option<bool>,
    /// What this gateway's role does not allow it to look at.
    pub not_looked_at: Vec<&'static str>,
    /// The way, end by end, and what stops packets on it.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
}

/// What one address is to this gateway.
#[derive(Clone, Copy)]
enum End<'a> {
    /// A host of the own VPC.
    Own(Ipv4Net),
    /// Behind this tunnel.
    Peer(&'a String, &'a TunnelReport, Ipv4Net),
    /// In the private network, and no tunnel leads there.
    Nowhere,
    Internet,
}

/// Judges the way from one address to another and back, by one look.
pub fn why(x: &Examined, from: Ipv4Addr, to: Ipv4Addr) -> Answer {
    let mut findings = Vec::new();
    let mut note = |id: &str, code, verdict| findings.push(Finding::of(id.to_owned(), code, verdict));
    match (x.known_as(), x.last_report()) {
        (None, _) => note("from", NOT_AS_PLANNED, Err(Matter::Blocked("imds"))),
        (_, None) => note("from", NOT_AS_PLANNED, Err(Matter::Blocked("last-refresh"))),
        (Some(me), Some(report)) => {
            let ends = [from, to].map(|address| (address, end(me, report, address)));
            for (id, (address, end)) in ["from", "to"].into_iter().zip(ends) {
                note(id, NOT_AS_PLANNED, named(me, report, address, end));
            }
            let way = way(x, report, ends.map(|(_, end)| end));
            let passes_here = way.is_ok();
            note("way", NOT_AS_PLANNED, way);
            if let Some(verdict) = segments(report, ends.map(|(_, end)| end)).filter(|_| passes_here) {
                note("segments", STOPPED, verdict);
            }
            for (ids, (address, end), other) in
                [(FROM, ends[0], to), (TO, ends[1], from)].into_iter().filter(|_| passes_here)
            {
                match end {
                    End::Peer(name, tunnel, _) => {
                        note(ids.tunnel, TUNNEL_DOWN, tunnel_is_up(x, name, tunnel));
                        note(ids.route, NOT_IN_FORCE, kernel_route(x, name, address));
                    }
                    End::Own(_) => note(ids.subnet, STOPPED, vpc_route(x, address, other)),
                    End::Nowhere | End::Internet => {}
                }
            }
        }
    }
    let general = diagnose(x);
    let (stops, fails) = (|f: &Finding| STOPS_EVERYTHING.contains(&&*f.id), |f: &Finding| f.state == State::Failure);
    let judged: Vec<&Finding> = findings.iter().chain(general.checks.iter().filter(|f| stops(f))).collect();
    let stopped = judged.iter().any(|f| fails(f) && f.code != UNASKED);
    let unknown = judged.iter().any(|f| f.because.is_some() || f.code == UNASKED);
    let reaches = if stopped { Some(false) } else { (!unknown).then_some(true) };
    // What fails, and what hides something else by failing: a cause may hang on another one itself.
    let because: BTreeSet<&str> = judged.iter().filter_map(|f| f.because.as_deref()).collect();
    let behind = general.checks.iter().filter(|f| because.contains(&*f.id)).filter_map(|f| f.because.as_deref());
    let causes: BTreeSet<&str> = because.iter().copied().chain(behind).collect();
    let failing = |f: &&Finding| fails(f) && (stops(f) || causes.contains(&*f.id));
    let failing: Vec<Finding> = general.checks.iter().filter(failing).cloned().collect();
    findings.extend(failing);
    let worst = WORST_FIRST.into_iter().find(|code| findings.iter().any(|finding| finding.code == *code));
    let exit_code = if reaches.is_none() { UNASKED } else { worst.unwrap_or(0) };
    let not_looked_at = vpc::not_allowed(x);
    Answer { from, to, reaches, not_looked_at, diagnosis: Diagnosis { exit_code, checks: findings, ..general } }
}

fn end<'a>(me: &Identity, report: &'a Report, address: Ipv4Addr) -> End<'a> {
    if let Some(own) = me.cidrs.iter().find(|cidr| cidr.contains(&address)) {
        return End::Own(*own);
    }
    let used = report.tunnels.iter().filter(|(_, tunnel)| !tunnel.stands_by && !tunnel.by_other_hub);
    let nets = used.flat_map(|(name, tunnel)| tunnel.remote_cidrs.iter().map(move |net| (net, (name, tunnel))));
    match longest(nets, address) {
        Some((net, (name, tunnel))) => End::Peer(name, tunnel, *net),
        None if report.traffic.as_ref().is_some_and(|t| t.private_net.iter().any(|net| net.contains(&address))) => {
            End::Nowhere
        }
        None => End::Internet,
    }
}

/// Of the networks that have this address the one with the longest prefix, which decides in every routing table.
fn longest<'n, T>(all: impl IntoIterator<Item = (&'n Ipv4Net, T)>, address: Ipv4Addr) -> Option<(&'n Ipv4Net, T)> {
    all.into_iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len())
}

/// What an end is, or why nothing leads there.
fn named(me: &Identity, report: &Report, address: Ipv4Addr, end: End) -> Verdict {
    match end {
        End::Own(net) => Ok(format!("{address} is in {net}, of this gateway's own {}", me.vpc)),
        End::Peer(_, tunnel, net) => {
            let hub = if report.mode == Mode::VpnHub { "the other hub" } else { "the hub" };
            let whose = tunnel.vpc.as_ref().map_or(hub.to_owned(), ToString::to_string);
            Ok(format!("{address} is in {net}, behind the tunnel to {whose} ({})", tunnel.remote))
        }
        End::Internet => Ok(format!("{address} is on the internet")),
        End::Nowhere => {
            let wanted = "a tunnel to its VPC";
            if let Some(refusal) = report.refused.iter().find(|r| r.cidr.is_some_and(|net| net.contains(&address))) {
                let found = format!("{address} is in a network that is refused: {refusal}");
                return Err(failure(found, wanted, "crosswan status"));
            }
            let left_out: Vec<String> =
                report.refused.iter().filter(|refusal| refusal.cidr.is_none()).map(ToString::to_string).collect();
            let why = if left_out.is_empty() {
                "no gateway of its VPC was found".to_owned()
            } else {
                format!("left out are {}", few(&left_out))
            };
            let remedy = "crosswan refresh; crosswan doctor on the gateway of that VPC";
            Err(failure(format!("no tunnel leads to {address}: {why}"), wanted, remedy))
        }
    }
}

/// Whether this gateway is between the two, and lets such packets pass.
fn way(x: &Examined, report: &Report, [from, to]: [End; 2]) -> Verdict {
    let elsewhere = |found: &str, wanted: &str, remedy: &str| Err(failure(found, wanted, remedy));
    match (from, to) {
        (End::Nowhere, _) | (_, End::Nowhere) => Err(Matter::Absent("one end is not known".into())),
        (End::Own(_), End::Own(_)) => Err(Matter::Absent("the VPC itself forwards between its own networks".into())),
        (End::Peer(one, ..), End::Peer(other, ..)) if one == other => elsewhere(
            "both are behind the same tunnel: such packets do not come here",
            "one end at this gateway",
            "crosswan why, on the gateway of either VPC or on the hub",
        ),
        (End::Peer(..), End::Peer(..)) if report.mode == Mode::VpnHub => Ok("from tunnel to tunnel".into()),
        (End::Own(_), End::Peer(..)) => Ok("into the tunnel".into()),
        (End::Peer(..), End::Own(_)) => Ok("out of the tunnel".into()),
        (End::Own(_), End::Internet) if report.traffic.as_ref().is_some_and(|traffic| traffic.masquerade) => {
            let address = x.known_as().and_then(|me| me.public).map_or(String::new(), |public| format!(" as {public}"));
            Ok(format!("masqueraded{address}"))
        }
        (End::Own(_), End::Internet) => elsewhere(
            "this gateway does not masquerade",
            "a gateway with NAT for the internet",
            "the VPC's nat-hub or nat-vpn",
        ),
        (End::Internet, _) => elsewhere(
            "from the internet nothing is let in but answers",
            "a connection that the private host begins",
            "crosswan why, with the addresses the other way round",
        ),
        _ => elsewhere(
            "nothing from a tunnel goes to the internet here",
            "the internet by the VPC's own gateway",
            "crosswan why, on the gateway of that VPC",
        ),
    }
}

/// Whether the segment of one end may begin connections to that of the other; `None` where there are no segments, or one end has none to
/// be judged by.
fn segments(report: &Report, [from, to]: [End; 2]) -> Option<Verdict> {
    let segments = report.segments.as_ref()?;
    let of = |end| match end {
        End::Own(_) => Some((report.me.vpc.to_string(), &segments.own)),
        End::Peer(name, tunnel, _) => {
            let whose = tunnel.vpc.as_ref().map_or_else(|| name.clone(), ToString::to_string);
            Some((whose, tunnel.segment.as_ref()?))
        }
        End::Nowhere | End::Internet => None,
    };
    let (from, to) = (of(from)?, of(to)?);
    let wanted = "segments that reach each other";
    for (whose, member) in [&from, &to] {
        if member.segment.is_none() {
            let why = member.why.as_deref().unwrap_or("is in no segment and reaches nobody");
            return Some(Err(failure(format!("{whose} {why}"), wanted, "crosswan refresh, after the tag is right")));
        }
    }
    let (one, other) = (from.1.segment.as_ref()?, to.1.segment.as_ref()?);
    let hosts = format!("from {one} ({}) to {other} ({})", from.0, to.0);
    let back = relation(&segments.reach, other, one);
    let add = format!("add \"{other}\" to the list of {one} in [segments] of this hub, then crosswan refresh");
    Some(match (relation(&segments.reach, one, other), back) {
        (Relation::Initiate, _) if one == other => Ok(format!("both are in segment {one}")),
        (Relation::Initiate, Relation::Initiate) => Ok(format!("{hosts}: each may initiate to the other")),
        (Relation::Initiate, _) => Ok(format!("{hosts}: {one} may initiate, and {other} may only answer")),
        (Relation::Answer, _) => {
            Err(failure(format!("{hosts}: {one} may only answer what {other} has initiated"), wanted, &add))
        }
        (Relation::Nothing, _) => Err(failure(format!("{hosts}: neither may initiate to the other"), wanted, &add)),
    })
}

fn tunnel_is_up(x: &Examined, name: &String, tunnel: &TunnelReport) -> Verdict {
    let charon = x.charon.as_ref().map_err(|_| Matter::Blocked("charon"))?;
    peer(x, charon, &[(name, tunnel)]).map(|found| format!("{found}, {}", cidrs(&tunnel.remote_cidrs)))
}

/// Whether the kernel leads packets for an address into the interface that its tunnel uses.
fn kernel_route(x: &Examined, name: &String, address: Ipv4Addr) -> Verdict {
    let lead = x.routing.as_ref().map_err(|_| Matter::Blocked("interfaces-and-routes"))?;
    let charon = x.charon.as_ref().map_err(|_| Matter::Blocked("charon"))?;
    let wanted = "a route into the tunnel";
    let Some((net, via)) = longest(&lead.own.routes, address) else {
        return Err(failure(format!("no route to {address}"), wanted, "crosswan refresh"));
    };
    let children = charon.sas.iter().filter(|sa| sa.conn == *name).flat_map(|sa| &sa.children);
    let places: Vec<_> = children.filter(|child| child.is_up()).filter_map(|child| child.place()).collect();
    let leads = format!("{net} leads to {}", via.place.interface());
    // Without a child the tunnel is down, which is told by its own line.
    if places.is_empty() || places.contains(&via.place) {
        return Ok(leads);
    }
    Err(failure(format!("{leads}, and the tunnel is in another interface"), wanted, "crosswan refresh"))
}

/// Whether the table of a host's subnet leads packets for the other end here.
fn vpc_route(x: &Examined, host: Ipv4Addr, other: Ipv4Addr) -> Verdict {
    let (around, own) = vpc::around(x)?;
    let me = x.me.as_ref().map_err(|_| Matter::Blocked("imds"))?;
    let subnets = vpc::part(&around.subnets, "the VPC's subnets and route tables")?;
    let Some((id, subnet)) = subnets.iter().find(|(_, subnet)| subnet.net.contains(&host)) else {
        return Err(failure(format!("no subnet of this VPC has {host}"), "a subnet", "look at the address"));
    };
    let at = format!("{id}, whose table is {}", subnet.table);
    let (found, remedy) = match longest(&subnet.routes, other) {
        Some((net, route)) if route.blackhole => {
            (format!("{net} leads to nothing that lives from {at}"), "crosswan refresh")
        }
        Some((net, route)) if route.target.is(&me.instance, Some(&own.id)) => {
            return Ok(format!("{net} leads here from {at}"));
        }
        Some((net, route)) => (format!("{net} leads to {} from {at}", route.target), "crosswan doctor"),
        None => (format!("{other} leads nowhere from {at}"), "crosswan doctor"),
    };
    Err(failure(found, "a route to this gateway", remedy))
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnosis.lines(f)?;
        let Answer { from, to, .. } = self;
        match self.reaches {
            Some(true) if self.not_looked_at.is_empty() => {
                write!(f, "{from} reaches {to}, as far as this gateway sees")
            }
            Some(true) => write!(
                f,
                "{from} reaches {to}, as far as could be looked: the role of this gateway does not let it see {} (LookAround in docs/iam)",
                self.not_looked_at.join(", ")
            ),
            Some(false) => write!(f, "{from} does not reach {to}"),
            None => write!(f, "whether {from} reaches {to} is not known: something could not be asked"),
        }
    }
}

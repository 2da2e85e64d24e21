//! The routes of the own VPC that lead to this gateway, or should: in the route tables that carry the tag, and in no other.
//!
//! A gateway takes a route once it has worked. What leads elsewhere and lives is another's, and stays, unless it led here before. Of two
//! gateways of the same mode the newer one has the route: the older one never takes it back, so that two that work do not take it from
//! each other at every pass. Of a pair whose members have heard each other the one that has it keeps it, and one that leads nowhere is its
//! owner's, if that one boots just now.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{
    beside::waits_beside,
    met::met,
    third::Waits,
    zones::{Owner, Two},
};
use crate::{
    model::{
        ConnName, InstanceId, InterfaceId, Mode, OwnInterface, OwnVpc, RouteTable, RouteTableId, RouteTarget, Tunnel,
    },
    observed::Observed,
    settings::Settings,
    state::HeldRoute,
    system::Sa,
};

/// What becomes of the routes, by their tables and destinations.
#[derive(Debug, Clone, Default)]
pub struct VpcRoutes {
    /// The routes that this gateway should take.
    pub take: Vec<TakeRoute>,
    /// How the others are.
    pub are: BTreeMap<(RouteTableId, Ipv4Net), RouteIs>,
    /// The member of the pair that each table belongs to; empty where there are no two.
    pub owners: BTreeMap<RouteTableId, Owner>,
    /// Those that lead nowhere and are left to their owner for now, or to a gateway of which it is not known yet whether it is the other
    /// member of the pair, a line each. Another pass has to follow soon.
    pub left: Vec<String>,
    /// What to remember of them.
    pub held: BTreeMap<RouteTableId, BTreeMap<Ipv4Net, HeldRoute>>,
}

/// A route that this gateway should take. `Display` is what an operator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeRoute {
    /// The route table.
    pub table: RouteTableId,
    /// The destination.
    pub to: Ipv4Net,
    /// The own interface, to which it will lead.
    pub interface: InterfaceId,
    /// Whether the table has such a route now.
    pub exists: bool,
    /// What must be seen before.
    pub needs: Needs,
    /// A phrase: how the route was.
    pub was: String,
}

/// What must be seen to work before a route is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The rules, which are read back before any conclusion.
    Rules,
    /// A tunnel, if there is any peer.
    SomeTunnel,
    /// A tunnel, and that there is one.
    Tunnel,
    /// A tunnel to each peer, because a gateway that works has the route now.
    EveryTunnel,
}

/// How a route is, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteIs {
    /// It leads to this gateway, by EC2's own answer.
    Here,
    /// It leads elsewhere and stays so; a phrase.
    Left(String),
    /// It leads to the other member of the pair, as it may; a phrase.
    Member(String),
    /// This gateway does not take it yet; a phrase says what it waits for.
    Waits(String),
    /// EC2 did not let this gateway take it; why is among what could not be asked.
    Failed,
}

/// The own instance as a route's target.
struct Own<'a> {
    instance: &'a InstanceId,
    interface: &'a OwnInterface,
}

/// What one route asks for.
enum Judgement {
    Here,
    Left(String),
    /// Where it leads, and whether this gateway would take it if there were no pair.
    Member(String, bool),
    /// How it was, and whether a gateway that works has it.
    Take(String, bool),
}

/// Decides on the routes of the own VPC. Nothing is decided where EC2 has not shown them. `address` says what this gateway waits for
/// before it takes any. A route that leads to the other member of the own pair, which lives, stays there: `crosswan pair` alone moves it.
pub fn vpc_routes(settings: &Settings, observed: &Observed, address: Option<String>) -> VpcRoutes {
    let mut routes = VpcRoutes { held: observed.state.routes.clone(), ..VpcRoutes::default() };
    let (Some(Ok(vpc)), Some(own)) = (&observed.vpc, observed.own_interface()) else { return routes };
    // What is remembered of a table that has lost its tag means nothing any more.
    routes.held.retain(|table, _| vpc.tables.contains_key(table));
    let pair = super::pair::members(settings, observed).ok();
    let met = met(observed, pair.as_ref()).filter(|met| met.counts(observed.now));
    let two = Two::of(settings, observed, vpc, own);
    let beside = waits_beside(settings, observed, vpc, own);
    let own = Own { instance: &observed.me.instance, interface: own };
    let blocked = (!observed.stopped.is_empty()).then(|| "this host stops packets".to_owned()).or(address);
    // Nothing is taken from a pair, nor behind its back: what leads nowhere is theirs.
    let blocked = blocked.or_else(|| beside.as_ref().map(Waits::to_string));
    // The gateway that has the route may serve VPCs there, which this one would cut off without knowing them.
    let silent = observed.answers.iter().find(|(_, answer)| answer.is_err());
    let unsure = silent.map(|(scope, _)| format!("{scope} did not answer"));
    for (id, table) in &vpc.tables {
        let owner = two.as_ref().map(|two| two.owner(table));
        routes.owners.extend(owner.clone().map(|owner| (id.clone(), owner)));
        let leaves = two.as_ref().zip(owner.as_ref()).and_then(|(two, owner)| two.leaves(owner));
        for to in settings.destinations() {
            let private = to != Ipv4Net::default();
            let found = table.routes.get(&to).map(|route| &route.target);
            // By the default route of its own subnet this gateway itself reaches the internet, whatever is in it now.
            let public = table.own || matches!(found, Some(RouteTarget::InternetGateway(_)));
            if matches!(found, Some(RouteTarget::Local)) || (!private && public) {
                continue;
            }
            if let Some(member) =
                beside.iter().flat_map(|waits| waits.beside).find(|member| found.is_some_and(|at| at.is(member, None)))
            {
                routes
                    .are
                    .insert((id.clone(), to), RouteIs::Member(format!("leads to {member}, a member of the pair")));
                routes.held.get_mut(id).and_then(|table| table.remove(&to));
                continue;
            }
            let held = routes.held.get(id).and_then(|table| table.get(&to)).copied();
            let (held, is) = match own.judge(
                vpc,
                table,
                to,
                held,
                (settings.routes_overrule, met.as_ref().map(|met| &met.member)),
            ) {
                Judgement::Here => {
                    let changed = held.map_or(0, |held| held.changed);
                    (Some(HeldRoute { here: true, changed }), Some(RouteIs::Here))
                }
                Judgement::Left(why) => (None, Some(RouteIs::Left(why))),
                Judgement::Member(how, would_take) => {
                    let unsure =
                        met.as_ref().filter(|met| would_take && blocked.is_none() && met.is_expected(observed.now));
                    routes.left.extend(unsure.map(|met| {
                        format!(
                            "{to} of {id} {how}, and {} has not been heard yet: else this gateway takes it",
                            met.member
                        )
                    }));
                    (None, Some(RouteIs::Member(how)))
                }
                Judgement::Take(was, taken_over) => {
                    // What led here goes back here, and what works elsewhere is not its owner's yet either.
                    let left = leaves.as_ref().filter(|_| !taken_over && held.is_none());
                    routes.left.extend(left.map(|why| format!("{to} of {id}: {why}")));
                    let unsure = unsure.as_ref().filter(|_| private && taken_over);
                    let waits = blocked.as_ref().or(unsure).or(left);
                    if waits.is_none() {
                        let (interface, exists) = (own.interface.id.clone(), found.is_some());
                        let needs = Needs::of(settings.mode, private, taken_over);
                        routes.take.push(TakeRoute { table: id.clone(), to, interface, exists, needs, was });
                    }
                    (held.map(HeldRoute::found_elsewhere), waits.cloned().map(RouteIs::Waits))
                }
            };
            routes.are.extend(is.map(|is| ((id.clone(), to), is)));
            let remembered = routes.held.entry(id.clone()).or_default();
            match held {
                Some(held) => drop(remembered.insert(to, held)),
                None => drop(remembered.remove(&to)),
            }
        }
    }
    routes.held.retain(|_, table| !table.is_empty());
    routes
}

impl Own<'_> {
    fn judge(
        &self,
        vpc: &OwnVpc,
        table: &RouteTable,
        to: Ipv4Net,
        held: Option<HeldRoute>,
        (overrule, member): (bool, Option<&InstanceId>),
    ) -> Judgement {
        let changed = |held: HeldRoute| {
            format!("it has been changed {} since it led here", times(held.found_elsewhere().changed))
        };
        let Some(route) = table.routes.get(&to) else {
            let was = held.map_or("there was none".to_owned(), |held| format!("it is gone; {}", changed(held)));
            return Judgement::Take(was, false);
        };
        let target = &route.target;
        if target.is(self.instance, Some(&self.interface.id)) {
            return Judgement::Here;
        }
        if let RouteTarget::Interface { instance, .. } = target {
            let neighbour = instance.as_ref().and_then(|id| Some((id, vpc.neighbours.get(id)?)));
            match neighbour.filter(|(_, neighbour)| neighbour.same_mode) {
                Some((id, neighbour)) if !neighbour.running || route.blackhole => {
                    return Judgement::Take(format!("it led to {id}, which does not run"), false);
                }
                Some((id, neighbour)) => {
                    let older = (neighbour.launched, id) < (self.interface.launched, self.instance);
                    return match (member == Some(id), older) {
                        (true, _) => Judgement::Member(format!("leads to {id}, the other member of the pair"), older),
                        (false, true) => Judgement::Take(format!("it led to {id}, which is older"), true),
                        (false, false) => Judgement::Left(format!("leads to {id}, a newer gateway of this mode")),
                    };
                }
                None => {}
            }
        }
        match held {
            _ if route.blackhole => Judgement::Take(format!("it led to {target}, where nothing is any more"), false),
            Some(held) => Judgement::Take(format!("it leads to {target}; {}", changed(held)), false),
            None if overrule => Judgement::Take(format!("it led to {target}, which routes.overrule gives up"), true),
            None => Judgement::Left(format!("leads to {target}, which is not crosswan's")),
        }
    }
}

fn times(n: u32) -> String {
    match n {
        1 => "once".into(),
        n => format!("{n} times"),
    }
}

impl Needs {
    /// What a route to the private network (`private`), or the default route, needs; `taken_over` if a gateway that works has it.
    fn of(mode: Mode, private: bool, taken_over: bool) -> Needs {
        match mode {
            Mode::VpnHub if taken_over => Needs::EveryTunnel,
            Mode::VpnHub => Needs::SomeTunnel,
            // NAT needs no tunnel; but who takes it from a gateway that works must do all that this one does.
            Mode::NatVpn if private || taken_over => Needs::Tunnel,
            Mode::NatVpn | Mode::NatHub => Needs::Rules,
        }
    }

    /// What is still missing, as a phrase, given the tunnels that were decided on and charon's SAs.
    pub fn missing(self, tunnels: &BTreeMap<ConnName, Tunnel>, sas: &[Sa]) -> Option<String> {
        let up = |(name, tunnel): &(&ConnName, &Tunnel)| {
            let of = || sas.iter().filter(|sa| sa.conn == name.as_str() && sa.is_authenticated());
            let child = |child: &String| of().flat_map(|sa| &sa.children).any(|c| c.name == *child && c.is_up());
            tunnel.children.keys().all(child)
        };
        // That the other hub of the pair is reached says nothing of the far ends.
        let to_far_end =
            |(name, tunnel): &(&ConnName, &Tunnel)| name.other_hub().is_none() && !tunnel.children.is_empty();
        let all = || tunnels.iter().filter(to_far_end);
        let some = || all().any(|tunnel| up(&tunnel));
        match self {
            Needs::Rules => None,
            Needs::SomeTunnel if all().next().is_none() || some() => None,
            Needs::Tunnel if some() => None,
            Needs::SomeTunnel | Needs::Tunnel => Some("no tunnel is up".into()),
            Needs::EveryTunnel => {
                // A gateway that stands by beside one whose tunnel is up is not missed.
                let served: BTreeSet<_> = all().filter(up).map(|(name, _)| name.party()).collect();
                let missed = all().map(|(name, _)| name.party()).find(|party| !served.contains(party))?;
                Some(format!("the tunnel to {missed} is not up, and the gateway that has the route may have it"))
            }
        }
    }
}

impl fmt::Display for TakeRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lead {} of {} to this gateway: {}", self.to, self.table, self.was)
    }
}

#[cfg(test)]
mod tests;

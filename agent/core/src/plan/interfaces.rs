//! The steps for interfaces, policy rules and routes, and those that bring live tunnels to their interfaces.

use std::{borrow::Cow, collections::BTreeMap};

use ipnet::Ipv4Net;

use super::Step;
use crate::{
    model::{ConnName, Place, Realm},
    swanctl::{Summary, place},
    system::{Charon, Configuration, Followed, RoutingChange, System, Via},
};

/// The connections of a configuration by the networks that they reach and their places.
pub(super) type Owners<'a> = BTreeMap<(Ipv4Net, Place), &'a ConnName>;

/// The connection that each route of `configuration` belongs to.
pub(super) fn owners(configuration: &Configuration) -> Owners<'_> {
    let mut owners = Owners::new();
    for (name, tree) in &configuration.connections {
        let Some(place) = place(tree) else { continue };
        let remote = Summary::of(tree).children.into_values().flat_map(|child| child.remote_ts);
        owners.extend(remote.filter_map(|net| Some(((net.parse().ok()?, place), name))));
    }
    owners
}

/// The steps for interfaces, rules and routes: those that add something, and those that take something away.
pub(super) fn routing(target: &Configuration, current: &System, said: &Followed) -> (Vec<Step>, Vec<Step>) {
    // A word that came since this was decided, even in the middle of the pass, goes before it: of a gateway that is to stay.
    let spoken_for = if said.is_empty() { Owners::new() } else { owners(target) };
    let mut wanted = Cow::Borrowed(&target.routing);
    for (net, followee) in said.by_network() {
        if spoken_for.get(&(net, followee.place)) != Some(&&followee.connection) {
            continue;
        }
        if let Some(via) = wanted.to_mut().routes.get_mut(&net) {
            via.place = followee.place;
        }
    }
    let changes = wanted.changes_from(&current.routing);
    if changes.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let owners = owners(target);
    let step = |change: RoutingChange| {
        let peer = match change {
            RoutingChange::SetRoute(net, Via { place, .. }) => owners.get(&(net, place)).copied().cloned(),
            _ => None,
        };
        Step::Route { change, peer }
    };
    changes.into_iter().map(step).partition(|step| !step.takes_away())
}

/// How the realms of routes change beside the rules that tell VPCs apart by them.
#[derive(Debug, Default)]
pub(super) struct Realms {
    /// Whether routes get their realms before rules ask for them: segments are switched on, and until then realms mean nothing.
    pub first: bool,
    /// Where both change, the steps that isolate the VPCs which move: otherwise they would for a moment be where the old rules, or the
    /// new ones, let them reach what is theirs neither before nor after.
    pub isolating: Vec<Step>,
    /// Whether routes are to get realms that they have not got, while a guard stands.
    pub awaited: bool,
}

/// Decides [`Realms`]; `rules` says whether rules change.
pub(super) fn realms(target: &Configuration, current: &System, rules: bool) -> Realms {
    let (want, have) = (target.rules.has_segments(), current.rules.has_segments());
    // Before there are any rules, the guard is what counts.
    if !(rules && want && current.rules.guards()) {
        return Realms::default();
    }
    let moved = target.routing.routes.iter().filter_map(|(net, via)| {
        let now = current.routing.routes.get(net)?;
        (now.realm != via.realm).then_some((*net, *now))
    });
    let moved: Vec<(Ipv4Net, Via)> = moved.collect();
    let isolated = |(net, now): &(Ipv4Net, Via)| {
        let change = RoutingChange::SetRoute(*net, Via { realm: Some(Realm::NOBODY), ..*now });
        Step::Route { change, peer: None }
    };
    let isolating = moved.iter().filter(|(_, now)| have && now.realm != Some(Realm::NOBODY)).map(isolated);
    Realms { first: !have && !moved.is_empty(), isolating: isolating.collect(), awaited: !moved.is_empty() }
}

/// The steps that bring live CHILD_SAs to the interface that they should have.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// The steps that bring them up anew.
    pub renewals: Vec<Step>,
    /// The steps that end the old ones, once routes lead to the new ones.
    pub ends: Vec<Step>,
}

impl Moves {
    pub(super) fn is_empty(&self) -> bool {
        self.renewals.is_empty()
    }
}

/// The moves of this pass: most often none. There are some when the version before this one has no interfaces, or when a gateway
/// gets another place.
pub(super) fn moves(target: &Configuration, charon: &Charon) -> Moves {
    let mut moves = Moves::default();
    for sa in charon.sas.iter().filter(|sa| sa.is_authenticated()) {
        let Some((name, tree)) =
            sa.conn.parse().ok().and_then(|name: ConnName| target.connections.get_key_value(&name))
        else {
            continue;
        };
        let Some(place) = place(tree) else { continue };
        let up = || charon.sas.iter().filter(|s| s.conn == sa.conn).flat_map(|s| &s.children).filter(|c| c.is_up());
        let configured = Summary::of(tree).children;
        for old in
            sa.children.iter().filter(|c| c.is_up() && c.place() != Some(place) && configured.contains_key(&c.name))
        {
            let (connection, child) = (name.clone(), old.name.clone());
            if !up().any(|c| c.name == child && c.place() == Some(place)) {
                let why = "it gets an interface";
                moves.renewals.push(Step::RenewChild { connection, child: child.clone(), old: Vec::new(), why });
            }
            let why = "its interface was another one";
            moves.ends.push(Step::TerminateChild { connection: sa.conn.clone(), child, id: old.id, why });
        }
    }
    moves
}

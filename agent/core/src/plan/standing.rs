//! What stands when peers have failed: their parts as they were before the pass, everyone else's as planned. Pure.
//!
//! The files say what is loaded, and that includes a peer that failed, so that a charon that starts again has it as well: its
//! section is that of the old file, byte for byte, and is parsed back like the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::interfaces::owners;
use crate::{
    error::{Context, Error, Kind, Result},
    model::ConnName,
    swanctl::{Replacement, Summary, Tree, own_keys, splice},
    system::{Configuration, Files, System, Via, secret_id},
};

/// The result of [`standing`].
#[derive(Debug, Default)]
pub struct Standing {
    /// What should be in force, with the texts for the files.
    pub target: Configuration,
    /// Everything that failed: the given connections, and those that must not go ahead without them.
    pub failed: BTreeSet<ConnName>,
    /// Those whose old configuration is not recorded although charon had it loaded: they stay as planned.
    pub unknown: BTreeSet<ConnName>,
}

/// What should be in force when `failed` have failed on the way to `target`, from `before`.
///
/// A peer that was wanted gets back what the files had for it, which may be nothing. A peer that was to go is never loaded
/// again: what has been revoked stays revoked. Its removal, or the loss of its children, is called off only if another
/// connection of the same party ([`ConnName::party`]) was to have the children and failed: what works goes only when its
/// successor works. What is given back is without the children that are no longer wanted, as their CIDRs may now be another
/// VPC's.
///
/// This gateway's old key stays as long as a connection signs with it.
///
/// # Errors
/// The spliced text does not parse.
pub fn standing(target: &Configuration, before: &System, failed: &BTreeSet<ConnName>) -> Result<Standing> {
    let old = Configuration::of(before.files.clone()).unwrap_or_default();
    let going = old.connections.keys().filter(|name| makes_room(name, target, &old, failed));
    let failed: BTreeSet<ConnName> = failed.iter().chain(going).cloned().collect();
    let loaded = |name: &ConnName| before.charon.as_ref().is_some_and(|c| c.connections.contains_key(name.as_str()));
    let (mut connections, mut secrets, mut unknown) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for name in &failed {
        let (was, wanted) = (old.connections.contains_key(name), target.connections.contains_key(name));
        if !was && wanted && loaded(name) {
            unknown.insert(name.clone());
        } else if wanted || makes_room(name, target, &old, &failed) {
            let instead = if was { Replacement::Other } else { Replacement::Nothing };
            connections.insert(name.to_string(), instead);
            secrets.insert(secret_id(name), instead);
        }
    }
    let cannot = || Error::new(Kind::Other, "restore the parts of failed peers");
    let mut had = old.files.connections.clone().unwrap_or_default();
    for (name, children) in lost_children(target, &old, &failed) {
        had = splice(&had, "", &["connections", name.as_str(), "children"], &children).context(cannot)?;
    }
    let spliced = |text: &Option<String>, had: &str, outer, instead| {
        text.as_deref().map(|text| splice(text, had, &[outer], instead)).transpose().context(cannot)
    };
    let had_secrets = old.files.secrets.as_deref().unwrap_or_default();
    let files = Files {
        connections: spliced(&target.files.connections, &had, "connections", &connections)?,
        secrets: spliced(&target.files.secrets, had_secrets, "secrets", &secrets)?,
        routing: target.files.routing.clone(),
        rules: target.files.rules.clone(),
        pair: target.files.pair.clone(),
    };
    let planned = target;
    let mut target =
        Configuration { keys: target.keys.clone(), rules: target.rules.clone(), ..Configuration::of(files)? };
    give_back_routes(&mut target, planned, &old, &failed);
    let signing: BTreeSet<_> = target.connections.values().flat_map(own_keys).collect();
    let kept = before.keys.iter().filter(|key| signing.contains(&key.public));
    let kept: Vec<_> = kept.filter(|key| target.keys.iter().all(|k| k.public != key.public)).cloned().collect();
    target.keys.extend(kept);
    Ok(Standing { target, failed, unknown })
}

/// Routes to the networks of failed connections are as they were; those that are no longer anybody's stay away.
fn give_back_routes(
    standing: &mut Configuration,
    planned: &Configuration,
    old: &Configuration,
    failed: &BTreeSet<ConnName>,
) {
    let (wanted, stand) = (owners(planned), owners(standing));
    let mut routes = BTreeMap::new();
    for (net, via) in &planned.routing.routes {
        let of_failed = wanted.get(&(*net, via.place)).is_some_and(|name| failed.contains(*name));
        // A segment does not wait for a tunnel: whose network it is leads the old way, in the new realm.
        let was = |old: &Via| Via { realm: via.realm, ..*old };
        let stands = if of_failed { old.routing.routes.get(net).map(was) } else { Some(*via) };
        routes.extend(stands.map(|via| (*net, via)));
    }
    for (net, via) in &old.routing.routes {
        if !planned.routing.routes.contains_key(net) && stand.contains_key(&(*net, via.place)) {
            routes.insert(*net, *via);
        }
    }
    standing.routing.routes = routes;
    let head =
        |text: &String| text.lines().take_while(|l| l.starts_with('#')).fold(String::new(), |all, l| all + l + "\n");
    standing.files.routing = planned.files.routing.as_ref().map(|text| head(text) + &standing.routing.to_string());
}

/// By failed connection, the children that it had and that no connection of the same party is to have any longer.
fn lost_children<'a>(
    target: &Configuration,
    old: &'a Configuration,
    failed: &BTreeSet<ConnName>,
) -> Vec<(&'a ConnName, BTreeMap<String, Replacement>)> {
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, tree) in &target.connections {
        wanted.entry(name.party()).or_default().extend(children(tree));
    }
    let lost = |(name, tree): (&'a ConnName, &Tree)| {
        let stays = wanted.get(name.party());
        let gone = children(tree).into_iter().filter(|child| !stays.is_some_and(|stays| stays.contains(child)));
        (name, gone.map(|child| (child, Replacement::Nothing)).collect::<BTreeMap<_, _>>())
    };
    let had = old.connections.iter().filter(|(name, _)| failed.contains(*name)).map(lost);
    had.filter(|(_, gone)| !gone.is_empty()).collect()
}

/// Whether a connection goes, or gives up children, for one of the same party that has failed: it leads to a gateway that was to
/// be replaced, or whose VPC another gateway was to take over.
fn makes_room(name: &ConnName, target: &Configuration, old: &Configuration, failed: &BTreeSet<ConnName>) -> bool {
    let of = |connections: &BTreeMap<ConnName, Tree>, name| connections.get(name).map(children).unwrap_or_default();
    let (had, keeps) = (of(&old.connections, name), of(&target.connections, name));
    let heirs = failed.iter().filter(|f| *f != name && f.party() == name.party());
    heirs.flat_map(|f| of(&target.connections, f)).any(|child| had.contains(&child) && !keeps.contains(&child))
}

fn children(tree: &Tree) -> BTreeSet<String> {
    Summary::of(tree).children.into_keys().collect()
}

#[cfg(test)]
mod tests;

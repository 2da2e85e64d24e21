//! What stands when peers have failed: theirs as it was before the pass, everyone else's as planned. Pure.
//!
//! The files say what is loaded, also of a peer that failed, so that a charon that starts anew has it, too: its section is
//! the old file's, byte for byte, and is parsed back like the rest.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{Current, Target, secret_id};
use crate::{
    error::{Context, Error, Kind, Result},
    model::{ConnName, overlap},
    render::Files,
    swanctl::{Instead, Summary, Tree, own_keys, splice},
};

/// See [`standing`].
#[derive(Debug, Default)]
pub struct Standing {
    pub target: Target,
    /// All that failed: those given, and those that must not go ahead without them.
    pub failed: BTreeSet<ConnName>,
    /// Of these there is no record of what they had, though charon had it loaded: they stay as planned.
    pub unknown: BTreeSet<ConnName>,
}

/// What should be in force when `failed` have failed on the way to `target`, from `before`.
///
/// A peer that was wanted gets back what the files had of it, or nothing if they had nothing. A peer that was to go is
/// never loaded again: what is taken away stays away (removal is revocation). Its removal is called off only if it was
/// to be replaced by another connection to the same place, and that one failed: what works goes only when what follows
/// it works. For the same reason nobody gets a CIDR that a failed peer has kept.
///
/// This gateway's old key stays as long as a connection signs with it. Errors: the spliced text does not parse.
pub fn standing(target: &Target, before: &Current, failed: &BTreeSet<ConnName>) -> Result<Standing> {
    let old = Target::of(before.files.clone()).unwrap_or_default();
    let mut failed = failed.clone();
    loop {
        let more = dragged_along(target, &old, &failed);
        if more.is_empty() {
            break;
        }
        failed.extend(more);
    }
    let loaded = |name: &ConnName| before.charon.as_ref().is_some_and(|c| c.connections.contains_key(name.as_str()));
    let (mut connections, mut secrets, mut unknown) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for name in &failed {
        let (was, wanted) = (old.connections.contains_key(name), target.connections.contains_key(name));
        if !was && wanted && loaded(name) {
            unknown.insert(name.clone());
        } else if wanted || replaced(name, target, &failed) {
            let instead = if was { Instead::Other } else { Instead::Nothing };
            connections.insert(name.to_string(), instead);
            secrets.insert(secret_id(name), instead);
        }
    }
    let spliced = |text: &Option<String>, had: &Option<String>, outer: &str, instead| {
        let had = had.as_deref().unwrap_or_default();
        let spliced = text.as_deref().map(|text| splice(text, had, outer, instead)).transpose();
        spliced.context(|| Error::new(Kind::Other, format!("put back the {outer} of peers that failed")))
    };
    let files = Files {
        connections: spliced(&target.files.connections, &old.files.connections, "connections", &connections)?,
        secrets: spliced(&target.files.secrets, &old.files.secrets, "secrets", &secrets)?,
        rules: target.files.rules.clone(),
    };
    let mut target = Target { keys: target.keys.clone(), rules: target.rules.clone(), ..Target::of(files)? };
    let signing: BTreeSet<_> = target.connections.values().flat_map(own_keys).collect();
    let kept = before.keys.iter().filter(|key| signing.contains(&key.public));
    let kept: Vec<_> = kept.filter(|key| target.keys.iter().all(|k| k.public != key.public)).cloned().collect();
    target.keys.extend(kept);
    Ok(Standing { target, failed, unknown })
}

/// Connections that have not failed and must not go ahead, as others have.
fn dragged_along(target: &Target, old: &Target, failed: &BTreeSet<ConnName>) -> BTreeSet<ConnName> {
    let going = old.connections.keys().filter(|name| !target.connections.contains_key(*name));
    let called_off = going.filter(|name| replaced(name, target, failed));
    // What failed peers keep, and others may be about to get.
    let kept: Vec<(&str, Ipv4Net)> = (failed.iter().filter(|name| target.connections.contains_key(*name)))
        .filter_map(|name| Some((name, old.connections.get(name)?)))
        .flat_map(|(name, tree)| far_side(tree).into_iter().map(move |cidr| (name.party(), cidr)))
        .collect();
    let claiming = target.connections.iter().filter(|(name, tree)| {
        let had = old.connections.get(*name);
        let before = had.map(far_side).unwrap_or_default();
        let taken = |cidr| kept.iter().any(|(holder, held)| *holder != name.party() && overlap(held, cidr));
        !kept.is_empty()
            && **name != ConnName::own()
            && had != Some(*tree)
            && far_side(tree).difference(&before).any(taken)
    });
    // A gateway that stood by and did not come up leaves the VPC to the one in use.
    let gives_up = |name: &ConnName, tree: &Tree| {
        let lost: BTreeSet<Ipv4Net> = old.connections.get(name).map(far_side).unwrap_or_default();
        let lost: BTreeSet<Ipv4Net> = lost.difference(&far_side(tree)).copied().collect();
        let heir = |f: &&ConnName| *f != name && f.party() == name.party();
        let heirs = failed.iter().filter(heir).filter_map(|f| target.connections.get(f));
        heirs.flat_map(far_side).any(|cidr| lost.contains(&cidr))
    };
    let yielding = target.connections.iter().filter(|(name, tree)| gives_up(name, tree)).map(|(name, _)| name);
    called_off
        .chain(claiming.map(|(name, _)| name))
        .chain(yielding)
        .filter(|name| !failed.contains(*name))
        .cloned()
        .collect()
}

/// Whether a connection that goes makes room for one that has failed.
fn replaced(name: &ConnName, target: &Target, failed: &BTreeSet<ConnName>) -> bool {
    !target.connections.contains_key(name)
        && failed.iter().any(|f| f.party() == name.party() && target.connections.contains_key(f))
}

/// The CIDRs behind a connection.
fn far_side(tree: &Tree) -> BTreeSet<Ipv4Net> {
    let children = Summary::of(tree).children.into_values();
    children.flat_map(|child| child.remote_ts).filter_map(|cidr| cidr.parse().ok()).collect()
}

#[cfg(test)]
mod tests;

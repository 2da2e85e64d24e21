//! What stands when peers have failed: theirs as it was before the pass, everyone else's as planned. Pure.
//!
//! The files say what is loaded, also of a peer that failed, so that a charon that starts anew has it, too: its section is
//! the old file's, byte for byte, and is parsed back like the rest.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{Context, Error, Kind, Result},
    model::ConnName,
    swanctl::{Replacement, Summary, Tree, own_keys, splice},
    system::{Configuration, Files, System, secret_id},
};

/// See [`standing`].
#[derive(Debug, Default)]
pub struct Standing {
    pub target: Configuration,
    /// All that failed: those given, and those that must not go ahead without them.
    pub failed: BTreeSet<ConnName>,
    /// Of these there is no record of what they had, though charon had it loaded: they stay as planned.
    pub unknown: BTreeSet<ConnName>,
}

/// What should be in force when `failed` have failed on the way to `target`, from `before`.
///
/// A peer that was wanted gets back what the files had of it, or nothing if they had nothing. A peer that was to go is
/// never loaded again: what is taken away stays away (removal is revocation). Its removal, or the loss of its children, is
/// called off only if another connection to the same place was to have them, and that one failed: what works goes only
/// when what follows it works. What is given back is without the children that are not wanted any more: their CIDRs may be another's.
///
/// This gateway's old key stays as long as a connection signs with it. Errors: the spliced text does not parse.
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
    let cannot = || Error::new(Kind::Other, "put back what peers had that failed");
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
        rules: target.files.rules.clone(),
    };
    let mut target =
        Configuration { keys: target.keys.clone(), rules: target.rules.clone(), ..Configuration::of(files)? };
    let signing: BTreeSet<_> = target.connections.values().flat_map(own_keys).collect();
    let kept = before.keys.iter().filter(|key| signing.contains(&key.public));
    let kept: Vec<_> = kept.filter(|key| target.keys.iter().all(|k| k.public != key.public)).cloned().collect();
    target.keys.extend(kept);
    Ok(Standing { target, failed, unknown })
}

/// Of connections that failed, the children they had and no connection to the same place is to have any more.
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

/// Whether a connection goes, or gives children up, for one to the same place that has failed: a gateway that was replaced, or
/// one whose VPC another gateway was to take over.
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

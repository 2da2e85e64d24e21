//! Which far gateways are followed by their own word, as a file: written by `crosswan pair`, and by a pass that strikes out what no longer
//! counts; read by whoever says how routes should be.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    files::{self, Hold},
    paths::Paths,
};
use crosswan_core::{
    error::Result,
    model::ConnName,
    swanctl::Summary,
    system::{Configuration, Followed, Followee, RoutingChange, Via},
};

/// How long the other writer may hold the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the file says. One that cannot be read says nothing: then routes are as the last pass has decided.
pub(crate) fn read(paths: &Paths) -> Followed {
    files::read_json(&paths.followed).ok().flatten().unwrap_or_default()
}

/// Changes the file by `change`, which returns whether there is a change. Returns the same.
///
/// # Errors
/// It cannot be locked or written.
pub(crate) fn change(paths: &Paths, change: impl FnOnce(&mut Followed) -> bool) -> Result<bool> {
    let _held = files::lock(&paths.followed_lock, Hold::Alone, PATIENCE, "another crosswan")?;
    let mut followed = read(paths);
    let changed = change(&mut followed);
    if changed {
        files::write_json(&paths.followed, &followed, 0o644)?;
    }
    Ok(changed)
}

/// Strikes out what a pass towards `target` no longer lets count, before it changes anything.
///
/// # Errors
/// As [`change`].
pub(crate) fn settle(paths: &Paths, overruled: &BTreeMap<String, u32>, target: &Configuration) -> Result<()> {
    if read(paths).is_empty() {
        return Ok(());
    }
    let networks = |name: &ConnName| {
        let children = Summary::of(target.connections.get(name)?).children.into_values();
        Some(children.flat_map(|child| child.remote_ts).filter_map(|net| net.parse().ok()).collect())
    };
    change(paths, |followed| followed.settle(overruled, networks)).map(drop)
}

/// The change as it is to be made now: a route of `peer`'s party leads where the word says that has come since the change was planned.
pub(crate) fn as_said(paths: &Paths, change: RoutingChange, peer: Option<&ConnName>) -> RoutingChange {
    let RoutingChange::SetRoute(net, via) = change else { return change };
    let followed = read(paths);
    let theirs = |followee: &&Followee| peer.is_none_or(|peer| peer.party() == followee.connection.party());
    match followed.behind(&net).filter(theirs) {
        Some(followee) => RoutingChange::SetRoute(net, Via { place: followee.place, ..via }),
        None => change,
    }
}

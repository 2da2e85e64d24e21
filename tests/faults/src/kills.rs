//! The agent is killed at every step of an apply: no file is half written, and one more pass repairs everything.

use anyhow::{Context, Result, ensure};
use crosswan_lab::Gateway;

use crate::{
    look::Snapshot,
    peer::{At, Peer},
    region::{Region, refresh, show},
    strace::{kill_at, record},
};

/// The passes in which it is killed: a peer comes, moves, and goes.
pub const PASSES: [(&str, At, At); 3] =
    [("add", At::Nowhere, At::First), ("move", At::First, At::Second), ("remove", At::First, At::Nowhere)];

/// Kills the hub's agent once before every `stride`th call of such a pass that changes something; the number of kills.
///
/// No `keep` may run on the hub or the peer: it would initiate at moments of its own, and the plan depends on which SAs
/// there are. `say` gets the progress.
pub fn at_every_step(
    region: &Region,
    hub: &Gateway,
    peer: &Peer,
    (what, from, to): (&str, At, At),
    stride: usize,
    say: &mut dyn FnMut(&str),
) -> Result<u32> {
    // A pass from `from` to `to` has an SA to end, if there can be one, and rules, an interface and routes to restore.
    let prepare = || -> Result<()> {
        if from == At::First {
            Peer::connect(&region.lab, hub)?;
        }
        hub.run("iptables", &["-t", "nat", "-F", "CROSSWAN-NAT"], "")?.ok()?;
        // What only the peer and the hub itself use.
        hub.sh(
            "ip link del cw2; ip rule del pref 7105 iif lo; ip route add 10.99.0.0/16 dev cw1 table 7105 proto 205",
        )?
        .ok()?;
        peer.tag(&region.lab, to)
    };
    peer.is(region, hub, from)?;
    let start = Snapshot::of(hub)?;
    prepare()?;
    let recorded = record(hub)?;
    let end = Snapshot::of(hub)?;
    ensure!(start != end && !end.unfinished);
    ensure!(recorded.len() >= 20, "{what}: too few steps: {recorded:#?}");
    let (mut kills, all) = (0, recorded.len());
    for (n, point) in recorded.into_iter().enumerate().step_by(stride) {
        say(&format!("{what}: kill {} of {all}, before {}", n + 1, point.line));
        // Wake-ups between threads are writes too, and not always as many: the place may be missed by a call or two.
        // A kill elsewhere must heal just as well.
        let mut hit = false;
        for off in [0, 0, 1, -1, 2, -2] {
            let when = format!("{what}, killed before {} ({off:+})", point.line);
            peer.is(region, hub, from)?;
            Snapshot::of(hub)?.must_be(&start, &format!("back from {when}"))?;
            prepare()?;
            hit = kill_at(hub, &point, off).context(when.clone())?;
            for (path, file) in Snapshot::of(hub)?.files {
                ensure!(file == start.files[path] || file == end.files[path], "{when}: {path} is half written");
            }
            refresh(hub).context(when.clone())?;
            Snapshot::of(hub)?.must_be(&end, &when)?;
            ensure!(Peer::sas(&region.lab, hub)? == 0 || to == At::First, "{when}: an SA of the old place is left");
            let leftovers = hub.sh("ls -A /etc/swanctl/conf.d /var/lib/crosswan /run/crosswan | grep new")?;
            ensure!(leftovers.stdout.is_empty(), "{when}: {}", show(&leftovers));
            kills += 1;
            if hit {
                break;
            }
        }
        ensure!(hit, "{what}: never killed before {}", point.line);
    }
    Ok(kills)
}

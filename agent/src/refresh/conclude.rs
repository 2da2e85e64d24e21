//! What follows the steps: what is remembered and announced of a pass, as far as it is in force.

use std::collections::BTreeMap;

use super::json;
use crate::{files, own::Own, paths::Paths, transact::Done, vici::Vici};
use crosswan_core::{
    error::Result,
    model::{ConnName, Tunnel, VpcId},
    report::{PeerFailure, Report},
    state::{Peer, State},
};

/// The next key takes over, if every connection signs with it by now. `Ok(false)`: nothing may be announced, as charon does
/// not have what would be said. The key before is gone from every file then, and charon forgets it.
pub async fn settle(own: &Own, done: &Done, paths: &Paths, charon: Option<&mut Vici>) -> Result<bool> {
    // A peer that failed still has a connection that signs with the key before.
    if !done.is_in_force() || !done.keys_in_use || (own.promotes() && !done.failed.is_empty()) {
        return Ok(false);
    }
    if let (Some(old), Some(charon)) = (own.settle(paths)?, charon) {
        charon.unload_key(&old.charon_id()).await?;
    }
    Ok(true)
}

/// What follows a pass that is in force: the state is written, then the tags are. What is announced is what charon accepts by
/// now (`settled`), and the state must not remember less. A failure is the report's: the system has been changed, and goes
/// back no more.
pub async fn conclude(
    own: &Own,
    state: &State,
    settled: Result<bool>,
    paths: &Paths,
    report: &mut Report,
    announce: impl AsyncFnOnce(&mut Report),
) {
    let written = json(state).and_then(|json| files::write_atomic(&paths.state, &json, 0o600));
    if !matches!(settled, Ok(true)) {
        own.not_settled(report);
    }
    let may_announce = matches!(settled, Ok(true)) && written.is_ok();
    report.problems.extend([settled.err(), written.err()].into_iter().flatten().map(|e| e.chain()));
    if may_announce {
        announce(report).await;
    }
}

/// The state to remember: `decided`, but of the peers that failed what was there before, as that is what they have. One
/// whose removal failed is still a peer, so that the next pass goes on with it.
pub fn remembered(
    decided: State,
    tunnels: &BTreeMap<ConnName, Tunnel>,
    before: &State,
    failed: &BTreeMap<ConnName, PeerFailure>,
) -> State {
    let mut state = decided;
    for name in failed.keys() {
        let known = before.peers.keys().chain(state.peers.keys()).find(|vpc| leads_to(name, vpc));
        let tunnel = tunnels.get(name).and_then(|tunnel| tunnel.vpc.as_ref());
        let Some(vpc) = tunnel.or(known).cloned() else { continue };
        match before.peers.get(&vpc) {
            Some(peer) => drop(state.peers.insert(vpc, peer.clone())),
            None => drop(state.peers.remove(&vpc)),
        }
    }
    state
}

/// The state to remember when charon could not be asked: every tunnel is what it was, whatever was decided. Polls that
/// missed a peer count all the same, and what EC2 said is good.
pub fn without_charon(mut decided: State, before: &State) -> State {
    let counted = decided.peers;
    let peer = |(vpc, peer): (&VpcId, &Peer)| {
        let counted = counted.get(vpc).map_or((peer.misses, peer.missed_at), |now| (now.misses, now.missed_at));
        (vpc.clone(), Peer { misses: counted.0, missed_at: counted.1, ..peer.clone() })
    };
    decided.peers = before.peers.iter().map(peer).collect();
    decided
}

/// Whether a connection's name says that it is one to this VPC.
pub fn leads_to(name: &ConnName, vpc: &VpcId) -> bool {
    name.party() == vpc.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswan_core::model::Gateway;

    fn peer(vpc: &str, misses: u32) -> (VpcId, Peer) {
        let gateway: Gateway = serde_json::from_value(serde_json::json!({
            "instance": "i-0000ffff", "region": "eu-west-1", "vpc": vpc, "private": "10.1.0.5", "public": null,
            "launched": 1, "cidrs": []
        }))
        .unwrap();
        (vpc.parse().unwrap(), Peer { misses, ..Peer::new(gateway) })
    }

    fn state<const N: usize>(peers: [(&str, u32); N]) -> State {
        State { peers: peers.map(|(vpc, misses)| peer(vpc, misses)).into(), ..State::default() }
    }

    fn of(state: &State) -> Vec<(&str, u32)> {
        state.peers.iter().map(|(vpc, peer)| (vpc.as_str(), peer.misses)).collect()
    }

    #[test]
    fn of_a_peer_that_failed_the_state_says_what_it_said_before() {
        let before = state([("vpc-0000000a", 1), ("vpc-0000000b", 1), ("vpc-0000000c", 1)]);
        // A and B are seen again, C is removed, D and E come.
        let decided = state([("vpc-0000000a", 0), ("vpc-0000000b", 0), ("vpc-0000000d", 0), ("vpc-0000000e", 0)]);
        let failure = || PeerFailure { why: String::new(), restored: true };
        let failed = |names: &[&str]| names.iter().map(|n| (n.parse().unwrap(), failure())).collect();
        let remembered = |names: &[&str]| remembered(decided.clone(), &BTreeMap::new(), &before, &failed(names));
        assert_eq!(remembered(&[]), decided);
        let some = ["crosswan-vpc-0000000a", "crosswan-vpc-0000000c", "crosswan-vpc-0000000d"];
        assert_eq!(
            of(&remembered(&some)),
            [("vpc-0000000a", 1), ("vpc-0000000b", 0), ("vpc-0000000c", 1), ("vpc-0000000e", 0)]
        );
        // Named by its gateway, too; and one of which nothing was known.
        let odd = ["crosswan-vpc-0000000a-i-0000ffff", "crosswan-vpc-0000ffff", "crosswan-own"];
        assert_eq!(of(&remembered(&odd))[0], ("vpc-0000000a", 1));
    }

    #[test]
    fn without_charon_nobody_comes_or_goes_and_misses_count() {
        let before = state([("vpc-0000000a", 1), ("vpc-0000000b", 0)]);
        let decided = state([("vpc-0000000b", 1), ("vpc-0000000c", 0)]);
        assert_eq!(of(&without_charon(decided, &before)), [("vpc-0000000a", 1), ("vpc-0000000b", 1)]);
    }
}

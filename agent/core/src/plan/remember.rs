//! What a pass remembers, which depends on the peers that have failed.

use std::collections::BTreeMap;

use crate::{
    decide::Decided,
    model::{ConnName, Tunnel, VpcId},
    observed::Observed,
    state::{Peer, State},
};

/// The states before and after the pass, and the VPC of each connection.
#[derive(Debug, Clone, Copy)]
pub struct Remember<'a> {
    before: &'a State,
    after: &'a State,
    /// The tunnels that were decided on: they name their VPCs, where those are known.
    tunnels: &'a BTreeMap<ConnName, Tunnel>,
    /// Whether charon was asked, so that it now has what it should have.
    charon: bool,
}

impl<'a> Remember<'a> {
    pub(super) fn of(observed: &Observed, decided: &'a Decided) -> Remember<'a> {
        Remember {
            before: &decided.known,
            after: &decided.state,
            tunnels: &decided.tunnels,
            charon: observed.system.charon.is_some(),
        }
    }

    /// The state to remember, given the peers that have failed. For those it is as before the pass, as that is what they have. A
    /// peer whose removal failed is still one, so that the next pass tries again.
    pub fn without<'n>(&self, failed: impl Iterator<Item = &'n ConnName>) -> State {
        if !self.charon {
            return self.without_charon();
        }
        let mut state = self.after.clone();
        for name in failed {
            let known = self.before.peers.keys().chain(state.peers.keys()).find(|vpc| leads_to(name, vpc));
            let tunnel = self.tunnels.get(name).and_then(|tunnel| tunnel.vpc.as_ref());
            let Some(vpc) = tunnel.or(known).cloned() else { continue };
            match self.before.peers.get(&vpc) {
                Some(peer) => drop(state.peers.insert(vpc, peer.clone())),
                None => drop(state.peers.remove(&vpc)),
            }
        }
        state
    }

    /// The state to remember if charon could not be asked: every tunnel is as it was, whatever was decided. Polls that missed a
    /// peer still count, and so do EC2's answers.
    fn without_charon(&self) -> State {
        let peer = |(vpc, peer): (&VpcId, &Peer)| {
            let counted = self.after.peers.get(vpc).unwrap_or(peer);
            let (misses, missed_at) = (counted.misses, counted.missed_at);
            (vpc.clone(), Peer { misses, missed_at, ..peer.clone() })
        };
        State { peers: self.before.peers.iter().map(peer).collect(), ..self.after.clone() }
    }
}

/// Whether a connection leads to this VPC, by its name.
pub(crate) fn leads_to(name: &ConnName, vpc: &VpcId) -> bool {
    name.party() == vpc.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Gateway;

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
        let tunnels = BTreeMap::new();
        let remember = Remember { before: &before, after: &decided, tunnels: &tunnels, charon: true };
        let remembered = |names: &[&str]| {
            let failed: Vec<ConnName> = names.iter().map(|n| n.parse().unwrap()).collect();
            remember.without(failed.iter())
        };
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
        let tunnels = BTreeMap::new();
        let remember = Remember { before: &before, after: &decided, tunnels: &tunnels, charon: false };
        assert_eq!(of(&remember.without([].iter())), [("vpc-0000000a", 1), ("vpc-0000000b", 1)]);
    }
}

//! What hub and spoke share: the gateways of each VPC, the keys they are known by, and the one that is used.

use std::collections::BTreeMap;

use super::{
    Decision, Kept, Replacing, Seen,
    credential::{Credential, Link, NoAuth},
    election::{Standing, Voter},
    refusal,
    roster::{Eligible, Vpc, roster},
    rotation::present,
    trust::{Claim, Doubt, Trust, named, trust},
};
use crate::{
    model::{Auth, ConnName, Gateway, IkeId, InstanceId, PublicKey, Tunnel, VpcId},
    settings::{AuthMethod, Settings},
    state::Peer,
};

/// A VPC, and who stands for it.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// As it will be remembered: the gateway in use, and the keys of all.
    pub peer: Peer,
    pub others: Vec<(Gateway, Standing)>,
}

/// What differs between the two ends of a tunnel.
pub(super) struct End<'a> {
    pub settings: &'a Settings,
    pub seen: &'a Seen<'a>,
    /// The name of the connection to a gateway.
    pub connection: &'a dyn Fn(&Gateway) -> ConnName,
    /// Whether a gateway can be a peer at all.
    pub eligible: &'a dyn Fn(&Gateway) -> Eligible,
    /// The client VPC of the tunnel to a gateway: pre-shared keys are found by it.
    pub spoke: &'a dyn Fn(&Gateway) -> VpcId,
    /// The identity of this gateway.
    pub local_id: IkeId,
}

impl End<'_> {
    /// Chooses one gateway for every VPC that stands, and reports which announcements do not count.
    pub fn choose(&self, force: bool, out: &mut Decision) -> BTreeMap<VpcId, Chosen> {
        let seen = self.seen;
        let mut found = roster(&self.settings.removal, seen, self.connection, self.eligible, force);
        out.take(&mut found);
        let keys = self.known_by(&found.vpcs, out);
        let keys_of = |instance: &InstanceId| keys.get(instance).cloned().unwrap_or_default();
        let usable = |g: &Gateway| self.credential(g, &keys_of(&g.instance)).auth.is_ok();
        let voter = Voter { contacts: seen.contacts, now: seen.now, connection: self.connection, usable: &usable };
        let mut chosen = BTreeMap::new();
        for (id, mut vpc) in found.vpcs {
            let Some(elected) = voter.elect(&vpc) else { continue };
            let Some(gateway) = vpc.gateways.remove(&elected.in_use) else { continue };
            let known = vpc.known.filter(|known| known.gateway.instance == gateway.instance);
            let others = vpc.gateways.keys().map(|i| (i.clone(), keys_of(i))).filter(|(_, keys)| !keys.is_empty());
            let peer = Peer {
                keys: keys_of(&gateway.instance),
                others: others.collect(),
                lost: elected.lost,
                down_since: elected.down_since,
                gateway: gateway.clone(),
                ..known.unwrap_or_else(|| Peer::new(gateway))
            };
            let peer = self.with_consent(peer);
            let others = vpc.gateways.into_iter().filter_map(|(i, g)| Some((g, *elected.others.get(&i)?)));
            chosen.insert(id, Chosen { peer, others: others.collect() });
        }
        chosen
    }

    /// The keys that each gateway is known by after this pass.
    fn known_by(&self, vpcs: &BTreeMap<VpcId, Vpc>, out: &mut Decision) -> BTreeMap<InstanceId, Vec<PublicKey>> {
        let (settings, seen) = (self.settings, self.seen);
        if seen.own.is_none() || settings.auth.method != AuthMethod::Key {
            return BTreeMap::new();
        }
        let gateways: Vec<&Gateway> = vpcs.values().flat_map(|vpc| vpc.gateways.values()).collect();
        let trusts: BTreeMap<InstanceId, Trust> = match &settings.auth.hub_key[..] {
            [] => {
                let claims = gateways.iter().map(|gateway| {
                    let (known, accept) = (self.known_before(gateway), seen.accept.get(&gateway.vpc));
                    (gateway.instance.clone(), Claim { gateway, known, accept: accept.map(String::as_str) })
                });
                trust(&claims.collect())
            }
            keys => gateways.iter().map(|g| (g.instance.clone(), named(keys, Some(g)))).collect(),
        };
        for gateway in gateways {
            match trusts[&gateway.instance].doubt.clone() {
                None => {}
                Some(Doubt::Kept(why)) => out.kept.push(Kept::new(gateway, why)),
                Some(Doubt::Refused(why)) => drop(out.refused.insert(refusal(gateway, Some(&gateway.vpc), why))),
            }
        }
        trusts.into_iter().map(|(instance, trust)| (instance, trust.keys)).collect()
    }

    /// By which keys a gateway was known: as remembered, or for a VPC that nothing is remembered of, as loaded last. For the
    /// gateway in use what was loaded counts more: a pass that was killed between the two has made a promise to a peer's
    /// next key that the state does not know.
    fn known_before(&self, gateway: &Gateway) -> &[PublicKey] {
        let loaded = self.seen.pinned.get(&(self.connection)(gateway)).map_or(&[][..], |keys| keys);
        let Some(peer) = self.seen.state.peers.get(&gateway.vpc) else { return loaded };
        let remembered = peer.keys_of(&gateway.instance);
        let in_use = peer.gateway.instance == gateway.instance;
        if in_use && !remembered.is_empty() && !loaded.is_empty() { loaded } else { remembered }
    }

    /// The peer, with its consent to the next key of this gateway if it has given that.
    fn with_consent(&self, peer: Peer) -> Peer {
        let Some(next) = self.seen.own.and_then(|own| own.next_key()) else { return Peer { accepts: None, ..peer } };
        let proof = (self.connection)(&peer.gateway).own_next();
        let accepts = peer.accepts == Some(next) || self.seen.contacts.has_accepted(&proof, &self.local_id.next(next));
        Peer { accepts: accepts.then_some(next), ..peer }
    }

    /// Decides how this gateway presents itself to `peers` (and to one that nothing else is known of, by `unknown`).
    pub fn present<'p>(
        &self,
        peers: impl Iterator<Item = &'p Peer>,
        unknown: Option<(String, bool)>,
        out: &mut Decision,
    ) {
        let own = self.seen.own.filter(|_| self.settings.auth.method == AuthMethod::Key);
        let by_key = peers.filter(|peer| !peer.keys.is_empty());
        let peers = by_key.map(|peer| (peer.gateway.vpc.to_string(), peer.accepts.is_some()));
        out.presence = own.map(|own| present(&own, peers.chain(unknown)));
    }

    /// How the tunnel to a gateway can be authenticated.
    pub fn credential(&self, gateway: &Gateway, keys: &[PublicKey]) -> Credential {
        let in_use = |peer: &Peer| peer.gateway.instance == gateway.instance;
        let known = self.seen.state.peers.get(&gateway.vpc).is_some_and(in_use);
        let sign = self.seen.own.map(|own| own.current.key);
        let spoke = &(self.spoke)(gateway);
        Link { spoke, peer: Some(gateway), keys, sign, known }.credential(self.settings, self.seen)
    }

    /// Loads the other gateways of a VPC beside the one in use, without a child, so that they can show that they work; and
    /// reports why each of them is not used.
    pub fn stand_by(&self, chosen: &Chosen, like: &Tunnel, remote_id: impl Fn(&Gateway) -> IkeId, out: &mut Decision) {
        let in_use = &chosen.peer.gateway;
        for (gateway, standing) in &chosen.others {
            let keys = chosen.peer.keys_of(&gateway.instance);
            let Some(remote_addr) = gateway.public else { continue };
            let why = match self.credential(gateway, keys).auth {
                Ok(auth) => {
                    let proof = Tunnel {
                        remote_addr,
                        remote_id: remote_id(gateway),
                        children: BTreeMap::new(),
                        auth: signed_with(auth, out),
                        ..like.clone()
                    };
                    out.tunnels.insert((self.connection)(gateway), proof);
                    "it is loaded beside the one in use, and has not authenticated yet".into()
                }
                Err(NoAuth::Awaited(what)) => {
                    out.awaited.extend((*standing == Standing::Newcomer).then(|| what.clone()));
                    format!("this gateway waits for {what}")
                }
                Err(NoAuth::Missing(why)) => why,
                Err(NoAuth::Refused) => "its announcement was refused".into(),
            };
            match standing {
                Standing::Newcomer => out.replacing.push(Replacing {
                    vpc: in_use.vpc.clone(),
                    region: in_use.region.clone(),
                    old: in_use.instance.clone(),
                    new: gateway.instance.clone(),
                    why,
                }),
                Standing::Standby => {
                    let why = format!("stands by: {} in the same VPC is in use", in_use.instance);
                    out.refused.insert(refusal(gateway, Some(&gateway.vpc), why));
                }
            }
        }
    }
}

/// A credential with the key that this gateway signs with from this pass on.
pub(super) fn signed_with(auth: Auth, out: &Decision) -> Auth {
    match (auth, &out.presence) {
        (Auth::Key { peer, .. }, Some(presence)) => Auth::Key { own: presence.sign, peer },
        (auth, _) => auth,
    }
}

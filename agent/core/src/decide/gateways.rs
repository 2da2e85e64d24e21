//! What hub and spoke share: the gateways of each VPC, the keys they are known by, and the one that is used.

use std::collections::BTreeMap;

use super::{
    credential::{Credential, Link, NoAuth},
    election::{Election, Waiting, is_down},
    facts::Facts,
    findings::{Findings, Kept, Replacing},
    roster::{Eligible, Roster, Vpc, roster},
    rotation::{Presence, present},
    trust::{Case, Objection, Trust, named, trust},
};
use crate::{
    model::{Auth, ConnName, Gateway, Holder, IkeId, InstanceId, Place, PublicKey, Timestamp, Tunnel, VpcId},
    state::Peer,
};

/// A VPC with the gateway that is used for it, and the others.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// The gateway in use and the keys of all, as they will be remembered.
    pub peer: Peer,
    pub others: Vec<(Gateway, Waiting)>,
}

/// What differs between the two ends of a tunnel.
pub(super) struct End<'a> {
    pub facts: &'a Facts<'a>,
    /// The name of the connection to a gateway.
    pub connection: &'a dyn Fn(&Gateway) -> ConnName,
    /// Whether a gateway can be a peer at all.
    pub eligible: &'a dyn Fn(&Gateway) -> Eligible,
    /// The client VPC of the tunnel to a gateway, by which pre-shared keys are found.
    pub spoke: &'a dyn Fn(&Gateway) -> VpcId,
    /// The identity of this gateway.
    pub local_id: IkeId,
    /// [`Election::settles`] of its gateways.
    pub settles: i64,
}

impl End<'_> {
    /// Chooses one gateway for every VPC that stands, and adds the announcements that do not count to the findings. The roster
    /// comes back without its VPCs.
    pub(super) fn choose(&self, findings: &mut Findings) -> (BTreeMap<VpcId, Chosen>, Roster) {
        let facts = self.facts;
        let mut found = roster(facts, self.connection, self.eligible, findings);
        let vpcs = std::mem::take(&mut found.vpcs);
        let keys = self.known_by(&vpcs, findings);
        let keys_of = |instance: &InstanceId| keys.get(instance).cloned().unwrap_or_default();
        let usable = |g: &Gateway| self.credential(g, &keys_of(&g.instance)).auth.is_ok();
        let election = Election {
            contacts: &facts.contacts,
            now: facts.observed.now,
            connection: self.connection,
            usable: &usable,
            routed: &|name| facts.is_routed(name),
            followed: &|name| facts.followed(name).is_some(),
            settles: self.settles,
        };
        let mut chosen = BTreeMap::new();
        for (id, mut vpc) in vpcs {
            let Some(elected) = election.elect(&vpc) else { continue };
            let Some(gateway) = vpc.gateways.remove(&elected.in_use) else { continue };
            let idle_since = self.idle_since(&vpc);
            let known = vpc.known.filter(|known| known.gateway.instance == gateway.instance);
            let others = vpc.gateways.keys().map(|i| (i.clone(), keys_of(i))).filter(|(_, keys)| !keys.is_empty());
            let peer = Peer {
                keys: keys_of(&gateway.instance),
                others: others.collect(),
                lost: elected.lost,
                down_since: elected.down_since,
                idle_since,
                gateway: gateway.clone(),
                ..known.unwrap_or_else(|| Peer::new(gateway))
            };
            let peer = self.with_acceptance(peer);
            let others = vpc.gateways.into_iter().filter_map(|(i, g)| Some((g, *elected.others.get(&i)?)));
            chosen.insert(id, Chosen { peer, others: others.collect() });
        }
        (chosen, found)
    }

    /// Since when every pass has found down the tunnel of each gateway of a VPC that has a place.
    fn idle_since(&self, vpc: &Vpc) -> BTreeMap<InstanceId, Timestamp> {
        let before = |instance| vpc.known.as_ref().and_then(|known| known.idle_since.get(instance)).copied();
        let idle = vpc.gateways.values().filter(|gateway| {
            let name = (self.connection)(gateway);
            self.facts.places.held(&name).is_some() && self.facts.contacts.is_dead(&name)
        });
        idle.map(|g| (g.instance.clone(), before(&g.instance).unwrap_or(self.facts.observed.now))).collect()
    }

    /// The keys that each gateway is known by after this pass.
    fn known_by(&self, vpcs: &BTreeMap<VpcId, Vpc>, findings: &mut Findings) -> BTreeMap<InstanceId, Vec<PublicKey>> {
        let Facts { settings, request, .. } = self.facts;
        if self.facts.own.keys().is_none() {
            return BTreeMap::new();
        }
        let gateways: Vec<&Gateway> = vpcs.values().flat_map(|vpc| vpc.gateways.values()).collect();
        let named_keys = &settings.auth.hub_key;
        let trusts: BTreeMap<InstanceId, Trust> = if named_keys.is_unnamed() {
            let cases = gateways.iter().map(|gateway| {
                let (known, accept) = (self.known_before(gateway), request.accept.get(&gateway.vpc));
                (gateway.instance.clone(), Case { gateway, known, accept: accept.map(String::as_str) })
            });
            trust(&cases.collect())
        } else {
            gateways.iter().map(|g| (g.instance.clone(), named(named_keys.of(g.public), g))).collect()
        };
        for gateway in gateways {
            match trusts[&gateway.instance].objection.clone() {
                None => {}
                Some(Objection::Kept(why)) => findings.kept.push(Kept::new(gateway, why)),
                Some(Objection::Refused(why)) => findings.refuse(gateway, Some(&gateway.vpc), why),
            }
        }
        trusts.into_iter().map(|(instance, trust)| (instance, trust.keys)).collect()
    }

    /// The keys that a gateway was known by: the remembered ones, or for a VPC that is not remembered those loaded last. For the
    /// gateway in use the loaded ones count more: a pass that was killed between the two may have accepted a peer's next key
    /// of which the state knows nothing.
    fn known_before(&self, gateway: &Gateway) -> &[PublicKey] {
        let loaded = self.facts.pinned(&(self.connection)(gateway)).map_or(&[][..], |keys| keys);
        let Some(peer) = self.facts.state.peers.get(&gateway.vpc) else { return loaded };
        let remembered = peer.keys_of(&gateway.instance);
        let in_use = peer.gateway.instance == gateway.instance;
        if in_use && !remembered.is_empty() && !loaded.is_empty() { loaded } else { remembered }
    }

    /// The peer, with the next key of this gateway if it has accepted that.
    fn with_acceptance(&self, peer: Peer) -> Peer {
        let Some(next) = self.facts.own.next_key() else { return Peer { accepts: None, ..peer } };
        let proof = (self.connection)(&peer.gateway).own_next();
        let accepts = peer.accepts == Some(next) || self.facts.contacts.has_accepted(&proof, &self.local_id.next(next));
        Peer { accepts: accepts.then_some(next), ..peer }
    }

    /// Which keys this gateway signs with and announces, given its `peers`. `unknown` are peers whose gateways EC2 does
    /// not show, each by its name and whether it has accepted the next key. `None` if this gateway has no key.
    pub(super) fn present<'p>(
        &self,
        peers: impl Iterator<Item = &'p Peer>,
        unknown: impl IntoIterator<Item = (String, bool)>,
    ) -> Option<Presence> {
        let by_key = peers.filter(|peer| !peer.keys.is_empty());
        let peers = by_key.map(|peer| (peer.gateway.vpc.to_string(), peer.accepts.is_some()));
        self.facts.own.keys().map(|own| present(own, peers.chain(unknown)))
    }

    /// How the tunnel to a gateway can be authenticated.
    pub(super) fn credential(&self, gateway: &Gateway, keys: &[PublicKey]) -> Credential {
        let in_use = |peer: &Peer| peer.gateway.instance == gateway.instance;
        let known = self.facts.state.peers.get(&gateway.vpc).is_some_and(in_use);
        let spoke = &(self.spoke)(gateway);
        Link { spoke, peer: Some(gateway), keys, known }.credential(self.facts)
    }

    /// The connections to the other gateways of a VPC. One of them has its tunnel at the other place, where it disturbs nobody, and
    /// a route moves to it once that is up. Any further one has a connection without a child, by which it can show that it
    /// works, and waits for a place. Adds to the findings why each of them is not used.
    pub(super) fn stand_by(
        &self,
        chosen: &Chosen,
        like: &Tunnel,
        remote_id: impl Fn(&Gateway) -> IkeId,
        presence: Option<&Presence>,
        findings: &mut Findings,
    ) -> Vec<(ConnName, Tunnel)> {
        let in_use = &chosen.peer.gateway;
        let place = like.place.other();
        let second = self.second(chosen, place);
        let mut beside = Vec::new();
        for (gateway, standing) in &chosen.others {
            let keys = chosen.peer.keys_of(&gateway.instance);
            let Some(remote_addr) = gateway.public else { continue };
            let why = match self.credential(gateway, keys).auth {
                Ok(auth) => {
                    let is_second = second == Some(&gateway.instance);
                    let children = if is_second { like.children.clone() } else { BTreeMap::new() };
                    let (auth, remote_id) = (signed_with(auth, presence), remote_id(gateway));
                    let tunnel = Tunnel { remote_addr, remote_id, place, children, auth, ..like.clone() };
                    let name = (self.connection)(gateway);
                    let is_up = self.facts.contacts.carries_as(&name, &(self.connection)(in_use));
                    beside.push((name.clone(), tunnel));
                    match (is_second, is_up) {
                        (true, true) => format!(
                            "its tunnel is up beside the one in use; it takes over {} minutes after its launch, when all others have \
                             connected to it, or as soon as the one in use is gone",
                            self.settles / 60
                        ),
                        (true, false) => "its tunnel is loaded beside the one in use, and is not up yet".into(),
                        (false, _) if self.facts.contacts.has_authenticated(&name) => {
                            "it has authenticated, and gets a tunnel when one of the two that have theirs is gone"
                                .into()
                        }
                        (false, _) => "it is loaded without a tunnel, and has not authenticated yet".into(),
                    }
                }
                Err(NoAuth::Awaited(what)) => {
                    findings.awaited.extend((*standing == Waiting::Newcomer).then(|| what.clone()));
                    format!("this gateway waits for {what}")
                }
                Err(NoAuth::Missing(why)) => why,
                Err(NoAuth::Refused) => "its announcement was refused".into(),
            };
            match standing {
                Waiting::Newcomer => findings.replacing.push(Replacing {
                    vpc: in_use.vpc.clone(),
                    region: in_use.scope(),
                    old: in_use.instance.clone(),
                    new: gateway.instance.clone(),
                    why,
                }),
                Waiting::Standby => {
                    let mut reason =
                        format!("{} stands by: {} in the same VPC is in use", gateway.instance, in_use.instance);
                    if second != Some(&gateway.instance) {
                        reason = format!("{reason}; {why}");
                    }
                    findings.refuse(gateway, Some(&gateway.vpc), reason);
                }
            }
        }
        beside
    }

    /// The gateway that has its tunnel at the other place: the one that has it, until its tunnel has been down for a while, as it may be
    /// one of a pair that leads its VPC's packets into it; else a newcomer that has authenticated, else the newest. A gateway that cannot
    /// be used has none, and one that has made way comes after all others, as soon as its heir has shown that it works.
    fn second<'c>(&self, chosen: &'c Chosen, place: Place) -> Option<&'c InstanceId> {
        let rank = |(gateway, waiting): &&(Gateway, Waiting)| {
            let name = (self.connection)(gateway);
            let newcomer = *waiting == Waiting::Newcomer;
            let has_proved = newcomer && self.facts.contacts.has_authenticated(&name);
            let has_it = self.facts.places.held(&name) == Some(place);
            let idle = chosen.peer.idle_since.get(&gateway.instance).copied();
            let is_down = is_down(idle, self.facts.observed.now);
            let left = self.has_made_way(chosen, gateway);
            (!left, has_it && !is_down, has_proved, has_it, newcomer, gateway.launched, gateway.instance.clone())
        };
        let usable = |(gateway, _): &&(Gateway, Waiting)| {
            let keys = chosen.peer.keys_of(&gateway.instance);
            gateway.public.is_some() && self.credential(gateway, keys).auth.is_ok()
        };
        chosen.others.iter().filter(usable).max_by_key(rank).map(|(gateway, _)| &gateway.instance)
    }

    /// Whether a gateway has made way, by a key that it is known by, for another one of its VPC that is in use or has authenticated.
    fn has_made_way(&self, chosen: &Chosen, gateway: &Gateway) -> bool {
        let Some(left) = &gateway.tags.makes_way else { return false };
        let holder = Holder { vpc: &gateway.vpc, instance: &gateway.instance };
        let works = |other: &Gateway| self.facts.contacts.has_authenticated(&(self.connection)(other));
        let others = || chosen.others.iter().filter(|(other, _)| works(other)).map(|(other, _)| &other.instance);
        let is_there = chosen.peer.gateway.instance == left.other || others().any(|other| *other == left.other);
        let keys = chosen.peer.keys_of(&gateway.instance);
        left.other != gateway.instance && is_there && keys.iter().any(|key| left.makes_way(key, &holder))
    }
}

/// The credential, with the key that this gateway signs with from this pass on.
pub(super) fn signed_with(auth: Auth, presence: Option<&Presence>) -> Auth {
    match (auth, presence) {
        (Auth::Key { peer, .. }, Some(presence)) => Auth::Key { own: presence.sign, peer },
        (auth, _) => auth,
    }
}

/// The connections beside `tunnel` by which this gateway's next key and the peer's are proved.
pub(super) fn next_key_proofs(
    name: &ConnName,
    tunnel: &Tunnel,
    presence: Option<&Presence>,
) -> Vec<(ConnName, Tunnel)> {
    let Auth::Key { own, peer } = &tunnel.auth else { return Vec::new() };
    let proof = |local_id, remote_id, own: PublicKey, peer: Vec<PublicKey>| Tunnel {
        local_id,
        remote_id,
        children: BTreeMap::new(),
        auth: Auth::Key { own, peer },
        ..tunnel.clone()
    };
    let mut proofs = Vec::new();
    if let Some(next) = presence.and_then(|presence| presence.next) {
        let local_id = tunnel.local_id.next(next);
        proofs.push((name.own_next(), proof(local_id, tunnel.remote_id.clone(), next, peer.clone())));
    }
    if let [_, next] = peer[..] {
        let remote_id = tunnel.remote_id.next(next);
        proofs.push((name.peer_next(), proof(tunnel.local_id.clone(), remote_id, *own, vec![next])));
    }
    proofs
}

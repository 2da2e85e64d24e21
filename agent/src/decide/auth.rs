//! How each tunnel is authenticated: [`trust`] on every peer's announcement, and the pre-shared key where there is none.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{Decision, KeyAnswer, Seen, refusal};
use crate::{
    model::{Auth, ConnName, Gateway, KEY_TAG, KeyTag, Mode, Pin, Refusal, Region, Secret, VpcId},
    roster::Kept,
    settings::{AuthMethod, Settings},
    state::Peer,
    trust::{Claim, Doubt, Trust, named, show, trust},
};

/// Which keys each peer is known by after this pass, and with that how this gateway shows itself to them.
pub(super) fn keys_of(
    settings: &Settings,
    seen: &Seen,
    peers: &BTreeMap<VpcId, Peer>,
    connection: impl Fn(&VpcId) -> ConnName,
    silent: bool,
    out: &mut Decision,
) -> BTreeMap<VpcId, Pin> {
    let Some(own) = seen.own.filter(|_| settings.auth.method == AuthMethod::Key) else { return BTreeMap::new() };
    let before = |vpc: &VpcId| {
        let on_disk = || Some(Pin { instance: None, keys: seen.pinned.get(&connection(vpc))?.clone() });
        seen.state.peers.get(vpc).and_then(|peer| peer.pin.clone()).or_else(on_disk)
    };
    let claims = peers.iter().map(|(vpc, peer)| {
        let (gateway, before, accept) = (&peer.gateway, before(vpc), seen.accept.contains(vpc));
        (vpc.clone(), Claim { gateway, before, accept })
    });
    let mut pins = BTreeMap::new();
    for (vpc, Trust { pin, doubt }) in trust(&claims.collect()) {
        doubtful(doubt, &peers[&vpc].gateway, out);
        pins.extend(pin.map(|pin| (vpc, pin)));
    }
    let known = pins.iter().map(|(vpc, pin)| (vpc, &peers[vpc].gateway, pin));
    out.showing = Some(show(own, known, silent));
    pins
}

/// [`keys_of`] the spoke's one peer. Its keys may be named by settings, and a hub that EC2 does not show (any more) is
/// still known by the key that its connection was loaded with.
pub(super) fn hub_pin(
    settings: &Settings,
    seen: &Seen,
    found: Option<&Peer>,
    hub: Ipv4Addr,
    out: &mut Decision,
) -> Option<Pin> {
    let own = seen.own.filter(|_| settings.auth.method == AuthMethod::Key)?;
    let connection = ConnName::to_hub(hub);
    if settings.auth.hub_key.is_empty() {
        let peers = found.iter().map(|peer| (peer.gateway.vpc.clone(), (*peer).clone())).collect();
        let pins = keys_of(settings, seen, &peers, |_| connection.clone(), found.is_none(), out);
        let remembered = || Some(Pin { instance: None, keys: seen.pinned.get(&connection)?.clone() });
        return pins.into_values().next().or_else(remembered);
    }
    let Trust { pin, doubt } = named(&settings.auth.hub_key, found.map(|peer| &peer.gateway));
    let known = found.zip(pin.as_ref());
    out.showing = Some(show(own, known.iter().map(|(p, pin)| (&p.gateway.vpc, &p.gateway, *pin)), found.is_none()));
    if let Some(peer) = found {
        doubtful(doubt, &peer.gateway, out);
    }
    pin
}

fn doubtful(doubt: Option<Doubt>, gateway: &Gateway, out: &mut Decision) {
    match doubt {
        None => {}
        Some(Doubt::Kept(why)) => out.kept.push(Kept::new(gateway, why)),
        Some(Doubt::Refused(why)) => {
            out.refused.insert(refusal(gateway, Some(&gateway.vpc), why));
        }
    }
}

/// How long after its launch a gateway may take to announce its key.
const YOUNG: i64 = 15 * 60;

/// How a tunnel is authenticated; `None` leaves it out, with the reason reported. `spoke` is the VPC whose tunnel it is,
/// at both ends. A peer that is known by a key is never taken with a pre-shared one.
pub(super) fn auth(
    settings: &Settings,
    seen: &Seen,
    spoke: &VpcId,
    pin: Option<&Pin>,
    peer: Option<&Gateway>,
    out: &mut Decision,
) -> Option<Auth> {
    if let (Some(pin), Some(showing)) = (pin, &out.showing) {
        return Some(Auth::Key { own: showing.sign, peer: pin.keys.clone() });
    }
    let here = &seen.me.region;
    let region = peer.filter(|peer| peer.vpc == *spoke).map_or(here, |peer| &peer.region);
    // A newcomer whose announcement was refused gets nothing for it; a tunnel that stands is not taken down by a tag.
    let refused = |peer: &Gateway| peer.key != KeyTag::Absent && !seen.state.peers.contains_key(&peer.vpc);
    if settings.auth.method == AuthMethod::Key && seen.own.is_some() && peer.is_some_and(refused) {
        return None;
    }
    let without = match settings.auth.method {
        AuthMethod::Psk => None,
        AuthMethod::Key if seen.own.is_none() => Some("this gateway has no key of its own yet".into()),
        AuthMethod::Key if settings.mode == Mode::NatVpn => Some(format!("its hub announces no key (tag {KEY_TAG})")),
        AuthMethod::Key => Some(format!("it announces no key (tag {KEY_TAG})")),
    };
    let young = |peer: &&Gateway| seen.now.0 - peer.launched.0 < YOUNG && peer.key == KeyTag::Absent;
    let by_key = settings.auth.method == AuthMethod::Key && seen.own.is_some();
    if let Some(peer) = peer.filter(young).filter(|_| by_key && (seen.keys)(spoke).key.is_none()) {
        let age = seen.now.0 - peer.launched.0;
        out.awaited.push(format!("the key of {} in {}, launched {age} s ago", peer.instance, peer.vpc));
        return None;
    }
    psk(seen, (spoke, region), without, out).map(Auth::Psk)
}

/// The pre-shared key of a VPC's tunnel, with its problem (if any) reported. `instead` says why it is needed.
fn psk(seen: &Seen, (vpc, region): (&VpcId, &Region), instead: Option<String>, out: &mut Decision) -> Option<Secret> {
    let KeyAnswer { key, problem } = (seen.keys)(vpc);
    let (vpc, region) = (vpc.clone(), region.clone());
    match (&key, problem) {
        (_, None) => {}
        (Some(_), Some(problem)) => {
            out.kept.push(Kept { vpc, region, why: format!("{problem}; the key in use so far stays") });
        }
        (None, Some(problem)) => {
            let reason = instead.map_or(problem.clone(), |why| format!("{why}, and {problem}"));
            out.refused.insert(Refusal { region, vpc: Some(vpc), instance: None, cidr: None, reason });
        }
    }
    key
}

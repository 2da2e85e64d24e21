//! How the tunnel to each gateway is authenticated: by keys, or with a pre-shared key where there are none; or the reason why
//! it cannot be.

use super::facts::{Facts, OwnAuth};
use crate::{
    model::{Auth, Gateway, KEY_TAG, Mode, PublicKey, Tagged, VpcId},
    observed::Psk,
};

/// What came of looking for a credential.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub auth: Result<Auth, NoAuth>,
    /// Why the configured pre-shared key cannot be used, if the one in use stays instead.
    pub kept: Option<String>,
}

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAuth {
    /// The gateway was launched so recently that it should announce its key in a moment.
    Awaited(String),
    /// There is none until an operator does something.
    Missing(String),
    /// The gateway's announcement was refused, which is already reported.
    Refused,
}

/// How long after its launch a gateway may take to announce its key, in seconds.
const YOUNG: i64 = 15 * 60;

/// A tunnel whose credential is looked for.
pub(super) struct Link<'a> {
    /// The client VPC, at both ends.
    pub spoke: &'a VpcId,
    /// The gateway at the other end; `None` where EC2 was not asked or does not show it.
    pub peer: Option<&'a Gateway>,
    /// The keys that the peer is known by.
    pub keys: &'a [PublicKey],
    /// Whether the peer already has a tunnel.
    pub known: bool,
}

impl Link<'_> {
    /// The credential for this tunnel. A peer that is known by a key never gets one with a pre-shared key.
    pub(super) fn credential(&self, facts: &Facts) -> Credential {
        let refuse = |why| Credential { auth: Err(why), kept: None };
        let own = facts.own.keys();
        if let (Some(own), [_, ..]) = (own, self.keys) {
            return Credential { auth: Ok(Auth::Key { own: own.current.key, peer: self.keys.to_vec() }), kept: None };
        }
        // A newcomer whose announcement was refused gets no pre-shared key instead; a tag takes down no tunnel that stands.
        if own.is_some() && !self.known && self.peer.is_some_and(|peer| peer.tags.key != Tagged::Absent) {
            return refuse(NoAuth::Refused);
        }
        let psk = facts.observed.psks.for_client(self.spoke);
        if let Some(peer) = self.peer.filter(|peer| own.is_some() && psk.secret.is_none() && is_young(peer, facts)) {
            let age = facts.observed.now.0 - peer.launched.0;
            return refuse(NoAuth::Awaited(format!("the key of {}, launched {age} s ago", peer.holder())));
        }
        self.psk(psk.clone(), facts)
    }

    /// The pre-shared key; or why one is needed and there is none.
    fn psk(&self, Psk { secret, problem }: Psk, facts: &Facts) -> Credential {
        let instead = match (&facts.own, facts.settings.mode) {
            (OwnAuth::Psk, _) => None,
            (OwnAuth::KeyUnavailable, _) => Some("this gateway has no key of its own yet".into()),
            (OwnAuth::Key(_), Mode::NatVpn) => Some(format!("its hub announces no key (tag {KEY_TAG})")),
            (OwnAuth::Key(_), _) => Some(format!("it announces no key (tag {KEY_TAG})")),
        };
        match (secret, problem) {
            (Some(secret), None) => Credential { auth: Ok(Auth::Psk(secret)), kept: None },
            (Some(secret), Some(problem)) => Credential {
                auth: Ok(Auth::Psk(secret)),
                kept: Some(format!("{problem}; the pre-shared key in use stays")),
            },
            (None, problem) => {
                let reasons = instead.into_iter().chain(problem).collect::<Vec<_>>();
                Credential { auth: Err(NoAuth::Missing(reasons.join(", and "))), kept: None }
            }
        }
    }
}

fn is_young(peer: &Gateway, facts: &Facts) -> bool {
    facts.observed.now.0 - peer.launched.0 < YOUNG && peer.tags.key == Tagged::Absent
}

//! How the tunnel to each gateway is authenticated, or why it cannot be: by keys, or with a pre-shared key where there are
//! none.

use super::{KeyAnswer, Seen};
use crate::{
    model::{Auth, Gateway, KEY_TAG, Mode, PublicKey, Secret, Tagged, VpcId},
    settings::{AuthMethod, Settings},
};

/// What came of looking for a credential.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub auth: Result<Auth, NoAuth>,
    /// The configured pre-shared key cannot be used and the one in use stays: why.
    pub kept: Option<String>,
}

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAuth {
    /// The gateway is so young that its key is only a matter of moments.
    Awaited(String),
    /// Somebody has to do something.
    Missing(String),
    /// Its announcement was refused, and that is reported already.
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
    /// What this gateway signs with; `None` if it has no key of its own.
    pub sign: Option<PublicKey>,
    /// The peer has a tunnel already.
    pub known: bool,
}

impl Link<'_> {
    /// A peer that is known by a key is never taken with a pre-shared one.
    pub fn credential(&self, settings: &Settings, seen: &Seen) -> Credential {
        let refuse = |why| Credential { auth: Err(why), kept: None };
        if let (Some(own), [_, ..]) = (self.sign, self.keys) {
            return Credential { auth: Ok(Auth::Key { own, peer: self.keys.to_vec() }), kept: None };
        }
        let by_key = settings.auth.method == AuthMethod::Key && self.sign.is_some();
        // A newcomer whose announcement was refused gets nothing for it; a tunnel that stands is not taken down by a tag.
        if by_key && !self.known && self.peer.is_some_and(|peer| peer.tags.key != Tagged::Absent) {
            return refuse(NoAuth::Refused);
        }
        let psk = (seen.keys)(self.spoke);
        if let Some(peer) = self.peer.filter(|peer| by_key && psk.key.is_none() && is_young(peer, seen)) {
            let age = seen.now.0 - peer.launched.0;
            return refuse(NoAuth::Awaited(format!("the key of {}, launched {age} s ago", peer.holder())));
        }
        self.psk(psk, settings)
    }

    /// The pre-shared key, or why there is none and why one was needed.
    fn psk(&self, KeyAnswer { key, problem }: KeyAnswer, settings: &Settings) -> Credential {
        let instead = match settings.auth.method {
            AuthMethod::Psk => None,
            AuthMethod::Key if self.sign.is_none() => Some("this gateway has no key of its own yet".into()),
            AuthMethod::Key if settings.mode == Mode::NatVpn => {
                Some(format!("its hub announces no key (tag {KEY_TAG})"))
            }
            AuthMethod::Key => Some(format!("it announces no key (tag {KEY_TAG})")),
        };
        let psk = |key: Secret| Ok(Auth::Psk(key));
        match (key, problem) {
            (Some(key), None) => Credential { auth: psk(key), kept: None },
            (Some(key), Some(problem)) => {
                Credential { auth: psk(key), kept: Some(format!("{problem}; the key in use so far stays")) }
            }
            (None, problem) => {
                let reasons = instead.into_iter().chain(problem).collect::<Vec<_>>();
                Credential { auth: Err(NoAuth::Missing(reasons.join(", and "))), kept: None }
            }
        }
    }
}

fn is_young(peer: &Gateway, seen: &Seen) -> bool {
    seen.now.0 - peer.launched.0 < YOUNG && peer.tags.key == Tagged::Absent
}

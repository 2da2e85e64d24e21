//! What follows once the system is as planned. A failure is reported, and whatever depends on it is not done. The system has
//! been changed by then, and nothing is rolled back.

use std::fmt;

use super::Remember;
use crate::{
    decide::{Decided, OwnAddress, TakeAddress, TakeRoute},
    model::{InstanceId, Mode, PublicKey, Region},
    observed::Observed,
};

/// One thing that concludes a pass. `Display` is what an operator reads.
#[derive(Debug, Clone)]
pub enum Conclusion<'a> {
    /// The next key takes the place of the current one on disk, and charon forgets the old one. By now every connection must
    /// sign with it.
    PromoteKey {
        /// The key that takes over.
        next: PublicKey,
        /// The key that goes.
        old: PublicKey,
    },
    /// Writes the state. Only this gateway itself uses it, so it does not count as a change for the operator.
    RememberState(Remember<'a>),
    /// Lets EC2 deliver what the own instance forwards.
    StopSourceDestCheck {
        /// The own region.
        region: Region,
        /// The own instance.
        instance: InstanceId,
    },
    /// Takes an Elastic IP. By now this gateway works, as far as that can be seen without a tunnel.
    TakeAddress {
        /// The own region.
        region: Region,
        /// The own instance.
        instance: InstanceId,
        /// The addresses that it may take.
        take: &'a TakeAddress,
    },
    /// Writes tags of the own instance. By now charon must sign with the announced keys, and the state must remember them.
    AnnounceKey {
        /// The own region.
        region: Region,
        /// The own instance.
        instance: InstanceId,
        /// The tags with the values that they should have.
        tags: Vec<(&'static str, String)>,
        /// Whether this gateway cannot do without: its tunnels need it. A pair is all that a `nat-hub` needs it for.
        needed: bool,
    },
    /// Leads a route of the own VPC to this gateway. By now everything else is in force, and peers can find this gateway's key.
    TakeRoute {
        /// The own region.
        region: Region,
        /// The route, and what must be seen before it is taken.
        route: &'a TakeRoute,
    },
}

/// The conclusions of this pass, in order.
pub(super) fn conclusions<'a>(mode: Mode, observed: &Observed, decided: &'a Decided) -> Vec<Conclusion<'a>> {
    let promotes = decided.presence.as_ref().is_some_and(|presence| presence.promote);
    let keys = observed.own.filter(|_| promotes);
    let promote = keys.and_then(|own| Some(Conclusion::PromoteKey { next: own.next_key()?, old: own.current.key }));
    let remember = Conclusion::RememberState(Remember::of(observed, decided));
    let (region, instance) = (observed.me.region.clone(), observed.me.instance.clone());
    let check =
        (observed.source_dest_check() == Some(true)).then_some(Conclusion::StopSourceDestCheck { region, instance });
    // Peers that find the key use the address that they find with it, so it has to be the right one.
    let announces = !decided.announce.is_empty() && !decided.address.is_awaited();
    let announce = announces.then(|| Conclusion::AnnounceKey {
        region: observed.me.region.clone(),
        instance: observed.me.instance.clone(),
        tags: decided.announce.clone(),
        needed: mode.has_ipsec(),
    });
    let take = |route| Conclusion::TakeRoute { region: observed.me.region.clone(), route };
    let routes = decided.vpc_routes.take.iter().map(take);
    let address = match &decided.address {
        OwnAddress::Take(take) => Some(Conclusion::TakeAddress {
            region: observed.me.region.clone(),
            instance: observed.me.instance.clone(),
            take,
        }),
        OwnAddress::Unasked | OwnAddress::Is(_) => None,
    };
    promote.into_iter().chain([remember]).chain(check).chain(address).chain(announce).chain(routes).collect()
}

impl Conclusion<'_> {
    /// Whether it changes anything that an operator has to know about.
    pub(crate) fn is_change(&self) -> bool {
        !matches!(self, Conclusion::RememberState(_))
    }
}

impl fmt::Display for Conclusion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conclusion::PromoteKey { next, old } => {
                write!(f, "use this gateway's key {} in place of {}", next.fingerprint(), old.fingerprint())
            }
            Conclusion::RememberState(_) => f.write_str("remember the peers and EC2's answers"),
            Conclusion::StopSourceDestCheck { instance, .. } => {
                write!(f, "turn off EC2's source/destination check of {instance}")
            }
            Conclusion::AnnounceKey { instance, tags, .. } => {
                let tags: Vec<String> = tags.iter().map(|(tag, value)| format!("{value} in tag {tag}")).collect();
                write!(f, "announce {} of {instance}", tags.join(" and "))
            }
            Conclusion::TakeAddress { take, .. } => take.fmt(f),
            Conclusion::TakeRoute { route, .. } => route.fmt(f),
        }
    }
}

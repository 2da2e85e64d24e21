//! What follows where this gateway waits beside a pair, or another one beside the pair that this one is of.

use super::{
    pair::{me, standing},
    third::{Standing, Waiter, Waits},
};
use crate::{
    model::{OwnInterface, OwnVpc},
    observed::Observed,
    pair::Beside,
    settings::Settings,
};

/// What this gateway waits for beside a pair; `None` if it is one of the two, or if there are no two.
pub(super) fn waits_beside<'a>(
    settings: &Settings,
    observed: &'a Observed,
    vpc: &'a OwnVpc,
    own: &'a OwnInterface,
) -> Option<Waits<'a>> {
    settings.pair?;
    match standing(settings, observed, vpc, own).0 {
        Standing::Waits(waits) => Some(waits),
        Standing::Alone | Standing::With(..) => None,
    }
}

/// The same for `crosswan pair`. Where EC2 does not answer, this gateway waits as it did in the last pass.
pub(super) fn beside(settings: &Settings, observed: &Observed) -> Option<Beside> {
    settings.pair?;
    let destinations = settings.destinations();
    let (Some(Ok(vpc)), Some(own)) = (&observed.vpc, observed.own_interface()) else {
        let last = observed.system.files.pair.as_deref().and_then(Beside::parse);
        return Some(Beside { destinations, ..last.filter(|last| last.me.instance == observed.me.instance)? });
    };
    let Waits { beside, made_way, replaces, has_asked } = waits_beside(settings, observed, vpc, own)?;
    let asks_for = replaces.filter(|_| !has_asked).cloned();
    Some(Beside { me: me(observed, own), beside: beside.map(Clone::clone), made_way, asks_for, destinations })
}

/// What a member of the pair has to say of those that wait beside it; `None` if nobody does.
pub(super) fn note(settings: &Settings, observed: &Observed) -> Option<String> {
    settings.pair?;
    let (Some(Ok(vpc)), Some(own)) = (&observed.vpc, observed.own_interface()) else { return None };
    let (Standing::With(other, _), waiting) = standing(settings, observed, vpc, own) else { return None };
    Some(match waiting.first()? {
        Waiter { instance: left, made_way: Some(heir), .. } => format!(
            "{left} has made way for {heir}, and waits beside the pair of this gateway and {other}: end it, or end {heir}, and {left} is a \
             member again"
        ),
        Waiter { instance: next, asks: Some(member), .. } => {
            let whose = if *member == observed.me.instance { "this gateway's" } else { &format!("{member}'s") };
            format!("{next} waits beside the pair of this gateway and {other}, works, and asks for {whose} place")
        }
        Waiter { instance: next, .. } => format!(
            "{next} waits beside the pair of this gateway and {other}, and is a member when one of the two is gone: to replace one, run \
             crosswan handover --make-way there"
        ),
    })
}

//! Of more than two gateways of a mode in one VPC, which two are the pair.
//!
//! Each of them answers that by what EC2 shows to all of them alike, and by nothing that it remembers or has heard: so two passes that
//! saw different things agree again by the next ones. A gateway that routes lead to comes before one that none leads to, and of two alike
//! the older one comes first. So a newcomer takes nothing from a member that is there, and is one itself when another is gone.

use std::cmp::Reverse;

use crate::{
    model::{Holder, InstanceId, InterfaceId, KeyTags, Member, Mode, OwnInterface, OwnTags, OwnVpc, Timestamp},
    observed::Observed,
};

/// What this gateway is among those of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// The only one.
    Alone,
    /// One of the pair, with this other one.
    With(&'a InstanceId, &'a Member),
    /// Neither of these two, who are the pair.
    Waits([&'a InstanceId; 2]),
}

/// One of the gateways.
struct Candidate<'a> {
    instance: &'a InstanceId,
    /// `None` for this gateway itself.
    member: Option<&'a Member>,
    interface: &'a InterfaceId,
    launched: Timestamp,
    /// Whether EC2 shows that it has announced a key of this mode. One that has not cannot watch anybody.
    announced: bool,
}

impl Candidate<'_> {
    fn rank(&self, vpc: &OwnVpc) -> (Reverse<bool>, Reverse<bool>, Timestamp, &InstanceId) {
        let mut targets = vpc.tables.values().flat_map(|table| table.routes.values()).map(|route| &route.target);
        let holds = targets.any(|target| target.is(self.instance, Some(self.interface)));
        (Reverse(self.announced), Reverse(holds), self.launched, self.instance)
    }
}

/// Where this gateway stands among the `others` of its mode, and the gateways that wait beside the pair, the next one first.
pub(super) fn standing<'a>(
    mode: Mode,
    observed: &'a Observed,
    vpc: &'a OwnVpc,
    own: &'a OwnInterface,
    others: impl Iterator<Item = (&'a InstanceId, &'a Member)>,
) -> (Standing<'a>, Vec<&'a InstanceId>) {
    let nothing = OwnTags::default();
    let tags = observed.tags.as_ref().and_then(|tags| tags.as_ref().ok()).unwrap_or(&nothing);
    let announced = |tags: &KeyTags, instance| {
        tags.key.read().is_some_and(|key| key.is_in(mode, &Holder { vpc: &observed.me.vpc, instance }))
    };
    let me = Candidate {
        instance: &observed.me.instance,
        member: None,
        interface: &own.id,
        launched: own.launched,
        announced: announced(&KeyTags::of(tags.key.as_deref(), tags.next.as_deref()), &observed.me.instance),
    };
    let other = |(instance, member): (&'a InstanceId, &'a Member)| Candidate {
        instance,
        member: Some(member),
        interface: &member.interface,
        launched: member.launched,
        announced: announced(&member.tags, instance),
    };
    let mut all: Vec<_> = others.map(other).chain([me]).collect();
    all.sort_by(|a, b| a.rank(vpc).cmp(&b.rank(vpc)));
    let waiting = all.iter().skip(2).map(|waiting| waiting.instance).collect();
    let standing = match &all[..] {
        [one, two, ..] => match (one.member, two.member) {
            (Some(member), None) => Standing::With(one.instance, member),
            (None, Some(member)) => Standing::With(two.instance, member),
            _ => Standing::Waits([one.instance, two.instance]),
        },
        _ => Standing::Alone,
    };
    (standing, waiting)
}

/// What one that waits has to say of the two that it waits beside.
pub(super) fn waits([one, two]: [&InstanceId; 2]) -> String {
    format!(
        "{one} and {two} are the pair, and this gateway waits beside them: it is a member when one of the two is gone; to replace one, \
         run crosswan handover there and end it"
    )
}

//! Of more than two gateways of a mode in one VPC, which two are the pair.
//!
//! Each of them answers that by what EC2 shows to all of them alike, and by nothing that it remembers or has heard: so two passes that
//! saw different things agree again by the next ones. A gateway that routes lead to comes before one that none leads to, and of two alike
//! the older one comes first. So a newcomer takes nothing from a member that is there, and is one itself when another is gone, or has handed
//! over and made way for it.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::{
    model::{Holder, InstanceId, InterfaceId, KeyTags, Member, Mode, OwnInterface, OwnTags, OwnVpc, Timestamp},
    observed::Observed,
};

/// A gateway that waits.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    pub instance: &'a InstanceId,
    /// Whether it waits for a place: it has announced a key, and was no member that has made way.
    pub is_next: bool,
    /// For whom it has made way, if it has.
    pub made_way: Option<InstanceId>,
}

/// What this gateway is among those of its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// The only one.
    Alone,
    /// One of the pair, with this other one.
    With(&'a InstanceId, &'a Member),
    /// Neither of these two, who are the pair; and for whom it has made way, if it has.
    Waits([&'a InstanceId; 2], Option<InstanceId>),
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
    /// For whom it has made way. That counts as long as EC2 shows that one, with a key.
    makes_way: Option<InstanceId>,
}

impl Candidate<'_> {
    fn rank(&self, vpc: &OwnVpc) -> impl Ord + use<'_> {
        let mut targets = vpc.tables.values().flat_map(|table| table.routes.values()).map(|route| &route.target);
        let holds = targets.any(|target| target.is(self.instance, Some(self.interface)));
        (Reverse(self.announced), Reverse(holds), self.makes_way.is_some(), self.launched, self.instance)
    }
}

/// Where this gateway stands among the `others` of its mode, and the gateways that wait beside the pair, the next one first.
pub(super) fn standing<'a>(
    mode: Mode,
    observed: &'a Observed,
    vpc: &'a OwnVpc,
    own: &'a OwnInterface,
    others: impl Iterator<Item = (&'a InstanceId, &'a Member)>,
) -> (Standing<'a>, Vec<Waiter<'a>>) {
    let tags = observed.tags.as_ref().and_then(|tags| tags.as_ref().ok()).map(OwnTags::tags).unwrap_or_default();
    // Whether it has announced a key of its own, and for whom it has made way by that key.
    let says = |tags: &KeyTags, instance| {
        let holder = Holder { vpc: &observed.me.vpc, instance };
        let key = tags.key.read().filter(|key| key.is_in(mode, &holder));
        let left = key.zip(tags.makes_way.as_ref()).filter(|(key, left)| left.is_by(&key.key, &holder));
        (key.is_some(), left.map(|(_, left)| left.heir.clone()))
    };
    let (announced, makes_way) = says(&tags, &observed.me.instance);
    let me = Candidate {
        instance: &observed.me.instance,
        member: None,
        interface: &own.id,
        launched: own.launched,
        announced,
        makes_way,
    };
    let other = |(instance, member): (&'a InstanceId, &'a Member)| {
        let (announced, makes_way) = says(&member.tags, instance);
        let (interface, launched) = (&member.interface, member.launched);
        Candidate { instance, member: Some(member), interface, launched, announced, makes_way }
    };
    let mut all: Vec<_> = others.map(other).chain([me]).collect();
    let there: BTreeSet<_> = all.iter().filter(|heir| heir.announced).map(|heir| heir.instance.clone()).collect();
    for candidate in &mut all {
        candidate.makes_way.take_if(|heir| heir == candidate.instance || !there.contains(heir));
    }
    all.sort_by(|a, b| a.rank(vpc).cmp(&b.rank(vpc)));
    let left = all.iter().find(|candidate| candidate.member.is_none()).and_then(|me| me.makes_way.clone());
    let waiting = all.iter().skip(2).map(|Candidate { instance, announced, makes_way, .. }| Waiter {
        instance,
        is_next: *announced && makes_way.is_none(),
        made_way: makes_way.clone(),
    });
    let waiting = waiting.collect();
    let standing = match &all[..] {
        [one, two, ..] => match (one.member, two.member) {
            (Some(member), None) => Standing::With(one.instance, member),
            (None, Some(member)) => Standing::With(two.instance, member),
            _ => Standing::Waits([one.instance, two.instance], left),
        },
        _ => Standing::Alone,
    };
    (standing, waiting)
}

/// What one that waits has to say of the two that it waits beside.
pub(super) fn waits([one, two]: [&InstanceId; 2], made_way: Option<&InstanceId>) -> String {
    match made_way {
        Some(heir) => format!(
            "{one} and {two} are the pair, as this gateway has made way for {heir}: end this one, or end {heir}, and this one is a member again"
        ),
        None => format!(
            "{one} and {two} are the pair, and this gateway waits beside them: it is a member when one of the two is gone; to replace one, \
             run crosswan handover --make-way there"
        ),
    }
}

//! Of more than two gateways of a mode in one VPC, which two are the pair.
//!
//! Each of them answers that by what EC2 shows to all of them alike, and by nothing that it remembers or has heard: so two passes that
//! saw different things agree again by the next ones. A gateway that routes lead to comes before one that none leads to, and of two alike
//! the older one comes first. So a newcomer takes nothing from a member that is there, and is one itself when another is gone, or has handed
//! over and made way for it: by order, or because the newcomer works, stands in its zone, and asks it to.

use std::{cmp::Reverse, collections::BTreeSet, fmt, net::Ipv4Addr};

use crate::{
    model::{Holder, InstanceId, InterfaceId, KeyTags, Member, OwnInterface, OwnTags, OwnVpc, Timestamp},
    observed::Observed,
    settings::Settings,
};

/// A gateway that waits.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    pub instance: &'a InstanceId,
    /// Whether it waits for a place: it has announced a key, and was no member that has made way.
    pub is_next: bool,
    /// The member whose place it asks for, if it does.
    pub asks: Option<InstanceId>,
    /// Its private address; `None` of this gateway itself.
    pub address: Option<Ipv4Addr>,
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
    /// None of the pair.
    Waits(Waits<'a>),
}

/// What a gateway waits for. `Display` is what its report says of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waits<'a> {
    /// The two that are the pair.
    pub beside: [&'a InstanceId; 2],
    /// For whom it has made way, if it was one of them and has.
    pub made_way: Option<InstanceId>,
    /// The member whose place it takes: the older one in its zone. `None` if none stands there, or settings have it wait.
    pub replaces: Option<&'a InstanceId>,
    /// Whether EC2 shows that it asks for that.
    pub has_asked: bool,
}

impl fmt::Display for Waits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Waits { beside: [one, two], made_way, replaces, has_asked } = self;
        if let Some(heir) = made_way {
            return write!(
                f,
                "{one} and {two} are the pair, as this gateway has made way for {heir}: end this one, or end {heir}, and this one is a member again"
            );
        }
        write!(
            f,
            "{one} and {two} are the pair, and this gateway waits beside them: it is a member when one of the two is gone; "
        )?;
        match replaces {
            Some(old) if *has_asked => {
                write!(f, "it has asked {old} for its place, which hands over once a refresh there has seen that")
            }
            Some(old) => {
                write!(f, "once it has worked for a while it asks {old}, the older one in its zone, for its place")
            }
            None => f.write_str("to replace one, run crosswan handover --make-way there"),
        }
    }
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
    /// Whose place it asks for.
    asks: Option<InstanceId>,
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
    settings: &Settings,
    observed: &'a Observed,
    vpc: &'a OwnVpc,
    own: &'a OwnInterface,
    others: impl Iterator<Item = (&'a InstanceId, &'a Member)>,
) -> (Standing<'a>, Vec<Waiter<'a>>) {
    let tags = observed.tags.as_ref().and_then(|tags| tags.as_ref().ok()).map(OwnTags::tags).unwrap_or_default();
    // What it says by a key of its own counts.
    let candidate = |instance, member, interface, launched, tags: &KeyTags| {
        let holder = Holder { vpc: &observed.me.vpc, instance };
        let key = tags.key.read().filter(|key| key.is_in(settings.mode, &holder)).map(|key| key.key);
        let left = tags.makes_way.as_ref().filter(|left| key.is_some_and(|key| left.makes_way(&key, &holder)));
        let asks = tags.takes_place.as_ref().filter(|asks| key.is_some_and(|key| asks.takes_place(&key, &holder)));
        let [makes_way, asks] = [left, asks].map(|claim| claim.map(|claim| claim.other.clone()));
        Candidate { instance, member, interface, launched, announced: key.is_some(), makes_way, asks }
    };
    let me = candidate(&observed.me.instance, None, &own.id, own.launched, &tags);
    let other = |(instance, member): (&'a InstanceId, &'a Member)| {
        candidate(instance, Some(member), &member.interface, member.launched, &member.tags)
    };
    let mut all: Vec<_> = others.map(other).chain([me]).collect();
    let there: BTreeSet<_> = all.iter().filter(|heir| heir.announced).map(|heir| heir.instance.clone()).collect();
    for candidate in &mut all {
        candidate.makes_way.take_if(|heir| heir == candidate.instance || !there.contains(heir));
    }
    all.sort_by(|a, b| a.rank(vpc).cmp(&b.rank(vpc)));
    let waiting = all.iter().skip(2).map(|Candidate { instance, member, announced, makes_way, asks, .. }| Waiter {
        instance,
        is_next: *announced && makes_way.is_none(),
        asks: asks.clone(),
        address: member.map(|member| member.address),
        made_way: makes_way.clone(),
    });
    let waiting = waiting.collect();
    let standing = match &all[..] {
        [one, two, ..] => match (one.member, two.member) {
            (Some(member), None) => Standing::With(one.instance, member),
            (None, Some(member)) => Standing::With(two.instance, member),
            (one_member, two_member) => {
                let me = all.iter().find(|candidate| candidate.member.is_none());
                let (made_way, asks) = me.map(|me| (me.makes_way.clone(), me.asks.clone())).unwrap_or_default();
                let may = made_way.is_none() && settings.pair.is_some_and(|pair| pair.newcomer_replaces);
                let members = [(one, one_member), (two, two_member)].into_iter().filter(|_| may);
                let here = members
                    .filter(|(_, member)| vpc.zone.is_some() && member.is_some_and(|member| member.zone == vpc.zone));
                let replaces = here.map(|(old, _)| (old.launched, old.instance)).min().map(|(_, old)| old);
                let has_asked = asks.as_ref() == replaces;
                Standing::Waits(Waits { beside: [one.instance, two.instance], made_way, replaces, has_asked })
            }
        },
        _ => Standing::Alone,
    };
    (standing, waiting)
}

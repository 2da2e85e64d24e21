//! Security groups and their rules. Rules are only added; the default egress rule goes where the document has `egress`.

use std::collections::BTreeSet;

use super::{planner::Planner, step::Step};
use crate::{
    desired::Fault,
    part::{CAST, Part, Ref, Tags},
    rule::{Peer, Rule},
    seen::{Group, Id, Tagged},
    text,
    tree::KeyPath,
};

impl<'a> Planner<'a> {
    pub(super) fn plan_groups(&mut self) {
        // All groups before any rule: rules name groups.
        for name in self.desired.groups.keys() {
            let part = Part::group(name);
            let found = match self.find_group(name) {
                Some((id, group)) => {
                    self.adopt(id, group, &part, Tags::new(), "by its name");
                    Ref::Id(id.clone())
                }
                None => {
                    let (vpc, tags) = (self.vpc.clone(), self.desired.tags(&part));
                    self.step(Step::CreateGroup { part: part.clone(), vpc, name: name.clone(), tags });
                    Ref::New(part)
                }
            };
            self.groups.insert(name.clone(), found);
        }
        for name in self.desired.groups.keys() {
            self.rules(name);
        }
    }

    fn find_group(&self, name: &str) -> Option<(&'a Id, &'a Group)> {
        self.seen.groups.iter().find(|(_, g)| g.name == name && self.in_vpc(&g.vpc))
    }
    pub(super) fn group_in_vpc(&self, name: &str) -> Option<Ref> {
        self.find_group(name).map(|(id, _)| Ref::Id(id.clone()))
    }

    /// The rules of a group, other groups by their name where they are in the VPC.
    fn rules_of(&self, name: &str) -> BTreeSet<Rule> {
        let Some((_, group)) = self.find_group(name) else { return [Rule::default_egress()].into() };
        let by_name = |rule: &Rule| match &rule.peer {
            Peer::Cidr(_) => rule.clone(),
            Peer::Group(id) => {
                let name = self.seen.groups.get(id).filter(|g| self.in_vpc(&g.vpc)).map(|g| g.name.clone());
                Rule { peer: Peer::Group(name.unwrap_or_else(|| id.clone())), ..rule.clone() }
            }
        };
        group.rules.iter().map(by_name).collect()
    }

    fn rules(&mut self, name: &str) {
        let Some(wanted) = self.desired.groups.get(name) else { return };
        let Some(group) = self.groups.get(name).cloned() else { return };
        let other = |g: &Group| g.tag(CAST).is_some_and(|cast| cast != self.desired.cast);
        if self.find_group(name).is_some_and(|(_, group)| other(group)) {
            return;
        }
        let there = self.rules_of(name);
        for (rule, why) in wanted.rules.iter().filter(|(rule, _)| !there.contains(rule)) {
            if let Peer::Group(peer) = &rule.peer
                && self.group(peer).is_none()
            {
                let what = format!("the group {} is neither in the document nor in the VPC", text::quoted(peer));
                self.out.faults.push(Fault { path: KeyPath::parse(why), what });
                continue;
            }
            let (group, rule, why) = (group.clone(), rule.clone(), why.clone());
            self.step(Step::Allow { group, rule, why });
        }
        let default = Rule::default_egress();
        if let Some(app) = &wanted.limits_egress
            && there.contains(&default)
            && !wanted.rules.contains_key(&default)
        {
            self.step(Step::RevokeDefaultEgress {
                group: group.clone(),
                why: format!("egress of {app} takes its place"),
            });
        }
        let more = there.iter().filter(|rule| !wanted.rules.contains_key(rule) && **rule != default).count();
        if more > 0 {
            self.left(&group, format!("{name}: has {} that the document does not have", text::count(more, "rule")));
        }
    }
}

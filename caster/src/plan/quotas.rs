//! What the account may not have is known before anything is made.

use super::{outcome::Need, planner::Planner, step::Step};
use crate::{
    desired::Fault,
    document::BalancerKind,
    seen::{Balancer, Seen, quota},
    text,
};

impl Planner<'_> {
    /// What the steps so far need, and what of it the account may not have.
    pub(super) fn quotas(&mut self) {
        self.needs();
        let faults = self.out.needs.iter().filter_map(|need| need.exceeds(self.seen, 0));
        let mut faults: Vec<Fault> = faults.collect();
        let desired = self.desired;
        let launches = desired.gateways.iter().map(|g| (&g.path, &g.launch));
        let launches = launches.chain(desired.apps.iter().map(|a| (&a.path, &a.launch)));
        let launches = launches.chain(desired.scaled.iter().map(|a| (&a.path, &a.launch)));
        for (path, launch) in launches {
            let (has, max) = (launch.groups.len(), self.seen.quotas.get(quota::GROUPS_PER_INTERFACE));
            faults.extend(max.filter(|max| has > **max).map(|max| {
                let has = text::count(has, "security group");
                Fault {
                    path: path.key("groups"),
                    what: format!("{has}, but the account may have {max} on an interface"),
                }
            }));
        }
        self.out.faults.extend(faults);
    }

    fn needs(&mut self) {
        use BalancerKind::{Application, Classic, Network};
        let (seen, desired) = (self.seen, self.desired);
        let new = |is: &dyn Fn(&Step) -> bool| self.out.steps.iter().filter(|step| is(step)).count();
        let mut needs = Vec::new();
        let mut need = |quota, what, new, used, path| {
            let path = Option::filter(path, |_| new > 0);
            needs.extend(path.map(|path: &crate::tree::KeyPath| Need { quota, what, new, used, path: path.clone() }));
        };
        let addresses = new(&|s| matches!(s, Step::AllocateAddress { .. }));
        let first = desired.gateways.first().map(|g| &g.path);
        need(quota::ELASTIC_IPS, "Elastic IP", addresses, seen.addresses.len(), first);
        for (quota, what, kind) in [
            (quota::APPLICATION, "application load balancer", Application),
            (quota::NETWORK, "network load balancer", Network),
            (quota::CLASSIC, "classic load balancer", Classic),
        ] {
            let used = seen.balancers.values().filter(|b: &&Balancer| b.kind == kind).count();
            let first = desired.balancers.iter().find(|b| b.kind == kind).map(|b| &b.path);
            need(quota, what, new(&|s| matches!(s, Step::CreateBalancer(b) if b.kind == kind)), used, first);
        }
        let groups = new(&|s| matches!(s, Step::CreateTargetGroup { .. }));
        let first = desired.balancers.first().map(|b| &b.path);
        need(quota::TARGET_GROUPS, "target group", groups, seen.target_groups.len(), first);
        let groups = new(&|s| matches!(s, Step::CreateScalingGroup(_)));
        let first = desired.scaled.first().map(|a| &a.path);
        need(quota::SCALING_GROUPS, "Auto Scaling group", groups, seen.scaling_groups.len(), first);
        self.out.needs = needs;
    }
}

impl Need {
    /// The fault, if the account may not have so many; `before` are those that earlier documents make.
    pub fn exceeds(&self, seen: &Seen, before: usize) -> Option<Fault> {
        let (new, used) = (self.new, self.used);
        let max = seen.quotas.get(self.quota).filter(|max| used + before + new > **max)?;
        let others = if before > 0 { format!(" and {before} that other documents make") } else { String::new() };
        let what = format!(
            "{} must be made, but {used} of the {max} that the account may have in {} are taken{others}; ask AWS for a higher \
             quota, or remove one",
            text::count(new, self.what),
            seen.region
        );
        Some(Fault { path: self.path.clone(), what })
    }
}

//! What the account may not have is known before anything is made.

use super::{planner::Planner, step::Step};
use crate::{
    desired::Fault,
    document::BalancerKind,
    seen::{Balancer, quota},
    text,
    tree::KeyPath,
};

impl Planner<'_> {
    pub(super) fn quotas(&mut self) {
        let (seen, desired) = (self.seen, self.desired);
        let steps = |is: fn(&Step) -> bool| self.out.steps.iter().filter(|step| is(step)).count();
        let of = |kind| seen.balancers.values().filter(|b: &&Balancer| b.kind == kind).count();
        let balancer = |kind| desired.balancers.iter().find(|b| b.kind == kind).map(|b| b.path.clone());
        let new_balancers =
            |kind| self.out.steps.iter().filter(|s| matches!(s, Step::CreateBalancer(b) if b.kind == kind)).count();
        let (application, network, classic) = (BalancerKind::Application, BalancerKind::Network, BalancerKind::Classic);
        let all = [
            (
                quota::ELASTIC_IPS,
                "Elastic IP",
                steps(|s| matches!(s, Step::AllocateAddress { .. })),
                seen.addresses.len(),
                desired.gateways.first().map(|g| g.path.clone()),
            ),
            (
                quota::APPLICATION,
                "application load balancer",
                new_balancers(application),
                of(application),
                balancer(application),
            ),
            (quota::NETWORK, "network load balancer", new_balancers(network), of(network), balancer(network)),
            (quota::CLASSIC, "classic load balancer", new_balancers(classic), of(classic), balancer(classic)),
            (
                quota::TARGET_GROUPS,
                "target group",
                steps(|s| matches!(s, Step::CreateTargetGroup { .. })),
                seen.target_groups.len(),
                desired.balancers.first().map(|b| b.path.clone()),
            ),
            (
                quota::SCALING_GROUPS,
                "Auto Scaling group",
                steps(|s| matches!(s, Step::CreateScalingGroup(_))),
                seen.scaling_groups.len(),
                desired.scaled.first().map(|a| a.path.clone()),
            ),
        ];
        let mut faults: Vec<Fault> = Vec::new();
        for (name, what, new, used, path) in all {
            let max = seen.quotas.get(name).filter(|max| new > 0 && used + new > **max);
            faults.extend(max.zip(path).map(|(max, path)| {
                let what = format!(
                    "{} must be made, but {used} of the {max} that the account may have in {} are taken; ask AWS for a \
                     higher quota, or remove one",
                    text::count(new, what),
                    seen.region
                );
                Fault { path, what }
            }));
        }
        let launches = desired.gateways.iter().map(|g| (&g.path, &g.launch));
        let launches = launches.chain(desired.apps.iter().map(|a| (&a.path, &a.launch)));
        let launches = launches.chain(desired.scaled.iter().map(|a| (&a.path, &a.launch)));
        for (path, launch) in launches {
            let (has, max) = (launch.groups.len(), seen.quotas.get(quota::GROUPS_PER_INTERFACE));
            faults.extend(max.filter(|max| has > **max).map(|max| {
                let what = format!("{has} security groups, but the account may have {max} on an interface");
                Fault { path: KeyPath::key(path, "groups"), what }
            }));
        }
        self.out.faults.extend(faults);
    }
}

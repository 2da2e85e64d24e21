//! Records in Route 53: a CNAME for nat, an alias for new load balancers. A record has no tags, so whose it is shows in
//! where it points.

use super::{planner::Planner, resource::RecordKind, step::Step};
use crate::{
    desired::{Record, RecordTarget},
    part::Ref,
    seen, text,
};

impl Planner<'_> {
    pub(super) fn records(&mut self) {
        for record in &self.desired.records {
            match record.to {
                RecordTarget::Gateway(i) => {
                    let Some(slot) = self.slots.get(i) else { continue };
                    let (target, value) = (slot.interface.clone(), slot.dns.clone());
                    if value.is_none() && !slot.dns_will_change {
                        let why = "has no public DNS name, so its record is left as it is";
                        self.left(target, why);
                        continue;
                    }
                    self.record(record, RecordKind::Cname, target, value);
                }
                RecordTarget::Balancer(i) => {
                    let Some(target) = self.balancers.get(i).cloned().flatten() else { continue };
                    let value = match &target {
                        Ref::Id(id) => self.seen.balancers.get(id).map(|b| b.dns.clone()),
                        Ref::New(_) => None,
                    };
                    // A CNAME that is there stays one: a change of type is a gap for whoever resolves it meanwhile.
                    let cname = self.seen.records.iter().any(|r| r.name == record.name && r.kind == "CNAME");
                    self.record(record, if cname { RecordKind::Cname } else { RecordKind::Alias }, target, value);
                }
            }
        }
    }

    fn record(&mut self, record: &Record, kind: RecordKind, target: Ref, value: Option<String>) {
        let value = value.map(|v| normal(&v));
        let there: Vec<&seen::Record> = self.seen.records.iter().filter(|r| r.name == record.name).collect();
        let spelled = if kind == RecordKind::Cname { "CNAME" } else { "A" };
        if let Some(other) =
            there.iter().find(|r| r.kind != spelled && !(r.kind == "AAAA" && kind == RecordKind::Alias))
        {
            let why =
                format!("has a record of type {}, beside which there can be no {spelled}", text::plain(&other.kind));
            return self.foreign(&record.name, why);
        }
        let old = there.iter().find(|r| r.kind == spelled);
        if let Some(old) = old {
            if value.as_ref() == Some(&normal(&old.value)) {
                return;
            }
            if let Some(owner) = self.owner(&old.value) {
                let why = format!(
                    "points to {}, which belongs to {owner}: two documents claim the name",
                    text::plain(&old.value)
                );
                return self.foreign(&record.name, why);
            }
        }
        let (name, old) = (record.name.clone(), old.map(|r| r.value.clone()));
        self.step(Step::SetRecord { name, kind, old, target, value });
    }

    /// Another VPC that has what a record points to.
    fn owner(&self, value: &str) -> Option<String> {
        let value = normal(value);
        let interface =
            self.seen.interfaces.values().find(|e| e.public_dns.as_ref().is_some_and(|d| normal(d) == value));
        let balancer = self.seen.balancers.values().find(|b| normal(&b.dns) == value);
        let vpc = interface.map(|e| &e.vpc).or(balancer.map(|b| &b.vpc))?;
        (!self.in_vpc(vpc)).then(|| text::plain(vpc))
    }
}

/// DNS names compare without the final dot and in small letters; an alias to a load balancer may have `dualstack.` before.
fn normal(name: &str) -> String {
    let name = name.trim_end_matches('.').to_lowercase();
    name.strip_prefix("dualstack.").map(str::to_owned).unwrap_or(name)
}

//! What documents make it necessary to ask, beside what is asked in any case.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use crate::{
    document::{BalancerKind, Document, UserData},
    names::Names,
};

/// The questions of the documents of one region.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Values of the tag `crosswan-cast`.
    pub casts: BTreeSet<String>,
    pub vpcs: BTreeSet<Ipv4Net>,
    pub instance_types: BTreeSet<String>,
    pub image_ids: BTreeSet<String>,
    /// With wildcards, as EC2's filter has them.
    pub image_names: BTreeSet<String>,
    pub image_owners: BTreeSet<String>,
    /// Names of load balancers, target groups, launch templates and Auto Scaling groups: `NAME-ENV`.
    pub names: BTreeSet<String>,
    pub certificates: bool,
    /// Application or network load balancers, classic ones, and Auto Scaling groups: whose quotas matter.
    pub balancers: bool,
    pub classic: bool,
    pub scaling: bool,
    /// Fully qualified names of records.
    pub records: BTreeSet<String>,
    /// Hosted zones, with the final dot.
    pub zones: BTreeSet<String>,
    /// `ssm:NAME` and `secretsmanager:NAME`.
    pub references: BTreeSet<String>,
}

impl Query {
    /// Adds what one document asks for.
    pub fn add<'a>(&mut self, document: &Document, data: impl IntoIterator<Item = &'a UserData>) {
        let names = Names::of(document);
        self.casts.insert(names.cast());
        self.vpcs.insert(document.vpc.cidr);
        let nat = document.nat.iter().map(|n| (&n.instance_type, &n.ami, &n.aminame));
        let apps = document.apps.iter().map(|a| (&a.instance_type, &a.ami, &a.aminame));
        for (kind, id, name) in nat.chain(apps) {
            self.instance_types.insert(kind.clone());
            match (id, name) {
                (Some(id), _) => _ = self.image_ids.insert(id.clone()),
                (None, Some(x)) => {
                    let x = literal(x);
                    let prefixes = [format!("{}-", literal(&document.aws.env)), "all-".to_owned(), String::new()];
                    self.image_names.extend(prefixes.map(|prefix| format!("{prefix}{x}-*")));
                }
                (None, None) => {}
            }
        }
        self.image_owners.extend(document.aws.image_owners.iter().cloned());
        self.names.extend(document.apps.iter().map(|a| names.full(&a.name)));
        self.scaling |= document.apps.iter().any(|a| a.autoscale.is_some());
        for elb in &document.elbs {
            let classic = elb.kind() == BalancerKind::Classic;
            self.classic |= classic;
            self.balancers |= !classic;
            self.names.insert(names.full(&elb.name));
            self.names.extend(elb.listeners.iter().map(|l| names.target_group(&elb.name, l.to)));
            self.certificates |= elb.listeners.iter().any(|l| l.cert.is_some());
        }
        let named = document.nat.iter().map(|n| &n.name).chain(document.elbs.iter().map(|e| &e.name));
        self.records.extend(named.map(|name| names.dns(name)));
        if !self.records.is_empty() {
            self.zones.insert(document.aws.zone.to_lowercase());
        }
        self.references.extend(data.into_iter().filter_map(|d| match d {
            UserData::Reference(name) => Some(name.clone()),
            UserData::Text(_) => None,
        }));
    }
}

/// A filter value that matches only itself: EC2 takes `*` and `?` for wildcards and `\` for their escape.
fn literal(value: &str) -> String {
    value.chars().flat_map(|c| matches!(c, '*' | '?' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn a_name_of_the_document_is_not_a_pattern() {
        assert_eq!(literal("n*t?\\"), "n\\*t\\?\\\\");
    }
}

//! A region that has nothing but what a document takes for granted, under ids that become parameters.

use std::collections::BTreeMap;

use crate::{
    document::{Digest, Document, Secret, UserData},
    seen::{Address, Certificate, Image, InstanceType, Seen},
};

const IMAGE: &str = "ami-parameter/";
const ADDRESS: &str = "eipalloc-parameter/";
const CERTIFICATE: &str = "arn:parameter/";

/// The region, with everything that the document names.
pub(super) fn region(document: &Document, data: &BTreeMap<String, UserData>) -> Seen {
    let aws = &document.aws;
    let mut seen = Seen {
        region: aws.region.clone(),
        account: aws.account.clone().unwrap_or_default(),
        zones: document.vpc.azs.iter().map(|zone| (zone.clone(), "availability-zone".to_owned())).collect(),
        ..Seen::default()
    };
    let nat = document.nat.iter().map(|n| (&n.instance_type, &n.ami, &n.aminame, &n.role, Some(&n.keypair), &n.addrs));
    let apps = document.apps.iter();
    let apps = apps.map(|a| (&a.instance_type, &a.ami, &a.aminame, &a.role, a.keypair.as_ref(), &a.addrs));
    for (kind, id, name, role, key_pair, addresses) in nat.chain(apps) {
        seen.instance_types.insert(kind.clone(), any(document));
        let image = |id: String, name: String| {
            let image = Image {
                name,
                owner: seen.account.clone(),
                owner_alias: None,
                available: true,
                architecture: "any".to_owned(),
                virtualization: "any".to_owned(),
                root: None,
                root_gib: None,
            };
            (id, image)
        };
        let image = match (id, name) {
            (Some(id), _) => Some(image(id.clone(), String::new())),
            (None, Some(name)) => Some(image(format!("{IMAGE}{name}"), format!("{name}-00000000000000"))),
            (None, None) => None,
        };
        seen.images.extend(image);
        seen.profiles.insert(role.clone());
        seen.key_pairs.extend(key_pair.cloned());
        for public in addresses {
            let address = Address { public: *public, interface: None, tags: BTreeMap::new() };
            seen.addresses.insert(format!("{ADDRESS}{public}"), address);
        }
    }
    for name in document.elbs.iter().flat_map(|e| e.listeners.iter().filter_map(|l| l.cert.clone())) {
        let certificate = Certificate { names: [name.clone()].into(), iam: true, issued: true, days_left: None };
        seen.certificates.insert(format!("{CERTIFICATE}{name}"), certificate);
    }
    seen.hosted_zones.insert(aws.zone.to_lowercase(), String::new());
    // Any text stands for one that is elsewhere: only that there is one matters.
    let elsewhere: Digest = Secret::new(String::new()).digest();
    for reference in data.values() {
        if let UserData::Reference(name) = reference {
            seen.references.insert(name.clone(), elsewhere.clone());
        }
    }
    seen
}

fn any(document: &Document) -> InstanceType {
    InstanceType {
        zones: document.vpc.azs.iter().cloned().collect(),
        architectures: ["any".to_owned()].into(),
        virtualizations: ["any".to_owned()].into(),
        current: true,
    }
}

/// Name, type and description of the parameter for a made-up id. An image that the document names by id keeps it.
pub(super) fn parameter(id: &str) -> (String, &'static str, String) {
    if let Some(name) = id.strip_prefix(IMAGE) {
        let description = format!("The newest image called {name}, as cloudcaster plan shows it");
        return (format!("ImageOf{}", super::logical(name)), "AWS::EC2::Image::Id", description);
    }
    if let Some(public) = id.strip_prefix(ADDRESS) {
        let description = format!("Allocation id of the Elastic IP {public}");
        return (format!("AllocationOf{}", super::logical(public)), "String", description);
    }
    let name = id.strip_prefix(CERTIFICATE).unwrap_or(id);
    (format!("CertificateOf{}", super::logical(name)), "String", format!("ARN of the certificate {name}"))
}

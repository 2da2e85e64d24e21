//! Plans of single situations: what is adopted, left alone, refused.

mod instances;
mod others;
mod routes;

use std::collections::BTreeSet;

use cloudcaster::{
    document::Document,
    part::Tags,
    plan::Plan,
    seen::{Instance, Interface, Seen, State},
};
use serde_json::{Value, json};

use crate::{
    documents::{EXAMPLE, value, with},
    model::Region,
    properties::region,
};

pub fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

pub fn cast(document: &Document) -> Region {
    let mut region = Region::new(region("example-empty-region"));
    region.cast(document);
    region
}

/// An instance beside its interface, in the first private subnet of the VPC that was cast.
pub fn instance(seen: &mut Seen, id: &str, state: State, tags: &[(&str, &str)]) {
    let (subnet, there) = seen.subnets.iter().next().unwrap();
    let tags: Tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let eni = id.replacen("i-", "eni-", 1);
    let interface = Interface {
        vpc: there.vpc.clone(),
        subnet: subnet.clone(),
        private: there.cidr.hosts().nth(9).unwrap(),
        secondary: BTreeSet::new(),
        public: None,
        public_dns: None,
        groups: BTreeSet::new(),
        source_dest_check: true,
        instance: Some(id.to_owned()),
        tags: Tags::new(),
    };
    let instance = Instance {
        vpc: there.vpc.clone(),
        subnet: subnet.clone(),
        state,
        image: "ami-ccf297fc".into(),
        instance_type: "t1.micro".into(),
        interface: eni.clone(),
        source_dest_check: true,
        imds_v1: false,
        tags,
    };
    seen.interfaces.insert(eni, interface);
    seen.instances.insert(id.to_owned(), instance);
}

/// The example with one plain app of two instances.
pub fn plain() -> Value {
    let app = json!([{ "name": "web", "svctag": "web", "group": "web", "type": "t1.micro", "role": "discovery",
        "ami": "ami-ccf297fc", "keypair": "yourkeyhere", "count": 2 }]);
    with(&value(EXAMPLE), "/apps", app)
}

pub const OLD: [(&str, &str); 3] = [("service", "web"), ("env", "prod"), ("Name", "web-prod")];

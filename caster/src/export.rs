//! Pure: a document as a CloudFormation template, for those who want AWS to keep the state.
//!
//! The template is made of the steps of a cast into a region that has nothing but what the document takes for granted. What that is
//! (images, allocated addresses, certificates, user data) become parameters. CloudFormation can neither adopt what is there nor use a
//! VPC's main table or default ACL, so tables and ACL are its own; and since it deletes with the stack, everything is retained.

mod granted;
mod network;
mod serving;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    decide::decide,
    desired::{Desired, Fault},
    document::{BalancerKind, Digest, Ready, Secret},
    part::{Part, Ref, Tags},
    plan::{Options, Step, plan},
};

/// A template under way.
pub(crate) struct Template<'a> {
    desired: &'a Desired,
    resources: Map<String, Value>,
    parameters: Map<String, Value>,
    /// User data that is not secret.
    texts: &'a BTreeMap<Digest, Secret>,
}

/// The template of one document.
///
/// # Errors
/// The document asks for something that cannot be anywhere.
pub fn cloudformation(ready: &Ready) -> Result<Value, Vec<Fault>> {
    let seen = granted::region(&ready.document, &ready.data);
    let decision = decide(&ready.document, &ready.data, &seen);
    let plan = plan(&decision.desired, &seen, Options::default());
    let mut faults: Vec<Fault> = decision.faults.iter().chain(&plan.faults).cloned().collect();
    let classic = decision.desired.balancers.iter().filter(|b| b.kind == BalancerKind::Classic);
    let what = "a classic load balancer, which is not exported".to_owned();
    faults.extend(classic.map(|b| Fault { path: b.path.key("type"), what: what.clone() }));
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut template =
        Template { desired: &decision.desired, resources: Map::new(), parameters: Map::new(), texts: &decision.texts };
    template.acl();
    for step in &plan.steps {
        template.step(step);
    }
    let Template { resources, parameters, .. } = template;
    let mut out = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("{} made by cloudcaster from a document", decision.desired.cast),
        "Resources": resources,
    });
    if !parameters.is_empty() {
        out["Parameters"] = Value::Object(parameters);
    }
    Ok(out)
}

/// A logical id: `app/vpn-hub/0/interface` is `AppVpnHub0Interface`.
fn logical(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    let upper = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    };
    words.map(upper).collect()
}

fn id_of(part: &Part) -> String {
    logical(part.as_str())
}

impl Template<'_> {
    /// Everything is retained: CloudFormation would delete it with the stack.
    fn add(&mut self, id: &str, kind: &str, properties: Value) {
        let resource = json!({
            "Type": kind,
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": properties,
        });
        self.resources.insert(id.to_owned(), resource);
    }

    /// One that must exist before.
    fn after(&mut self, id: &str, before: &str) {
        if let Some(resource) = self.resources.get_mut(id) {
            resource["DependsOn"] = json!(before);
        }
    }

    /// A reference to another resource, or the parameter that stands for what the document takes for granted.
    fn refer(&mut self, reference: &Ref) -> Value {
        match reference {
            Ref::New(part) => json!({ "Ref": id_of(part) }),
            Ref::Id(id) => self.parameter(id),
        }
    }

    /// What the region is taken to have, by its made-up id.
    fn parameter(&mut self, id: &str) -> Value {
        let (name, kind, description) = granted::parameter(id);
        self.parameters.insert(name.clone(), json!({ "Type": kind, "Description": description }));
        json!({ "Ref": name })
    }

    /// A zone, which an account may have under another name.
    fn zone(&mut self, zone: &str) -> Value {
        let name = format!("Zone{}", logical(zone));
        let parameter = json!({ "Type": "AWS::EC2::AvailabilityZone::Name", "Default": zone });
        self.parameters.insert(name.clone(), parameter);
        json!({ "Ref": name })
    }

    /// What an attribute of another resource says; a parameter has no attributes, and is the value itself.
    fn attribute(&mut self, reference: &Ref, attribute: &str) -> Value {
        match reference {
            Ref::New(part) => json!({ "Fn::GetAtt": [id_of(part), attribute] }),
            Ref::Id(id) => self.parameter(id),
        }
    }

    /// User data in Base64: inline if it is crosswan's settings, else a parameter that is not shown.
    fn user_data(&mut self, digest: &Digest, whose: &str) -> Value {
        if let Some(text) = self.texts.get(digest) {
            return json!({ "Fn::Base64": text.reveal() });
        }
        let name = format!("UserDataOf{}", logical(whose));
        let description = format!("User data of {whose}, {digest}");
        self.parameters.insert(name.clone(), json!({ "Type": "String", "NoEcho": true, "Description": description }));
        json!({ "Fn::Base64": { "Ref": name } })
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::CreateTargetGroup { .. }
            | Step::CreateBalancer(_)
            | Step::CreateListener { .. }
            | Step::CreateTemplate { .. }
            | Step::CreateScalingGroup(_)
            | Step::Launch(_)
            | Step::Register { .. }
            | Step::SetRecord { .. } => self.serving(step),
            other => self.network(other),
        }
    }
}

fn tags(tags: &Tags) -> Value {
    Value::Array(tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect())
}

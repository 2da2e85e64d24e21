//! IAM of the lab: puts policy files to the requests gateways make, since moto looks at neither `Condition` nor `Resource`
//! (`docs/facts.md`, "moto"). The rules are those of the pages `docs/iam/README.md` names.

pub mod accounts;
mod policy;

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Result;
use roxmltree::{Document, Node};

use self::accounts::{Accounts, HOME as ACCOUNT, ORGANIZATION};
pub use self::policy::{Decision, Policy};
use crate::ec2::{Answer, Elements};
use crate::http::decoded;
use crate::lab::Lab;
use crate::lock;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// ARN of the role or user.
    pub principal: String,
    /// ARN of the instance whose role it is; a person has none.
    pub instance: Option<String>,
    /// `o-…`
    pub organization: String,
}

/// What is asked for, as far as it counts.
#[derive(Clone, Debug, Default)]
pub struct Call {
    action: String,
    region: String,
    /// Ids, of the actions in [`RESOURCE`], CreateTags and DeleteTags, or ARNs; other actions have no resource but `*`.
    pub resources: Vec<String>,
    /// What ModifyInstanceAttribute sets: name and value.
    attributes: Vec<(String, String)>,
    /// The service that gets a role, of PassRole.
    passed_to: Option<&'static str>,
    /// `eipassoc-…`, by which an address is named that is given up.
    association: Option<String>,
    tag_keys: Vec<String>,
    /// The tags that the resources have.
    pub tagged: BTreeMap<String, String>,
    /// `vpc-…` of a route table.
    pub vpc: Option<String>,
    /// What AssumeRole says to the role's trust policy.
    external_id: Option<String>,
}

/// In which field these actions name their resource (Service Authorization Reference). A route's target is none: nothing authorises it.
const RESOURCE: [(&str, &str); 6] = [
    ("ec2:AssociateAddress", "AllocationId"),
    ("ec2:AssociateAddress", "InstanceId"),
    ("ec2:ModifyInstanceAttribute", "InstanceId"),
    ("ec2:CreateRoute", "RouteTableId"),
    ("ec2:ReplaceRoute", "RouteTableId"),
    ("ec2:DeleteRoute", "RouteTableId"),
];

type Keys = BTreeMap<String, Vec<String>>;

impl Caller {
    /// An instance with a role.
    pub fn gateway(role: &str, region: &str, instance: &str) -> Caller {
        Caller {
            principal: format!("arn:aws:iam::{ACCOUNT}:role/{role}"),
            instance: Some(format!("arn:aws:ec2:{region}:{ACCOUNT}:instance/{instance}")),
            organization: ORGANIZATION.into(),
        }
    }

    /// Somebody else, of that name.
    pub fn user(name: &str) -> Caller {
        let organization = ORGANIZATION.into();
        Caller { principal: format!("arn:aws:iam::{ACCOUNT}:user/{name}"), instance: None, organization }
    }
}

impl Call {
    /// The call an EC2 query makes: its region, and its form as it was sent.
    pub fn new(region: &str, form: &str) -> Call {
        let mut call = Call { region: region.into(), ..Call::default() };
        for (key, value) in form.split('&').filter_map(|pair| pair.split_once('=')) {
            let (key, value) = (decoded(key), decoded(value));
            match key.split('.').collect::<Vec<_>>()[..] {
                ["Action"] => call.action = format!("ec2:{value}"),
                ["ResourceId", _] => call.resources.push(value),
                ["Tag", _, "Key"] => call.tag_keys.push(value),
                [name, "Value"] => call.attributes.push((name.into(), value)),
                _ => {}
            }
        }
        let named = RESOURCE.iter().filter(|(action, _)| *action == call.action);
        call.resources.extend(named.filter_map(|(_, name)| crate::proxy::call::field(form, name)).map(decoded));
        let association = crate::proxy::call::field(form, "AssociationId").map(decoded);
        call.association = association.filter(|_| call.action == "ec2:DisassociateAddress");
        call
    }

    /// An action of any service, such as `organizations:ListAccounts`, that has no resource.
    pub fn of(region: &str, action: &str) -> Call {
        Call { action: action.into(), region: region.into(), ..Call::default() }
    }

    /// AssumeRole of this role.
    pub fn assume(region: &str, role: &str, external_id: Option<&str>) -> Call {
        let (action, resources) = ("sts:AssumeRole".into(), vec![role.into()]);
        Call {
            action,
            region: region.into(),
            resources,
            external_id: external_id.map(str::to_owned),
            ..Call::default()
        }
    }

    /// Looks up in EC2 what conditions may ask of the resources: their tags, and a route table's VPC. `ask` takes a query.
    pub(crate) fn look_up(&mut self, ask: impl Fn(&str) -> Result<String>) -> Result<()> {
        if let Some(id) = &self.association {
            let filter = format!("Filter.1.Name=association-id&Filter.1.Value.1={id}");
            let address = Answer(ask(&format!("Action=DescribeAddresses&Version=2016-11-15&{filter}"))?);
            self.resources.extend(address.first("allocationId").ok());
        }
        for id in self.resources.iter().filter(|id| !id.starts_with("arn:")) {
            let filter = format!("Filter.1.Name=resource-id&Filter.1.Value.1={id}");
            let tags = ask(&format!("Action=DescribeTags&Version=2016-11-15&{filter}"))?;
            let tags = Document::parse(&tags)?;
            let items = tags.descendants().filter(|n| n.is_called("item"));
            let tag = |n: Node| Some((n.value("key")?.to_string(), n.value("value").unwrap_or_default().to_string()));
            self.tagged.extend(items.filter_map(tag));
            if id.starts_with("rtb-") {
                let filter = format!("Filter.1.Name=route-table-id&Filter.1.Value.1={id}");
                let table = Answer(ask(&format!("Action=DescribeRouteTables&Version=2016-11-15&{filter}"))?);
                self.vpc = table.first("vpcId").ok();
            }
        }
        Ok(())
    }

    /// Everything that must be allowed for a request to any service: its own action, and those that come with it, as tags in the
    /// call that makes something, a role for an instance, and the launches of a group.
    pub(crate) fn all(call: &crate::proxy::call::Call, path: &str, form: &str) -> Vec<Call> {
        let value = |name: &str| crate::proxy::call::field(form, name).map(decoded);
        let of = |action: &str| Call::of(&call.region, action);
        let mut own = match call.service.as_str() {
            "ec2" => Call::new(&call.region, form),
            "sts" if call.action == "AssumeRole" => {
                let role = value("RoleArn").unwrap_or_default();
                Call::assume(&call.region, &role, value("ExternalId").as_deref())
            }
            service => of(&format!("{service}:{}", call.action)),
        };
        if call.service == "route53" && !path.contains("hostedzonesbyname") {
            let path = path.trim_start_matches("/2013-04-01/").trim_end_matches("/rrset");
            let id: Vec<&str> = path.split(['/', '?']).take(2).collect();
            own.resources = vec![format!("arn:aws:route53:::{}", id.join("/"))];
        }
        let mut all = vec![own];
        let makes = call.action.starts_with("Create") || ["RunInstances", "AllocateAddress"].contains(&&*call.action);
        let tags = match call.service.as_str() {
            "ec2" if form.contains("TagSpecification.1.") => Some("ec2:CreateTags"),
            "elasticloadbalancing" if form.contains("Tags.member.1.") => Some("elasticloadbalancing:AddTags"),
            "autoscaling" if form.contains("Tags.member.1.") => Some("autoscaling:CreateOrUpdateTags"),
            _ => None,
        };
        all.extend(tags.filter(|_| makes).map(of));
        if let Some(profile) = value("IamInstanceProfile.Name") {
            let role = format!("arn:aws:iam::{ACCOUNT}:role/{profile}");
            all.push(Call { resources: vec![role], passed_to: Some("ec2.amazonaws.com"), ..of("iam:PassRole") });
        }
        if call.service == "autoscaling" && form.contains("LaunchTemplate.") {
            all.push(of("ec2:RunInstances"));
        }
        all
    }

    /// Each resource's ARN, and the keys of a request for it. All of them must be allowed.
    fn requests(&self, caller: &Caller) -> Vec<(String, Keys)> {
        let mut keys = Keys::from([
            ("aws:requestedregion".into(), vec![self.region.clone()]),
            ("aws:principalarn".into(), vec![caller.principal.clone()]),
        ]);
        keys.insert("aws:principalorgid".into(), vec![caller.organization.clone()]);
        keys.extend(self.external_id.clone().map(|id| ("sts:externalid".into(), vec![id])));
        keys.extend(caller.instance.clone().map(|arn| ("ec2:sourceinstancearn".into(), vec![arn])));
        if !self.tag_keys.is_empty() {
            keys.insert("aws:tagkeys".into(), self.tag_keys.clone());
        }
        keys.extend(self.passed_to.map(|service| ("iam:passedtoservice".into(), vec![service.into()])));
        for service in ["aws", "ec2"] {
            let key = |(key, value): (&String, &String)| (format!("{service}:resourcetag/{key}"), vec![value.clone()]);
            keys.extend(self.tagged.iter().map(key));
        }
        let arn = |id: &String| format!("arn:aws:ec2:{}:{ACCOUNT}:vpc/{id}", self.region);
        keys.extend(self.vpc.iter().map(|id| ("ec2:vpc".into(), vec![arn(id)])));
        let attribute =
            |(name, value): &(String, String)| (format!("ec2:attribute/{}", name.to_lowercase()), vec![value.clone()]);
        keys.extend(self.attributes.iter().map(attribute));
        if self.resources.is_empty() {
            return vec![("*".into(), keys)];
        }
        let of_one = |id: &String| {
            if id.starts_with("arn:") {
                return (id.clone(), keys.clone());
            }
            let kind = match id.split_once('-') {
                Some(("i", _)) => "instance",
                Some(("vpc", _)) => "vpc",
                Some(("rtb", _)) => "route-table",
                Some(("eipalloc", _)) => "elastic-ip",
                _ => "other",
            };
            let mut keys = keys.clone();
            // DeleteTags does not know the instance's id (Service Authorization Reference).
            if kind == "instance" && self.action != "ec2:DeleteTags" {
                keys.insert("ec2:instanceid".into(), vec![id.clone()]);
            }
            (format!("arn:aws:ec2:{}:{ACCOUNT}:{kind}/{id}", self.region), keys)
        };
        self.resources.iter().map(of_one).collect()
    }
}

/// The roles of the lab's gateways, and what they may do.
#[derive(Debug, Default)]
pub struct Iam {
    /// By access key.
    sessions: Mutex<BTreeMap<String, (String, Caller)>>,
    /// By role. `None`: everything is allowed, to everyone.
    policies: Mutex<Option<BTreeMap<String, Policy>>>,
    /// What belongs to other accounts than the lab's own.
    pub accounts: Accounts,
}

impl Iam {
    /// From now on a gateway may do what its role's policy in this list allows, and nothing else.
    pub fn enforce<'a>(&self, policies: impl IntoIterator<Item = (&'a str, Policy)>) {
        *lock(&self.policies) = Some(policies.into_iter().map(|(role, policy)| (role.to_owned(), policy)).collect());
    }

    /// The access key of an instance's role, for its IMDS to hand out.
    pub(crate) fn session(&self, role: &str, region: &str, instance: &str) -> String {
        let key = format!("ASIA{}", instance.trim_start_matches("i-").to_uppercase());
        lock(&self.sessions).insert(key.clone(), (role.into(), Caller::gateway(role, region, instance)));
        key
    }

    /// Somebody who is no gateway, with an access key of that name and the policy of that role.
    pub fn operator(&self, access_key: &str, role: &str) {
        lock(&self.sessions).insert(access_key.into(), (role.into(), Caller::user(role)));
    }

    /// Whether policies count at all.
    pub(crate) fn counts(&self) -> bool {
        lock(&self.policies).is_some()
    }

    /// Whether policies count for this access key in all services, and not in EC2 alone.
    pub(crate) fn is_operator(&self, access_key: &str) -> bool {
        lock(&self.policies).is_some()
            && lock(&self.sessions).get(access_key).is_some_and(|(_, caller)| caller.instance.is_none())
    }

    /// STS's answer to a gateway's AssumeRole, as both its role's policy and the other role's trust policy have it; the error is STS's
    /// words.
    pub(crate) fn assumed(&self, access_key: &str, call: &Call) -> Result<String, String> {
        self.refusal(access_key, call).map_or(Ok(()), Err)?;
        let caller = lock(&self.sessions).get(access_key).map(|(_, caller)| caller.clone());
        let answer = caller.and_then(|caller| self.accounts.assumed(&caller, call));
        answer.ok_or_else(|| format!("not authorized to perform: sts:AssumeRole on resource: {:?}", call.resources))
    }

    /// An answer as the account of this access key gets it.
    pub(crate) fn shown(&self, access_key: &str, action: &str, body: String) -> anyhow::Result<String> {
        let account = {
            let sessions = lock(&self.sessions);
            self.accounts.of(access_key, sessions.get(access_key).map(|(_, caller)| caller))
        };
        match account {
            Some(account) => self.accounts.shown(&account, action, body),
            None => Ok(body),
        }
    }

    /// EC2's words to a call that is not allowed. An access key of no instance is not known to it.
    pub(crate) fn refusal(&self, access_key: &str, call: &Call) -> Option<String> {
        let policies = lock(&self.policies);
        let policies = policies.as_ref()?;
        let sessions = lock(&self.sessions);
        // A session of another account's role: its policy is that of `docs/iam` in every account.
        let assumed = self.accounts.of(access_key, None).map(|_| ("discover".to_owned(), Caller::user("session")));
        let Some((role, caller)) = sessions.get(access_key).or(assumed.as_ref()) else {
            return Some(format!("no session {access_key}"));
        };
        let attached: Vec<_> = policies.get(role).cloned().into_iter().collect();
        let why = match Policy::decide(&attached, caller, call) {
            Decision::Allowed => return None,
            Decision::NotAllowed => "because no identity-based policy allows it",
            Decision::Denied => "with an explicit deny in an identity-based policy",
        };
        let (user, action) = (&caller.principal, &call.action);
        Some(format!(
            "You are not authorized to perform this operation. User: {user} is not authorized to perform: {action} {why}"
        ))
    }
}

impl Lab {
    /// What the gateways' roles may do at their EC2 endpoint; everything, until [`Iam::enforce`].
    pub fn iam(&self) -> &Iam {
        &self.internet.iam
    }
}

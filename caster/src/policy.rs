//! Pure: the least IAM policy with which a document can be cast, and with which a cast can be repeated.
//!
//! Only what the document needs is in it: no load balancers without `elbs`, no Auto Scaling without `autoscale`. What makes or
//! changes something is bound to the document's region; launches may pass the document's roles only.

use serde_json::{Value, json};

use crate::{
    desired::{Desired, Wanted},
    document::{BalancerKind, Document, UserData},
};

/// Actions that only a VPC that was not made by this tool needs, or one in which somebody changed something by hand.
const MEND: [&str; 11] = [
    "autoscaling:AttachLoadBalancerTargetGroups",
    "autoscaling:AttachLoadBalancers",
    "ec2:CreateTags",
    "ec2:ModifyInstanceAttribute",
    "ec2:ReplaceNetworkAclEntry",
    "ec2:ReplaceRoute",
    "ec2:ReplaceRouteTableAssociation",
    "elasticloadbalancing:AddTags",
    "elasticloadbalancing:ModifyTargetGroup",
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:UpdateAutoScalingGroup",
];

/// The policy of one document. `desired` is what it decides to; which images and certificates it found does not matter. With `mend`
/// it is also enough to adopt what is there and to put right what was changed.
pub fn policy(document: &Document, desired: &Desired, mend: bool) -> Value {
    let needs = Needs::of(document, desired);
    let region = &document.aws.region;
    let here = json!({ "StringEquals": { "aws:RequestedRegion": region } });
    let mut statements = Vec::new();
    let mut allow = |sid: &str, actions: Vec<&str>, resource: Value, condition: Option<Value>| {
        if actions.is_empty() {
            return;
        }
        let mut statement = json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource });
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statements.push(statement);
    };
    allow("LookAround", needs.look(), json!("*"), Some(here.clone()));
    allow("LookAtWhatHasNoRegion", needs.look_globally(), json!("*"), None);
    allow("MakeTheNetwork", needs.network(), json!("*"), Some(here.clone()));
    allow("MakeGateways", needs.gateways(), json!("*"), Some(here.clone()));
    allow("MakeLoadBalancers", needs.balancers(), json!("*"), Some(here.clone()));
    allow("MakeGroupsOfInstances", needs.scaling(), json!("*"), Some(here.clone()));
    if mend {
        let relevant = |action: &&&str| match action.split(':').next() {
            Some("elasticloadbalancing") => needs.balancers,
            Some("autoscaling") => needs.scaling,
            _ => true,
        };
        allow("AdoptAndMend", MEND.iter().filter(relevant).copied().collect(), json!("*"), Some(here));
    }
    let roles: Vec<Value> = needs.roles.iter().map(|role| json!(format!("arn:aws:iam::*:role/{role}"))).collect();
    if !roles.is_empty() {
        let to_ec2 = json!({ "StringEquals": { "iam:PassedToService": "ec2.amazonaws.com" } });
        allow("GiveInstancesTheirRole", vec!["iam:PassRole"], json!(roles), Some(to_ec2));
    }
    if let Some(role) = document.aws.r53xacct.as_ref().filter(|_| !desired.records.is_empty()) {
        allow("ChangeRecordsInAnotherAccount", vec!["sts:AssumeRole"], json!(role), None);
    } else if !desired.records.is_empty() {
        allow("ListZones", vec!["route53:ListHostedZonesByName"], json!("*"), None);
        let records = vec!["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"];
        allow("ChangeRecords", records, json!("arn:aws:route53:::hostedzone/*"), None);
        allow("SeeRecordsArrive", vec!["route53:GetChange"], json!("arn:aws:route53:::change/*"), None);
    }
    let referred = document.apps.iter().filter_map(|app| app.userdata.as_ref()).map(UserData::of);
    let (mut parameters, mut secrets) = (Vec::new(), Vec::new());
    for data in referred {
        let UserData::Reference(reference) = data else { continue };
        match reference.split_once(':') {
            Some(("ssm", name)) => {
                let name = name.trim_start_matches('/');
                parameters.push(json!(format!("arn:aws:ssm:{region}:*:parameter/{name}")));
            }
            Some((_, name)) => secrets.push(json!(format!("arn:aws:secretsmanager:{region}:*:secret:{name}-*"))),
            None => {}
        }
    }
    for (sid, action, arns) in [
        ("ReadParametersForUserData", "ssm:GetParameter", parameters),
        ("ReadSecretsForUserData", "secretsmanager:GetSecretValue", secrets),
    ] {
        if !arns.is_empty() {
            allow(sid, vec![action], json!(arns), None);
        }
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// What a document makes necessary.
struct Needs<'a> {
    desired: &'a Desired,
    roles: Vec<&'a str>,
    certificates: bool,
    /// Classic load balancers are among `elbs`, and others.
    classic: bool,
    modern: bool,
    balancers: bool,
    scaling: bool,
    public: bool,
}

impl<'a> Needs<'a> {
    fn of(document: &'a Document, desired: &'a Desired) -> Self {
        let nat = document.nat.iter().map(|nat| nat.role.as_str());
        let mut roles: Vec<&str> = nat.chain(document.apps.iter().map(|app| app.role.as_str())).collect();
        roles.sort_unstable();
        roles.dedup();
        let kinds: Vec<BalancerKind> = desired.balancers.iter().map(|b| b.kind).collect();
        Needs {
            desired,
            roles,
            certificates: document.elbs.iter().any(|e| e.listeners.iter().any(|l| l.cert.is_some())),
            classic: kinds.contains(&BalancerKind::Classic),
            modern: kinds.iter().any(|kind| *kind != BalancerKind::Classic),
            balancers: !kinds.is_empty(),
            scaling: !desired.scaled.is_empty(),
            public: desired.subnets.iter().any(|s| s.public),
        }
    }

    fn look(&self) -> Vec<&'static str> {
        let mut actions = vec![
            "autoscaling:DescribeAutoScalingGroups",
            "ec2:DescribeAccountAttributes",
            "ec2:DescribeAddresses",
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeInstances",
            "ec2:DescribeInternetGateways",
            "ec2:DescribeKeyPairs",
            "ec2:DescribeLaunchTemplates",
            "ec2:DescribeNetworkAcls",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeRouteTables",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeTags",
            "ec2:DescribeVpcAttribute",
            "ec2:DescribeVpcs",
            "elasticloadbalancing:DescribeLoadBalancers",
            "elasticloadbalancing:DescribeTargetGroups",
        ];
        if !self.roles.is_empty() {
            actions.extend(["ec2:DescribeImages", "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes"]);
        }
        if !self.desired.gateways.is_empty() {
            actions.push("ec2:DescribeInstanceStatus");
        }
        if self.scaling {
            actions.extend(["autoscaling:DescribeAccountLimits", "ec2:DescribeLaunchTemplateVersions"]);
        }
        if self.balancers {
            actions.extend([
                "elasticloadbalancing:DescribeAccountLimits",
                "elasticloadbalancing:DescribeLoadBalancerAttributes",
                "elasticloadbalancing:DescribeTags",
            ]);
        }
        if self.modern {
            actions.extend(["elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeTargetHealth"]);
        }
        if self.desired.balancers.iter().any(|b| b.kind == BalancerKind::Network) {
            actions.push("elasticloadbalancing:DescribeListenerAttributes");
        }
        if self.certificates {
            actions.extend(["acm:ListCertificates", "acm:ListTagsForCertificate"]);
        }
        actions.sort_unstable();
        actions
    }

    fn look_globally(&self) -> Vec<&'static str> {
        let mut actions = vec!["iam:ListInstanceProfiles"];
        if self.certificates {
            actions.push("iam:ListServerCertificates");
        }
        actions
    }

    fn network(&self) -> Vec<&'static str> {
        let desired = self.desired;
        let mut actions = vec![
            "ec2:AssociateRouteTable",
            "ec2:AttachInternetGateway",
            "ec2:CreateInternetGateway",
            "ec2:CreateSubnet",
            "ec2:CreateTags",
            "ec2:CreateVpc",
            "ec2:ModifyVpcAttribute",
        ];
        if self.public {
            actions.push("ec2:CreateRouteTable");
        }
        if !desired.routes.is_empty() {
            actions.push("ec2:CreateRoute");
        }
        if !desired.groups.is_empty() {
            actions.push("ec2:CreateSecurityGroup");
        }
        if desired.groups.values().any(|g| g.rules.keys().any(|rule| !rule.egress)) {
            actions.push("ec2:AuthorizeSecurityGroupIngress");
        }
        let default = crate::rule::Rule::default_egress();
        if desired.groups.values().any(|g| g.rules.keys().any(|rule| rule.egress && *rule != default)) {
            actions.push("ec2:AuthorizeSecurityGroupEgress");
        }
        if desired.groups.values().any(|g| g.limits_egress.is_some() && !g.rules.contains_key(&default)) {
            actions.push("ec2:RevokeSecurityGroupEgress");
        }
        if desired.acl.is_some() {
            let entries = ["ec2:CreateNetworkAclEntry", "ec2:DeleteNetworkAclEntry", "ec2:ReplaceNetworkAclEntry"];
            actions.extend(entries);
        }
        actions.sort_unstable();
        actions
    }

    fn gateways(&self) -> Vec<&'static str> {
        let desired = self.desired;
        let gateways = &desired.gateways;
        let mut actions = Vec::new();
        if !gateways.is_empty() {
            actions.extend(["ec2:CreateNetworkInterface", "ec2:ModifyNetworkInterfaceAttribute"]);
        }
        if gateways.iter().any(|g| g.address == Wanted::Own) {
            actions.push("ec2:AllocateAddress");
        }
        let given = desired.apps.iter().any(|a| !a.addresses.is_empty());
        if !gateways.is_empty() || given || desired.scaled.iter().any(|a| !a.addresses.is_empty()) {
            actions.push("ec2:AssociateAddress");
        }
        if !gateways.is_empty() || desired.apps.iter().any(|a| a.count > 0) || self.scaling {
            actions.push("ec2:RunInstances");
        }
        actions.sort_unstable();
        actions
    }

    fn balancers(&self) -> Vec<&'static str> {
        if !self.balancers {
            return Vec::new();
        }
        let desired = self.desired;
        let mut actions = vec!["elasticloadbalancing:AddTags", "elasticloadbalancing:CreateLoadBalancer"];
        let attributes = |b: &crate::desired::Balancer| b.kind != BalancerKind::Application || b.idle_timeout.is_some();
        if desired.balancers.iter().any(attributes) {
            actions.push("elasticloadbalancing:ModifyLoadBalancerAttributes");
        }
        let network = |b: &crate::desired::Balancer| b.kind == BalancerKind::Network && b.idle_timeout.is_some();
        if desired.balancers.iter().any(network) {
            actions.push("elasticloadbalancing:ModifyListenerAttributes");
        }
        if self.modern {
            actions.extend(["elasticloadbalancing:CreateListener", "elasticloadbalancing:CreateTargetGroup"]);
        }
        if self.classic {
            actions.extend([
                "elasticloadbalancing:ConfigureHealthCheck",
                "elasticloadbalancing:CreateLoadBalancerListeners",
            ]);
        }
        if desired.apps.iter().any(|a| !a.balancers.is_empty()) {
            let modern = "elasticloadbalancing:RegisterTargets";
            let classic = "elasticloadbalancing:RegisterInstancesWithLoadBalancer";
            actions.extend(self.modern.then_some(modern).into_iter().chain(self.classic.then_some(classic)));
        }
        actions.sort_unstable();
        actions
    }

    fn scaling(&self) -> Vec<&'static str> {
        if !self.scaling {
            return Vec::new();
        }
        let mut actions = vec![
            "autoscaling:CreateAutoScalingGroup",
            "autoscaling:CreateOrUpdateTags",
            "autoscaling:UpdateAutoScalingGroup",
            "ec2:CreateLaunchTemplate",
            "ec2:CreateLaunchTemplateVersion",
        ];
        if self.desired.scaled.iter().any(|a| !a.private_addresses.is_empty()) {
            actions.push("ec2:AssignPrivateIpAddresses");
        }
        actions.sort_unstable();
        actions
    }
}

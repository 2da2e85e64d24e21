//! The CloudFormation templates of `docs/cloudformation`: they are without a fault to cfn-lint, moto makes stacks of them, and the
//! gateways of these stacks connect their VPCs with nothing but the roles and the settings that the templates give them.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Lab, ec2::Answer, iam::Policy};
use serde_json::{Map, Value, json};

use crate::region::{Region, UP, agent, eventually};

const HUB_REGION: &str = "us-west-2";
const CLIENT_REGION: &str = "eu-west-1";
/// A stack: its name, template, region and parameters.
type Stack = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);
const STACKS: [Stack; 2] = [
    (
        "hub",
        "hub-vpc",
        HUB_REGION,
        &[("VpnHubImage", "ami-00000001"), ("NatHubImage", "ami-00000002"), ("Regions", CLIENT_REGION)],
    ),
    ("a", "client-vpc", CLIENT_REGION, &[("NatVpnImage", "ami-00000003"), ("HubRegion", HUB_REGION)]),
];
/// Each role: its stack, its logical name, and the file that its policy is made from.
const ROLES: [(usize, &str, &str); 3] =
    [(0, "VpnHubRole", "vpn-hub"), (0, "NatHubRole", "nat-hub"), (1, "NatVpnRole", "nat-vpn")];

fn document(path: &str) -> Result<String> {
    let path = format!("{}/docs/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).context(path)
}

#[test]
fn cfn_lint_finds_nothing_in_the_templates() -> Result<()> {
    let lint = crosswan_lab::moto_server()?.with_file_name("cfn-lint");
    for (_, template, ..) in STACKS {
        let file = format!("{}/docs/cloudformation/{template}.yaml", env!("CARGO_MANIFEST_DIR"));
        let regions = [HUB_REGION, CLIENT_REGION, "--", &file];
        let output = Command::new(&lint).args(["--include-checks", "I", "--regions"]).args(regions).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && said.is_empty(), "{template}:\n{said}");
    }
    Ok(())
}

/// A template as JSON, as cfn-lint reads it.
fn resources(template: &str) -> Result<Map<String, Value>> {
    let program =
        "import json, sys; from cfnlint.decode import decode; print(json.dumps(decode(sys.argv[1])[0]['Resources']))";
    let file = format!("{}/docs/cloudformation/{template}.yaml", env!("CARGO_MANIFEST_DIR"));
    let python = crosswan_lab::moto_server()?.with_file_name("python");
    let output = Command::new(python).args(["-c", program, &file]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A stack that is made.
struct Made {
    name: &'static str,
    region: &'static str,
    outputs: Answer,
    /// Physical ids by logical ones.
    ids: BTreeMap<String, String>,
}

impl Made {
    fn new(lab: &Lab, (name, template, region, parameters): Stack) -> Result<Made> {
        let body = document(&format!("cloudformation/{template}.yaml"))?;
        let mut all = vec![("StackName".to_owned(), name), ("TemplateBody".into(), &body)];
        all.push(("Capabilities.member.1".into(), "CAPABILITY_IAM"));
        for (n, (key, value)) in (1..).zip(parameters) {
            all.push((format!("Parameters.member.{n}.ParameterKey"), key));
            all.push((format!("Parameters.member.{n}.ParameterValue"), value));
        }
        let all: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let call = |action: &str, parameters: &[(&str, &str)]| {
            lab.ec2().query("cloudformation", "2010-05-15", region, action, parameters)
        };
        call("CreateStack", &all)?;
        let outputs = call("DescribeStacks", &[("StackName", name)])?;
        let resources = resources(template)?;
        let id = |logical: &String| {
            let of = [("StackName", name), ("LogicalResourceId", logical)];
            // A security group's rule has none in moto.
            let id = call("DescribeStackResource", &of)?.first("PhysicalResourceId");
            Ok((logical.clone(), id.unwrap_or_default()))
        };
        let ids = resources.keys().map(id).collect::<Result<_>>()?;
        let made = Made { name, region, outputs, ids };
        made.complete(lab, &resources)?;
        Ok(made)
    }

    /// What CloudFormation does with these resources and moto does not: it tags route tables, associates them with subnets, and tags
    /// Elastic IPs. Those that moto has made lead nowhere, so others are made in their places.
    fn complete(&self, lab: &Lab, resources: &Map<String, Value>) -> Result<()> {
        let tag = |id: &str, properties: &Value| {
            for tag in properties["Tags"].as_array().into_iter().flatten() {
                let named = |reference: &Value| (reference == "AWS::StackName").then_some(self.name);
                let (key, value) = (tag["Key"].as_str(), tag["Value"].as_str().or(named(&tag["Value"]["Ref"])));
                let (Some(key), Some(value)) = (key, value) else { continue };
                let tag = [("ResourceId.1", id), ("Tag.1.Key", key), ("Tag.1.Value", value)];
                lab.ec2().call(self.region, "CreateTags", &tag)?;
            }
            Ok::<_, anyhow::Error>(())
        };
        for (n, (logical, resource)) in resources.iter().enumerate() {
            let properties = &resource["Properties"];
            let of = |key: &str| self.id(properties[key]["Ref"].as_str().unwrap_or_default());
            match resource["Type"].as_str() {
                Some("AWS::EC2::SubnetRouteTableAssociation") => {
                    let both = [("RouteTableId", of("RouteTableId")?), ("SubnetId", of("SubnetId")?)];
                    lab.ec2().call(self.region, "AssociateRouteTable", &both)?;
                }
                Some("AWS::EC2::RouteTable") => tag(self.id(logical)?, properties)?,
                Some("AWS::EC2::EIP") => {
                    let form = [("Domain", "vpc"), ("Address", &format!("198.51.100.{}", 100 + n))];
                    tag(&lab.ec2().get(self.region, "AllocateAddress", &form, "allocationId")?, properties)?;
                }
                // moto has no IMDS that could refuse version 1.
                Some("AWS::EC2::LaunchTemplate") => {
                    let options = &properties["LaunchTemplateData"]["MetadataOptions"];
                    let hops = &options["HttpPutResponseHopLimit"];
                    ensure!(options["HttpTokens"] == "required" && *hops == 1, "{logical}: {options}");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn id(&self, logical: &str) -> Result<&str> {
        self.ids.get(logical).map(String::as_str).with_context(|| format!("{logical} in {:?}", self.ids))
    }

    fn output(&self, key: &str) -> Result<&str> {
        let (_, rest) = self.outputs.0.split_once(&format!("<OutputKey>{key}</OutputKey>")).context(key.to_owned())?;
        let value = rest.split_once("<OutputValue>").and_then(|(_, rest)| rest.split_once('<'));
        Ok(value.context(key.to_owned())?.0)
    }

    /// The policy that the stack has given a role, as IAM has it.
    fn policy(&self, lab: &Lab, role: &str) -> Result<Value> {
        let of = [("RoleName", self.id(role)?), ("PolicyName", "crosswan")];
        let policy =
            lab.ec2().query("iam", "2010-05-08", "us-east-1", "GetRolePolicy", &of)?.first("PolicyDocument")?;
        // moto writes it as Python does.
        serde_json::from_str(&policy.replace('\'', "\"")).with_context(|| policy)
    }
}

/// A private host in a subnet of the stack.
fn host(lab: &Lab, region: &str, subnet: &str, name: &str) -> Result<()> {
    let parameters = [
        ("ImageId", "ami-00000004"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", subnet),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "Name"),
        ("TagSpecification.1.Tag.1.Value", name),
    ];
    lab.ec2().call(region, "RunInstances", &parameters)?;
    Ok(())
}

/// The file of `docs/iam`, filled in as the template does. Only the hub has Elastic IPs.
fn filled(file: &str, regions: &[&str], stack: &Made) -> Result<Value> {
    let mut policy: Value = serde_json::from_str(&document(&format!("iam/{file}.json"))?)?;
    let statements = policy["Statement"].as_array_mut().context("statements")?;
    if file != "vpn-hub" {
        statements.retain(|statement| !statement["Sid"].as_str().is_some_and(|sid| sid.starts_with("TakeAddress")));
    }
    for statement in statements {
        let actions = statement["Action"].as_array_mut().filter(|_| file != "vpn-hub");
        actions.into_iter().for_each(|actions| actions.retain(|action| action != "ec2:DescribeAddresses"));
        let condition = &mut statement["Condition"];
        let own = stack.region;
        if let Some(asked) = condition.pointer_mut("/StringEquals/aws:RequestedRegion") {
            *asked = if regions.is_empty() { json!(own) } else { json!([regions, &[own]].concat()) };
        }
        if condition.pointer("/StringEquals/aws:ResourceTag~1crosswan-routes").is_some() {
            let vpc = stack.output("VpcId")?;
            condition["ArnLike"]["ec2:Vpc"] = json!(format!("arn:aws:ec2:{own}:123456789012:vpc/{vpc}"));
        }
        if condition.pointer("/Null/aws:ResourceTag~1crosswan-address").is_some() {
            *condition = json!({ "StringEquals": { "aws:ResourceTag/crosswan-address": stack.name } });
        }
    }
    Ok(policy)
}

#[test]
fn two_stacks_come_up_by_themselves_and_their_private_hosts_reach_each_other() -> Result<()> {
    let lab = Lab::builder(agent()?).region(HUB_REGION).region(CLIENT_REGION).build()?;
    let stacks = STACKS.into_iter().map(|stack| Made::new(&lab, stack)).collect::<Result<Vec<_>>>()?;
    for stack in &stacks {
        let (vpc, region) = (stack.output("VpcId")?, stack.region);
        for gateway in lab.ec2().vpc(region, vpc)?.instances {
            ensure!(gateway.public.is_some(), "without a public address it could not ask EC2: {gateway:#?}");
        }
        for (subnet, name) in stack.output("PrivateSubnetIds")?.split(',').zip(["host", "second"]) {
            host(&lab, region, subnet, name)?;
        }
        lab.adopt(stack.name, region, vpc)?;
    }
    let mut policies = Vec::new();
    for (n, role, file) in ROLES {
        let stack = &stacks[n];
        let found = stack.policy(&lab, role)?;
        let regions: &[&str] = match file {
            "vpn-hub" => &[CLIENT_REGION],
            "nat-vpn" => &[HUB_REGION],
            _ => &[],
        };
        let wanted = filled(file, regions, stack)?;
        ensure!(found == wanted, "{role} is {found:#}\nand {file}.json, filled in, is {wanted:#}");
        policies.push((format!("crosswan-{file}"), Policy::new(&found)?));
    }
    lab.iam().enforce(policies.iter().map(|(role, policy)| (role.as_str(), policy.clone())));
    let region = Region::booted(lab)?;
    region.settle()?;
    for host in region.lab.hosts() {
        eventually(UP, "the internet is reached", || host.reaches(region.lab.internet().address))?;
    }
    let hub = region.gateway("hub/vpn-hub")?;
    let settings = hub.read_file("/etc/crosswan/conf.d/50-stack.toml")?;
    let wanted = format!(
        "private_net = [\"10.0.0.0/8\"]\nregions = [\"{CLIENT_REGION}\"]\n\
         address.tag = {{ key = \"crosswan-address\", value = \"hub\" }}\n"
    );
    ensure!(settings == wanted, "{settings}");
    let addresses = region.lab.ec2().addresses(HUB_REGION, &hub.instance)?;
    ensure!(addresses.len() == 1, "it has taken one of its two Elastic IPs: {addresses:?}");
    Ok(())
}

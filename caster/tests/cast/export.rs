//! The CloudFormation template of a document: without a fault to cfn-lint, and making the same environment in moto.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use crosswan_lab::{RouteTable, Target};
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::cloud::{Cloud, REGION, document};

fn template(cloud: &Cloud, name: &str) -> Result<Value> {
    let output = cloud.run(&["export", "cloudformation", "--json", &document(name)])?;
    ensure!(output.code == 0, "{name}: exit {}\n{}", output.code, output.stderr);
    Ok(serde_json::from_str(&output.stdout)?)
}

#[test]
fn cfn_lint_finds_nothing_in_the_templates_of_the_documents() -> Result<()> {
    let cloud = Cloud::new()?;
    let lint = crosswan_lab::moto_server()?.with_file_name("cfn-lint");
    for name in ["hub", "client", "example"] {
        let file = cloud.lab.dir().join(format!("{name}.template.json"));
        fs::write(&file, serde_json::to_string_pretty(&template(&cloud, name)?)?)?;
        let output = Command::new(&lint).args(["--regions", REGION, "--"]).arg(&file).output()?;
        ensure!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

#[test]
fn no_text_of_a_document_that_may_be_secret_is_in_its_template() -> Result<()> {
    let cloud = Cloud::new()?;
    let text = fs::read_to_string(document("example"))?;
    let text = text.replacen("\"count\": 1,", "\"count\": 1, \"userdata\": \"not-to-be-shown\",", 1);
    let file = cloud.lab.dir().join("secret.json");
    fs::write(&file, text)?;
    let output = cloud.run(&["export", "cloudformation", &file.display().to_string()])?;
    ensure!(output.code == 0 && output.stdout.contains("\"NoEcho\": true"), "{}{}", output.stderr, output.stdout);
    for secret in ["not-to-be-shown", "If I only had a secret"] {
        ensure!(!output.stdout.contains(secret), "{secret} is shown");
    }
    Ok(())
}

/// Destinations, and the kind of what they lead to.
type Routes = BTreeMap<Ipv4Net, &'static str>;

/// Those of each route table that leads anywhere but into its VPC. To which subnets they belong moto does not take from a template.
fn routes(cloud: &Cloud) -> Result<BTreeSet<Routes>> {
    let ec2 = cloud.lab.ec2();
    let of_cidr = [("Filter.1.Name", "cidr"), ("Filter.1.Value.1", "203.0.113.128/26")];
    let view = ec2.vpc(REGION, &ec2.get(REGION, "DescribeVpcs", &of_cidr, "vpcId")?)?;
    let kind = |target: &Target| match target {
        Target::Local => "local",
        Target::Internet => "the internet",
        Target::Instance(_) | Target::Interface(_) => "a gateway",
        Target::Nowhere => "nothing",
    };
    let of = |table: &RouteTable| table.routes.iter().map(|(to, target)| (*to, kind(target))).collect::<Routes>();
    Ok(view.tables.iter().map(of).filter(|routes| routes.len() > 1).collect())
}

#[test]
fn moto_makes_the_network_of_a_client_from_its_template_as_a_cast_does() -> Result<()> {
    let (cast, stack) = (Cloud::new()?, Cloud::new()?);
    cast.cast(&[&document("client")])?;
    let body = template(&stack, "client")?.to_string();
    let parameters = [
        ("StackName", "client"),
        ("TemplateBody", body.as_str()),
        ("Parameters.member.1.ParameterKey", "ImageOfNatVpn"),
        ("Parameters.member.1.ParameterValue", "ami-00000102"),
    ];
    stack.lab.ec2().query("cloudformation", "2010-05-15", REGION, "CreateStack", &parameters).context("CreateStack")?;
    let (expected, found) = (routes(&cast)?, routes(&stack)?);
    ensure!(expected.len() == 2 && expected == found, "{expected:?} by a cast, {found:?} by the template");
    // cloudcaster finds each subnet and group with its rules by the template's tags, and misses none.
    let plan = stack.run(&["plan", &document("client")])?;
    ensure!(plan.code == 0 && !plan.stdout.contains("create VPC"), "{}{}", plan.stdout, plan.stderr);
    for missing in ["create subnet", "create security group", "allow in "] {
        ensure!(!plan.stdout.contains(missing), "{missing}: {}", plan.stdout);
    }
    let (cast, stack) = (cast.census()?, stack.census()?);
    // moto gives a template's instance an interface of its own beside the one that the template names.
    let kinds =
        ["DescribeVpcs", "DescribeInternetGateways", "DescribeSubnets", "DescribeAddresses", "DescribeInstances"];
    for kind in kinds {
        ensure!(cast[kind] == stack[kind], "{kind}: {} by a cast, {} by the template", cast[kind], stack[kind]);
    }
    Ok(())
}

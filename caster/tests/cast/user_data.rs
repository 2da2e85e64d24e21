//! What instances are started with: crosswan's settings for gateways, and texts that a document only refers to.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::cloud::{Cloud, REGION, document};

fn user_data(cloud: &Cloud, part: &str) -> Result<String> {
    let instance = cloud.part(part)?;
    let asked = [("InstanceId", instance.as_str()), ("Attribute", "userData")];
    let encoded = cloud.lab.ec2().get(REGION, "DescribeInstanceAttribute", &asked, "value")?;
    Ok(String::from_utf8(BASE64_STANDARD.decode(encoded)?)?)
}

#[test]
fn gateways_are_told_their_mode_and_the_private_network_and_nothing_that_the_image_knows_better() -> Result<()> {
    let cloud = Cloud::new()?;
    cloud.cast(&[&document("hub"), &document("client")])?;
    let text = user_data(&cloud, "app/vpn-hub/0")?;
    let settings = "    mode = \"vpn-hub\"\n    private_net = [\"203.0.113.0/24\"]\n";
    ensure!(text.starts_with("#cloud-config\n") && text.ends_with(settings), "{text}");
    Ok(())
}

#[test]
fn a_reference_is_read_at_the_cast_and_its_text_is_shown_nowhere() -> Result<()> {
    const SECRET: &str = "#!/bin/sh\necho not-to-be-shown\n";
    let cloud = Cloud::new()?;
    cloud.lab.ec2().put_parameter(REGION, "/app/userdata", SECRET)?;
    let mut with_reference: Value = serde_json::from_str(&fs::read_to_string(document("example"))?)?;
    with_reference["apps"][0]["userdata"] = json!("ssm:/app/userdata");
    let file = cloud.lab.dir().join("reference.json").display().to_string();
    fs::write(&file, with_reference.to_string())?;
    let output = cloud.cast(&[&file])?;
    let status = cloud.run(&["status", &file])?;
    for text in [&output.stdout, &output.stderr, &status.stdout] {
        ensure!(!text.contains("not-to-be-shown"), "{text}");
    }
    let named = [("LaunchTemplateName", "exampleapp-prod"), ("LaunchTemplateVersion.1", "$Latest")];
    let encoded = cloud.lab.ec2().get(REGION, "DescribeLaunchTemplateVersions", &named, "userData")?;
    ensure!(BASE64_STANDARD.decode(encoded)? == SECRET.as_bytes(), "another text");
    // Another text is another version, which new instances get.
    cloud.lab.ec2().put_parameter(REGION, "/app/userdata", "#!/bin/sh\n")?;
    let plan = cloud.run(&["plan", &file])?;
    ensure!(plan.stdout.contains("user data"), "{}", plan.stdout);
    Ok(())
}

#[test]
fn a_reference_to_nothing_is_an_error_at_its_line_and_nothing_is_made() -> Result<()> {
    let cloud = Cloud::new()?;
    let before = cloud.census()?;
    let text = fs::read_to_string(document("example"))?;
    let text = text.replacen("\"count\": 1,", "\"count\": 1, \"userdata\": \"secretsmanager:nothing\",", 1);
    let file = cloud.lab.dir().join("nothing.json").display().to_string();
    fs::write(&file, text)?;
    let output = cloud.run(&["cast", "--yes", &file])?;
    ensure!(output.code == 2 && output.stderr.contains("secretsmanager:nothing"), "{}{}", output.code, output.stderr);
    ensure!(cloud.census()? == before, "something was made");
    Ok(())
}

/// The parts of nat are there once for each VPC, so it is asked for by its VPC's document.
#[test]
fn a_client_s_nat_carries_the_tunnel_and_a_hub_s_does_not() -> Result<()> {
    for (name, mode) in [("client", "nat-vpn"), ("hub", "nat-hub")] {
        let cloud = Cloud::new()?;
        cloud.cast(&[&document(name)])?;
        let text = user_data(&cloud, "nat").with_context(|| name.to_owned())?;
        ensure!(text.contains(&format!("mode = \"{mode}\"\n")), "{text}");
    }
    Ok(())
}

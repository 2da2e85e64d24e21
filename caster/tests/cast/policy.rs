//! The policy of a document is enough for its cast, and no less would be.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use crosswan_lab::iam::Policy;
use serde_json::Value;

use crate::cloud::{Cloud, document};

/// Actions that come with another call, and those of a second version of a template: no call of a first cast has their name.
const WITH_OTHERS: [&str; 7] = [
    "AddTags",
    "CreateLaunchTemplateVersion",
    "CreateOrUpdateTags",
    "DescribeLaunchTemplateVersions",
    // No certificate is in ACM here.
    "ListTagsForCertificate",
    "PassRole",
    "UpdateAutoScalingGroup",
];

fn policy_of(cloud: &Cloud, name: &str) -> Result<Value> {
    let output = cloud.run(&["policy", "--json", &document(name)])?;
    ensure!(output.code == 0, "exit {}\n{}", output.code, output.stderr);
    Ok(serde_json::from_str(&output.stdout)?)
}

/// From now on the operator may do what the policy says.
fn enforce(cloud: &Cloud, policy: &Value) -> Result<()> {
    cloud.lab.iam().operator("lab", "operator");
    cloud.lab.iam().enforce([("operator", Policy::new(policy)?)]);
    Ok(())
}

fn actions(statement: &Value) -> Vec<String> {
    statement["Action"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect()
}

#[test]
fn each_document_is_cast_with_its_policy_which_grants_nothing_that_is_not_used() -> Result<()> {
    for name in ["hub", "client", "example"] {
        let cloud = Cloud::new()?;
        let policy = policy_of(&cloud, name)?;
        enforce(&cloud, &policy)?;
        cloud.cast(&[&document(name)]).with_context(|| name.to_owned())?;
        cloud.cast(&[&document(name)]).with_context(|| format!("{name}, again"))?;
        let used: BTreeSet<String> = cloud.lab.ec2_calls().into_keys().map(|(_, action)| action).collect();
        let granted = policy["Statement"].as_array().into_iter().flatten().flat_map(actions);
        let short = |action: &String| action.rsplit(':').next().unwrap_or_default().to_owned();
        let spare: Vec<String> = granted
            .filter(|action| !used.contains(&short(action)) && !WITH_OTHERS.contains(&short(action).as_str()))
            .collect();
        ensure!(spare.is_empty(), "{name}: granted and not used: {spare:?}");
    }
    Ok(())
}

#[test]
fn without_any_one_statement_the_cast_fails_and_names_what_it_needs() -> Result<()> {
    let whole = policy_of(&Cloud::new()?, "example")?;
    let statements = whole["Statement"].as_array().context("no statements")?.len();
    ensure!(statements >= 8, "only {statements} statements");
    for n in 0..statements {
        let cloud = Cloud::new()?;
        let mut policy = whole.clone();
        let taken = policy["Statement"].as_array_mut().context("no statements")?.remove(n);
        enforce(&cloud, &policy)?;
        // Only a cast that waits asks whether records have arrived.
        let file = document("example");
        let mut arguments = vec!["cast", "--yes", &file];
        arguments.extend((taken["Sid"] != "SeeRecordsArrive").then_some("--no-wait"));
        let output = cloud.run(&arguments)?;
        let said = format!("{}{}", output.stderr, output.stdout);
        ensure!(matches!(output.code, 3 | 4), "without {}: exit {}\n{said}", taken["Sid"], output.code);
        let named = actions(&taken).iter().any(|action| said.contains(action.as_str()));
        ensure!(named, "without {} nothing of it is named:\n{said}", taken["Sid"]);
    }
    Ok(())
}

//! The policies of `docs/iam` on real gateways: what they allow is enough, and what is missing is named while all that works
//! stays.
//!
//! The lab's IAM evaluates the files, conditions included, against what each gateway's role asks for; what they keep out
//! beyond that is tested in `tests/edge/iam.rs`.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan::observe::ec2::{Access, AnnounceError, Clients, announce, own_tags};
use crosswan_core::model::OwnTags;
use crosswan_core::model::{KEY_TAG, NEXT_KEY_TAG};
use crosswan_lab::{Gateway, Lab, Role, VpcSpec, iam::Policy, internet};
use serde_json::{Value, json};

use super::{REGION_A, REGION_B, ensure_no_steps, has_tunnel, look_in, watch::Watch};
use crate::region::{Region, agent, lines, refresh, refresh_with};

const HUB_REGION: &str = "us-west-2";
const LIMIT: Duration = Duration::from_secs(10);
/// The gateways, and the file that is the policy of each one's role.
const ROLES: [(&str, &str); 3] = [("hub/vpn-hub", "vpn-hub"), ("a/nat-vpn", "nat-vpn"), ("hub/nat-hub", "nat-hub")];
/// What turns the source/destination check off.
const CHECK: &str = "ec2:ModifyInstanceAttribute";

#[test]
fn each_policy_is_enough_and_a_missing_action_is_named() -> Result<()> {
    let lab = Lab::builder(agent()?)
        .vpc(VpcSpec::hub("hub", HUB_REGION, &["10.0.0.0/16"])?.bare())
        .vpc(VpcSpec::client("a", REGION_A, &["10.1.0.0/16"])?.bare())
        .build()?;

    // They boot and connect with nothing but the files.
    enforce(&lab, None)?;
    let region = Region::booted(lab)?;
    region.settle()?;
    let lab = &region.lab;
    let asked: BTreeSet<_> = lab.ec2_calls().into_keys().map(|(at, action)| format!("{at} {action}")).collect();
    let both = |action: &str| [REGION_A, HUB_REGION].map(|at| format!("{at} {action}"));
    // In the hub's own region it finds nat-hub, which has the same tag.
    let actions = [
        "DescribeInstances",
        "DescribeVpcs",
        "CreateTags",
        "ModifyInstanceAttribute",
        "DescribeRouteTables",
        "CreateRoute",
    ];
    let all = BTreeSet::from_iter(actions.into_iter().flat_map(both));
    // Seen once, on a busy machine: probably the answer to a CreateRoute came too late. Each policy allows both or neither.
    let asked: BTreeSet<_> = asked.into_iter().filter(|call| !call.ends_with(" ReplaceRoute")).collect();
    ensure!(asked == all, "what was asked for is not what this test is about: {asked:?}");

    let watch = Watch::over(&region, &[("a/host", "hub/host"), ("hub/host", "a/host")])?;
    for (name, file) in ROLES {
        let gateway = region.gateway(name)?;
        for action in asked_for(&document(file)?) {
            enforce(lab, Some((file, &action)))?;
            if gateway.role == Role::NatHub {
                // It cannot tell a role that lacks this from none; and without a pair it announces nothing.
                let report = refresh(&gateway)?;
                let unseen = action != "ec2:CreateTags";
                ensure!(report["source_dest_check"].is_null() == unseen, "{name} without {action}: {report:#}");
                continue;
            }
            if action == "ec2:CreateTags" {
                lab.tag(&gateway, KEY_TAG, None)?;
            }
            missing(&gateway, &action).with_context(|| format!("{name} without {action}"))?;
        }
        if gateway.role != Role::NatHub {
            key_tag(lab, &gateway, file).with_context(|| format!("{name}'s key"))?;
            // Nothing allowed is as the first of them missing.
            lab.iam().enforce([]);
            missing(&gateway, "ec2:DescribeInstances")?;
        }
        enforce(lab, None)?;
        refresh(&gateway)?;
        ensure_no_steps(&refresh(&gateway)?)?;
    }

    // A region the policy does not list is refused, the others are not.
    let hub = region.gateway("hub/vpn-hub")?;
    look_in(&hub, &[HUB_REGION, REGION_A, REGION_B])?;
    let report = refresh_with(&hub, &[], 3)?;
    let words = format!("not permitted: the instance's role needs ec2:DescribeInstances in {REGION_B}");
    let unasked = lines(&report, "unasked");
    ensure!(unasked.len() == 1 && unasked[0].contains(&words), "{unasked:?}");
    ensure_no_steps(&report)?;
    ensure!(has_tunnel(&report, &lab.vpc_id("a")?), "{report:#}");
    look_in(&hub, &[HUB_REGION, REGION_A])?;
    watch.undisturbed("permissions were taken away and given back")?;

    // Without this one a check that somebody turns on stays on, and is told with the permission that would help.
    for (name, file) in ROLES {
        let gateway = region.gateway(name)?;
        region.lab.source_dest_check(&gateway, true)?;
        enforce(&region.lab, Some((file, CHECK)))?;
        let report = refresh_with(&gateway, &[], 7)?;
        ensure_no_steps(&report)?;
        let named = format!("not permitted: the instance's role needs {CHECK} on its own instance");
        ensure!(lines(&report, "notes").concat().contains(&named), "{name}: {report:#}");
        ensure!(lines(&report, "stopped").concat().contains("--no-source-dest-check"), "{name}: {report:#}");
        enforce(&region.lab, None)?;
        ensure!(refresh(&gateway)?["source_dest_check"] == false, "{name}");
    }
    // Without these its routes are an operator's, and a table that must be written is named with the permission.
    for (name, file) in ROLES {
        let gateway = region.gateway(name)?;
        enforce(&region.lab, Some((file, "ec2:DescribeRouteTables")))?;
        let report = refresh(&gateway)?;
        ensure_no_steps(&report)?;
        ensure!(lines(&report, "notes").concat().contains("needs ec2:DescribeRouteTables"), "{name}: {report:#}");
        enforce(&region.lab, Some((file, "ec2:CreateRoute")))?;
        let [_, table] = region.lab.route_tables(name.split('/').next().unwrap_or_default())?;
        let to = if gateway.role == Role::VpnHub { "10.0.0.0/8" } else { "0.0.0.0/0" };
        let route = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", to)];
        region.lab.ec2().call(&gateway.region, "DeleteRoute", &route)?;
        let report = refresh_with(&gateway, &[], 3)?;
        ensure!(
            lines(&report, "unasked").concat().contains("needs ec2:CreateRoute on the route tables"),
            "{name}: {report:#}"
        );
        enforce(&region.lab, None)?;
        let steps = lines(&refresh(&gateway)?, "steps").concat();
        ensure!(steps.contains(&format!("lead {to} of {table} to this gateway")), "{name}: {steps}");
    }
    region.settle()
}

/// One refresh by a gateway whose role lacks an action: it says so, and changes nothing.
fn missing(gateway: &Gateway, action: &str) -> Result<()> {
    let report = refresh_with(gateway, &[], 3)?;
    ensure_no_steps(&report)?;
    ensure!(report["tunnels"].as_object().is_some_and(|tunnels| !tunnels.is_empty()), "its tunnel is gone: {report:#}");
    let unasked = lines(&report, "unasked").join("\n");
    let named = format!("not permitted: the instance's role needs {action} ");
    ensure!(unasked.contains(&named), "{unasked:?}");
    Ok(())
}

/// The own instance's tag, from inside the gateway with its role's access key: written and read back where the file allows it,
/// refused by name where not, and never written on another instance.
fn key_tag(lab: &Lab, gateway: &Gateway, file: &str) -> Result<()> {
    let (_, access_key) = gateway.imds.role.clone().context("no role")?;
    let access =
        Access { endpoint: Some(format!("http://{}", internet::EC2)), access_key: Some((access_key, "lab".into())) };
    let region = gateway.region.parse()?;
    let write = |instance: &str, value: &str| {
        let instance = instance.parse()?;
        gateway.ns()?.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let access = Clients::from(access.clone());
            Ok(runtime.block_on(async {
                let tags = [(KEY_TAG, value.to_owned()), (NEXT_KEY_TAG, format!("{value} next"))];
                let wrote = announce(&access, &region, &instance, &tags, LIMIT).await;
                (wrote, own_tags(&access, &region, &instance, LIMIT).await)
            }))
        })
    };
    let both = |value: &str| OwnTags {
        key: Some(value.into()),
        next: Some(format!("{value} next")),
        source_dest_check: Some(false),
        ..OwnTags::default()
    };
    enforce(lab, None)?;
    for value in ["first", "second"] {
        let (wrote, found) = write(&gateway.instance, value)?;
        let found = found.map(|found| OwnTags { interface: None, ..found });
        ensure!(wrote == Ok(()) && found == Ok(both(value)), "{wrote:?}, found {found:?}");
    }
    let other = lab.gateways().into_iter().map(|g| g.instance.clone()).find(|id| *id != gateway.instance);
    let denied = |wrote: Result<(), AnnounceError>| {
        wrote.is_err_and(|why| why.to_string().contains("needs ec2:CreateTags on its own instance"))
    };
    ensure!(denied(write(&other.context("no other instance")?, "third")?.0), "it may write on another instance");
    enforce(lab, Some((file, "ec2:CreateTags")))?;
    let (wrote, found) = write(&gateway.instance, "third")?;
    let found = found.map(|found| OwnTags { interface: None, ..found });
    ensure!(denied(wrote) && found == Ok(both("second")), "found {found:?}");
    enforce(lab, None)
}

/// Gives each role its file's policy, one of them without one action.
pub fn enforce(lab: &Lab, without: Option<(&str, &str)>) -> Result<()> {
    let mut policies = Vec::new();
    for (_, file) in ROLES {
        let mut document = document(file)?;
        if let Some((_, action)) = without.filter(|(of, _)| *of == file) {
            for statement in document["Statement"].as_array_mut().context("no statements")? {
                let mut left = listed(statement);
                left.retain(|listed| listed != action);
                // If nothing is left: a statement about something that the agent never does, because an empty list is not a policy.
                left.is_empty().then(|| left.push("ec2:DescribeRegions".into()));
                statement["Action"] = json!(left);
            }
        }
        policies.push((format!("crosswan-{file}"), Policy::new(&document)?));
    }
    lab.iam().enforce(policies.iter().map(|(role, policy)| (role.as_str(), policy.clone())));
    Ok(())
}

fn document(file: &str) -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/iam/{file}.json"));
    serde_json::from_str(&fs::read_to_string(path)?).context("docs/iam")
}

/// What a gateway asks for in each pass, also where nothing is to be done.
fn asked_for(document: &Value) -> Vec<String> {
    let statements = document["Statement"].as_array().into_iter().flatten();
    let listed = statements.filter(|statement| statement["Sid"] != "LookAround").flat_map(listed);
    listed.filter(|action| action != CHECK && !action.contains("Route") && !action.contains("Address")).collect()
}

fn listed(statement: &Value) -> Vec<String> {
    let action = &statement["Action"];
    let list = action.as_array().cloned().unwrap_or_else(|| vec![action.clone()]);
    list.iter().filter_map(|action| Some(action.as_str()?.to_owned())).collect()
}

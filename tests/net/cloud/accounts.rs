//! The hub in one account, its clients in two others: an account whose role is gone keeps its tunnel, and one with bad intentions gets
//! nothing that is not its own.
//!
//! The lab's IAM evaluates the files of `docs/iam`: the hub's, each account's role, and that role's trust policy.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use crosswan_core::model::KEY_TAG;
use crosswan_lab::{
    Fault, Lab, Role, VpcSpec,
    iam::{Policy, accounts::HOME},
};
use serde_json::{Value, json};

use super::{REGION_A, ensure_no_steps, has_tunnel, misses, watch::Watch, why};
use crate::region::{Region, agent, lines, refresh, refresh_with};

const HUB_REGION: &str = "us-west-2";
const B: &str = "111122223333";
const C: &str = "444455556666";
/// As in `docs/iam/discover-trust.json`.
const EXTERNAL_ID: &str = "Ahs3theIdItself";

fn document(file: &str) -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/iam/{file}.json"));
    let text = fs::read_to_string(path)?.replace("an id of your choice", EXTERNAL_ID);
    serde_json::from_str(&text).context("docs/iam")
}

fn role(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/crosswan-discover")
}

/// The role of an account, which trusts gateways with the role of that name.
fn make_role(lab: &Lab, account: &str, trusts: &str) -> Result<()> {
    let mut trust = document("discover-trust")?;
    trust["Statement"][0]["Principal"] = json!({ "AWS": format!("arn:aws:iam::{HOME}:role/crosswan-{trusts}") });
    lab.iam().accounts.role(&role(account), Some(Policy::new(&trust)?));
    Ok(())
}

/// A gateway's own policy, with the statement by which it asks other accounts.
fn with_roles(file: &str, accounts: &[&str]) -> Result<Policy> {
    let (mut policy, mut more) = (document(file)?, document("assume-roles")?);
    ensure!(more["Statement"][0]["Resource"] == json!([role(B), role(C)]), "the file names other roles");
    more["Statement"][0]["Resource"] = accounts.iter().map(|account| role(account)).collect();
    policy["Statement"].as_array_mut().context("no statements")?.push(more["Statement"][0].take());
    Policy::new(&policy)
}

fn account(id: &str, more: &str) -> String {
    format!("[[accounts]]\nrole_arn = \"{}\"\nexternal_id = \"{EXTERNAL_ID}\"\n{more}\n", role(id))
}

#[test]
fn an_account_that_fails_keeps_its_tunnel_and_a_hostile_one_gets_nothing_of_another() -> Result<()> {
    let lab = Lab::builder(agent()?)
        .vpc(VpcSpec::hub("hub", HUB_REGION, &["10.0.0.0/16"])?)
        .vpc(VpcSpec::client("b", REGION_A, &["10.1.0.0/16"])?)
        .vpc(VpcSpec::client("c", REGION_A, &["10.64.0.0/16"])?)
        .build()?;
    let iam = lab.iam();
    for (name, id) in [("b", B), ("c", C)] {
        iam.accounts.give(&[&lab.vpc_id(name)?, &lab.gateway(&format!("{name}/nat-vpn"))?.imds.instance], id);
        make_role(&lab, id, "vpn-hub")?;
        // A spoke finds its hub by a role in the hub's account, and believes no other.
        let hub = format!("own_account = false\n{}", account(HOME, "name = \"network\""));
        lab.gateway(&format!("{name}/nat-vpn"))?.write_file("/etc/crosswan/conf.d/50-test.toml", &hub, 0o644)?;
    }
    make_role(&lab, HOME, "nat-vpn")?;
    iam.enforce([
        ("crosswan-vpn-hub", with_roles("vpn-hub", &[B, C])?),
        ("crosswan-nat-vpn", with_roles("nat-vpn", &[HOME])?),
        ("crosswan-nat-hub", Policy::new(&document("nat-hub")?)?),
        ("discover", Policy::new(&document("discover")?)?),
    ]);
    let hub = lab.gateway("hub/vpn-hub")?;
    let [to_b, to_c] = [account(B, ""), account(C, "name = \"payments\"\nallow = [\"10.64.0.0/10\"]")];
    let accounts =
        format!("regions = [\"{HUB_REGION}\"]\n{to_b}regions = [\"{REGION_A}\"]\n{to_c}regions = [\"{REGION_A}\"]\n");
    hub.write_file("/etc/crosswan/conf.d/50-test.toml", &accounts, 0o600)?;

    let region = Region::booted(lab)?;
    region.settle()?;
    let lab = &region.lab;
    let [b, c] = [lab.vpc_id("b")?, lab.vpc_id("c")?];
    let report = refresh(&hub)?;
    let asked: Vec<&String> = report["regions"].as_object().context("no regions")?.keys().collect();
    let scopes = [format!("{B}/{REGION_A}"), format!("{C}/{REGION_A}"), HUB_REGION.into()];
    ensure!(asked.into_iter().eq(&scopes), "{report:#}");
    let pairs = [("b/host", "c/host"), ("c/host", "b/host"), ("hub/host", "c/host"), ("b/host", "hub/host")];
    let watch = Watch::over(&region, &pairs)?;

    // C's role is taken away, for longer than a gateway may be missed.
    lab.iam().accounts.role(&role(C), None);
    for _ in 0..3 {
        let report = refresh_with(&hub, &[], 3)?;
        ensure_no_steps(&report)?;
        let unasked = lines(&report, "unasked");
        ensure!(unasked.len() == 1 && unasked[0].starts_with(&format!("{C}/{REGION_A} (payments): ")), "{unasked:?}");
        ensure!(unasked[0].contains(&format!("needs sts:AssumeRole on {}", role(C))), "{unasked:?}");
        ensure!(has_tunnel(&report, &b) && has_tunnel(&report, &c), "{report:#}");
        ensure!(why(&report, "kept", &c).is_some_and(|why| why.contains("could not be asked")), "{report:#}");
        ensure!(misses(&hub, &c)? == Some(0), "a failure counted as a miss");
    }
    let text = hub.agent(&["refresh"])?;
    let status = hub.agent(&["status"])?;
    for output in [&text, &status] {
        ensure!(
            output.stdout.contains(&format!("NO ANSWER {C}/{REGION_A} (payments): not permitted")),
            "{}",
            output.stdout
        );
        ensure!(!(output.stdout.clone() + &output.stderr).contains(EXTERNAL_ID), "the external id was shown");
    }
    let metrics = hub.agent(&["metrics"])?.ok()?.stdout;
    for (account, up) in [(B, 1), ("payments", 0)] {
        let line = format!("crosswan_discovery_up{{account=\"{account}\",region=\"{REGION_A}\"}} {up}\n");
        ensure!(metrics.contains(&line), "{line}{metrics}");
    }
    let map: Value = serde_json::from_str(&hub.agent(&["map", "--json"])?.ok()?.stdout)?;
    let groups = map["groups"].as_array().context("no groups")?;
    let drawn =
        |account: &str| groups.iter().any(|group| group["account"] == account && group["peers"][0]["is"] == "up");
    ensure!(drawn(B) && drawn("payments"), "{map:#}");
    let doctor = hub.agent(&["doctor", "--json"])?;
    let doctor: Value = serde_json::from_str(&doctor.stdout).context(doctor.stdout)?;
    let of = |id: &str| doctor["checks"].as_array()?.iter().find(|check| check["id"] == id);
    ensure!(of(&format!("account-{B}")).is_some_and(|check| check["state"] == "ok"), "{doctor:#}");
    let remedy = of("account-payments").map(|check| check["remedy"].to_string()).unwrap_or_default();
    ensure!(remedy.contains("docs/iam/discover-trust.json"), "{doctor:#}");
    make_role(lab, C, "vpn-hub")?;
    ensure_no_steps(&refresh(&hub)?)?;

    // C's administrator brings what settings do not allow,
    lab.add_cidr("c", "10.200.0.0/16")?;
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    ensure!(
        why(&report, "refused", &c).is_some_and(|why| why.contains("not in allow of account payments")),
        "{report:#}"
    );
    // and starts a gateway in B's VPC, as an account may with which its subnets are shared, with a copy of B's key tag.
    let b_gateway = region.gateway("b/nat-vpn")?;
    let intruder = lab.add_gateway("b", Role::NatVpn)?;
    lab.iam().accounts.give(&[&intruder.imds.instance], C);
    for tag in [lab.tag_of(&b_gateway, KEY_TAG)?, None] {
        lab.tag(&intruder, KEY_TAG, tag.as_deref())?;
        let report = refresh(&hub)?;
        ensure_no_steps(&report)?;
        let reason = why(&report, "refused", &b).unwrap_or_default();
        ensure!(reason.contains(&format!("its VPC belongs to account {B}, which alone may bring it")), "{report:#}");
        ensure!(lines(&report, "replacing").is_empty() && has_tunnel(&report, &b), "{report:#}");
    }
    watch.undisturbed("an account failed, and turned hostile")
}

#[test]
fn an_organization_becomes_settings_as_somebody_who_may_list_it_and_a_failure_writes_nothing() -> Result<()> {
    const FILE: &str = "/etc/crosswan/conf.d/40-accounts.toml";
    let lab = Lab::builder(agent()?).vpc(VpcSpec::hub("hub", HUB_REGION, &["10.0.0.0/16"])?).build()?;
    let call = |action: &str, body: Value| {
        lab.ec2().json("us-east-1", "organizations", &format!("AWSOrganizationsV20161128.{action}"), &body)
    };
    call("CreateOrganization", json!({ "FeatureSet": "ALL" }))?;
    for name in ["Team Search", "payments"] {
        call("CreateAccount", json!({ "AccountName": name, "Email": format!("{}@example.com", name.len()) }))?;
    }
    let region = Region::booted(lab)?;
    let lab = &region.lab;
    let hub = lab.gateway("hub/vpn-hub")?;
    let program = agent()?.display().to_string();
    let list = || {
        let who = ["AWS_ACCESS_KEY_ID=OPERATOR", "AWS_SECRET_ACCESS_KEY=lab", &program];
        let what = ["accounts", "--organization", "--external-id", EXTERNAL_ID, "--regions", REGION_A, "-o", FILE];
        hub.run("env", &[&who[..], &what].concat(), "")
    };
    hub.write_file(FILE, "# what was there before\n", 0o600)?;
    let nothing_written = || -> Result<()> {
        ensure!(hub.read_file(FILE)? == "# what was there before\n", "a failure changed the file");
        Ok(())
    };
    // Somebody without the permission, then with that of the file in docs/iam, and an answer that is cut off.
    lab.iam().operator("OPERATOR", "operator");
    lab.iam().enforce([("operator", Policy::new(&document("discover")?)?)]);
    let refused = list()?;
    let expected = "crosswan: list the accounts of the organization (its management account or a delegated administrator may): not \
                    permitted: the credentials that ask need organizations:ListAccounts (AccessDeniedException): see docs/iam";
    ensure!(refused.code == 3 && refused.stderr.trim_end() == expected, "{}", refused.stderr);
    nothing_written()?;
    lab.iam().enforce([("operator", Policy::new(&document("list-organization")?)?)]);
    lab.ec2_fault("us-east-1", "ListAccounts", Fault::Cut);
    let cut = list()?;
    ensure!(
        cut.code == 3 && cut.stdout.is_empty() && cut.stderr.contains("the answer to ListAccounts did not parse"),
        "{}",
        cut.stderr
    );
    nothing_written()?;
    lab.ec2_heal();
    let listed = list()?;
    ensure!(listed.code == 0 && listed.stdout.is_empty(), "{}", listed.stderr);
    // The lab's IMDS says which account the hub is in.
    ensure!(listed.stderr.starts_with(&format!("left out  {HOME} ")), "{}", listed.stderr);
    ensure!(
        !listed.stderr.contains(EXTERNAL_ID) && !listed.stderr.contains("not in this organization"),
        "{}",
        listed.stderr
    );

    // Settings have them, and no refresh has asked them yet.
    let accounts = hub.agent(&["accounts", "--json"])?;
    ensure!(accounts.code == 3 && !accounts.stdout.contains(EXTERNAL_ID), "{}", accounts.stdout);
    let accounts: Value = serde_json::from_str(&accounts.stdout)?;
    let all = accounts["accounts"].as_object().context("no accounts")?;
    let names: BTreeSet<&str> = all.values().filter_map(|account| account["name"].as_str()).collect();
    ensure!(names == ["Team-Search", "payments"].into() && !all.contains_key(HOME), "{accounts:#}");
    for (id, account) in all {
        ensure!(account["role_arn"] == role(id).as_str(), "{accounts:#}");
        ensure!(account["regions"] == json!({ REGION_A: null }), "{accounts:#}");
    }
    // Then it says what that said.
    lab.iam().enforce([
        ("crosswan-vpn-hub", with_roles("vpn-hub", &all.keys().map(String::as_str).collect::<Vec<_>>())?),
        ("crosswan-nat-hub", Policy::new(&document("nat-hub")?)?),
        ("discover", Policy::new(&document("discover")?)?),
    ]);
    let [first, second] = all.keys().collect::<Vec<_>>()[..] else { anyhow::bail!("not two") };
    make_role(lab, first, "vpn-hub")?;
    refresh_with(&hub, &[], 3)?;
    let said = hub.agent(&["accounts"])?;
    ensure!(said.code == 3 && said.stdout.contains(&format!("asked     {REGION_A}: 0 gateways")), "{}", said.stdout);
    ensure!(said.stdout.contains(&format!("NO ANSWER {REGION_A}: not permitted")), "{}", said.stdout);
    make_role(lab, second, "vpn-hub")?;
    refresh(&hub)?;
    let said = hub.agent(&["accounts"])?;
    ensure!(said.code == 0 && !said.stdout.contains("NO ANSWER"), "{}", said.stdout);
    Ok(())
}

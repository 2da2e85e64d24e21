//! Points 7 and 8: nothing new, and how it stands.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result};
use crosswan_lab::{Gateway, Role};
use serde_json::Value;

use super::Demo;
use super::act::{Show, go_on};
use super::screen::count;

/// What a refresh may write.
const FILES: [&str; 4] = [
    "/etc/swanctl/conf.d/crosswan.conf",
    "/etc/swanctl/conf.d/crosswan-secrets.conf",
    "/etc/swanctl/private/crosswan.pem",
    "/var/lib/crosswan/iptables.rules",
];

/// A refresh on every gateway.
pub fn unchanged(demo: &mut Demo) -> Result<String> {
    demo.screen.text(
        "Every gateway refreshes once more. Files, rules and security associations are compared before and after.",
    );
    let gateways = demo.lab.gateways();
    let (mut silent, mut same) = (0, 0);
    for gateway in &gateways {
        let before = Held::of(gateway)?;
        let report = demo.refresh(gateway, Show::Verdict)?;
        let after = Held::of(gateway)?;
        let steps = report["steps"].as_array().map_or(usize::MAX, Vec::len);
        silent += usize::from(report["outcome"] == "unchanged" && steps == 0);
        same += usize::from(before == after);
        let Held { files, rules, associations } = &after;
        let (rules, associations) =
            (count(rules.len() as u64, "iptables line"), count(associations.len() as u64, "SA"));
        let ok = before == after && report["outcome"] == "unchanged" && steps == 0;
        let verdict = if ok { "the same as before" } else { "NOT all the same as before" };
        demo.check(ok, &format!("{}, {rules}, {associations}: {verdict}", count(files.len() as u64, "file")));
    }
    let all = gateways.len();
    Ok(format!("{silent} of {all} gateways said \"nothing to do\", and on {same} of {all} nothing changed"))
}

/// What a refresh could change. SAs by their unique ids and SPIs, files with the time of their last change.
#[derive(PartialEq, Eq)]
struct Held {
    files: BTreeMap<&'static str, (String, SystemTime)>,
    rules: Vec<String>,
    associations: Vec<String>,
}

impl Held {
    fn of(gateway: &Gateway) -> Result<Held> {
        go_on()?;
        let mut files = BTreeMap::new();
        for file in FILES.into_iter().filter(|file| gateway.path(file).exists()) {
            files.insert(file, (gateway.read_file(file)?, gateway.path(file).metadata()?.modified()?));
        }
        let rules = gateway.run("iptables-save", &[], "")?.ok()?.stdout;
        let tunnels = gateway.role != Role::NatHub;
        let associations = if tunnels { gateway.swanctl(&["--list-sas"])? } else { String::new() };
        Ok(Held {
            files,
            rules: rules.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect(),
            associations: associations.lines().filter(|line| line.contains(": #")).map(str::to_owned).collect(),
        })
    }
}

/// `crosswan status`, shown whole, and its figures once more for a machine.
pub fn status(demo: &mut Demo) -> Result<String> {
    let hub = demo.lab.gateway("hub/vpn-hub")?;
    let shown = demo.crosswan(&hub, &["status"], Show::All)?;
    let json = demo.crosswan(&hub, &["status", "--json"], Show::Nothing)?;
    let status: Value = serde_json::from_str(&json.stdout).context("crosswan status --json")?;
    let tunnels = status["tunnels"].as_array().map_or(&[][..], Vec::as_slice);
    let up = tunnels.iter().filter(|tunnel| tunnel["up"] == true).count();
    let rules = status["nat"]["in_force"] == true;
    let clients = demo.lab.gateways().iter().filter(|gateway| gateway.role == Role::NatVpn).count();
    let rules_are = if rules { "in force" } else { "NOT in force" };
    let all = count(tunnels.len() as u64, "tunnel");
    let text = format!("{up} of {all} up, for {}; rules {rules_are}", count(clients as u64, "client VPC"));
    demo.check(shown.code == 0 && up == tunnels.len() && up == clients && rules, &text);
    Ok(format!("the hub's status: {text}"))
}

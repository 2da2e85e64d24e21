//! Gateways in pairs: they become that by themselves, an upgrade of each kind loses nothing private, and nothing moves without an order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Gateway, Role, Vm};
use serde_json::Value;

use crate::package::{self, INSTALL_NEWER};
use crate::region::{BOOT, CLIENT, HUB, NAT, Region, UP, errors};
use crate::report::{Finding, seconds};
use crate::traffic::Traffic;

/// Two gateways, and the route of their VPC that one of them has.
pub struct Pair {
    members: [&'static str; 2],
    role: Role,
    vpc: &'static str,
    network: &'static str,
}

pub const VPN_HUBS: Pair =
    Pair { members: [HUB, "hub/vpn-hub-2"], role: Role::VpnHub, vpc: "hub", network: "10.0.0.0/8" };
pub const NAT_HUBS: Pair =
    Pair { members: [NAT, "hub/nat-hub-2"], role: Role::NatHub, vpc: "hub", network: "0.0.0.0/0" };
pub const NAT_VPNS: Pair =
    Pair { members: [CLIENT, "a/nat-vpn-2"], role: Role::NatVpn, vpc: "a", network: "0.0.0.0/0" };
const PAIRS: [&Pair; 3] = [&VPN_HUBS, &NAT_HUBS, &NAT_VPNS];

/// The bound on all being well after the boot: what is awaited is tried again after 10, 19, 35 and 65 s.
const FORMED: Duration = Duration::from_secs(240);
/// What docs/operating.md, "Upgrade a pair", has an operator say; in its place of `apt-get install` the package is on the machine.
const HAND_OVER: &str = "crosswan handover";
const RESTART: &str = "systemctl try-restart strongswan && systemctl start crosswan-refresh";
/// What `crosswan pair` has moved since boot.
const TAKEN: &str = "journalctl -b -q --no-pager -o cat -u crosswan-pair | grep -F 'took over' || true";
/// What else it has thought of the other member.
const DOUBTS: &str = "journalctl -b -q --no-pager -o cat -u crosswan-pair | grep -E 'dead|silent|does not carry|nothing reaches' || true";

impl Pair {
    fn active(&self, region: &Region) -> Result<Arc<Gateway>> {
        region.leads_to(self.vpc, self.network)
    }

    /// The members, first the one that has the route.
    fn active_first(&self, region: &Region) -> Result<[&'static str; 2]> {
        let [one, two] = self.members;
        Ok(if self.active(region)?.name == one { [one, two] } else { [two, one] })
    }
}

/// What `crosswan status` says on a machine, and with which exit code.
fn status(vm: &Vm) -> Result<(i32, Value)> {
    let output = vm.sh("crosswan status --json 2>/dev/null")?;
    let said = serde_json::from_str(&output.stdout).with_context(|| format!("{}: {}", vm.gateway.name, output.stdout));
    Ok((output.code, said?))
}

fn is_well((code, status): &(i32, Value)) -> bool {
    let pair = &status["pair"];
    let well = ["own_health", "its_health"].iter().all(|whose| pair[whose] == "well");
    *code == 0 && pair["state"] == "alive" && well && (pair["role"] == "active" || pair["role"] == "standby")
}

/// What each says once all are well, or when the time is over. Rarely asked, and one at a time: under TCG a look takes a second of one of
/// two processors, and the machines need these to become well.
fn formed(region: &Region) -> Result<BTreeMap<String, (i32, Value)>> {
    let started = Instant::now();
    let mut all = BTreeMap::new();
    for (name, vm) in &region.vms {
        let mut said = status(vm)?;
        while !is_well(&said) && started.elapsed() < FORMED {
            std::thread::sleep(Duration::from_secs(10));
            said = status(vm)?;
        }
        all.insert(name.clone(), said);
    }
    Ok(all)
}

/// A second gateway is launched beside each, as the first one was. Six that boot at the same time need as much of the two processors, and
/// each gets so little of them that the AWS SDK gives up on IMDS, which has one second to answer it.
pub fn form(region: &mut Region) -> Result<()> {
    let started = Instant::now();
    for pair in PAIRS {
        region.launch(pair.vpc, pair.role)?;
    }
    for pair in PAIRS {
        region.vm(pair.members[1])?.wait_for_boot(BOOT)?;
    }
    let all = formed(region)?;
    let took = seconds(started.elapsed());
    let text = format!("launch of three second gateways to three pairs that have all they want, under TCG: {took}");
    region.report.figure(text);
    for pair in PAIRS {
        let active = pair.active(region)?.name.clone();
        for name in pair.members {
            let (code, said) = all.get(name).with_context(|| format!("no {name}"))?;
            let shown = &said["pair"];
            let role = if name == active { "active" } else { "standby" };
            let text = format!(
                "{name}: {}, status ends with {code}; the other one: {}; they are {} and {}",
                shown["role"], shown["judgement"], shown["own_health"], shown["its_health"]
            );
            let right = is_well(&all[name]) && shown["role"] == role;
            region.check(right, &text);
        }
    }
    Ok(())
}

/// As docs/operating.md has it: one after the other, the one that has the routes first.
pub fn upgrade(region: &mut Region, pair: &Pair) -> Result<()> {
    let seen = &*region;
    for (code, said) in seen.on_each(pair.members, |name| status(seen.vm(name)?))? {
        let shown = &said["pair"];
        ensure!(is_well(&(code, said.clone())), "they are no pair that is well: status ends with {code}; {shown}");
    }
    let order = pair.active_first(seen)?;
    seen.on_each(pair.members, |name| package::make_newer(seen.vm(name)?))?;
    let traffic = Traffic::start(&seen.lab)?;
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    let mut findings = Vec::new();
    for name in order {
        findings.extend(upgrade_one(seen, name)?);
    }
    let took = began.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    for (ok, text) in findings {
        region.check(ok, &text);
    }
    let back = pair.active(region)?.name.clone();
    region.check(back == order[0], &format!("{back} has the routes again"));
    for (ok, text) in traffic.stop()? {
        region.report.check_figure(ok, format!("{} and {} upgraded in {}: {text}", order[0], order[1], seconds(took)));
    }
    Ok(())
}

fn upgrade_one(region: &Region, name: &str) -> Result<Vec<Finding>> {
    const CHARON: &str = "systemctl show -P MainPID strongswan.service";
    let vm = region.vm(name)?;
    let charon = vm.ok(CHARON)?;
    let handed = vm.sh(HAND_OVER)?;
    let said = handed.stdout.lines().last().unwrap_or_default();
    let installed = vm.sh(&format!("{INSTALL_NEWER} && {RESTART}"))?;
    let took = seconds(installed.elapsed);
    let (version, now) = (package::version(vm)?, vm.ok(CHARON)?);
    // A nat-hub has no charon, and gets none by this.
    let restarted = (now == charon) == (charon.trim() == "0");
    let (doctor, well) = doctor(vm)?;
    Ok(vec![
        (handed.code == 0, format!("{name}: exit code {} after {}: {said}", handed.code, seconds(handed.elapsed))),
        (
            installed.code == 0 && version.ends_with("+newer") && restarted,
            format!(
                "{name}: {version} after {took}, charon {} and then {}: {}",
                charon.trim(),
                now.trim(),
                excerpt(&installed)
            ),
        ),
        (
            doctor.is_none(),
            format!("{name}: doctor finds all well {} later {}", seconds(well), doctor.unwrap_or_default()),
        ),
    ])
}

/// What went wrong, of a line that should have ended well.
fn excerpt(output: &crosswan_lab::Output) -> &str {
    if output.code == 0 { "as said" } else { &output.stdout }
}

/// Asks doctor until it finds nothing, and says how long that took; what it finds still when the time is over.
fn doctor(vm: &Vm) -> Result<(Option<String>, Duration)> {
    let started = Instant::now();
    loop {
        let output = vm.sh("crosswan doctor 2>&1 | grep -vE '^(ok|-) '; exit ${PIPESTATUS[0]}")?;
        if output.code == 0 || started.elapsed() > UP {
            return Ok(((output.code != 0).then_some(output.stdout), started.elapsed()));
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Each member has taken the routes once, which was the order to the other one.
pub fn ordered(region: &mut Region) -> Result<()> {
    let (taken, doubts) = (region.on_all(|vm| vm.ok(TAKEN))?, region.on_all(|vm| vm.ok(DOUBTS))?);
    let (status, errors) = (region.on_all(status)?, region.on_all(errors)?);
    for (name, taken) in taken {
        let last = &status[&name].1["takeovers"]["last"];
        let text = format!(
            "{name} has taken over {} times; the last one was ordered: {}",
            taken.lines().count(),
            last["handed_over"]
        );
        region.check(taken.lines().count() == 1 && last["handed_over"] == true, &text);
        region.check(is_well(&status[&name]), &format!("{name}: {}", status[&name].1["pair"]["judgement"]));
        region.check(errors[&name].is_empty(), &format!("{name}: errors in its journal: {:?}", errors[&name]));
        let doubts = doubts[&name].trim().replace('\n', "; ");
        region.report.say(&format!("{name} has doubted the other one: {doubts:?}"));
    }
    Ok(())
}

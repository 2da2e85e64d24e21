//! Gateways in pairs: they become that by themselves, an upgrade of each kind loses nothing private, and nothing moves without an order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Gateway, Role, Vm};
use serde_json::Value;

use crate::package::{self, INSTALL_NEWER};
use crate::region::{BOOT, CLIENT, HUB, NAT, Region, errors};
use crate::report::{Finding, seconds};
use crate::traffic::Traffic;

/// Two gateways, and the route of their VPC that one of them has.
pub struct Pair {
    members: [&'static str; 2],
    role: Role,
    vpc: &'static str,
    network: &'static str,
    /// At the other end of their tunnels.
    far: Option<&'static Pair>,
}

pub static VPN_HUBS: Pair = Pair {
    members: [HUB, "hub/vpn-hub-2"],
    role: Role::VpnHub,
    vpc: "hub",
    network: "10.0.0.0/8",
    far: Some(&NAT_VPNS),
};
pub static NAT_VPNS: Pair =
    Pair { members: [CLIENT, "a/nat-vpn-2"], role: Role::NatVpn, vpc: "a", network: "0.0.0.0/0", far: Some(&VPN_HUBS) };
pub static NAT_HUBS: Pair =
    Pair { members: [NAT, "hub/nat-hub-2"], role: Role::NatHub, vpc: "hub", network: "0.0.0.0/0", far: None };

/// The bound on all being well after the boot: what is awaited is tried again after 10, 19, 35 and 65 s.
const FORMED: Duration = Duration::from_secs(240);
/// What docs/operating.md, "Upgrade a pair", has an operator say; in its place of `apt-get install` the package is on the machine.
const HAND_OVER: &str = "crosswan handover";
const RESTART: &str = "systemctl try-restart strongswan && systemctl start crosswan-refresh";
/// What `crosswan pair` has moved since boot.
const TAKEN: &str = "journalctl -b -q --no-pager -o cat -u crosswan-pair | grep -F 'took over' || true";
/// What else it has thought of the other member, and how often.
const DOUBTS: &str = "journalctl -b -q --no-pager -o cat -u crosswan-pair | grep -E 'dead|silent|does not carry|nothing reaches' | sort | uniq -c || true";

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

/// A pair comes to be, is upgraded as docs/operating.md has it, and moves nothing without that order.
pub fn show(region: &mut Region, pair: &Pair) -> Result<()> {
    rest(region, pair)?;
    form(region, pair)?;
    upgrade(region, pair)?;
    ordered(region, pair)
}

/// Ends the machines that this pair does not need: it has two, and one at the other end. Under TCG more of them get so little of two
/// processors each that the AWS SDK gives up on IMDS, which has one second to answer it.
fn rest(region: &mut Region, pair: &Pair) -> Result<()> {
    let far = pair.far.map(|far| far.active(region)).transpose()?.map(|gateway| gateway.name.clone());
    let others = region.vms.keys().filter(|name| !pair.members.contains(&name.as_str()) && Some(*name) != far.as_ref());
    for name in others.cloned().collect::<Vec<_>>() {
        region.terminate(&name)?;
    }
    Ok(())
}

/// Those of its members that are not there are launched, and nobody is told of them.
fn form(region: &mut Region, pair: &Pair) -> Result<()> {
    let started = Instant::now();
    for name in pair.members {
        if !region.vms.contains_key(name) {
            let known = region.lab.gateway(name);
            let gateway = known.or_else(|_| region.lab.add_gateway(pair.vpc, pair.role))?;
            region.switch_on(gateway)?;
        }
    }
    for name in pair.members {
        region.vm(name)?.wait_for_boot(BOOT)?;
    }
    let mut all = states(region, pair)?;
    // A look takes a second of one of two processors, and the machines need these to become well.
    while !all.values().all(is_well) && started.elapsed() < BOOT + FORMED {
        std::thread::sleep(Duration::from_secs(10));
        all = states(region, pair)?;
    }
    let took = seconds(started.elapsed());
    region
        .report
        .figure(format!("launch to a pair of {} that has all it wants, under TCG: {took}", pair.role.as_str()));
    let active = pair.active(region)?.name.clone();
    for (name, state) in all {
        let (code, said) = &state;
        let shown = &said["pair"];
        let role = if name == active { "active" } else { "standby" };
        let text = format!(
            "{name}: {}, status ends with {code}; the other one: {}; they are {} and {}",
            shown["role"], shown["judgement"], shown["own_health"], shown["its_health"]
        );
        let right = is_well(&state) && shown["role"] == role;
        ensure!(region.check(right, &text), "they are no pair that is well");
    }
    Ok(())
}

/// What each member says.
fn states(region: &Region, pair: &Pair) -> Result<BTreeMap<&'static str, (i32, Value)>> {
    let all = region.on_each(pair.members, |name| status(region.vm(name)?))?;
    Ok(pair.members.into_iter().zip(all).collect())
}

/// One after the other, the one that has the routes first.
fn upgrade(region: &mut Region, pair: &Pair) -> Result<()> {
    let seen = &*region;
    let order = pair.active_first(seen)?;
    seen.on_each(pair.members, |name| package::make_newer(seen.vm(name)?))?;
    let traffic = Traffic::start(&seen.lab, pair.far.is_some())?;
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
        if output.code == 0 || started.elapsed() > FORMED {
            return Ok(((output.code != 0).then_some(output.stdout), started.elapsed()));
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Each member has taken the routes once, which was the order to the other one.
fn ordered(region: &mut Region, pair: &Pair) -> Result<()> {
    for (name, state) in states(region, pair)? {
        let vm = region.vm(name)?;
        let (taken, doubts, errors) = (vm.ok(TAKEN)?, vm.ok(DOUBTS)?, errors(vm)?);
        let last = &state.1["takeovers"]["last"];
        let text = format!(
            "{name} has taken over {} times; the last one was ordered: {}",
            taken.lines().count(),
            last["handed_over"]
        );
        region.check(taken.lines().count() == 1 && last["handed_over"] == true, &text);
        region.check(is_well(&state), &format!("{name}: {}", state.1["pair"]["judgement"]));
        region.check(errors.is_empty(), &format!("{name}: errors in its journal: {errors:?}"));
        region.report.say(&format!("{name} has doubted the other one: {doubts:?}"));
    }
    Ok(())
}

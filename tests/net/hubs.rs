//! Spokes that do not ask EC2 for their hubs: settings name two, each with its keys.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_core::{
    model::PublicKey,
    system::{ChildSa, Sa},
};
use crosswan_faults::look::{sas, stream, unharmed};
use crosswan_lab::{Auth, Gateway, Role};

use crate::{
    keys::ring,
    place::pass,
    region::{Region, eventually, lines, refresh, told},
};

/// Until dead peer detection has ended a tunnel, or `keep` has brought it up, on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// The hub that a pass says is in use, and the others with a tunnel.
fn in_use(report: &serde_json::Value) -> Result<(String, Vec<String>)> {
    let tunnels = report["tunnels"].as_object().with_context(|| format!("{report:#}"))?.values();
    let (beside, used): (Vec<_>, Vec<_>) = tunnels.partition(|tunnel| tunnel["stands_by"] == true);
    let remote = |tunnel: &&serde_json::Value| tunnel["remote"].as_str().unwrap_or_default().to_owned();
    let used = used.first().with_context(|| format!("none is in use: {report:#}"))?;
    Ok((remote(used), beside.iter().map(remote).collect()))
}

/// Settings that name these hubs.
fn settings(hubs: &[(String, PublicKey)]) -> String {
    let addresses: Vec<_> = hubs.iter().map(|(address, _)| format!("\"{address}\"")).collect();
    let keys: String = hubs.iter().map(|(address, key)| format!("\"{address}\" = \"{key}\"\n")).collect();
    format!(
        "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nhub = [{}]\n[auth.hub_key]\n{keys}[keep]\ninterval = \"1s\"\n",
        addresses.join(", ")
    )
}

fn named(hub: &Gateway) -> Result<(String, PublicKey)> {
    Ok((hub.public().context("the hub's address")?.to_string(), ring(hub)?.current.public))
}

/// A pass of the spoke, after which it uses the hub at `used` while those at `beside` stand by. Its report.
fn uses(spoke: &Gateway, used: &str, beside: &[String], when: &str) -> Result<serde_json::Value> {
    let report = refresh(spoke)?;
    ensure!(
        in_use(&report)? == (used.to_owned(), beside.to_vec()),
        "{when}: {} uses another hub than {used}: {report:#}\n{:#?}",
        spoke.name,
        sas(spoke)?
    );
    Ok(report)
}

/// Waits until the hub has a tunnel to both spokes.
fn has_both(hub: &Gateway) -> Result<()> {
    eventually(LIMIT, "both spokes have a tunnel to it", || {
        let up = |sa: &&Sa| sa.children.iter().any(ChildSa::is_up);
        Ok(sas(hub)?.iter().filter(up).count() == 2)
    })
}

/// What people and programs are shown of a spoke that uses the hub at `used`, while the one at `beside` stands by.
fn which_is_in_use_is_shown(region: &Region, spoke: &Gateway, beside: &str, used: &str) -> Result<()> {
    let shown = |words: &[&str]| told(spoke, words);
    let status = shown(&["status"])?;
    let tunnel = |address| status.lines().find(|line| line.contains(&format!(" to {address}: UP")));
    let stands_by = |address| tunnel(address).map(|line| line.ends_with(", stands by"));
    ensure!((stands_by(beside), stands_by(used)) == (Some(true), Some(false)), "{status}");
    let (from, to) = (region.address("a/host")?.to_string(), region.address("b/host")?.to_string());
    let why = shown(&["why", &from, &to])?;
    ensure!(why.contains(&format!("behind the tunnel to the hub ({used})")) && !why.contains(beside), "{why}");
    let map: serde_json::Value = serde_json::from_str(&shown(&["map", "--json"])?)?;
    let peers = map["groups"][0]["peers"].as_array().context("the peers on the map")?;
    let is = BTreeSet::from_iter(peers.iter().filter_map(|peer| peer["is"].as_str()));
    ensure!(peers.len() == 2 && is == BTreeSet::from(["stands-by", "up"]), "{map:#}");
    let metrics = shown(&["metrics"])?;
    let of = |name: &str| {
        Vec::from_iter(metrics.lines().filter(|l| l.starts_with(name)).filter_map(|l| l.rsplit(' ').next()))
    };
    ensure!(BTreeSet::from_iter(of("crosswan_peer_in_use{")) == BTreeSet::from(["0", "1"]), "{metrics}");
    ensure!(of("crosswan_peer_up{") == ["1", "1"], "{metrics}");
    let doctor = shown(&["doctor"])?;
    let lines = [format!("up to {used}, 1 network"), format!("{beside} stands by, up")];
    ensure!(lines.iter().all(|line| doctor.contains(line)), "{doctor}");
    Ok(())
}

#[test]
fn spokes_that_are_told_two_hubs_survive_the_end_of_one() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let first = region.gateway("hub/vpn-hub")?;
    let spokes = ["a/nat-vpn", "b/nat-vpn"].map(|name| region.gateway(name));
    let spokes = spokes.into_iter().collect::<Result<Vec<_>>>()?;
    let second = region.lab.add_gateway("hub", Role::VpnHub)?;
    second.start_charon()?;
    pass(&second)?;
    region.keepers.insert(second.name.clone(), second.spawn_agent(&["keep"])?);
    let (one, two) = (named(&first)?, named(&second)?);
    let capture = region.lab.capture_internet()?;

    // From the tag to one address and then to two: nothing of the tunnel in use is touched.
    let told = stream(&region, "a/host", "b/host")?;
    for hubs in [&[one.clone()][..], &[one.clone(), two.clone()]] {
        for spoke in &spokes {
            let before = sas(spoke)?.into_iter().map(|sa| sa.id).collect::<Vec<_>>();
            spoke.write_settings(&settings(hubs))?;
            let beside: Vec<_> = hubs[1..].iter().map(|hub| hub.0.clone()).collect();
            let report = uses(spoke, &one.0, &beside, "settings name hubs")?;
            let note = lines(&report, "notes").concat().contains("settings name one hub");
            ensure!(note == (hubs.len() == 1), "{report:#}");
            ensure!(sas(spoke)?.iter().filter(|sa| before.contains(&sa.id)).count() == 1, "{report:#}");
        }
    }
    has_both(&second)?;
    for spoke in &spokes {
        uses(spoke, &one.0, std::slice::from_ref(&two.0), "both live")?;
    }
    unharmed(told, "settings have named a second hub")?;

    region.keepers.remove(&first.name);
    region.lab.stop_instance(&first)?;
    for spoke in &spokes {
        let to_first = |sa: &&Sa| sa.remote_host == one.0 && sa.children.iter().any(ChildSa::is_up);
        eventually(LIMIT, "its tunnel is down", || Ok(sas(spoke)?.iter().all(|sa| !to_first(&sa))))?;
        let report = uses(spoke, &two.0, std::slice::from_ref(&one.0), "the first one is dead")?;
        ensure!(lines(&report, "steps").iter().any(|step| step.starts_with("route 10.0.0.0/8 dev cw")), "{report:#}");
    }
    let took = region.lab.host("a/host")?.wait_for(region.address("b/host")?, LIMIT)?;
    ensure!(took < Duration::from_secs(5), "{took:?}");

    // It comes back, and nothing moves.
    let back = stream(&region, "a/host", "b/host")?;
    region.lab.start_instance(&first, false)?;
    first.start_charon()?;
    pass(&first)?;
    region.keepers.insert(first.name.clone(), first.spawn_agent(&["keep"])?);
    has_both(&first)?;
    for spoke in &spokes {
        let report = uses(spoke, &two.0, std::slice::from_ref(&one.0), "the first one is back")?;
        ensure!(report["outcome"] == "unchanged", "{report:#}");
    }
    unharmed(back, "the first hub came back")?;
    which_is_in_use_is_shown(&region, &spokes[0], &one.0, &two.0)?;

    // Settings name the other one alone, at one spoke after the other: none is cut off by those that have not heard of it yet.
    let moved = stream(&region, "a/host", "b/host")?;
    for beside in [vec![two.0.clone()], vec![]] {
        for spoke in &spokes {
            spoke.write_settings(&settings(std::slice::from_ref(&one)))?;
            let report = uses(spoke, &one.0, &beside, "settings name the other one alone")?;
            let drained = lines(&report, "notes").concat().contains("no longer name, stays until the next refresh");
            ensure!(drained != beside.is_empty(), "{report:#}");
        }
    }
    unharmed(moved, "settings name the other hub alone")?;
    let clear = capture.stop()?.clear_private();
    ensure!(clear.is_empty(), "private packets in the clear: {clear:?}");
    Ok(())
}

//! Two vpn-hub in one VPC: clients follow the one that has taken over by its word through its own tunnel, and hosts of the hubs' VPC by EC2's
//! route.

use anyhow::{Context, Result, ensure};
use crosswan_faults::pair::{
    cut_from,
    hubs::{Hubs, generation},
};
use crosswan_lab::{Gateway, PingReport};

use super::{CUT, SOON, believes};
use crate::region::{eventually, refresh, status};

/// From client to client, and between the hubs' VPC and a client.
pub(super) const WAYS: [(&str, &str); 3] = [("a", "b"), ("hub", "a"), ("b", "hub")];

/// ICMP's type of "destination unreachable" (RFC 792). Packets that go to and fro end with another one, "time exceeded".
const UNREACHABLE: u8 = 3;
/// The same of client `a`.
const WAYS_OF_A: [(&str, &str); 4] = [("a", "b"), ("b", "a"), ("a", "hub"), ("hub", "a")];

pub(super) fn lost_nothing(what: &str, reports: &[PingReport]) -> Result<()> {
    let of = |report: &PingReport| format!("{} of {}", report.lost, report.sent);
    println!("hubs: {what}: lost {}", reports.iter().map(of).collect::<Vec<_>>().join(", "));
    ensure!(reports.iter().all(|report| report.lost == 0 && report.sent > 0), "{reports:?}");
    Ok(())
}

/// Everybody that lives refreshes, and nothing moves and nothing is lost.
fn refreshes_disturb_nobody(hubs: &Hubs, active: &Gateway, dead: Option<&Gateway>) -> Result<()> {
    let reports = hubs.pings(&WAYS, || {
        for gateway in hubs.all().filter(|gateway| dead.is_none_or(|dead| dead.name != gateway.name)) {
            gateway.agent(&["refresh"])?;
        }
        Ok(())
    })?;
    ensure!(hubs.vpc_leads_to(active)? && hubs.clients_lead_to(active)?);
    lost_nothing("everybody refreshed", &reports)
}

/// The dead one is cut off, and everybody comes to the heir.
pub(super) fn dies(hubs: &Hubs, dead: &Gateway, heir: &Gateway) -> Result<()> {
    let before = generation(&hubs.clients[0])?;
    let reports = hubs.pings(&WAYS, || {
        dead.ns()?.nft(CUT)?;
        eventually(SOON, "clients follow", || hubs.clients_lead_to(heir))?;
        eventually(SOON, "the VPC's routes have moved", || hubs.vpc_leads_to(heir))?;
        for (from, to) in WAYS {
            hubs.host(from)?.wait_for(hubs.host(to)?.address, SOON)?;
        }
        Ok(())
    })?;
    let gaps: Vec<_> = reports.iter().map(|report| format!("{:.0?}", report.longest_gap)).collect();
    println!(
        "hubs: {} was cut off: nothing passed from client to client, from and to the hubs' VPC for {}",
        dead.name,
        gaps.join(", ")
    );
    ensure!(reports.iter().all(|report| report.lost > 0 && report.longest_gap < SOON), "{reports:?}");
    let taken = &status(heir)?["pair"]["taken"];
    println!("hubs: decided {} ms after the last beat, calls of EC2 {} ms", taken["silent_ms"], taken["calls_ms"]);
    ensure!(generation(&hubs.clients[0])? > before);
    Ok(())
}

#[test]
fn clients_follow_the_hub_that_takes_over_and_the_one_that_returns_disturbs_nobody() -> Result<()> {
    let hubs = Hubs::up()?;
    let Hubs { one, two, .. } = &hubs;
    refreshes_disturb_nobody(&hubs, one, None)?;
    dies(&hubs, one, two)?;
    refreshes_disturb_nobody(&hubs, two, Some(one))?;

    // It is back, stands by, and no pass of anybody takes anything back.
    let back = hubs.pings(&WAYS, || {
        one.ns()?.nft("delete table ip cut")?;
        believes(one, "alive")?;
        believes(two, "alive")?;
        eventually(SOON, "it stands by", || Ok(status(one)?["pair"]["role"] == "standby"))?;
        eventually(SOON, "clients and the other hub have their tunnels to it again", || Ok(reached(one)? == 3))
    })?;
    lost_nothing("the dead one returned", &back)?;
    refreshes_disturb_nobody(&hubs, two, None)?;
    what_is_shown(&hubs, one, two)?;

    // It is handed back by order.
    let moved = hubs.pings(&WAYS, || {
        let output = two.agent(&["handover", "--timeout", "60s"])?;
        println!("{}", output.stdout);
        // Packets pass as long as the streams run.
        ensure!(output.stdout.contains("no route leads here any more"), "{output:?}");
        eventually(SOON, "clients follow", || hubs.clients_lead_to(one))
    })?;
    ensure!(hubs.vpc_leads_to(one)?);
    lost_nothing("handed over", &moved)?;
    refreshes_disturb_nobody(&hubs, one, None)
}

#[test]
fn a_client_that_reaches_one_hub_only_is_reached_through_the_other_one() -> Result<()> {
    let hubs = Hubs::up()?;
    let Hubs { region, one, two, clients, .. } = &hubs;
    let client = &clients[0];
    let capture = region.lab.capture_internet()?;
    // Segments tell packets of the hubs' own VPC by where they come from, and across they come out of a tunnel.
    for hub in [one, two] {
        hub.write_file("/etc/crosswan/conf.d/60-segments.toml", "segments = { default = [] }\n", 0o644)?;
        refresh(hub)?;
    }
    let across = |hub: &Gateway| Ok::<_, anyhow::Error>(tunnel(hub, "crosswan-across-")?["up"] == true);
    eventually(SOON, "a tunnel between the hubs", || Ok(across(one)? && across(two)?))?;
    let leads = |hub: &Gateway, interface: &str| -> Result<bool> {
        hub.agent(&["refresh"])?;
        Ok(hub.sh("ip route show table 7105 10.1.0.0/16")?.ok()?.stdout.contains(&format!("dev {interface} ")))
    };

    // It reaches neither hub: each leaves it to the other one, and between them its packets do not go to and fro.
    let cut = |hub: &Gateway| {
        hub.public().map(|address| cut_from(address).replace("table ip cut", &format!("table ip cut-{}", hub.instance)))
    };
    for hub in [one, two] {
        client.ns()?.nft(&cut(hub).context("the hub's address")?)?;
    }
    eventually(SOON, "both lead it to each other", || Ok([leads(one, "cw3")?, leads(two, "cw3")?] == [true; 2]))?;
    let (from, to) = (hubs.host("b")?, hubs.host("a")?.address);
    let report = from.ping(to, 2)?;
    let refused = report.errors.iter().any(|(who, kind, _)| *who == two.address && *kind == UNREACHABLE);
    ensure!(refused && report.errors.iter().all(|(_, kind, _)| *kind == UNREACHABLE), "{report:?}");

    // It reaches one of them.
    client.ns()?.nft(&format!("delete table ip cut-{}", two.instance))?;
    eventually(SOON, "it has a tunnel to that", || Ok(leads(two, "cw1")? || leads(two, "cw2")?))?;
    eventually(SOON, "it uses that", || {
        client.agent(&["refresh"])?;
        hubs.client_leads_to(client, two)
    })?;
    ensure!(leads(one, "cw3")?);
    let reports = hubs.pings(&WAYS_OF_A, || {
        one.agent(&["refresh"])?;
        Ok(())
    })?;
    lost_nothing("a client reached one hub", &reports)?;
    let status = one.agent(&["status"])?;
    let line = status.stdout.lines().find(|line| line.contains(client.instance.as_str())).unwrap_or_default();
    ensure!(status.code == 8 && line.contains(": DOWN") && line.ends_with(", reached by the other hub"), "{status:?}");
    let why = one.agent(&["why", &from.address.to_string(), &to.to_string()])?;
    ensure!(why.code == 0 && why.stdout.contains("behind the tunnel to the other hub"), "{why:?}");

    for (from, to) in WAYS_OF_A {
        let (from, to) = (hubs.host(from)?, hubs.host(to)?.address);
        from.transfer(to, 5 << 20)?;
        let mut fits = from.udp_df(to, 8000)?;
        // The uplink's, and each tunnel's on the way.
        for _ in 0..3 {
            fits = from.udp_df(to, fits.mtu as usize - 28)?;
        }
        ensure!(fits.answered && fits.mtu > 1400, "{}: {fits:?}", from.name);
    }

    // And both again.
    let back = hubs.pings(&WAYS_OF_A, || {
        client.ns()?.nft(&format!("delete table ip cut-{}", one.instance))?;
        eventually(SOON, "its own tunnel carries it", || Ok(reached(one)? == 3))?;
        ensure!(leads(one, "cw1")? || leads(one, "cw2")?);
        Ok(())
    })?;
    lost_nothing("its tunnel to the other one is up", &back)?;
    let clear = capture.stop()?.clear_private();
    ensure!(clear.is_empty(), "private packets in the clear: {clear:?}");
    Ok(())
}

/// What `status` says of the tunnel whose connection's name begins like this.
fn tunnel(gateway: &Gateway, name: &str) -> Result<serde_json::Value> {
    let status = status(gateway)?;
    let all = status["tunnels"].as_array().into_iter().flatten();
    let is = |tunnel: &&serde_json::Value| tunnel["connection"].as_str().is_some_and(|conn| conn.starts_with(name));
    Ok(all.into_iter().find(is).cloned().unwrap_or_default())
}

/// What people are shown while `two` is used and `one` stands by.
fn what_is_shown(hubs: &Hubs, one: &Gateway, two: &Gateway) -> Result<()> {
    let client = hubs.clients[0].agent(&["status"])?.ok()?.stdout;
    let public = |hub: &Gateway| hub.public().map(|address| address.to_string()).unwrap_or_default();
    let by_word = format!("follows crosswan-hub-{}-{} by its word", public(two).replace('.', "-"), two.instance);
    ensure!(client.contains(&by_word), "{client}");
    let stands_by = |line: &&str| line.contains(&format!(" to {}: UP", public(one))) && line.ends_with("stands by");
    ensure!(client.lines().find(stands_by).is_some(), "{client}");
    for (hub, says) in [(one, "; this gateway stands by"), (two, "; this gateway has the routes")] {
        let status = hub.agent(&["status"])?.ok()?.stdout;
        ensure!(status.lines().any(|line| line.contains(": alive, heard ") && line.contains(says)), "{status}");
        let doctor = hub.agent(&["doctor"])?;
        ensure!(doctor.code == 0 && doctor.stdout.contains("pair-i-"), "{doctor:?}");
    }
    Ok(())
}

/// How many of this hub's tunnels are up: to the clients, and to the other hub.
fn reached(hub: &Gateway) -> Result<usize> {
    let status = status(hub)?;
    Ok(status["tunnels"].as_array().into_iter().flatten().filter(|tunnel| tunnel["up"] == true).count())
}

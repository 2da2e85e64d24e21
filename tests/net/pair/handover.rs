//! Planned: one of a pair hands over by order or by what IMDS tells, and nothing private is lost.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{AgentProcess, Gateway, ImdsFault};
use serde_json::Value;

use super::{SOON, Two, believes};
use crate::region::{UP, eventually, status};

/// Where IMDS tells that a spot instance is interrupted.
pub(super) const SPOT: &str = "meta-data/spot/instance-action";

/// `crosswan handover` with these words: its exit code, and what it says came of it.
pub(super) fn hand_over(gateway: &Gateway, more: &[&str]) -> Result<(i32, Value)> {
    let output = gateway.agent(&[&["handover", "--json"], more].concat())?;
    let said = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((output.code, said))
}

/// What a handover says in words, where it fails: its exit code, and both of its outputs.
pub(super) fn refused(gateway: &Gateway, args: &[&str]) -> Result<(i32, String)> {
    let output = gateway.agent(args)?;
    Ok((output.code, format!("{}{}", output.stdout, output.stderr)))
}

fn hands_over(gateway: &Gateway) -> Result<Option<String>> {
    Ok(status(gateway)?["pair"]["hands_over"]["why"].as_str().map(str::to_owned))
}

/// What private hosts lose both ways during `what`, which must be nothing.
pub(super) fn loses_nothing(pair: &Two, name: &str, what: impl FnOnce() -> Result<()>) -> Result<()> {
    let far = pair.region.lab.host("hub/host")?;
    let streams = [pair.host.ping_stream(far.address)?, far.ping_stream(pair.host.address)?];
    thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    what()?;
    let lasted = began.elapsed();
    thread::sleep(Duration::from_secs(1));
    let [there, back] = streams.map(crosswan_lab::PingStream::stop);
    let (there, back) = (there?, back?);
    println!(
        "handover: {name}, {:.1}s: {} of {} private pings lost there, {} of {} back",
        lasted.as_secs_f64(),
        there.lost,
        there.sent,
        back.lost,
        back.sent
    );
    ensure!(there.lost == 0 && back.lost == 0 && there.sent > 20, "{name}: {there:?}, {back:?}");
    Ok(())
}

/// Both have a tunnel, private hosts reach each other, and the hub hears the pair by the two processes.
pub(super) fn ready() -> Result<(Two, [AgentProcess; 2])> {
    let pair = Two::up()?;
    let (hub, far) = (pair.region.gateway("hub/vpn-hub")?, pair.region.address("hub/host")?);
    // By its next pass the hub uses the newer one, so that answers do not come by the gateway that asks went by.
    eventually(UP, "the hub uses the newer one", || {
        hub.agent(&["refresh"])?;
        let used = format!("stands by: {} in the same VPC is in use", pair.two.instance);
        Ok(hub.agent(&["status"])?.stdout.contains(&used))
    })?;
    pair.host.wait_for(far, UP)?;
    let hears = [hub.spawn_agent(&["pair"])?, hub.spawn_agent(&["watch"])?];
    Ok((pair, hears))
}

/// New connections to the internet, one after the other, during `what`: how many there were and how many failed.
fn connects(pair: &Two, what: impl FnOnce() -> Result<()>) -> Result<(u32, u32)> {
    let (host, internet, done) = (&pair.host, pair.internet, AtomicBool::new(false));
    thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let (mut all, mut failed) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                all += 1;
                failed += u32::from(host.whoami_tcp(internet).is_err());
                thread::sleep(Duration::from_millis(50));
            }
            (all, failed)
        });
        let what = what();
        done.store(true, Ordering::Relaxed);
        let counts = clients.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
        what.map(|()| counts)
    })
}

#[test]
fn a_handover_loses_no_private_packet_and_another_one_gives_the_routes_back() -> Result<()> {
    let (pair, _hears) = ready()?;
    let Two { one, two, .. } = &pair;
    // Who is none of a pair, and who has no route.
    let hub = pair.region.gateway("hub/vpn-hub")?;
    let (code, said) = refused(&hub, &["handover"])?;
    ensure!(code == 3 && said.contains("no other gateway makes a pair with this one"), "{code}: {said}");
    let (code, said) = refused(one, &["handover", "--timeout", "1h"])?;
    ensure!(code == 2 && said.contains("from 1s to 10m"), "{code}: {said}");
    let moves = pair.moves();
    loses_nothing(&pair, "the newer one, which has no route and by which the hub sends", || {
        let (code, said) = hand_over(two, &[])?;
        ensure!((code, said["outcome"].as_str()) == (0, Some("nothing-to-hand-over")), "{code}: {said:#}");
        Ok(())
    })?;
    ensure!(pair.moves() == moves && pair.leads_to(one)?);

    loses_nothing(&pair, "the older one by crosswan handover", || {
        let (all, failed) = connects(&pair, || {
            let (code, said) = hand_over(one, &[])?;
            // Nothing private passes the older one any more; a connection to the internet that began there may be tried again.
            ensure!(code == 0 || said["outcome"] == "still-forwards", "{code}: {said:#}");
            ensure!(said["routes"].as_array().is_some_and(|routes| routes.len() == 3), "{said:#}");
            ensure!(said["left"].as_array().is_some_and(Vec::is_empty), "{said:#}");
            println!("handover: EC2 showed it {} ms after the order, exit code {code}", said["moved_ms"]);
            Ok(())
        })?;
        println!("handover: {failed} of {all} connections to the internet failed meanwhile");
        ensure!(all > 10 && failed <= 1, "{failed} of {all} new connections failed");
        ensure!(pair.leads_to(two)? && pair.seen_as()? == two.public());
        eventually(SOON, "both say who has the routes", || {
            Ok(status(one)?["pair"]["role"] == "standby" && status(two)?["pair"]["role"] == "active")
        })
    })?;
    ensure!(status(two)?["pair"]["taken"]["handed_over"] == true);
    eventually(SOON, "the order ended with the command", || Ok(hands_over(one)?.is_none()))?;

    // A moment later, in spite of the hold-down. The hub follows, so nothing private passes the one that handed over.
    loses_nothing(&pair, "back again", || {
        let (code, said) = hand_over(two, &[])?;
        ensure!((code, said["outcome"].as_str()) == (0, Some("handed-over")), "{code}: {said:#}");
        ensure!(pair.leads_to(one)?, "{said:#}");
        Ok(())
    })?;
    // Without traffic it is done.
    let (code, said) = hand_over(two, &[])?;
    ensure!((code, said["outcome"].as_str()) == (0, Some("nothing-to-hand-over")), "{code}: {said:#}");

    // The third move is the last one in ten minutes, and the one that would take says so.
    loses_nothing(&pair, "the third one, and a fourth that is refused", || {
        hand_over(one, &["--timeout", "10s"])?;
        ensure!(pair.leads_to(two)?);
        let (code, said) = refused(two, &["handover", "--timeout", "5s"])?;
        ensure!(code == 4 && said.contains("NOT handed over"), "{code}: {said}");
        ensure!(said.contains("there have been three moves in ten minutes"), "{said}");
        believes(one, "alive")?;
        ensure!(pair.leads_to(two)?);
        Ok(())
    })
}

#[test]
fn what_cannot_be_taken_stays_and_a_killed_program_harms_nothing() -> Result<()> {
    let (pair, _hears) = ready()?;
    let (one, two) = (pair.one.clone(), pair.two.clone());
    // The other one is not well: everything stays, and is said.
    two.kill_charon(9)?;
    let (moves, kept) =
        (pair.moves(), |pair: &Two, moves| Ok::<_, anyhow::Error>(pair.moves() == moves && pair.leads_to(&one)?));
    let report = pair.pings(|| {
        let (code, said) = refused(&one, &["handover", "--timeout", "4s"])?;
        ensure!(code == 4 && said.contains("NOT handed over") && said.contains("its charon is away"), "{code}: {said}");

        // crosswan handover is killed: the order ends with it.
        let command = one.spawn_agent(&["handover", "--timeout", "10m"])?;
        eventually(SOON, "it hands over", || Ok(hands_over(&one)?.is_some()))?;
        let (code, said) = refused(&one, &["handover", "--timeout", "4s"])?;
        ensure!(code == 5, "there is one already: {code}: {said}");
        command.kill();
        eventually(SOON, "the order ended", || Ok(hands_over(&one)?.is_none()))
    })?;
    ensure!(report.lost == 0 && kept(&pair, moves)?, "{report:?}");

    // crosswan pair is killed in the middle, and the next one goes on.
    let command = one.spawn_agent(&["handover", "--timeout", "10m"])?;
    eventually(SOON, "it hands over", || Ok(hands_over(&one)?.is_some()))?;
    one.sh(&format!("kill -9 {}", pair.watch_one.pid()))?.ok()?;
    believes(&two, "its crosswan pair is silent and its kernel answers")?;
    ensure!(kept(&pair, moves)?);
    two.start_charon()?;
    eventually(SOON, "its tunnel is back", || Ok(status(&two)?["pair"]["own_health"] == "well"))?;
    thread::sleep(Duration::from_secs(2));
    ensure!(kept(&pair, moves)?, "nobody says any more that it hands over");
    let mut again = None;
    loses_nothing(&pair, "by a crosswan pair that was killed and is back", || {
        again = Some(one.spawn_agent(&["pair"])?);
        eventually(SOON, "the routes have moved", || pair.leads_to(&two))
    })?;
    eventually(SOON, "the command ends", || Ok(!command.running()))?;
    println!("{}", command.log());
    ensure!(command.log().contains("handed over to"), "{}", command.log());
    eventually(SOON, "the order ended with it", || Ok(hands_over(&one)?.is_none()))?;
    drop(again);
    Ok(())
}

#[test]
fn what_imds_tells_of_its_end_makes_a_member_hand_over_once() -> Result<()> {
    let (pair, _hears) = ready()?;
    let Two { one, two, .. } = &pair;
    let spot = |time: &str| ImdsFault::Garbage(format!("{{\"action\": \"terminate\", \"time\": \"{time}\"}}"));
    // IMDS that fails, or tells of maintenance next week, is no reason.
    one.imds.set("", Some(ImdsFault::Status(500)));
    thread::sleep(Duration::from_secs(6));
    one.imds.set("", None);
    let maintenance = r#"[{"NotBefore": "21 Jan 2099 09:00:43 GMT", "Code": "system-reboot", "State": "active"}]"#;
    one.imds.set("meta-data/events/maintenance/scheduled", Some(ImdsFault::Garbage(maintenance.into())));
    thread::sleep(Duration::from_secs(6));
    ensure!(hands_over(one)?.is_none() && pair.leads_to(one)?);

    loses_nothing(&pair, "the older one by a spot interruption", || {
        let told = Instant::now();
        one.imds.set(SPOT, Some(spot("2026-09-18T08:22:00Z")));
        eventually(SOON, "the routes have moved", || pair.leads_to(two))?;
        println!("handover: EC2 has it {:.1?} after IMDS told", told.elapsed());
        Ok(())
    })?;
    pair.watch_one.wait_for_log("EC2 interrupts this spot instance", SOON)?;
    eventually(SOON, "status says why", || {
        Ok(hands_over(one)?.is_some_and(|why| why.contains("\"terminate\" at \"2026-09-18T08:22:00Z\"")))
    })?;
    believes(two, "alive, and hands over; no route leads to it")?;
    ensure!(one.agent(&["status"])?.stdout.contains("it hands over since"));
    ensure!(pair.seen_as()? == two.public());

    // Both want to go: nothing moves, and that is said.
    let moves = pair.moves();
    two.imds.set(SPOT, Some(spot("2026-09-18T08:23:00Z")));
    believes(two, "alive, and hands over; nothing moves, as this gateway hands over itself")?;
    believes(one, "alive, and hands over; nothing moves, as this gateway hands over itself")?;
    ensure!(pair.moves() == moves && pair.leads_to(two)?);
    // An operator lets the first one stay, which then takes them; the notice stands, and does not count again.
    let output = one.agent(&["handover", "--cancel"])?;
    ensure!(output.code == 0 && output.stdout.contains("this gateway stays"), "{output:?}");
    eventually(SOON, "the routes have moved", || pair.leads_to(one))?;
    thread::sleep(Duration::from_secs(7));
    ensure!(hands_over(one)?.is_none() && pair.leads_to(one)?);
    ensure!(pair.seen_as()? == one.public());
    Ok(())
}

/// strongSwan is restarted, as by an upgrade of its packages, and so is `crosswan pair`; then this gateway's tunnel is up again.
fn upgrade(gateway: &Gateway, watch: &AgentProcess, other: &Gateway) -> Result<AgentProcess> {
    gateway.stop_charon()?;
    gateway.sh(&format!("kill {}", watch.pid()))?.ok()?;
    eventually(SOON, "crosswan pair ends", || Ok(!watch.running()))?;
    gateway.start_charon()?;
    let watch = gateway.spawn_agent(&["pair"])?;
    let output = gateway.agent(&["refresh"])?;
    ensure!([0, 3].contains(&output.code), "{output:?}");
    eventually(SOON, "it is well again", || {
        Ok(status(gateway)?["pair"]["own_health"] == "well" && status(other)?["pair"]["its_health"] == "well")
    })?;
    Ok(watch)
}

#[test]
fn an_upgrade_of_a_pair_is_two_handovers_and_loses_no_private_packet() -> Result<()> {
    let (pair, _hears) = ready()?;
    let Two { one, two, watch_one, watch_two, .. } = &pair;
    loses_nothing(&pair, "one after the other is upgraded", || {
        let (code, said) = hand_over(one, &[])?;
        ensure!((code, said["outcome"].as_str()) == (0, Some("handed-over")), "{code}: {said:#}");
        let _watch_one = upgrade(one, watch_one, two)?;
        let (code, said) = hand_over(two, &[])?;
        ensure!((code, said["outcome"].as_str()) == (0, Some("handed-over")), "{code}: {said:#}");
        let _watch_two = upgrade(two, watch_two, one)?;
        ensure!(pair.leads_to(one)?);
        Ok(())
    })
}

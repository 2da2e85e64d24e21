//! A hub and a nat-hub that make way for a third one of their kind: because it asks for that, by order, and at the end of an instance. `third`
//! shows the same of a nat-vpn.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Result, ensure};
use crosswan_faults::{
    attended::Attended,
    pair::{
        REPLACES, SOON, are_well, believes,
        hubs::{Hubs, place, up_tunnels},
        leads_to,
    },
};
use crosswan_lab::{Gateway, ImdsFault, Lab, Role, VpcSpec};

use super::{
    handover::{SPOT, refused},
    hubs::{WAYS, dies, lost_nothing},
};
use crate::region::{Region, agent, eventually};

const REGION: &str = "us-west-2";
const MAKE_WAY: &str = "--make-way";

/// Waits until the two are well and the pair.
fn are_the_pair(two: [&Gateway; 2]) -> Result<()> {
    eventually(SOON, "the two are the pair", || are_well(two))?;
    two.into_iter().try_for_each(|member| believes(member, "alive"))
}

#[test]
fn a_hub_makes_way_for_the_third_one_that_asks_and_clients_follow_it_when_the_other_one_dies() -> Result<()> {
    let mut hubs = Hubs::up()?;
    let heir = hubs.third()?;
    let Hubs { one, two, .. } = &hubs;
    let attended: Vec<_> = hubs.all().chain([&heir]).map(|gateway| Attended::refreshed(gateway.clone())).collect();
    for gateway in &attended {
        gateway.first_pass()?;
    }
    are_the_pair([one, two])?;

    let asks = "EC2 shows that this gateway asks for a member's place";
    hubs.residents[&heir.name].pair.wait_for_log(asks, SOON)?;
    let made_way = hubs.pings(&WAYS, || {
        // The pass that comes each hour.
        one.agent(&["refresh"])?;
        are_the_pair([two, &heir])?;
        eventually(SOON, "each client has its second tunnel to the heir", || {
            let has =
                |client: &Gateway| Ok::<_, anyhow::Error>(place(client, &heir).is_ok() && up_tunnels(client)? == 2);
            hubs.clients.iter().try_fold(true, |all, client| Ok(all && has(client)?))
        })
    })?;
    lost_nothing("the first one made way", &made_way)?;
    ensure!(hubs.vpc_leads_to(two)? && hubs.clients_lead_to(two)?);
    let ended = hubs.pings(&WAYS, || {
        hubs.region.lab.terminate(one)?;
        thread::sleep(Duration::from_secs(5));
        Ok(())
    })?;
    lost_nothing("the first one was ended", &ended)?;
    dies(&hubs, two, &heir)
}

#[test]
fn a_nat_hub_whose_order_to_make_way_is_interrupted_does_so_when_it_is_ordered_again_and_at_its_end_by_itself()
-> Result<()> {
    let hub = VpcSpec::new("hub", REGION, &["10.0.0.0/16"], &[Role::NatHub])?.bare();
    let region = Region::booted(Lab::builder(agent()?).vpc(hub).build()?)?;
    let (lab, host) = (&region.lab, region.lab.host("hub/host")?);
    let boot = |gateway: &Arc<Gateway>| {
        let attended = Attended::refreshed(gateway.clone());
        attended.first_pass()?;
        Ok::<_, anyhow::Error>((gateway.spawn_agent(&["pair"])?, attended))
    };
    let one = region.gateway("hub/nat-hub")?;
    let (_pair, mut attended) = boot(&one)?;
    let launch = || {
        let gateway = lab.add_gateway("hub", Role::NatHub)?;
        gateway.set_env(REPLACES, "false");
        Ok::<_, anyhow::Error>(gateway)
    };
    let two = launch()?;
    let _two = boot(&two)?;
    believes(&one, "alive")?;
    believes(&two, "alive")?;
    let heir = launch()?;
    let _heir = boot(&heir)?;
    are_the_pair([&one, &two])?;

    // It knows for whom to make way, and then nobody makes a pass on it that finds that it has.
    let ordered = || one.spawn_agent(&["handover", MAKE_WAY]);
    let command = ordered()?;
    command.wait_for_log("is to take them", SOON)?;
    attended.end()?;
    command.wait_for_log("EC2 shows that this gateway has made way for", SOON)?;
    let code = command.stop()?;
    ensure!(code == Some(4), "{code:?}");
    let [_, table] = lab.route_tables("hub")?;
    ensure!(leads_to(lab, REGION, &two, &table, "0.0.0.0/0")?);

    let stream = host.ping_stream(lab.internet().address)?;
    let command = ordered()?;
    let _attended = Attended::refreshed(one.clone());
    eventually(SOON, "the order is done", || Ok(!command.running()))?;
    let (log, code) = (command.log(), command.stop()?);
    // The log begins with what the first one has said.
    ensure!(code == Some(0) && log.contains("run crosswan handover --make-way again"), "{code:?}: {log}");
    ensure!(log.contains(&format!("; {} takes this gateway's place", heir.instance)), "{log}");
    are_the_pair([&two, &heir])?;
    let report = stream.stop()?;
    ensure!(report.lost == 0, "{report:?}");
    let (code, why) = refused(&one, &["handover", MAKE_WAY])?;
    ensure!(code == 3 && why.contains(&format!("has made way for {}", heir.instance)), "{code}: {why}");

    let next = launch()?;
    let _next = boot(&next)?;
    two.agent(&["refresh"])?;
    are_the_pair([&two, &heir])?;
    let notice = r#"{"action": "terminate", "time": "2026-09-18T08:22:00Z"}"#;
    two.imds.set(SPOT, Some(ImdsFault::Garbage(notice.into())));
    are_the_pair([&heir, &next])
}

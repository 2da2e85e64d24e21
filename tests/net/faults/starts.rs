//! Both ends of a tunnel start at the same moment, again and again: the result is always exactly one tunnel.

use std::{
    collections::BTreeMap,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use crosswan_lab::{AgentProcess, Gateway};

use super::look::{newest_ike, untidy};
use crate::region::{Region, UP, eventually};

/// How often both ends start together.
const ROUNDS: usize = 20;
/// IKE_SAs one charon may try in a round: a hub with two spokes makes two, and each may collide a few times.
const TRIED: u32 = 12;

#[test]
fn both_ends_start_at_the_same_moment_twenty_times_over() -> Result<()> {
    let mut region = Region::standard()?;
    let gateways = [region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?, region.gateway("b/nat-vpn")?];
    let host = region.lab.host("a/host")?;
    let far = [region.address("hub/host")?, region.address("b/host")?, region.address("b/host-2")?];
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for round in 0..ROUNDS {
        for gateway in &gateways {
            drop(region.keepers.remove(&gateway.name));
            gateway.stop_charon()?;
        }
        region.keepers = together(gateways.each_ref().map(|g| &**g))?;
        let began = Instant::now();
        far.iter().try_for_each(|to| host.wait_for(*to, UP).map(drop))?;
        slowest = slowest.max(began.elapsed());
        let mut faults = Vec::new();
        eventually(UP, &format!("round {round}: exactly one of each"), || {
            faults = gateways.iter().map(|g| untidy(g)).collect::<Result<Vec<_>>>()?.concat();
            Ok(faults.is_empty())
        })
        .map_err(|e| e.context(faults.join("\n")))?;
        for gateway in &gateways {
            let tried = newest_ike(gateway)?;
            most = most.max(tried);
            ensure!(tried <= TRIED, "round {round}: {} is at IKE_SA {tried}", gateway.name);
        }
    }
    println!("{ROUNDS} starts: all tunnels up after at most {slowest:?}, at most {most} IKE_SAs tried by one end");
    Ok(())
}

/// Starts charon and keep on each gateway, all at once.
fn together(gateways: [&Gateway; 3]) -> Result<BTreeMap<String, AgentProcess>> {
    let start = Barrier::new(gateways.len());
    thread::scope(|scope| {
        let threads = gateways.map(|gateway| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                gateway.start_charon()?;
                Ok((gateway.name.clone(), gateway.spawn_agent(&["keep"])?))
            })
        });
        threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a start panicked"))?).collect()
    })
}

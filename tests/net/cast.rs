//! What cloudcaster made, and gateways that take their place by themselves: neither moves what the other one owns.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, ensure};
use crosswan_faults::pair::alone;
use crosswan_lab::{Gateway, Lab, Role, account};

use crate::{
    cloud::watch::Watch,
    place::{leads_to, pass},
    region::{Region, UP, agent, eventually},
};

const PRIVATE: &str = "203.0.113.0/24";
const CIDR_A: &str = "203.0.113.128/26";

/// Casts these files; everything that was said.
fn cast(lab: &Lab, files: &[&PathBuf]) -> Result<String> {
    let program = agent()?.with_file_name("cloudcaster");
    ensure!(program.is_file(), "no {}: cargo build --workspace --bins", program.display());
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut arguments = vec!["cast", "--yes"];
    arguments.extend(files.iter().map(String::as_str));
    let output = lab.cloudcaster(&program, "operator", &arguments)?;
    ensure!(output.code == 0, "exit {}\n{}{}", output.code, output.stderr, output.stdout);
    Ok(output.stdout + &output.stderr)
}

/// Where the private table of client `a` leads.
fn routes(region: &Region) -> Result<BTreeMap<&'static str, String>> {
    let [_, private] = region.lab.route_tables("a")?;
    let of = |to| Ok((to, leads_to(region, "a", &private, to)?));
    ["0.0.0.0/0", PRIVATE].into_iter().map(of).collect()
}

/// Passes of the hub and of a new gateway of client `a`, until all routes lead to that.
fn until_routes_lead_to(region: &Region, gateway: &Arc<Gateway>) -> Result<()> {
    let own = region.lab.ec2().instance(&gateway.region, &gateway.instance)?;
    let here = |to: &String| [&own.id, &own.interface].contains(&to);
    let hub = region.gateway("hub/vpn-hub")?;
    eventually(UP, "the routes lead to the new gateway", || {
        pass(&hub)?;
        pass(gateway)?;
        Ok(routes(region)?.values().all(here))
    })?;
    pass(&hub).map(drop)
}

fn terminate(region: &mut Region, gateway: Arc<Gateway>) -> Result<()> {
    region.keepers.remove(&gateway.name);
    let of = [("InstanceId.1", gateway.instance.as_str())];
    region.lab.ec2().call(account::REGION, "TerminateInstances", &of)?;
    drop(gateway);
    region.lab.adopt_cidr("a", CIDR_A)
}

#[test]
fn a_cast_and_gateways_that_take_their_place_leave_each_others_routes_alone() -> Result<()> {
    let builder = Lab::builder(agent()?).private_net(&[PRIVATE.parse()?]).region(account::REGION);
    let lab = builder.images(&account::images()).build()?;
    lab.prepare_account()?;
    let (hub, a) = (lab.document("hub", 0)?, lab.document("a", 128)?);
    cast(&lab, &[&hub, &a])?;
    for (name, cidr) in [("hub", "203.0.113.0/26"), ("a", CIDR_A)] {
        lab.adopt_cidr(name, cidr)?;
        lab.managed_tables(name)?;
    }
    let mut region = Region::booted(lab)?;
    region.settle()?;
    let unchanged = |region: &Region| {
        let before = routes(region)?;
        let said = cast(&region.lab, &[&hub, &a])?;
        // The plans say so, and the end.
        ensure!(said.matches("nothing to do").count() == 4 && !said.contains("in the way"), "{said}");
        ensure!(routes(region)? == before, "{said}");
        Ok(())
    };
    unchanged(&region)?;
    let first = region.gateway("a/nat-vpn")?;

    let watched = Watch::over(&region, &[("a/host", "hub/host"), ("hub/host", "a/host")])?;
    let second = region.lab.add_gateway("a", Role::NatVpn)?;
    alone(&second)?;
    second.start_charon()?;
    pass(&second)?;
    region.keepers.insert(second.name.clone(), second.spawn_agent(&["keep"])?);
    until_routes_lead_to(&region, &second)?;
    unchanged(&region)?;
    // The first one goes, and the cast takes the second one over as it is.
    terminate(&mut region, first)?;
    let before = routes(&region)?;
    let said = cast(&region.lab, &[&a])?;
    ensure!(said.contains("adopt") && !said.contains("launch") && routes(&region)? == before, "{said}");
    unchanged(&region)?;
    watched.undisturbed("a gateway was replaced by another one, with casts in between")?;

    // Nobody is left: a cast launches one in the place that stayed, and leads the routes there. moto keeps an instance's interface.
    let interface = region.lab.ec2().instance(account::REGION, &second.instance)?.interface;
    terminate(&mut region, second)?;
    region.lab.ec2().call(account::REGION, "DeleteNetworkInterface", &[("NetworkInterfaceId", &interface)])?;
    let said = cast(&region.lab, &[&a])?;
    ensure!(said.contains("launch nat (") && said.contains("its interface is gone"), "{said}");
    region.lab.adopt_cidr("a", CIDR_A)?;
    let third = region.gateway("a/nat-vpn").context("the new one")?;
    third.start_charon()?;
    pass(&third)?;
    region.keepers.insert(third.name.clone(), third.spawn_agent(&["keep"])?);
    until_routes_lead_to(&region, &third)?;
    region.settle()?;
    let host = region.lab.host("a/host")?;
    eventually(UP, "the internet is reached", || host.reaches(region.lab.internet().address))?;
    unchanged(&region)
}

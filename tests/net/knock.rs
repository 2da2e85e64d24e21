//! A gateway that the others do not know yet, or by another key: they hear it knock, and ask EC2 at once.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_faults::{attended::Attended, look::sas};
use crosswan_lab::{Auth, Builder, Gateway, Lab, Role, VpcSpec};

use crate::{
    region::{agent, eventually},
    strongswans::strongswan,
};

/// The default of `keep.interval`. A missing tunnel is asked for after minutes.
const SLOW: Duration = Duration::from_secs(15);
/// Long on a busy machine, and far from an hour.
const LIMIT: Duration = Duration::from_secs(90);

/// Gateways that make their own routes, and take Elastic IPs of their own, all attended.
struct Fleet {
    attended: Vec<Attended>,
    lab: Lab,
}

impl Fleet {
    fn boot(
        vpcs: impl IntoIterator<Item = VpcSpec>,
        interval: Duration,
        prepare: impl Fn(&Lab) -> Result<()>,
    ) -> Result<Fleet> {
        let vpcs = vpcs.into_iter().map(VpcSpec::bare);
        let lab = vpcs.fold(Lab::builder(agent()?).auth(Auth::Key).pools(), Builder::vpc).build()?;
        prepare(&lab)?;
        let boot = |gateway| Attended::boot(gateway, interval);
        let attended = lab.gateways().into_iter().map(boot).collect::<Result<_>>()?;
        let fleet = Fleet { attended, lab };
        fleet.lab.host("a/host")?.wait_for(fleet.lab.host("hub/host")?.address, LIMIT)?;
        // Whatever the boot asked for is done once nothing was asked for in a while.
        let passes = || fleet.attended.iter().map(|one| one.passes().len()).sum::<usize>();
        let mut before = 0;
        eventually(LIMIT, "no more passes", || {
            let same = before == passes();
            before = passes();
            std::thread::sleep(Duration::from_secs(3));
            Ok(same)
        })?;
        Ok(fleet)
    }

    fn of(&self, name: &str) -> Result<&Attended> {
        self.attended.iter().find(|one| one.gateway.name == name).context("no such gateway")
    }
}

/// Where the lab says which Elastic IPs a gateway may take.
const ADDRESS: &str = "/etc/crosswan/conf.d/address.toml";

fn public(lab: &Lab, gateway: &Gateway) -> Result<Ipv4Addr> {
    lab.ec2().instance(&gateway.region, &gateway.instance)?.public.context("no public address")
}

fn heard(listener: &Attended, address: Ipv4Addr) -> Result<()> {
    let keep = listener.keep.as_ref().context("no keep")?;
    keep.wait_for_log(&format!("{address} wants a tunnel"), LIMIT)
}

#[test]
fn a_hub_hears_a_new_gateway_and_makes_its_tunnel() -> Result<()> {
    let vpcs = Lab::standard_vpcs()?.map(|vpc| match vpc.name.as_str() {
        "b" => VpcSpec { gateways: Vec::new(), ..vpc },
        _ => vpc,
    });
    let fleet = Fleet::boot(vpcs, SLOW, |_| Ok(()))?;
    let hub = fleet.of("hub/vpn-hub")?;
    let before = hub.passes().len();
    let gateway = fleet.lab.add_gateway("b", Role::NatVpn)?;
    let _new = Attended::boot(gateway.clone(), SLOW)?;
    fleet.lab.host("b/host")?.wait_for(fleet.lab.host("hub/host")?.address, LIMIT)?;
    heard(hub, public(&fleet.lab, &gateway)?)?;
    ensure!(hub.passes().len() == before + 1, "{} passes", hub.passes().len() - before);
    Ok(())
}

/// The hub knows its address, and expects the key of the one before. Its strongSwan is the newest, whose words differ.
#[test]
fn a_hub_hears_a_gateway_that_took_the_address_of_the_one_before() -> Result<()> {
    let newest = |lab: &Lab| lab.gateway("hub/vpn-hub")?.use_strongswan(&strongswan("testing")?);
    let mut fleet = Fleet::boot(Lab::standard_vpcs()?, SLOW, newest)?;
    let gateway = fleet.lab.add_gateway("a", Role::NatVpn)?;
    let at = fleet.attended.iter().position(|one| one.gateway.name == "a/nat-vpn").context("no gateway")?;
    let mut old = fleet.attended.swap_remove(at);
    let held = public(&fleet.lab, &old.gateway)?;
    gateway.write_file(ADDRESS, &old.gateway.read_file(ADDRESS)?, 0o644)?;
    old.end()?;
    fleet.lab.terminate(&old.gateway)?;
    let _new = Attended::boot(gateway.clone(), SLOW)?;
    fleet.lab.host("a/host")?.wait_for(fleet.lab.host("hub/host")?.address, LIMIT)?;
    ensure!(public(&fleet.lab, &gateway)? == held);
    heard(fleet.of("hub/vpn-hub")?, held)
}

/// Their tunnels to the one in use are up, so nothing else makes them ask.
#[test]
fn spokes_hear_a_second_hub() -> Result<()> {
    // Each spoke waits for a time of its own, in a window of half a minute with this interval.
    let interval = Duration::from_secs(1);
    let fleet = Fleet::boot(Lab::standard_vpcs()?, interval, |_| Ok(()))?;
    let gateway = fleet.lab.add_gateway("hub", Role::VpnHub)?;
    let _new = Attended::boot(gateway.clone(), interval)?;
    eventually(LIMIT, "both spokes have a tunnel to it", || Ok(sas(&gateway)?.len() == 2))?;
    let address = public(&fleet.lab, &gateway)?;
    ["a/nat-vpn", "b/nat-vpn"].iter().try_for_each(|spoke| heard(fleet.of(spoke)?, address))
}

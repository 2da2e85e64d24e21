//! A gateway that is gone before there is another: seconds from the new one's boot until packets pass again.
//! EC2 is moto, and the VPCs' routes are the gateways' own to make.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use crosswan_faults::attended::Attended;
use crosswan_lab::{Builder, Lab, Role, VpcSpec};

use crate::results::{Section, seconds, table};
use crate::{Setup, say};

/// Longest wait for packets: a spoke asks for a refresh at most nine minutes after its tunnel went down, and for another later.
const LIMIT: Duration = Duration::from_secs(1800);

/// The region, and what attends to its gateways.
struct Region {
    lab: Lab,
    attended: Vec<Attended>,
    /// Of `keep`.
    interval: Duration,
    /// From the old gateway's end to the new one's boot.
    between: Duration,
}

/// One gateway's end and its successor's boot.
struct Replaced {
    /// Seconds until a host behind it reached the internet; a vpn-hub has nothing to do with that.
    internet: Option<f64>,
    /// Seconds until two hosts, one of them behind it, reached each other; a nat-hub has nothing to do with that.
    private: Option<f64>,
}

impl Region {
    fn new(setup: &Setup) -> Result<Region> {
        let vpcs = Lab::standard_vpcs()?.map(VpcSpec::bare);
        let lab = vpcs.into_iter().fold(Lab::builder(&setup.agent), Builder::vpc).build()?;
        let (interval, between) = if setup.quick { (1, 1) } else { (15, 60) };
        let (interval, between) = (Duration::from_secs(interval), Duration::from_secs(between));
        let attended =
            lab.gateways().into_iter().map(|gateway| Attended::boot(gateway, interval)).collect::<Result<_>>()?;
        let region = Region { lab, attended, interval, between };
        region.settle()?;
        Ok(region)
    }

    /// Waits until all hosts reach each other and the internet.
    fn settle(&self) -> Result<()> {
        let hosts = self.lab.hosts();
        for from in &hosts {
            let others = hosts.iter().filter(|to| to.name != from.name).map(|to| to.address);
            others.chain([self.lab.internet().address]).try_for_each(|to| from.wait_for(to, LIMIT).map(drop))?;
        }
        Ok(())
    }

    /// Ends a gateway, boots another in its place, and waits until packets pass. `help`: its peers are refreshed once, when it has made
    /// its first pass, as an operator can.
    fn replace(&mut self, vpc: &str, role: Role, help: bool) -> Result<Replaced> {
        say(&format!("{} is replaced, its peers are {}", role.as_str(), if help { "refreshed" } else { "left alone" }));
        let name = format!("{vpc}/{}", role.as_str());
        let at = self.attended.iter().position(|one| one.gateway.name == name).context(name)?;
        let mut old = self.attended.swap_remove(at);
        old.end()?;
        self.lab.terminate(&old.gateway)?;
        thread::sleep(self.between);
        let gateway = self.lab.add_gateway(vpc, role)?;
        let (near, far) = (self.lab.host(&format!("{vpc}/host"))?, self.lab.host("b/host")?);
        let new = Attended::boot(gateway, self.interval)?;
        let (lab, attended) = (&self.lab, &self.attended);
        let found = thread::scope(|scope| {
            let internet = scope.spawn(|| near.wait_for(lab.internet().address, LIMIT));
            let private = scope.spawn(|| near.wait_for(far.address, LIMIT));
            let helped = help.then(|| {
                new.first_pass()?;
                let peers = attended.iter().filter(|one| (one.gateway.role == Role::VpnHub) != (role == Role::VpnHub));
                let mut peers = peers.filter(|one| one.gateway.role != Role::NatHub);
                peers.try_for_each(|one| one.gateway.agent(&["refresh"]).map(drop))
            });
            helped.transpose()?;
            let time = |thread: thread::ScopedJoinHandle<Result<Duration>>| {
                thread.join().map_err(|_| anyhow!("a ping has panicked"))?.map(|time| time.as_secs_f64())
            };
            Ok::<_, anyhow::Error>((time(internet)?, time(private)?))
        });
        self.attended.push(new);
        let (internet, private) = found?;
        self.settle()?;
        Ok(Replaced {
            internet: (role != Role::VpnHub).then_some(internet),
            private: (role != Role::NatHub).then_some(private),
        })
    }
}

/// Replaces each kind of gateway.
pub fn bench(setup: &Setup) -> Result<Section> {
    say("bringing up a hub and two clients");
    let mut region = Region::new(setup)?;
    let cases = [
        ("nat-hub", "hub", Role::NatHub, None),
        ("nat-vpn", "a", Role::NatVpn, Some(false)),
        ("nat-vpn", "a", Role::NatVpn, Some(true)),
        ("vpn-hub", "hub", Role::VpnHub, Some(false)),
        ("vpn-hub", "hub", Role::VpnHub, Some(true)),
    ];
    let mut rows = Vec::new();
    // Left alone, peers ask five minutes after they have asked for anything else: too long for a test that it works.
    for (name, vpc, role, help) in cases.into_iter().filter(|(.., help)| !setup.quick || *help != Some(false)) {
        let found = region.replace(vpc, role, help == Some(true))?;
        let peers = match help {
            None => "it has none",
            Some(true) => "refreshed once",
            Some(false) => "left alone",
        };
        let time = |found: Option<f64>| found.map_or("–".into(), seconds);
        rows.push(vec![name.into(), peers.into(), time(found.internet), time(found.private)]);
    }
    let text = format!(
        "The old gateway is terminated without a farewell, and {} s later the new one boots. Seconds count from there, without what a \
         machine needs until its services start, to the first answer that a private host gets. `keep` looks every {} s.\n\n{}",
        region.between.as_secs(),
        region.interval.as_secs(),
        table("new gateway | its peers are | internet | private network", rows.into_iter())
    );
    Ok(Section {
        name: "replacement",
        title: "A gateway that is gone before there is another",
        budgets: Vec::new(),
        text,
        plots: Vec::new(),
    })
}

//! A gateway that is gone before there is another: seconds from the new one's boot until packets pass again.
//!
//! Each gateway is attended as systemd does it in an image: a refresh at boot, again soon while a key is awaited, `keep`, and a refresh
//! whenever `keep` asks for one. EC2 is moto, and the VPCs' routes are the gateways' own to make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use crosswan_lab::{Builder, Gateway, Lab, Role, VpcSpec};

use crate::results::{Section, seconds, table};
use crate::{Setup, say};

/// After a pass that ended with exit code 3, as `images/files/all` has it, the last of them again and again.
const AGAIN: [u64; 5] = [10, 19, 35, 65, 120];
/// What keep writes when it asks for a refresh.
const WANTED: &str = "/run/crosswan/refresh-wanted";
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for packets: a spoke asks for a refresh at most nine minutes after its tunnel went down, and for another later.
const LIMIT: Duration = Duration::from_secs(1800);

/// What attends to one gateway, until it is dropped.
struct Attended {
    gateway: Arc<Gateway>,
    ends: Arc<AtomicBool>,
    passes: Arc<AtomicU32>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Attended {
    /// Boots it. `interval` is that of `keep`.
    fn boot(gateway: Arc<Gateway>, interval: Duration) -> Result<Attended> {
        if gateway.role != Role::NatHub {
            let setting = format!("keep.interval = \"{}s\"\n", interval.as_secs());
            gateway.write_file("/etc/crosswan/conf.d/50-bench.toml", &setting, 0o644)?;
        }
        let (ends, passes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let its = (gateway.clone(), ends.clone(), passes.clone());
        let thread = Some(thread::spawn(move || attend(&its.0, &its.1, &its.2)));
        Ok(Attended { gateway, ends, passes, thread })
    }

    /// Waits for the end of its first pass.
    fn first_pass(&self) -> Result<()> {
        let start = Instant::now();
        while self.passes.load(Ordering::Relaxed) == 0 {
            ensure!(start.elapsed() < LIMIT, "{}: no pass has ended", self.gateway.name);
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| thread.join().map_err(|_| anyhow!("what attends has panicked"))?)
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            say(&format!("{}: {error:#}", self.gateway.name));
        }
    }
}

fn attend(gateway: &Gateway, ends: &AtomicBool, passes: &AtomicU32) -> Result<()> {
    let tunnels = gateway.role != Role::NatHub;
    if tunnels {
        gateway.start_charon()?;
    }
    let wanted = || std::fs::metadata(gateway.path(WANTED)).and_then(|file| file.modified()).ok();
    let (mut keep, mut tries) = (None, 0_usize);
    while !ends.load(Ordering::Relaxed) {
        let asked: Option<SystemTime> = wanted();
        let code = gateway.agent(&["refresh"])?.code;
        passes.fetch_add(1, Ordering::Relaxed);
        if tunnels && keep.is_none() {
            keep = Some(gateway.spawn_agent(&["keep"])?);
        }
        tries = if code == 3 { tries + 1 } else { 0 };
        let again = AGAIN.get(tries.saturating_sub(1)).or(AGAIN.last()).copied().map(Duration::from_secs);
        let ended = Instant::now();
        while !ends.load(Ordering::Relaxed) && wanted() == asked {
            if tries > 0 && again.is_some_and(|again| ended.elapsed() > again) {
                break;
            }
            thread::sleep(LOOK);
        }
    }
    Ok(())
}

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

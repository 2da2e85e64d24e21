//! A hub that is killed with 1,000 tunnels up: time until all are back, by `crosswan keep` and by charon alone.
//!
//! All spokes are one charon with a connection, an address and an identity for each. They are not helped by an agent of
//! theirs: what is measured is what the hub's `keep` does, against what charon does at its best: spokes that start at
//! once, restart on dead peer detection and never give up. They have a pre-shared key: one charon with 1,000 key pairs takes
//! several times as long for each, as 1,000 hosts with one each would not.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crosswan_lab::{AgentProcess, Auth, Gateway};
use nix::libc;

use crate::hub::{Hub, REGIONS};
use crate::plot::{Scale, Series, lines};
use crate::results::{Section, megabytes, seconds, table};
use crate::{Setup, say, xml};

/// Longest wait for all tunnels.
const LIMIT: Duration = Duration::from_secs(240);

/// How many tunnels were up how many seconds after the kill.
struct Recovery {
    curve: Vec<(f64, f64)>,
    /// SAs the hub holds at the end: more than spokes are duplicates.
    ike: usize,
    children: usize,
    /// Seconds until the hub's charon was there again with its connections loaded.
    loaded: f64,
    charon: f64,
}

impl Recovery {
    /// When a part of all tunnels was back; `None` if that did not happen.
    fn at(&self, part: f64, of: usize) -> Option<f64> {
        self.curve.iter().find(|(_, up)| *up >= part * of as f64).map(|(at, _)| *at)
    }
}

/// Kills the hub twice.
pub fn bench(setup: &Setup) -> Result<Section> {
    let spokes = if setup.quick { 4 } else { 1000 };
    let hub = setup.hub()?;
    hub.lab.add_client("spokes", "eu-west-1", &["172.16.0.0/16"])?;
    let far = hub.lab.gateway("spokes/nat-vpn")?;
    cable(&hub.gateway, &far, spokes)?;
    // 1,000 spokes would be as many hosts, of which none counts what the hub has begun with the others.
    let own = far.read_file("/etc/strongswan.conf")?;
    far.write_file("/etc/strongswan.conf", &own.replacen("{\n", "{\n  dos_protection = no\n", 1), 0o644)?;

    say(&format!("{spokes} tunnels by crosswan keep"));
    let (with_first, with) = scenario(hub, &far, spokes, true)?;
    say(&format!("{spokes} tunnels by charon alone"));
    let (alone_first, alone) = scenario(hub, &far, spokes, false)?;

    let time = |at: Option<f64>| at.map_or("not all".into(), seconds);
    let row = |name: &str, first: f64, r: &Recovery| {
        vec![
            name.to_string(),
            seconds(first),
            seconds(r.loaded),
            time(r.at(0.5, spokes)),
            time(r.at(0.99, spokes)),
            time(r.at(1.0, spokes)),
            r.ike.to_string(),
            r.children.to_string(),
            megabytes(r.charon),
        ]
    };
    let text = format!(
        "{spokes} tunnels, by a pre-shared key, are up, then the hub's charon is killed (SIGKILL) and started again at once, which loads its \
         connections from the files of the last refresh. Seconds count from the kill. \"charon alone\" has no agent anywhere \
         and spokes with `start_action = start`, `dpd_action = restart`, `keyingtries = 0`, `dpd_delay = 10s`; with crosswan, \
         the hub's `keep` initiates, and spokes only answer.\n\n{}\n![restart](restart.svg)\n",
        table(
            "hub | first time up | charon loaded | 50 % back | 99 % | all | IKE_SAs | CHILD_SAs | charon",
            [row("crosswan keep", with_first, &with), row("charon alone", alone_first, &alone)].into_iter()
        )
    );
    let plot = [Series::new("charon alone", alone.curve), Series::new("crosswan keep on the hub", with.curve)];
    Ok(Section {
        name: "restart",
        title: "A killed hub",
        budgets: Vec::new(),
        text,
        plots: vec![("restart.svg", lines("Tunnels back after a kill", "seconds", "tunnels", Scale::Linear, &plot))],
    })
}

/// Brings all tunnels up, kills the hub's charon, and watches. Also how long the first time took.
fn scenario(hub: &Hub, far: &Arc<Gateway>, spokes: usize, with_keep: bool) -> Result<(f64, Recovery)> {
    far.kill_charon(libc::SIGKILL)?;
    hub.reset(REGIONS, spokes, Auth::Psk)?;
    hub.refresh(&[])?;
    far.write_file("/etc/swanctl/conf.d/spokes.conf", &connections(hub, spokes, with_keep), 0o600)?;
    let mut log = Log::of(&hub.gateway)?;
    let start = Instant::now();
    far.start_charon()?;
    let keep = with_keep.then(|| hub.gateway.spawn_agent(&["keep"])).transpose()?;
    log.until(spokes, start, |_| {})?;
    let first = start.elapsed().as_secs_f64();
    say(&format!("all up after {first:.1} s; the hub's charon is killed"));

    let mut log = Log::of(&hub.gateway)?;
    let killed = Instant::now();
    hub.gateway.kill_charon(libc::SIGKILL)?;
    hub.gateway.start_charon()?;
    let loaded = killed.elapsed().as_secs_f64();
    let mut curve = vec![(0.0, 0.0)];
    let all = log.until(spokes, killed, |up| {
        let now = killed.elapsed().as_secs_f64();
        if curve.last().is_none_or(|(_, last)| *last < up as f64) {
            curve.push((now, up as f64));
        }
    });
    if let Err(e) = all {
        say(&format!("{e:#}"));
    }
    ensure!(keep.as_ref().is_none_or(AgentProcess::running), "keep has ended");
    // Long enough for the last of them to be installed; what is there twice stays so for longer.
    std::thread::sleep(Duration::from_secs(1));
    let sas = hub.gateway.swanctl(&["--list-sas", "--raw"])?;
    let (ike, children) = (sas.matches("state=ESTABLISHED").count(), sas.matches("state=INSTALLED").count());
    Ok((first, Recovery { curve, ike, children, loaded, charon: hub.charon_memory()? }))
}

/// A wire between the two gateways past the lab's internet, and the addresses of all spokes and of their networks.
fn cable(hub: &Gateway, far: &Gateway, spokes: usize) -> Result<()> {
    let (near, away) = (hub.ns()?, far.ns()?);
    near.ip(&format!(
        "link add peers type veth peer name hub netns {}
         addr add 192.168.255.1/30 dev peers
         link set peers up
         route add 198.18.0.0/15 dev peers via 192.168.255.2 onlink",
        away.path().display()
    ))?;
    let mut lines = format!(
        "addr add 192.168.255.2/30 dev hub\nlink set hub up\nroute add {}/32 dev hub via 192.168.255.1 onlink\n",
        hub.address
    );
    for n in 0..spokes {
        let inside = Ipv4Addr::from_bits(xml::cidr(n).network().to_bits() + 1);
        let _ = writeln!(lines, "addr add {}/32 dev lo\naddr add {inside}/32 dev lo", xml::public(n, false));
    }
    away.ip(&lines)
}

/// What the spokes load: with `keep` what crosswan writes on a spoke, else what makes charon try hardest by itself.
fn connections(hub: &Hub, spokes: usize, with_keep: bool) -> String {
    let (start, dpd, tries) = if with_keep { ("trap", "clear", 1) } else { ("start", "restart", 0) };
    let (address, id) = (hub.gateway.address, hub.gateway.public().map(|ip| ip.to_string()).unwrap_or_default());
    let mut text = String::from("connections {\n");
    for n in 0..spokes {
        let (own, local, cidr) = (xml::ike_id(n), xml::public(n, false), xml::cidr(n));
        let _ = write!(
            text,
            "spoke-{n} {{\n version = 2\n local_addrs = {local}\n remote_addrs = {address}\n mobike = no\n encap = yes\n \
             unique = replace\n keyingtries = {tries}\n dpd_delay = 10s\n \
             proposals = aes256gcm16-prfsha384-x25519,aes256gcm16-prfsha384-ecp384\n \
             local {{\n auth = psk\n id = {own}\n }}\n remote {{\n auth = psk\n id = {id}\n }}\n \
             children {{\n c {{\n local_ts = {cidr}\n remote_ts = 10.0.0.0/8\n \
             esp_proposals = aes256gcm16-x25519,aes256gcm16-ecp384\n start_action = {start}\n dpd_action = {dpd}\n }}\n }}\n}}\n"
        );
    }
    let key: String = hub.lab.psk().bytes().map(|byte| format!("{byte:02x}")).collect();
    text + &format!("}}\nsecrets {{\n ike-all {{\n secret = 0x{key}\n }}\n}}\n")
}

/// charon's log, read on from where it was: counting tunnels there costs charon nothing.
struct Log {
    path: PathBuf,
    offset: u64,
    /// Connections with an established CHILD_SA, and how often that was said.
    up: BTreeMap<String, u32>,
}

impl Log {
    fn of(gateway: &Gateway) -> Result<Log> {
        let path = gateway.path("/charon.log");
        Ok(Log { offset: std::fs::metadata(&path)?.len(), path, up: BTreeMap::new() })
    }

    /// Waits until so many connections have a tunnel, telling `each` how many have, twenty times a second.
    fn until(&mut self, count: usize, since: Instant, mut each: impl FnMut(usize)) -> Result<()> {
        loop {
            let mut text = Vec::new();
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut text)?;
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.offset += whole as u64;
            let text = String::from_utf8_lossy(&text[..whole]);
            for line in text.lines().filter(|line| line.contains("} established with SPIs")) {
                if let Some((name, _)) = line.split_once('<').and_then(|(_, rest)| rest.split_once('|')) {
                    *self.up.entry(name.to_string()).or_default() += 1;
                }
            }
            each(self.up.len());
            if self.up.len() >= count {
                return Ok(());
            }
            ensure!(since.elapsed() < LIMIT, "{} of {count} tunnels after {LIMIT:?}", self.up.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

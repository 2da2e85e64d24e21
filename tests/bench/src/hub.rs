//! The hub of the benchmarks: a gateway of the lab with its real charon, whose EC2 is the canned cloud.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Auth, Gateway, Lab, VpcSpec};
use nix::libc;
use serde_json::Value;

use crate::cloud::{self, Cloud};
use crate::measure::{self, Run};

/// Over which the gateways are spread.
pub const REGIONS: usize = 8;
/// What a pass writes, and what an earlier size must not leave to the next. Its own key is the instance's, and stays.
const WRITTEN: [&str; 6] = [
    "/etc/swanctl/conf.d/crosswan.conf",
    "/etc/swanctl/conf.d/crosswan-secrets.conf",
    "/var/lib/crosswan/state.json",
    "/var/lib/crosswan/iptables.rules",
    "/var/lib/crosswan/unfinished",
    "/run/crosswan/status.json",
];

/// The files charon loads from.
const LOADED: [&str; 2] = [WRITTEN[0], WRITTEN[1]];
/// The longest `swanctl --load-all` that is waited for: 10,000 raw keys loaded again take longer on 5.9.8.
pub const LOAD_ALL: Duration = Duration::from_secs(120);

/// See the module.
pub struct Hub {
    pub lab: Lab,
    pub gateway: Arc<Gateway>,
    pub cloud: Cloud,
    agent: PathBuf,
}

/// One `crosswan refresh`, measured.
#[derive(Clone, Debug)]
pub struct Pass {
    pub run: Run,
    /// Seconds since the stage before was done, by the agent's own words.
    stages: BTreeMap<String, f64>,
}

impl Pass {
    /// Several passes of the same kind as one, as [`Run::least`].
    pub fn least(passes: Vec<Pass>) -> Result<Pass> {
        let least = |mut one: Pass, other: Pass| {
            for (name, seconds) in &mut one.stages {
                *seconds = seconds.min(other.stages.get(name).copied().unwrap_or(f64::MAX));
            }
            Pass { run: one.run.least(other.run), ..one }
        };
        passes.into_iter().reduce(least).context("no pass")
    }

    /// Seconds a stage took; 0 if the pass had no such stage.
    pub fn stage(&self, name: &str) -> f64 {
        self.stages.get(name).copied().unwrap_or_default()
    }

    /// decide, render and plan: what needs no one but the CPU.
    pub fn pure(&self) -> f64 {
        ["decide", "render", "plan"].iter().map(|stage| self.stage(stage)).sum()
    }

    /// The steps it printed that begin so.
    pub fn steps(&self, what: &str) -> usize {
        self.run
            .stdout
            .lines()
            .filter_map(|line| line.trim().strip_prefix("step "))
            .filter(|s| s.trim().starts_with(what))
            .count()
    }
}

impl Hub {
    /// Brings the lab up, with an empty cloud, and lets the hub make its key and announce it.
    pub fn new(agent: &Path) -> Result<Hub> {
        let hub = Hub::without_key(agent)?;
        hub.refresh(&[])?;
        Ok(hub)
    }

    /// Brings the lab up, with an empty cloud. Nothing is refreshed, so the kernel needs no ESP.
    pub fn without_key(agent: &Path) -> Result<Hub> {
        // Its EC2 is another than the lab's.
        let lab = Lab::builder(agent).check_off().vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?).build()?;
        let gateway = lab.gateway("hub/vpn-hub")?;
        let cloud = Cloud::serve(&*gateway.ns()?)?;
        gateway.set_env("AWS_ENDPOINT_URL_EC2", cloud::ENDPOINT);
        gateway.set_env("AWS_ENDPOINT_URL_STS", cloud::ENDPOINT);
        gateway.set_env("CROSSWAN_LOG", "crosswan=debug");
        gateway.write_file("/etc/crosswan/psk", &format!("{}\n", lab.psk()), 0o600)?;
        let hub = Hub { lab, gateway, cloud, agent: std::path::absolute(agent)? };
        hub.reset(1, 0, Auth::Key)?;
        Ok(hub)
    }

    /// A fresh hub before so many gateways: nothing on its disk, nothing in its charon.
    pub fn reset(&self, regions: usize, gateways: usize, auth: Auth) -> Result<()> {
        self.gateway.kill_charon(libc::SIGKILL)?;
        for file in WRITTEN {
            match fs::remove_file(self.gateway.path(file)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(file),
                _ => {}
            }
        }
        self.cloud.set(|shape| *shape = cloud::Shape { regions, gateways, ..cloud::Shape::default() });
        let names: Vec<String> = (0..regions).map(|n| format!("\"{}\"", cloud::region(n))).collect();
        let auth = match auth {
            Auth::Key => "",
            Auth::Psk => "[auth]\nmethod = \"psk\"\npsk_file = \"/etc/crosswan/psk\"\n",
        };
        self.gateway.write_settings(&format!(
            "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [{}]\n{auth}",
            names.join(", ")
        ))?;
        self.gateway.start_charon()
    }

    /// Starts charon anew, without the connections of the files as they are.
    pub fn empty_charon(&self) -> Result<()> {
        self.gateway.kill_charon(libc::SIGKILL)?;
        let aside = |file| self.gateway.path(&format!("{file}.aside"));
        LOADED.iter().try_for_each(|file| fs::rename(self.gateway.path(file), aside(file)))?;
        self.gateway.start_charon()?;
        Ok(LOADED.iter().try_for_each(|file| fs::rename(aside(file), self.gateway.path(file)))?)
    }

    /// One pass, which must succeed.
    pub fn refresh(&self, flags: &[&str]) -> Result<Pass> {
        let agent = self.agent.to_string_lossy();
        let run = self.run(&[&[&*agent, "refresh", "--log-json"], flags].concat())?;
        let stages = stages(&run.stderr);
        ensure!(!stages.is_empty(), "this agent does not tell its stages: {}", run.stderr);
        Ok(Pass { run, stages })
    }

    /// `swanctl --load-all` over the files as they are, measured; `None` if [`LOAD_ALL`] cut it off.
    pub fn load_all(&self) -> Result<Option<Run>> {
        measure::run_within(&self.gateway, &["swanctl", "--load-all", "--noprompt"], LOAD_ALL)
    }

    /// Runs a program on the hub and measures it.
    pub fn run(&self, argv: &[&str]) -> Result<Run> {
        measure::run(&self.gateway, argv)
    }

    /// What its charon has allocated and not freed, MB: unlike the resident memory, nothing of the allocator's own.
    pub fn charon_allocated(&self) -> Result<f64> {
        let stats = self.gateway.swanctl(&["--stats"])?;
        let used = stats.lines().find(|line| line.starts_with("mallinfo:")).and_then(|line| line.split("used ").nth(1));
        let bytes = used.and_then(|used| used.split(',').next()?.trim().parse::<f64>().ok());
        Ok(bytes.with_context(|| format!("charon says no mallinfo: {stats}"))? / 1e6)
    }

    /// Resident memory of its charon, MB.
    pub fn charon_memory(&self) -> Result<f64> {
        let pid = self.gateway.charon_pid().context("charon does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("charon does not run")?;
        let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kb.and_then(|kb| kb.parse::<f64>().ok()).context("no VmRSS")? * 1024.0 / 1e6)
    }
}

/// The agent's log lines with a stage in them, each against the one before.
fn stages(log: &str) -> BTreeMap<String, f64> {
    let mut stages = BTreeMap::new();
    let mut last = None;
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let (Some(stage), Some(now)) = (event["stage"].as_str(), event["timestamp"].as_str().and_then(of_day)) else {
            continue;
        };
        if let Some(last) = last.replace(now) {
            stages.insert(stage.to_string(), (now - last + 86_400.0) % 86_400.0);
        }
    }
    stages
}

/// Seconds since midnight of `2026-01-02T03:04:05.678901Z`.
fn of_day(timestamp: &str) -> Option<f64> {
    let mut parts = timestamp.split_once('T')?.1.trim_end_matches('Z').split(':').map(str::parse::<f64>);
    let mut next = || parts.next()?.ok();
    Some(next()? * 3600.0 + next()? * 60.0 + next()?)
}

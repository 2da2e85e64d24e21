//! The hub of the benchmarks: a gateway of the lab with its real charon, whose EC2 is the canned cloud.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Auth, Gateway, Lab, VpcSpec};
use nix::libc;
use serde_json::Value;

use crate::cloud::{self, Cloud};
use crate::measure::{self, Run};

/// What a pass writes, and what an earlier size must not leave to the next.
const WRITTEN: [&str; 6] = [
    "/etc/swanctl/conf.d/crosswan.conf",
    "/etc/swanctl/conf.d/crosswan-secrets.conf",
    "/var/lib/crosswan/state.json",
    "/var/lib/crosswan/iptables.rules",
    "/var/lib/crosswan/unfinished",
    "/run/crosswan/status.json",
];

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
    /// Brings the lab up, with an empty cloud and without charon.
    pub fn new(agent: &Path) -> Result<Hub> {
        let lab =
            Lab::builder(agent).auth(Auth::Psk).vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?).build()?;
        let gateway = lab.gateway("hub/vpn-hub")?;
        let cloud = Cloud::serve(&*gateway.ns()?)?;
        gateway.set_env("AWS_ENDPOINT_URL_EC2", cloud::ENDPOINT);
        gateway.set_env("CROSSWAN_LOG", "crosswan=debug");
        Ok(Hub { lab, gateway, cloud, agent: std::path::absolute(agent)? })
    }

    /// A fresh hub before so many gateways: nothing on its disk, nothing in its charon.
    pub fn reset(&self, regions: usize, gateways: usize) -> Result<()> {
        self.gateway.kill_charon(libc::SIGKILL)?;
        for file in WRITTEN {
            match fs::remove_file(self.gateway.path(file)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(file),
                _ => {}
            }
        }
        self.cloud.set(|shape| *shape = cloud::Shape { regions, gateways, ..cloud::Shape::default() });
        let names: Vec<String> = (0..regions).map(|n| format!("\"{}\"", cloud::region(n))).collect();
        self.gateway.write_settings(&format!(
            "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [{}]\nipsec_interface = \"ipsec0\"\n\
             [auth]\npsk_file = \"/etc/crosswan/psk\"\n",
            names.join(", ")
        ))?;
        self.gateway.start_charon()
    }

    /// One pass, which must succeed.
    pub fn refresh(&self, flags: &[&str]) -> Result<Pass> {
        let agent = self.agent.to_string_lossy();
        let run = self.run(&[&[&*agent, "refresh", "--log-json"], flags].concat())?;
        let stages = stages(&run.stderr);
        ensure!(!stages.is_empty(), "this agent does not tell its stages: {}", run.stderr);
        Ok(Pass { run, stages })
    }

    /// `swanctl --load-all` over the files as they are, measured.
    pub fn load_all(&self) -> Result<Run> {
        self.run(&["swanctl", "--load-all", "--noprompt"])
    }

    /// Runs a program on the hub and measures it.
    pub fn run(&self, argv: &[&str]) -> Result<Run> {
        measure::run(&self.gateway, argv)
    }

    /// Resident memory of its charon, MB.
    pub fn charon_memory(&self) -> Result<f64> {
        let net = format!("net:[{}]", self.gateway.ns()?.inode);
        for process in fs::read_dir("/proc")?.flatten().map(|entry| entry.path()) {
            let text = |file| fs::read_to_string(process.join(file)).unwrap_or_default();
            if text("comm").trim() == "charon-systemd"
                && fs::read_link(process.join("ns/net")).is_ok_and(|n| n.as_os_str() == net.as_str())
            {
                let status = text("status");
                let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
                return Ok(kb.and_then(|kb| kb.parse::<f64>().ok()).context("no VmRSS")? * 1024.0 / 1e6);
            }
        }
        anyhow::bail!("charon does not run")
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

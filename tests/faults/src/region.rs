//! A lab in which everything runs: charon, one refresh at boot and `keep` on every gateway that has tunnels.

use std::{
    collections::BTreeMap,
    env,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use crosswan_lab::{AgentProcess, Auth, Gateway, Lab, Output, Role};
use serde_json::Value;

/// The bound on a tunnel coming up, on a machine that runs several labs at once.
pub const UP: Duration = Duration::from_secs(30);

/// How often a gateway that could not ask everything tries again, as systemd has it.
const TRIES: u32 = 6;
/// What it then says on a machine that is too busy for the SDK's time-outs.
const SLOW: [&str; 2] = ["could not communicate with IMDS", "timed out"];

/// A running region. `keep` processes end with it.
pub struct Region {
    pub lab: Lab,
    pub keepers: BTreeMap<String, AgentProcess>,
}

/// Nothing in it has been booted by this.
impl From<Lab> for Region {
    fn from(lab: Lab) -> Region {
        Region { lab, keepers: BTreeMap::new() }
    }
}

impl Region {
    /// The hub VPC and clients `a` and `b` with a pre-shared key, all booted; returns when all reach all.
    pub fn standard() -> Result<Region> {
        Region::with(Auth::Psk)
    }

    /// [`Region::standard`], with another method of authentication.
    pub fn with(auth: Auth) -> Result<Region> {
        let region = Region::booted(Lab::standard(agent()?, auth)?)?;
        region.settle()?;
        Ok(region)
    }

    /// Boots every gateway of a lab.
    pub fn booted(lab: Lab) -> Result<Region> {
        let mut region = Region::from(lab);
        let mut again = Vec::new();
        for gateway in region.lab.gateways() {
            let output = region.power_on(&gateway)?;
            match output.code {
                0 => {}
                // The key of a gateway that boots later is awaited. And where a machine is too busy for the SDK's time-outs, IMDS
                // could not be asked: systemd would try again, too. A route may wait for the tunnel, and keep asks for another pass.
                3 | 6 => again.push(gateway),
                code => bail!("{}: refresh: exit {code}\n{}", gateway.name, show(&output)),
            }
        }
        // One may wait for another's key, and that one be the slow one: so all have their turn before the next try.
        for tries_left in (0..=TRIES).rev() {
            let mut left = Vec::new();
            for gateway in again {
                let output = gateway.agent(&["refresh"])?;
                let soon = tries_left > 0 && matches!(output.code, 3 | 6);
                ensure!(output.code == 0 || soon, "{}: refresh: exit {}\n{}", gateway.name, output.code, show(&output));
                if soon {
                    left.push(gateway);
                }
            }
            again = left;
        }
        Ok(region)
    }

    /// What systemd does at boot: charon, one refresh (which must succeed), keep.
    pub fn boot(&mut self, gateway: &Arc<Gateway>) -> Result<()> {
        let output = self.power_on(gateway)?;
        ensure!(output.code == 0, "{}: refresh: exit {}\n{}", gateway.name, output.code, show(&output));
        Ok(())
    }

    fn power_on(&mut self, gateway: &Arc<Gateway>) -> Result<Output> {
        if gateway.role != Role::NatHub {
            gateway.start_charon()?;
        }
        let output = gateway.agent(&["refresh"])?;
        if gateway.role != Role::NatHub {
            self.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
        }
        Ok(output)
    }

    /// Waits until every private host reaches every other.
    pub fn settle(&self) -> Result<()> {
        let hosts = self.lab.hosts();
        for from in &hosts {
            for to in hosts.iter().filter(|to| to.name != from.name) {
                from.wait_for(to.address, UP)?;
            }
        }
        Ok(())
    }

    pub fn gateway(&self, name: &str) -> Result<Arc<Gateway>> {
        self.lab.gateway(name)
    }

    /// The address of a private host.
    pub fn address(&self, host: &str) -> Result<Ipv4Addr> {
        Ok(self.lab.host(host)?.address)
    }
}

/// The agent to run: `CROSSWAN_BIN`, else `crosswan` beside this program or, for a test, a folder above.
pub fn agent() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CROSSWAN_BIN") {
        return Ok(path.into());
    }
    let here = env::current_exe()?;
    let beside = here.ancestors().skip(1).take(2).map(|folder| folder.join("crosswan"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .context("no crosswan beside this program: make build, or CROSSWAN_BIN")
}

/// One refresh that must end with exit code 0; its report.
pub fn refresh(gateway: &Gateway) -> Result<Value> {
    refresh_with(gateway, &[], 0)
}

/// One refresh with further arguments that must end with `code`; its report. Where the machine was too slow for the first try, it also
/// tells what that one did and noticed.
pub fn refresh_with(gateway: &Gateway, args: &[&str], code: i32) -> Result<Value> {
    let once = || gateway.agent(&[&["refresh", "--json"], args].concat());
    let mut output = once()?;
    let mut earlier: Vec<Value> = Vec::new();
    for _ in 0..TRIES {
        if code == 3 || !too_slow(&output) {
            break;
        }
        earlier.extend(serde_json::from_str(&output.stdout));
        output = once()?;
    }
    ensure!(
        output.code == code,
        "{}: refresh {args:?}: exit {}, not {code}\n{}",
        gateway.name,
        output.code,
        show(&output)
    );
    let mut report: Value = serde_json::from_str(&output.stdout).with_context(|| show(&output))?;
    for before in earlier.iter().rev() {
        for key in ["steps", "notes"] {
            let all = [lines(before, key), lines(&report, key)].concat();
            report[key] = all.into();
        }
        if before["outcome"] == "changed" {
            report["outcome"] = "changed".into();
        }
    }
    Ok(report)
}

/// What the agent prints with these arguments, which must end with exit code 0, if not at the first try on a machine that is too slow.
pub fn told(gateway: &Gateway, args: &[&str]) -> Result<String> {
    let mut output = gateway.agent(args)?;
    for _ in 0..TRIES {
        if !too_slow(&output) {
            break;
        }
        output = gateway.agent(args)?;
    }
    Ok(output.ok()?.stdout)
}

/// Whether something could not be asked in time.
fn too_slow(output: &Output) -> bool {
    output.code == 3 && SLOW.iter().any(|slow| output.stdout.contains(slow))
}

/// `crosswan status --json`.
pub fn status(gateway: &Gateway) -> Result<Value> {
    let output = gateway.agent(&["status", "--json"])?;
    serde_json::from_str(&output.stdout).with_context(|| show(&output))
}

/// Both streams, for a failure's message: what it said first, as a report is long and logs get cut.
pub fn show(output: &Output) -> String {
    format!("stderr:\n{}\nstdout:\n{}", output.stderr, output.stdout)
}

/// The strings of an array in a report.
pub fn lines(report: &Value, key: &str) -> Vec<String> {
    let strings = report[key].as_array().into_iter().flatten();
    strings.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect()
}

/// Tries until `what` holds, at most `limit`.
pub fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = std::time::Instant::now() + limit;
    while !holds()? {
        ensure!(std::time::Instant::now() < until, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Whether a path exists on the gateway.
pub fn exists(gateway: &Gateway, inside: &str) -> bool {
    Path::exists(&gateway.path(inside))
}

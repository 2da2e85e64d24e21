//! The region: hub VPC and one client, their gateways as machines, and the capture that judges all of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use crosswan_lab::internet::{EC2, ECHO};
use crosswan_lab::{Capture, Image, Lab, Vm, VpcSpec, check_machines};
use serde_json::Value;

use crate::report::{Report, seconds};

/// The bound on a boot: about 30 s with two cores to itself, several times that on a busy machine.
pub const BOOT: Duration = Duration::from_secs(400);
/// The bound on a tunnel that `keep` has to bring back: its interval is 15 s.
pub const UP: Duration = Duration::from_secs(60);

/// Everything the steps work with. Ends in the order of its fields.
pub struct Region {
    pub vms: BTreeMap<&'static str, Vm>,
    pub lab: Lab,
    pub report: Report,
    capture: Option<Capture>,
    /// What each gateway boots, with the package that is in it.
    pub images: BTreeMap<&'static str, Image>,
}

pub const HUB: &str = "hub/vpn-hub";
pub const NAT: &str = "hub/nat-hub";
pub const CLIENT: &str = "a/nat-vpn";

impl Region {
    /// VPCs, hosts and EC2; no machine yet.
    pub fn new(images: BTreeMap<&'static str, Image>) -> Result<Region> {
        check_machines(images.values())?;
        let lab = Lab::builder(agent()?)
            .vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?)
            .vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16", "10.101.0.0/16"])?)
            .build()?;
        Ok(Region { vms: BTreeMap::new(), lab, report: Report::new(), capture: None, images })
    }

    pub fn vm(&self, name: &str) -> Result<&Vm> {
        self.vms.get(name).with_context(|| format!("{name} was not booted"))
    }

    /// Notes a finding.
    pub fn check(&mut self, ok: bool, text: &str) -> bool {
        self.report.check(ok, text)
    }

    /// Asks several machines the same at the same time, because each keeps one processor busy. The answers are in the order of `names`.
    pub fn on_each<const N: usize, T: Send>(
        &self,
        names: [&'static str; N],
        ask: impl Fn(&'static str) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let ask = &ask;
        std::thread::scope(|scope| {
            let threads = names.map(|name| scope.spawn(move || ask(name)));
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
        })
    }

    /// Lets systemd refresh, and returns the report of that pass.
    pub fn refresh(&self, name: &str) -> Result<Value> {
        let vm = self.vm(name)?;
        // A pass of its own: neither the one that runs, nor after the pause of one that is to be tried again.
        vm.ok("while state=$(systemctl show -P SubState crosswan-refresh.service); [[ $state == start* ]]; do sleep 0.5; done
            [[ $state != auto-restart* ]] || systemctl stop crosswan-refresh.service
            systemctl start crosswan-refresh.service || { systemctl status crosswan-refresh; exit 1; }")?;
        self.status(name)
    }

    /// The report of the last pass.
    pub fn status(&self, name: &str) -> Result<Value> {
        serde_json::from_str(&self.vm(name)?.ok("cat /run/crosswan/status.json")?).context("status.json")
    }

    /// The capture and the routers' counters, over all that was done.
    pub fn verdict(&mut self) -> Result<()> {
        self.report.heading("What the internet got to see, from before power-on until now");
        let packets = self.capture.take().context("no capture")?.stop()?;
        let clear = packets.clear_private();
        let examples: String = clear.iter().take(3).map(|packet| format!("; {packet}")).collect();
        let esp = packets.all.iter().filter(|packet| packet.is_ipsec()).count();
        let text = format!(
            "{} packets, {esp} of them IKE and ESP in UDP; {} private or in the clear between VPCs{examples}",
            packets.all.len(),
            clear.len()
        );
        self.check(esp > 1000 && clear.is_empty(), &text);
        for vpc in ["hub", "a"] {
            let leaks = self.lab.leaks(vpc)?;
            let [private, clear, bare] = [leaks.private_out, leaks.clear_from_gateway, leaks.no_public_address];
            let text = format!(
                "router of VPC {vpc}: {private} private packets towards the internet gateway, {clear} in the clear by a gateway, {bare} without NAT",
            );
            self.check(private + clear + bare == 0, &text);
        }
        Ok(())
    }

    /// Prints the end of every journal and console.
    pub fn logs(&self) -> Result<()> {
        for (name, vm) in &self.vms {
            println!("\n==== {name}: the end of its journal");
            match vm.sh("journalctl --no-pager -q -o short-monotonic -n 80 -u crosswan-* -u strongswan -p info; systemctl --failed --no-pager -q") {
                Ok(output) => println!("{}", output.stdout),
                Err(e) => {
                    let console = std::fs::read(vm.file("console.log")).unwrap_or_default();
                    let text = String::from_utf8_lossy(&console);
                    let tail: Vec<&str> = text.lines().rev().take(40).collect();
                    println!("{e:#}; its console:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
                }
            }
        }
        Ok(())
    }

    /// Waits for Enter, or for the end of standard input.
    pub fn look_around(&self) {
        println!("\nThe machines stay up. In another terminal, as root (apt-get install socat):");
        for (name, vm) in &self.vms {
            println!(
                "  a root shell on {name:<12} socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{}    (Ctrl-] ends it)",
                vm.file("shell").display()
            );
        }
        for host in self.lab.hosts() {
            println!("  a shell on {:<12} nsenter --net={}", host.name, host.ns.path().display());
        }
        println!("Enter, or Ctrl-C, ends it, and everything goes.");
        let _ = std::io::stdin().read_line(&mut String::new());
    }
}

fn agent() -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("crosswan"));
    let agent = std::env::var_os("CROSSWAN_BIN").map(PathBuf::from).or_else(beside).context("where is crosswan?")?;
    if !agent.exists() {
        bail!("{} does not exist: set CROSSWAN_BIN", agent.display());
    }
    Ok(agent)
}

/// Switches all three on at the same time, while private hosts send. No gateway was given a secret or another's address.
pub fn boot(region: &mut Region) -> Result<()> {
    let endpoint =
        format!("[Service]\nEnvironment=AWS_ENDPOINT_URL_EC2=http://{EC2}\nEnvironment=CROSSWAN_SPACING=0s\n");
    let credentials = [("systemd.unit-dropin.crosswan-refresh.service", endpoint.as_str())];
    for (name, image) in region.images.clone() {
        region.vms.insert(name, Vm::boot(region.lab.gateway(name)?, image, &credentials)?);
    }
    // From here on only the machines carry packets.
    region.capture = Some(region.lab.capture_internet()?);
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    let streams =
        [(&a, hub.address), (&hub, a.address), (&a, ECHO), (&hub, ECHO)].map(|(from, to)| from.ping_stream(to));
    wait_for_tunnel(region, BOOT)?;
    let age = region.vm(CLIENT)?.age();
    region.report.figure(format!(
        "power-on of three new gateways at once to first packet through the tunnel, keys made and exchanged, under TCG: {}",
        seconds(age)
    ));
    for (name, vm) in &region.vms {
        let state = vm.wait_for_boot(BOOT)?;
        let shown = vm.ok("systemd-analyze time | head -n1")?;
        region.report.say(&format!("{name} is {state} {} after power-on: {}", seconds(vm.age()), shown.trim()));
    }
    for name in [HUB, NAT, CLIENT] {
        let vm = region.vm(name)?;
        let passes = first_passes(vm)?;
        let errors = errors(vm)?;
        // 3: EC2 did not answer in time, as happens under TCG, or has not shown a key yet.
        let (last, early) = passes.split_last().context("no pass")?;
        let shown: Vec<String> = passes.iter().map(|(code, at)| format!("{code} at {at:.0} s")).collect();
        region.check(
            last.0 == 0 && early.iter().all(|(code, _)| *code == 3),
            &format!("{name}: its refreshes since the kernel started, by exit code: {}", shown.join(", ")),
        );
        region.check(errors.is_empty(), &format!("{name}: errors in its journal: {errors:?}"));
    }
    for stream in streams {
        let report = stream?.stop()?;
        let text = format!("a private host sent {} packets meanwhile, {} were answered", report.sent, report.received);
        region.report.say(&format!("{text}, {} refused", report.errors.len()));
    }
    let ids: std::collections::BTreeSet<String> = region
        .vms
        .values()
        .map(|vm| vm.ok("cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub"))
        .collect::<Result<_>>()?;
    region.check(ids.len() == 3, "each machine made a machine-id and SSH host keys of its own");
    Ok(())
}

/// The passes since boot once one has done all there was, each by its exit code and when it ended, in seconds.
fn first_passes(vm: &Vm) -> Result<Vec<(i32, f64)>> {
    let started = Instant::now();
    while vm.ok("systemctl is-active crosswan-refresh.service || systemctl show -P Result crosswan-refresh.service")?
        != "inactive\nsuccess\n"
    {
        ensure!(started.elapsed() < UP * 2, "{}: its refresh does not come to an end", vm.gateway.name);
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut passes = Vec::new();
    for line in vm.ok("journalctl -b -q --no-pager -o json -t systemd -u crosswan-refresh.service")?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let field = |key: &str| entry[key].as_str();
        // A success leaves no exit code in the journal, only a job that is done.
        let code = match (field("EXIT_STATUS"), field("JOB_RESULT")) {
            (Some(code), _) => code.parse()?,
            (None, Some("done")) => 0,
            _ => continue,
        };
        let at: f64 = field("__MONOTONIC_TIMESTAMP").context("no time in the journal")?.parse()?;
        passes.push((code, at / 1e6));
    }
    Ok(passes)
}

/// What the journal calls errors since boot, but for systemd's word on a pass that ended early and is tried again: who boots first
/// awaits the other's key, and without EC2 there is no other end.
pub fn errors(vm: &Vm) -> Result<String> {
    let line =
        "journalctl -b -q --no-pager -p err -o cat | grep -v '^Failed to start crosswan-refresh.service' || true";
    Ok(vm.ok(line)?.trim().to_owned())
}

/// A private pair of hosts whose traffic needs the tunnel, once it works.
pub fn wait_for_tunnel(region: &Region, limit: Duration) -> Result<Duration> {
    region.lab.host("a/host")?.wait_for(region.lab.host("hub/host")?.address, limit)
}

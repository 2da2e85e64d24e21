//! A region: hub VPC and one client, their gateways as machines, and the capture that judges all of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use crosswan_lab::internet::EC2;
use crosswan_lab::{Builder, Capture, Gateway, Image, Lab, Role, Target, Vm, VpcSpec, check_machines};
use serde_json::Value;

use crate::report::Report;

/// The bound on a boot: about 30 s with two cores to itself, several times that on a busy machine.
pub const BOOT: Duration = Duration::from_secs(400);
/// The bound on a tunnel that `keep` has to bring back: its interval is 15 s.
pub const UP: Duration = Duration::from_secs(60);

/// Everything the steps work with. Ends in the order of its fields.
pub struct Region {
    pub vms: BTreeMap<String, Vm>,
    pub lab: Lab,
    pub report: Report,
    capture: Option<Capture>,
    /// What gateways boot, with the package that is in it.
    pub images: BTreeMap<Role, Image>,
    first: &'static [&'static str],
}

pub const HUB: &str = "hub/vpn-hub";
pub const NAT: &str = "hub/nat-hub";
pub const CLIENT: &str = "a/nat-vpn";

impl Region {
    /// VPCs, hosts and EC2; no machine yet. Each gateway boots the image of its role, those of `first` when power comes on.
    pub fn new(
        vpcs: [VpcSpec; 2],
        first: &'static [&'static str],
        images: &BTreeMap<Role, Image>,
        report: Report,
    ) -> Result<Region> {
        check_machines(images.values())?;
        let lab = vpcs.into_iter().fold(Lab::builder(agent()?), Builder::vpc).build()?;
        Ok(Region { vms: BTreeMap::new(), images: images.clone(), first, lab, report, capture: None })
    }

    /// Switches the first machines on at the same time.
    pub fn power_on(&mut self) -> Result<()> {
        for name in self.first {
            self.switch_on(self.lab.gateway(name)?)?;
        }
        // From here on only the machines carry packets.
        self.capture = Some(self.lab.capture_internet()?);
        Ok(())
    }

    /// Terminates a gateway and its machine.
    pub fn terminate(&mut self, name: &str) -> Result<()> {
        self.vms.remove(name);
        let gateway = self.lab.gateway(name)?;
        self.lab.terminate(&gateway)
    }

    /// Switches a gateway on. None is given a secret or another's address.
    pub fn switch_on(&mut self, gateway: Arc<Gateway>) -> Result<()> {
        let image = self.images[&gateway.role].clone();
        let endpoint = format!("[Service]\nEnvironment=AWS_ENDPOINT_URL_EC2=http://{EC2}\n");
        let refresh = format!("{endpoint}Environment=CROSSWAN_SPACING=0s\n");
        let credentials = [
            ("systemd.unit-dropin.crosswan-refresh.service", refresh.as_str()),
            ("systemd.unit-dropin.crosswan-pair.service", &endpoint),
            // Commands that an operator would type ask EC2, too.
            ("systemd.unit-dropin.lab-control.service", &endpoint),
        ];
        let name = gateway.name.clone();
        self.vms.insert(name, Vm::boot(gateway, image, &credentials)?);
        Ok(())
    }

    /// Whether its first machines were switched on.
    pub fn is_up(&self) -> bool {
        self.capture.is_some()
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

    /// As [`Region::on_each`], of all machines; the answers by name.
    pub fn on_all<T: Send>(&self, ask: impl Fn(&Vm) -> Result<T> + Sync) -> Result<BTreeMap<String, T>> {
        let ask = &ask;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.vms.iter().map(|(name, vm)| (name.clone(), scope.spawn(move || ask(vm)))).collect();
            let joined = threads
                .into_iter()
                .map(|(name, thread)| Ok((name, thread.join().map_err(|_| anyhow!("a thread panicked"))??)));
            joined.collect()
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

    /// The gateway that EC2 leads a VPC's packets to this network to.
    pub fn leads_to(&self, vpc: &str, network: &str) -> Result<Arc<Gateway>> {
        let tables = self.lab.tables(vpc)?;
        let mut routes = tables.iter().flat_map(|table| &table.routes).filter(|(to, _)| to.to_string() == network);
        let is = |gateway: &Gateway, target: &Target| match target {
            Target::Instance(id) => *id == gateway.instance,
            Target::Interface(id) => gateway.view().instance(&gateway.instance).is_some_and(|own| own.interface == *id),
            _ => false,
        };
        let gateways = self.lab.gateways();
        let found = routes.find_map(|(_, target)| gateways.iter().find(|gateway| is(gateway, target)));
        found.cloned().with_context(|| format!("no gateway has the route of VPC {vpc} to {network}"))
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

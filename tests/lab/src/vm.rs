//! A virtual machine in a gateway's place: its image under QEMU, on the wire of the gateway's namespace.
//!
//! The namespace takes Nitro's part: the interface and IMDS. A shell inside the guest answers on a virtio port; it
//! comes with the boot, as a systemd credential, like all else that differs from the image: nothing is written into it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use nix::libc;

use crate::gateway::Gateway;
use crate::imds;
use crate::lock;
use crate::router::{INTERFACE, VPC_MTU};
use crate::spawn::{self, Output, Process};

mod arch;
mod control;

pub use arch::Arch;
use control::Control;

/// MAC of the bridge, which IMDS answers at.
const NITRO: &str = "0a:00:00:00:00:fe";
/// Of memory: a t3.nano has 512 MB.
const MEMORY: &str = "384";
/// How often the guest is asked whether it is there.
const ASK: Duration = Duration::from_secs(1);
/// Longest run of a line in the guest.
const LINE: Duration = Duration::from_secs(120);

/// A disk that boots by itself.
#[derive(Clone, Debug)]
pub struct Image {
    /// The raw disk; it is never written.
    pub disk: PathBuf,
    /// A file that the guest finds as `/dev/vdb`, padded.
    pub extra: Option<PathBuf>,
    /// What its programs are for.
    pub arch: Arch,
}

/// A running machine. Ends on drop.
#[derive(Debug)]
pub struct Vm {
    /// The instance it is.
    pub gateway: Arc<Gateway>,
    image: Image,
    credentials: Vec<(String, String)>,
    machine: Mutex<Option<Process>>,
    control: Mutex<Option<Control>>,
    /// Of the last power-on.
    pub started: Mutex<Instant>,
}

impl Vm {
    /// Rewires the gateway's namespace for a machine and switches it on with an empty overlay over `image`.
    /// `credentials` are systemd's: name and text.
    pub fn boot(gateway: Arc<Gateway>, image: Image, credentials: &[(&str, &str)]) -> Result<Vm> {
        wire(&gateway)?;
        let own = |(name, text): &(&str, &str)| (name.to_string(), text.to_string());
        let vm = Vm {
            gateway,
            image,
            credentials: credentials.iter().map(own).collect(),
            machine: Mutex::default(),
            control: Mutex::default(),
            started: Mutex::new(Instant::now()),
        };
        let overlay = vm.file("disk.qcow2");
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(std::path::absolute(&vm.image.disk)?);
        create.arg(&overlay);
        spawn::output(create, None, "", LINE)?.ok().context("qemu-img, of Debian's package qemu-utils")?;
        vm.power_on()?;
        Ok(vm)
    }

    /// Switches it on, its disk as it was left.
    pub fn power_on(&self) -> Result<()> {
        let inside = self.gateway.inside()?;
        let log = File::options().create(true).append(true).open(self.file("qemu.log"))?;
        let _ = fs::remove_file(self.file("control"));
        *lock(&self.started) = Instant::now();
        let machine = Process::start(self.qemu()?, Some(inside.namespaces()), log)?;
        let until = Instant::now() + Duration::from_secs(30);
        let control = loop {
            match Control::connect(&self.file("control")) {
                Ok(control) => break control,
                Err(_) if machine.running() && Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
                Err(_) => bail!("{}: QEMU did not start\n{}", self.gateway.name, self.text("qemu.log")),
            }
        };
        *lock(&self.control) = Some(control);
        *lock(&self.machine) = Some(machine);
        Ok(())
    }

    /// Pulls the plug. What the guest had not written to its disk is lost.
    pub fn power_off(&self) {
        *lock(&self.control) = None;
        if let Some(machine) = lock(&self.machine).take() {
            // QEMU itself ends in order, or its qcow2 would lack what the guest has written.
            machine.signal(libc::SIGTERM);
            let _ = machine.wait(Duration::from_secs(10));
        }
    }

    fn qemu(&self) -> Result<Command> {
        let instance = self.gateway.view().instance(&self.gateway.instance).cloned().context("not in EC2")?;
        let mut qemu = Command::new(self.image.arch.emulator());
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]).args(self.image.arch.machine());
        qemu.args(["-accel", "tcg,thread=multi,tb-size=128", "-smp", "1", "-m", MEMORY]);
        let overlay = self.file("disk.qcow2");
        qemu.args(["-drive", &format!("if=virtio,format=qcow2,cache=unsafe,file={}", overlay.display())]);
        if let Some(extra) = &self.image.extra {
            qemu.args([
                "-drive",
                &format!("if=virtio,format=raw,readonly=on,file={}", std::path::absolute(extra)?.display()),
            ]);
        }
        qemu.args(["-netdev", "tap,id=net,ifname=vm,script=no,downscript=no", "-device"]);
        qemu.arg(format!("virtio-net-pci,netdev=net,mac={},host_mtu={VPC_MTU},romfile=", instance.mac));
        qemu.args(["-device", "virtio-rng-pci", "-serial", &format!("file:{}", self.file("console.log").display())]);
        qemu.args(["-device", "virtio-serial", "-device", "virtserialport,chardev=control,name=crosswan.lab"]);
        qemu.arg("-chardev");
        qemu.arg(format!("socket,id=control,server=on,wait=off,path={}", self.file("control").display()));
        // A root shell to look around in: socat -,raw,echo=0 UNIX-CONNECT:FILE
        qemu.args(["-device", "virtconsole,chardev=shell", "-chardev"]);
        qemu.arg(format!("socket,id=shell,server=on,wait=off,path={}", self.file("shell").display()));
        let network = network(&self.gateway);
        let unit = control::unit();
        let own = [
            ("network.network.10-lab", network.as_str()),
            ("systemd.extra-unit.lab-control.service", &unit),
            ("systemd.extra-unit.lab-shell.service", control::SHELL),
            // Debian would ask for a login on that console, and take every other line.
            ("systemd.unit-dropin.serial-getty@hvc0.service", "[Unit]\nConditionPathExists=!/dev/hvc0\n"),
            ("systemd.unit-dropin.sysinit.target", "[Unit]\nWants=lab-control.service lab-shell.service\n"),
        ];
        let given = self.credentials.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        for (name, text) in own.into_iter().chain(given) {
            let path = self.file(&format!("credential-{name}"));
            fs::write(&path, format!("io.systemd.credential.binary:{name}={}", BASE64.encode(text)))?;
            qemu.args(["-smbios", &format!("type=11,path={}", path.display())]);
        }
        Ok(qemu)
    }

    /// Waits until the guest's shell answers.
    pub fn wait_for_shell(&self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while self.ask("true", ASK * 3).is_err() {
            ensure!(self.running(), "{}: QEMU ended\n{}", self.gateway.name, self.text("qemu.log"));
            let tail = || self.text("console.log").lines().rev().take(15).collect::<Vec<_>>().join("\n");
            ensure!(
                Instant::now() < until,
                "{}: no shell within {limit:?}; its console, last first:\n{}",
                self.gateway.name,
                tail()
            );
        }
        Ok(())
    }

    /// Waits until systemd has started everything, or given up on something.
    pub fn wait_for_boot(&self, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        self.wait_for_shell(limit)?;
        loop {
            let state = self.sh("systemctl is-system-running")?.stdout.trim().to_owned();
            if matches!(state.as_str(), "running" | "degraded") {
                return Ok(state);
            }
            ensure!(
                Instant::now() < until,
                "{}: still {state} after {limit:?}: {}",
                self.gateway.name,
                self.sh("systemctl list-jobs")?.stdout
            );
            std::thread::sleep(ASK);
        }
    }

    /// Asks the guest to reboot, and waits for its new shell. The machine is made anew: a reset under TCG can hang.
    pub fn reboot(&self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let _ = self.ask("systemctl reboot", ASK);
        while self.running() {
            ensure!(Instant::now() < until, "{}: asked to reboot, it still runs after {limit:?}", self.gateway.name);
            std::thread::sleep(ASK / 4);
        }
        self.power_on()?;
        self.wait_for_shell(until.saturating_duration_since(Instant::now()))
    }

    /// Runs a line of bash in the guest, at most two minutes; both outputs come as one.
    pub fn sh(&self, line: &str) -> Result<Output> {
        self.ask(line, LINE)
    }

    /// As [`Vm::sh`]; the line must succeed.
    pub fn ok(&self, line: &str) -> Result<String> {
        let subject = || format!("{}: {line}", self.gateway.name);
        Ok(self.sh(line)?.ok().with_context(subject)?.stdout)
    }

    /// Since power-on.
    pub fn age(&self) -> Duration {
        lock(&self.started).elapsed()
    }

    /// Whether QEMU runs.
    pub fn running(&self) -> bool {
        lock(&self.machine).as_ref().is_some_and(Process::running)
    }

    fn ask(&self, line: &str, limit: Duration) -> Result<Output> {
        let mut control = lock(&self.control);
        let control = control.as_mut().with_context(|| format!("{} is switched off", self.gateway.name))?;
        control.ask(line, limit).with_context(|| self.gateway.name.clone())
    }

    /// Where the machine's own files are: `console.log`, `qemu.log`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.gateway.dir.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read(self.file(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

/// Bridges the instance's interface to a tap. IMDS stays, on the bridge; the interface's address is the guest's now.
fn wire(gateway: &Gateway) -> Result<()> {
    let ns = gateway.ns()?;
    ns.sysctl(&[("ipv4/ip_forward".into(), "0")])?;
    ns.ip(&format!(
        "addr flush dev {INTERFACE}
         link set {INTERFACE} address 0a:00:00:00:00:fd
         link add nitro mtu {VPC_MTU} address {NITRO} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
         tuntap add dev vm mode tap vnet_hdr
         link set vm mtu {VPC_MTU} master nitro
         link set {INTERFACE} master nitro
         link set nitro up
         link set vm up
         route add {}/32 dev nitro",
        gateway.address
    ))
}

/// What DHCP gives on AWS. The neighbour stands for Nitro, which answers for IMDS whatever the router would say.
fn network(gateway: &Gateway) -> String {
    let subnet = gateway.imds.subnet;
    format!(
        "[Match]\nName=en* eth*\n[Network]\nAddress={}/{}\nGateway={}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\
         [Route]\nDestination={}/32\nScope=link\n[Neighbor]\nAddress={}\nLinkLayerAddress={NITRO}\n",
        gateway.address,
        subnet.prefix_len(),
        std::net::Ipv4Addr::from_bits(subnet.network().to_bits() + 1),
        imds::ADDRESS,
        imds::ADDRESS,
    )
}

/// Whether what booting these images needs is there.
pub fn check<'a>(images: impl IntoIterator<Item = &'a Image>) -> Result<()> {
    images.into_iter().try_for_each(|image| check_in(&std::env::var_os("PATH").unwrap_or_default(), image))
}

/// As [`check`], with programs looked for in `path`.
fn check_in(path: &OsStr, Image { disk, arch, .. }: &Image) -> Result<()> {
    let there = |program: &str| std::env::split_paths(path).any(|dir| dir.join(program).exists());
    ensure!(
        arch.needs().into_iter().all(there),
        "booting {} needs {}: apt-get install {} (tests/setup/debian.sh images {arch} does it)",
        disk.display(),
        arch.needs().join(" and "),
        arch.packages()
    );
    ensure!(there("qemu-img"), "needs qemu-img: apt-get install qemu-utils (tests/setup/debian.sh images does it)");
    ensure!(disk.exists(), "{} does not exist: make image ARCH={arch} builds it", disk.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_that_is_missing_is_named_with_the_packages_that_bring_it() {
        let said = |arch| {
            let image = Image { disk: "nat-vpn.raw".into(), extra: None, arch };
            check_in("/nonexistent".as_ref(), &image).unwrap_err().to_string()
        };
        assert_eq!(
            said(Arch::Arm64),
            "booting nat-vpn.raw needs qemu-system-aarch64 and /usr/share/qemu-efi-aarch64/QEMU_EFI.fd: apt-get install \
             qemu-system-arm qemu-efi-aarch64 (tests/setup/debian.sh images arm64 does it)"
        );
        assert!(
            said(Arch::Amd64)
                .starts_with("booting nat-vpn.raw needs qemu-system-x86_64: apt-get install qemu-system-x86 ")
        );
    }
}

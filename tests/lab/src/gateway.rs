//! A gateway: an instance with its own network, files, IMDS and charon, on which the real agent runs.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ec2::VpcView;
use crate::files::{self, Auth, Plan, Role};
use crate::host::Host;
use crate::http::Service;
use crate::imds::{self, Imds};
use crate::internet;
use crate::lock;
use crate::netns::Netns;
use crate::router::INTERFACE;
use crate::spawn::{self, Namespaces, Output, Process};

/// Longest run of a one-shot agent command; tests of slow regions stay below it.
const AGENT: Duration = Duration::from_secs(120);
const COMMAND: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Gateway {
    /// `vpc/role`, as in `a/nat-vpn`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// `i-…`
    pub instance: String,
    /// Its region.
    pub region: String,
    /// Private address.
    pub address: Ipv4Addr,
    /// Its IMDS, for faults.
    pub imds: Arc<Imds>,
    pub(crate) dir: PathBuf,
    agent: Mutex<PathBuf>,
    env: Mutex<BTreeMap<String, String>>,
    /// Another strongSwan than the machine's, unpacked.
    strongswan: Mutex<Option<PathBuf>>,
    pub(crate) machine: Mutex<Option<Machine>>,
}

/// What exists only while the instance runs.
#[derive(Debug)]
pub(crate) struct Machine {
    pub charon: Option<Process>,
    _imds: Service,
    inside: Inside,
}

/// The gateway's namespaces, held open while a command is started in them.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    ns: Arc<Netns>,
    mount: Arc<OwnedFd>,
    /// A hub is what benchmarks measure.
    is_hub: bool,
}

impl Inside {
    pub fn namespaces(&self) -> Namespaces {
        Namespaces { mount: Some(self.mount.as_raw_fd()), first: self.is_hub, ..self.ns.only() }
    }
}

impl Gateway {
    /// The instance's disk, as its AMI would have it. It is switched off.
    pub(crate) fn new(
        name: &str,
        role: Role,
        imds: Arc<Imds>,
        address: Ipv4Addr,
        dir: PathBuf,
        agent: PathBuf,
    ) -> Result<Gateway> {
        let gateway = Gateway {
            name: name.to_string(),
            role,
            instance: imds.instance.clone(),
            region: imds.region.clone(),
            address,
            imds,
            dir,
            agent: Mutex::new(agent),
            env: Mutex::default(),
            strongswan: Mutex::default(),
            machine: Mutex::default(),
        };
        let etc = gateway.path("/etc");
        for folder in files::OWN {
            fs::create_dir_all(etc.join(folder))?;
        }
        // Links, not copies: several hundred small files per gateway would take longer than all the rest.
        for entry in fs::read_dir("/etc").context("list /etc")?.flatten() {
            let name = entry.file_name();
            if !etc.join(&name).exists() && name != "strongswan.conf" {
                symlink(Path::new(files::MACHINE_ETC).join(&name), etc.join(&name))?;
            }
        }
        fs::create_dir_all(gateway.path("/var/lib/crosswan"))?;
        fs::create_dir_all(gateway.path("/run"))?;
        gateway.write_file("/etc/swanctl/swanctl.conf", "include conf.d/*.conf\n", 0o644)?;
        gateway.write_file("/etc/strongswan.conf", &files::strongswan(&gateway.dir.join("charon.log")), 0o644)?;
        Ok(gateway)
    }

    /// Boots the machine: empty /run, new network. The lab plugs it in, then calls [`Gateway::configure`].
    pub(crate) fn power_on(&self) -> Result<Arc<Netns>> {
        let ns = Arc::new(Netns::new()?);
        ns.ip(&format!("addr add {}/32 dev lo", imds::ADDRESS))?;
        fs::remove_dir_all(self.path("/run"))?;
        for folder in ["/run/crosswan", "/run/lock", files::MACHINE_ETC] {
            fs::create_dir_all(self.path(folder))?;
        }
        let own = |target| (self.path(target), target);
        let mut binds = vec![own("/run"), ("/etc".into(), files::MACHINE_ETC), own("/etc"), own("/var/lib")];
        binds.extend(lock(&self.strongswan).iter().flat_map(|tree| strongswan_binds(tree)));
        let machine = Machine {
            charon: None,
            _imds: self.imds.serve(&ns)?,
            inside: Inside { ns: ns.clone(), mount: Arc::new(ns.mounts(&binds)?), is_hub: self.role == Role::VpnHub },
        };
        *lock(&self.machine) = Some(machine);
        Ok(ns)
    }

    /// What the image's sysctl.d does, once the interface is there.
    pub(crate) fn configure(&self) -> Result<()> {
        let mut settings = vec![
            ("ipv4/ip_forward".to_string(), "1"),
            ("netfilter/nf_conntrack_tcp_timeout_established".to_string(), "86400"),
        ];
        for at in ["all", "default", INTERFACE] {
            for key in ["rp_filter", "send_redirects", "accept_redirects"] {
                settings.push((format!("ipv4/conf/{at}/{key}"), "0"));
            }
        }
        self.ns()?.sysctl(&settings)
    }

    /// Kills everything in it, as when an instance stops. Its network goes with what is returned: only after the
    /// router has stopped to use the wire, or the kernel would take routes away behind its back.
    pub(crate) fn power_off(&self) -> Option<Machine> {
        let machine = lock(&self.machine).take()?;
        machine.inside.ns.kill_all();
        Some(machine)
    }

    /// Writes the lab's settings and key for its role.
    pub(crate) fn write_plan(&self, plan: &Plan) -> Result<()> {
        self.write_settings(&files::settings(self.role, plan))?;
        if self.role == Role::NatHub || plan.auth == Auth::Key {
            return Ok(());
        }
        self.write_file("/etc/crosswan/psk", &format!("{}\n", plan.psk), 0o600)
    }

    /// Where a path below `/etc`, `/run` or `/var/lib` of the gateway is on this machine.
    pub fn path(&self, inside: &str) -> PathBuf {
        let inside = inside.trim_start_matches('/');
        match inside.strip_prefix("var/lib") {
            Some(rest) => self.dir.join(format!("var-lib{rest}")),
            None => self.dir.join(inside),
        }
    }

    /// Writes a file of the gateway, with its folders.
    pub fn write_file(&self, inside: &str, contents: &str, mode: u32) -> Result<()> {
        let path = self.path(inside);
        path.parent().map(fs::create_dir_all).transpose()?;
        fs::write(&path, contents).with_context(|| format!("write {}", path.display()))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(mode))?)
    }

    /// Reads a file of the gateway.
    pub fn read_file(&self, inside: &str) -> Result<String> {
        let path = self.path(inside);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Replaces `/etc/crosswan/crosswan.toml`.
    pub fn write_settings(&self, toml: &str) -> Result<()> {
        self.write_file("/etc/crosswan/crosswan.toml", toml, 0o644)
    }

    /// Its public address now.
    pub fn public(&self) -> Option<Ipv4Addr> {
        self.view().instance(&self.instance)?.public
    }

    /// Its VPC, as EC2 told it last.
    pub fn view(&self) -> VpcView {
        lock(&self.imds.vpc).clone()
    }

    /// Its network; an error while it is switched off.
    pub fn ns(&self) -> Result<Arc<Netns>> {
        Ok(self.inside()?.ns)
    }

    /// The gateway as something to ping from.
    pub fn host(&self) -> Result<Host> {
        Ok(Host::bare(&self.name, self.ns()?, self.address))
    }

    /// Sets an environment variable of every later command, agents included.
    pub fn set_env(&self, key: &str, value: &str) {
        lock(&self.env).insert(key.to_string(), value.to_string());
    }

    /// From charon's next start on, `charon-systemd` and `swanctl` are those of a tree that `tests/setup/strongswan.sh`
    /// has unpacked, in place of the machine's.
    pub fn use_strongswan(&self, tree: &Path) -> Result<()> {
        for (source, target) in strongswan_binds(tree) {
            let source = source.to_str().context("the tree's path is not UTF-8")?;
            self.run("mount", &["--bind", source, target], "")?.ok()?;
        }
        *lock(&self.strongswan) = Some(tree.to_path_buf());
        Ok(())
    }

    /// A command line that opens a shell inside the gateway while the lab runs.
    pub fn enter_command(&self) -> Result<String> {
        let Inside { ns, mount, .. } = self.inside()?;
        let mount = format!("/proc/{}/fd/{}", std::process::id(), mount.as_raw_fd());
        Ok(format!("nsenter --net={} --mount={mount}", ns.path().display()))
    }

    /// Runs a program inside, feeding it `input`.
    pub fn run(&self, program: &str, args: &[&str], input: &str) -> Result<Output> {
        self.output(Path::new(program), args, input, COMMAND)
    }

    /// Runs a shell line inside.
    pub fn sh(&self, line: &str) -> Result<Output> {
        self.run("/bin/sh", &["-c", line], "")
    }

    /// From now on this gateway has another agent: an upgrade, or the way back.
    pub fn install_agent(&self, agent: &Path) {
        *lock(&self.agent) = agent.to_owned();
    }

    pub(crate) fn agent_path(&self) -> PathBuf {
        lock(&self.agent).clone()
    }

    /// Runs the agent to its end, at most two minutes.
    pub fn agent(&self, args: &[&str]) -> Result<Output> {
        self.output(&self.agent_path(), args, "", AGENT)
    }

    /// As [`Gateway::run`], for what may take longer than a minute.
    pub fn output(&self, program: &Path, args: &[&str], input: &str, limit: Duration) -> Result<Output> {
        let inside = self.inside()?;
        spawn::output(self.command(program, args), Some(inside.namespaces()), input, limit)
    }

    /// A command with the environment a systemd unit would have, and the lab's endpoint of AWS.
    pub(crate) fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir("/").env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        for service in ["EC2", "SSM", "SECRETS_MANAGER", "STS", "ORGANIZATIONS"] {
            command.env(format!("AWS_ENDPOINT_URL_{service}"), format!("http://{}", internet::EC2));
        }
        // What the developer sets to see more of a failing test.
        for name in ["RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(lock(&self.env).iter());
        command
    }

    pub(crate) fn inside(&self) -> Result<Inside> {
        let machine = lock(&self.machine);
        Ok(machine.as_ref().with_context(|| format!("{} is switched off", self.name))?.inside.clone())
    }
}

/// What stands over the machine's strongSwan: the plugins, whose folder is compiled in, and the programs.
fn strongswan_binds(tree: &Path) -> [(PathBuf, &'static str); 3] {
    [
        (tree.join("usr/lib/ipsec"), "/usr/lib/ipsec"),
        (tree.join("bin/charon-systemd"), "/usr/sbin/charon-systemd"),
        (tree.join("bin/swanctl"), "/usr/sbin/swanctl"),
    ]
}

//! A host with a real charon: a network and a mount namespace of its own, nothing shared but a folder.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Host {
    pub dir: TempDir,
    /// Holds the namespaces.
    init: Child,
    charon: Option<Child>,
}

/// Runs a program to its end; the test fails with it.
fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("run {program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Dies with the test's thread, so that nothing outlives a killed test.
fn child(args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Host {
    /// A host without a network, and without a charon.
    pub fn new() -> Host {
        assert!(nix::unistd::Uid::effective().is_root(), "the charon tests need root: run them with sudo");
        for program in ["charon-systemd", "swanctl", "unshare", "nsenter", "setpriv", "ip", "iptables-save"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("run sh");
            let packages = "charon-systemd strongswan-swanctl libstrongswan-standard-plugins iproute2 iptables";
            assert!(found.status.success(), "the charon tests need {program}: apt install {packages}");
        }
        let dir = TempDir::with_prefix("charon-").expect("make a folder");
        let ready = dir.path().join("ready");
        let script =
            format!("ip link set lo up && mount -t tmpfs none /run && touch {} && exec sleep 600", ready.display());
        let init = child(&["unshare", "-n", "-m", "sh", "-c", &script]).spawn().expect("spawn unshare");
        wait(|| ready.exists(), "the namespaces");
        fs::write(dir.path().join("strongswan.conf"), conf(&dir)).expect("write strongswan.conf");
        Host { dir, init, charon: None }
    }

    pub fn with_charon() -> Host {
        let mut host = Host::new();
        host.start();
        host
    }

    pub fn pid(&self) -> String {
        self.init.id().to_string()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("vici")
    }

    /// Starts charon and waits for its socket to answer.
    pub fn start(&mut self) {
        let conf = format!("STRONGSWAN_CONF={}", self.dir.path().join("strongswan.conf").display());
        let mut charon = child(&["nsenter", "-t", &self.pid(), "-n", "-m", "env", &conf, "charon-systemd"]);
        self.charon = Some(charon.spawn().expect("spawn charon"));
        wait(|| std::os::unix::net::UnixStream::connect(self.socket()).is_ok(), "charon's VICI socket");
    }

    /// charon gets no chance to delete its SAs at the peers.
    pub fn kill(&mut self) {
        if let Some(mut charon) = self.charon.take() {
            charon.kill().expect("kill charon");
            charon.wait().expect("reap charon");
        }
    }

    /// charon keeps its sockets but does nothing, until [`Host::thaw`].
    pub fn freeze(&self) {
        self.signal("STOP");
        // The others of its threads may still answer until one of them has seen the signal.
        let tasks = format!("/proc/{}/task", self.charon.as_ref().expect("charon runs").id());
        let stopped = |task: std::io::Result<fs::DirEntry>| {
            let stat = task.and_then(|task| fs::read_to_string(task.path().join("stat")));
            stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
        };
        wait(|| fs::read_dir(&tasks).is_ok_and(|mut all| all.all(stopped)), "charon to stop");
    }
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let charon = self.charon.as_ref().expect("charon runs");
        run("kill", &["-s", name, &charon.id().to_string()]);
    }

    /// Runs a command inside.
    pub fn run(&self, command: &str) {
        let pid = self.pid();
        let mut args = vec!["-t", &pid, "-n"];
        args.extend(command.split(' '));
        run("nsenter", &args);
    }

    /// A cable between two hosts: `addr` in 192.0.2.0/24 and an own `net` behind each.
    pub fn cable(a: (&Host, &str, &str), b: (&Host, &str, &str)) {
        let (pid_a, pid_b) = (a.0.pid(), b.0.pid());
        run("ip", &["link", "add", "eth0", "netns", &pid_a, "type", "veth", "peer", "name", "eth0", "netns", &pid_b]);
        for (host, addr, net) in [a, b] {
            host.run(&format!("ip addr add {addr}/24 dev eth0"));
            host.run(&format!("ip addr add {net} dev lo"));
            host.run("ip link set eth0 up");
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("charon's log:\n{}", self.log());
        }
        self.kill();
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// Polls for at most ten seconds.
pub fn wait(done: impl Fn() -> bool, what: &str) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < TIMEOUT, "waited {TIMEOUT:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn conf(dir: &TempDir) -> String {
    let dir = dir.path().display();
    format!(
        "charon-systemd {{
  load_modular = yes
  retransmit_tries = 1
  retransmit_timeout = 0.5
  retransmit_base = 1.0
  plugins {{
    include /etc/strongswan.d/charon/*.conf
    bypass-lan {{
      load = no
    }}
    vici {{
      socket = unix://{dir}/vici
    }}
  }}
  filelog {{
    log {{
      path = {dir}/log
      default = 1
      flush_line = yes
    }}
  }}
}}
"
    )
}

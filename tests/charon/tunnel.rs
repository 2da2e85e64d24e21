//! `keep` between a hub and a spoke: what charon leaves down comes up, and duplicates are removed.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::{Duration, Instant},
};

use crosswan::keep::{self, Config};
use crosswan_core::{error::Result, model::Mode, swanctl, system::Sa};
use crosswan_vici::Vici;
use nix::fcntl::{Flock, FlockArg};
use tokio::{sync::oneshot, task::JoinHandle, time};

use crate::host::{Host, TIMEOUT};

const INTERVAL: Duration = Duration::from_millis(400);
/// For what comes soon, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(30);
const CONN: &str = "crosswan-vpc-0aaa1111";

/// A hub at 192.0.2.1 before 10.0.0.0/16 and a spoke at 192.0.2.2 before 10.1.0.0/16, nothing loaded.
fn pair() -> (Host, Host) {
    let (hub, spoke) = (Host::with_charon(), Host::with_charon());
    Host::cable((&hub, "192.0.2.1", "10.0.0.1/16"), (&spoke, "192.0.2.2", "10.1.0.1/16"));
    (hub, spoke)
}

/// One end's text: its address, the other's, its networks, the other's, and how the key is written.
fn text(mode: Mode, remote_ts: &str) -> String {
    let (local, remote, key) = match mode {
        Mode::VpnHub => ("192.0.2.1", "192.0.2.2", "0x616263646566ff"),
        _ => ("192.0.2.2", "192.0.2.1", "0sYWJjZGVm/w=="),
    };
    let (local_id, remote_id) = if mode == Mode::VpnHub { ("hub", "vpc-0aaa1111") } else { ("vpc-0aaa1111", "hub") };
    let local_ts = if mode == Mode::VpnHub { "10.0.0.0/16" } else { "10.1.0.0/16" };
    format!(
        "connections {{
  {CONN} {{
    version = 2
    local_addrs = {local}
    remote_addrs = {remote}
    mobike = no
    encap = yes
    unique = never
    dpd_delay = 1s
    proposals = aes256gcm16-prfsha384-x25519
    local {{
      auth = psk
      id = {local_id}
    }}
    remote {{
      auth = psk
      id = {remote_id}
    }}
    children {{
      c-10-1-0-0-16 {{
        local_ts = {local_ts}
        remote_ts = {remote_ts}
        esp_proposals = aes256gcm16-x25519
        start_action = none
      }}
    }}
  }}
}}
secrets {{
  ike-{CONN} {{
    id-1 = hub
    id-2 = vpc-0aaa1111
    secret = {key}
  }}
}}
"
    )
}

async fn load(host: &Host, text: &str) {
    let file = swanctl::parse(text).unwrap();
    let mut vici = Vici::connect(&host.socket(), TIMEOUT).await.unwrap();
    for (id, shared) in &swanctl::secrets(&file).unwrap() {
        vici.load_shared(id, shared).await.unwrap();
    }
    for (name, conn) in &swanctl::connections(file) {
        vici.load_conn(name, conn).await.unwrap();
    }
}

async fn sas(host: &Host) -> Vec<Sa> {
    Vici::connect(&host.socket(), TIMEOUT).await.unwrap().sas().await.unwrap()
}

/// Every IKE_SA's state, and the names of its installed children.
fn shape(sas: &[Sa]) -> Vec<(&str, Vec<&str>)> {
    sas.iter()
        .map(|sa| (sa.state.as_str(), sa.children.iter().filter(|c| c.is_up()).map(|c| c.name.as_str()).collect()))
        .collect()
}

/// Waits until a host has exactly one IKE_SA with exactly one child, and returns it.
async fn single(host: &Host) -> Sa {
    let start = Instant::now();
    loop {
        let mut sas = sas(host).await;
        if shape(&sas) == [("ESTABLISHED", vec!["c-10-1-0-0-16"])] {
            return sas.remove(0);
        }
        assert!(start.elapsed() < LIMIT, "no single tunnel after {LIMIT:?}: {sas:#?}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// `crosswan keep`, running; it is told to end by `stop`.
struct Keep {
    task: JoinHandle<Result<()>>,
    stop: oneshot::Sender<()>,
    lock: PathBuf,
}

fn keep(host: &Host, mode: Mode) -> Keep {
    let lock = host.dir.path().join("lock");
    let cfg = Config {
        route_waits: host.dir.path().join("route-waits"),
        mode,
        interval: INTERVAL,
        conf_file: host.dir.path().join("crosswan.conf"),
        socket: host.socket(),
        lock: lock.clone(),
        wanted: host.dir.path().join("refresh-wanted"),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    Keep { task: tokio::spawn(keep::run(cfg, stopped)), stop, lock }
}

impl Keep {
    async fn end(self) {
        let _ = self.stop.send(());
        time::timeout(LIMIT, self.task).await.expect("keep ends").unwrap().unwrap();
    }
}

/// A look that starts hundreds of tunnels at a busy charon takes longer than the watchdog waits: each answer counts as a sign of life.
#[tokio::test]
async fn within_a_long_look_each_answer_feeds_the_watchdog() {
    const CHILDREN: usize = 40;
    let spoke = Host::with_charon();
    spoke.run("ip addr add 192.0.2.2/24 dev lo");
    let (head, tail) = text(Mode::NatVpn, "10.0.0.0/16")
        .split_once("      c-10-1-0-0-16 {")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let child = |n: usize| {
        format!(
            "      c-10-1-{n}-0-24 {{\n        local_ts = 10.1.{n}.0/24\n        remote_ts = 10.0.0.0/16\n      }}\n"
        )
    };
    let more: String = (1..CHILDREN).map(child).collect();
    load(&spoke, &format!("{head}{more}      c-10-1-0-0-16 {{{tail}")).await;

    let root = spoke.dir.path().join("root");
    for folder in ["etc/crosswan", "run/crosswan", "etc/swanctl/conf.d"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let settings = "mode = 'nat-vpn'\nprivate_net = ['10.0.0.0/8']\nregions = ['us-west-2']\n[keep]\ninterval = '1s'\n";
    fs::write(root.join("etc/crosswan/crosswan.toml"), settings).unwrap();
    std::os::unix::fs::symlink(spoke.socket(), root.join("run/charon.vici")).unwrap();
    let systemd = std::os::unix::net::UnixDatagram::bind(spoke.dir.path().join("notify")).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let mut keep = std::process::Command::new(env!("CARGO_BIN_EXE_crosswan"))
        .arg("keep")
        .env_clear()
        .env("CROSSWAN_ROOT", &root)
        .env("NOTIFY_SOCKET", spoke.dir.path().join("notify"))
        .spawn()
        .unwrap();
    // Up to the end of the second look, in which all are initiated.
    let (mut signs, mut looks) = (0, 0);
    while looks < 2 {
        let mut message = [0; 512];
        let length = systemd.recv(&mut message).expect("keep says that it lives");
        let message = String::from_utf8_lossy(&message[..length]);
        looks += usize::from(message.contains(&format!("STATUS=0 of {CHILDREN} tunnels up")));
        signs += message.matches("WATCHDOG=1").count();
    }
    keep.kill().unwrap();
    keep.wait().unwrap();
    assert!(signs >= CHILDREN, "{signs} signs of life in two looks and {CHILDREN} initiations");
}

#[tokio::test]
async fn the_spoke_initiates_what_is_missing_and_then_leaves_it_alone() {
    let (hub, spoke) = pair();
    load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
    load(&spoke, &text(Mode::NatVpn, "10.0.0.0/16")).await;
    let keep = keep(&spoke, Mode::NatVpn);
    let sa = single(&spoke).await;
    assert_eq!((sa.remote_host.as_str(), sa.remote_id.as_str()), ("192.0.2.1", "hub"));
    assert_eq!(sa.children[0].remote_ts, ["10.0.0.0/16"]);
    time::sleep(INTERVAL * 4).await;
    assert_eq!(single(&spoke).await.children[0].id, sa.children[0].id, "left alone once it is up");
    keep.end().await;
}

/// charon keeps the childless IKE_SA of a TS_UNACCEPTABLE for good; keep asks again, and then gives the IKE_SA up.
#[tokio::test]
async fn a_hub_that_learns_the_selectors_late_gets_its_tunnel() {
    let (hub, spoke) = pair();
    load(&hub, &text(Mode::VpnHub, "10.7.0.0/16")).await;
    load(&spoke, &text(Mode::NatVpn, "10.0.0.0/16")).await;
    let keep = keep(&spoke, Mode::NatVpn);
    const GIVEN_UP: &str = "vici terminate IKE_SA #1";
    until(|| spoke.log().contains(GIVEN_UP)).await;
    // What comes after it belongs to the next IKE_SA.
    let unacceptable =
        spoke.log().split(GIVEN_UP).next().unwrap_or_default().matches("received TS_UNACCEPTABLE notify").count();
    assert!((3..=5).contains(&unacceptable), "asked {unacceptable} times before giving the IKE_SA up");
    load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
    // A refresh that knows more touches the managed file, so that the spoke need not wait for its back-off to end.
    fs::write(spoke.dir.path().join("crosswan.conf"), "").unwrap();
    single(&spoke).await;
    keep.end().await;
}

/// `docs/facts.md`, "Initiation": the spoke meets a charon without its connection and never tries again.
#[tokio::test]
async fn a_hub_killed_and_configured_late_is_found_again() {
    let (mut hub, spoke) = pair();
    load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
    load(&spoke, &text(Mode::NatVpn, "10.0.0.0/16")).await;
    let keep = keep(&spoke, Mode::NatVpn);
    let before = single(&spoke).await;
    hub.kill();
    hub.start();
    time::sleep(Duration::from_secs(3)).await;
    load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
    let after = single(&spoke).await;
    assert_ne!(after.id, before.id);
    single(&hub).await;
    keep.end().await;
}

#[tokio::test]
async fn a_hub_whose_charon_restarted_initiates_itself() {
    let (hub, spoke) = pair();
    load(&spoke, &text(Mode::NatVpn, "10.0.0.0/16")).await;
    load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
    let keep = keep(&hub, Mode::VpnHub);
    single(&hub).await;
    keep.end().await;
}

#[tokio::test]
async fn a_spokes_charon_that_dies_is_waited_for() {
    let (hub, mut spoke) = pair();
    load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
    let keep = keep(&spoke, Mode::NatVpn);
    time::sleep(INTERVAL).await;
    spoke.kill();
    time::sleep(Duration::from_millis(1500)).await;
    spoke.start();
    load(&spoke, &text(Mode::NatVpn, "10.0.0.0/16")).await;
    single(&spoke).await;
    keep.end().await;
}

/// A hub and a spoke with a tunnel that each of them initiated: two IKE_SAs, each with the child.
async fn two_tunnels() -> (Host, Host) {
    let initiate = async |host: &Host| {
        let mut vici = Vici::connect(&host.socket(), TIMEOUT).await.unwrap();
        // It fails where charon was too late to answer the other one.
        let _ = vici.initiate(CONN, Some("c-10-1-0-0-16"), Some(TIMEOUT)).await;
    };
    let up = ("ESTABLISHED", vec!["c-10-1-0-0-16"]);
    // On a busy machine one end may be done before the other begins, and charon makes no child that is there already. So each
    // try is with new charons, and what they send is on its way for a while.
    for _ in 0..10 {
        let (hub, spoke) = pair();
        load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
        load(&spoke, &text(Mode::NatVpn, "10.0.0.0/16")).await;
        for host in [&hub, &spoke] {
            host.run("tc qdisc add dev eth0 root netem delay 150ms");
        }
        tokio::join!(initiate(&hub), initiate(&spoke));
        if shape(&sas(&spoke).await) == [up.clone(), up.clone()] {
            return (hub, spoke);
        }
    }
    panic!("never two tunnels");
}

#[tokio::test]
async fn what_both_ends_initiated_becomes_single() {
    let (hub, spoke) = two_tunnels().await;
    let keeps = [keep(&spoke, Mode::NatVpn), keep(&hub, Mode::VpnHub)];
    single(&spoke).await;
    single(&hub).await;
    for keep in keeps {
        keep.end().await;
    }
}

#[tokio::test]
async fn nothing_is_done_while_a_refresh_holds_the_lock() {
    let (hub, spoke) = pair();
    load(&hub, &text(Mode::VpnHub, "10.1.0.0/16")).await;
    load(&spoke, &text(Mode::NatVpn, "10.0.0.0/16")).await;
    let keep = keep(&spoke, Mode::NatVpn);
    // The first look only notes what is missing; take the lock before the second.
    let file = File::options().write(true).create(true).truncate(false).open(&keep.lock).unwrap();
    let Ok(held) = Flock::lock(file, FlockArg::LockExclusive) else { panic!("take the lock") };
    time::sleep(Duration::from_secs(2)).await;
    assert!(sas(&spoke).await.is_empty(), "initiated under a refresh");
    drop(held);
    single(&spoke).await;
    keep.end().await;
}

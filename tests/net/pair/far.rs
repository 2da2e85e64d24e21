//! What a hub makes of a pair in a client VPC: the route to that VPC follows the member that has taken over, by its word through its own
//! tunnel, and nothing else moves it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use crosswan_core::{model::Place, swanctl, system::Followed};
use crosswan_faults::look::CONNECTIONS;
use crosswan_lab::{AgentProcess, Gateway, PingReport, VpcSpec};

use super::{CUT, SOON, Two, believes};
use crate::region::{UP, eventually, refresh, status};

const NETWORK: &str = "10.1.0.0/16";
const OTHER: &str = "10.2.0.0/16";
const WORDS: &str = "/run/crosswan/followed.json";

/// Records a beat to the hub as it leaves through the tunnel, and sends it again as it was and changed, as the gateway itself would; the
/// hub's address, the port and the interface are its arguments.
const RECORD: &str = r#"
import os, socket, sys
to, port, device = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
raw.bind((device.decode(), 3))
raw.settimeout(60)
while True:
    packet = raw.recv(2000)
    if packet[9] == 17 and len(packet) == 28 + 114 and packet[16:20] == socket.inet_aton(to): break
beat = packet[28:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
udp.bind((socket.inet_ntoa(packet[12:16]), port))
udp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
later = beat[:16] + bytes([255] * 8) + beat[24:40] + bytes([0, 0, 1, 0]) + beat[44:]
for datagram in [beat, later, os.urandom(114), beat[:-1]]:
    for _ in range(3): udp.sendto(datagram, (to, port))
print(beat.hex())
"#;

/// Sends a recorded beat to the hub, with a TTL of 255 and as what only looks like it.
const REPLAY: &str = r#"
import os, socket, sys
to, port, beat = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
later = beat[:16] + bytes([255] * 8) + beat[24:40] + bytes([0, 0, 1, 0]) + beat[44:]
for datagram in [beat, later, os.urandom(114)]:
    for _ in range(5): udp.sendto(datagram, (to, port))
"#;

/// A pair in `a`, whose hub hears it and leads to `two`, the newer one, while the VPC's routes lead to `one`.
struct Heard {
    pair: Two,
    hub: std::sync::Arc<Gateway>,
    hears: AgentProcess,
    watch: AgentProcess,
}

impl Heard {
    fn up() -> Result<Heard> {
        let pair = Two::beside(vec![VpcSpec::client("b", "eu-west-1", &[OTHER])?.bare()])?;
        let hub = pair.region.gateway("hub/vpn-hub")?;
        eventually(UP, "the hub uses the newer one", || {
            hub.agent(&["refresh"])?;
            Ok(hub
                .agent(&["status"])?
                .stdout
                .contains(&format!("stands by: {} in the same VPC is in use", pair.two.instance)))
        })?;
        let (hears, watch) = (hub.spawn_agent(&["pair"])?, hub.spawn_agent(&["watch"])?);
        let heard = Heard { pair, hub, hears, watch };
        ensure!(heard.leads_to(&heard.pair.two)? && !heard.leads_to(&heard.pair.one)?);
        eventually(UP, "both tunnels carry", || Ok(heard.up_tunnels()? == 2))?;
        heard.pair.host.wait_for(heard.pair.region.address("hub/host")?, UP)?;
        Ok(heard)
    }

    fn up_tunnels(&self) -> Result<usize> {
        let status = status(&self.hub)?;
        let tunnels = status["tunnels"].as_array().context("tunnels")?;
        let to = |tunnel: &&serde_json::Value| {
            [&self.pair.one, &self.pair.two].iter().any(|gateway| tunnel.to_string().contains(&gateway.instance))
        };
        Ok(tunnels.iter().filter(to).filter(|tunnel| tunnel["up"] == true).count())
    }

    fn place(&self, gateway: &Gateway) -> Result<Place> {
        let text = self.hub.read_file(CONNECTIONS)?;
        let mut all = swanctl::connections(swanctl::parse(&text)?);
        let name = format!("crosswan-{}-{}", self.pair.region.lab.vpc_id("a")?, gateway.instance);
        swanctl::place(&all.remove(&name).with_context(|| format!("no {name} in {text}"))?).context("no place")
    }

    /// Whether the hub's kernel leads the VPC's network to this gateway's tunnel.
    fn leads_to(&self, gateway: &Gateway) -> Result<bool> {
        let route = self.hub.sh(&format!("ip route show table 7105 {NETWORK}"))?.ok()?.stdout;
        Ok(route.contains(self.place(gateway)?.interface()))
    }

    fn words(&self) -> Result<Followed> {
        Ok(serde_json::from_str(&self.hub.read_file(WORDS)?)?)
    }

    fn generation(&self) -> Result<u32> {
        let words = self.words()?;
        Ok(words.of(&self.pair.region.lab.vpc_id("a")?).map_or(0, |word| word.generation))
    }

    /// Pings between the private hosts of `a` and of the hub VPC, while this happens.
    fn pings(&self, what: impl FnOnce() -> Result<()>) -> Result<PingReport> {
        let stream = self.pair.host.ping_stream(self.pair.region.address("hub/host")?)?;
        thread::sleep(Duration::from_secs(1));
        what()?;
        thread::sleep(Duration::from_secs(1));
        stream.stop()
    }

    /// Nothing moves at the hub and nothing is lost while this happens; the route leads to this gateway.
    fn undisturbed(&self, gateway: &Gateway, how: &str, what: impl FnOnce() -> Result<()>) -> Result<()> {
        let (generation, log) = (self.generation().unwrap_or(0), self.watch.log());
        let report = self.pings(what)?;
        let moved = self.watch.log()[log.len()..].contains("follow the word");
        println!("far: {how}: {} of {} pings lost", report.lost, report.sent);
        let said =
            || [&self.watch, &self.hears, &self.pair.watch_one, &self.pair.watch_two].map(AgentProcess::log).join("\n");
        ensure!(report.lost == 0 && !moved && self.leads_to(gateway)?, "{how}: {report:?}\n{}", said());
        ensure!(self.generation().unwrap_or(0) == generation);
        Ok(())
    }

    /// Cuts `dead` off, which the hub uses, and shows that the hub follows `heir` by its word.
    fn dies(&self, how: &str, dead: &Gateway, heir: &Gateway) -> Result<()> {
        let generation = self.generation().unwrap_or(0);
        ensure!(self.leads_to(dead)?);
        let report = self.pings(|| {
            let began = Instant::now();
            dead.ns()?.nft(CUT)?;
            eventually(SOON, "the hub follows the other one", || self.leads_to(heir))?;
            println!("far: {how}: the hub's route has moved {:?} later", began.elapsed());
            self.pair.host.wait_for(self.pair.region.address("hub/host")?, SOON).map(drop)
        })?;
        println!(
            "far: {how}: nothing passed between the private hosts for {:?} ({} lost)",
            report.longest_gap, report.lost
        );
        ensure!(report.lost > 0 && self.generation()? > generation, "{report:?}");
        let words = self.words()?;
        let word = words.counting(&self.pair.region.lab.vpc_id("a")?).context("its word")?;
        ensure!(word.connection.as_str().ends_with(&heir.instance) && word.place == self.place(heir)?, "{word:?}");
        eventually(SOON, "the heir shows what the hub follows", || {
            let pair = &status(heir)?["pair"];
            Ok(pair["holds"] == true && pair["generation"] == self.generation()?)
        })?;
        self.watch.wait_for_log("routes follow the word of their pair", SOON)
    }

    /// What doctor says on the hub of the pair, and whether it names the gateway that the hub's route leads to.
    fn checked(&self) -> Result<(String, bool)> {
        let said: serde_json::Value = serde_json::from_str(&self.hub.agent(&["doctor", "--json"])?.stdout)?;
        let id = format!("followed-{}", self.pair.region.lab.vpc_id("a")?);
        let check = said["checks"].as_array().into_iter().flatten().find(|check| check["id"] == *id);
        let check = check.with_context(|| format!("no {id} in {said:#}"))?;
        let used = if self.leads_to(&self.pair.one)? { &self.pair.one } else { &self.pair.two };
        let names = check["found"].as_str().unwrap_or_default().contains(&used.instance);
        Ok((check["state"].as_str().unwrap_or_default().to_owned(), names))
    }

    /// Two refreshes of the hub, and of both members.
    fn refreshes(&self) -> Result<()> {
        for gateway in [&*self.hub, &self.pair.one, &self.hub, &self.pair.two] {
            gateway.agent(&["refresh"])?;
        }
        Ok(())
    }
}

#[test]
fn the_hub_follows_the_member_that_lives_before_any_pass_and_no_return_or_refresh_moves_it_back() -> Result<()> {
    let heard = Heard::up()?;
    let Heard { pair, hub, .. } = &heard;
    let (one, two) = (&pair.one, &pair.two);

    // The one that the hub uses stands by for the VPC: nothing moves in EC2, and the other one says that it has all there is.
    let moves = pair.moves();
    heard.dies("the one that stands by is cut off", two, one)?;
    ensure!(pair.moves() == moves, "nothing moved in EC2");
    // It is newer, and a pass does not give it the route back, whether it is dead, has just returned, or has been back for a while.
    heard.undisturbed(one, "refreshes while it is away", || heard.refreshes())?;
    heard.undisturbed(one, "its return", || {
        two.ns()?.nft("delete table ip cut")?;
        believes(one, "alive")?;
        believes(two, "alive")?;
        eventually(SOON, "its tunnel is back", || Ok(heard.up_tunnels()? == 2))
    })?;
    heard.undisturbed(one, "refreshes after its return", || heard.refreshes())?;
    // Another program moves the route while a refresh holds the lock of rules and routes.
    let (away, source) = (heard.place(two)?.interface(), hub.address);
    let held = format!(
        "flock /run/crosswan/charon.lock sh -c 'ip route replace {NETWORK} dev {away} src {source} table 7105 proto 205; sleep 2; ip route show table 7105 {NETWORK}'"
    );
    let shown = hub.sh(&held)?.ok()?.stdout;
    ensure!(shown.contains(heard.place(one)?.interface()), "{shown}");
    let word = format!("follows {} by its word", one.instance);
    let status = hub.agent(&["status"])?.stdout;
    ensure!(status.contains(&word), "{status}");
    let report = hub.agent(&["refresh"])?.stdout;
    ensure!(report.contains(&word), "{report}");
    ensure!(heard.checked()? == ("ok".to_owned(), true), "{:?}", heard.checked()?);

    // The one that has the routes dies while the hub refreshes all the time.
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let refreshing = scope.spawn(|| -> Result<u32> {
            let mut passes = 0;
            while !ends.load(Ordering::Relaxed) {
                hub.agent(&["refresh"])?;
                passes += 1;
            }
            Ok(passes)
        });
        let died = heard.dies("the one that has the routes is cut off, and the hub refreshes all the time", one, two);
        let stays = died.and_then(|()| {
            thread::sleep(Duration::from_secs(5));
            ensure!(heard.leads_to(two)?, "{}", heard.watch.log());
            Ok(())
        });
        ends.store(true, Ordering::Relaxed);
        let passes = refreshing.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        println!("far: the hub refreshed {passes} times meanwhile");
        stays
    })?;
    ensure!(pair.leads_to(two)?, "the VPC's routes, too");
    heard.undisturbed(two, "its return", || {
        one.ns()?.nft("delete table ip cut")?;
        believes(two, "alive")?;
        believes(one, "alive")?;
        eventually(SOON, "its tunnel is back", || Ok(heard.up_tunnels()? == 2))
    })?;
    heard.undisturbed(two, "refreshes after its return", || heard.refreshes())?;
    let report = refresh(hub)?;
    ensure!(report["outcome"] == "unchanged", "{report:#}");
    // A hub that hears nobody says so, and not only when the route should have moved.
    ensure!(heard.checked()? == ("ok".to_owned(), true), "{:?}", heard.checked()?);
    hub.sh(&format!("kill -9 {}", heard.hears.pid()))?.ok()?;
    eventually(SOON, "doctor says that nobody hears", || Ok(heard.checked()?.0 == "warning"))
}

#[test]
fn nobody_but_the_members_moves_the_hubs_route_whatever_they_send() -> Result<()> {
    let heard = Heard::up()?;
    let Heard { pair, hub, hears, watch } = &heard;
    let (one, two) = (&pair.one, &pair.two);
    let to = hub.address.to_string();
    heard.undisturbed(two, "replays and forgeries", || {
        // A member replays its own beats and changes them, with its own tunnel and address, and with what would move the route.
        one.write_file("/etc/record.py", RECORD, 0o644)?;
        let beat = one.sh(&format!("python3 /etc/record.py {to} 4795 cw1"))?.ok()?.stdout;
        for why in ["repeated", "forged", "unreadable"] {
            hears.wait_for_log(&format!("{} does not count: {why}", one.instance), SOON)?;
        }
        // A host behind the members has what they have sent, and so has the gateway of another VPC.
        pair.host.exec("python3", &["-c", REPLAY, &to, "4795", beat.trim()])?;
        hears.wait_for_log("does not count: not sent by the gateway at its other end", SOON)?;
        let b = pair.region.gateway("b/nat-vpn")?;
        b.write_file("/etc/replay.py", REPLAY, 0o644)?;
        let before = counter(&b)?;
        b.sh(&format!("python3 /etc/replay.py {to} 4795 {}", beat.trim()))?.ok()?;
        ensure!(counter(&b)? >= before + 15, "they have left through the tunnel");
        thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    ensure!(!hub.read_file(WORDS).is_ok_and(|text| text.contains("vpc-")), "nobody is followed");
    ensure!(!watch.log().contains("follow the word"), "{}", watch.log());
    // Both members speak, are heard, and say nothing that moves a route.
    ensure!(!hears.log().contains("is reached by"), "{}", hears.log());
    Ok(())
}

/// The packets that a gateway has sent into its tunnels.
fn counter(gateway: &Gateway) -> Result<u64> {
    let all =
        gateway.sh("cat /sys/class/net/cw1/statistics/tx_packets /sys/class/net/cw2/statistics/tx_packets")?.ok()?;
    all.stdout.lines().map(|line| Ok(line.parse::<u64>()?)).sum()
}

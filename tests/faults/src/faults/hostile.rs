//! A hostile peer, with and without a valid key: it gets nothing, and others notice nothing.

use std::{
    fs::File,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use crosswan_vici::Sas;

use super::{
    Healed,
    packets::{Forger, Recorder, ike_sa_init, udp},
};
use crate::{
    attended::Attended,
    look::{Snapshot, all_well, ask, gap, policies, sas},
    memory::status_kb,
    peer::Peer,
    region::{UP, eventually, show},
    stage::Stage,
};

/// Packets a second.
const RATE: u32 = 500;
/// Knocks a second, as far as the machine can send them.
const KNOCKS: u32 = 10_000;
/// Where the flood says it comes from, when it does not forge a client's address.
const NOWHERE: [u8; 3] = [203, 0, 113];
const EVIL: &str = "/etc/swanctl/conf.d/evil.conf";

/// While it goes on, a client whose charon was killed must get its tunnel again; everybody else never loses a packet.
pub fn flood(stage: &mut Stage) -> Result<Healed> {
    let lasting = Duration::from_secs(if stage.quick { 4 } else { 15 });
    let hub = stage.hub.public().context("the hub's address")?;
    let clients = ["a/nat-vpn", "b/nat-vpn"].map(|name| stage.region.gateway(name).ok()?.public());
    let victim = stage.peer.first.clone();
    let (forger, mut random) = (Forger::new(&stage.region.lab.internet().ns)?, File::open("/dev/urandom")?);
    let (began, mut sent) = (Instant::now(), 0u32);
    let mut packets = None;
    while began.elapsed() < lasting {
        let [a, b, c] = NOWHERE;
        let from = match (sent % 6, clients) {
            (0, [Some(client), _]) | (3, [_, Some(client)]) => client,
            _ => Ipv4Addr::new(a, b, c, (sent % 251) as u8 + 1),
        };
        forger.send(&udp((from, 500), (hub, 500), &ike_sa_init(&mut random)?))?;
        sent += 1;
        if packets.is_none() && sent == RATE {
            packets = Some(stage.own_stream()?);
            victim.kill_charon(nix::libc::SIGKILL)?;
            victim.start_charon()?;
        }
        thread::sleep((Duration::from_secs(1) / RATE * sent).saturating_sub(began.elapsed()));
    }
    let outage = gap(packets.context("the flood was too slow")?)?;
    let half_open = || -> Result<usize> {
        Ok(ask(&stage.hub, async |vici| vici.sas().await)?.iter().filter(|sa| sa.is_connecting()).count())
    };
    let (left, since) = (half_open()?, Instant::now());
    ensure!(left > 0, "not one request got as far as an IKE_SA: that was no flood");
    Snapshot::of(&stage.hub)?.must_be(&stage.idle, "a flood")?;
    // charon gives half-open IKE_SAs half a minute.
    eventually(UP * 3, "no half-open IKE_SA", || Ok(half_open()? == 0))?;
    let gone = since.elapsed().as_secs_f64();
    let half = format!("{left} half-open at its end (cookies), none {gone:.0} s later");
    Healed::by(format!("{sent} requests, {half}; a client killed meanwhile, keep: outage"), outage)
}

/// From addresses that nobody has: charon has no connection for them. `keep` hears of each, and asks for a pass no more than once a
/// minute. Each pass is made, and nothing else asks EC2.
pub fn knocks(stage: &mut Stage) -> Result<Healed> {
    let lasting = Duration::from_secs(if stage.quick { 5 } else { 150 });
    let hub = stage.hub.public().context("the hub's address")?;
    let (forger, mut random) = (Forger::new(&stage.region.lab.internet().ns)?, File::open("/dev/urandom")?);
    let charon = stage.hub.charon_pid().context("the hub's charon")?;
    let memory = || status_kb(charon, "RssAnon").context("charon has ended");
    let calls = || stage.region.lab.ec2_calls().values().sum::<u64>();
    let request = ike_sa_init(&mut random)?;
    let before = calls();
    let mut attended = Attended::refreshed(stage.hub.clone());
    attended.first_pass()?;
    let (of_a_pass, at_first) = (calls() - before, memory()?);
    let (began, mut sent) = (Instant::now(), 0_u32);
    while began.elapsed() < lasting {
        let [_, high, middle, low] = sent.to_be_bytes();
        let from = Ipv4Addr::new(198, 18 + (high & 1), middle, low);
        forger.send(&udp((from, 500), (hub, 500), &request))?;
        sent += 1;
        thread::sleep((Duration::from_secs(1) / KNOCKS * sent).saturating_sub(began.elapsed()));
    }
    let rate = f64::from(sent) / began.elapsed().as_secs_f64();
    attended.end()?;
    let passes = attended.passes().len() - 1;
    let (most, asked) = (1 + lasting.as_secs() as usize / 60, calls() - before - of_a_pass);
    ensure!(passes <= most && asked <= of_a_pass * passes as u64, "{passes} passes and {asked} calls in {lasting:?}");
    // In a short one, another flood may have come a moment ago, for which it has asked already.
    ensure!(stage.quick || passes > 0, "nobody asked for a pass");
    Snapshot::of(&stage.hub)?.must_be(&stage.idle, "knocks")?;
    let grown = memory()?.saturating_sub(at_first);
    let how = format!(
        "{rate:.0} knocks a second for {} s, {passes} passes and {asked} calls of EC2, charon grew by {grown} kB",
        lasting.as_secs()
    );
    Healed::by(how, Duration::ZERO)
}

/// The victim becomes the attacker: it has its own key, and in the lab the shared one, and tries to pass for another gateway.
pub fn claim(stage: &mut Stage) -> Result<Healed> {
    let (evil, hub) = (stage.peer.first.clone(), stage.hub.clone());
    // keep would make its own tunnel in between.
    stage.keep(&evil, false)?;
    let lab = &stage.region.lab;
    let [a, c] = ["a", Peer::VPC].map(|name| lab.vpc_id(name));
    let (a, c) = (format!("{}/{}", a?, lab.gateway("a/nat-vpn")?.instance), format!("{}/{}", c?, evil.instance));
    let hub_eip = hub.public().context("the hub's address")?;
    let hub_id = hub_identity(&hub.read_file(crate::look::CONNECTIONS)?)?;
    let conn = |name: &str, id: &str, ts: &str| {
        format!(
            "connections {{ {name} {{
               version = 2
               local_addrs = {}
               remote_addrs = {hub_eip}
               encap = yes
               mobike = no
               local {{ auth = psk\n id = {id} }}
               remote {{ auth = psk\n id = {hub_id} }}
               children {{ {name} {{ local_ts = {ts}\n remote_ts = 10.0.0.0/8 }} }}
             }} }}
             secrets {{ ike-{name} {{ id-1 = {id}\n id-2 = {hub_id}\n secret = \"{}\" }} }}\n",
            evil.address,
            lab.psk(),
        )
    };
    // Itself, to see that the attempts are good ones; then another's identity, CIDR, both, and everything.
    let tries = [
        ("honest", &c, Peer::CIDR),
        ("evil-id", &a, "10.3.0.0/16"),
        ("evil-ts", &c, "10.1.0.0/16"),
        ("evil-all", &c, "0.0.0.0/0"),
        ("evil-both", &a, "10.1.0.0/16"),
    ];
    let text: String = tries.iter().map(|(name, id, ts)| conn(name, id, ts)).collect();
    evil.write_file(EVIL, &text, 0o600)?;
    evil.swanctl(&["--load-all", "--noprompt"])?;
    let name_of_c = lab.connection_to(&evil)?;
    let address = evil.public().context("the victim's address")?.to_string();
    let mut refused = 0;
    for (name, ..) in tries {
        let tried = evil.run("swanctl", &["--initiate", "--ike", name, "--child", name, "--timeout", "8"], "")?;
        (stage.say)(&format!("{name}: {}", tried.stdout.lines().last().unwrap_or_default()));
        ensure!(name != "honest" || tried.code == 0, "its own is refused, too: {}", show(&tried));
        refused += i32::from(tried.code != 0);
        // Whatever came of it: from that address only its own connection, and of that only its own CIDR.
        for sa in ask(&hub, async |vici| vici.sas().await)?.iter().filter(|sa| sa.remote_host == address) {
            ensure!(!sa.is_established() || sa.conn == name_of_c, "{name} became {sa:?}");
            let stolen = sa.children.iter().flat_map(|child| &child.remote_ts).find(|ts| *ts != Peer::CIDR);
            ensure!(stolen.is_none(), "{name} got {stolen:?}");
        }
        let towards = policies(&hub)?.into_iter().filter(|policy| policy.ends_with(" 10.1.0.0/16")).collect::<Vec<_>>();
        ensure!(towards == ["out 10.0.0.0/8 10.1.0.0/16"], "{name}: {towards:?}");
    }
    ensure!(refused >= 3, "only {refused} were refused");
    Snapshot::of(&hub)?.must_be(&stage.idle, "claims")?;
    // The victim is itself again.
    std::fs::remove_file(evil.path(EVIL))?;
    evil.swanctl(&["--load-all", "--noprompt"])?;
    for sa in ask(&evil, async |vici| vici.sas().await)? {
        ask(&evil, async |vici| vici.terminate(Sas::Ike(sa.id), true, Some(Duration::from_secs(2))).await)?;
    }
    stage.keep(&evil, true)?;
    let took = stage.until_it_reaches()?;
    let how = format!("{refused} of {} refused, nothing but its own CIDR for the rest", tries.len() - 1);
    Healed::by(format!("{how}; its own tunnel, keep"), took)
}

/// The hub's identity, as its rendered file has it.
fn hub_identity(conf: &str) -> Result<String> {
    let local = conf.split_once("local {").context("no local section")?.1;
    let id = local.lines().find_map(|line| line.trim().strip_prefix("id = ")).context("no identity")?;
    Ok(id.to_owned())
}

/// Handshake and packets of the victim's tunnel, in both directions, as an attacker on the path captures them.
pub fn replay(stage: &mut Stage) -> Result<Healed> {
    let (victim, hub) = (stage.peer.first.clone(), stage.hub.clone());
    let ends = [victim.public().context("no address")?, hub.public().context("no address")?];
    let internet = &stage.region.lab.internet().ns;
    let recorder = Recorder::start(internet, ends)?;
    for sa in sas(&victim)? {
        ask(&victim, async |vici| vici.terminate(Sas::Ike(sa.id), true, Some(Duration::from_secs(2))).await)?;
    }
    stage.until_it_reaches()?;
    let taken = recorder.stop()?;
    all_well(&stage.region, UP)?;
    // keep's own looks make no packets; pings of the settling have ended.
    thread::sleep(Duration::from_millis(500));
    let look = || {
        let mut all = Vec::new();
        for gateway in [&hub, &victim] {
            for sa in sas(gateway)?.into_iter().filter(|sa| ends.map(|e| e.to_string()).contains(&sa.remote_host)) {
                all.push((sa.id, sa.children.iter().map(|c| (c.id, c.bytes_in)).collect::<Vec<_>>()));
            }
        }
        Ok::<_, anyhow::Error>(all)
    };
    // Datagrams that the hub's kernel has handed to a socket.
    let heard = || -> Result<usize> {
        let count = hub.sh("awk '/^Udp: [0-9]/ { print $2 }' /proc/net/snmp")?.ok()?;
        Ok(count.stdout.trim().parse()?)
    };
    let (before, heard_before) = (look()?, heard()?);
    ensure!(taken.len() > 10 && before.len() == 2, "{} packets, {before:?}", taken.len());
    let forger = Forger::new(internet)?;
    for _ in 0..3 {
        for packet in &taken {
            forger.send(packet)?;
        }
        thread::sleep(Duration::from_secs(1));
    }
    let after = look()?;
    ensure!(
        after == before,
        "replays had an effect (IKE_SA, CHILD_SAs with bytes received): {before:?}, then {after:?}"
    );
    ensure!(heard()? >= heard_before + taken.len(), "the replays did not get to the hub");
    let took = stage.until_it_reaches()?;
    let how = format!("never broken: {} packets three times, no SA made, no packet accepted", taken.len());
    Healed::by(format!("{how}; first answer"), took)
}

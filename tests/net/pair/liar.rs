//! A client's gateway on which an attacker is root: it says to both hubs what it likes, with its own key and in its own tunnels.

use std::{
    ffi::OsString,
    io::ErrorKind,
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use crosswan_core::{
    model::PrivateKey,
    pair::{Exchange, FarEnd, LENGTH, Says, far_ends},
};
use crosswan_faults::{
    look::CONNECTIONS,
    pair::{
        CUT, SOON, are_well, believes,
        hubs::{Hubs, Residents, generation, place, up_tunnels},
    },
};
use crosswan_lab::Gateway;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

use super::hubs::{dies, lost_nothing};
use crate::region::{eventually, status};

const PORT: u16 = 4795;
const KEY: &str = "/etc/swanctl/private/crosswan.pem";
/// How long it says each lie.
const TIME: Duration = Duration::from_secs(4);
/// The answers to one end in a second: one each 20 ms at most.
const ANSWERS: u64 = 50;

struct Liar {
    key: PrivateKey,
    ends: Vec<(FarEnd, Exchange, UdpSocket)>,
    start: Instant,
}

impl Liar {
    /// In the place of this gateway's `crosswan pair`, which has ended.
    fn new(client: &Gateway, hubs: [&Gateway; 2]) -> Result<Liar> {
        let all = far_ends(&client.read_file(CONNECTIONS)?, false, |_| None);
        let mut ends = Vec::new();
        for (hub, n) in hubs.into_iter().zip(1..) {
            let at = place(client, hub)?;
            let end = all.iter().find(|end| end.place == at).context("no tunnel to a hub")?;
            let end = FarEnd { address: Some(hub.address), ..end.clone() };
            let socket = client.ns()?.run(|| to_hub(&end))?;
            ends.push((end, Exchange::new(0, [n; 32], u64::from(n)), socket));
        }
        let key = PrivateKey::parse(&client.read_file(KEY)?).context("its key")?;
        Ok(Liar { key, ends, start: Instant::now() })
    }

    /// Says this to both hubs for a while and asks for an answer each time, as often as it can. Returns how often they have answered.
    fn says(&mut self, says: Says) -> Result<u64> {
        let (began, mut answers) = (Instant::now(), 0);
        while began.elapsed() < TIME {
            for (end, exchange, socket) in &mut self.ends {
                let now = u64::try_from(self.start.elapsed().as_millis())?;
                exchange.ask(now);
                let beat = exchange.beat(now, says).context("a beat is due")?;
                let [own, other] = &end.ids;
                let datagram = beat.signed_in_tunnel(&self.key, own, other).context("a signature")?;
                let _ = socket.send_to(&datagram, (end.address.context("the hub's address")?, PORT));
                let mut bytes = [0; LENGTH + 1];
                loop {
                    match socket.recv(&mut bytes) {
                        Ok(length) => answers += u64::from(exchange.hear(now, &bytes[..length], end).is_ok()),
                        Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                        Err(e) => return Err(e.into()),
                    }
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(answers)
    }
}

/// As the agent's.
fn to_hub(end: &FarEnd) -> Result<UdpSocket> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(end.place.interface()))?;
    setsockopt(&fd, sockopt::Ipv4Ttl, &255)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(end.local, PORT)))?;
    Ok(UdpSocket::from(fd))
}

#[test]
fn a_client_that_lies_and_asks_without_end_moves_nothing_of_others_and_keeps_no_takeover_from_them() -> Result<()> {
    let mut hubs = Hubs::up()?;
    let (client, other) = (hubs.clients[0].clone(), hubs.clients[1].clone());
    // Its own `crosswan pair` has the port.
    hubs.residents.remove(&client.name);
    let mut liar = Liar::new(&client, [&hubs.one, &hubs.two])?;
    let honest = Says { interval: Duration::from_secs(5), follows: true, known: 1, ..Says::default() };
    let last = Says { follows: false, known: u32::MAX, ..honest };
    let before = generation(&other)?;
    let reports = hubs.pings(&[("b", "hub"), ("hub", "b")], || {
        for (lie, says) in [
            ("none", honest),
            ("it follows neither hub, and both have taken over for the last time", last),
            ("it follows both, and both have taken over for the last time", Says { follows: true, ..last }),
            ("it is the one to be used for its VPC", Says { holds: true, generation: u32::MAX, ..honest }),
            ("it has made way", Says { leaving: true, ..honest }),
        ] {
            let answers = liar.says(says)?;
            println!("liar: {lie}: {answers} answers in {TIME:?}");
            let most = 2 * ANSWERS * (TIME.as_secs() + 1);
            ensure!((1..=most).contains(&answers), "{lie}: {answers} answers, at most {most}");
        }
        Ok(())
    })?;
    lost_nothing("a client lied", &reports)?;
    ensure!(are_well([&hubs.one, &hubs.two])?);
    for hub in [&hubs.one, &hubs.two] {
        let pair = &status(hub)?["pair"];
        ensure!(pair["taken"].is_null(), "{pair:#}");
    }
    ensure!(hubs.vpc_leads_to(&hubs.one)? && hubs.client_leads_to(&other, &hubs.one)?);
    ensure!(generation(&other)? == before);

    // A takeover while it lies is the next one for the others, and not the last.
    thread::scope(|scope| {
        let lies = scope.spawn(|| liar.says(last));
        thread::sleep(TIME / 4);
        hubs.one.ns()?.nft(CUT)?;
        eventually(SOON, "the other client follows", || hubs.client_leads_to(&other, &hubs.two))?;
        lies.join().map_err(|_| anyhow::anyhow!("the liar panicked"))?
    })?;
    ensure!(generation(&other)? == before + 1, "{} after {before}", generation(&other)?);
    hubs.one.ns()?.nft("delete table ip cut")?;
    believes(&hubs.one, "alive")?;
    // And once it is honest, everybody comes back.
    drop(liar);
    hubs.residents.insert(client.name.clone(), Residents::of(&client)?);
    eventually(SOON, "it follows, too", || hubs.clients_lead_to(&hubs.two))?;
    hubs.forget_moves()?;
    believes(&hubs.one, "alive")?;
    believes(&hubs.two, "alive")?;
    eventually(SOON, "each client has a tunnel to both, and both hubs are well", || {
        let up = hubs.clients.iter().map(|client| up_tunnels(client)).collect::<Result<Vec<_>>>()?;
        Ok(up.iter().all(|up| *up == 2) && are_well([&hubs.two, &hubs.one])?)
    })?;
    dies(&hubs, &hubs.two, &hubs.one)
}

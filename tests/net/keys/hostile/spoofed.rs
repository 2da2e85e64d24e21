//! A spoke sends packets with a foreign source address through its own valid tunnel.
//!
//! Its charon would not do that, so they are encrypted here, with the session keys that a charon of the attacker's can reveal.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_faults::{
    faults::packets::{Forger, udp},
    look::ask,
};
use crosswan_lab::{Auth, Capture};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Evil, bystanders, undisturbed};
use crate::{
    region::{Region, UP, eventually},
    routes::packets::statistic,
};

/// The ports of the attacker's datagrams: the first is an honest one's.
const HONEST: u16 = 40000;

#[test]
fn a_spokes_packets_with_anothers_address_end_at_the_hub() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let evil = Evil::takes_over(&mut region, "a")?;
    let [a, b, b2, hub] = ["a/host", "b/host", "b/host-2", "hub/host"].map(|name| region.lab.host(name));
    let (a, b, b2, hub) = (a?, b?, b2?, hub?);
    let others = bystanders(&region, &[("b/host", "hub/host"), ("hub/host", "b/host-2")])?;
    let mut tunnel = Tunnel::of(&evil)?;
    let watched = [&b.ns, &b2.ns, &hub.ns, &evil.hub.ns()?].map(|ns| Capture::start(ns, Vec::new()));
    let internet = region.lab.internet().address;

    let before = statistic(&evil.hub, "XfrmInTmplMismatch")? + statistic(&evil.hub, "XfrmInNoPols")?;
    tunnel.sends((a.address, hub.address), HONEST)?;
    let spoofed = [
        (b.address, hub.address),
        (b2.address, hub.address),
        (hub.address, b.address),
        (evil.hub.address, b.address),
        (b.address, b2.address),
        ([10, 9, 9, 9].into(), hub.address),
        (internet, hub.address),
        (a.address, internet),
    ];
    for (n, between) in (1..).zip(spoofed) {
        tunnel.sends(between, HONEST + n)?;
    }
    tunnel.sends((a.address, b.address), HONEST)?;
    thread::sleep(Duration::from_secs(1));

    let [b, b2, hub, gateway] = watched.map(|capture| {
        let packets = capture?.stop()?.all;
        let ports = packets.iter().filter(|p| p.protocol == 17 && p.ports.0 >= HONEST).map(|p| p.ports.0);
        Ok::<_, anyhow::Error>(ports.collect::<Vec<_>>())
    });
    let (b, b2, hub, gateway) = (b?, b2?, hub?, gateway?);
    ensure!(hub == [HONEST] && b == [HONEST] && b2.is_empty(), "hub/host {hub:?}, b/host {b:?}, b/host-2 {b2:?}");
    // They come out of the interface, and go nowhere: the kernel checks them against the policies.
    ensure!(gateway.iter().filter(|port| **port == HONEST).count() >= 2, "behind the tunnel: {gateway:?}");
    let counts = ["XfrmInTmplMismatch", "XfrmInNoPols"].map(|name| statistic(&evil.hub, name));
    let [of_others, of_nobody] = counts;
    let counts = (of_others?, of_nobody?);
    println!("dropped with another tunnel's source {}, with a source in no tunnel {}", counts.0, counts.1);
    // One has the hub's own address, which no packet may have that comes from elsewhere: it does not get as far as the policies.
    ensure!(counts.0 + counts.1 == before + spoofed.len() as u64 - 1, "{counts:?}, before {before}");
    undisturbed(others, "packets were spoofed")
}

/// The attacker's way into its own CHILD_SA.
struct Tunnel {
    key: LessSafeKey,
    salt: [u8; 4],
    spi: [u8; 4],
    sequence: u32,
    forger: Forger,
    ends: [Ipv4Addr; 2],
}

impl Tunnel {
    /// Makes it again, with a charon that logs its keys.
    fn of(evil: &Evil) -> Result<Tunnel> {
        let gateway = &evil.gateway;
        let conf = gateway.read_file("/etc/strongswan.conf")?.replace("default = 1\n", "default = 1\n      chd = 4\n");
        gateway.write_file("/etc/strongswan.conf", &conf, 0o644)?;
        gateway.start_charon()?;
        gateway.swanctl(&["--initiate", "--child", "c-10-1-0-0-16", "--timeout", "10"])?;
        let up = || Ok(ask(gateway, async |vici| vici.sas().await)?.iter().flat_map(|sa| &sa.children).count() == 1);
        eventually(UP, "the attacker's tunnel", up)?;
        let listed = gateway.swanctl(&["--list-sas"])?;
        let out = listed.lines().find_map(|line| line.trim().strip_prefix("out ")).context("no SPI")?;
        let spi = u32::from_str_radix(out.trim().split([',', ' ']).next().unwrap_or_default(), 16)?.to_be_bytes();
        // "encryption initiator key => 36 bytes @ 0x…", then lines as "  16: 8B 1C …  ....".
        let log = gateway.charon_log();
        let dump = log.rsplit_once("encryption initiator key => 36 bytes").context("no key in charon's log")?.1;
        let bytes = dump.lines().skip(1).take(3).flat_map(|line| {
            let words = line.split_once(": ").map_or("", |(_, bytes)| bytes).split(' ');
            words.map_while(|word| u8::from_str_radix(word, 16).ok()).collect::<Vec<_>>()
        });
        let bytes: [u8; 36] = bytes.take(36).collect::<Vec<_>>().try_into().ok().context("not 36 bytes")?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes[..32]).ok().context("no key")?;
        Ok(Tunnel {
            key: LessSafeKey::new(key),
            salt: [bytes[32], bytes[33], bytes[34], bytes[35]],
            spi,
            sequence: 1_000_000,
            forger: Forger::new(&*gateway.ns()?)?,
            ends: [gateway.address, evil.hub.public().context("the hub's address")?],
        })
    }

    /// One datagram in ESP (RFC 4303, with AES-GCM by RFC 4106) in UDP.
    fn sends(&mut self, (from, to): (Ipv4Addr, Ipv4Addr), port: u16) -> Result<()> {
        self.sequence += 1;
        let mut plain = with_checksum(udp((from, port), (to, port), b"who am I?"));
        let padding = (4 - (plain.len() + 2) % 4) % 4;
        plain.extend((1..=padding as u8).chain([padding as u8, 4]));
        let head = [self.spi, self.sequence.to_be_bytes()].concat();
        let iv = u64::from(self.sequence).to_be_bytes();
        let nonce: [u8; 12] = [&self.salt[..], &iv].concat().try_into().ok().context("a nonce")?;
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&head), &mut plain)
            .ok()
            .context("seal")?;
        let [own, hub] = self.ends;
        self.forger.send(&udp((own, 4500), (hub, 4500), &[&head[..], &iv, &plain].concat()))
    }
}

/// An IPv4 packet that no kernel will complete.
fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

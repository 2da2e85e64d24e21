//! The kernel's SAs, as `ip` makes and removes them.

use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Duration,
};

use crosswan_core::traffic::{Count, KernelSa};
use crosswan_netlink::Sas;
use tokio::time::timeout;

use crate::space::{SOURCES, ip, space};

const PEER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

fn add(to: Ipv4Addr, spi: u32, rest: &str) {
    ip(&format!("xfrm state add {} mode tunnel {rest}", name(to, spi)));
}

fn name(to: Ipv4Addr, spi: u32) -> String {
    let from = if to == PEER { SOURCES[0] } else { PEER };
    format!("src {from} dst {to} proto esp spi {spi:#x}")
}

const KEY: &str = "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128";

fn sa(from: Ipv4Addr, to: Ipv4Addr, spi: u32) -> KernelSa {
    KernelSa { from, to, spi, count: Count::default() }
}

async fn told(sas: &Sas) {
    timeout(Duration::from_secs(2), sas.changed()).await.expect("a change is told").unwrap();
}

#[test]
fn crosswans_sas_are_listed_and_each_end_of_one_is_told_with_its_count() {
    space(async |_| {
        let mut sas = Sas::open().unwrap();
        assert_eq!(sas.list().await.unwrap(), []);
        add(PEER, 0x1000, &format!("{KEY} if_id 1"));
        add(SOURCES[0], 0x2000, &format!("{KEY} if_id 2"));
        // Of others: another interface, and none.
        add(PEER, 0x3000, &format!("{KEY} if_id 9"));
        add(PEER, 0x4000, KEY);
        let [out, back] = [sa(SOURCES[0], PEER, 0x1000), sa(PEER, SOURCES[0], 0x2000)];
        let mut listed = sas.list().await.unwrap();
        listed.sort_by_key(|sa| sa.spi);
        assert_eq!(listed, [out, back]);
        told(&sas).await;
        assert_eq!(sas.ended().unwrap(), (vec![], false), "what is made has not ended");
        for (to, spi) in [(PEER, 0x4000), (PEER, 0x1000), (PEER, 0x3000)] {
            ip(&format!("xfrm state delete {}", name(to, spi)));
        }
        told(&sas).await;
        assert_eq!(sas.ended().unwrap(), (vec![out], false));
        assert_eq!(sas.list().await.unwrap(), [back]);
        assert_eq!(sas.ended().unwrap(), (vec![], false));
    });
}

#[test]
fn three_thousand_sas_that_end_at_once_are_all_told() {
    space(async |_| {
        let mut sas = Sas::open().unwrap();
        let batch = |line: &dyn Fn(u32) -> String| {
            let lines: String = (1..=3000).map(|n| line(0x1000 + n) + "\n").collect();
            let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        };
        batch(&|spi| format!("xfrm state add {} mode tunnel {KEY} if_id 1", name(PEER, spi)));
        assert_eq!(sas.list().await.unwrap().len(), 3000);
        told(&sas).await;
        sas.ended().unwrap();
        batch(&|spi| format!("xfrm state delete {}", name(PEER, spi)));
        told(&sas).await;
        let (ended, missed) = sas.ended().unwrap();
        assert_eq!((ended.len(), missed), (3000, false));
        assert_eq!(sas.list().await.unwrap(), []);
    });
}

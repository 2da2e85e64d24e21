//! The proof that a gateway works: an IKE_SA without a child, beside the tunnel that is in use.

use std::time::{Duration, Instant};

use crosswan_core::{swanctl, system::Sa};
use crosswan_vici::Vici;
use tokio::time;

use crate::host::{Host, TIMEOUT};

const CHILD: &str = "c-10-1-0-0-16";
/// Addresses of the hub and of two gateways of one VPC.
const HUB: &str = "192.0.2.1";
const A: &str = "192.0.2.2";

/// One connection: `child` is whether it has one.
fn connection(name: &str, local: (&str, &str), remote: (&str, &str), selectors: Option<(&str, &str)>) -> String {
    let children = selectors.map_or(String::new(), |(local_ts, remote_ts)| {
        format!(
            "children {{ {CHILD} {{
        local_ts = {local_ts}
        remote_ts = {remote_ts}
        esp_proposals = aes256gcm16-x25519
        start_action = none
      }}
      }}"
        )
    });
    format!(
        "  {name} {{
    version = 2
    local_addrs = {}
    remote_addrs = {}
    mobike = no
    encap = yes
    unique = replace
    dpd_delay = 1s
    proposals = aes256gcm16-prfsha384-x25519
    local {{
      auth = psk
      id = {}
    }}
    remote {{
      auth = psk
      id = {}
    }}
    {children}
  }}
",
        local.0, remote.0, local.1, remote.1
    )
}

fn file(connections: &[String]) -> String {
    format!(
        "connections {{\n{}}}\nsecrets {{\n  ike-crosswan-x {{\n    secret = 0x616263646566ff\n  }}\n}}\n",
        connections.concat()
    )
}

async fn load(host: &Host, connections: &[String]) {
    let file = swanctl::parse(&file(connections)).unwrap();
    let mut vici = vici(host).await;
    for (id, shared) in &swanctl::secrets(&file).unwrap() {
        vici.load_shared(id, shared).await.unwrap();
    }
    for (name, conn) in &swanctl::connections(file) {
        vici.load_conn(name, conn).await.unwrap();
    }
}

async fn vici(host: &Host) -> Vici {
    Vici::connect(&host.socket(), TIMEOUT).await.unwrap()
}

/// Connection, state and installed children of every IKE_SA, by connection.
async fn shape(host: &Host) -> Vec<(String, String, usize)> {
    let shape = |sa: &Sa| (sa.conn.clone(), sa.state.clone(), sa.children.iter().filter(|c| c.is_up()).count());
    let mut shape: Vec<_> = vici(host).await.sas().await.unwrap().iter().map(shape).collect();
    shape.sort();
    shape
}

async fn until(host: &Host, expected: &[(&str, usize)]) {
    let start = Instant::now();
    let expected: Vec<_> =
        expected.iter().map(|(conn, children)| (conn.to_string(), "ESTABLISHED".to_string(), *children)).collect();
    loop {
        let shape = shape(host).await;
        if shape == expected {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{shape:?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

fn hub_and_gateway() -> (Host, Host) {
    let (hub, a) = (Host::with_charon(), Host::with_charon());
    Host::cable((&hub, HUB, "10.0.0.1/16"), (&a, A, "10.1.0.1/16"));
    (hub, a)
}

const INITIATE: Option<Duration> = Some(TIMEOUT);

/// A connection between the same two addresses whose ids differ proves a key, and leaves the tunnel alone.
#[tokio::test]
async fn a_proof_beside_a_tunnel_leaves_it_alone() {
    let (hub, a) = hub_and_gateway();
    let (id, next) = ("vpc-0a/i-0a", "vpc-0a/i-0a/next-0123456789ab");
    load(
        &hub,
        &[
            connection("crosswan-a", (HUB, HUB), (A, id), Some(("10.0.0.0/8", "10.1.0.0/16"))),
            connection("crosswan-a-next", (HUB, HUB), (A, next), None),
        ],
    )
    .await;
    load(
        &a,
        &[
            connection("crosswan-hub", (A, id), (HUB, HUB), Some(("10.1.0.0/16", "10.0.0.0/8"))),
            connection("crosswan-hub-next", (A, next), (HUB, HUB), None),
        ],
    )
    .await;
    vici(&a).await.initiate("crosswan-hub", Some(CHILD), INITIATE).await.unwrap();
    // The hub leaves an IKE_SA out of its list while it works on it.
    until(&hub, &[("crosswan-a", 1)]).await;
    let before: Vec<u32> = vici(&hub).await.sas().await.unwrap().iter().map(|sa| sa.id).collect();
    vici(&a).await.initiate("crosswan-hub-next", None, INITIATE).await.unwrap();
    until(&hub, &[("crosswan-a", 1), ("crosswan-a-next", 0)]).await;
    until(&a, &[("crosswan-hub", 1), ("crosswan-hub-next", 0)]).await;
    time::sleep(Duration::from_secs(3)).await;
    let after = vici(&hub).await.sas().await.unwrap();
    assert!(after.iter().any(|sa| before.contains(&sa.id) && sa.conn == "crosswan-a"), "{after:#?}");
    assert!(vici(&a).await.sas().await.unwrap().iter().all(|sa| sa.initiator), "the spoke initiated both");
    assert!(after.iter().all(|sa| !sa.initiator));
}

/// The hub holds a newcomer without a child, though that asks for one; the child comes over the same IKE_SA as soon as the
/// hub is told of it, from either end.
#[tokio::test]
async fn a_newcomer_waits_without_a_child_and_gets_it_over_the_same_ike_sa() {
    for from_hub in [true, false] {
        let (hub, a) = hub_and_gateway();
        let id = "vpc-0a/i-0a";
        let newcomer = connection("crosswan-a", (HUB, HUB), (A, id), None);
        load(&hub, &[newcomer]).await;
        load(&a, &[connection("crosswan-hub", (A, id), (HUB, HUB), Some(("10.1.0.0/16", "10.0.0.0/8")))]).await;
        let refused = vici(&a).await.initiate("crosswan-hub", Some(CHILD), INITIATE).await.unwrap_err();
        eprintln!("refused: {}", refused.chain());
        until(&hub, &[("crosswan-a", 0)]).await;
        until(&a, &[("crosswan-hub", 0)]).await;
        let before = vici(&hub).await.sas().await.unwrap()[0].id;
        load(&hub, &[connection("crosswan-a", (HUB, HUB), (A, id), Some(("10.0.0.0/8", "10.1.0.0/16")))]).await;
        let (end, conn) = if from_hub { (&hub, "crosswan-a") } else { (&a, "crosswan-hub") };
        vici(end).await.initiate(conn, Some(CHILD), INITIATE).await.unwrap();
        until(&hub, &[("crosswan-a", 1)]).await;
        assert_eq!(vici(&hub).await.sas().await.unwrap()[0].id, before, "over the same IKE_SA");
    }
}

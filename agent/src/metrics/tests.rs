use serde_json::json;

use super::*;
use crate::{
    status::{ChildStatus, NatStatus},
    watch::PutBack,
};
use crosswan_core::{
    model::Place,
    pair::{PairStatus, Takeovers},
    report::FailedPass,
    system::{Conntrack, Followed, Followee},
    traffic::KernelSa,
};

const A: &str = "crosswan-vpc-0a0000000000000aa-i-0a0000000000000a1";
const B: &str = "crosswan-vpc-0b0000000000000bb-i-0b0000000000000b1";
const B_TOO: &str = "crosswan-vpc-0b0000000000000bb-i-0b0000000000000b2";

fn report() -> Report {
    let tunnel = |vpc: &str, remote: &str| json!({"vpc": vpc, "remote": remote, "remote_cidrs": [], "local_cidrs": []});
    let refused = json!({"region": "eu-west-1", "vpc": null, "instance": null, "cidr": null, "reason": "not in a VPC"});
    let mut in_prod = tunnel("vpc-0a0000000000000aa", "203.0.113.1");
    in_prod["segment"] = json!({"segment": "prod"});
    let report = json!({
        "at": 1_700_000_000, "version": "0.1", "mode": "vpn-hub", "outcome": "unchanged",
        "me": {"instance": "i-0c0000000000000c1", "region": "us-west-2", "vpc": "vpc-0c0000000000000cc",
               "cidrs": ["10.0.0.0/16"], "private": "10.0.0.10", "public": "198.51.100.1"},
        "regions": {"eu-west-1": {"gateways": 3, "failed": null, "answered": 1_700_000_000},
                    "us-west-2": {"gateways": 1, "failed": "throttled", "answered": 1_699_990_000}},
        "tunnels": {A: in_prod, B: tunnel("vpc-0b0000000000000bb", "203.0.113.2"),
                    B_TOO: tunnel("vpc-0b0000000000000bb", "203.0.113.3")},
        "refused": [refused], "kept": [], "removed": [], "steps": [], "problems": [], "notes": [], "waiting_for": null,
        "held": {"would_remove": 4, "of": 5, "hold_above": 50}, "unasked": [], "awaited": ["i-1"],
        "address": {"waits": "another instance has it"},
        "routes": [{"table": "rtb-0a0000000000000a1", "to": "10.0.0.0/8", "is": "here"},
                   {"table": "rtb-0a0000000000000a1", "to": "0.0.0.0/0", "is": {"left": "leads to a peering"}}],
    });
    serde_json::from_value(report).unwrap()
}

fn tunnel(connection: &str, up: bool, stands_by: bool) -> TunnelStatus {
    let child = |name: &str, installed| ChildStatus {
        name: name.into(),
        local: vec![],
        remote: vec![],
        installed,
        bytes_in: 1,
        bytes_out: 2,
    };
    TunnelStatus {
        connection: connection.into(),
        loaded: Some(true),
        up: Some(up),
        stands_by,
        remote: Some("203.0.113.9".into()),
        established: up.then_some(100),
        children: vec![child("one", true), child("two", up)],
    }
}

/// Of a hub it is none; the measurement does not ask for the mode.
fn pair() -> PairStatus {
    let taken = serde_json::json!({
        "at": 1_700_000_200, "from": "i-0000000c", "routes": ["0.0.0.0/0 of rtb-0000000c"], "silent_ms": 410, "calls_ms": 90
    });
    let status = serde_json::json!({
        "at": 1_700_000_599, "member": "i-0000000c", "address": "10.0.0.12", "state": "dead", "judgement": "dead",
        "own_health": "well", "role": "active", "refused": {}, "taken": taken
    });
    serde_json::from_value(status).unwrap()
}

/// The one that stands by in VPC B is followed, and what A's said no longer counts.
fn followed() -> Followed {
    let mut followed = Followed::default();
    for (party, connection, overruled) in [("a", A, true), ("b", B_TOO, false)] {
        let connection = connection.parse().unwrap();
        let (place, networks, at) = (Place::Two, Default::default(), Timestamp(1_700_000_300));
        followed.follow(party, Followee { connection, place, generation: 4, networks, at, overruled });
    }
    followed
}

fn status() -> Status {
    Status {
        last_refresh: Some(report()),
        age: Some(600),
        now: 1_700_000_600,
        last_failure: None,
        tunnels: vec![tunnel(A, true, false), tunnel(B, false, false), tunnel(B_TOO, true, true)],
        nat: NatStatus { in_force: Some(true), rules: vec![], mismatches: vec![] },
        stopped: vec![],
        put_back: Some(PutBack { at: Timestamp(1_700_000_100), what: "a rule".into() }),
        pair: Some(pair()),
        takeovers: Takeovers::of(pair().taken, "", 0),
        followed: followed(),
        conntrack: Some(Conntrack { entries: 12, max: 262_144, dropped: 3, raced: 0 }),
        charon: Some("5.9.8".into()),
        unasked: vec![],
    }
}

fn traffic(at: i64) -> Traffic {
    let hub = Ipv4Addr::new(10, 0, 0, 10);
    let sa = |from, to, spi, bytes| KernelSa { from, to, spi, count: Count { bytes, packets: bytes / 100 } };
    let peer = |n| Ipv4Addr::new(203, 0, 113, n);
    let mut traffic = Traffic::default();
    traffic.look(Timestamp(at), vec![sa(peer(1), hub, 1, 5000), sa(hub, peer(1), 2, 700)], &[sa(peer(1), hub, 3, 100)]);
    traffic
}

#[test]
fn a_hub_measures_what_it_has_read_and_names_each_peer() {
    let text = of(&status(), Some(&traffic(1_700_000_590)), Some(Timestamp(1_700_000_001))).text();
    let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"crosswan_address_awaited 1
crosswan_build_info{{version="{version}",mode="vpn-hub"}} 1
crosswan_charon_up 1
crosswan_discovery_answer_timestamp_seconds{{region="eu-west-1"}} 1700000000
crosswan_discovery_answer_timestamp_seconds{{region="us-west-2"}} 1699990000
crosswan_discovery_gateways{{region="eu-west-1"}} 3
crosswan_discovery_gateways{{region="us-west-2"}} 1
crosswan_discovery_up{{region="eu-west-1"}} 1
crosswan_discovery_up{{region="us-west-2"}} 0
crosswan_forwarding_problems 0
crosswan_keys_awaited 1
crosswan_look_timestamp_seconds 1700000600
crosswan_nat_conntrack_dropped_total 3
crosswan_nat_conntrack_entries 12
crosswan_nat_conntrack_limit 262144
crosswan_pair_active 1
crosswan_pair_followed_generation{{vpc="vpc-0b0000000000000bb",instance="i-0b0000000000000b2"}} 4
crosswan_pair_followed_timestamp_seconds{{vpc="vpc-0b0000000000000bb",instance="i-0b0000000000000b2"}} 1700000300
crosswan_pair_member_up{{member="i-0000000c"}} 0
crosswan_pair_takeover_timestamp_seconds 1700000200
A children{{state="installed"}} 2
A children{{state="wanted"}} 2
B children{{state="installed"}} 1
B children{{state="wanted"}} 2
C children{{state="installed"}} 2
C children{{state="wanted"}} 2
A established_timestamp_seconds 1700000500
C established_timestamp_seconds 1700000500
A in_use 1
B in_use 1
C in_use 0
A receive_bytes_total 5100
B receive_bytes_total 0
C receive_bytes_total 0
A receive_packets_total 51
B receive_packets_total 0
C receive_packets_total 0
A segment_info{{segment="prod"}} 1
A transmit_bytes_total 700
B transmit_bytes_total 0
C transmit_bytes_total 0
A transmit_packets_total 7
B transmit_packets_total 0
C transmit_packets_total 0
A up 1
B up 0
C up 1
crosswan_peers_failed 0
crosswan_peers_held 4
crosswan_peers_kept 0
crosswan_peers_refused 1
crosswan_refresh_last_exit_code 3
crosswan_refresh_last_success_timestamp_seconds 1700000001
crosswan_refresh_last_timestamp_seconds 1700000000
crosswan_route_owned{{route_table="rtb-0a0000000000000a1",destination="0.0.0.0/0"}} 0
crosswan_route_owned{{route_table="rtb-0a0000000000000a1",destination="10.0.0.0/8"}} 1
crosswan_rules_in_force 1
crosswan_rules_put_back_timestamp_seconds 1700000100
crosswan_traffic_missed_total 0
crosswan_traffic_timestamp_seconds 1700000590
crosswan_unasked 0"#
    );
    let short = |line: &str| {
        let peers = [("A", "a", "a1"), ("B", "b", "b1"), ("C", "b", "b2")];
        peers.iter().fold(line.to_owned(), |line, (short, vpc, instance)| {
            let (vpc, instance) =
                (format!("vpc-0{vpc}0000000000000{vpc}{vpc}"), format!("i-0{}0000000000000{instance}", &vpc));
            let labels = format!("peer_vpc=\"{vpc}\",peer=\"{instance}\"");
            match line.strip_prefix("crosswan_peer_") {
                Some(rest) if rest.contains(&labels) => {
                    format!("{short} {}", rest.replace(&format!("{labels},"), "").replace(&format!("{{{labels}}}"), ""))
                }
                _ => line,
            }
        })
    };
    let found: Vec<String> = values.into_iter().map(short).collect();
    assert_eq!(found.join("\n"), expected);
    // Each metric but what only a lack shows has been seen, with its help.
    assert!(ALL.iter().all(|metric| text.contains(&format!("# HELP crosswan_{} ", metric.name))), "{text}");
}

#[test]
fn what_could_not_be_read_is_missing_and_never_0() {
    let names = |status: &Status, traffic: Option<&Traffic>| of(status, traffic, None).text();
    // Counters of a watch that does not run any more.
    let stale = names(&status(), Some(&traffic(1_700_000_000)));
    assert!(
        !stale.contains("_bytes_total") && stale.contains("crosswan_traffic_timestamp_seconds 1700000000"),
        "{stale}"
    );
    assert!(!stale.contains("last_success"), "{stale}");
    let away = TunnelStatus { loaded: None, up: None, established: None, children: vec![], ..tunnel(A, true, false) };
    let unknown = Status {
        charon: None,
        tunnels: vec![away],
        nat: NatStatus { in_force: None, rules: vec![], mismatches: vec![] },
        pair: None,
        takeovers: Takeovers::default(),
        followed: Followed::default(),
        conntrack: None,
        unasked: vec!["iptables".into(), "charon".into()],
        ..status()
    };
    let text = names(&unknown, None);
    for missing in ["peer_up", "peer_children", "established", "rules_in_force", "conntrack", "problems", "traffic"] {
        assert!(!text.contains(missing), "{missing}: {text}");
    }
    assert!(text.contains("crosswan_unasked 2") && text.contains("crosswan_charon_up 0"), "{text}");
    let booted = Status { last_refresh: None, tunnels: vec![], ..unknown };
    let text = names(&booted, None);
    for missing in ["discovery", "refresh", "peer", "keys", "route", "address"] {
        assert!(!text.contains(&format!("crosswan_{missing}")), "{missing}: {text}");
    }
}

#[test]
fn a_pass_without_a_report_is_the_last_one_until_one_has_reported() {
    let failed = FailedPass { at: Timestamp(1_700_000_500), exit_code: 2, error: "a setting".into() };
    let text = of(&Status { last_failure: Some(failed), ..status() }, None, None).text();
    assert!(text.contains("crosswan_refresh_last_exit_code 2\n"), "{text}");
    assert!(text.contains("crosswan_refresh_last_timestamp_seconds 1700000500\n"), "{text}");
}

#[test]
fn two_tunnels_with_one_address_do_not_count_its_packets_twice() {
    let mut status = status();
    status.last_refresh.as_mut().unwrap().tunnels.get_mut(B_TOO).unwrap().remote = Ipv4Addr::new(203, 0, 113, 1);
    status.tunnels.reverse();
    let text = of(&status, Some(&traffic(1_700_000_600)), None).text();
    let counted: Vec<&str> =
        text.lines().filter(|line| line.starts_with("crosswan_peer_receive_bytes_total{")).collect();
    assert_eq!(counted.len(), 2, "{counted:#?}");
    assert!(counted[0].contains("vpc-0a0000000000000aa") && counted[0].ends_with(" 5100"), "{counted:#?}");
}

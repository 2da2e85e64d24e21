use super::*;
use crosswan_core::forwarding::{Sysctl, sysctl_problems};

const HEADER: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

#[test]
fn default_route_of_lowest_metric() {
    let ens5 = "ens5\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
    let ens6 = "ens6\t00000000\t0100010A\t0003\t0\t0\t20\t00000000\t0\t0\t0\n";
    let connected = "ens7\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
    let half = "ens8\t00000000\t0100000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n";
    let unreachable = "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n";
    let down = "ens9\t00000000\t0100000A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n";
    let hostile = "en\"s\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    let broken = "ens5\t00000000\nens5\t00000000\t0\tzz\t0\t0\t-\t00000000\n";
    for (routes, expected) in [
        (vec![ens5], Ok("ens5")),
        (vec![ens5, ens6], Ok("ens6")),
        (vec![connected, half, unreachable, down, broken, ens5], Ok("ens5")),
        (vec![connected, half, unreachable, down, broken], Err("there is no default route")),
        (vec![], Err("there is no default route")),
        (vec![hostile], Err("expected an interface name such as ens5, found \"en\\\"s\"")),
    ] {
        match (parse_default_route(&(HEADER.to_owned() + &routes.concat())), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_str(), expected),
            (Err(e), Err(expected)) => assert!(e.chain().contains(expected), "{}", e.chain()),
            (found, expected) => panic!("{routes:?}: expected {expected:?}, found {found:?}"),
        }
    }
}

#[test]
fn sysctls_that_break_a_gateway_are_named_with_their_remedy() {
    let keys = [
        "ip_forward",
        "conf.all.rp_filter",
        "conf.ens5.rp_filter",
        "conf.all.send_redirects",
        "conf.ens5.send_redirects",
    ];
    for (values, remedies) in [
        (["1", "0", "0", "0", "0"], vec![]),
        (["1", "0", "2", "0", "0"], vec![]),
        (["1", "2", "1", "0", "0"], vec![]),
        (["1", "0", "1", "0", "0"], vec!["net.ipv4.conf.all.rp_filter=2"]),
        (["1", "1", "0", "0", "0"], vec!["net.ipv4.conf.all.rp_filter=2"]),
        (["1", "1", "2", "0", "0"], vec![]),
        (["1", "0", "0", "0", "1"], vec!["net.ipv4.conf.ens5.send_redirects=0"]),
        (["1", "0", "0", "1", "0"], vec!["net.ipv4.conf.all.send_redirects=0"]),
        (["0", "0", "0", "0", "0"], vec!["net.ipv4.ip_forward=1"]),
        (["\u{1b}", "0", "0", "0", "0"], vec!["net.ipv4.ip_forward=1"]),
    ] {
        let sysctls: Vec<_> = keys
            .iter()
            .zip(values)
            .map(|(key, value)| Sysctl { key: format!("net.ipv4.{key}"), value: value.into() })
            .collect();
        let problems = sysctl_problems(&sysctls);
        assert_eq!(problems.len(), remedies.len(), "{values:?}: {problems:?}");
        for ((_, problem), remedy) in problems.iter().zip(remedies) {
            let problem = problem.to_string();
            assert!(problem.ends_with(&format!("sysctl -w {remedy}")) && !problem.contains('\u{1b}'), "{problem}");
        }
    }
}

#[test]
fn sysctls_are_read_and_an_absent_interface_has_none() {
    let names = ["lo".to_owned(), "no-such.1".to_owned()];
    let found = sysctls(&"lo".parse().unwrap(), names.iter()).unwrap();
    let keys: Vec<_> = found.iter().map(|s| s.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "net.ipv4.ip_forward",
            "net.ipv4.conf.all.rp_filter",
            "net.ipv4.conf.all.send_redirects",
            "net.ipv4.conf.lo.rp_filter",
            "net.ipv4.conf.lo.send_redirects"
        ]
    );
    assert!(found.iter().all(|s| s.value.parse::<u8>().is_ok()), "{found:?}");
    assert_eq!(sysctl::dotted("net/ipv4/conf/ens5.100/rp_filter"), "net.ipv4.conf.ens5/100.rp_filter");
}

#[tokio::test]
async fn a_program_is_bounded_and_its_failure_says_why() {
    let soon = Duration::from_secs(10);
    assert_eq!(run(Kind::Observe, &["cat"], &"x".repeat(1 << 20), soon).await.unwrap().len(), 1 << 20);

    let missing = run(Kind::Observe, &["iptables-no-such"], "", soon).await.unwrap_err();
    assert_eq!(
        missing.chain(),
        "run iptables-no-such: not found on PATH or in /usr/local/sbin, /usr/sbin, /sbin; install the package iptables"
    );

    let bad =
        run(Kind::Apply, &["sh", "-c", "echo \"line 3: \u{1b}[1m\" >&2; exit 2"], "unread", soon).await.unwrap_err();
    assert_eq!(bad.kind(), Kind::Apply);
    assert!(bad.chain().ends_with("exit status: 2: line 3: \\u{1b}[1m"), "{}", bad.chain());

    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("echo $$ > {}; exec sleep 60", file.path().display());
    let slow = run(Kind::Observe, &["sh", "-c", &script], "", Duration::from_millis(300)).await.unwrap_err();
    assert!(slow.chain().ends_with("no answer within 300ms; killed"), "{}", slow.chain());
    let pid = std::fs::read_to_string(file.path()).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if state().is_empty() {
            return;
        }
    }
    panic!("still running: {}", state());
}

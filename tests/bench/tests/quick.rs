//! The harness works: every benchmark runs at a tiny size, counts right, and leaves results that read. No time is judged.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `CROSSWAN_BIN`, else the agent that `cargo test --workspace` builds beside this test.
fn agent() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("crosswan");
    let agent = std::env::var_os("CROSSWAN_BIN").map_or_else(beside, PathBuf::from);
    assert!(agent.exists(), "{} does not exist: make build", agent.display());
    agent
}

/// Runs these benchmarks and returns `results.md`.
fn bench(out: &Path, names: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosswan-bench"));
    let output = command.env("CROSSWAN_BIN", agent()).args(["--quick", "--out"]).arg(out).args(names).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(out.join("results.md")).unwrap()
}

/// The cells of the table row that begins so, below the header that begins so.
fn row<'t>(text: &'t str, header: &str, first: &str) -> Vec<&'t str> {
    let table = &text[text.find(header).unwrap_or_else(|| panic!("no table {header} in\n{text}"))..];
    let line = table.lines().find(|line| line.starts_with(&format!("| {first} |")));
    line.unwrap_or_else(|| panic!("no row {first} in\n{table}")).trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn every_benchmark_runs_counts_and_leaves_its_results() {
    let out = tempfile::tempdir().unwrap();
    bench(out.path(), &["asking"]);
    let text = bench(out.path(), &["peers", "keys", "regions", "accounts", "restart"]);

    // A page of instances in each of 8 regions, VPCs in those that have any, and the hub's own tag; the boto3 poller needs
    // all but the last.
    for (peers, calls, poller) in [("3", "12", "11"), ("20", "17", "16")] {
        let idle = row(&text, "| peers | EC2 calls |", peers);
        assert_eq!((idle[1], idle[11]), (calls, poller), "EC2 calls of crosswan and of the poller");
        assert_eq!(
            idle[2], "7",
            "VICI: version, algorithms, connections, shared and private keys, SAs and their number"
        );
        let changed = row(&text, "| peers | load-conn |", peers);
        // A look before, the load, a look after.
        assert_eq!((changed[1], changed[2]), ("1", "15"), "VICI requests for one changed peer");
    }
    for hub in ["2 peers, raw keys", "10 peers, raw keys", "10 peers, pre-shared key"] {
        let memory = row(&text, "| hub | n |", hub);
        assert_eq!(memory[5].matches(" MB").count(), 2, "{hub}: memory after each load-all");
    }
    for hub in ["crosswan keep", "charon alone"] {
        let restart = row(&text, "| hub |", hub);
        assert_eq!((restart[6], restart[7]), ("4", "4"), "IKE_SAs and CHILD_SAs of {hub}");
    }
    assert!(!text.contains("not all"), "{text}");
    assert_eq!(text.matches("not judged").count(), 8, "{text}");

    for (file, lines) in [("time", 4), ("memory", 3), ("stages", 4), ("keys", 6), ("regions", 3), ("restart", 2)] {
        let name = format!("{file}.svg");
        assert!(text.contains(&format!("]({name})")), "{name} is not shown");
        let svg = std::fs::read_to_string(out.path().join(&name)).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{name}: {e}"));
        let drawn = document.descendants().filter(|node| node.has_tag_name("polyline"));
        assert_eq!(drawn.count(), lines, "{name}");
    }

    // One section anew: the others stay, in their order.
    let again = bench(out.path(), &["size"]);
    let sections: Vec<&str> = again.lines().filter(|line| line.starts_with("## ")).collect();
    let names: Vec<&str> = sections.iter().map(|line| line[3..].split(':').next().unwrap()).collect();
    assert_eq!(names, ["size", "peers", "keys", "regions", "asking", "accounts", "restart"]);
    assert!(again.contains(&text[text.find("## peers").unwrap()..]), "a section has changed:\n{again}");
}

#[test]
fn throughput_is_measured_of_every_variant() {
    let out = tempfile::tempdir().unwrap();
    let text = bench(out.path(), &["throughput"]);
    for variant in [
        "nat-vpn",
        "fck-nat",
        "no rules",
        "nat-vpn with its tunnels' routes",
        "crosswan",
        "plain swanctl",
        "WireGuard",
        "2 tunnels",
        "10 tunnels",
        "2 tunnels, 50 segments",
    ] {
        let rate: f64 = row(&text, "| variant |", variant)[2].parse().unwrap();
        assert!(rate > 0.0, "{variant}: {text}");
    }
    assert_eq!(text.matches("not judged").count(), 3, "{text}");
}

#[test]
fn a_gateway_that_is_gone_is_replaced_and_each_time_is_measured() {
    let out = tempfile::tempdir().unwrap();
    let text = bench(out.path(), &["replacement"]);
    for gateway in ["nat-vpn", "vpn-hub"] {
        let row = row(&text, "| new gateway |", &format!("{gateway} | refreshed once"));
        assert_eq!(row[2] == "–", gateway == "vpn-hub", "{text}");
        assert!(row[3].trim_end_matches(" s").parse::<f64>().unwrap() > 0.0, "{text}");
    }
}

#[test]
fn a_vpc_that_is_new_joins_by_itself() {
    let out = tempfile::tempdir().unwrap();
    let text = bench(out.path(), &["joins"]);
    let row = row(
        &text,
        "| work | budget |",
        "a new VPC's first packet to the hub's VPC, from the end of its gateway's first refresh",
    );
    assert!(row[3].trim_end_matches(" s").parse::<f64>().unwrap() > 0.0, "{text}");
}

#[test]
fn a_cast_is_measured_beside_a_script_that_makes_as_many_calls() {
    let out = tempfile::tempdir().unwrap();
    let text = bench(out.path(), &["cast"]);
    let calls = |program: &str| {
        let row = row(&text, "| program | changes |", program);
        [1, 2].map(|column| row[column].parse::<u64>().unwrap())
    };
    let ([changes, questions], script) = (calls("cloudcaster cast"), calls("boto3 script"));
    assert!(changes > 40 && script[0] == changes, "{text}");
    // While it waits each asks by its own clock.
    assert!(questions > 40 && script[1].abs_diff(questions) < questions / 4, "{text}");
    assert_eq!(text.matches("not judged").count(), 2, "{text}");
}

#[test]
fn a_hub_that_dies_is_measured_beside_one_that_only_stands_by() {
    let out = tempfile::tempdir().unwrap();
    let text = bench(out.path(), &["hubs"]);
    let ways = |what| row(&text, "| what | a to b |", what)[1..5].to_vec();
    for what in ["hub/vpn-hub dies, EC2 0 s", "hub/vpn-hub-2 dies, EC2 0 s", "cold standby"] {
        let seconds = ways(what).into_iter().map(|way| way.trim_end_matches(" s").parse::<f64>().unwrap());
        assert!(seconds.into_iter().all(|seconds| seconds > 0.0), "{text}");
    }
    assert_eq!(text.matches("not judged").count(), 5, "{text}");
}

#[test]
fn a_member_that_dies_is_measured_beside_one_that_only_stands_by() {
    let out = tempfile::tempdir().unwrap();
    let text = bench(out.path(), &["pair"]);
    let seconds = |what, columns: std::ops::Range<usize>| {
        let row = row(&text, "| what | new connection |", what)[columns].to_vec();
        row.into_iter().map(|cell| cell.trim_end_matches(" s").parse::<f64>().unwrap()).collect::<Vec<_>>()
    };
    for (what, columns) in
        [("nat-vpn, EC2 0 s, death 1", 1..4), ("nat-hub, EC2 0 s, death 1", 1..2), ("cold standby", 1..4)]
    {
        let seconds = seconds(what, columns);
        assert!(seconds.iter().all(|seconds| *seconds > 0.0), "{what}: {seconds:?}\n{text}");
    }
    assert_eq!(text.matches("not judged").count(), 9, "{text}");
}

//! `docs/monitoring` lists every measurement, and its alerts are raised when they should be.

#![allow(clippy::disallowed_methods, reason = "a test runs promtool on copies of the rules")]

use std::{fs, path::Path, process::Command};

use crosswan_core::metrics::table::ALL;

use crate::{none_wrong, root};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_measurement_and_no_other_is_in_the_document() {
    let text = read("docs/monitoring/README.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `") && line.ends_with(". |")).collect();
    let is = |row: &str, name: &str, help: &str| {
        row.starts_with(&format!("| `{name}` |")) && row.ends_with(&format!("| {help} |"))
    };
    let missing = ALL.iter().filter(|metric| !rows.iter().any(|row| is(row, metric.name, metric.help)));
    let mut wrong: Vec<String> = missing.map(|metric| format!("| `{}` | | {} |", metric.name, metric.help)).collect();
    let known = |row: &&&str| ALL.iter().any(|metric| is(row, metric.name, metric.help));
    wrong.extend(rows.iter().filter(|row| !known(row)).map(|row| format!("there is no such measurement: {row}")));
    none_wrong(&wrong);
}

/// The names of measurements in a text, without `crosswan_`.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split("crosswan_").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn alerts_and_dashboard_use_measurements_that_exist() {
    for path in ["docs/monitoring/alerts.yml", "docs/monitoring/dashboard.json", "tests/docs/alerts.yml"] {
        let text = read(path);
        let unknown: Vec<String> = named(&text)
            .filter(|name| !ALL.iter().any(|metric| metric.name == *name))
            .map(|name| format!("{path}: there is no crosswan_{name}"))
            .collect();
        none_wrong(&unknown);
        assert!(named(&text).count() > 10, "{path}: the search overlooks some");
    }
}

/// What promtool says to the tests, with these alerts in place of those of the repository, and whether it is content.
fn promtool(alerts: &str, dir: &Path) -> (bool, String) {
    fs::write(dir.join("alerts.yml"), alerts).unwrap();
    let cases = read("tests/docs/alerts.yml").replace("../../docs/monitoring/alerts.yml", "alerts.yml");
    fs::write(dir.join("cases.yml"), cases).unwrap();
    let out = Command::new("promtool").args(["test", "rules", "cases.yml"]).current_dir(dir).output();
    let out = out.expect("promtool, of Debian's package prometheus, is needed: tests/setup/debian.sh fuzz");
    (out.status.success(), [out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
}

#[test]
fn each_alert_is_raised_when_it_should_be_and_only_then() {
    let (dir, alerts) = (tempfile::tempdir().unwrap(), read("docs/monitoring/alerts.yml"));
    let (content, said) = promtool(&alerts, dir.path());
    assert!(content, "{said}");
    let rules: Vec<&str> = alerts.split("      - alert: ").collect();
    assert!(rules.len() > 10, "{alerts}");
    for n in 1..rules.len() {
        // Each would be missed: by the tests that want it raised, and by those that want it quiet.
        for expression in ["vector(1) < 0", "max(last_over_time({__name__=~\"crosswan_.*\"}[1h])) > -1"] {
            let mut changed: Vec<String> = rules.iter().map(ToString::to_string).collect();
            let (name, rest) = rules[n].split_once('\n').unwrap();
            let rest = &rest[rest.find("        labels:").unwrap()..];
            changed[n] = format!("{name}\n        expr: {expression:?}\n{rest}");
            let (content, _) = promtool(&changed.join("      - alert: "), dir.path());
            assert!(!content, "no test minds that {name} is {expression}");
        }
    }
}

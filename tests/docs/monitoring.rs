//! `docs/monitoring` lists every measurement.

use std::fs;

use crosswan_core::metrics::table::ALL;

use crate::{none_wrong, root};

#[test]
fn every_measurement_and_no_other_is_in_the_document() {
    let text = fs::read_to_string(root().join("docs/monitoring/README.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `") && line.ends_with(". |")).collect();
    let of = |row: &&&str, name: &str, help: &str| {
        row.starts_with(&format!("| `{name}` |")) && row.ends_with(&format!("| {help} |"))
    };
    let missing = ALL.iter().filter(|metric| !rows.iter().any(|row| of(&row, metric.name, metric.help)));
    let mut wrong: Vec<String> = missing.map(|metric| format!("| `{}` | | {} |", metric.name, metric.help)).collect();
    let known = |row: &&&str| ALL.iter().any(|metric| of(row, metric.name, metric.help));
    wrong.extend(rows.iter().filter(|row| !known(row)).map(|row| format!("there is no such measurement: {row}")));
    none_wrong(&wrong);
}

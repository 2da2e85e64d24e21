//! Measurements in the text format of Prometheus (version 0.0.4), which node_exporter's textfile collector reads, too.
//!
//! What is measured is decided by whoever looks; the form is here, so that no measurement can break it.

pub mod table;

use std::{collections::BTreeMap, fmt::Write};

use crate::model::Timestamp;

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// It goes up and down.
    Gauge,
    /// It only grows, until what counts starts anew.
    Counter,
}

/// A measurement's name, type and help: a row of the table that lists them all.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name without the prefix `crosswan_`, with its unit, and `_total` if it is a counter.
    pub name: &'static str,
    /// What its numbers are.
    pub is: Type,
    /// What it says, in a phrase without a backslash or a line break.
    pub help: &'static str,
}

/// Labels with their values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Measurements of one look. What could not be read is simply not in it.
#[derive(Debug, Clone, Default)]
pub struct Exposition(BTreeMap<&'static str, (Metric, BTreeMap<String, f64>)>);

impl Exposition {
    /// Adds a measurement. Of two with the same labels the last counts: Prometheus would refuse both.
    pub fn add(&mut self, metric: Metric, labels: Labels<'_>, value: f64) {
        let text: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if text.is_empty() { String::new() } else { format!("{{{}}}", text.join(",")) };
        self.0.entry(metric.name).or_insert_with(|| (metric, BTreeMap::new())).1.insert(labels, value);
    }

    /// As [`Exposition::add`], for a value that may not be known.
    pub fn add_known(&mut self, metric: Metric, labels: Labels<'_>, value: Option<f64>) {
        if let Some(value) = value {
            self.add(metric, labels, value);
        }
    }

    /// As [`Exposition::add_known`], for a moment.
    pub fn add_time(&mut self, metric: Metric, labels: Labels<'_>, at: Option<Timestamp>) {
        self.add_known(metric, labels, at.map(|at| at.0 as f64));
    }

    /// The text, in the order of the names. A collector that reads a file wants no times beside the values.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (metric, values) in self.0.values() {
            let kind = if metric.is == Type::Counter { "counter" } else { "gauge" };
            let _ = writeln!(text, "# HELP crosswan_{} {}", metric.name, metric.help);
            let _ = writeln!(text, "# TYPE crosswan_{} {kind}", metric.name);
            for (labels, value) in values {
                let _ = writeln!(text, "crosswan_{}{labels} {value}", metric.name);
            }
        }
        text
    }
}

/// A label's value as the format has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Metric = Metric { name: "peer_up", is: Type::Gauge, help: "Whether." };
    const BYTES: Metric = Metric { name: "peer_receive_bytes_total", is: Type::Counter, help: "Bytes." };

    #[test]
    fn each_name_has_one_help_and_one_type_and_whole_numbers_stay_whole() {
        let mut all = Exposition::default();
        assert_eq!(all.text(), "");
        all.add(UP, &[("peer_vpc", "vpc-2")], 1.0);
        all.add(BYTES, &[], 9_007_199_254_740_991.0);
        all.add(UP, &[("peer_vpc", "vpc-1")], 1.0);
        all.add(UP, &[("peer_vpc", "vpc-1")], 0.0);
        all.add_known(Metric { name: "unknown", ..UP }, &[], None);
        let expected = "\
# HELP crosswan_peer_receive_bytes_total Bytes.
# TYPE crosswan_peer_receive_bytes_total counter
crosswan_peer_receive_bytes_total 9007199254740991
# HELP crosswan_peer_up Whether.
# TYPE crosswan_peer_up gauge
crosswan_peer_up{peer_vpc=\"vpc-1\"} 0
crosswan_peer_up{peer_vpc=\"vpc-2\"} 1
";
        assert_eq!(all.text(), expected);
    }

    #[test]
    fn foreign_text_in_a_label_stays_in_its_label() {
        let mut all = Exposition::default();
        all.add(UP, &[("peer", "a\"} 1\ncrosswan_peer_up{peer=\"b\\")], 0.0);
        let text = all.text();
        assert_eq!(text.lines().last(), Some(r#"crosswan_peer_up{peer="a\"} 1\ncrosswan_peer_up{peer=\"b\\"} 0"#));
        assert_eq!(text.lines().count(), 3);
    }
}

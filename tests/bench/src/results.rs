//! What a run leaves: `results.md`, of which each benchmark replaces its own section, and the plots beside it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::Setup;

/// One line of DESIGN's table of budgets.
pub struct Budget {
    pub work: String,
    pub budget: String,
    /// Measured in the same run.
    pub baseline: String,
    pub measured: String,
    pub met: bool,
}

/// What one benchmark came to.
pub struct Section {
    /// As on the command line.
    pub name: &'static str,
    pub title: &'static str,
    pub budgets: Vec<Budget>,
    /// Markdown below the table of budgets.
    pub text: String,
    /// Files by name.
    pub plots: Vec<(&'static str, String)>,
}

const HEAD: &str = "\
# What crosswan costs

Made by `make bench`, or one section by `make bench ONLY=` and its name. The agent is the release build, the parts are real:
charon, iptables and the whole pass; only EC2 is canned, because nobody has 10,000 gateways to spare. Every figure
stands beside its baseline, measured minutes apart on the same machine. CPU and peak memory are what the kernel charged a
process and its children, iptables among them. Of three or five runs each figure is the smallest, the least disturbed one;
of memory it is the largest.
";

impl Section {
    /// Its budgets as a table.
    fn budgets(&self, setup: &Setup) -> String {
        let verdict = |met| match (setup.quick, met) {
            (true, _) => "not judged",
            (false, true) => "yes",
            (false, false) => "**no**",
        };
        let rows = self.budgets.iter().map(|b| {
            let met = verdict(b.met).to_string();
            vec![b.work.clone(), b.budget.clone(), b.baseline.clone(), b.measured.clone(), met]
        });
        table("work | budget | baseline | measured | met", rows)
    }

    /// Prints it, and puts it in its place among the sections of earlier runs.
    pub fn publish(&self, setup: &Setup, order: &[&str]) -> Result<()> {
        let budgets = if self.budgets.is_empty() { String::new() } else { self.budgets(setup) + "\n" };
        println!("\n{budgets}{}", self.text);
        fs::create_dir_all(&setup.out)?;
        for (file, svg) in &self.plots {
            fs::write(setup.out.join(file), svg).context(*file)?;
        }
        let path = setup.out.join("results.md");
        let old = fs::read_to_string(&path).unwrap_or_default();
        let mut sections: BTreeMap<&str, String> = sections(&old).into_iter().collect();
        sections.insert(self.name, format!("{}\n\n{}\n\n{budgets}{}", self.title, setup.circumstances, self.text));
        let mut text = HEAD.to_string();
        for (name, section) in order.iter().filter_map(|name| Some((name, sections.get(name)?))) {
            let _ = write!(text, "\n## {name}: {}\n", section.trim_end());
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// The sections of a `results.md`, by name.
fn sections(text: &str) -> Vec<(&str, String)> {
    text.split("\n## ").skip(1).filter_map(|part| part.split_once(": ")).map(|(n, s)| (n, s.to_string())).collect()
}

/// When, where and with what: a line for each section.
pub fn circumstances(agent: &Path) -> Result<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let first = |command: &mut Command| -> Result<String> {
        let output = command.output().with_context(|| format!("run {command:?}"))?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .find(|line| !line.is_empty())
            .unwrap_or_default()
            .to_string())
    };
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    Ok(format!(
        "*{}; {}, {} bytes; {} of {}; Linux {}; {}; load average at the start {}.*",
        first(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
        first(Command::new(agent).arg("--version"))?,
        fs::metadata(agent)?.len(),
        count(info.lines().filter(|line| line.starts_with("processor")).count(), "core"),
        model.trim_start_matches(['\t', ' ', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        first(Command::new("dpkg-query").args(["-Wf", "strongSwan ${Version}", "charon-systemd"]))?,
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    ))
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A Markdown table; `header` has its columns separated by ` | `.
pub fn table(header: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    let rule = header.split(" | ").map(|_| "---").collect::<Vec<_>>().join("|");
    let rows: String = rows.map(|row| format!("| {} |\n", row.join(" | "))).collect();
    format!("| {header} |\n|{rule}|\n{rows}")
}

/// `0.0123` as `12.3 ms`.
pub fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

/// With two significant decimals.
pub fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{seconds:.3} s") } else { format!("{seconds:.2} s") }
}

/// MB are 10^6 bytes.
pub fn megabytes(megabytes: f64) -> String {
    format!("{megabytes:.1} MB")
}

/// The middle one of some figures, and the largest.
pub fn middle_and_worst(all: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut all: Vec<f64> = all.collect();
    all.sort_by(f64::total_cmp);
    (all[all.len() / 2], all[all.len() - 1])
}

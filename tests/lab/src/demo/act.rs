//! Doing something on a machine of the lab: the command is shown first, then run, then what it said.

use anyhow::{Context, Result, bail, ensure};
use crosswan_lab::{Gateway, Host, Output};
use serde_json::Value;

use super::{Demo, signals};

/// How much of a command's output is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Show {
    All,
    /// The last line, which is the outcome.
    Verdict,
    /// What was done or not done and why, and the outcome; not what was found as it should be.
    Deeds,
    /// The keys, tunnels and addresses that are awaited.
    Awaited,
    Nothing,
}

impl Demo {
    /// Notes what was seen, and whether it is what it should be.
    pub fn check(&mut self, ok: bool, text: &str) {
        self.screen.finding(ok, text);
        if !ok {
            self.failures.push(text.into());
        }
    }

    /// Runs the agent to its end.
    pub fn crosswan(&mut self, gateway: &Gateway, args: &[&str], show: Show) -> Result<Output> {
        go_on()?;
        self.screen.command(&gateway.name, &format!("crosswan {}", args.join(" ")));
        let output = gateway.agent(args)?;
        self.said(gateway, args, &output, show);
        Ok(output)
    }

    /// Shows an agent's output and keeps it for the logs.
    pub fn said(&mut self, gateway: &Gateway, args: &[&str], output: &Output, show: Show) {
        let Output { code, stdout, stderr, .. } = output;
        self.journal += &format!("--- {}: crosswan {args:?}: exit {code}\n{stdout}{stderr}\n", gateway.name);
        match show {
            Show::All => self.screen.quote(stdout.trim_end()),
            Show::Deeds => self.screen.quote(&lines(stdout, is_deed)),
            Show::Awaited => self
                .screen
                .quote(&lines(stdout, |line| ["AWAITED ", "WAITING "].iter().any(|word| line.starts_with(word)))),
            Show::Verdict => self.screen.quote(stdout.trim_end().lines().last().unwrap_or_default()),
            Show::Nothing => {}
        }
        // With 3 or 6 something is awaited, which the report tells; the log has nothing to add.
        if *code != 0 && (![3, 6].contains(code) || show == Show::Nothing) {
            self.screen.quote(stderr);
        }
    }

    /// A refresh that must end well; returns the report it left in `/run/crosswan/status.json`.
    pub fn refresh(&mut self, gateway: &Gateway, show: Show) -> Result<Value> {
        let output = self.crosswan(gateway, &["refresh"], show)?;
        ensure!(output.code == 0, "{}: crosswan refresh ended with exit code {}", gateway.name, output.code);
        report(gateway)
    }

    /// Runs a shell line on a private host.
    pub fn on_host(&self, host: &Host, line: &str) -> Result<Output> {
        go_on()?;
        self.screen.command(&host.name, line);
        host.exec("bash", &["-c", line])
    }
}

/// The lines of a refresh's output that are wanted, without the first, which says who it is.
fn lines(output: &str, wanted: impl Fn(&str) -> bool) -> String {
    let lines: Vec<&str> = output.lines().skip(1).filter(|line| wanted(line.trim_start())).collect();
    lines.join("\n")
}

/// Not which tunnels there should be, which regions answered, and whose key this is.
fn is_deed(line: &str) -> bool {
    !["tunnel ", "asked ", "own key "].iter().any(|word| line.starts_with(word))
}

/// The last pass's report.
pub fn report(gateway: &Gateway) -> Result<Value> {
    let text = gateway.read_file("/run/crosswan/status.json")?;
    serde_json::from_str(&text).with_context(|| format!("{}: status.json", gateway.name))
}

/// An error after a signal, so that a point ends where it stands.
pub fn go_on() -> Result<()> {
    if signals::interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

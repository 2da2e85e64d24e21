//! What is printed: a line per finding, with the time, and at the end the figures and a count.

use std::time::{Duration, Instant};

use crosswan_lab::PingReport;

/// The longest time without an answer: under TCG, programs take twenty times as long to start as on a processor.
pub const GAP: Duration = Duration::from_secs(30);

/// Whether something is as it should be, and what it is.
pub type Finding = (bool, String);

/// Collects findings.
pub struct Report {
    started: Instant,
    passed: u32,
    failed: Vec<String>,
    figures: Vec<String>,
    heading: String,
}

impl Report {
    pub fn new() -> Report {
        Report { started: Instant::now(), passed: 0, failed: Vec::new(), figures: Vec::new(), heading: String::new() }
    }

    pub fn heading(&mut self, title: &str) {
        self.heading = title.to_owned();
        println!("\n{title}");
    }

    /// Notes a finding and passes it on.
    pub fn check(&mut self, ok: bool, text: &str) -> bool {
        println!("{:7.1}s  {}  {text}", self.started.elapsed().as_secs_f64(), if ok { "ok    " } else { "FAILED" });
        if ok {
            self.passed += 1;
        } else {
            self.failed.push(format!("{}: {text}", self.heading));
        }
        ok
    }

    /// Says what is being done.
    pub fn say(&self, text: &str) {
        println!("{:7.1}s          {text}", self.started.elapsed().as_secs_f64());
    }

    /// A measurement, printed at once and again at the end.
    pub fn figure(&mut self, text: String) {
        self.say(&text);
        self.figures.push(text);
    }

    /// A finding that is a measurement, too.
    pub fn check_figure(&mut self, ok: bool, text: String) {
        self.check(ok, &text);
        self.figures.push(text);
    }

    /// How many findings were failures so far.
    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// The end; whether all was well.
    pub fn close(&self) -> bool {
        println!("\nMeasured:");
        self.figures.iter().for_each(|figure| println!("  {figure}"));
        if !self.failed.is_empty() {
            println!("\nFailed:");
            self.failed.iter().for_each(|failed| println!("  {failed}"));
        }
        println!(
            "\nvm: {} passed, {} failed in {:.0} s",
            self.passed,
            self.failed.len(),
            self.started.elapsed().as_secs_f64()
        );
        println!("{} passed, {} failed", self.passed, self.failed.len());
        self.failed.is_empty() && self.passed > 0
    }
}

/// What a stream of pings lost.
pub fn losses(report: &PingReport) -> String {
    let gap = seconds(report.longest_gap);
    format!("{} of {} packets lost, at most {gap} without an answer", report.lost, report.sent)
}

pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

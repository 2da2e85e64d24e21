//! What the end of a cast says: what was made, what was left alone and why, and what runs and costs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    apply::Done,
    aws::Failure,
    plan::{Plan, Step},
    seen::{Seen, Tagged as _},
    text,
};

/// What one cast did.
#[derive(Debug, Default)]
pub struct Summary {
    pub done: Vec<Done>,
    pub failed: Vec<(Step, Failure)>,
    pub not_tried: usize,
    /// Steps that a plan still has after they were carried out.
    pub unread: Vec<String>,
    /// Why it ended as it did, if that is not a step's failure.
    pub why: String,
}

impl Summary {
    /// For people; `subject` is `ENV/CIDR in REGION`.
    pub fn text(&self, subject: &str, plan: Option<&Plan>, watch: &str) -> String {
        let mut out = String::new();
        let verdict = match (self.failed.is_empty() && self.why.is_empty(), self.done.len()) {
            (true, 0) => "nothing to do".to_owned(),
            (true, n) => format!("{} done, and read back", text::count(n, "step")),
            (false, n) => format!("NOT done; {} carried out, and they stand", text::count(n, "step")),
        };
        let _ = writeln!(out, "{subject}: {verdict}");
        if !self.why.is_empty() {
            let _ = writeln!(out, "  {}", self.why.replace('\n', "\n  "));
        }
        for (step, failure) in &self.failed {
            let _ = writeln!(out, "  failed: {step}: {failure}");
        }
        for step in &self.unread {
            let _ = writeln!(out, "  not as planned: {step}");
        }
        if self.not_tried > 0 {
            let _ = writeln!(
                out,
                "  not tried: {}; cast again when the cause is mended",
                text::count(self.not_tried, "step")
            );
        }
        for (heading, notes) in plan.iter().flat_map(|p| [("left alone", &p.left), ("in the way", &p.foreign)]) {
            if !notes.is_empty() {
                let _ = writeln!(out, "{heading}:");
            }
            for note in notes {
                let _ = writeln!(out, "  {}: {}", text::plain(&note.what), note.why);
            }
        }
        if !watch.is_empty() {
            let _ = writeln!(out, "costs: {watch}");
        }
        out
    }

    pub fn json(&self, plan: Option<&Plan>) -> Value {
        let done = |d: &Done| json!({ "step": d.step, "text": d.step.to_string(), "id": d.id });
        let failed = |(step, failure): &(Step, Failure)| json!({ "step": step, "text": step.to_string(), "error": failure.to_string() });
        json!({
            "done": self.done.iter().map(done).collect::<Vec<_>>(),
            "failed": self.failed.iter().map(failed).collect::<Vec<_>>(),
            "not_tried": self.not_tried,
            "not_read_back": self.unread,
            "why": self.why,
            "left": plan.map(|p| &p.left),
            "in_the_way": plan.map(|p| &p.foreign),
        })
    }
}

/// What of a cast AWS charges by the hour: `2 instances (t3.micro, t3.small), 1 load balancer, 2 Elastic IPs`.
pub fn watch(seen: &Seen, cast: &str) -> String {
    let running: Vec<&str> = seen
        .instances
        .values()
        .filter(|i| i.state.is_up() && i.is_of(cast))
        .map(|i| i.instance_type.as_str())
        .collect();
    let mut kinds = running.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let mut parts = Vec::new();
    if !running.is_empty() {
        let kinds = kinds.iter().map(|k| text::plain(k)).collect::<Vec<_>>().join(", ");
        parts.push(format!("{} ({kinds})", text::count(running.len(), "instance")));
    }
    let balancers = seen.balancers.values().filter(|b| b.is_of(cast)).count();
    if balancers > 0 {
        parts.push(text::count(balancers, "load balancer"));
    }
    let addresses = seen.addresses.values().filter(|a| a.is_of(cast)).count();
    if addresses > 0 {
        parts.push(text::count(addresses, "Elastic IP"));
    }
    parts.join(", ")
}

//! What a running cast says: a line for each step, and a sign of life for whatever takes longer than two seconds. For people on
//! standard error, for programs as one JSON object a line on standard output.

#![allow(clippy::disallowed_methods, reason = "edge: says how long things take")]

use std::{
    future::Future,
    io::Write as _,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{aws::Failure, plan::Step};

const FIRST: Duration = Duration::from_secs(2);
const NEXT: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// What the work under way waits for.
    static WAITING: Arc<Mutex<String>>;
}

/// Where progress goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    pub json: bool,
}

impl Progress {
    /// Whether people read it.
    pub fn is_for_people(&self) -> bool {
        !self.json
    }

    /// A line for people, and an event of the same meaning for programs.
    pub fn say(&self, line: &str, event: &Value) {
        // Nobody can be told that the reader is gone; the cast goes on.
        if self.json {
            let _ = writeln!(std::io::stdout().lock(), "{event}");
        } else {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }

    pub fn done(&self, step: &Step, id: Option<&str>, took: Duration) {
        let seconds = took.as_secs_f64();
        let made = id.map(|id| format!(": {}", crate::text::plain(id))).unwrap_or_default();
        let event = json!({ "event": "done", "step": step.to_string(), "id": id, "seconds": rounded(seconds) });
        self.say(&format!("{seconds:6.1} s  {step}{made}"), &event);
    }

    pub fn failed(&self, step: &Step, failure: &Failure, took: Duration) {
        let seconds = took.as_secs_f64();
        let error = failure.to_string();
        let event = json!({ "event": "failed", "step": step.to_string(), "error": error, "seconds": rounded(seconds) });
        self.say(&format!("{seconds:6.1} s  FAILED: {step}: {failure}"), &event);
    }

    /// Notes what the work under way waits for; shown by its next sign of life.
    pub fn waiting(&self, what: &str) {
        let _ =
            WAITING.try_with(|waiting| what.clone_into(&mut waiting.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Does `work`, with a sign of life after two seconds and then every five.
    pub async fn during<T>(&self, label: &str, work: impl Future<Output = T>) -> T {
        let waiting = Arc::new(Mutex::new(String::new()));
        let mut work = pin!(WAITING.scope(waiting.clone(), work));
        let started = Instant::now();
        let mut next = FIRST;
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep_until(started + next) => {
                    let for_what = waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let seconds = next.as_secs();
                    let event = json!({ "event": "waiting", "step": label, "for": for_what, "seconds": seconds });
                    let for_what = if for_what.is_empty() { String::new() } else { format!(": waits for {for_what}") };
                    self.say(&format!("{seconds:4} s ..  {label}{for_what}"), &event);
                    next += NEXT;
                }
            }
        }
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

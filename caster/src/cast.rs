//! A cast of one document: observe, plan, apply, and again, until a plan made from what was read back is empty.

mod lock;
mod summary;

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

pub use lock::Lock;
pub use summary::{Summary, watch};

use crate::{
    apply::{Applied, Apply},
    aws::{Aws, Failure},
    document::Ready,
    exit::Exit,
    plan::{Options, Plan, Step},
    progress::Progress,
    survey::{self, Survey},
    text,
};

/// Some steps follow from others: a member of a group that came up gets its address.
const PASSES: usize = 5;
/// What was made may be missing in a list for some seconds.
const UNSEEN: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(20),
];

/// How a cast is done.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub options: Options,
    /// Wait until instances, groups and load balancers serve.
    pub wait: bool,
    /// Only tag what the rules of 2014 recognise.
    pub adopt_only: bool,
}

impl Manner {
    /// The steps that this cast carries out.
    pub fn of(&self, mut plan: Plan) -> Plan {
        if self.adopt_only {
            plan.steps.retain(|step| matches!(step, Step::Adopt { what: crate::part::Ref::Id(_), .. }));
        }
        plan
    }
}

/// How it ended.
pub struct Ended {
    pub exit: Exit,
    pub summary: Summary,
    /// What was read back at the end.
    pub survey: Option<Survey>,
}

/// Casts one document. `first` is its survey if that is fresh.
pub async fn cast(aws: &Aws, ready: &mut Ready, manner: Manner, progress: &Progress, first: Option<Survey>) -> Ended {
    let mut summary = Summary::default();
    let mut survey = match first {
        Some(survey) => survey,
        None => match look(aws, ready, manner, progress).await {
            Ok(survey) => survey,
            Err(failure) => return summary.ended(Exit::Observe, failure.to_string(), None),
        },
    };
    if survey.has_errors() {
        let what: Vec<String> = survey.problems.iter().map(ToString::to_string).collect();
        return summary.ended(Exit::Document, what.join("\n"), Some(survey));
    }
    for _ in 0..PASSES {
        let plan = manner.of(survey.plan.clone());
        if plan.steps.is_empty() {
            let exit = if survey.plan.foreign.is_empty() { Exit::Done } else { Exit::Foreign };
            return summary.ended(exit, String::new(), Some(survey));
        }
        let mut apply = Apply::new(aws, &survey.seen, &survey.texts, progress);
        apply.wait = manner.wait;
        let applied = apply.carry_out(&plan).await;
        let failed = !applied.failed.is_empty();
        summary.add(applied);
        if failed {
            return summary.ended(Exit::Apply, String::new(), Some(survey));
        }
        survey = match read_back(aws, ready, manner, progress, &plan).await {
            Ok(survey) => survey,
            Err(failure) => {
                let what = format!("the region could not be read back: {failure}");
                return summary.ended(Exit::Apply, what, Some(survey));
            }
        };
        let left = manner.of(survey.plan.clone());
        if !left.steps.is_empty() && (left.steps == plan.steps || !left.steps.iter().all(Step::is_repeatable)) {
            summary.unread = left.steps.iter().map(ToString::to_string).collect();
            return summary.ended(Exit::Apply, "did not read back as planned".to_owned(), Some(survey));
        }
    }
    summary.unread = survey.plan.steps.iter().map(ToString::to_string).collect();
    summary.ended(Exit::Apply, format!("not done after {PASSES} passes"), Some(survey))
}

/// Asks the region, with a sign of life.
///
/// # Errors
/// It could not be asked.
pub async fn look(aws: &Aws, ready: &mut Ready, manner: Manner, progress: &Progress) -> Result<Survey, Failure> {
    let label = format!("ask AWS what is in {}", text::plain(&aws.region));
    progress.during(&label, survey::survey(aws, ready, manner.options)).await
}

/// Reads the region back, again for a while if what was just made is not seen: making it once more would make a second one.
async fn read_back(
    aws: &Aws,
    ready: &mut Ready,
    manner: Manner,
    progress: &Progress,
    done: &Plan,
) -> Result<Survey, Failure> {
    let mut survey = look(aws, ready, manner, progress).await?;
    for pause in UNSEEN {
        let left = manner.of(survey.plan.clone());
        let follows = left.steps != done.steps && left.steps.iter().all(Step::is_repeatable);
        // Without a VPC to plan for, another cast of the same name is about to give way.
        let settled = survey.plan.vpc.is_some() && (left.steps.is_empty() || follows);
        if settled || survey.has_errors() {
            break;
        }
        let missing = left.steps.first().map_or_else(|| "one VPC of this cast".to_owned(), ToString::to_string);
        let event = json!({ "event": "waiting", "step": "verify", "for": missing });
        progress.say(&format!("        not seen yet: {missing}"), &event);
        sleep(pause).await;
        survey = look(aws, ready, manner, progress).await?;
    }
    Ok(survey)
}

impl Summary {
    fn add(&mut self, applied: Applied) {
        self.done.extend(applied.done);
        self.failed.extend(applied.failed);
        self.not_tried += applied.not_tried;
    }
    fn ended(mut self, exit: Exit, why: String, survey: Option<Survey>) -> Ended {
        self.why = why;
        Ended { exit, summary: self, survey }
    }
}

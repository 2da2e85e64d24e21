//! `cast`: make what the documents say, and read it back.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};

use super::{Outcome, plan::plan_json, said};
use crate::{
    aws::Aws,
    cast::{self, Ended, Lock, Manner, watch},
    document::{self, Loaded, Ready, Way, load, way_of},
    exit::Exit,
    names::Names,
    plan::Options,
    problem::Problem,
    progress::Progress,
    survey::{self, Survey},
};

/// How long a cast waits for another one of the same environment.
const OTHER: Duration = Duration::from_secs(1800);

/// What `cast` and `adopt` were called with.
pub struct CastArguments {
    pub files: Vec<PathBuf>,
    /// Do not ask.
    pub yes: bool,
    pub take_routes: bool,
    pub no_wait: bool,
    pub adopt_only: bool,
    pub allow_unknown: bool,
    pub json: bool,
}

/// A document on its way.
struct Task {
    ready: Ready,
    aws: Aws,
    survey: Option<Survey>,
    _lock: Lock,
}

/// Plans all documents, asks once, and casts them one after the other: one with a hub before the others.
pub async fn cast(arguments: CastArguments) -> Outcome {
    let CastArguments { files, yes, take_routes, no_wait, adopt_only, allow_unknown, json } = arguments;
    let loaded = load(&files, document::Options { allow_unknown });
    let progress = Progress { json };
    if loaded.has_errors() {
        return refused(Exit::Document, said(&loaded.problems, loaded.unread), &loaded.problems, json);
    }
    let manner = Manner { options: Options { take_routes }, wait: !no_wait, adopt_only };
    let Loaded { mut documents, mut problems, .. } = loaded;
    documents.sort_by_key(|ready| way_of(&ready.document) == Way::Nat);
    let mut tasks = match prepared(documents, manner, &progress).await {
        Ok(tasks) => tasks,
        Err(what) => return refused(Exit::Observe, format!("cloudcaster: {what}\n"), &problems, json),
    };
    let surveys = || tasks.iter().filter_map(|task| task.survey.as_ref());
    problems.extend(surveys().flat_map(|s| s.problems.clone()));
    if surveys().any(Survey::has_errors) {
        return refused(Exit::Document, said(&problems, false), &problems, json);
    }
    let problems = problems;
    if !json {
        progress.say(said(&problems, false).trim_end(), &Value::Null);
    }
    let mut steps = 0;
    for task in &tasks {
        let Some(survey) = &task.survey else { continue };
        let plan = manner.of(survey.plan.clone());
        steps += plan.steps.len();
        let event = json!({ "event": "plan", "plan": plan_json(task.ready.source.file(), &plan) });
        progress.say(plan.to_string().trim_end(), &event);
    }
    if steps > 0 && !yes {
        match confirmed(steps) {
            Ok(true) => {}
            Ok(false) => {
                return Outcome { exit: Exit::Done, output: String::new(), errors: "nothing was done\n".into() };
            }
            Err(what) => return refused(Exit::Document, format!("cloudcaster: {what}\n"), &problems, json),
        }
    }
    let mut output = String::new();
    let mut exit = Exit::Done;
    for (i, task) in tasks.iter_mut().enumerate() {
        // The first look at a region is old once another document was cast in it.
        let first = task.survey.take().filter(|_| i == 0);
        let ended = Box::pin(cast::cast(&task.aws, &mut task.ready, manner, &progress, first)).await;
        output.push_str(&report(task, &ended, json));
        exit = worse(exit, ended.exit);
        // Later documents may need what this one should have made.
        if !matches!(ended.exit, Exit::Done | Exit::Foreign) {
            break;
        }
    }
    Outcome { exit, output, errors: String::new() }
}

/// Locks, clients and a first look for each document.
async fn prepared(documents: Vec<Ready>, manner: Manner, progress: &Progress) -> Result<Vec<Task>, String> {
    let mut tasks: Vec<Task> = Vec::new();
    for mut ready in documents {
        let aws = survey::connect(&ready).await.map_err(|failure| failure.to_string())?;
        let name = format!("{} in {}", Names::of(&ready.document).cast(), aws.region);
        let lock = progress.during(&format!("wait for another cast of {name}"), Lock::take(&name, OTHER)).await?;
        let survey = cast::look(&aws, &mut ready, manner, progress).await.map_err(|failure| failure.to_string())?;
        tasks.push(Task { ready, aws, survey: Some(survey), _lock: lock });
    }
    survey::together(tasks.iter_mut().filter_map(|task| Some((&mut task.ready, task.survey.as_mut()?))));
    Ok(tasks)
}

fn worse(a: Exit, b: Exit) -> Exit {
    if b == Exit::Done { a } else { b }
}

/// Asks on the terminal.
fn confirmed(steps: usize) -> Result<bool, String> {
    if !std::io::stdin().is_terminal() {
        return Err("standard input is not a terminal, so nobody can be asked; give --yes to go ahead".to_owned());
    }
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "Carry out {}? [y/N] ", crate::text::count(steps, "step")).and_then(|()| stderr.flush());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| format!("the answer could not be read: {e}"))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn refused(exit: Exit, errors: String, problems: &[Problem], json: bool) -> Outcome {
    if json {
        let error = errors.trim_end();
        let event = json!({ "event": "end", "exit": exit.code(), "error": error, "problems": problems });
        return Outcome { exit, output: format!("{event}\n"), errors: String::new() };
    }
    Outcome { exit, output: String::new(), errors }
}

fn report(task: &Task, ended: &Ended, json: bool) -> String {
    let plan = ended.survey.as_ref().map(|s| &s.plan);
    let costs = ended.survey.as_ref().map(|s| watch(&s.seen, &s.desired.cast)).unwrap_or_default();
    let subject = plan.map_or_else(|| task.ready.source.file().to_owned(), |p| p.subject.clone());
    if json {
        let mut event = ended.summary.json(plan);
        event["event"] = json!("end");
        event["file"] = json!(task.ready.source.file());
        event["subject"] = json!(subject);
        event["exit"] = json!(ended.exit.code());
        event["costs"] = json!(costs);
        return format!("{event}\n");
    }
    ended.summary.text(&subject, plan, &costs)
}

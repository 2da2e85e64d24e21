//! `plan`: what a cast would do.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Outcome, said};
use crate::{
    aws::Failure,
    document::{Loaded, Options, Ready, load},
    exit::Exit,
    observe,
    plan::{self, Plan},
    problem::Level,
    progress::Progress,
    seen::Seen,
    survey::{self, Survey},
};

/// What `plan` was called with.
pub struct PlanArguments {
    pub files: Vec<PathBuf>,
    /// Observations in files; without any, AWS is asked.
    pub against: Vec<PathBuf>,
    pub take_routes: bool,
    pub exit_code: bool,
    pub allow_unknown: bool,
    pub json: bool,
}

/// Reads the documents, and plans each against its region: as AWS shows it, or as a file says.
pub async fn plan(arguments: PlanArguments) -> Outcome {
    let PlanArguments { files, against, take_routes, exit_code, allow_unknown, json } = arguments;
    let loaded = load(&files, Options { allow_unknown });
    if loaded.has_errors() {
        return report(Exit::Document, &loaded, &[], json);
    }
    let Loaded { mut documents, mut problems, .. } = loaded;
    let options = plan::Options { take_routes };
    let surveys = match against.is_empty() {
        true => asked(&mut documents, options).await.map_err(|failure| failure.to_string()),
        false => from_files(&mut documents, &against, options),
    };
    let mut surveys = match surveys {
        Ok(surveys) => surveys,
        Err(what) => return not_observed(&what, json),
    };
    survey::together(documents.iter_mut().zip(&mut surveys));
    let mut plans = Vec::new();
    for (ready, survey) in documents.iter().zip(surveys) {
        problems.extend(survey.problems);
        plans.push((ready.source.file().to_owned(), survey.plan));
    }
    let faulty = problems.iter().any(|p| p.level == Level::Error);
    let exit = if faulty {
        Exit::Document
    } else if plans.iter().any(|(_, plan)| !plan.foreign.is_empty()) {
        Exit::Foreign
    } else if exit_code && plans.iter().any(|(_, plan)| !plan.steps.is_empty()) {
        Exit::Changes
    } else {
        Exit::Done
    };
    // A plan that cannot be carried out is not shown.
    let plans = if faulty { Vec::new() } else { plans };
    report(exit, &Loaded { documents: Vec::new(), problems, unread: false }, &plans, json)
}

/// Of AWS. On standard error only: standard output has the plan.
async fn asked(documents: &mut [Ready], options: plan::Options) -> Result<Vec<Survey>, Failure> {
    let progress = Progress { json: false };
    let mut surveys = Vec::new();
    for ready in documents {
        let aws = survey::connect(ready).await?;
        let label = format!("ask AWS what is in {}", aws.region);
        surveys.push(progress.during(&label, survey::survey(&aws, ready, options)).await?);
    }
    Ok(surveys)
}

fn from_files(documents: &mut [Ready], against: &[PathBuf], options: plan::Options) -> Result<Vec<Survey>, String> {
    let regions: Vec<Seen> = against.iter().map(|path| observe::from_file(path)).collect::<Result<_, _>>()?;
    let each = documents.iter_mut().map(|ready| {
        let region = ready.document.aws.region.clone();
        let seen = regions.iter().find(|s| s.region == region);
        let seen = seen.ok_or_else(|| format!("region {region}: none of the observations is of it"))?;
        Ok(survey::of(ready, seen.clone(), options))
    });
    each.collect()
}

pub(super) fn not_observed(what: &str, json: bool) -> Outcome {
    let exit = Exit::Observe;
    if json {
        let report = json!({ "exit": exit.code(), "error": what });
        return Outcome { exit, output: format!("{report:#}\n"), errors: String::new() };
    }
    Outcome::failed(exit, what)
}

fn report(exit: Exit, loaded: &Loaded, plans: &[(String, Plan)], json: bool) -> Outcome {
    if json {
        let plans: Vec<Value> = plans.iter().map(|(file, plan)| plan_json(file, plan)).collect();
        let report = json!({ "exit": exit.code(), "plans": plans, "problems": loaded.problems });
        return Outcome { exit, output: format!("{report:#}\n"), errors: String::new() };
    }
    let output = plans.iter().map(|(_, plan)| plan.to_string()).collect::<Vec<_>>().join("\n");
    Outcome { exit, output, errors: said(&loaded.problems, loaded.unread) }
}

/// A plan for a program: each step with what it holds and as a person reads it.
pub(super) fn plan_json(file: &str, plan: &Plan) -> Value {
    let step = |step: &plan::Step| {
        let mut value = json!(step);
        value["text"] = json!(step.to_string());
        value["takes_away"] = json!(step.takes_away());
        value
    };
    json!({
        "file": file,
        "subject": plan.subject,
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "left": plan.left,
        "in_the_way": plan.foreign,
    })
}

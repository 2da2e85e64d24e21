//! The commands: what each prints, and how it ends.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    decide::decide,
    desired::Fault,
    document::{Loaded, Options, Ready, load},
    exit::Exit,
    observe,
    plan::{self, Plan, plan},
    problem::{Level, Problem},
    schema,
    seen::Seen,
    text,
};

/// What a command gives: its exit code, what goes to standard output, and what to standard error.
pub struct Outcome {
    pub exit: Exit,
    pub output: String,
    pub errors: String,
}

impl Outcome {
    fn done(output: String) -> Self {
        Outcome { exit: Exit::Done, output, errors: String::new() }
    }
    fn failed(exit: Exit, what: &str) -> Self {
        Outcome { exit, output: String::new(), errors: format!("cloudcaster: {what}\n") }
    }
}

/// `check`: every problem of the files. The exit code is [`Exit::Document`] if one of them is an error.
pub fn check(files: &[PathBuf], allow_unknown: bool, json: bool) -> Outcome {
    let loaded = load(files, Options { allow_unknown });
    let exit = if loaded.has_errors() { Exit::Document } else { Exit::Done };
    if json {
        let report = json!({ "ok": exit == Exit::Done, "problems": loaded.problems });
        return Outcome { exit, output: format!("{report:#}\n"), errors: String::new() };
    }
    let output = match exit {
        Exit::Done => format!("{} checked: no errors\n", text::count(files.len(), "document")),
        _ => String::new(),
    };
    Outcome { exit, output, errors: said(&loaded.problems, loaded.unread) }
}

/// Problems a line each, and how many errors there are.
fn said(problems: &[Problem], unread: bool) -> String {
    let mut out: String = problems.iter().map(|p| format!("{p}\n")).collect();
    let errors = problems.iter().filter(|p| p.level == Level::Error).count();
    if errors > 0 {
        out.push_str(&format!("cloudcaster: {}; nothing was tried\n", text::count(errors, "error")));
    }
    if unread {
        out.push_str("cloudcaster: rules between keys are checked once every value of a document can be read\n");
    }
    out
}

/// What `plan` was called with.
pub struct PlanArguments {
    pub files: Vec<PathBuf>,
    pub against: Vec<PathBuf>,
    pub take_routes: bool,
    pub exit_code: bool,
    pub allow_unknown: bool,
    pub json: bool,
}

/// `plan`: reads documents and observations, and plans each document against its region.
pub fn plan_files(arguments: PlanArguments) -> Outcome {
    let PlanArguments { files, against, take_routes, exit_code, allow_unknown, json } = arguments;
    let loaded = load(&files, Options { allow_unknown });
    if loaded.has_errors() {
        return report(Exit::Document, &loaded, &[], json);
    }
    let mut regions: Vec<Seen> = Vec::new();
    for path in &against {
        match observe::from_file(path) {
            Ok(seen) => regions.push(seen),
            Err(what) => return not_observed(&what, json),
        }
    }
    let Loaded { documents, mut problems, .. } = loaded;
    let mut plans = Vec::new();
    for Ready { mut source, document, data } in documents {
        // The problems of the reading are there already.
        let before = source.problems();
        let Some(seen) = regions.iter().find(|s| s.region == document.aws.region) else {
            let what = format!("region {}: none of the observations is of it", document.aws.region);
            return not_observed(&what, json);
        };
        let decision = decide(&document, &data, seen);
        let plan = plan(&decision.desired, seen, plan::Options { take_routes });
        for Fault { path, what } in decision.faults.iter().chain(&plan.faults) {
            source.error(path, what);
        }
        for Fault { path, what } in &decision.warnings {
            source.warn(path, what);
        }
        problems.extend(source.problems().into_iter().filter(|p| !before.contains(p)));
        plans.push((source.file().to_owned(), plan));
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

fn not_observed(what: &str, json: bool) -> Outcome {
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
fn plan_json(file: &str, plan: &Plan) -> Value {
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

/// `schema`: on one line with `json`, else indented.
pub fn schema(json: bool) -> Outcome {
    let schema = schema::json_schema();
    Outcome::done(if json { format!("{schema}\n") } else { format!("{schema:#}\n") })
}

/// `explain`: one key, or all of them.
pub fn explain(key: Option<&str>, json: bool) -> Outcome {
    let explained = match key {
        Some(key) => schema::explain(key),
        None => Ok(schema::explain_all()),
    };
    match explained {
        Ok(keys) if json => Outcome::done(format!("{:#}\n", json!(keys))),
        Ok(keys) => Outcome::done(keys.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Err(what) => Outcome::failed(Exit::Document, &what),
    }
}

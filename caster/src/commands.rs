//! The commands: what each prints, and how it ends.

mod adopt;
mod cast;
mod plan;
mod status;

use std::path::{Path, PathBuf};

use serde_json::json;

pub use adopt::adopt;
pub use cast::{CastArguments, cast};
pub use plan::{PlanArguments, plan};
pub use status::status;

use crate::{
    decide::decide,
    document::{Options, load},
    exit::Exit,
    export, policy,
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

/// `policy`: on one line with `json`, else indented.
pub fn policy(file: &Path, mend: bool, json: bool) -> Outcome {
    let loaded = load(&[file.to_owned()], Options::default());
    let (errors, exit) = (said(&loaded.problems, loaded.unread), Exit::Document);
    let Some(ready) = loaded.documents.first().filter(|_| !loaded.has_errors()) else {
        return Outcome { exit, output: String::new(), errors };
    };
    // Against an empty region: what is there changes nothing about what is needed.
    let seen = Seen { region: ready.document.aws.region.clone(), ..Seen::default() };
    let policy = policy::policy(&ready.document, &decide(&ready.document, &ready.data, &seen).desired, mend);
    Outcome::done(if json { format!("{policy}\n") } else { format!("{policy:#}\n") })
}

/// `export cloudformation`: on one line with `json`, else indented.
pub fn export(file: &Path, json: bool) -> Outcome {
    let mut loaded = load(&[file.to_owned()], Options::default());
    let exit = Exit::Document;
    if loaded.has_errors() || loaded.documents.is_empty() {
        return Outcome { exit, output: String::new(), errors: said(&loaded.problems, loaded.unread) };
    }
    let mut ready = loaded.documents.remove(0);
    match export::cloudformation(&ready) {
        Ok(template) => Outcome::done(if json { format!("{template}\n") } else { format!("{template:#}\n") }),
        Err(faults) => {
            faults.into_iter().for_each(|fault| ready.source.error(&fault.path, fault.what));
            Outcome { exit, output: String::new(), errors: said(&ready.source.problems(), false) }
        }
    }
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

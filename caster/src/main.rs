//! Parses the command line, runs the command, and turns how it ended into the exit code.

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use cloudcaster::{
    cli::{Cli, Command},
    document::{Loaded, Options, load},
    exit::Exit,
    problem::Level,
    schema, text,
};
use serde_json::json;

fn main() -> ExitCode {
    let (exit, output) = run(Cli::parse().command);
    // A reader that has gone away (`| head`) is no error.
    match std::io::stdout().lock().write_all(output.as_bytes()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            eprintln!("cloudcaster: write to standard output: {e}");
            ExitCode::from(Exit::Other.code())
        }
        _ => ExitCode::from(exit.code()),
    }
}

fn run(command: Command) -> (Exit, String) {
    match command {
        Command::Check { files, allow_unknown, json } => check(&files, allow_unknown, json),
        Command::Schema { json } => {
            let schema = schema::json_schema();
            (Exit::Done, if json { format!("{schema}\n") } else { format!("{schema:#}\n") })
        }
        Command::Explain { key, json } => explain(key.as_deref(), json),
    }
}

fn check(files: &[PathBuf], allow_unknown: bool, json: bool) -> (Exit, String) {
    let loaded = load(files, Options { allow_unknown });
    let exit = if loaded.has_errors() { Exit::Document } else { Exit::Done };
    if json {
        let report = json!({ "ok": exit == Exit::Done, "problems": loaded.problems });
        return (exit, format!("{report:#}\n"));
    }
    report(&loaded);
    let output = if exit == Exit::Done {
        format!("{} checked: no errors\n", text::count(files.len(), "document"))
    } else {
        String::new()
    };
    (exit, output)
}

/// Problems go to standard error, with their number, so that standard output is for results only.
fn report(loaded: &Loaded) {
    for problem in &loaded.problems {
        eprintln!("{problem}");
    }
    let errors = loaded.problems.iter().filter(|p| p.level == Level::Error).count();
    if errors > 0 {
        eprintln!("cloudcaster: {}; nothing was tried", text::count(errors, "error"));
        if loaded.unread {
            eprintln!("cloudcaster: rules between keys are checked once every value of a document can be read");
        }
    }
}

fn explain(key: Option<&str>, json: bool) -> (Exit, String) {
    let explained = match key {
        Some(key) => schema::explain(key),
        None => Ok(schema::explain_all()),
    };
    match explained {
        Ok(keys) if json => (Exit::Done, format!("{:#}\n", json!(keys))),
        Ok(keys) => (Exit::Done, keys.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Err(what) => {
            eprintln!("cloudcaster: {what}");
            (Exit::Document, String::new())
        }
    }
}

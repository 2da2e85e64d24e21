//! Parses the command line, runs the command, prints, and turns how it ended into the exit code.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::Parser;
use cloudcaster::{
    cli::{Cli, Command},
    commands::{self, Outcome, PlanArguments},
    exit::Exit,
};

fn main() -> ExitCode {
    let Outcome { exit, output, errors } = run(Cli::parse().command);
    // Nobody can be told that standard error is gone.
    let _ = std::io::stderr().lock().write_all(errors.as_bytes());
    match std::io::stdout().lock().write_all(output.as_bytes()) {
        // A reader that has gone away (`| head`) is no error.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            eprintln!("cloudcaster: write to standard output: {e}");
            ExitCode::from(Exit::Other.code())
        }
        _ => ExitCode::from(exit.code()),
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Check { files, allow_unknown, json } => commands::check(&files, allow_unknown, json),
        Command::Plan { files, against, take_routes, exit_code, allow_unknown, json } => {
            commands::plan_files(PlanArguments { files, against, take_routes, exit_code, allow_unknown, json })
        }
        Command::Schema { json } => commands::schema(json),
        Command::Explain { key, json } => commands::explain(key.as_deref(), json),
    }
}

//! Parses the command line, runs the command, prints, and turns how it ended into the exit code.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::Parser;
use cloudcaster::{
    cli::{Cli, Command, Export},
    commands::{self, CastArguments, Outcome, PlanArguments},
    exit::Exit,
};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("cloudcaster: start: {e}");
            return ExitCode::from(Exit::Other.code());
        }
    };
    let Outcome { exit, output, errors } = runtime.block_on(run(command));
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

async fn run(command: Command) -> Outcome {
    match command {
        Command::Check { files, allow_unknown, json } => commands::check(&files, allow_unknown, json),
        Command::Plan { files, against, take_routes, exit_code, allow_unknown, json } => {
            commands::plan(PlanArguments { files, against, take_routes, exit_code, allow_unknown, json }).await
        }
        Command::Cast { files, yes, take_routes, no_wait, allow_unknown, json } => {
            let adopt_only = false;
            commands::cast(CastArguments { files, yes, take_routes, no_wait, adopt_only, allow_unknown, json }).await
        }
        Command::Adopt { files, yes, allow_unknown, json } => {
            let (take_routes, no_wait, adopt_only) = (false, true, true);
            commands::adopt(CastArguments { files, yes, take_routes, no_wait, adopt_only, allow_unknown, json }).await
        }
        Command::Status { files, exit_code, allow_unknown, json } => {
            commands::status(&files, exit_code, allow_unknown, json).await
        }
        Command::Policy { file, mend, json } => commands::policy(&file, mend, json),
        Command::Export(Export::Cloudformation { file, json }) => commands::export(&file, json),
        Command::Schema { json } => commands::schema(json),
        Command::Explain { key, json } => commands::explain(key.as_deref(), json),
    }
}

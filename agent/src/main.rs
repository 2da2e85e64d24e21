//! Parses the command line, runs the command, prints the error chain once, and turns its kind into the exit code.

use std::{
    collections::BTreeMap,
    env,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use crosswan::{
    accounts,
    apply::write_files,
    cli::{Cli, Command},
    doctor, gather, handover, host, keep, map, metrics, pair,
    paths::Paths,
    refresh,
    settings::{MissingPsk, PreSharedKeys},
    status, watch,
};
use crosswan_core::{
    decide::Request,
    doctor::{diagnose, why},
    error::{Context, Error, Kind, Result},
    map::{dot, svg},
    model::{BadName, VpcId, printable},
    pair::handover_patience,
    settings::{AuthMethod, Flags, Settings},
};
use sd_notify::NotifyState;
use terminal_size::terminal_size;
use tokio::time::Instant;
use tracing::warn;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.log_json, cli.verbose);
    // One thread: a pass waits for others nearly all of the time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context(|| Error::new(Kind::Other, "start the runtime")).and_then(|runtime| {
        let result = runtime.block_on(run(cli));
        // A name that is still being looked up on another thread would be waited for, up to a minute.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("crosswan: {}", e.chain());
            ExitCode::from(e.kind().exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<u8> {
    // Tests and image builds keep every file below another root.
    let root = env::var_os("CROSSWAN_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let paths = Paths::below(&root);
    let Cli { command, mode, private_net, regions, hub, .. } = cli;
    let flags = Flags { mode, private_net, regions, hub };
    match command {
        Command::Refresh { dry_run, force, accept_key, json } => {
            let accept = accept_key.iter().map(|text| accepted(text)).collect::<std::result::Result<_, BadName>>();
            let accept = accept.context(|| Error::settings("--accept-key"))?;
            let request = Request { dry_run, force, rotate: false, accept };
            pass(&root, &flags, &paths, request, json).await
        }
        Command::RotateKey { json } => {
            let request = Request { rotate: true, ..Request::default() };
            pass(&root, &flags, &paths, request, json).await
        }
        Command::Render { out } => {
            let (settings, keys) = settings(&root, &flags)?;
            let (files, report) = refresh::files(&settings, &keys, &paths).await?;
            for path in write_files(&files, &Paths::below(&out))? {
                say(path.display())?;
            }
            for problem in report.unasked.iter().chain(&report.problems) {
                warn!("{problem}");
            }
            Ok(report.exit_code())
        }
        Command::Keep => {
            let settings = load(&root, &flags)?;
            let config = keep::Config {
                route_waits: paths.route_waits.clone(),
                mode: settings.mode,
                interval: settings.keep.interval,
                conf_file: paths.connections,
                socket: paths.vici,
                lock: paths.charon_lock,
                wanted: paths.wanted,
            };
            keep::run(config, interrupted()).await?;
            Ok(0)
        }
        Command::Watch => {
            let config = watch::Config {
                rules: paths.rules,
                routing: paths.routing,
                followed: paths.followed,
                lock: paths.charon_lock,
                put_back: paths.put_back,
                address_waits: paths.address_waits,
                wanted: paths.wanted,
                traffic: paths.traffic,
            };
            watch::run(config, interrupted()).await?;
            Ok(0)
        }
        Command::Pair => {
            let settings = load(&root, &flags)?;
            if let (None, Some(port)) = (settings.pair, settings.far_port) {
                pair::hear(port, &paths, interrupted()).await?;
                return Ok(0);
            }
            let Some(pairing) = settings.pair else {
                let why = handover::no_pair(&settings).unwrap_or_default();
                // To systemd a service that ends before it is ready has failed.
                host::notify(&[NotifyState::Ready]);
                say(format_args!("no pair: {why}"))?;
                return Ok(0);
            };
            let (mode, routes_tag) = (settings.mode, settings.routes_tag);
            pair::run(pair::Config { pairing, routes_tag, mode, paths }, interrupted()).await?;
            Ok(0)
        }
        Command::Handover { cancel: true, .. } => {
            handover::cancel(&load(&root, &flags)?, &paths).await?;
            say("this gateway stays")?;
            Ok(0)
        }
        Command::Handover { timeout, reason, make_way, json, .. } => {
            let expected =
                || Error::settings(format!("--timeout {}: expected a duration from 1s to 10m", printable(&timeout)));
            let timeout = handover_patience(&timeout).ok_or_else(expected)?;
            let why = reason.as_deref().unwrap_or("crosswan handover orders it");
            let settings = load(&root, &flags)?;
            handover::check(&settings)?;
            let make_way = make_way.then_some(handover::MakeWay::Next);
            let order = handover::Order { why, timeout, make_way, patience: handover::LOCK };
            let done =
                handover::run(&settings.routes_tag, &paths, order, interrupted(), |line| eprintln!("{line}")).await?;
            print(json, &done)?;
            Ok(done.exit_code())
        }
        Command::Doctor { json } => {
            let diagnosis = diagnose(&doctor::examine(&root, &environment(), &flags, &paths).await);
            print(json, &diagnosis)?;
            Ok(diagnosis.exit_code)
        }
        Command::Why { from, to, json } => {
            let answer = why(&doctor::examine(&root, &environment(), &flags, &paths).await, from, to);
            print(json, &answer)?;
            Ok(answer.diagnosis.exit_code)
        }
        Command::Gather { output } => {
            let written =
                gather::gather(&root, &environment(), &flags, &paths, output, |line| eprintln!("{line}")).await?;
            say(written.display())?;
            Ok(0)
        }
        Command::Accounts { organization: false, json, .. } => {
            let accounts = accounts::look(&load(&root, &flags)?, &paths)?;
            print(json, &accounts)?;
            Ok(accounts.exit_code())
        }
        Command::Accounts { role, external_id, hub_account, output, json, .. } => {
            let listing = accounts::organization(role, external_id, flags.regions, hub_account).await?;
            listing.remarks().iter().for_each(|line| eprintln!("{line}"));
            match output {
                Some(path) => accounts::write(&path, &listing, json)?,
                None => print(json, &listing)?,
            }
            Ok(0)
        }
        Command::Map { json: true, .. } => print_json(&map::look(&paths).await?).map(|()| 0),
        Command::Map { format, .. } => {
            let map = map::look(&paths).await?;
            let text = if format == "dot" { dot(&map) } else { svg(&map) };
            say(text.trim_end())?;
            Ok(0)
        }
        Command::Metrics { write: true, .. } => metrics::write(&paths).await.map(|()| 0),
        Command::Metrics { serve: true, .. } => metrics::serve(&paths).map(|()| 0),
        Command::Metrics { .. } => {
            say(metrics::look(&paths).await?.trim_end())?;
            Ok(0)
        }
        Command::Status { json, watch: false } => {
            let status = status::look(&paths).await;
            print(json, &status)?;
            Ok(status.exit_code())
        }
        Command::Status { json, watch: true } => watch_status(&paths, json).await,
    }
}

/// Shows the status every two seconds, until interrupted: on a terminal as much as it has room for.
#[allow(clippy::disallowed_methods, reason = "edge: bytes per second need the time between two looks")]
async fn watch_status(paths: &Paths, json: bool) -> Result<u8> {
    let mut stop = std::pin::pin!(interrupted());
    let mut before: Option<(status::Status, Instant)> = None;
    loop {
        let (status, at) = (status::look(paths).await, Instant::now());
        if !json && std::io::stdout().is_terminal() {
            let (width, height) = terminal_size().map_or((80, 24), |(width, height)| (width.0, height.0));
            let size = status::Size { width: width.into(), height: height.into() };
            let earlier = before.as_ref().map(|(status, then)| (status, (at - *then).as_secs_f64()));
            say(format_args!("\x1b[H\x1b[2J{}", status::screen(&status, earlier, size)))?;
        } else {
            print(json, &status)?;
        }
        before = Some((status, at));
        tokio::select! {
            () = &mut stop => return Ok(0),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// The value of `--accept-key`: a VPC, and the fingerprint of the key to accept for its gateway.
fn accepted(text: &str) -> std::result::Result<(VpcId, String), BadName> {
    let expected = "VPC=FINGERPRINT such as vpc-0a1b2c3d=SHA256:… (44 characters after the colon)";
    let bad = || BadName { expected, found: text.to_owned() };
    let (vpc, fingerprint) = text.split_once('=').ok_or_else(bad)?;
    match fingerprint.strip_prefix("SHA256:") {
        Some(digest) if digest.len() == 44 => Ok((vpc.parse()?, fingerprint.to_owned())),
        _ => Err(bad()),
    }
}

/// Makes one pass and prints its report. Returns the exit code.
async fn pass(root: &Path, flags: &Flags, paths: &Paths, request: Request, json: bool) -> Result<u8> {
    let dry_run = request.dry_run;
    let pass = async {
        let (settings, keys) = settings(root, flags)?;
        if request.rotate && !settings.has_key() {
            return Err(Error::settings(
                "auth.method: rotate-key needs a gateway with a key pair, and this one has none; set auth.method = \"key\" on a vpn-hub or \
                 nat-vpn, or pair.enabled on a nat-hub",
            ));
        }
        refresh::refresh(&settings, &keys, paths, &request).await
    };
    let report = pass.await.inspect_err(|e| {
        if !dry_run && e.kind() != Kind::Busy {
            refresh::record_failure(e, paths);
        }
    })?;
    print(json, &report)?;
    Ok(report.exit_code())
}

fn load(root: &Path, flags: &Flags) -> Result<Settings> {
    crosswan::settings::load(root, &environment(), flags)
}

fn environment() -> BTreeMap<String, String> {
    env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.to_string_lossy().into_owned()))).collect()
}

fn settings(root: &Path, flags: &Flags) -> Result<(Settings, PreSharedKeys)> {
    let settings = load(root, flags)?;
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    if !settings.mode.has_ipsec() {
        return Ok((settings, PreSharedKeys::none("this mode needs none".into())));
    }
    match PreSharedKeys::load(&settings.auth, root, credentials.as_deref()) {
        // With keys, only peers that announce none need it.
        Err(e) if MissingPsk::is(&e) && settings.auth.method == AuthMethod::Key => {
            Ok((settings, PreSharedKeys::none("there is no pre-shared key for it".into())))
        }
        // NAT works without it: the pass goes on, reports what it waits for, and exits with the code for settings.
        Err(e) if MissingPsk::is(&e) => Ok((settings, PreSharedKeys::none(e.chain()))),
        keys => Ok((settings, keys?)),
    }
}

/// Completes at SIGTERM or SIGINT.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return warn!("cannot catch SIGTERM and SIGINT; stopping at once");
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Prints a result to stdout, as JSON or as text. A reader that closes the pipe early (`| head`) is not an error.
fn print<T: serde::Serialize + std::fmt::Display>(json: bool, value: &T) -> Result<()> {
    if json { print_json(value) } else { say(value) }
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    say(serde_json::to_string_pretty(value).context(|| Error::new(Kind::Other, "encode the report"))?)
}

fn say(text: impl std::fmt::Display) -> Result<()> {
    // Formatted first and written at once: stdout would otherwise flush after each line, and each tunnel has one.
    match std::io::stdout().write_all(format!("{text}\n").as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Other, "write to stdout").because(e))
        }
        _ => Ok(()),
    }
}

/// Logs go to the journal with their fields if stderr is the journal, and otherwise to stderr as text.
fn log(json: bool, verbose: u8) {
    let default = match verbose {
        0 => "warn,aws_smithy_runtime=off,crosswan=info",
        1 => "info,crosswan=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("CROSSWAN_LOG").unwrap_or_else(|_| default.into());
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok()) {
        Some(journal) if !json => journal.with_field_prefix(Some("CROSSWAN".into())).boxed(),
        _ if json => to_stderr.json().flatten_event(true).boxed(),
        _ => to_stderr.without_time().with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
}

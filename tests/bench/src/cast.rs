//! A cast beside a script that makes the same calls in parallel, and fifty documents in one check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Lab, Output, account};
use serde_json::{Value, json};

use crate::results::{Budget, Section, seconds, table};
use crate::{Setup, say};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/caster.py");
const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../caster/tests/documents");
const CHECKED: usize = 50;

/// How many calls of each operation.
type Calls = BTreeMap<String, u64>;

/// One cast of the hub and the client of 2014 into an account of its own.
struct Cast {
    wall: f64,
    calls: Calls,
}

impl Cast {
    fn questions(&self) -> Calls {
        self.calls.iter().filter(|(action, _)| is_question(action)).map(|(action, n)| (action.clone(), *n)).collect()
    }
    fn row(&self, name: &str) -> Vec<String> {
        let all: u64 = self.calls.values().sum();
        let questions: u64 = self.questions().values().sum();
        vec![name.to_string(), (all - questions).to_string(), questions.to_string(), seconds(self.wall)]
    }
}

fn is_question(action: &str) -> bool {
    ["Describe", "Get", "List"].iter().any(|verb| action.starts_with(verb))
}

fn program() -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("cloudcaster"));
    let program = std::env::var_os("CLOUDCASTER_BIN").map(PathBuf::from).or_else(beside).context("no cloudcaster")?;
    ensure!(program.is_file(), "{} does not exist: make build, or set CLOUDCASTER_BIN", program.display());
    Ok(program)
}

fn account(setup: &Setup) -> Result<Lab> {
    let lab = Lab::builder(&setup.agent).images(&account::images()).build()?;
    lab.prepare_account()?;
    Ok(lab)
}

/// Runs a program in the account: what it called, and its standard output.
fn measured(lab: &Lab, program: &Path, arguments: &[&str]) -> Result<(Cast, String)> {
    let by_action = || {
        let mut calls = Calls::new();
        lab.ec2_calls().into_iter().for_each(|((_, action), n)| *calls.entry(action).or_default() += n);
        calls
    };
    let before = by_action();
    let Output { code, stdout, stderr, elapsed } = lab.cloudcaster(program, "operator", arguments)?;
    ensure!(code == 0, "{arguments:?}: exit {code}\n{stdout}{stderr}");
    let new = |(action, n): (String, u64)| (n - before.get(&action).unwrap_or(&0), action);
    let calls = by_action().into_iter().map(new).filter(|(n, _)| *n > 0).map(|(n, action)| (action, n)).collect();
    Ok((Cast { wall: elapsed.as_secs_f64(), calls }, stdout))
}

/// A cast, and the script with what that planned and asked.
fn both(setup: &Setup, program: &Path) -> Result<(Cast, Cast)> {
    let files = ["hub", "client"].map(|name| format!("{DOCUMENTS}/{name}.json"));
    let [hub, client] = files.each_ref().map(String::as_str);
    let lab = account(setup)?;
    let plan = lab.cloudcaster(program, "operator", &["plan", "--json", hub, client])?;
    ensure!(plan.code == 0, "{}{}", plan.stdout, plan.stderr);
    let (ours, _) = measured(&lab, program, &["cast", "--yes", hub, client])?;
    drop(lab);
    let lab = account(setup)?;
    let (steps, questions) = (lab.dir().join("plan.json"), lab.dir().join("questions.json"));
    fs::write(&steps, &plan.stdout)?;
    fs::write(&questions, json!(ours.questions()).to_string())?;
    let python = crosswan_lab::moto_server()?.with_file_name("python3");
    let [steps, questions] = [&steps, &questions].map(|path| path.display().to_string());
    let (script, printed) = measured(&lab, &python, &[SCRIPT, &steps, &questions])?;
    let wall = printed.trim().parse().with_context(|| printed.clone())?;
    Ok((ours, Cast { wall, ..script }))
}

/// Seconds of one `check` of [`CHECKED`] documents, which are clients of one hub.
fn check(lab: &Lab, program: &Path) -> Result<f64> {
    let client = fs::read_to_string(format!("{DOCUMENTS}/client.json"))?;
    let mut arguments = vec!["check".to_string()];
    for n in 0..CHECKED {
        let mut document: Value = serde_json::from_str(&client)?;
        document["aws"]["privnet"] = json!("10.0.0.0/8");
        document["nat"]["name"] = json!(format!("nat-vpn-{n}"));
        document["vpc"]["cidr"] = json!(format!("10.{n}.0.0/16"));
        document["vpc"]["pubsubnets"] = json!([format!("10.{n}.0.0/24")]);
        document["vpc"]["subnets"] = json!([format!("10.{n}.1.0/24")]);
        let path = lab.dir().join(format!("{n}.json"));
        fs::write(&path, serde_json::to_string_pretty(&document)?)?;
        arguments.push(path.display().to_string());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut least = f64::MAX;
    for _ in 0..5 {
        let output = lab.cloudcaster(program, "operator", &arguments)?;
        ensure!(output.code == 0, "{}", output.stderr);
        least = least.min(output.elapsed.as_secs_f64());
    }
    Ok(least)
}

/// Measures both in turn.
pub fn bench(setup: &Setup) -> Result<Section> {
    let program = program()?;
    let repeats = if setup.quick { 1 } else { 5 };
    let mut pairs = Vec::new();
    for n in 0..repeats {
        say(&format!("a hub and a client are cast, then made by the script: {} of {repeats}", n + 1));
        pairs.push(both(setup, &program)?);
    }
    say(&format!("{CHECKED} documents in one check"));
    let checked = check(&account(setup)?, &program)?;
    let (ours, scripts): (Vec<Cast>, Vec<Cast>) = pairs.into_iter().unzip();
    let least = |casts: Vec<Cast>| casts.into_iter().min_by(|a, b| a.wall.total_cmp(&b.wall)).context("no cast");
    let (ours, script) = (least(ours)?, least(scripts)?);
    let ratio = ours.wall / script.wall;
    let text = format!(
        "The hub and the client of 2014, into an empty account of moto, whose one process answers both. The boto3 script has the plan's \
         steps given, makes each as soon as what it needs is there, and asks as often as the cast does; the start of Python and boto3 \
         is not counted. `cloudcaster` is built without optimization.\n\n{}",
        table(
            "program | changes | questions | time",
            [ours.row("cloudcaster cast"), script.row("boto3 script")].into_iter()
        )
    );
    Ok(Section {
        name: "cast",
        title: "A hub and a client are cast",
        budgets: vec![
            Budget {
                work: "cast a hub and a client".into(),
                budget: "at most 1.5 times a script that makes the same calls in parallel".into(),
                baseline: seconds(script.wall),
                measured: format!("{}, {ratio:.2} times", seconds(ours.wall)),
                met: ratio <= 1.5,
            },
            Budget {
                work: format!("check {CHECKED} documents at once"),
                budget: "under 0.2 s".into(),
                baseline: "–".into(),
                measured: seconds(checked),
                met: checked < 0.2,
            },
        ],
        text,
        plots: Vec::new(),
    })
}

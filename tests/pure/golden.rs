//! A folder per case under `tests/golden`; a new case is a new folder.
//!
//! `root/` holds the settings and, below `etc/swanctl` and `var/lib/crosswan`, the files on disk; `seen.json` what was
//! observed; `expected/` the files, the plan and the report. `BLESS=1 cargo test -p crosswan-core --test pure` writes `expected/`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crosswan_core::{
    decide::{Request, decide},
    outcome::Outcome,
    plan::Planned,
    report::Report,
    system::Files,
};

use crate::world::{World, settings};

#[test]
fn every_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    let wrong: Vec<String> = cases.iter().flat_map(|case| differences(case)).collect();
    assert!(
        wrong.is_empty(),
        "{}\nIf that is as it should be: BLESS=1 cargo test -p crosswan-core --test pure",
        wrong.join("\n")
    );
}

/// What one case gets wrong: nothing, or a line per file.
fn differences(case: &Path) -> Vec<String> {
    let world: World = serde_json::from_str(&text(&case.join("seen.json"))).expect("seen.json");
    let root = case.join("root");
    let outcome = settings(&root).and_then(|settings| {
        let observed = world.observed(&settings, &on_disk(&root));
        let decided = decide(&settings, &observed, &Request::default())?;
        let planned = Planned::of(&settings, &observed, &decided)?;
        let report = Report::of(&settings, &observed, &decided, Outcome::planned(&planned));
        Ok((planned.target.into_owned().files, report))
    });
    // Errors name files below the case's root; where that is does not belong into a golden file.
    let shown = |text: String| text.replace(&format!("{}/", root.display()), "/");
    let got = match outcome {
        Ok((files, report)) => vec![
            ("crosswan.conf", files.connections),
            ("crosswan-secrets.conf", files.secrets),
            ("iptables.rules", files.rules),
            ("routing.batch", files.routing),
            ("plan.txt", Some(report.steps.join("\n") + "\n")),
            ("report.txt", Some(format!("{report}\n"))),
        ],
        Err(e) => vec![("error.txt", Some(format!("exit {}\n{}\n", e.kind().exit_code(), shown(e.chain()))))],
    };
    let expected = case.join("expected");
    if std::env::var_os("BLESS").is_some() {
        let _ = fs::remove_dir_all(&expected);
        fs::create_dir_all(&expected).unwrap();
        for (name, text) in got.iter().filter_map(|(n, t)| Some((n, t.as_ref()?))) {
            fs::write(expected.join(name), text).unwrap();
        }
    }
    let mut wrong = Vec::new();
    for (name, text) in &got {
        let want = fs::read_to_string(expected.join(name)).ok();
        if want.as_deref() != text.as_deref() {
            wrong.push(format!(
                "{}: {name} is not as expected; got:\n{}",
                case.display(),
                text.as_deref().unwrap_or("no file")
            ));
        }
    }
    let count = fs::read_dir(&expected).map_or(0, Iterator::count);
    if count != got.iter().filter(|(_, t)| t.is_some()).count() {
        wrong.push(format!("{}: files in expected/ that are not made", case.display()));
    }
    wrong
}

fn on_disk(root: &Path) -> Files {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    Files {
        connections: read("etc/swanctl/conf.d/crosswan.conf"),
        secrets: read("etc/swanctl/conf.d/crosswan-secrets.conf"),
        routing: read("var/lib/crosswan/routing.batch"),
        rules: read("var/lib/crosswan/iptables.rules"),
        pair: read("var/lib/crosswan/pair.json"),
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

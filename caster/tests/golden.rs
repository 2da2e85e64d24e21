//! A folder per case under `tests/golden`; a new case is a new folder.
//!
//! `seen.json` is what was observed; `document.json` the document, without it the one of 2014 that the folder's name begins
//! with; `arguments` more arguments, one a line. `expected/` has what the program printed and how it ended, for people and
//! for programs. `BLESS=1 cargo test -p cloudcaster` writes it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

#[test]
fn every_folder() {
    let folder = tests().join("golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    let wrong: Vec<String> = cases.iter().flat_map(|case| differences(case)).collect();
    assert!(wrong.is_empty(), "{}\nIf that is as it should be: BLESS=1 cargo test -p cloudcaster", wrong.join("\n"));
}

fn run(case: &Path, json: bool) -> (String, String) {
    let name = case.file_name().unwrap().to_str().unwrap();
    let document = match case.join("document.json").exists() {
        true => format!("golden/{name}/document.json"),
        false => format!("documents/{}.json", name.split('-').next().unwrap()),
    };
    let more = fs::read_to_string(case.join("arguments")).unwrap_or_default();
    let output = Command::new(env!("CARGO_BIN_EXE_cloudcaster"))
        .current_dir(tests())
        .args(["plan", &document, "--against", &format!("golden/{name}/seen.json")])
        .args(more.lines())
        .args(json.then_some("--json"))
        .output()
        .unwrap();
    let errors = format!("{}exit {}\n", String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap());
    (String::from_utf8(output.stdout).unwrap(), errors)
}

/// What one case gets wrong: nothing, or a text per file.
fn differences(case: &Path) -> Vec<String> {
    let (plan, problems) = run(case, false);
    let (json, _) = run(case, true);
    for secret in ["not to be printed", "secret"] {
        assert!(![&plan, &problems, &json].iter().any(|text| text.contains(secret)), "{}: {secret}", case.display());
    }
    let got = [("plan.txt", plan), ("problems.txt", problems), ("plan.json", json)];
    let expected = case.join("expected");
    if std::env::var_os("BLESS").is_some() {
        let _ = fs::remove_dir_all(&expected);
        fs::create_dir_all(&expected).unwrap();
        for (name, text) in &got {
            fs::write(expected.join(name), text).unwrap();
        }
    }
    let differ = |(name, text): &(&str, String)| {
        let want = fs::read_to_string(expected.join(name)).ok();
        (want.as_ref() != Some(text)).then(|| format!("{}: {name} is not as expected; got:\n{text}", case.display()))
    };
    got.iter().filter_map(differ).collect()
}

//! The program itself: its exit codes, what goes to which stream, its manual.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use clap::CommandFactory;
use cloudcaster::{cli::Cli, exit::Exit};
use serde_json::Value;

use crate::documents::HUB;

pub fn cloudcaster(arguments: &[&str]) -> Output {
    cloudcaster_in(Path::new("."), arguments)
}

pub fn cloudcaster_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloudcaster")).current_dir(folder).args(arguments).output().unwrap()
}

pub fn document(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents").join(name).display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn check_ends_with_0_or_2_and_says_why_on_standard_error() {
    let good = cloudcaster(&["check", &document("hub.json"), &document("client.json")]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert_eq!(text(&good.stdout), "2 documents checked: no errors\n");
    let folder = tempfile::tempdir().unwrap();
    let bad: PathBuf = folder.path().join("bad.json");
    fs::write(&bad, HUB.replace("\"udp\"", "\"upd\"")).unwrap();
    let bad = cloudcaster(&["check", bad.to_str().unwrap(), "/nowhere.json"]);
    assert_eq!((bad.status.code(), text(&bad.stdout)), (Some(2), String::new()));
    let said = text(&bad.stderr);
    assert!(
        said.contains(
            "bad.json:30:41: nat.ports[0].prot: expected tcp, udp or icmp, found \"upd\"; did you mean \"udp\"?"
        ),
        "{said}"
    );
    assert!(said.contains("/nowhere.json:1:1: cannot be read: No such file"), "{said}");
    assert!(said.contains("cloudcaster: 5 errors; nothing was tried"), "{said}");
}

#[test]
fn problems_as_json_have_file_line_column_level_path_and_words() {
    let output = cloudcaster(&["check", "--json", &document("hub.json")]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    let psk = report["problems"].as_array().unwrap().iter().find(|p| p["path"] == "nat.psk").unwrap();
    assert_eq!(
        (psk["line"].as_u64(), psk["column"].as_u64(), psk["level"].as_str()),
        (Some(28), Some(12), Some("warning"))
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn a_file_that_has_no_end_is_refused_instead_of_read() {
    for path in ["/dev/zero", "/dev/null", "/"] {
        let output = cloudcaster(&["check", path]);
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert!(text(&output.stderr).contains("cannot be read"), "{path}: {}", text(&output.stderr));
    }
}

#[test]
fn an_observation_that_has_no_end_is_refused_too_and_as_json_when_asked() {
    let hub = document("hub.json");
    let output = cloudcaster(&["plan", &hub, "--against", "/dev/zero", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["exit"].as_u64()), (Some(3), Some(3)));
    assert_eq!(report["error"], "/dev/zero: cannot be read: not a regular file");
}

#[test]
fn a_file_of_nothing_but_wrong_keys_is_read_to_its_end_in_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let keys: Vec<String> = (0..80_000).map(|i| format!("\"k{i}\": 1")).collect();
    fs::write(&path, format!("{{{}}}", keys.join(",\n"))).unwrap();
    let start = std::time::Instant::now();
    let output = cloudcaster(&["check", path.to_str().unwrap()]);
    assert_eq!(text(&output.stderr).lines().filter(|l| l.contains("unknown key")).count(), 80_000);
    // Quadratic in the keys, as it was, it took minutes.
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn a_wrong_argument_ends_with_2_and_an_unknown_key_too() {
    assert_eq!(cloudcaster(&["chek"]).status.code(), Some(2));
    assert_eq!(cloudcaster(&["check"]).status.code(), Some(2));
    let unknown = cloudcaster(&["explain", "azlimt"]);
    assert_eq!(
        (unknown.status.code(), text(&unknown.stderr).trim()),
        (Some(2), "cloudcaster: no key is called \"azlimt\"; did you mean azlimit?")
    );
    assert_eq!(cloudcaster(&["explain", "azlimit"]).status.code(), Some(0));
}

#[test]
fn schema_and_explain_are_json_when_asked() {
    let schema: Value = serde_json::from_slice(&cloudcaster(&["schema"]).stdout).unwrap();
    assert_eq!(schema["required"][0], "aws");
    let keys: Value = serde_json::from_slice(&cloudcaster(&["explain", "--json"]).stdout).unwrap();
    assert_eq!(keys[0]["path"], "aws");
}

#[test]
fn every_command_has_a_man_page_and_completions() {
    let share = |file: &str| fs::read_to_string(Path::new(env!("CLOUDCASTER_SHARE")).join(file)).unwrap();
    let command = Cli::command();
    for sub in command.get_subcommands().map(|s| s.get_name()).filter(|name| *name != "help") {
        assert!(share(&format!("man/cloudcaster-{sub}.1")).contains("SYNOPSIS"), "{sub}");
        for shell in ["cloudcaster.bash", "_cloudcaster", "cloudcaster.fish"] {
            assert!(share(&format!("completions/{shell}")).contains(sub), "{shell}: {sub}");
        }
    }
}

#[test]
fn the_exit_codes_of_the_code_are_those_of_the_manual_and_the_documentation() {
    let manual = fs::read_to_string(Path::new(env!("CLOUDCASTER_SHARE")).join("man/cloudcaster.1")).unwrap();
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cloudcaster.md")).unwrap();
    for exit in Exit::ALL {
        assert!(manual.contains(&format!("\n  {}  ", exit.code())), "{exit:?}\n{manual}");
        assert!(docs.contains(&format!("\n| {} | ", exit.code())), "{exit:?}");
    }
}

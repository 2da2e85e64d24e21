//! What docs/cloudcaster.md shows is what the program prints.

use std::{fs, path::Path};

use crate::cli::cloudcaster_in;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_plan_in_the_manual_is_the_programs() {
    let manual = fs::read_to_string(root().join("../docs/cloudcaster.md")).unwrap();
    let block =
        manual.split("```").find(|block| block.contains("$ cloudcaster plan ") && block.contains("--against")).unwrap();
    let command = block.lines().find_map(|l| l.strip_prefix("$ cloudcaster plan ")).unwrap();
    let arguments: Vec<&str> = ["plan"].into_iter().chain(command.split(' ')).collect();
    let output = cloudcaster_in(&root().join("tests"), &arguments);
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines = printed.lines();
    let shown: Vec<&str> =
        block.lines().filter(|l| !l.starts_with('$') && !l.trim().is_empty() && l.trim() != "...").collect();
    assert!(shown.len() > 5);
    for line in shown {
        assert!(lines.any(|printed| printed == line), "not printed, or not in this order: {line}");
    }
    let check = block.lines().find_map(|l| l.strip_prefix("$ cloudcaster check ")).unwrap();
    let arguments: Vec<&str> = ["check"].into_iter().chain(check.split(' ')).collect();
    assert_eq!(cloudcaster_in(&root().join("tests"), &arguments).status.code(), Some(0));
}

#[test]
fn every_example_of_an_observation_is_one() {
    let mut seen = 0;
    for case in fs::read_dir(root().join("tests/golden")).unwrap() {
        let path = case.unwrap().path().join("seen.json");
        cloudcaster::observe::from_file(&path).unwrap();
        seen += 1;
    }
    assert!(seen > 5);
}

#[test]
fn an_observation_that_is_not_whole_is_not_planned_against() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seen.json");
    let whole = fs::read_to_string(root().join("tests/golden/hub-of-2014/seen.json")).unwrap();
    let cases = [
        (
            whole.replace("\"i-000000a1\": {", "\"i-000000a9\": {"),
            "eni-000000a1 names the instance i-000000a1, which is missing",
        ),
        (whole.replace("\"region\": \"us-west-2\"", "\"region\": \"\""), "says no region"),
        (
            whole.replace("\"region\": \"us-west-2\"", "\"region\": \"eu-west-1\""),
            "region us-west-2: none of the observations is of it",
        ),
        (whole.replace("\"zones\"", "\"zonse\""), "is not an observation: unknown field `zonse`"),
        ("{".to_owned(), "is not an observation"),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).unwrap();
        let output =
            cloudcaster_in(&root().join("tests"), &["plan", "documents/hub.json", "--against", path.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn too_few_elastic_ips_are_known_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seen.json");
    let seen = fs::read_to_string(root().join("tests/golden/client-empty-region/seen.json")).unwrap();
    for (quota, code) in [(1, Some(2)), (99, Some(0))] {
        fs::write(&path, seen.replacen('{', &format!("{{\"elastic_ip_quota\": {quota},"), 1)).unwrap();
        let arguments = ["plan", "documents/client.json", "--against", path.to_str().unwrap()];
        let output = cloudcaster_in(&root().join("tests"), &arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), code, "{said}");
        assert_eq!(said.contains("client.json:20:10: nat: 1 Elastic IP must be allocated"), code == Some(2), "{said}");
    }
}

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

/// What a plan says when the account may have so many, and its exit code.
fn plan_with(document: &str, quotas: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seen.json");
    let seen = root().join(format!("tests/golden/{document}-empty-region/seen.json"));
    let seen = fs::read_to_string(seen).unwrap().replacen('{', &format!("{{\"quotas\": {quotas},"), 1);
    fs::write(&path, seen).unwrap();
    let file = format!("documents/{document}.json");
    let output = cloudcaster_in(&root().join("tests"), &["plan", &file, "--against", path.to_str().unwrap()]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_the_account_may_not_have_is_known_before_anything_is_made() {
    let cases = [
        ("client", "vpc-max-elastic-ips", 1, "client.json:20:10: nat: 1 Elastic IP must be made, but 1 of the 1"),
        ("example", "auto-scaling-groups", 0, ": apps[0]: 1 Auto Scaling group must be made, but 0 of the 0"),
        ("example", "application-load-balancers", 0, ": elbs[0]: 1 application load balancer must be made"),
        ("example", "target-groups", 0, ": elbs[0]: 2 target groups must be made"),
        ("client", "vpc-max-security-groups-per-interface", 0, "1 security group, but the account may have 0"),
    ];
    for (document, quota, most, expected) in cases {
        let (code, said) = plan_with(document, &format!("{{\"{quota}\": {most}}}"));
        assert!(code == Some(2) && said.contains(expected), "{quota}: {code:?} {said}");
        assert_eq!(plan_with(document, &format!("{{\"{quota}\": {}}}", most + 99)).0, Some(0), "{quota}");
    }
    assert_eq!(plan_with("example", "{\"network-load-balancers\": 0, \"classic-load-balancers\": 0}").0, Some(0));
}

#[test]
fn quotas_count_what_documents_that_are_planned_together_need_together() {
    let folder = tempfile::tempdir().unwrap();
    let seen = fs::read_to_string(root().join("tests/golden/client-empty-region/seen.json")).unwrap();
    let path = folder.path().join("seen.json");
    fs::write(&path, seen.replacen('{', "{\"quotas\": {\"vpc-max-elastic-ips\": 2},", 1)).unwrap();
    let against = ["--against", path.to_str().unwrap()];
    let plan = |documents: &[&str]| {
        let output = cloudcaster_in(&root().join("tests"), &[&["plan"], documents, &against].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for alone in ["documents/client.json", "documents/example.json"] {
        assert_eq!(plan(&[alone]).0, Some(0), "{alone}");
    }
    let (code, said) = plan(&["documents/client.json", "documents/example.json"]);
    assert_eq!(code, Some(2), "{said}");
    let expected = "1 Elastic IP must be made, but 1 of the 2 that the account may have in us-west-2 are taken and 1 that other documents";
    assert!(said.contains(expected), "{said}");
}

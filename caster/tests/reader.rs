//! The reader: places, syntax, shapes, and what is never printed.

use cloudcaster::{
    document::{Options, parse},
    schema::all_keys,
    tree::{Value as Tree, place, scan},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::documents::{CLIENT, EXAMPLE, HUB, errors, lines, read, value, warnings, with, without};

fn said(text: &str) -> String {
    lines(&parse("doc.json", text.to_owned(), Options::default()).1)
}

#[test]
fn the_documents_of_2014_are_read_unchanged() {
    for text in [HUB, CLIENT, EXAMPLE] {
        read(text);
    }
    let hub = read(HUB);
    assert_eq!(hub.apps[0].addrs, ["198.51.100.100".parse::<std::net::Ipv4Addr>().unwrap()]);
    assert!(hub.apps[0].public);
    assert_eq!(hub.aws.image_owners, ["self"]);
    let example = read(EXAMPLE);
    assert_eq!((example.elbs[0].idle_timeout, example.apps[0].autoscale.unwrap().max), (Some(3600), 1));
}

#[test]
fn syntax_errors_name_the_place_and_the_remedy() {
    let cases = [
        ("", "doc.json:1:1: not JSON: expected a value, the file ends here\n"),
        ("{\n  \"aws\": {},\n}", "doc.json:2:12: not JSON: a comma before }: JSON allows none after the last item\n"),
        ("{\n \"a\": 1\n \"b\": 2 }", "doc.json:3:2: not JSON: expected a comma or }, found \"\n"),
        (
            "{ // no\n}",
            "doc.json:1:3: not JSON: JSON has no comments; use a key that begins with _, such as \"_comment\"\n",
        ),
        ("{ aws: {} }", "doc.json:1:3: not JSON: expected a key in double quotes, found a\n"),
        ("{ \"a\": \"x\n\" }", "doc.json:1:8: not JSON: a text that begins here has no closing quote on its line\n"),
        ("{ \"a\": tru }", "doc.json:1:8: not JSON: expected true, false, null or a text in quotes, found t\n"),
        ("{ \"a\": 01 }", "doc.json:1:8: not JSON: a number may not begin with 0\n"),
        (
            "{ \"a\": \"\\x\" }",
            "doc.json:1:9: not JSON: not an escape of JSON: \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX\n",
        ),
        ("{} {}", "doc.json:1:4: not JSON: expected the end of the file, found {\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(said(text), expected, "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(said(&deep), "doc.json:1:66: not JSON: nested deeper than 64 levels\n");
}

#[test]
fn a_column_counts_characters_and_a_byte_order_mark_none() {
    let text = "\u{feff}{ \"_\": \"späße 🦢\", \"aws\": 1 }";
    let at = text.find('1').unwrap();
    assert_eq!(place(text, at).column, text.chars().position(|c| c == '1').unwrap() + 1);
    assert!(said(text).contains(":1:27: aws: expected an object, found 1"), "{}", said(text));
}

#[test]
fn every_error_is_told_at_once() {
    let document = json!({
        "aws": { "region": "us-west2", "provder": "ec2", "zone": "x.com", "continent": "us1", "env": "prod",
                 "envtag": "env", "svctag": "aws:x", "privnet": "10.0.0.0/9" },
        "vpc": { "cidr": "10.0.1.0/22", "azs": [5], "subnets": "10.0.0.0/24", "pubsubnets": [] },
        "nat": { "name": "n_", "group": "sg-1", "svctag": "nat", "type": "t1", "role": "r", "keypair": "k",
                 "ami": "ami-1", "ports": [{ "from": "22", "to": 99999, "prot": "tpc" }] },
        "elbs": [], "apps": {}, "_comment": ["anything", { "at": "all" }]
    });
    let mut said = errors(&document);
    said.sort();
    let expected = [
        "apps: expected a list, found an object; put it into [ ]",
        "aws.provder: unknown key; did you mean provider?",
        "aws.region: expected a region such as us-west-2, found \"us-west2\"",
        "aws.svctag: expected a tag's key (1 to 128 characters, not beginning with aws:), found \"aws:x\"",
        "aws.zone: expected a DNS zone with its final dot, such as example.com., found \"x.com\"; did you mean \"x.com.\"?",
        "nat.ami: expected an image id such as ami-0a1b2c3d, found \"ami-1\"",
        "nat.group: expected a security group's name (1 to 240 letters, digits, spaces and any of ._-:/()#,@[]+=&;{}!$*), not default, not sg-, found \"sg-1\"",
        "nat.name: expected a DNS label (letters, digits and hyphens, at most 63, no hyphen at an end), found \"n_\"",
        "nat.ports[0].from: expected a whole number from -1 to 65535, found \"22\"; did you mean 22, without quotes?",
        "nat.ports[0].prot: expected tcp, udp or icmp, found \"tpc\"; did you mean \"tcp\"?",
        "nat.ports[0].to: expected a whole number from -1 to 65535, found 99999",
        "nat.type: expected an instance type such as t3.micro, found \"t1\"",
        "vpc.azs[0]: expected an availability zone such as us-west-2a, found 5",
        "vpc.cidr: expected a CIDR such as 10.0.0.0/16, found \"10.0.1.0/22\"; did you mean \"10.0.0.0/22\"?",
        "vpc.subnets: expected a list, found \"10.0.0.0/24\"; put it into [ ]",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_number_is_read_as_it_is_written() {
    let port = |number: &str| HUB.replacen("\"from\": 500", &format!("\"from\": {number}"), 1);
    assert_eq!(read(&port("-0")).nat.unwrap().ports[0].from, 0);
    for wrong in ["500.0", "5e2", "99999999999999999999", "-2"] {
        assert!(
            said(&port(wrong)).contains("expected a whole number from -1 to 65535, found"),
            "{}",
            said(&port(wrong))
        );
    }
}

#[test]
fn a_typing_error_in_a_protocol_opens_nothing() {
    for wrong in ["tpc", "TCP", "6", "", "-1", "all"] {
        let document = with(&value(HUB), "/nat/ports/0/prot", json!(wrong));
        assert_eq!(errors(&document).len(), 1, "{wrong}");
    }
}

#[test]
fn a_key_that_is_twice_in_an_object_is_an_error_even_when_equal() {
    let text = HUB.replace("\"region\": \"us-west-2\",", "\"region\": \"us-west-2\", \"region\": \"us-west-2\",");
    assert!(said(&text).contains("aws.region: this key appears twice"), "{}", said(&text));
    // The second one is not read at all, so it may hold anything.
    let text = HUB.replacen("\"elbs\": [ ]", "\"elbs\": [ ], \"aws\": 5", 1);
    assert_eq!(said(&text).lines().filter(|l| !l.contains("warning")).count(), 1, "{}", said(&text));
}

#[test]
fn unknown_keys_are_errors_unless_they_are_comments_or_allowed() {
    let document = with(&value(HUB), "/nat/colour", json!("blue"));
    assert_eq!(errors(&document).len(), 1);
    assert_eq!(errors(&with(&value(HUB), "/nat/_colour", json!("blue"))), Vec::<String>::new());
    let (read, problems) = parse("doc.json", document.to_string(), Options { allow_unknown: true });
    assert!(read.is_some() && lines(&problems).contains("warning: nat.colour: unknown key"), "{}", lines(&problems));
    // A misspelt key that must be there is an error in either case.
    let misspelt = with(&without(&value(HUB), "/aws/env"), "/aws/evn", json!("prod"));
    let (read, problems) = parse("doc.json", misspelt.to_string(), Options { allow_unknown: true });
    assert!(read.is_none() && lines(&problems).contains("aws.env: missing"), "{}", lines(&problems));
}

#[test]
fn a_key_that_counts_by_being_there_counts_and_warns_when_it_says_no() {
    for no in [json!("no"), json!(false), json!(0), json!(null)] {
        let document = with(&value(HUB), "/apps/0/public", no);
        assert!(read(&document.to_string()).apps[0].public);
        assert!(warnings(&document).iter().any(|w| w.starts_with("apps[0].public: takes effect by being present")));
    }
}

#[test]
fn a_secret_is_in_no_error_no_debug_output_and_no_digest() {
    let secret = "hunter2hunter2";
    let app = json!({ "name": "a", "svctag": "a", "group": "g", "type": "t3.micro", "role": "r", "ami": "ami-0a1b2c3d",
                      "keypair": "k", "count": 1, "userdata": secret });
    let good = with(&with(&value(CLIENT), "/apps/-", app), "/nat/psk", json!(secret));
    let document = read(&good.to_string());
    let digest = document.apps[0].userdata.as_ref().unwrap().digest().to_string();
    assert!(!format!("{document:?}{digest}").contains("hunter"));
    // Whatever is wrong around it: its kind, its key, its text's end, the whole object.
    let text = good.to_string();
    let broken = [
        text.clone(),
        text.replace("\"userdata\":\"hunter2hunter2\"", "\"userdata\":[\"hunter2hunter2\"]"),
        text.replace("\"userdata\":", "\"userdta\":"),
        text.replace("\"psk\":", "\"pks\":"),
        text.replace("hunter2hunter2\"", "hunter2hunter2"),
        text.replace("hunter2hunter2\"", "hunter2hunter2\" x"),
        text.replace("\"nat\":{", "\"nat\":[{").replacen("},", "}],", 1),
    ];
    for text in broken {
        assert!(!said(&text).contains("hunter"), "{}", said(&text));
    }
}

/// A good value for a key, for documents made of the table.
fn good(kind: &cloudcaster::schema::Kind) -> Value {
    use cloudcaster::schema::Kind;
    match kind {
        Kind::Text(format) => {
            let candidates = [
                "us-west-2",
                "us-west-2a",
                "123456789012",
                "self",
                "10.0.0.0/16",
                "10.0.0.5",
                "example.com.",
                "name",
                "arn:aws:iam::123456789012:role/dns",
                "ami-0a1b2c3d",
                "t3.micro",
                "tcp",
                "HTTP:80/",
                "classic",
                "allow",
            ];
            json!(candidates.iter().find(|c| format.check(c).is_ok()).expect("a candidate for each format"))
        }
        Kind::Secret => json!("text"),
        Kind::Whole(low, high) => json!(5.clamp(*low, *high)),
        Kind::Bool => json!(true),
        Kind::Present => json!("yes"),
        Kind::List(kind) => json!([good(kind)]),
        Kind::Object(object) => {
            object.keys.iter().map(|k| (k.name.to_owned(), good(&k.kind))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}

#[test]
fn the_types_take_what_the_table_allows() {
    let whole = good(&cloudcaster::schema::Kind::Object(&cloudcaster::schema::DOCUMENT));
    let disagree = |document: &Value| errors(document).iter().any(|e| e.contains("disagree"));
    assert!(!disagree(&whole), "{:?}", errors(&whole));
    // Each optional key alone taken away, each number at its bounds.
    for (path, key) in all_keys() {
        use cloudcaster::schema::{Kind, Need};
        let pointer = format!("/{}", path.replace("[]", "/0").replace('.', "/"));
        if key.need != Need::Required {
            assert!(!disagree(&without(&whole, &pointer)), "without {path}");
        }
        if let Kind::Whole(low, high) = key.kind {
            assert!(
                !disagree(&with(&whole, &pointer, json!(low))) && !disagree(&with(&whole, &pointer, json!(high))),
                "{path}"
            );
        }
    }
}

#[test]
fn the_table_has_every_key_of_the_types() {
    // A key that only the types know would be refused as unknown by the table first.
    let types = include_str!("../src/document/types.rs");
    let names: Vec<&str> = all_keys().iter().map(|(_, key)| key.name).collect();
    for line in types.lines().filter_map(|l| l.trim().strip_prefix("pub ")).filter(|l| l.ends_with(',')) {
        let field = line.split(':').next().unwrap();
        let renamed = ["instance_type", "kind"];
        assert!(names.contains(&field) || renamed.contains(&field), "{field}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scanner_reads_what_serde_json_writes_and_nothing_else(value in json_value()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(scan(&text).unwrap().json(), value);
    }

    #[test]
    fn the_scanner_and_serde_json_agree_on_what_is_json(text in r#"[\[\]{}:,"\\ua0-9eE.+\- tfnrulse]{0,24}"#) {
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let ours = scan(&text);
        // A lone surrogate is an error for us, and for serde_json only where it keeps the text.
        let theirs_kept = serde_json::from_str::<Value>(&text).is_ok();
        prop_assert!(ours.is_ok() == theirs_kept || ours.is_ok() == theirs, "{:?}", ours);
    }

    #[test]
    fn no_text_makes_the_reader_panic_and_every_problem_has_a_place(cut in 0usize..2000, junk in ".{0,12}") {
        let mut text = EXAMPLE.to_owned();
        let at = (0..=cut.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
        text.insert_str(at, &junk);
        let (_, problems) = parse("doc.json", text.clone(), Options::default());
        for problem in problems {
            prop_assert!(problem.line >= 1 && problem.line <= text.lines().count() + 1);
            prop_assert!(problem.to_string().chars().all(|c| (' '..='~').contains(&c)), "{}", problem);
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

#[test]
fn an_offset_points_at_the_value_it_belongs_to() {
    let root = scan(HUB).unwrap();
    let Tree::Object(members) = &root.value else { panic!() };
    for member in members {
        assert!(HUB[member.at..].starts_with(&format!("\"{}\"", member.key)));
        assert!(HUB[member.node.at..].starts_with(['{', '[']));
    }
}

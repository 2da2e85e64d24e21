use std::collections::BTreeSet;

use proptest::{collection::btree_map, prelude::*};

#[path = "../../../../tests/support/settings_text.rs"]
mod settings_text;

use super::*;

fn value(v: &str) -> Node {
    Node::Value(v.into())
}

fn tree<const N: usize>(nodes: [(&str, Node); N]) -> Tree {
    nodes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

#[test]
fn accepts_what_the_template_writes() {
    let cases = [
        ("", tree([])),
        ("# only a comment", tree([])),
        ("a = b", tree([("a", value("b"))])),
        ("a=b # why\r\nc = d", tree([("a", value("b")), ("c", value("d"))])),
        ("a = b,  c ,d  \n", tree([("a", value("b, c ,d"))])),
        ("a = 0sYQ==\n", tree([("a", value("0sYQ=="))])),
        ("a { b = c }", tree([("a", Node::Section(tree([("b", value("c"))])))])),
        ("a\n{\n}\n", tree([("a", Node::Section(tree([])))])),
        (r#"a = "x # { } \" \\ \n\t\y" z"#, tree([("a", value("x # { } \" \\ \n\ty z"))])),
        (r#"a = """#, tree([("a", value(""))])),
        ("includes = x", tree([("includes", value("x"))])),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text), Ok(expected), "{text:?}");
    }
}

#[test]
fn refuses_the_rest_with_its_line() {
    let deep = "a {".repeat(40);
    let (long_name, long_value) = ("n".repeat(256), format!("a = {}", "v".repeat(65_536)));
    let cases = [
        ("\n\ninclude conf.d/*.conf", 3, "include"),
        ("include = x", 1, "include"),
        ("a = b\nc : a {\n}", 2, "refers to another section"),
        ("a = b\n\na = c", 3, "\"a\" is set twice"),
        ("a {\n}\na = c", 3, "\"a\" is set twice"),
        ("s {\n a { }\n a { }\n}", 3, "\"a\" is set twice"),
        ("a =\nb = c", 1, "has no value"),
        ("a = # b", 1, "has no value"),
        ("a", 1, "expected = or {"),
        ("a b = c", 1, "expected = or {"),
        ("x = y\n}", 2, "unexpected '}'"),
        ("a {\n b = c\n", 3, "a } is missing"),
        ("a.b = c", 1, "expected = or {"),
        ("= c", 1, "unexpected '='"),
        ("\"a\" = c", 1, "unexpected '\\\"'"),
        ("a = \"b\nc\"", 1, "must end on its line"),
        ("a = \"b", 1, "must end on its line"),
        ("a = \"b\\\nc\"", 1, "must end on its line"),
        ("a = b {\n}", 1, "unexpected {"),
        ("a = b\0", 1, "NUL"),
        ("a = b # c\r\nd = e # f\rg = h\n", 2, "a carriage return"),
        (&deep, 1, "nested deeper"),
        (&long_name, 1, "longer than 255"),
        (&long_value, 1, "longer than 65535"),
    ];
    for (text, line, what) in cases {
        let error = parse(text).expect_err(text);
        assert!(error.line == line && error.what.contains(what), "{text:.40?}: {error}");
    }
}

#[test]
fn an_error_shows_no_value() {
    for text in ["secret = \"hunter2", "secret = hunter2 {", "s { secret = hunter2\n secret = hunter2 }"] {
        let error = parse(text).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn list_keys_become_lists_at_every_depth() {
    let file = parse(
        "connections { c { remote_addrs = a, ,b\nunique = x,y\nchildren { d { local_ts = 10.0.0.0/8 \n mode = pass } } } \n v = 1 }",
    )
    .unwrap();
    let list = |items: &[&str]| Node::List(items.iter().map(|i| (*i).to_owned()).collect());
    let child = tree([("local_ts", list(&["10.0.0.0/8"])), ("mode", value("pass"))]);
    let conn = tree([
        ("remote_addrs", list(&["a", "b"])),
        ("unique", value("x,y")),
        ("children", Node::Section(tree([("d", Node::Section(child))]))),
    ]);
    assert_eq!(connections(file), BTreeMap::from([("c".to_owned(), conn)]));
    assert!(connections(parse("pools { }").unwrap()).is_empty());
}

#[test]
fn secrets_are_decoded_as_swanctl_does() {
    let key = |text: &str| {
        let file =
            parse(&format!("secrets {{ ike-x {{ secret = {text}\n id-2 = b\n id-1 = a\n file = f }} }}")).unwrap();
        secrets(&file).map(|mut all| all.remove("ike-x").unwrap())
    };
    let cases: [(&str, &[u8]); 9] = [
        ("plain", b"plain"),
        ("\"two  words\"", b"two  words"),
        ("0x00fF10", &[0, 255, 16]),
        ("0Xab", &[0xab]),
        ("0sAP8Q", &[0, 255, 16]),
        ("0SAP8QIA==", &[0, 255, 16, 32]),
        ("0sAP8QICE=", &[0, 255, 16, 32, 33]),
        ("0s+/+/", &[0xfb, 0xff, 0xbf]),
        ("0", b"0"),
    ];
    for (text, bytes) in cases {
        let shared = key(text).unwrap();
        assert_eq!((shared.secret.bytes(), shared.owners.join(",")), (bytes, "a,b".to_owned()), "{text}");
    }
    for text in ["0x1", "0xgg", "0x", "0s", "0s=", "0sA", "0sAP8", "0sAP8*", "0sAP8=QQ==", "0sAB==", "0sA===", "\"\""] {
        let error = key(text).expect_err(text).to_string();
        assert!(error.starts_with("secrets.\"ike-x\": secret is "), "{error}");
    }
    for text in ["eap-x { secret = y\n }", "ike-x { id = y\n }"] {
        assert!(secrets(&parse(&format!("secrets {{ {text} }}")).unwrap()).is_err(), "{text}");
    }
}

#[test]
fn a_secret_shows_in_no_debug_output() {
    let file = parse("secrets { ike-x { secret = hunter2\n } }").unwrap();
    assert!(!format!("{:?}", secrets(&file).unwrap()).contains("hunter2"));
}

fn summary(text: &str) -> Summary {
    Summary::of(&connections(parse(&format!("connections {{ c {{ {text} }} }}")).unwrap())["c"])
}

#[test]
fn a_summary_does_not_see_order_or_spelling() {
    let a = summary(
        "local_addrs = b,a\n local { id = x\n } children { c { local_ts = 10.0.0.0/8,10.1.0.0/16\n remote_ts = 10.2.0.1\n } }",
    );
    let b = summary(
        "remote_addrs = %any\n local_addrs = a,b\n local-1 { id = x\n } remote { id = %any\n } children { c { mode = TUNNEL\n local_ts = 10.9.9.9/8\n remote_ts = 10.2.0.1/32\n } }",
    );
    assert_eq!(a, b);
    assert_eq!(a.children["c"].local_ts, BTreeSet::from(["10.0.0.0/8".into()]), "what lies inside another is dropped");
}

#[test]
fn a_summary_sees_each_difference() {
    let base = "local_addrs = a\n remote_addrs = b\n local { id = x\n } remote { id = y\n } children { c { local_ts = 10.0.0.0/8\n remote_ts = 10.1.0.0/16\n } }";
    let edits = [
        ("local_addrs = a", "local_addrs = b"),
        ("remote_addrs = b", "remote_addrs = b,c"),
        ("id = x", "id = z"),
        ("id = y", "id = %any"),
        ("c {", "d {"),
        ("10.0.0.0/8", "10.0.0.0/9"),
        ("10.1.0.0/16", "10.1.0.0/16,10.3.0.0/16"),
        ("remote_ts = 10.1.0.0/16", "mode = pass"),
        ("local_ts = 10.0.0.0/8", "x = y"),
    ];
    for (from, to) in edits {
        assert_ne!(summary(base), summary(&base.replacen(from, to, 1)), "{from} -> {to}");
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let name = "[a-zA-Z0-9_-]{1,12}".prop_filter("refused", |n| n != "include");
    let text = prop_oneof!["[ -~]{0,20}", "[a-z0-9./,]{1,20}", "\\PC{0,10}", "[\\n\\r\\t\"#{}= ]{0,5}"];
    let leaf = text.prop_map(Node::Value);
    let nodes = leaf.prop_recursive(4, 40, 5, {
        let name = name.clone();
        move |inner| btree_map(name.clone(), inner, 0..5).prop_map(Node::Section)
    });
    btree_map(name, nodes, 0..5)
}

proptest! {
    #[test]
    fn what_is_written_parses_back(t in any_tree()) {
        prop_assert_eq!(parse(&settings_text::write(&t)), Ok(t));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", noise in "[a-c {}=\"\\\\#:.,\\n0sx]{0,60}") {
        for text in [text, noise] {
            if let Ok(tree) = parse(&text) {
                prop_assert_eq!(parse(&settings_text::write(&tree)), Ok(tree.clone()));
                let _ = (secrets(&tree), connections(tree).values().map(Summary::of).count());
            }
        }
    }

    #[test]
    fn a_secret_of_any_bytes_survives_hex(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let file = parse(&format!("secrets {{ ike {{ secret = 0x{hex}\n }} }}")).unwrap();
        let read = secrets(&file).unwrap();
        prop_assert_eq!(read["ike"].secret.bytes(), &bytes[..]);
    }
}

#[test]
fn a_section_is_put_in_the_place_of_another_byte_for_byte() {
    let old = "# old\nc {\n    a {\n        x = 1 # } {\n    }\n    b { y = \"}\" }\n    e {\n    }\n}\n";
    let new = "# new\nc {\n    a {\n        x = 2\n    }\n    b { y = 3 }\n    d {\n    }\n}\ns { a { } }\n";
    let spliced = |instead: &[(&str, Replacement)]| {
        splice(new, old, &["c"], &instead.iter().map(|(name, i)| ((*name).to_owned(), *i)).collect()).unwrap()
    };
    use Replacement::{Nothing, Other};
    assert_eq!(spliced(&[]), new);
    assert_eq!(spliced(&[("a", Other)]), new.replace("x = 2", "x = 1 # } {"));
    assert_eq!(spliced(&[("a", Nothing)]), new.replace("    a {\n        x = 2\n    }\n", ""));
    assert_eq!(spliced(&[("b", Other), ("d", Other)]), new.replace("3", "\"}\"").replace("    d {\n    }\n", ""));
    assert_eq!(
        spliced(&[("e", Other), ("f", Other)]),
        new.replace("    d {\n    }\n", "    d {\n    }\n    e {\n    }\n")
    );
    assert!(splice(new, "c { a {", &["c"], &BTreeMap::new()).is_err());
    // Deeper down, and in no other section.
    let deep = "c {\n    a {\n        k {\n            x {\n            }\n            y { }\n        }\n    }\n    b { k { x { } } }\n}\n";
    let cut = splice(deep, "", &["c", "a", "k"], &[("x".to_owned(), Nothing)].into()).unwrap();
    assert_eq!(cut, deep.replacen("            x {\n            }\n", "", 1));
    for path in [&["c", "b", "x"][..], &["c", "z"], &["s"]] {
        assert_eq!(splice(deep, "", path, &[("x".to_owned(), Nothing)].into()).unwrap(), deep, "{path:?}");
    }
    // On one line with a comment before it, nothing but the section goes.
    let odd = "c { # why\n a { } }";
    assert_eq!(splice(odd, "", &["c"], &[("a".to_owned(), Nothing)].into()).unwrap(), "c { # why\n  }");
}

proptest! {
    /// Whatever is spliced in where, the text still parses, and every other section is what it was.
    #[test]
    fn splicing_touches_no_other_section(a in btree_map("[a-e]", 0..9u8, 0..5), b in btree_map("[a-e]", 0..9u8, 0..5), name in "[a-e]", nothing: bool) {
        let text = |sections: &BTreeMap<String, u8>| {
            let each: String = sections.iter().map(|(n, v)| format!("    {n} {{\n        v = {v}\n    }}\n")).collect();
            format!("c {{\n{each}}}\n")
        };
        let instead = if nothing { Replacement::Nothing } else { Replacement::Other };
        let mut wanted = a.clone();
        wanted.remove(&name);
        wanted.extend(b.get_key_value(&name).filter(|_| !nothing).map(|(n, v)| (n.clone(), *v)));
        let spliced = splice(&text(&a), &text(&b), &["c"], &[(name, instead)].into()).unwrap();
        prop_assert_eq!(parse(&spliced), parse(&text(&wanted)));
    }
}

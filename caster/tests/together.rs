//! Documents that are given together, and files beside them.

use std::path::PathBuf;

use cloudcaster::document::{Options, load};
use serde_json::{Value, json};

use crate::documents::{CLIENT, EXAMPLE, HUB, lines, value, with};

/// Writes documents into a folder and loads them together; the problems, without the folder.
fn together(documents: &[(&str, &Value)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = documents
        .iter()
        .map(|(name, document)| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{document:#}")).unwrap();
            path
        })
        .collect();
    let prefix = format!("{}/", folder.path().display());
    let loaded = load(&paths, Options::default());
    lines(&loaded.problems)
        .replace(&prefix, "")
        .lines()
        .filter(|l| !l.contains("warning:"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_hub_and_its_client_go_together() {
    assert_eq!(
        together(&[("hub.json", &value(HUB)), ("client.json", &value(CLIENT)), ("example.json", &value(EXAMPLE))]),
        Vec::<String>::new()
    );
}

#[test]
fn documents_are_checked_against_each_other() {
    let client = value(CLIENT);
    let mut second = with(&client, "/vpc/cidr", json!("203.0.113.64/26"));
    second = with(&second, "/vpc/subnets", json!(["203.0.113.80/28"]));
    second = with(&second, "/vpc/pubsubnets", json!(["203.0.113.64/28"]));
    let said = together(&[("a.json", &client), ("b.json", &second)]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains(
            "nat.name: claims the record nat-vpn-prod.ec2-us-west-2.us1.example.wrathofchris.com., which a.json:"
        ),
        "{said:?}"
    );
    let named = with(&second, "/nat/name", json!("nat-vpn-2"));
    assert_eq!(together(&[("a.json", &client), ("b.json", &named)]), Vec::<String>::new());
    // An overlap counts in every region of one private network.
    let mut far = with(&client, "/aws/region", json!("eu-west-1"));
    far = with(&far, "/vpc/azs", json!(["eu-west-1a"]));
    let said = together(&[("a.json", &client), ("b.json", &far)]);
    assert!(said[0].contains("203.0.113.128/26 overlaps 203.0.113.128/26 of a.json:") && said.len() == 1, "{said:?}");
    // The same Elastic IP for two.
    let taken = with(&named, "/nat/addrs", json!(["198.51.100.100"]));
    let said = together(&[("hub.json", &value(HUB)), ("b.json", &taken)]);
    assert!(said[0].contains("nat.addrs[0]: 198.51.100.100 is also in hub.json:"), "{said:?}");
}

#[test]
fn a_hub_and_its_clients_must_find_each_other_in_their_regions() {
    let far = with(&with(&value(CLIENT), "/aws/region", json!("eu-west-1")), "/vpc/azs", json!(["eu-west-1a"]));
    let hub = |regions: Value| with(&value(HUB), "/aws/regions", regions);
    let said = together(&[("hub.json", &hub(json!(["us-west-2"]))), ("a.json", &far)]);
    assert!(
        said.len() == 1 && said[0].contains("aws.regions: eu-west-1 of a.json:") && said[0].starts_with("hub.json:"),
        "{said:?}"
    );
    let both = hub(json!(["us-west-2", "eu-west-1"]));
    assert_eq!(together(&[("a.json", &far), ("hub.json", &both)]), Vec::<String>::new());
    let lost = with(&far, "/aws/regions", json!(["eu-west-1"]));
    let said = together(&[("a.json", &lost), ("hub.json", &both)]);
    assert!(said.len() == 1 && said[0].contains("aws.regions: us-west-2 of hub.json:"), "{said:?}");
    // Two clients need not find each other, nor those of another private network.
    let other = with(&value(CLIENT), "/aws/regions", json!(["ap-southeast-2"]));
    assert!(together(&[("a.json", &far), ("b.json", &other)]).iter().all(|s| !s.contains("regions")), "clients");
}

#[test]
fn user_data_comes_from_a_file_beside_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let document = with(&value(EXAMPLE), "/apps/0/userdata_file", json!("boot.sh"));
    let path = folder.path().join("doc.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let missing = load(std::slice::from_ref(&path), Options::default());
    assert!(
        lines(&missing.problems).contains("apps[0].userdata_file: \"boot.sh\" cannot be read"),
        "{}",
        lines(&missing.problems)
    );
    std::fs::write(folder.path().join("boot.sh"), "#!/bin/sh\n").unwrap();
    let loaded = load(std::slice::from_ref(&path), Options::default());
    assert!(!loaded.has_errors() && loaded.documents[0].data.contains_key("exampleapp"));
    std::fs::write(folder.path().join("boot.sh"), "x".repeat(16385)).unwrap();
    let long = load(&[path], Options::default());
    assert!(lines(&long.problems).contains("larger than 16384 bytes"));
}

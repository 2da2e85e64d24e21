//! The table of keys: its three outputs say the same, and the manual's tables are made of it.

use std::{fs, path::Path};

use cloudcaster::schema::{all_keys, explain, explain_all, json_schema, tables};

const MANUAL: &str = "../docs/cloudcaster.md";
const BEGIN: &str = "<!-- The tables of keys: made by BLESS=1 cargo test -p cloudcaster -->\n";
const END: &str = "<!-- end of the tables -->\n";

#[test]
fn the_manual_has_the_table_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(MANUAL);
    let manual = fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once(BEGIN).expect("the beginning of the tables");
    let (old, after) = rest.split_once(END).expect("the end of the tables");
    let new = format!("\n{}", tables());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{new}{END}{after}")).unwrap();
    } else {
        assert!(old == new, "{MANUAL} is not what the table says: BLESS=1 cargo test -p cloudcaster");
    }
}

#[test]
fn the_schema_has_every_key_with_its_meaning() {
    let schema = json_schema();
    for (path, key) in all_keys() {
        let pointer = path.split('.').map(|part| match part.strip_suffix("[]") {
            Some(list) => format!("/properties/{list}/items"),
            None => format!("/properties/{part}"),
        });
        let pointer: String = pointer.collect();
        // A list's meaning is beside its items.
        let pointer = pointer.strip_suffix("/items").unwrap_or(&pointer).to_owned();
        let found = schema.pointer(&pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert_eq!(found["description"], key.help, "{path}");
    }
}

#[test]
fn a_key_is_explained_by_its_name_or_its_path_as_errors_print_it() {
    assert_eq!(explain("apps[0].allow[1].cidr").unwrap()[0].path, "apps[].allow[].cidr");
    assert_eq!(explain("apps.allow.cidr").unwrap().len(), 1);
    assert_eq!(explain("azlimit").unwrap()[0].need, "optional");
    assert_eq!(explain("nat").unwrap().len(), 1, "a whole path means itself only");
    assert!(explain("name").unwrap().len() > 3);
    assert_eq!(explain("azlimt").unwrap_err(), "no key is called \"azlimt\"; did you mean azlimit?");
    for said in explain_all() {
        assert_eq!(explain(&said.path).unwrap(), vec![said]);
    }
}

#[test]
fn every_meaning_is_a_sentence() {
    for (path, key) in all_keys() {
        assert!(key.help.ends_with('.') && key.help.len() > 10, "{path}: {}", key.help);
        assert!(!key.help.contains('|') && !key.maps.contains('|'), "{path} would break its table");
    }
}

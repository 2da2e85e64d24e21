//! What the table says of modes: a mode that does not use a setting accepts it, and writes the same files.

use std::{fs, path::Path};

use crosswan_core::settings::{SETTINGS, TomlFile};

use crate::world::{World, settings, settings_of};

/// A value of each setting that a mode does not use, other than its default.
const VALUES: [(&str, &str); 30] = [
    ("hub", "'198.51.100.7'"),
    ("hub_tag", "'k=v'"),
    ("regions", "['ca-central-1']"),
    ("gateway_tag", "'k=v'"),
    ("environment_tag", "'k=v'"),
    ("own_account", "false"),
    ("accounts", "['arn:aws:iam::111122223333:role/a']"),
    ("segments", "{ prod = ['shared'] }"),
    ("segment_tag", "'k'"),
    ("guard.input", "['tcp/22']"),
    ("guard.exclude", "['10.9.0.0/16']"),
    ("auth.method", "'psk'"),
    ("auth.hub_key", "'MCowBQYDK2VwAyEAAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE='"),
    ("auth.max_key_age", "'1day'"),
    ("auth.psk_file", "'/psk'"),
    ("auth.psk_dir", "'/psk.d'"),
    ("auth.psk_parameter", "'/psk'"),
    ("auth.psk_secret", "'psk'"),
    ("auth.psk_region", "'ca-central-1'"),
    ("removal.after_misses", "1"),
    ("removal.spacing", "'0s'"),
    ("removal.hold_above", "'100%'"),
    ("removal.hold_floor", "100"),
    ("removal.confirmed_after", "1"),
    ("keep.interval", "'1min'"),
    ("pair.enabled", "true"),
    ("pair.port", "5000"),
    ("pair.interval", "'1s'"),
    ("pair.misses", "5"),
    ("ec2.timeout", "'1s'"),
];

#[test]
fn a_setting_changes_nothing_in_a_mode_that_does_not_use_it() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    for case in ["nat-hub", "spoke-first-boot", "spoke-by-key", "hub-by-keys"].map(|case| golden.join(case)) {
        let world: World = serde_json::from_str(&fs::read_to_string(case.join("seen.json")).unwrap()).unwrap();
        let root = case.join("root");
        let plain = settings(&root).unwrap();
        let own = root.join("etc/crosswan/crosswan.toml");
        let unused = SETTINGS.iter().filter(|s| !s.modes.contains(&plain.mode));
        for setting in unused {
            let (name, value) = VALUES.iter().find(|(name, _)| *name == setting.name).expect("each has a value");
            let toml = vec![
                TomlFile { text: fs::read_to_string(&own).unwrap(), path: own.clone() },
                TomlFile { text: format!("{name} = {value}"), path: "more.toml".into() },
            ];
            let more = settings_of(&root, toml).unwrap();
            let (more, plain) = (world.files(&more).unwrap().1, world.files(&plain).unwrap().1);
            assert!(more == plain, "{}: {name} = {value} changes the files:\n{more:#?}\n{plain:#?}", case.display());
        }
    }
}

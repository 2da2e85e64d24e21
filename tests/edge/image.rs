//! What `images/provision.sh` makes of an image's settings: missing ones may come with user data, wrong ones may not.

use std::{fs, process::Command};

/// The script's own check, with this agent and these settings; whether it went on, and what it said.
fn check(toml: &str) -> (bool, String) {
    let host = tempfile::tempdir().unwrap();
    let settings = host.path().join("etc/crosswan/crosswan.toml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, toml).unwrap();
    let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/images/provision.sh")).unwrap();
    // These functions alone: the rest of the script cleans the machine that it runs on.
    let function = |name: &str| {
        let start = script.find(&format!("\n{name}() {{")).unwrap();
        &script[start..start + script[start..].find(if name.len() < 4 { "}\n" } else { "\n}\n" }).unwrap() + 3]
    };
    let functions = ["say", "die", "check_settings", "understood"].map(function).concat();
    let functions = functions.replace("/usr/bin/crosswan", env!("CARGO_BIN_EXE_crosswan"));
    let output = Command::new("bash")
        .args(["-c", &format!("set -euo pipefail\n{functions}\nsettings={}\ncheck_settings", settings.display())])
        .env("CROSSWAN_ROOT", host.path())
        .env("TMPDIR", host.path())
        // Nobody listens: in a chroot there is no IMDS either.
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_image_may_lack_settings_and_may_not_have_wrong_ones() {
    const HUB: &str = "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n";
    for (toml, more) in [
        (HUB.to_owned(), "regions"),
        (HUB.replace("vpn-hub", "nat-vpn"), "hub"),
        (HUB.replace("vpn-hub", "nat-vpn") + "hub = \"198.51.100.100\"\n", "hub"),
        ("mode = \"nat-hub\"\n".to_owned(), "private_net"),
    ] {
        let (went_on, said) = check(&toml);
        assert!(
            went_on && said.contains("user data must bring more") && said.contains(&format!(": {more}: ")),
            "{said}"
        );
    }
    for whole in [HUB.replace("vpn-hub", "nat-hub"), format!("{HUB}regions = [\"us-west-2\"]\nauth.method = \"psk\"\n")]
    {
        assert_eq!(check(&whole), (true, String::new()));
    }
    for wrong in ["regions = [\"nowhere at all\"]\n", "regions = [\"us-west-2\"]\nnonsense = 3\n", "nonsense = 3\n"] {
        let (went_on, said) = check(&format!("{HUB}{wrong}"));
        assert!(!went_on && said.contains("crosswan.toml:") && !said.contains("user data"), "{said}");
    }
}

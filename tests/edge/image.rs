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
        let from = &script[script.find(&format!("\n{name}() {{")).unwrap()..];
        let line = from[1..].lines().next().unwrap();
        if line.ends_with('}') { format!("{line}\n") } else { from[..from.find("\n}\n").unwrap() + 3].to_owned() }
    };
    let functions = ["say", "die", "check_settings", "understood"].map(function).concat();
    let functions = functions.replace("/usr/bin/crosswan", env!("CARGO_BIN_EXE_crosswan"));
    let output = Command::new("bash")
        .args(["-c", &format!("set -euo pipefail\n{functions}\nsettings={}\ncheck_settings", settings.display())])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
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
    let plain = |mode: &str| HUB.replace("vpn-hub", mode);
    let more = [
        (HUB.to_owned(), "regions"),
        (plain("nat-vpn"), "hub"),
        (plain("nat-vpn") + "hub = \"198.51.100.100\"\n", "hub"),
        ("mode = \"nat-hub\"\n".to_owned(), "private_net"),
    ];
    let whole = [plain("nat-hub"), format!("{HUB}regions = [\"us-west-2\"]\nauth.method = \"psk\"\n")];
    let wrong = ["regions = [\"nowhere at all\"]\n", "regions = [\"us-west-2\"]\nnonsense = 3\n", "nonsense = 3\n"];
    // All at once: whoever gets past the settings waits ten seconds for IMDS.
    std::thread::scope(|scope| {
        for (toml, more) in &more {
            scope.spawn(move || {
                let (went_on, said) = check(toml);
                assert!(went_on && said.contains("user data must bring more"), "{said}");
                assert!(said.contains(&format!(": {more}: ")), "{said}");
            });
        }
        for toml in &whole {
            scope.spawn(move || assert_eq!(check(toml), (true, String::new())));
        }
        for more in wrong {
            scope.spawn(move || {
                let (went_on, said) = check(&format!("{HUB}{more}"));
                assert!(!went_on && said.contains("crosswan.toml:") && !said.contains("user data"), "{said}");
            });
        }
    });
}

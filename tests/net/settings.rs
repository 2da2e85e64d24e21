//! Wrong settings through the real binary: exit code 2, and one line that names the file, the setting, what was found and what is
//! accepted. This needs no lab.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use anyhow::Result;
use tempfile::TempDir;

use crate::region::agent;

const TOML: &str = "/etc/crosswan/crosswan.toml";
const HUB: &str = "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"us-west-2\"]\n";
const GOOD_KEY: &str = "c2VsZG9tIGFueXRoaW5nIGxpa2UgYSBrZXk=\n";

/// One machine's wrong settings, and the line they must end in.
#[derive(Default)]
struct Case {
    /// Below a temporary root: path, contents, mode.
    files: Vec<(&'static str, &'static str, u32)>,
    env: Vec<(&'static str, &'static str)>,
    flags: Vec<&'static str>,
    line: &'static str,
}

fn toml(text: &'static str, line: &'static str) -> Case {
    Case { files: vec![(TOML, text, 0o644)], line, ..Case::default() }
}

/// A good hub with one more file.
fn beside(path: &'static str, text: &'static str, mode: u32, line: &'static str) -> Case {
    Case { files: vec![(TOML, HUB, 0o644), (path, text, mode)], line, ..Case::default() }
}

fn set(name: &'static str, value: &'static str, line: &'static str) -> Case {
    Case { env: vec![(name, value)], ..beside("/etc/crosswan/psk", GOOD_KEY, 0o600, line) }
}

fn run(case: &Case, command: &[&str]) -> Result<(Output, TempDir)> {
    let root = TempDir::new()?;
    for (path, text, mode) in &case.files {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap())?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    let output = Command::new(agent()?)
        .args(command)
        .args(&case.flags)
        .env_clear()
        .env("CROSSWAN_ROOT", root.path())
        .envs(case.env.iter().copied())
        .output()?;
    Ok((output, root))
}

#[test]
#[rustfmt::skip]
fn every_kind_of_wrong_setting_is_one_line_and_exit_code_2() -> Result<()> {
    let cases = [
        // A value, a type, a name, a section, the syntax, a combination, what is missing.
        toml("mode = \"nat\"\n", "/etc/crosswan/crosswan.toml:1: mode: expected vpn-hub, nat-hub or nat-vpn, found \"nat\""),
        toml("mode = 2014\n", "/etc/crosswan/crosswan.toml:1: mode: expected vpn-hub, nat-hub or nat-vpn, found 2014"),
        toml("mode = \"nat-hub\"\nprivate_nets = []\n", "/etc/crosswan/crosswan.toml:2: private_nets: unknown setting; did you mean private_net?"),
        toml("mode = \"nat-hub\"\nprivate_net = [\"10.0.0.1/8\"]\n", "/etc/crosswan/crosswan.toml:2: private_net: expected a list of one or more networks such as 10.0.0.0/8, none overlapping another, found \"10.0.0.1/8\" (bits are set in its host part: 10.0.0.0/8 was probably meant)"),
        toml("mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n[removal]\nafter_misses = 0\n", "/etc/crosswan/crosswan.toml:4: removal.after_misses: expected a whole number from 1 to 1000, found 0"),
        toml("mode = \"nat-hub\n", "/etc/crosswan/crosswan.toml:1:16: expected TOML, found: invalid basic string, expected `\"`"),
        toml("mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nhub = \"10.0.0.10\"\n", "/etc/crosswan/crosswan.toml:3: hub: expected the hub's Elastic IP, found 10.0.0.10, which lies in private_net 10.0.0.0/8"),
        toml("mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nhub = \"198.51.100.100\"\nhub_tag = \"a=b\"\n[auth]\nmethod = \"psk\"\n", "/etc/crosswan/crosswan.toml:3: hub: expected hub or hub_tag, found both (hub_tag is set in /etc/crosswan/crosswan.toml:4)"),
        toml("mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nhub = \"198.51.100.100\"\n", "/etc/crosswan/crosswan.toml:3: hub: expected a way to find its key, found none; set regions (those in which to look up the hub's tag), auth.hub_key, or auth.method = \"psk\" in /etc/crosswan/crosswan.toml"),
        toml("", "/etc/crosswan/crosswan.toml: mode: expected one in any source, found none; set mode = \"vpn-hub\", \"nat-hub\" or \"nat-vpn\" there, CROSSWAN_MODE or --mode"),
        toml("mode = \"nat-hub\"\n", "/etc/crosswan/crosswan.toml:1: private_net: expected one for mode nat-hub, found none; set private_net = [\"10.0.0.0/8\"] in /etc/crosswan/crosswan.toml, or CROSSWAN_PRIVATE_NET"),
        // The other sources: conf.d, the environment, flags, the files of 2014.
        beside("/etc/crosswan/conf.d/50-site.toml", "regions = [\"Oregon\"]\n", 0o644, "/etc/crosswan/conf.d/50-site.toml:1: regions: expected a list of regions such as eu-west-1, found \"Oregon\""),
        set("CROSSWAN_HUB", "hub.example.com", "CROSSWAN_HUB: hub: expected the hub's Elastic IP, a plain unicast IPv4 address such as 198.51.100.100, or a list of two different ones, found \"hub.example.com\""),
        set("CROSSWAN_REGION", "us-west-2", "environment: CROSSWAN_REGION: unknown variable; did you mean CROSSWAN_REGIONS?"),
        Case { flags: vec!["--regions", "us west"], ..set("LANG", "C", "--regions: regions: expected a list of regions such as eu-west-1, found \"us\"") },
        Case { files: vec![("/etc/default/nat-vpn", "VPN_NET=10.0.0.0/8\nVPN_HUB='the hub'\n", 0o644)], line: "/etc/default/nat-vpn:2: VPN_HUB: expected the hub's Elastic IP, a plain unicast IPv4 address such as 198.51.100.100, or a list of two different ones, found \"the\"", ..Case::default() },
        Case { files: vec![("/etc/default/nat-hub", "VPN_NETS=10.0.0.0/8\n", 0o644)], line: "/etc/default/nat-hub: private_net: expected one for mode nat-hub, found none; set private_net = [\"10.0.0.0/8\"] in /etc/crosswan/crosswan.toml, or CROSSWAN_PRIVATE_NET: /etc/default/nat-hub:1: VPN_NETS: unknown name, the line is ignored; did you mean VPN_NET?", ..Case::default() },
    ];
    for case in &cases {
        // Every command that reads settings says the same.
        for command in [&["refresh"][..], &["refresh", "--dry-run", "--json"], &["keep"], &["render", "--out", "/nonexistent"]] {
            ends_in_its_line(case, command)?;
        }
    }
    // Only commands that use pre-shared keys read them; `keep` does not.
    let default_key = "/etc/crosswan/psk: a well-known default pre-shared key; make one with: openssl rand -base64 32";
    let cases = [
        beside("/etc/crosswan/psk", "If I only had a secret to share\n", 0o600, default_key),
        beside("/etc/crosswan/psk", "short\n", 0o600, "/etc/crosswan/psk: a pre-shared key of 5 bytes, fewer than 16; make one with: openssl rand -base64 32"),
        beside("/etc/crosswan/psk", GOOD_KEY, 0o644, "/etc/crosswan/psk: other users may use this key (mode 0644); chmod 600 /etc/crosswan/psk"),
    ];
    for case in &cases {
        for command in [&["refresh"][..], &["render", "--out", "/nonexistent"]] {
            ends_in_its_line(case, command)?;
        }
    }
    Ok(())
}

fn ends_in_its_line(case: &Case, command: &[&str]) -> Result<()> {
    let (output, root) = run(case, command)?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let stderr = stderr.replace(root.path().to_str().unwrap(), "");
    assert_eq!(stderr, format!("crosswan: {}\n", case.line), "{command:?}");
    assert_eq!((output.status.code(), stdout.as_str()), (Some(2), ""), "{command:?}: {}", case.line);
    // Nothing was tried; a pass leaves a report for `status`.
    let written = |folder: &str| fs::read_dir(root.path().join(folder)).map_or(0, Iterator::count);
    let passes = usize::from(command == ["refresh"]);
    assert_eq!((written("run/crosswan"), written("var"), written("etc/swanctl")), (passes, 0, 0), "{command:?}");
    if passes == 1 {
        let failure: serde_json::Value =
            serde_json::from_slice(&fs::read(root.path().join("run/crosswan/failure.json"))?)?;
        let error = failure["error"].as_str().unwrap_or_default().replace(root.path().to_str().unwrap(), "");
        assert_eq!((failure["exit_code"].as_u64(), error.as_str()), (Some(2), case.line));
    }
    Ok(())
}

/// clap's own words, and the same exit code.
#[test]
fn a_wrong_argument_ends_in_exit_code_2_too() -> Result<()> {
    for flags in [vec!["--no-such-flag"], vec!["--mode"]] {
        let (output, _root) = run(&Case { flags, ..Case::default() }, &["refresh"])?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    Ok(())
}

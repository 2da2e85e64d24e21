//! The systemd units: free of mistakes, sandboxed, and in agreement with the agent about its exit codes.
//!
//! They are checked by systemd-analyze itself, which needs no running systemd. A missing one is a failure.

#![allow(unreachable_pub, reason = "nothing outside a test uses its items")]
#![allow(clippy::disallowed_methods, reason = "a test: it writes copies of the units and runs systemd-analyze")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crosswan::paths::Paths;
use crosswan_core::error::{Kind, STOPPED, WAITING};

const REFRESH: &str = "crosswan-refresh.service";
const WATCH: &str = "crosswan-watch.service";
/// They measure, and show what was measured; neither is enabled by an image.
const METRICS: [&str; 4] =
    ["crosswan-metrics.service", "crosswan-metrics.timer", "crosswan-metrics.socket", "crosswan-metrics@.service"];
const PAIR: &str = "crosswan-pair.service";
const SERVICES: [&str; 4] = [REFRESH, "crosswan-keep.service", WATCH, PAIR];
const TIMER: &str = "crosswan-refresh.timer";
/// Loads rules at boot, before there is a network; and what starts a refresh when one is needed.
const GUARD: &str = "crosswan-guard.service";
const PATH: &str = "crosswan-refresh.path";

fn unit_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn unit(name: &str) -> String {
    fs::read_to_string(unit_file(name)).unwrap_or_else(|e| panic!("systemd/{name}: {e}"))
}

/// Every value a unit gives `key`, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    unit.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

/// Runs systemd-analyze; its whole output, and whether it found no fault.
fn analyze(args: &[&str]) -> (bool, String) {
    let out = Command::new("systemd-analyze").args(args).env("SYSTEMD_COLORS", "0").output();
    let out = out.unwrap_or_else(|e| panic!("systemd-analyze, of Debian's package systemd, is needed: {e}"));
    (out.status.success(), [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat())
}

/// `systemd-analyze verify` over the units with the program just built in the place of the installed one.
fn verify(change: impl Fn(&str) -> String) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut args = vec!["verify".to_owned(), "--man=no".into(), "--recursive-errors=no".into()];
    let guard = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/guard/");
    for name in SERVICES.into_iter().chain([TIMER, GUARD, PATH]).chain(METRICS) {
        let copy = dir.path().join(name);
        let text = change(&unit(name)).replace("/usr/bin/crosswan", env!("CARGO_BIN_EXE_crosswan"));
        fs::write(&copy, text.replace("/usr/lib/crosswan/", guard.to_str().unwrap())).unwrap();
        args.push(copy.to_str().unwrap().to_owned());
    }
    analyze(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn units_are_without_a_warning() {
    let (content, said) = verify(str::to_owned);
    assert!(content && said.trim().is_empty(), "systemd-analyze verify:\n{said}");
}

#[test]
fn a_mistake_in_a_unit_is_noticed() {
    for (right, wrong) in
        [("RestartSec=", "RestarSec="), ("OnCalendar=hourly", "OnCalendar=hurly"), ("/usr/bin/", "/no/")]
    {
        let (content, said) = verify(|text| text.replace(right, wrong));
        assert!(!content || !said.trim().is_empty(), "{wrong} went unnoticed");
    }
}

#[test]
fn services_are_sandboxed() {
    for name in SERVICES.into_iter().chain([GUARD, METRICS[0], METRICS[3]]) {
        let path = unit_file(name);
        // In tenths: 25 is an exposure level of 2.5 out of 10.
        let (content, said) =
            analyze(&["security", "--offline=true", "--threshold=25", "--no-pager", path.to_str().unwrap()]);
        assert!(content, "{name} is more exposed than 2.5:\n{said}");
        assert!(said.contains("Overall exposure level"), "{name} was not looked at:\n{said}");
    }
}

#[test]
fn only_what_no_retry_mends_ends_the_retries() {
    let settings = Kind::Settings.exit_code();
    for name in SERVICES {
        let unit = unit(name);
        assert_eq!(values(&unit, "Restart"), ["on-failure"], "{name}");
        let ends = if name == REFRESH { format!("{settings} {WAITING} {STOPPED}") } else { settings.to_string() };
        assert_eq!(values(&unit, "RestartPreventExitStatus"), [ends], "{name}");
        // A failure that counts as success would alarm nobody.
        assert!(values(&unit, "SuccessExitStatus").is_empty(), "{name}");
    }
}

/// The images' drop-in, by systemd's own arithmetic: try n waits RestartSec times (RestartMaxDelaySec / RestartSec) to the power of
/// (n - 1) / RestartSteps, at most the maximum (systemd.service(5), RestartSteps=).
#[test]
fn in_an_image_a_pass_is_tried_again_as_long_as_a_key_is_awaited() {
    let path = "images/files/all/etc/systemd/system/crosswan-refresh.service.d/10-image.conf";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let number = |key: &str| -> f64 {
        let value = values(&text, key).pop().unwrap_or_else(|| panic!("{path}: {key}"));
        let unit = value.trim_start_matches(|c: char| c.is_ascii_digit());
        let seconds = if unit == "min" { 60.0 } else { 1.0 };
        value[..value.len() - unit.len()].parse::<f64>().unwrap() * seconds
    };
    let [first, steps, longest] = ["RestartSec", "RestartSteps", "RestartMaxDelaySec"].map(number);
    let [tries, within] = ["StartLimitBurst", "StartLimitIntervalSec"].map(number);
    let delay = |n: f64| (first * (longest / first).powf((n - 1.0) / steps)).min(longest);
    let delays: Vec<f64> = (1_u32..tries as u32).map(|n| delay(n.into())).collect();
    let all: f64 = delays.iter().sum();
    assert!(delays[0] <= 10.0, "who boots first has waited {} s", delays[0]);
    // decide/credential.rs: a key is awaited for 15 minutes. A longer time than the interval would make the limit useless.
    assert!((15.0 * 60.0..within).contains(&all), "tried again for {all} s: {delays:?}");
}

#[test]
fn exit_codes_in_the_comments_are_the_agents() {
    let unit = unit("crosswan-refresh.service");
    for (kind, says) in [
        (Kind::Other, "other"),
        (Kind::Observe, "could not observe"),
        (Kind::Apply, "apply or verify failed"),
        (Kind::Busy, "another pass"),
    ] {
        let expected = format!("{} {says}", kind.exit_code());
        assert!(unit.contains(&expected), "crosswan-refresh.service does not say: {expected}");
    }
}

#[test]
fn refresh_runs_at_boot_and_every_hour() {
    assert_eq!(values(&unit("crosswan-refresh.service"), "WantedBy"), ["multi-user.target"]);
    let timer = unit(TIMER);
    assert_eq!(values(&timer, "OnCalendar"), ["hourly"]);
    assert_eq!(values(&timer, "FixedRandomDelay"), ["yes"]);
    // As keep/patience.rs assumes: over nearly the whole hour.
    assert_eq!(values(&timer, "RandomizedDelaySec"), ["59min"]);
    assert_eq!(values(&timer, "WantedBy"), ["timers.target"]);
}

#[test]
fn every_wait_is_bounded_and_keep_is_watched() {
    assert_eq!(values(&unit("crosswan-refresh.service"), "TimeoutStartSec"), ["25min"]);
    let keep = unit("crosswan-keep.service");
    assert_eq!(values(&keep, "Type"), ["notify"]);
    assert_eq!(values(&keep, "WatchdogSec").len(), 1);
}

/// What hears foreign datagrams may do nothing but send, receive and read; and a timer that fires late judges nobody.
#[test]
fn what_watches_the_other_member_of_a_pair_has_no_capability_and_is_started_again() {
    let pair = unit(PAIR);
    assert_eq!(values(&pair, "CapabilityBoundingSet"), [""]);
    assert_eq!(values(&pair, "Nice"), ["-15"]);
    assert_eq!(values(&pair, "WatchdogSec").len(), 1);
    assert_eq!(values(&pair, "StartLimitIntervalSec"), ["0"], "it is started again however often it dies");
}

/// `ExecStop=` as systemd hands it to a shell, with a systemctl that says this, and a crosswan that says how it was called.
#[test]
fn the_other_member_takes_over_when_the_machine_stops_and_not_when_the_unit_does() {
    let pair = unit(PAIR);
    let stop = values(&pair, "ExecStop").concat();
    let script =
        stop.strip_prefix("-/bin/sh -c '").and_then(|rest| rest.strip_suffix('\'')).unwrap_or_else(|| panic!("{stop}"));
    let bin = tempfile::tempdir().unwrap();
    let program = |name: &str, text: &str| {
        let path = bin.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let crosswan = program("crosswan", "echo \"$@\"");
    let members = bin.path().join("pair.json");
    let script = script.replace("$$", "$").replace("/usr/bin/crosswan", &crosswan);
    let script = script.replace(Paths::below(Path::new("/")).pair.to_str().unwrap(), members.to_str().unwrap());
    let called = |state: &str| {
        program("systemctl", &format!("[ \"$*\" = is-system-running ] && echo {state}; [ {state} = running ]"));
        let out = Command::new("/bin/sh").args(["-c", &script]).env("PATH", bin.path()).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert_eq!(called("stopping"), "", "one that is alone has nobody to hand over to");
    fs::write(&members, "{}").unwrap();
    assert_eq!(called("stopping"), "handover --timeout 20s --reason this machine shuts down\n");
    for state in ["running", "degraded", "starting", "maintenance", "offline", ""] {
        assert_eq!(called(state), "", "{state}");
    }
    let seconds = |text: &str| text.strip_suffix('s').and_then(|s| s.parse::<u32>().ok()).unwrap();
    let limit = values(&pair, "TimeoutStopSec").concat();
    assert!(seconds(&limit) > 20 && seconds(&limit) <= 60, "{limit}: a shutdown waits for it");
    // What it needs to hand over stops later.
    let after = values(&pair, "After").join(" ");
    for later in ["network-online.target", "strongswan.service"] {
        assert!(after.split(' ').any(|unit| unit == later), "{PAIR} stops after {later}");
    }
}

#[test]
fn a_missing_credential_is_no_error() {
    // With a path it would be one; without, systemd 252 and newer look in the machine's own and in /etc/credstore.
    assert_eq!(values(&unit("crosswan-refresh.service"), "LoadCredential"), ["crosswan.psk"]);
}

#[test]
fn the_guard_stands_before_forwarding_and_any_network() {
    let guard = unit(GUARD);
    let before = values(&guard, "Before").join(" ");
    for what in ["systemd-sysctl.service", "network-pre.target"] {
        assert!(before.split(' ').any(|unit| unit == what), "{GUARD} is not before {what}");
    }
    // A target that no unit wants orders nothing.
    assert_eq!(values(&guard, "Wants"), ["network-pre.target"]);
    assert_eq!(values(&guard, "WantedBy"), ["sysinit.target"]);
}

/// The services that flush when they start, as Debian orders them (nftables 1.0.6, netfilter-persistent 1.0.20, ufw 0.36.2,
/// firewalld 1.3.3, docker.io 20.10.24).
const FLUSHING: [(&str, &str, &str); 5] = [
    ("nftables", "DefaultDependencies=no\nWants=network-pre.target\nBefore=network-pre.target", "sysinit.target"),
    (
        "netfilter-persistent",
        "DefaultDependencies=no\nWants=network-pre.target\nBefore=network-pre.target\nAfter=local-fs.target",
        "multi-user.target",
    ),
    (
        "ufw",
        "DefaultDependencies=no\nBefore=network-pre.target\nWants=network-pre.target local-fs.target\nAfter=local-fs.target",
        "multi-user.target",
    ),
    ("firewalld", "Before=network-pre.target\nWants=network-pre.target\nAfter=dbus.service", "multi-user.target"),
    ("docker", "After=network-online.target firewalld.service\nWants=network-online.target", "multi-user.target"),
];

#[test]
fn what_flushes_comes_first_and_nothing_waits_in_a_circle() {
    let order = |name: &str| values(&unit(name), "After").join(" ");
    for (service, ..) in FLUSHING {
        let service = format!("{service}.service");
        // Docker waits for the network, and charon for watch.
        let after: &[&str] = if service == "docker.service" { &[REFRESH] } else { &[REFRESH, WATCH] };
        for name in after {
            assert!(order(name).split(' ').any(|unit| unit == service), "{name} is not after {service}");
        }
    }
    for early in ["nftables.service", "netfilter-persistent.service", "ufw.service"] {
        assert!(order(GUARD).split(' ').any(|unit| unit == early), "{GUARD} is not after {early}");
    }
    // systemd's own units with these: all of a boot, in which it would drop a job to break a cycle.
    let boot = |guard_after: &str| {
        let dir = tempfile::tempdir().unwrap();
        let lay = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        for (name, order, wanted_by) in FLUSHING {
            lay(&format!("{name}.service"), format!("[Unit]\n{order}\n[Service]\nExecStart=/bin/true\n"));
            let wants = dir.path().join(format!("{wanted_by}.wants"));
            fs::create_dir_all(&wants).unwrap();
            std::os::unix::fs::symlink(format!("../{name}.service"), wants.join(format!("{name}.service"))).unwrap();
        }
        for name in SERVICES.into_iter().chain([GUARD]) {
            let text =
                unit(name).replace("/usr/bin/crosswan", "/bin/true").replace("/usr/lib/crosswan/guard", "/bin/true");
            lay(name, text.replace("After=nftables.service", &format!("After={guard_after} nftables.service")));
            for target in values(&unit(name), "WantedBy") {
                let wants = dir.path().join(format!("{target}.wants"));
                fs::create_dir_all(&wants).unwrap();
                std::os::unix::fs::symlink(format!("../{name}"), wants.join(name)).unwrap();
            }
        }
        let out = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "multi-user.target"])
            .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert!(!boot("").contains("cycle"), "{}", boot(""));
    assert!(boot("docker.service").contains("cycle"), "a circle goes unnoticed: {}", boot("docker.service"));
}

#[test]
fn watch_has_the_rules_in_its_power_and_no_packet() {
    let watch = unit(WATCH);
    assert_eq!(values(&watch, "CapabilityBoundingSet"), ["CAP_NET_ADMIN CAP_NET_RAW"]);
    assert_eq!(values(&watch, "IPAddressDeny"), ["any"]);
    assert_eq!(values(&watch, "RestrictAddressFamilies"), ["AF_UNIX AF_INET AF_NETLINK"]);
    assert!(values(&watch, "PrivateNetwork").is_empty(), "in a network of its own there are no rules to watch");
    assert_eq!(values(&watch, "WatchdogSec").len(), 1);
    assert_eq!(values(&watch, "StartLimitIntervalSec"), ["0"], "it is started again however often it dies");
}

/// `Type=notify`: watch is ready after its first look, in which it makes the interfaces of the last refresh.
#[test]
fn interfaces_are_made_before_charon_loads_its_tunnels() {
    let watch = unit(WATCH);
    assert_eq!(values(&watch, "Type"), ["notify"]);
    assert_eq!(values(&watch, "Before"), ["strongswan.service"]);
    for name in [REFRESH, "crosswan-keep.service"] {
        let after = values(&unit(name), "After").join(" ");
        assert!(after.split(' ').any(|unit| unit == "strongswan.service"), "{name} is not after charon");
    }
    let modules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("images/modules-load.d/crosswan.conf"));
    assert!(modules.unwrap().lines().any(|line| line == "xfrm_interface"));
}

#[test]
fn a_key_that_comes_and_a_tunnel_that_stays_down_start_a_refresh() {
    // By its name it starts crosswan-refresh.service.
    let path = unit(PATH);
    assert!(values(&path, "Unit").is_empty());
    // It fails with a refresh at its start limit; the next refresh starts it.
    assert_eq!(values(&path, "WantedBy"), ["multi-user.target crosswan-refresh.service"]);
    let wanted = Paths::below(Path::new("/")).wanted;
    let keys = ["/etc/crosswan/psk", "/etc/crosswan/psk.d", "/etc/credstore/crosswan.psk"];
    assert_eq!(values(&path, "PathChanged"), [[wanted.to_str().unwrap()].as_slice(), &keys].concat());
}

/// On a machine without settings the package does not make it a router; a file of `/etc/sysctl.d` would, at the next boot.
#[test]
fn forwarding_is_switched_on_only_where_a_mode_is_set_up() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/guard/forwarding");
    let linked = |file: Option<&str>, mode: Option<&str>| {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("run/sysctl.d/60-crosswan.conf");
        let run = || {
            let mut command = Command::new(&script);
            command.env_clear().env("PATH", "/usr/bin:/bin").env("CROSSWAN_ROOT", root.path());
            assert!(command.envs(mode.map(|mode| ("CROSSWAN_MODE", mode))).status().unwrap().success());
            fs::read_link(&link).ok()
        };
        let Some(file) = file else { return run() };
        let file = root.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "mode = \"nat-hub\"\n").unwrap();
        let made = run();
        assert_eq!(run(), made, "a second time");
        fs::remove_file(&file).unwrap();
        assert_eq!(run(), None, "no settings any more");
        made
    };
    let sysctls = Some(PathBuf::from("/usr/lib/crosswan/60-crosswan.conf"));
    assert_eq!(linked(None, None), None);
    assert_eq!(linked(None, Some("nat-hub")), sysctls);
    for file in ["etc/crosswan/crosswan.toml", "etc/crosswan/conf.d/10-site.toml", "etc/default/nat-vpn"] {
        assert_eq!(linked(Some(file), None), sysctls, "{file}");
    }
    assert_eq!(linked(Some("etc/crosswan/conf.d/notes"), None), None);

    let build = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("images/deb/crosswan/contents")).unwrap();
    let put: Vec<&str> = build.lines().filter(|l| l.starts_with("put ") && l.contains("sysctl.d")).collect();
    assert_eq!(put, ["put 644 images/sysctl.d/60-crosswan.conf usr/lib/crosswan/60-crosswan.conf"]);
    // Both have it before forwarding is switched on, or put right.
    assert_eq!(values(&unit(GUARD), "ExecStart"), ["/usr/lib/crosswan/guard", "/usr/lib/crosswan/forwarding"]);
    let before = values(&unit("crosswan-refresh.service"), "ExecStartPre");
    assert!(before[0].ends_with("/usr/lib/crosswan/forwarding") && before[1].contains("systemd-sysctl"), "{before:?}");
}

#[test]
fn no_core_dump_holds_a_key_and_charon_has_time_to_load_ten_thousand_connections() {
    let path = "images/strongswan.service.d/10-crosswan.conf";
    let charon = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    for (name, text) in
        SERVICES.into_iter().chain([GUARD]).map(|name| (name, unit(name))).chain([(path, charon.clone())])
    {
        assert_eq!(values(&text, "LimitCORE"), ["0"], "{name}");
    }
    // docs/facts.md, "Scale": 5,000 with a key each take up to 140 s, and four times that when they are twice as many.
    let minutes = values(&charon, "TimeoutStartSec").concat().strip_suffix("min").and_then(|m| m.parse::<u32>().ok());
    assert!(minutes.is_some_and(|minutes| minutes * 60 > 4 * 140), "{charon}");
}

/// Whoever reaches the socket talks to a process that can do nothing but read one file.
#[test]
fn what_answers_a_scraper_has_no_rights_and_what_measures_opens_no_port() {
    let [measures, timer, socket, answers] = METRICS.map(unit);
    assert_eq!(values(&answers, "DynamicUser"), ["yes"]);
    assert_eq!(values(&answers, "CapabilityBoundingSet"), [""]);
    assert_eq!(values(&answers, "PrivateNetwork"), ["yes"]);
    assert_eq!(values(&answers, "ExecStart"), ["/usr/bin/crosswan metrics --serve"]);
    assert_eq!(values(&answers, "RuntimeMaxSec"), ["15s"]);
    assert_eq!(values(&socket, "ListenStream"), ["127.0.0.1:9917"]);
    assert_eq!(values(&socket, "Also"), [METRICS[1]], "without the timer there is nothing to show");
    assert_eq!(values(&measures, "IPAddressDeny"), ["any"]);
    assert_eq!(values(&measures, "ExecStart"), ["/usr/bin/crosswan metrics --write"]);
    assert_eq!(values(&measures, "SuccessExitStatus"), ["SIGTERM"], "a stop in the middle is no failure");
    // What it shows counts as fresh for two minutes.
    assert_eq!(values(&timer, "OnUnitActiveSec"), ["30s"]);
}

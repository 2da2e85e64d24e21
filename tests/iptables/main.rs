//! The rules in the real iptables, nft and legacy: they read back as rendered, are repaired and removed, and foreign rules stay.
//! Each test runs in its own namespaces and needs root.

#![allow(unreachable_pub, reason = "nothing outside a test uses its items")]
#![allow(clippy::disallowed_methods, reason = "a test crate: starts real programs")]

mod forwarding;
mod packets;
mod space;

use std::{collections::BTreeSet, fs};

use crosswan_core::{
    error::Kind,
    iptables::{Rules, mismatch, plan, render},
    model::{Nat, Segments},
};
use space::{apply, each_backend, is_legacy, restore, save, sh};

/// A client VPC with two CIDRs, one outside the private network; a /32, which iptables prints in full.
fn nat(masquerade: Option<&str>, tunnels: bool) -> Nat {
    Nat {
        private_net: ["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()].into(),
        own: ["10.1.0.0/16".parse().unwrap(), "100.64.0.0/24".parse().unwrap()].into(),
        masquerade: masquerade.map(|i| i.parse().unwrap()),
        sources: BTreeSet::new(),
        exclude: BTreeSet::new(),
        input: BTreeSet::new(),
        tunnels,
        segments: None,
        beats: None,
        across: false,
        far: None,
    }
}

/// A hub in segment `shared`, with a relation of each kind.
fn segmented() -> Nat {
    let names = |list: &str| list.split_whitespace().map(|name| name.parse().unwrap()).collect();
    let reach = [("prod", "shared ops"), ("dev", "shared"), ("shared", ""), ("ops", "prod"), ("default", "")];
    let reach = reach.map(|(name, to)| (name.parse().unwrap(), names(to))).into();
    let segments = Segments { reach, strangers: names("lab"), hub: Some("shared".parse().unwrap()) };
    Nat { segments: Some(segments), ..nat(None, true) }
}

fn modes() -> [Nat; 5] {
    [
        nat(Some("ens5"), true),
        nat(Some("ens5.100"), false),
        nat(None, true),
        Nat {
            sources: ["10.2.0.0/16".parse().unwrap(), "192.168.0.7/32".parse().unwrap()].into(),
            exclude: ["10.9.0.0/16".parse().unwrap(), "10.9.1.2/32".parse().unwrap()].into(),
            input: ["tcp/22", "udp/53"].map(|opening| opening.parse().unwrap()).into(),
            ..nat(Some("ens5"), true)
        },
        segmented(),
    ]
}

fn wanted(nat: &Nat) -> Rules {
    Rules::parse(&render(nat))
}

/// Everything except crosswan's lines, the counters and iptables-save's comments.
fn foreign(save: &str) -> Vec<String> {
    let keep = |l: &&str| !l.starts_with('#') && !l.contains("CROSSWAN-");
    save.lines().filter(keep).map(|l| l.split(" [").next().unwrap().to_owned()).collect()
}

/// Rules of another program in every table, some of them very similar to crosswan's, and policies that are not the default.
fn add_foreign_rules() {
    let commented = "-m comment --comment 'not -j CROSSWAN_NAT \"quoted\"'";
    for rule in [
        "filter -N DOCKER-USER",
        "filter -A FORWARD -j DOCKER-USER",
        &format!("filter -A FORWARD -s 10.0.0.0/8 {commented} -j ACCEPT"),
        "filter -A DOCKER-USER -d 10.9.0.0/16 -j DROP",
        "filter -A OUTPUT -d 192.0.2.9 -j REJECT",
        "filter -P FORWARD DROP",
        "mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        "nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE",
        "nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.1.0.5",
        "raw -A PREROUTING -i lo -j NOTRACK",
    ] {
        sh(&format!("iptables -w 5 -t {rule}"));
    }
}

#[test]
fn rules_read_back_as_rendered() {
    each_backend("rules_read_back_as_rendered", || {
        let version = sh("iptables --version");
        assert!(version.contains(if is_legacy() { "legacy" } else { "nf_tables" }), "{version}");
        for nat in modes() {
            let said = apply(&wanted(&nat)).unwrap();
            assert!(said.contains("nat CROSSWAN-NAT"), "{said}");
            let lines = |text: &str| {
                let mut lines: Vec<_> = text.lines().filter(|l| l.starts_with("-A")).map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(lines(&save()), lines(&render(&nat)));
            assert_eq!(mismatch(&wanted(&nat), &Rules::parse(&save())), Vec::<String>::new());
            assert_eq!(apply(&wanted(&nat)), None, "a second refresh");
        }
        // The file by itself, as an operator would load it on a fresh host.
        apply(&Rules::default());
        restore(&render(&modes()[0])).unwrap();
        assert_eq!(apply(&wanted(&modes()[0])), None);
    });
}

/// As from cron, whose PATH is this one; and with none at all.
#[test]
fn the_programs_are_found_with_the_path_of_cron() {
    each_backend("the_programs_are_found_with_the_path_of_cron", || {
        let root = tempfile::tempdir().unwrap();
        let paths = crosswan::paths::Paths::below(root.path());
        std::fs::create_dir_all(paths.rules.parent().unwrap()).unwrap();
        std::fs::write(&paths.rules, render(&modes()[0])).unwrap();
        apply(&wanted(&modes()[0])).unwrap();
        for path in [Some("/usr/bin:/bin"), Some(""), None] {
            let mut status = std::process::Command::new(env!("CARGO_BIN_EXE_crosswan"));
            status.arg("status").env("CROSSWAN_ROOT", root.path()).env_remove("PATH");
            let out = status.envs(path.map(|path| ("PATH", path))).output().unwrap();
            let said = String::from_utf8_lossy(&out.stdout);
            // What /usr/sbin/iptables is belongs to the alternatives, and these rules may be in the other backend.
            let in_force = is_legacy() || said.contains("rules     in force: ");
            assert!(in_force && !said.contains("run iptables"), "PATH={path:?}: {said}");
        }
    });
}

#[test]
fn foreign_rules_stay_and_removal_leaves_no_trace() {
    each_backend("foreign_rules_stay_and_removal_leaves_no_trace", || {
        add_foreign_rules();
        let before = foreign(&save());
        assert!(before.len() > 20, "{before:?}");
        for nat in modes() {
            apply(&wanted(&nat)).unwrap();
            assert_eq!(foreign(&save()), before);
        }
        // Foreign rules may jump to own chains, too; then those have to go first.
        sh("iptables -w 5 -A DOCKER-USER -s 10.7.0.0/16 -m comment --comment 'their jump' -j CROSSWAN-GUARD");
        apply(&Rules::default()).unwrap();
        assert_eq!(foreign(&save()), before);
        assert!(!save().contains("CROSSWAN-"), "{}", save());
        assert_eq!(apply(&Rules::default()), None);
    });
}

#[test]
fn a_bad_line_changes_nothing_in_its_table() {
    each_backend("a_bad_line_changes_nothing_in_its_table", || {
        add_foreign_rules();
        apply(&wanted(&modes()[0])).unwrap();
        let before = save();
        let good = plan(&wanted(&modes()[1]), &Rules::parse(&before)).unwrap().input();
        let bad = |table: &str| {
            let (head, rest) = good.split_once(&format!("*{table}\n")).unwrap();
            format!("{head}*{table}\n{}", rest.replacen("COMMIT", "-A CROSSWAN-GUARD -j NO-SUCH\nCOMMIT", 1))
        };
        for table in ["filter", "nat"] {
            let error = restore(&bad(table)).unwrap_err();
            assert_eq!(error.kind(), Kind::Apply);
            assert!(
                error.chain().starts_with("run iptables-restore --noflush -w 5: exit status: "),
                "{}",
                error.chain()
            );
            if table == "nat" {
                // Either backend commits table by table: filter has changed, and planning back is the way out.
                assert!(!mismatch(&Rules::parse(&before), &Rules::parse(&save())).is_empty());
                apply(&Rules::parse(&before)).unwrap();
            }
            assert_eq!(Rules::parse(&save()), Rules::parse(&before), "after a bad line in {table}");
            assert_eq!(foreign(&save()), foreign(&before));
        }
    });
}

#[test]
fn hooks_heal() {
    each_backend("hooks_heal", || {
        add_foreign_rules();
        let want = wanted(&modes()[0]);
        apply(&want).unwrap();
        for (harm, said) in [
            (
                "iptables -w 5 -D FORWARD 1",
                "filter FORWARD: hook -m conntrack ! --ctstate SNAT -j CROSSWAN-GUARD at 1 (was no hook)",
            ),
            (
                "iptables -w 5 -A FORWARD -j CROSSWAN-GUARD; iptables -w 5 -I FORWARD 3 -j CROSSWAN-GUARD",
                "(was hook -m conntrack ! --ctstate SNAT -j CROSSWAN-GUARD at 1, -j CROSSWAN-GUARD at 3, -j CROSSWAN-GUARD at 5)",
            ),
            (
                "iptables -w 5 -t nat -I POSTROUTING 1 -j RETURN",
                "nat POSTROUTING: hook -j CROSSWAN-NAT at 1 (was hook -j CROSSWAN-NAT at 2)",
            ),
            ("iptables -w 5 -t nat -F CROSSWAN-NAT", "nat CROSSWAN-NAT 9 rules (was 0)"),
            ("iptables -w 5 -I CROSSWAN-TO 1 -j ACCEPT", "filter CROSSWAN-TO 4 rules (was 5)"),
            ("iptables -w 5 -F; iptables -w 5 -X", "CROSSWAN-GUARD"),
        ] {
            sh(harm);
            let others = foreign(&save());
            let healed = apply(&want).expect(harm);
            assert!(healed.contains(said), "after {harm}: {healed}");
            assert_eq!(Rules::parse(&save()), want, "after {harm}");
            assert_eq!(foreign(&save()), others, "after {harm}");
        }
    });
}

/// nft's own rules under the name of a table of iptables: what iptables adds there is not shown by iptables-save, so each
/// pass would add it once more.
#[test]
fn a_table_with_native_rules_is_named_and_left_as_it_is() {
    let space = "a_table_with_native_rules_is_named_and_left_as_it_is";
    each_backend(space, || {
        sh("nft -f - <<'END'
            table ip nat {
                set kept { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
                chain POSTROUTING {
                    type nat hook postrouting priority srcnat; policy accept;
                    ip daddr @kept accept
                    oifname \"ens5\" masquerade
                }
            }\nEND");
        let before = sh("nft list table ip nat");
        let want = wanted(&modes()[0]);
        let (first, second) = (apply(&want), apply(&want));
        let said = first.unwrap();
        assert_eq!(second, None, "the next pass finds something to do");
        let live = Rules::parse(&save());
        assert_eq!(mismatch(&want, &live), Vec::<String>::new());
        if is_legacy() {
            // Legacy has a table of its own beside it.
            assert!(said.contains("nat CROSSWAN-NAT") && live.closed().is_empty(), "{said}");
        } else {
            assert!(said.contains("filter CROSSWAN-GUARD") && !said.contains("nat"), "{said}");
            assert_eq!(live.closed().iter().collect::<Vec<_>>(), ["nat"]);
        }
        assert_eq!(sh("nft list table ip nat"), before);
        assert!(save().contains("-A FORWARD -m conntrack ! --ctstate SNAT -j CROSSWAN-GUARD"));
        // At boot, too.
        apply(&Rules::default());
        fs::write("/run/iptables.rules", render(&modes()[0])).unwrap();
        let guard = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/images/guard/guard")).unwrap();
        fs::write("/run/guard", guard.replace("/var/lib/crosswan/iptables.rules", "/run/iptables.rules")).unwrap();
        sh("sh /run/guard");
        assert_eq!(mismatch(&want, &Rules::parse(&save())), Vec::<String>::new());
        assert_eq!(sh("nft list table ip nat"), before);
    });
}

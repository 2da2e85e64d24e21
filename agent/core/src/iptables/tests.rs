//! Golden text per mode; and on a small model of iptables: what a plan does to our rules and not to others'.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::model::{Protocol, Realm, Segments};

fn nets(cidrs: &[&str]) -> BTreeSet<Ipv4Net> {
    cidrs.iter().map(|c| c.parse().unwrap()).collect()
}

fn nat(own: &[&str], masquerade: Option<&str>, tunnels: bool) -> Nat {
    let masquerade = masquerade.map(|i| i.parse().unwrap());
    Nat {
        private_net: nets(&["10.0.0.0/8", "172.16.0.0/12"]),
        own: nets(own),
        masquerade,
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

fn nat_vpn() -> Nat {
    nat(&["10.1.0.0/16", "100.64.0.0/16"], Some("ens5"), true)
}

/// All that settings open: another VPC's egress, an endpoint reached by peering, two services.
fn opened() -> Nat {
    Nat {
        sources: nets(&["10.2.0.0/16", "192.168.0.0/24"]),
        exclude: nets(&["10.9.0.0/16"]),
        input: ["tcp/22", "udp/53"].map(|opening| opening.parse().unwrap()).into(),
        beats: Some((4795, [10, 1, 0, 6].into())),
        ..nat(&["10.1.0.0/16"], Some("ens5"), true)
    }
}

/// A hub in segment `shared`: `prod` and `dev` may begin connections to it, `prod` and `ops` to each other, and `lab` is in tags only.
fn segmented() -> Nat {
    let names = |list: &str| list.split_whitespace().map(|name| name.parse().unwrap()).collect();
    let reach = [("prod", "shared ops"), ("dev", "shared"), ("shared", ""), ("ops", "prod"), ("default", "")];
    let reach = reach.map(|(name, to)| (name.parse().unwrap(), names(to))).into();
    let segments = Segments { reach, strangers: names("lab"), hub: Some("shared".parse().unwrap()) };
    Nat { segments: Some(segments), ..nat(&["10.0.0.0/16"], None, true) }
}

#[test]
fn a_hub_without_a_segment_and_one_of_a_name_that_only_tags_know_reach_only_their_like() {
    let of = |hub: Option<&str>| {
        let Nat { segments, .. } = segmented();
        let hub = hub.map(|name| name.parse().unwrap());
        render(&Nat { segments: segments.map(|segments| Segments { hub, ..segments }), ..segmented() })
    };
    let nobody = of(None);
    assert!(!nobody.contains("! -i cw+ -g") && !nobody.contains("--realm 0x0/0xffff "), "{nobody}");
    let lab = format!("{:x}", Realm::of(&"lab".parse().unwrap()).number());
    let stranger = of(Some("lab"));
    for rule in [
        format!("-A CROSSWAN-SEGMENTS ! -i cw+ -g CROSSWAN-SEG-{lab}\n"),
        format!(
            "-A CROSSWAN-SEG-{lab} -m realm --realm 0x{lab}/0xffff -j RETURN\n-A CROSSWAN-SEG-{lab} -m realm --realm 0x0/0xffff -j \
             RETURN\n-A CROSSWAN-SEG-{lab} -j REJECT"
        ),
    ] {
        assert!(stranger.contains(&rule), "{rule}\n{stranger}");
    }
    assert_eq!(stranger.matches("--realm 0x0/0xffff ").count(), 1, "{stranger}");
}

#[test]
fn golden_text_per_mode() {
    for (nat, golden) in [
        (nat(&["10.0.0.0/16"], None, true), include_str!("golden/vpn-hub.rules")),
        (nat(&["10.0.0.0/16"], Some("ens5"), false), include_str!("golden/nat-hub.rules")),
        (
            Nat { beats: Some((4795, Ipv4Addr::new(10, 0, 0, 5))), ..nat(&["10.0.0.0/16"], Some("ens5"), false) },
            include_str!("golden/nat-hub-pair.rules"),
        ),
        (nat_vpn(), include_str!("golden/nat-vpn.rules")),
        (segmented(), include_str!("golden/vpn-hub-segments.rules")),
        (opened(), include_str!("golden/nat-vpn-opened.rules")),
    ] {
        assert_eq!(render(&nat), golden);
    }
}

#[test]
fn what_far_ends_say_is_let_in_from_tunnels_before_anything_else_is_refused_there() {
    for nat in [Nat { far: Some(4795), ..nat(&["10.0.0.0/16"], None, true) }, Nat { far: Some(4795), ..opened() }] {
        let text = render(&nat);
        let chain: Vec<_> = text.lines().filter(|line| line.starts_with("-A CROSSWAN-IN")).collect();
        assert_eq!(chain[0], "-A CROSSWAN-IN -i cw+ -p udp -m udp --dport 4795 -j RETURN", "{text}");
        let without = render(&Nat { far: None, ..nat });
        assert_ne!(Rules::parse(&text), Rules::parse(&without), "it is a difference");
        assert!(!without.contains("-A CROSSWAN-IN -i cw+"), "{without}");
    }
}

#[test]
fn what_comes_across_from_the_other_hub_never_goes_back_and_is_of_the_vpc_of_both() {
    for (plain, more) in [(nat(&["10.0.0.0/16"], None, true), 1), (segmented(), 2)] {
        let with = render(&Nat { across: true, ..plain.clone() });
        let without = render(&plain);
        let new: Vec<&str> = with.lines().filter(|line| !line.starts_with('#') && !without.contains(*line)).collect();
        let lines = [
            "-A CROSSWAN-GUARD -i cw3 -o cw3 -j REJECT --reject-with icmp-net-unreachable",
            "-A CROSSWAN-SEGMENTS -i cw3 -m realm --realm 0x0/0xffff0000 -g CROSSWAN-SEG-a4d3",
        ];
        assert_eq!(new, lines[..more], "{with}");
        let at = |line: &str| with.lines().position(|other| other == line).unwrap();
        assert!(more == 1 || at(lines[1]) < at("-A CROSSWAN-SEGMENTS -i cw+ -m realm --realm 0x0/0xffff0000 -j DROP"));
        assert_ne!(Rules::parse(&with), Rules::parse(&without), "it is a difference");
    }
}

#[test]
fn host_bits_are_dropped_as_iptables_save_does() {
    let net = |s: &str| Ipv4Net::new(s.parse().unwrap(), 16).unwrap();
    let with = Nat { own: [net("10.1.2.3")].into(), ..nat_vpn() };
    assert_eq!(render(&with), render(&Nat { own: [net("10.1.0.0")].into(), ..nat_vpn() }));
}

#[test]
fn only_own_chains_and_jumps_to_them_are_seen() {
    let live = "# Generated by iptables-nft-save v1.8.9 (nf_tables)\n*filter\n:FORWARD DROP [0:0]\n:CROSSWAN-TO - [0:0]\n\
        -A FORWARD -m comment --comment \"see -j CROSSWAN-TO\" -j ACCEPT\n\
        -A FORWARD -m comment --comment \"-j CROSSWAN-TO\"\n-A FORWARD\n\
        -A FORWARD -i docker0 -g CROSSWAN-TO\n-A CROSSWAN-TO -j RETURN\n-A OTHER -j CROSSWANT\nCOMMIT\n\
        *nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n";
    let none = Rules::default();
    let removal = plan(&none, &Rules::parse(live)).unwrap();
    assert_eq!(
        removal.input(),
        "*filter\n:CROSSWAN-TO - [0:0]\n-D FORWARD -i docker0 -g CROSSWAN-TO\n-X CROSSWAN-TO\nCOMMIT\n"
    );
    assert_eq!(
        removal.to_string(),
        "filter CROSSWAN-TO removed; filter FORWARD: no hook (was hook -i docker0 -g CROSSWAN-TO at 4)"
    );
    assert_eq!(Rules::parse(""), none);
    let odd = "*filter\n:CROSSWAN-T\"O - [0:0]\n-A FORWARD -j CROSSWAN-T\"O\n-A CROSSWAN-T\"O -j RETURN\nCOMMIT\n";
    assert_eq!(plan(&none, &Rules::parse(odd)), None, "a name we would not give is another's");
}

#[test]
fn a_change_says_what_and_touches_only_that() {
    let want = Rules::parse(&render(&nat_vpn()));
    let text = render(&nat_vpn());
    let live = Rules::parse(&text.replace("-A CROSSWAN-TO -d 10.1.0.0/16 -j RETURN\n", "").replace(
        "-A POSTROUTING -j CROSSWAN-NAT",
        "-A POSTROUTING -j FOREIGN\n-A POSTROUTING -j CROSSWAN-NAT\n-A POSTROUTING -j CROSSWAN-NAT",
    ));
    let change = plan(&want, &live).unwrap();
    assert_eq!(
        change.input(),
        "*filter\n:CROSSWAN-TO - [0:0]\n-A CROSSWAN-TO -d 10.1.0.0/16 -j RETURN\n-A CROSSWAN-TO -d 100.64.0.0/16 -j RETURN\n\
         -A CROSSWAN-TO -d 10.0.0.0/8 ! -o cw+ -j REJECT --reject-with icmp-net-unreachable\n\
         -A CROSSWAN-TO -d 172.16.0.0/12 ! -o cw+ -j REJECT --reject-with icmp-net-unreachable\nCOMMIT\n\
         *nat\n-D POSTROUTING -j CROSSWAN-NAT\n-D POSTROUTING -j CROSSWAN-NAT\n-I POSTROUTING 1 -j CROSSWAN-NAT\nCOMMIT\n"
    );
    assert_eq!(
        change.to_string(),
        "filter CROSSWAN-TO 4 rules (was 3); \
         nat POSTROUTING: hook -j CROSSWAN-NAT at 1 (was hook -j CROSSWAN-NAT at 2, -j CROSSWAN-NAT at 3)"
    );
    assert_eq!(
        mismatch(&want, &live)[0],
        "filter CROSSWAN-TO rule 1: expected -d 10.1.0.0/16 -j RETURN, found -d 100.64.0.0/16 -j RETURN"
    );
    assert!(mismatch(&want, &want).is_empty() && plan(&want, &want).is_none());
}

#[test]
fn live_text_is_escaped() {
    let want = Rules::parse("*filter\n:CROSSWAN-TO - [0:0]\n");
    let live = Rules::parse("*filter\n:CROSSWAN-TO - [0:0]\n-A CROSSWAN-TO -j \u{1b}[31m\n");
    assert_eq!(mismatch(&want, &live), ["filter CROSSWAN-TO rule 1: expected no rule, found -j \\u{1b}[31m"]);
}

/// Tables of chains of rules, with what `iptables-restore --noflush` does to them; it fails as the real one fails.
#[derive(Debug, Default, Clone)]
struct Model(BTreeMap<String, BTreeMap<String, Vec<String>>>);

impl Model {
    fn restore(&mut self, input: &str) {
        let mut table = &mut BTreeMap::new();
        for line in input.lines().filter(|l| !l.starts_with('#')) {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words[..] {
                ["COMMIT"] => {}
                ["-X", chain] => assert_eq!(table.remove(chain), Some(vec![]), "{line}: no such chain, or not empty"),
                [name] => table = self.0.entry(name[1..].into()).or_default(),
                ["-A", chain, rule] => table.entry(chain.into()).or_default().push(rule.into()),
                ["-D", chain, rule] => {
                    let rules = table.get_mut(chain).expect("no such chain");
                    rules.remove(rules.iter().position(|r| r == rule).expect("no such rule"));
                }
                ["-I", chain, rule] => {
                    let (at, rule) = rule.split_once(' ').unwrap();
                    table.entry(chain.into()).or_default().insert(at.parse::<usize>().unwrap() - 1, rule.into());
                }
                [chain, ..] => _ = table.insert(chain[1..].into(), vec![]),
                [] => unreachable!(),
            }
        }
    }

    fn save(&self) -> String {
        let rules = |(chain, rules): (&String, &Vec<String>)| {
            format!(":{chain} - [0:0]\n") + &rules.iter().map(|r| format!("-A {chain} {r}\n")).collect::<String>()
        };
        self.0
            .iter()
            .map(|(t, chains)| format!("*{t}\n{}COMMIT\n", chains.iter().map(rules).collect::<String>()))
            .collect()
    }

    /// All that is not ours, in its order.
    fn foreign(&self) -> Vec<String> {
        self.save().lines().filter(|l| l.starts_with("-A") && !l.contains(OWN_PREFIX)).map(str::to_owned).collect()
    }
}

fn any_nat() -> impl Strategy<Value = Nat> {
    let net = (any::<u32>(), 1..=32u8).prop_map(|(a, len)| Ipv4Net::new(a.into(), len).unwrap());
    let nets = || proptest::collection::btree_set(net.clone(), 1..4);
    let device = select(vec!["ens5", "eth0"]).prop_map(|i| i.parse::<Interface>().unwrap());
    let opening = (any::<bool>(), 1..=u16::MAX)
        .prop_map(|(tcp, port)| Opening { protocol: if tcp { Protocol::Tcp } else { Protocol::Udp }, port });
    let input = proptest::collection::btree_set(opening, 0..3);
    (nets(), nets(), nets(), nets(), input, proptest::option::of(device), any::<bool>()).prop_map(
        |(private_net, own, sources, exclude, input, masquerade, tunnels)| Nat {
            private_net,
            own,
            masquerade,
            sources,
            exclude,
            input,
            tunnels,
            segments: None,
            beats: None,
            across: false,
            far: None,
        },
    )
}

/// A live state: foreign rules, and perhaps rules of ours that others pushed down, doubled and removed.
fn any_live() -> impl Strategy<Value = Model> {
    let line = select(vec![
        "*filter\n-I FORWARD 1 -j ACCEPT",
        "*filter\n-A FORWARD -j CROSSWAN-GUARD",
        "*filter\n-A DOCKER-USER -j CROSSWAN-GUARD",
        "*filter\n-I OUTPUT 1 -j LOG",
        "*mangle\n:CROSSWAN-MSS - [0:0]\n-A FORWARD -j CROSSWAN-MSS\n-A CROSSWAN-MSS -j RETURN",
        "*filter\n-A CROSSWAN-MSS -j RETURN",
        "*nat\n-I POSTROUTING 1 -j MASQUERADE",
        "*nat\n-I POSTROUTING 1 -j CROSSWAN-NAT",
        "*nat\n:CROSSWAN-OLD - [0:0]\n-A CROSSWAN-OLD -j CROSSWAN-NAT\n-A POSTROUTING -j CROSSWAN-OLD",
        "*nat\n:CROSSWAN-NAT - [0:0]",
    ]);
    (proptest::option::of(any_nat()), proptest::collection::vec(line, 0..8)).prop_map(|(before, lines)| {
        let mut model = Model::default();
        before.iter().for_each(|nat| model.restore(&render(nat)));
        lines.iter().for_each(|line| model.restore(line));
        model
    })
}

proptest! {
    /// For any live state: the plan leads to exactly the wanted one, leaves foreign rules and their order alone, and
    /// is empty the second time; and planning back from there restores what was.
    #[test]
    fn a_plan_leads_there_and_back(nat in proptest::option::of(any_nat()), live in any_live()) {
        let want = nat.as_ref().map(|nat| Rules::parse(&render(nat))).unwrap_or_default();
        let before = Rules::parse(&live.save());
        let mut model = live.clone();
        for target in [&want, &before, &want] {
            let change = plan(target, &Rules::parse(&model.save()));
            change.iter().for_each(|c| model.restore(&c.input()));
            let after = Rules::parse(&model.save());
            prop_assert_eq!(mismatch(target, &after), Vec::<String>::new());
            prop_assert_eq!(&after, target);
            prop_assert_eq!(model.foreign(), live.foreign());
        }
    }

    #[test]
    fn rules_do_not_grow_with_anything_but_cidrs(nat in any_nat()) {
        let lines = render(&nat).lines().filter(|l| l.starts_with("-A")).count();
        let cidrs = 3 * nat.private_net.len() + 5 * nat.own.len() + 4 * nat.sources.len();
        prop_assert!(lines <= 15 + cidrs + nat.exclude.len() + nat.input.len(), "{lines}");
    }

    #[test]
    fn no_input_panics_the_parser(text in "([*:]?(-[ADI] )?(FORWARD|CROSSWAN-A|\\PC){0,3}( -[jg] CROSSWAN-A)?[ \n]){0,9}") {
        let rules = Rules::parse(&text);
        if let Some(change) = plan(&Rules::default(), &rules) { change.input(); change.details(); }
    }
}

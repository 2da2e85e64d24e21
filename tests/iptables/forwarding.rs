//! The verdict about other programs' rules is what they do to packets, with the real iptables and nft.

use crosswan::observe::live;
use crosswan_core::forwarding::{Obstacles, Traffic};

use super::{
    packets::{lay_out, ping, protect},
    space::{block_on, each_backend, is_legacy, save, sh},
};

/// What this gateway forwards: the VPC's NAT, and tunnels by the interface `cw1`.
fn traffic() -> Traffic {
    Traffic {
        own: ["10.1.0.0/16".parse().unwrap()].into(),
        sources: [].into(),
        private_net: ["10.0.0.0/8".parse().unwrap()].into(),
        uplink: "ens5".parse().unwrap(),
        masquerade: true,
        tunnels: true,
        hub: false,
    }
}

fn findings() -> Obstacles {
    let (found, unasked) = block_on(live::forwarding(&traffic(), &save()));
    assert_eq!(unasked, Vec::<String>::new());
    found
}

/// Whether packets pass: by NAT, into a tunnel, and out of one.
fn passes() -> [bool; 3] {
    [("host", "203.0.113.2"), ("host", "10.2.0.10"), ("peer", "10.1.0.10")]
        .map(|(from, to)| ping(from, &format!("-W 0.3 {to}")).0)
}

/// What firewalld loads, cut down to the chains a forwarded packet meets.
const FIREWALLD: &str = "table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname lo accept
        ct state invalid drop
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES { iifname lo goto trusted; goto public; }
    chain trusted { accept; }
    chain public { jump public_log; meta l4proto ipv6-icmp accept; }
    chain public_log { }
}";

/// What Docker makes of FORWARD, with a network of its own.
const DOCKER: &str = "*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
";

/// What ufw makes of FORWARD, by its default.
const UFW: &str = "*filter
:FORWARD DROP [0:0]
:ufw-before-forward - [0:0]
:ufw-user-forward - [0:0]
:ufw-reject-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p udp -m udp --dport 7 -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
COMMIT
";

/// How firm a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Note,
    Stopped,
}
use Says::{Note, Nothing, Stopped};

fn load(rules: &str) {
    let (program, words) =
        if rules.starts_with('*') { ("iptables-restore --noflush", rules) } else { ("nft -f -", rules) };
    sh(&format!("{program} <<'END'\n{words}\nEND"));
}

#[test]
fn what_stops_packets_is_a_problem_and_what_lets_them_pass_is_none() {
    each_backend("forwarding::what_stops_packets_is_a_problem_and_what_lets_them_pass_is_none", || {
        lay_out();
        protect(true);
        assert_eq!((findings(), passes()), (Obstacles::default(), [true; 3]));
        let nft = |rules: &str| {
            format!("table inet other {{ chain passing {{ type filter hook forward priority 0; {rules} }}; }}")
        };
        let vmap = "ct state vmap { established : accept, related : accept, invalid : drop };";
        let legacy = |rules: &str| format!("*filter\n{rules}\nCOMMIT\n");
        for (rules, says, named) in [
            (FIREWALLD.to_owned(), Stopped, "nft inet firewalld filter_FORWARD: the rule with handle"),
            (DOCKER.to_owned(), Stopped, "iptables filter FORWARD: the policy drop stops"),
            (UFW.to_owned(), Note, "iptables filter FORWARD: the policy drop may stop some of"),
            (legacy(":FORWARD DROP [0:0]"), Stopped, "iptables -t filter -P FORWARD ACCEPT"),
            (
                legacy(":FORWARD DROP [0:0]\n-A FORWARD -s 10.0.0.0/8 -j ACCEPT\n-A FORWARD -d 10.0.0.0/8 -j ACCEPT"),
                Nothing,
                "",
            ),
            (
                legacy(
                    ":FORWARD DROP [0:0]\n-A FORWARD -i own+ -j ACCEPT\n-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A FORWARD -i cw+ -j ACCEPT",
                ),
                Nothing,
                "",
            ),
            (
                legacy("-A FORWARD -p tcp -m tcp --dport 25 -j DROP"),
                Note,
                "-A FORWARD -p tcp -m tcp --dport 25 -j DROP",
            ),
            (
                legacy("-A FORWARD -m comment --comment \"-j DROP\" -j REJECT --reject-with icmp-port-unreachable"),
                Stopped,
                "-j REJECT",
            ),
            (legacy("-A FORWARD -m conntrack --ctstate INVALID -j DROP\n-A FORWARD -i docker0 -j DROP"), Nothing, ""),
            ("*mangle\n-A POSTROUTING -s 10.1.0.0/16 -j DROP\nCOMMIT\n".into(), Stopped, "iptables mangle POSTROUTING"),
            ("*raw\n-A PREROUTING -d 198.51.100.7/32 -j DROP\nCOMMIT\n".into(), Note, "iptables raw PREROUTING"),
            (nft("policy drop;"), Stopped, "nft 'chain inet other passing { policy accept; }'"),
            (nft(&format!("policy drop; {vmap} iifname {{ own0, own1, cw1, cw2 }} accept;")), Nothing, ""),
            (nft(&format!("policy drop; {vmap} tcp dport 443 accept;")), Note, "the policy drop may stop"),
            (
                nft("policy accept; ip saddr { 10.1.0.0/16, 10.2.0.0/16 } oifname != lo drop;"),
                Stopped,
                "nft delete rule inet other passing handle",
            ),
            (nft("policy accept; meta nfproto ipv6 drop; ip6 daddr fe80::/10 drop;"), Nothing, ""),
            // iptables-save shows the first as a drop of everything, and nothing of the second.
            (
                "table ip filter { set bad { type ipv4_addr; }; chain FORWARD { type filter hook forward priority 0; ip saddr @bad drop; }; }"
                    .into(),
                Note,
                "may stop some of",
            ),
            (
                "table ip filter { chain passing { type filter hook forward priority 5; policy drop; }; }".into(),
                Stopped,
                "nft ip filter passing: the policy drop stops",
            ),
            (nft("policy accept; limit rate over 1/hour counter drop;"), Note, "may stop some of"),
        ] {
            load(&rules);
            let (found, pass) = (findings(), passes());
            let stopped: Vec<String> = found.stopped.iter().map(ToString::to_string).collect();
            let lines = [&stopped[..], &found.notes].concat().join("\n");
            match says {
                Nothing => assert_eq!((found, pass), (Obstacles::default(), [true; 3]), "{rules}"),
                Note => assert!(found.stopped.is_empty() && lines.contains(named), "{rules}\n{lines}"),
                Stopped => {
                    assert!(!found.stopped.is_empty() && lines.contains(named), "{rules}\n{lines}");
                    assert!(pass.contains(&false), "said to stop packets, and does not: {rules}\n{lines}");
                }
            }
            sh("iptables -P FORWARD ACCEPT; for t in filter mangle raw nat; do iptables -t $t -F; iptables -t $t -X; done
                nft list tables | grep 'inet\\|ip filter' | while read -r _ family name; do nft delete table $family $name; done");
            protect(true);
            assert_eq!((findings(), passes()), (Obstacles::default(), [true; 3]), "after {rules}");
        }
    });
}

#[test]
fn rules_of_the_other_backend_count_too() {
    each_backend("forwarding::rules_of_the_other_backend_count_too", || {
        lay_out();
        protect(true);
        let other = if is_legacy() { "iptables-nft" } else { "iptables-legacy" };
        sh(&format!("{other} -P FORWARD DROP"));
        let found = findings();
        assert_eq!(passes(), [false; 3]);
        assert!(
            found.stopped[0].found.starts_with(&format!("{other} filter FORWARD: the policy drop stops")),
            "{found:?}"
        );
        assert!(found.stopped[0].remedy.contains(&format!("{other} -t filter -P FORWARD ACCEPT")), "{found:?}");
        sh(&format!("{other} -P FORWARD ACCEPT; {other} -A FORWARD -i ens5 -j DROP"));
        let found = findings();
        assert_eq!(passes(), [false, true, true]);
        assert!(found.stopped[0].remedy.ends_with("-D FORWARD -i ens5 -j DROP"), "{found:?}");
        sh(&format!("{other} -F"));
        assert_eq!((findings(), passes()), (Obstacles::default(), [true; 3]));
    });
}

#[test]
fn a_foreign_masquerade_that_takes_private_traffic_is_a_problem() {
    each_backend("forwarding::a_foreign_masquerade_that_takes_private_traffic_is_a_problem", || {
        lay_out();
        protect(true);
        let nat = |rule: &str| {
            format!("table ip other {{ chain post {{ type nat hook postrouting priority 110; {rule}; }}; }}")
        };
        let seen =
            || super::space::capture("peer", "eth0", "icmp[icmptype] == icmp-echo", || _ = ping("host", "10.2.0.10"));
        for (rule, says) in [
            ("masquerade", Stopped),
            ("ip daddr != 10.0.0.0/8 masquerade", Nothing),
            ("ip daddr 10.0.0.0/8 accept; masquerade", Nothing),
            ("oifname ens5 masquerade", Nothing),
            ("udp dport 53 masquerade", Note),
        ] {
            load(&nat(rule));
            let (found, seen) = (findings(), seen());
            assert_eq!(says == Stopped, !found.stopped.is_empty(), "{rule}: {found:?}");
            assert_eq!(says == Note, !found.notes.is_empty(), "{rule}: {found:?}");
            assert_eq!(says == Stopped, !seen[0].starts_with("IP 10.1.0.10 >"), "{rule}: {seen:?}");
            sh("nft delete table ip other");
        }
        // In the built-in chain with crosswan's own jump, that jump comes first.
        sh("iptables -t nat -A POSTROUTING -j MASQUERADE");
        assert_eq!(findings(), Obstacles::default());
        assert!(seen()[0].starts_with("IP 10.1.0.10 >"));
    });
}

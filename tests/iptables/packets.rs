//! What the rules do to packets. The gateway's namespace is the test's own, with a host of the own VPC, the internet
//! and a tunnel device on one veth each; a test first shows that what it forbids happens without the rules.
//!
//! ```text
//! host 10.1.0.10 -- own0 [gateway] ens5 203.0.113.1 -- internet 203.0.113.2, and an intruder there, 10.2.0.66
//! host2 10.1.1.10 - own1 [       ] cw1 ------------ peer 10.2.0.10, the tunnel's other side
//! ```

use std::collections::BTreeSet;

use crosswan::host;
use crosswan_core::{
    iptables::{Rules, render},
    model::Nat,
};

use super::space::{apply, capture, each_backend, sh, try_sh};

pub fn lay_out() {
    for (space, device, gateway, address) in [
        ("host", "own0", "10.1.0.1", "10.1.0.10"),
        ("host2", "own1", "10.1.1.1", "10.1.1.10"),
        ("internet", "ens5", "203.0.113.1", "203.0.113.2"),
        ("peer", "cw1", "10.2.0.1", "10.2.0.10"),
    ] {
        sh(&format!(
            "ip netns add {space}; ip link add {device} type veth peer name eth0 netns {space}
             ip addr add {gateway}/24 dev {device}; ip link set {device} up
             ip -n {space} addr add {address}/24 dev eth0; ip -n {space} link set eth0 up; ip -n {space} link set lo up
             ip -n {space} route add default via {gateway}"
        ));
    }
    sh("ip route add default via 203.0.113.2 dev ens5; ip route add 10.4.0.0/16 via 10.2.0.10 dev cw1
        ip -n internet addr add 10.2.0.66/32 dev lo; ip -n internet route del default
        echo 1 > /proc/sys/net/ipv4/ip_forward
        for i in all own0 own1 ens5 cw1; do
            echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/$i/send_redirects
        done");
}

/// The rules of a client VPC 10.1.0.0/16.
fn rules(tunnels: bool) -> Nat {
    Nat {
        private_net: ["10.0.0.0/8".parse().unwrap()].into(),
        own: ["10.1.0.0/16".parse().unwrap()].into(),
        masquerade: Some(host::default_route_interface().unwrap()),
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

pub fn protect(tunnels: bool) {
    protect_by(&rules(tunnels));
}

fn protect_by(nat: &Nat) {
    apply(&Rules::parse(&render(nat))).unwrap();
}

/// Sends one echo request from `space` ("" is the gateway); whether it was answered, and what ping said.
pub fn ping(space: &str, options_and_target: &str) -> (bool, String) {
    let within = if space.is_empty() { String::new() } else { format!("ip netns exec {space} ") };
    try_sh(&format!("{within}ping -n -c 1 -W 1 {options_and_target}"))
}

fn answered(space: &str, target: &str) {
    let (ok, text) = ping(space, target);
    assert!(ok, "{text}");
}

/// No answer, and an ICMP error that says so: sent back at once, nothing hangs.
fn rejected(space: &str, target: &str) {
    let (ok, text) = ping(space, target);
    assert!(!ok && text.contains("Destination Net Unreachable"), "{text}");
}

/// Echo requests with a private address at either end that the internet sees during `action`.
fn leaked(action: impl FnOnce()) -> Vec<String> {
    capture("internet", "eth0", "icmp[icmptype] == icmp-echo and net 10.0.0.0/8", action)
}

#[test]
fn private_traffic_keeps_its_source_and_internet_traffic_is_masqueraded() {
    each_backend("packets::private_traffic_keeps_its_source_and_internet_traffic_is_masqueraded", || {
        lay_out();
        // A foreign masquerade of everything must not catch private traffic, even after the own chain.
        sh("iptables -w 5 -t nat -A POSTROUTING -j MASQUERADE");
        let at = |space: &str, action: &dyn Fn()| capture(space, "eth0", "icmp[icmptype] == icmp-echo", action);
        let without = at("peer", &|| answered("host", "10.2.0.10"));
        assert!(without[0].starts_with("IP 10.2.0.1 > 10.2.0.10"), "{without:?}");

        protect(true);
        let tunnelled = at("peer", &|| answered("host", "10.2.0.10"));
        assert!(tunnelled[0].starts_with("IP 10.1.0.10 > 10.2.0.10"), "{tunnelled:?}");
        let back = at("host", &|| answered("peer", "10.1.0.10"));
        assert!(back[0].starts_with("IP 10.2.0.10 > 10.1.0.10"), "{back:?}");
        let within = at("host2", &|| answered("host", "10.1.1.10"));
        assert!(within[0].starts_with("IP 10.1.0.10 > 10.1.1.10"), "{within:?}");
        let egress = at("internet", &|| answered("host", "203.0.113.2"));
        assert!(egress[0].starts_with("IP 203.0.113.1 > 203.0.113.2"), "{egress:?}");
        answered("", "10.2.0.10");
        // The hairpin, spoke to spoke through the hub: in and out by the tunnel.
        let hairpin = at("peer", &|| _ = ping("peer", "10.4.0.10"));
        assert_eq!(hairpin.iter().filter(|l| l.starts_with("IP 10.2.0.10 > 10.4.0.10")).count(), 2, "{hairpin:?}");
        // Foreign rules still decide about what the guard lets pass.
        sh("iptables -w 5 -A FORWARD -s 10.1.0.10 -d 10.1.1.10 -j DROP");
        assert!(!ping("host", "10.1.1.10").0);
    });
}

#[test]
fn nothing_private_passes_in_the_clear() {
    each_backend("packets::nothing_private_passes_in_the_clear", || {
        lay_out();
        sh("ip -n internet route add 10.1.0.0/16 via 203.0.113.1");
        let intrude = || _ = ping("internet", "-I 10.2.0.66 10.1.0.10");
        let intruded = || capture("host", "eth0", "src host 10.2.0.66", intrude);
        let nobody = || _ = ping("host", "10.9.9.9");
        assert!(!leaked(nobody).is_empty() && !intruded().is_empty(), "the guard has nothing to prevent");

        let down = || {
            rejected("host", "10.2.0.10");
            assert!(!ping("", "10.2.0.10").0);
        };
        protect(true);
        assert_eq!(intruded(), Vec::<String>::new());
        // A private CIDR that nobody has is refused, whoever asks, and does not loop.
        assert_eq!(leaked(|| rejected("host", "10.9.9.9")), Vec::<String>::new());
        assert_eq!(leaked(|| rejected("peer", "10.9.9.9")), Vec::<String>::new());
        sh("ip link set cw1 down");
        assert_eq!(leaked(down), Vec::<String>::new(), "while the tunnel is down");
        answered("host", "203.0.113.2");
        answered("host", "10.1.1.10");
    });
}

/// How many packets the guard has judged so far: each of them, if it is no SYN, is counted by one of its rules.
fn guarded() -> u64 {
    let rules = sh("iptables -w 5 -vnxL CROSSWAN-GUARD");
    rules.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

#[test]
fn a_masqueraded_flow_skips_the_guard_after_its_first_packet_and_a_private_one_never_does() {
    let name = "packets::a_masqueraded_flow_skips_the_guard_after_its_first_packet_and_a_private_one_never_does";
    each_backend(name, || {
        lay_out();
        protect(true);
        let judged = |target: &str| {
            let before = guarded();
            answered("host", &format!("-c 4 -i 0.1 {target}"));
            guarded() - before
        };
        assert_eq!((judged("203.0.113.2"), judged("10.2.0.10")), (1, 8), "of four requests and four answers");

        // A flow that begins in a tunnel stays guarded: when its route is gone, not one of its packets leaves in the clear.
        let send = || datagram("host", 3001, "10.2.0.10:9");
        let at_peer = || capture("peer", "eth0", "udp port 3001", send).len();
        assert_eq!((at_peer(), at_peer()), (1, 1));
        datagram("peer", 9, "10.1.0.10:3001");
        sh("ip link set cw1 down");
        let leaked = || capture("internet", "eth0", "udp port 3001", send);
        assert_eq!(leaked(), Vec::<String>::new());
        sh("iptables -w 5 -D FORWARD 1");
        assert_eq!(leaked().len(), 1, "the guard has nothing to prevent");
    });
}

/// The rules of the version that clamped in the table mangle and guarded every packet.
const BEFORE: &str = include_str!("../fuzz/corpus/iptables/nat-vpn-interfaces");

#[test]
fn the_rules_of_the_version_before_give_way_and_come_back_without_a_moment_unguarded() {
    let name = "packets::the_rules_of_the_version_before_give_way_and_come_back_without_a_moment_unguarded";
    each_backend(name, || {
        lay_out();
        let now = Nat {
            private_net: ["10.0.0.0/8".parse().unwrap(), "172.16.0.0/12".parse().unwrap()].into(),
            own: ["10.1.0.0/16".parse().unwrap(), "100.64.0.0/16".parse().unwrap()].into(),
            ..rules(true)
        };
        let (before, now) = (Rules::parse(BEFORE), Rules::parse(&render(&now)));
        // Datagrams to a private network that no tunnel leads to, and SYNs into a tunnel, some thousand of each a second.
        sh("ip netns exec host perl -MIO::Socket::INET -e '
                $u = IO::Socket::INET->new(Proto => \"udp\", PeerAddr => \"10.9.9.9:9\");
                for (;;) { $u->send(\"x\"); IO::Socket::INET->new(PeerAddr => \"10.2.0.10:7\", Blocking => 0); }' \
            >/dev/null 2>&1 & echo $! >/run/sender");
        let leaked = |action: &dyn Fn()| capture("internet", "eth0", "udp port 9", action);
        apply(&before).unwrap();
        let switched = leaked(&|| {
            for _ in 0..10 {
                let syns = capture("peer", "eth0", "tcp[tcpflags] & tcp-syn != 0", || _ = apply(&now).unwrap());
                assert!(syns.len() > 100 && syns.iter().all(|syn| syn.contains("mss 1360")), "{} SYNs", syns.len());
                apply(&before).unwrap();
            }
        });
        assert_eq!(switched, Vec::<String>::new());
        assert!(!leaked(&|| _ = sh("iptables -w 5 -D FORWARD -j CROSSWAN-GUARD")).is_empty(), "nothing was prevented");
        sh("kill $(cat /run/sender)");
    });
}

#[test]
fn a_nat_hub_forwards_nothing_private_but_speaks_itself() {
    each_backend("packets::a_nat_hub_forwards_nothing_private_but_speaks_itself", || {
        lay_out();
        protect(false);
        rejected("host", "10.2.0.10");
        assert!(!ping("peer", "10.1.0.10").0);
        answered("host", "203.0.113.2");
        answered("host", "10.1.1.10");
        // Its own answers go by the VPC's router to the vpn-hub.
        answered("", "10.2.0.10");
        answered("peer", "10.2.0.1");
    });
}

/// The MSS in SYN and SYN-ACK as each end sees them, for a connection from `from` to `target` in `to`.
fn mss_seen(from: &str, to: &str, target: &str) -> [u16; 2] {
    let syn = "tcp[tcpflags] & tcp-syn != 0";
    let number = |lines: &[String], flags: &str| -> u16 {
        let line = lines.iter().find(|l| l.contains(&format!("Flags {flags},"))).unwrap_or_else(|| panic!("{lines:?}"));
        line.split("mss ").nth(1).and_then(|l| l.split([',', ']']).next()).unwrap().parse().unwrap()
    };
    let listen = "IO::Socket::INET->new(Listen => 1, LocalPort => 7, ReuseAddr => 1) or die; $| = 1; print 1; sleep 20";
    let mut at_client = vec![];
    let at_server = capture(to, "eth0", syn, || {
        at_client = capture(from, "eth0", syn, || {
            sh(&format!(
                "ip netns exec {to} perl -MIO::Socket::INET -e '$s = {listen}' > /run/ready &
                 for i in $(seq 100); do [ -s /run/ready ] && break; sleep 0.05; done
                 ip netns exec {from} timeout 3 bash -c 'exec 3<>/dev/tcp/{target}/7'; kill $!; rm /run/ready"
            ));
        });
    });
    [number(&at_server, "[S]"), number(&at_client, "[S.]")]
}

#[test]
fn mss_is_clamped_in_the_tunnel_both_ways_and_never_raised() {
    each_backend("packets::mss_is_clamped_in_the_tunnel_both_ways_and_never_raised", || {
        lay_out();
        assert_eq!(mss_seen("host", "peer", "10.2.0.10"), [1460, 1460], "without the rules");
        protect(true);
        assert_eq!(mss_seen("host", "peer", "10.2.0.10"), [1360, 1360]);
        assert_eq!(mss_seen("peer", "host", "10.1.0.10"), [1360, 1360]);
        assert_eq!(mss_seen("host", "internet", "203.0.113.2"), [1460, 1460], "not in a tunnel");
        sh("ip -n host route replace default via 10.1.0.1 advmss 900");
        assert_eq!(mss_seen("host", "peer", "10.2.0.10"), [900, 1360], "a smaller one stays");
    });
}

/// Sends a datagram from `port` in `space` to `target`, `PORT` after a colon.
fn datagram(space: &str, port: u16, target: &str) {
    let within = if space.is_empty() { String::new() } else { format!("ip netns exec {space} ") };
    sh(&format!(
        "{within}perl -MIO::Socket::INET -e 'IO::Socket::INET->new(Proto => \"udp\", LocalPort => {port}, \
         PeerAddr => \"{target}\", ReuseAddr => 1)->send(\"x\") or die'"
    ));
}

#[test]
fn no_private_host_gets_a_port_of_ike() {
    each_backend("packets::no_private_host_gets_a_port_of_ike", || {
        lay_out();
        let seen = |ports: &[u16], target: &str| -> Vec<u16> {
            let send = || ports.iter().for_each(|port| datagram("host", *port, target));
            let lines = capture("internet", "eth0", "udp", send);
            let port = |line: &String| line.split_whitespace().nth(1)?.rsplit_once('.')?.1.parse().ok();
            assert!(lines.iter().all(|line| line.starts_with("IP 203.0.113.1.")), "{lines:?}");
            lines.iter().filter_map(port).collect()
        };
        // Without the rule a host that speaks IKE itself takes the gateway's own port, if it is first.
        sh("iptables -w 5 -t nat -A POSTROUTING -s 10.1.0.0/16 -o ens5 -j MASQUERADE");
        assert_eq!(seen(&[500, 4500], "203.0.113.2:9"), [500, 4500], "without the rules");
        sh("iptables -w 5 -t nat -F POSTROUTING");
        protect(true);
        let ports: Vec<u16> = (500..520).chain([4500]).collect();
        let got = seen(&ports, "203.0.113.2:10");
        assert!(got.len() == ports.len() && got.iter().all(|port| *port > 4500), "{got:?}");
        // At random: neither the host's own port, nor one after the other.
        assert!(got.windows(2).filter(|two| two[1] == two[0] + 1).count() < 3, "{got:?}");
    });
}

#[test]
fn an_error_of_a_privately_numbered_router_reaches_the_host_whose_flow_is_masqueraded() {
    each_backend("packets::an_error_of_a_privately_numbered_router_reaches_the_host_whose_flow_is_masqueraded", || {
        lay_out();
        protect(true);
        // A router on the way to 198.51.100.9 that calls itself 10.2.0.66 and has an MTU of 1000 behind it.
        sh("ip netns add far; ip -n internet link add far mtu 1000 type veth peer name eth0 netns far
            ip -n internet link set far up; ip -n far link set eth0 up; ip -n internet route add 198.51.100.9 dev far
            ip netns exec internet sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
            ip -n internet route replace 203.0.113.1 dev eth0 src 10.2.0.66");
        let big = || ping("host", "-M do -s 1300 198.51.100.9").1;
        let first = big();
        assert!(first.contains("From 10.2.0.66") && first.contains("mtu = 1000"), "{first}");
        // A packet that is related to nothing is still an intruder's.
        sh("ip -n internet route add 10.1.0.0/16 via 203.0.113.1");
        let intruded = capture("host", "eth0", "src host 10.2.0.66", || _ = ping("internet", "-I 10.2.0.66 10.1.0.10"));
        assert_eq!(intruded, Vec::<String>::new());
    });
}

/// Whether a connection from `space` to `target` (`ADDRESS/PORT`) on the gateway comes about, and if not, how soon that is
/// known.
fn connects(space: &str, target: &str) -> Result<(), String> {
    let (ok, text) = try_sh(&format!("ip netns exec {space} timeout 2 bash -c 'exec 3<>/dev/tcp/{target}'"));
    if ok { Ok(()) } else { Err(text) }
}

#[test]
fn out_of_a_tunnel_the_gateway_is_reached_by_icmp_and_what_settings_open() {
    each_backend("packets::out_of_a_tunnel_the_gateway_is_reached_by_icmp_and_what_settings_open", || {
        lay_out();
        let listen = |space: &str, port: u16| {
            sh(&format!(
                "{space} perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 9, LocalPort => {port}, ReuseAddr => 1) \
                 or die; open F, \">/run/{port}\"; sleep 30' >/dev/null 2>&1 &
                 for i in $(seq 100); do [ -e /run/{port} ] && exit; sleep 0.05; done; exit 1"
            ));
        };
        listen("", 22);
        listen("", 9100);
        listen("ip netns exec peer", 80);
        for target in ["10.2.0.1/22", "10.2.0.1/9100"] {
            assert_eq!(connects("peer", target), Ok(()), "without the rules");
        }
        for opened in [false, true] {
            let input = opened.then(|| "tcp/22".parse().unwrap());
            protect_by(&Nat { input: input.into_iter().collect(), ..rules(true) });
            answered("peer", "10.2.0.1");
            assert_eq!(connects("peer", "10.2.0.1/22").is_ok(), opened);
            let refused = connects("peer", "10.2.0.1/9100").unwrap_err();
            assert!(refused.contains("No route to host"), "refused at once, by an ICMP error: {refused}");
            // For packets that did not come out of a tunnel the security groups decide.
            assert_eq!(connects("host", "10.1.0.1/22"), Ok(()));
            // Answers to what the gateway itself asks for come in.
            sh("timeout 2 bash -c 'exec 3<>/dev/tcp/10.2.0.10/80'");
        }
    });
}

#[test]
fn what_is_excluded_is_reached_in_the_clear_by_the_gateway_itself_and_by_nobody_else() {
    each_backend("packets::what_is_excluded_is_reached_in_the_clear_by_the_gateway_itself_and_by_nobody_else", || {
        lay_out();
        // An endpoint in a peered VPC: the way there is the uplink's.
        sh("ip -n internet addr add 10.9.0.5/32 dev lo");
        protect(true);
        rejected("", "-I 203.0.113.1 10.9.0.5");
        protect_by(&Nat { exclude: ["10.9.0.0/16".parse().unwrap()].into(), ..rules(true) });
        answered("", "-I 203.0.113.1 10.9.0.5");
        rejected("host", "10.9.0.5");
        rejected("", "-I 203.0.113.1 10.8.0.5");
    });
}

#[test]
fn another_vpcs_sources_are_masqueraded_and_nothing_private_goes_to_them_in_the_clear() {
    each_backend("packets::another_vpcs_sources_are_masqueraded_and_nothing_private_goes_to_them_in_the_clear", || {
        lay_out();
        // 10.3.0.10 is in a VPC that comes by a Transit Gateway, here by way of the peer's cable.
        sh("ip -n peer addr add 10.3.0.10/32 dev lo; ip route add 10.3.0.0/16 via 10.2.0.10 dev cw1");
        let out = || {
            capture("internet", "eth0", "icmp[icmptype] == icmp-echo", || _ = ping("peer", "-I 10.3.0.10 203.0.113.2"))
        };
        protect(false);
        assert_eq!(out(), Vec::<String>::new(), "dropped as somebody's forgery");
        protect_by(&Nat { sources: ["10.3.0.0/16".parse().unwrap()].into(), ..rules(false) });
        answered("peer", "-I 10.3.0.10 203.0.113.2");
        assert!(out()[0].starts_with("IP 203.0.113.1 > 203.0.113.2"), "{:?}", out());
        // Only answers to that: private to private stays what it was, from either side.
        rejected("host", "10.3.0.10");
        rejected("peer", "-I 10.3.0.10 10.4.0.10");
    });
}

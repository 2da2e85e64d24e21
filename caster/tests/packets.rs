//! May this packet pass? An evaluator of security groups and network ACLs, after the documents were cast into the model.

use std::{collections::BTreeSet, net::Ipv4Addr};

use cloudcaster::{
    rule::{Peer, Rule},
    seen::Seen,
};
use serde_json::{Value, json};

use crate::{
    documents::{CLIENT, EXAMPLE, HUB, read, value, with},
    model::Region,
    properties::region,
};

/// A packet that opens a connection.
#[derive(Clone)]
struct Packet {
    protocol: &'static str,
    /// Of ICMP the type.
    port: i32,
    peer: Ipv4Addr,
    /// The groups of the far end, if it is in the VPC.
    groups: Vec<&'static str>,
}

fn packet(protocol: &'static str, port: i32, peer: &str) -> Packet {
    Packet { protocol, port, peer: peer.parse().unwrap(), groups: Vec::new() }
}

fn of_group(protocol: &'static str, port: i32, group: &'static str) -> Packet {
    Packet { groups: vec![group], ..packet(protocol, port, "10.0.0.77") }
}

fn matches(seen: &Seen, rule: &Rule, p: &Packet, egress: bool) -> bool {
    let peer = match &rule.peer {
        Peer::Cidr(net) => net.contains(&p.peer),
        Peer::Group(id) => p.groups.iter().any(|name| seen.groups[id].name == *name),
    };
    let ports = match rule.protocol.as_str() {
        "-1" => true,
        "icmp" => p.protocol == "icmp" && (rule.from == -1 || rule.from == p.port),
        protocol => protocol == p.protocol && (rule.from..=rule.to).contains(&p.port),
    };
    rule.egress == egress && peer && ports
}

/// Whether the groups of a name let the packet in or out: any rule of any group is enough.
fn passes(seen: &Seen, group: &str, p: &Packet, egress: bool) -> bool {
    let groups = seen.groups.values().filter(|g| g.name == group);
    groups.flat_map(|g| &g.rules).any(|rule| matches(seen, rule, p, egress))
}

fn cast(text: &str) -> Seen {
    let mut region = Region::new(region("example-empty-region"));
    region.cast(&read(text));
    region.seen
}

#[test]
fn the_hub_admits_what_it_forwards_and_what_the_document_opens() {
    let seen = cast(HUB);
    let hub = |p: Packet| passes(&seen, "vpn-hub-prod", &p, false);
    assert!(hub(packet("udp", 500, "192.0.2.1")) && hub(packet("udp", 4500, "192.0.2.1")), "IKE and ESP in UDP");
    assert!(!hub(packet("udp", 501, "192.0.2.1")) && !hub(packet("tcp", 500, "192.0.2.1")));
    assert!(hub(packet("tcp", 22, "192.0.2.1")), "SSH, the default of 2014");
    // The fault of 2014: a host of the hub could open no connection but SSH through it.
    assert!(hub(packet("tcp", 8443, "203.0.113.20")) && hub(packet("udp", 53, "203.0.113.130")));
    assert!(!hub(packet("tcp", 8443, "192.0.2.1")) && !hub(packet("tcp", 80, "198.51.100.7")));
    assert!(hub(packet("icmp", 8, "203.0.113.200")) && !hub(packet("icmp", 8, "192.0.2.1")));
    assert!(passes(&seen, "vpn-hub-prod", &packet("tcp", 443, "192.0.2.1"), true), "the default egress stays");
}

#[test]
fn nat_admits_the_vpc_the_private_network_and_its_ports() {
    let seen = cast(CLIENT);
    let nat = |p: Packet| passes(&seen, "nat-vpn", &p, false);
    assert!(nat(packet("tcp", 443, "203.0.113.145")) && nat(packet("icmp", 3, "203.0.113.145")), "from the VPC");
    assert!(nat(packet("tcp", 443, "203.0.113.20")), "from the private network");
    assert!(nat(packet("icmp", 8, "192.0.2.1")) && !nat(packet("icmp", 5, "192.0.2.1")), "ping from anywhere");
    assert!(nat(packet("udp", 33500, "192.0.2.1")) && !nat(packet("udp", 33535, "192.0.2.1")), "traceroute");
    assert!(nat(packet("tcp", 22, "192.0.2.1")) && nat(packet("udp", 500, "192.0.2.1")));
    assert!(!nat(packet("tcp", 80, "192.0.2.1")) && !nat(packet("udp", 53, "192.0.2.1")));
    assert!(passes(&seen, "nat-vpn", &packet("tcp", 443, "192.0.2.1"), true));
}

#[test]
fn an_app_behind_a_load_balancer_admits_it_and_not_the_internet() {
    let seen = cast(EXAMPLE);
    let app = |p: Packet| passes(&seen, "example-prod", &p, false);
    assert!(app(of_group("tcp", 80, "example-elb-prod")) && app(of_group("tcp", 443, "example-elb-prod")));
    assert!(!app(of_group("tcp", 81, "example-elb-prod")) && !app(packet("tcp", 80, "192.0.2.1")));
    assert!(passes(&seen, "example-elb-prod", &packet("tcp", 443, "192.0.2.1"), false));
    assert!(!passes(&seen, "example-elb-prod", &packet("tcp", 22, "192.0.2.1"), false));
}

/// Each key that makes a rule: the change, a packet that passes with it, and one beside it that does not.
#[test]
fn each_key_opens_what_it_says_and_nothing_beside_it() {
    let rule = |key: &str, v: Value| with(&value(EXAMPLE), &format!("/apps/0/{key}"), v);
    let closed = |doc: Value| with(&doc, "/vpc/default_rules", json!([]));
    let ports = json!([{ "from": 8000, "to": 8001, "prot": "tcp" }]);
    let other = json!([{ "group": "example-elb-prod", "from": 9, "to": 9, "prot": "udp" }]);
    let cidr = json!([{ "cidr": "192.0.2.0/28", "from": 0, "to": 0, "prot": "all" }]);
    let default = json!([{ "cidr_ip": "192.0.2.0/28", "from_port": 22, "to_port": 22, "ip_protocol": "tcp" }]);
    let cases = [
        (
            "ports",
            closed(rule("ports", ports.clone())),
            "example-prod",
            of_group("tcp", 8001, "example-prod"),
            packet("tcp", 8001, "192.0.2.1"),
        ),
        (
            "pubports",
            closed(rule("pubports", ports.clone())),
            "example-prod",
            packet("tcp", 8000, "192.0.2.1"),
            packet("tcp", 8002, "192.0.2.1"),
        ),
        (
            "allow, group",
            closed(rule("allow", other)),
            "example-prod",
            of_group("udp", 9, "example-elb-prod"),
            of_group("udp", 9, "nat-example"),
        ),
        (
            "allow, cidr",
            closed(rule("allow", cidr)),
            "example-prod",
            packet("udp", 1234, "192.0.2.15"),
            packet("udp", 1234, "192.0.2.16"),
        ),
        (
            "default_rules",
            with(&value(EXAMPLE), "/vpc/default_rules", default),
            "example-prod",
            packet("tcp", 22, "192.0.2.1"),
            packet("tcp", 22, "192.0.2.99"),
        ),
        (
            "elb ports",
            with(&value(EXAMPLE), "/elbs/0/ports", ports),
            "example-elb-prod",
            packet("tcp", 8000, "192.0.2.1"),
            packet("tcp", 80, "192.0.2.1"),
        ),
        (
            "nat ports",
            value(EXAMPLE),
            "nat-example",
            packet("udp", 4500, "192.0.2.1"),
            packet("udp", 4501, "192.0.2.1"),
        ),
        (
            "health check",
            with(&value(EXAMPLE), "/elbs/0/target", json!("HTTP:8080/up")),
            "example-prod",
            of_group("tcp", 8080, "example-elb-prod"),
            packet("tcp", 8080, "192.0.2.1"),
        ),
    ];
    for (what, document, group, inside, outside) in cases {
        let seen = cast(&document.to_string());
        assert!(passes(&seen, group, &inside, false), "{what}");
        assert!(!passes(&seen, group, &outside, false), "{what}");
    }
}

#[test]
fn egress_closes_everything_but_what_it_lists() {
    let egress = json!([{ "cidr": "10.0.0.0/8", "from": 443, "to": 443, "prot": "tcp" }]);
    let seen = cast(&with(&value(EXAMPLE), "/apps/0/egress", egress).to_string());
    assert!(passes(&seen, "example-prod", &packet("tcp", 443, "10.9.9.9"), true));
    assert!(!passes(&seen, "example-prod", &packet("tcp", 80, "10.9.9.9"), true));
    assert!(!passes(&seen, "example-prod", &packet("tcp", 443, "192.0.2.1"), true));
    // Nobody else is limited.
    assert!(passes(&seen, "nat-example", &packet("tcp", 80, "192.0.2.1"), true));
}

/// Whether the VPC's network ACL lets the packet pass: the lowest number that matches decides, and none is a no.
fn acl_passes(seen: &Seen, vpc: &str, p: &Packet, egress: bool) -> bool {
    let acl = seen.acls.values().find(|a| a.vpc == vpc).unwrap();
    let mut entries: Vec<_> = acl.entries.iter().filter(|e| e.egress == egress).collect();
    entries.sort_by_key(|e| e.number);
    let number = match p.protocol {
        "icmp" => 1,
        "tcp" => 6,
        _ => 17,
    };
    let decides = entries.iter().find(|e| {
        let ports = e.ports.is_none_or(|(from, to)| (i32::from(from)..=i32::from(to)).contains(&p.port));
        let icmp = e.icmp.is_none_or(|(kind, _)| kind == -1 || i32::from(kind) == p.port);
        (e.protocol == -1 || e.protocol == number) && e.cidr.contains(&p.peer) && ports && icmp
    });
    decides.is_some_and(|e| e.allow)
}

#[test]
fn the_acl_of_a_new_vpc_is_the_documents_and_of_an_old_one_both() {
    let acls = json!([
        { "rule_number": 10, "protocol": 6, "rule_action": "deny", "cidr_block": "192.0.2.0/24", "port_range_from": 22, "port_range_to": 22 },
        { "rule_number": 100, "protocol": 6, "rule_action": "allow", "cidr_block": "0.0.0.0/0", "port_range_from": 0, "port_range_to": 65535 },
        { "rule_number": 100, "protocol": -1, "rule_action": "allow", "cidr_block": "10.0.0.0/8", "egress": true },
        { "rule_number": 110, "protocol": 1, "rule_action": "allow", "cidr_block": "10.0.0.0/8", "icmp_type": 8, "icmp_code": -1 },
    ]);
    let seen = cast(&with(&value(EXAMPLE), "/vpc/acls", acls).to_string());
    let vpc = seen.vpcs.iter().find(|(_, v)| !v.default).unwrap().0;
    assert!(!acl_passes(&seen, vpc, &packet("tcp", 22, "192.0.2.1"), false));
    assert!(
        acl_passes(&seen, vpc, &packet("tcp", 23, "192.0.2.1"), false)
            && acl_passes(&seen, vpc, &packet("tcp", 22, "10.1.1.1"), false)
    );
    assert!(!acl_passes(&seen, vpc, &packet("udp", 53, "192.0.2.1"), false), "the default entry is gone");
    assert!(
        acl_passes(&seen, vpc, &packet("icmp", 8, "10.1.1.1"), false)
            && !acl_passes(&seen, vpc, &packet("icmp", 3, "10.1.1.1"), false)
    );
    assert!(
        acl_passes(&seen, vpc, &packet("udp", 53, "10.1.1.1"), true)
            && !acl_passes(&seen, vpc, &packet("udp", 53, "192.0.2.1"), true)
    );
    let plain = cast(EXAMPLE);
    let vpc = plain.vpcs.iter().find(|(_, v)| !v.default).unwrap().0;
    assert!(acl_passes(&plain, vpc, &packet("udp", 53, "192.0.2.1"), false), "without acls nothing changes");
}

#[test]
fn no_rule_of_a_document_is_without_effect() {
    for text in [HUB, CLIENT, EXAMPLE] {
        let seen = cast(text);
        for group in seen.groups.values() {
            let rules: BTreeSet<&Rule> = group.rules.iter().collect();
            for rule in &rules {
                let peer = match &rule.peer {
                    Peer::Cidr(net) => Packet { groups: vec![], ..packet("tcp", 0, &net.addr().to_string()) },
                    Peer::Group(id) => {
                        let name: &'static str = Box::leak(seen.groups[id].name.clone().into_boxed_str());
                        of_group("tcp", 0, name)
                    }
                };
                let protocol: &'static str = match rule.protocol.as_str() {
                    "udp" => "udp",
                    "icmp" => "icmp",
                    _ => "tcp",
                };
                let p = Packet { protocol, port: rule.from.max(0), ..peer };
                assert!(passes(&seen, &group.name, &p, rule.egress), "{}: {rule}", group.name);
            }
        }
    }
}

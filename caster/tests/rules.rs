//! The rules between keys: one bad document each, and the words it gets.

use serde_json::{Value, json};

use crate::documents::{EXAMPLE, HUB, errors, value, warnings, with, without};

/// Each change of a document, and the one error that it gives.
#[test]
fn each_rule_has_its_words() {
    let hub = value(HUB);
    let app = |key: &str| format!("/apps/0/{key}");
    let elb = |key: &str| format!("/elbs/0/{key}");
    let allow = json!({ "from": 1, "to": 2, "prot": "tcp" });
    let cases: Vec<(&str, String, Value, &str)> = vec![
        (
            HUB,
            "/vpc/cidr".into(),
            json!("203.0.0.0/15"),
            "vpc.cidr: expected a prefix length from /16 to /28, found 203.0.0.0/15",
        ),
        (
            HUB,
            "/aws/privnet".into(),
            json!("203.0.113.0/26"),
            "aws.privnet: 203.0.113.0/26 lies within vpc.cidr 203.0.113.0/26: the private network must be larger than one VPC",
        ),
        (
            HUB,
            "/vpc/subnets/0".into(),
            json!("10.0.0.0/28"),
            "vpc.subnets[0]: 10.0.0.0/28 is not within vpc.cidr 203.0.113.0/26",
        ),
        (
            HUB,
            "/vpc/subnets/0".into(),
            json!("203.0.113.0/29"),
            "vpc.subnets[0]: 203.0.113.0/29 is too small: AWS allows subnets from /16 to /28",
        ),
        (
            HUB,
            "/vpc/pubsubnets/0".into(),
            json!("203.0.113.16/28"),
            "vpc.pubsubnets[0]: 203.0.113.16/28 overlaps 203.0.113.16/28, which is vpc.subnets[0]",
        ),
        (
            HUB,
            "/vpc/pubsubnets/-".into(),
            json!("203.0.113.32/28"),
            "vpc.pubsubnets: 2 subnets, but vpc.azs has 1: each subnet needs a zone of its own",
        ),
        (HUB, "/vpc/azs/0".into(), json!("eu-west-1a"), "vpc.azs[0]: eu-west-1a is not a zone of aws.region us-west-2"),
        (HUB, "/vpc/azs/-".into(), json!("us-west-2a"), "vpc.azs[1]: us-west-2a is listed twice"),
        (
            HUB,
            "/vpc/acls".into(),
            json!([{ "rule_number": 1, "protocol": 6, "rule_action": "allow", "cidr_block": "0.0.0.0/0" }]),
            "vpc.acls[0]: TCP and UDP need port_range_from and port_range_to, and neither icmp_type nor icmp_code",
        ),
        (
            HUB,
            "/vpc/acls".into(),
            json!([{ "rule_number": 1, "protocol": 17, "rule_action": "allow", "cidr_block": "0.0.0.0/0", "port_range_from": 9, "port_range_to": 8 }]),
            "vpc.acls[0].port_range_from: 9 is above port_range_to 8",
        ),
        (
            HUB,
            "/vpc/acls".into(),
            json!([{ "rule_number": 1, "protocol": -1, "rule_action": "allow", "cidr_block": "0.0.0.0/0" }, { "rule_number": 1, "protocol": -1, "rule_action": "deny", "cidr_block": "0.0.0.0/0" }]),
            "vpc.acls[1].rule_number: 1 is there twice for incoming packets",
        ),
        (HUB, "/nat/addrs".into(), json!(["192.0.2.1", "192.0.2.2"]), "nat.addrs: 2 addresses, but a gateway has one"),
        (HUB, "/nat/addrs".into(), json!(["198.51.100.100"]), "apps[0].addrs[0]: 198.51.100.100 is also nat.addrs[0]"),
        (
            HUB,
            app("name"),
            json!("nat-hub"),
            "apps[0].name: nat-hub is also nat.name: instances are told apart by their name",
        ),
        (
            HUB,
            "/aws/privnet_via".into(),
            json!("vpn-hb"),
            "aws.privnet_via: \"vpn-hb\" is not an app of this document; did you mean vpn-hub?",
        ),
        (
            HUB,
            app("count"),
            json!(2),
            "apps[0].count: vpn-hub must have count 1: it is the way to the private network, which is one instance with a place of its own",
        ),
        (
            HUB,
            app("azlimit"),
            json!("us-west-2b"),
            "apps[0].azlimit: us-west-2b is not in vpc.azs; did you mean us-west-2a?",
        ),
        (HUB, app("allow"), json!([allow]), "apps[0].allow[0]: neither cidr nor group: the rule needs one of them"),
        (
            HUB,
            app("allow"),
            json!([{ "from": 1, "to": 2, "prot": "tcp", "cidr": "10.0.0.0/8", "group": "g" }]),
            "apps[0].allow[0]: both cidr and group; keep one",
        ),
        (
            HUB,
            app("pubports"),
            json!([{ "from": 2, "to": 1, "prot": "tcp" }]),
            "apps[0].pubports[0].from: 2 is above to 1",
        ),
        (
            HUB,
            app("pubports"),
            json!([{ "from": -1, "to": 1, "prot": "udp" }]),
            "apps[0].pubports[0].from: expected a port from 0 to 65535, found -1",
        ),
        (
            HUB,
            app("pubports"),
            json!([{ "from": 300, "to": -1, "prot": "icmp" }]),
            "apps[0].pubports[0].from: expected an ICMP type or code from -1 to 255, found 300",
        ),
        (HUB, app("elb"), json!("www"), "apps[0].elb: \"www\" is not an elb of this document"),
        (
            HUB,
            app("userdata_file"),
            json!("user\u{0}data"),
            "apps[0].userdata_file: expected a file's name, found \"user\\u{0}data\"",
        ),
        (
            EXAMPLE,
            "/elbs/0/name".into(),
            json!("a-name-that-is-far-too-long-here"),
            "elbs[0].name: the name a-name-that-is-far-too-long-here-443-prod has 41 characters; AWS allows 32",
        ),
        (EXAMPLE, elb("listeners/0/from"), json!(443), "elbs[0].listeners[1].from: 443 has another listener already"),
        (
            EXAMPLE,
            elb("listeners/0/to_prot"),
            json!("tcp"),
            "elbs[0].listeners[0].to_prot: http and https go to http or https, tcp and ssl to tcp or ssl",
        ),
        (
            EXAMPLE,
            elb("idle_timeout"),
            json!(5000),
            "elbs[0].idle_timeout: expected 1 to 4000 seconds for this kind of load balancer, found 5000",
        ),
        (
            EXAMPLE,
            elb("type"),
            json!("network"),
            "elbs[0].listeners[0].from_prot: a network load balancer has tcp and ssl only; put http and https into another elb",
        ),
        (EXAMPLE, app("autoscale/min"), json!(3), "apps[0].autoscale.min: 3 is above max 1"),
        (EXAMPLE, app("count"), json!(2), "apps[0].count: 2 is not within autoscale's 0 to 1"),
        (EXAMPLE, app("intaddrs"), json!(["10.0.3.9"]), "apps[0].intaddrs[0]: 10.0.3.9 is in no subnet of this app"),
        (
            EXAMPLE,
            app("intaddrs"),
            json!(["10.0.1.3"]),
            "apps[0].intaddrs[0]: 10.0.1.3 is one of the five addresses that AWS keeps in 10.0.1.0/24",
        ),
        (
            EXAMPLE,
            "/aws/privnet_via".into(),
            json!("exampleapp"),
            "apps[0].autoscale: exampleapp cannot be an Auto Scaling group: it is the way to the private network, which is one instance with a place of its own",
        ),
        (
            HUB,
            "/aws/privnet".into(),
            json!("0.0.0.0/0"),
            "aws.privnet: everything cannot be the private network: it would take the default route's place",
        ),
        (
            EXAMPLE,
            elb("listeners/0/to"),
            json!(443),
            "elbs[0].listeners[1].to_prot: another listener sends another protocol to 443: a target group has one",
        ),
    ];
    assert_eq!(errors(&hub), Vec::<String>::new());
    for (text, pointer, change, expected) in cases {
        let said = errors(&with(&value(text), &pointer, change));
        assert!(said.iter().any(|e| e == expected), "{pointer}:\n  expected {expected}\n  got {said:#?}");
    }
}

#[test]
fn each_missing_key_that_another_makes_necessary_is_named() {
    let cases = [
        (HUB, "/nat/aminame", "nat.aminame: missing: nat needs aminame or ami"),
        (HUB, "/apps/0/count", "apps[0].count: missing: an app needs count or autoscale"),
        (HUB, "/apps/0/aminame", "apps[0].aminame: missing: a gateway needs aminame or ami"),
        (EXAMPLE, "/apps/0/cluster", "apps[0].cluster: missing: an app with autoscale needs it"),
        (EXAMPLE, "/elbs/0/listeners/1/cert", "elbs[0].listeners[1].cert: missing: https and ssl need a certificate"),
        (EXAMPLE, "/vpc/subnets", "apps[0].name: exampleapp has nowhere to run: vpc.subnets is absent or empty"),
    ];
    for (text, pointer, expected) in cases {
        let said = errors(&without(&value(text), pointer));
        assert!(said.iter().any(|e| e == expected), "{pointer}: {said:#?}");
    }
}

#[test]
fn a_classic_load_balancer_of_one_zone_can_be_asked_for() {
    let one = with(&value(EXAMPLE), "/vpc/pubsubnets", json!(["10.0.3.0/26"]));
    let said = errors(&one);
    assert!(said.iter().any(|e| e.contains("needs subnets in 2 zones, or \"type\": \"classic\"")), "{said:?}");
    assert_eq!(errors(&with(&one, "/elbs/0/type", json!("classic"))), Vec::<String>::new());
}

#[test]
fn two_hubs_are_an_error_until_the_document_says_which_one_counts() {
    let hub = value(HUB);
    let mut second = hub.pointer("/apps/0").unwrap().clone();
    second["name"] = json!("vpn-hub-2");
    second["addrs"] = json!(["198.51.100.101"]);
    let two = with(&hub, "/apps/-", second);
    let said = errors(&two);
    assert!(said[0].contains("vpn-hub and vpn-hub-2 are all vpn-hub: name the one that is the way"), "{said:?}");
    assert_eq!(errors(&with(&two, "/aws/privnet_via", json!("vpn-hub"))), Vec::<String>::new());
}

#[test]
fn what_was_legal_and_dangerous_in_2014_is_warned_of() {
    let said = warnings(&value(HUB)).join("\n");
    assert!(
        said.contains("vpc: SSH is open to the world in vpn-hub-prod") && said.contains("nat.psk: ignored"),
        "{said}"
    );
    let closed = with(&value(HUB), "/vpc/default_rules", json!([]));
    assert!(!warnings(&closed).join("\n").contains("SSH"));
    let outside = with(&value(HUB), "/aws/privnet", json!("10.0.0.0/8"));
    assert!(
        warnings(&outside)
            .join("\n")
            .contains("203.0.113.0/26 is not within aws.privnet 10.0.0.0/8: crosswan refuses such a VPC")
    );
    let foreign = json!([{ "group": "vpn-hub-prd", "from": 1, "to": 1, "prot": "all" }]);
    let said = warnings(&with(&value(HUB), "/apps/0/allow", foreign)).join("\n");
    assert!(said.contains("must be in the VPC already; did you mean vpn-hub-prod?"), "{said}");
}

#[test]
fn egress_of_one_app_names_the_others_that_it_limits() {
    let hub = value(HUB);
    let mut other = hub.pointer("/apps/0").unwrap().clone();
    other["name"] = json!("other");
    other["svctag"] = json!("other");
    other["addrs"] = json!([]);
    other["egress"] = json!([]);
    let said = warnings(&with(&hub, "/apps/-", other)).join("\n");
    assert!(
        said.contains("apps[1].egress: also limits what vpn-hub may send, with the same group vpn-hub-prod"),
        "{said}"
    );
}

//! Two addresses, and what is between them.

use super::*;

const HERE: [u8; 4] = [10, 0, 1, 20];
const THERE: [u8; 4] = [10, 1, 0, 20];
const INTERNET: [u8; 4] = [1, 1, 1, 1];

/// A hub with a tunnel to each of two VPCs and routes into them; a third VPC is refused.
fn hub() -> Examined {
    let mut x = well();
    let other = PEER.replace("00000001", "00000002");
    let report = x.report.as_mut().unwrap().as_mut().unwrap();
    let mut second = report.tunnels[PEER].clone();
    second.vpc = Some("vpc-00000002".parse().unwrap());
    second.remote_cidrs = ["10.2.0.0/16".parse().unwrap()].into();
    report.tunnels.insert(other.clone(), second);
    report.traffic = serde_json::from_value(serde_json::json!({
        "own": ["10.0.0.0/16"], "sources": [], "private_net": ["10.0.0.0/8"], "uplink": "ens5", "masquerade": false,
        "tunnels": true, "hub": true
    }))
    .unwrap();
    report.refused = serde_json::from_value(serde_json::json!([
        {"region": "eu-west-1", "vpc": "vpc-00000003", "instance": "i-00000003", "cidr": "10.9.0.0/16", "reason": "overlaps"},
        {"region": "eu-west-1", "vpc": "vpc-00000004", "instance": "i-00000004", "cidr": null, "reason": "no key"}
    ]))
    .unwrap();
    let charon = x.charon.as_mut().unwrap();
    charon.connections.insert(other.clone(), charon.connections[PEER].clone());
    charon.sas.push(Sa { conn: other, ..charon.sas[0].clone() });
    for sa in &mut charon.sas {
        sa.children[0].if_id = Some(crate::model::Place::One.if_id());
    }
    let routing = "10.1.0.0/16 dev cw1 src 10.0.0.5\n10.2.0.0/16 dev cw1 src 10.0.0.5\n";
    let lines = routing.lines().map(|line| format!("route replace {line} table 7105 proto 205\n")).collect::<String>();
    x.routing.as_mut().unwrap().own = Routing::parse(&lines);
    x.wanted_routing = Ok(Some(Routing::parse(&lines)));
    assert_eq!(x.routing.as_ref().unwrap().own.routes.len(), 2, "{lines}");
    x
}

fn ask(x: &Examined, from: [u8; 4], to: [u8; 4]) -> Answer {
    why(x, from.into(), to.into())
}

/// The ids of what fails or hangs on it.
fn stops(answer: &Answer) -> Vec<&str> {
    let stops = |f: &&Finding| f.state == State::Failure || f.because.is_some();
    answer.diagnosis.checks.iter().filter(stops).map(|f| f.id.as_str()).collect()
}

#[test]
fn two_that_reach_each_other_are_followed_end_by_end() {
    let x = hub();
    for (from, to, ids) in [
        (HERE, THERE, "from to way segments subnet-from tunnel-to route-there"),
        (THERE, HERE, "from to way segments tunnel-from route-back subnet-to"),
        ([10, 2, 3, 4], THERE, "from to way segments tunnel-from route-back tunnel-to route-there"),
        (HERE, [10, 0, 9, 9], "from to way"),
    ] {
        let answer = ask(&x, from, to);
        let found: Vec<&str> = answer.diagnosis.checks.iter().map(|f| f.id.as_str()).collect();
        assert_eq!(found.join(" "), ids, "{answer}");
        assert!(answer.reaches == Some(true) && answer.diagnosis.exit_code == 0, "{answer}");
        assert!(answer.to_string().ends_with(", as far as this gateway sees"), "{answer}");
    }
}

#[test]
fn what_stops_packets_is_named_and_what_does_not_is_left_out() {
    type Case = (fn(&mut Examined), &'static str, u8, &'static str);
    let cases: &[Case] = &[
        (|x| x.charon.as_mut().unwrap().sas.clear(), "tunnel-to", 8, "no IKE_SA"),
        (
            |x| x.routing.as_mut().unwrap().own = Routing::default(),
            "route-there interfaces-and-routes",
            9,
            "no route to 10.1.0.20",
        ),
        (
            |x| x.charon.as_mut().unwrap().sas[0].children[0].if_id = Some(crate::model::Place::Two.if_id()),
            "route-there",
            9,
            "the tunnel is in another interface",
        ),
        (
            |x| {
                let subnets = x.around.as_mut().unwrap().subnets.as_mut().unwrap();
                subnets.values_mut().for_each(|subnet| subnet.routes.clear());
            },
            "subnet-from",
            7,
            "leads nowhere from subnet-00000001",
        ),
        (|x| x.sysctls = Ok(vec![(Knob::IpForward, problem("off; on"))]), "ip-forward", 7, "off"),
    ];
    for (spoil, ids, code, words) in cases {
        let mut x = hub();
        spoil(&mut x);
        let answer = ask(&x, HERE, THERE);
        let found: Vec<&str> =
            stops(&answer).into_iter().filter(|id| !["charon", "last-refresh"].contains(id)).collect();
        assert_eq!(found.join(" "), *ids, "{answer}");
        assert!(answer.reaches == Some(false) && answer.to_string().contains(words), "{words}: {answer}");
        assert_eq!(answer.diagnosis.exit_code, *code, "{answer}");
    }
    // Another VPC's tunnel, and what only later passes need.
    let mut x = hub();
    x.charon.as_mut().unwrap().sas.pop();
    x.allowed.insert("create-tags", Err(AskError::TimedOut { after: std::time::Duration::from_secs(1) }));
    let answer = ask(&x, HERE, THERE);
    assert_eq!(answer.reaches, Some(true), "{answer}");
    assert_eq!(ask(&x, HERE, [10, 2, 3, 4]).reaches, Some(false));
}

#[test]
fn what_is_refused_or_not_here_says_so() {
    let x = hub();
    for (from, to, words) in [
        (
            HERE,
            [10, 9, 0, 1],
            "10.9.0.1 is in a network that is refused: vpc-00000003 (eu-west-1) 10.9.0.0/16: overlaps",
        ),
        (HERE, [10, 77, 0, 1], "no tunnel leads to 10.77.0.1: left out are vpc-00000004 (eu-west-1): no key"),
        (THERE, [10, 1, 0, 30], "both are behind the same tunnel"),
        (HERE, INTERNET, "this gateway does not masquerade"),
        (INTERNET, HERE, "from the internet nothing is let in but answers"),
        (THERE, INTERNET, "nothing from a tunnel goes to the internet here"),
    ] {
        let answer = ask(&x, from, to);
        assert!(answer.reaches == Some(false) && answer.to_string().contains(words), "{words}:\n{answer}");
        assert_ne!(answer.diagnosis.exit_code, 0, "{answer}");
    }
    let json = serde_json::to_value(ask(&x, HERE, THERE)).unwrap();
    assert!(json["reaches"] == true && json["from"] == "10.0.1.20" && json["checks"].is_array(), "{json}");
}

#[test]
fn what_could_only_not_be_asked_is_neither_reached_nor_unreached() {
    type Case = (fn(&mut Examined), &'static str);
    let cases: &[Case] = &[
        (|x| x.charon = Err("no socket".into()), "charon"),
        (|x| x.report = Ok(None), "last-refresh"),
        (|x| x.report = Err("no permission".into()), "last-refresh"),
        (|x| x.sysctls = Err("no permission".into()), "ip-forward"),
        (|x| x.routing = Err("no permission".into()), "interfaces-and-routes"),
        (
            |x| {
                let after = std::time::Duration::from_secs(1);
                x.around.as_mut().unwrap().subnets = Err(AskError::TimedOut { after });
            },
            "subnet-from",
        ),
    ];
    for (spoil, id) in cases {
        let mut x = hub();
        spoil(&mut x);
        let answer = ask(&x, HERE, THERE);
        assert_eq!((answer.reaches, answer.diagnosis.exit_code), (None, 3), "{id}: {answer}");
        let named = |f: &Finding| f.id == *id && f.state == State::Failure;
        assert!(answer.diagnosis.checks.iter().any(named), "{id}: the cause is named: {answer}");
        let text = answer.to_string();
        assert!(
            text.ends_with("whether 10.0.1.20 reaches 10.1.0.20 is not known: something could not be asked"),
            "{text}"
        );
        assert!(serde_json::to_value(&answer).unwrap()["reaches"].is_null());
        // What is known to stop packets is known all the same.
        x.sysctls = Ok(vec![(Knob::IpForward, problem("off; on"))]);
        assert_eq!(ask(&x, HERE, THERE).reaches, Some(false), "{id}");
    }
}

#[test]
fn what_the_role_does_not_show_is_said_beside_what_could_be_looked_at() {
    let mut x = hub();
    let denied = |permission: &str| AskError::Denied {
        permission: format!("{permission} in us-west-2"),
        code: "UnauthorizedOperation".into(),
        explicitly: false,
    };
    let around = x.around.as_mut().unwrap();
    around.subnets = Err(denied("ec2:DescribeSubnets"));
    around.acl = Err(denied("ec2:DescribeNetworkAcls"));
    let answer = ask(&x, HERE, THERE);
    assert_eq!((answer.reaches, answer.diagnosis.exit_code), (Some(true), 0), "{answer}");
    assert_eq!(
        answer.to_string().lines().last().unwrap(),
        "10.0.1.20 reaches 10.1.0.20, as far as could be looked: the role of this gateway does not let it see network ACLs, subnets \
         (LookAround in docs/iam)"
    );
    assert_eq!(serde_json::to_value(&answer).unwrap()["not_looked_at"], serde_json::json!(["network ACLs", "subnets"]));
}

#[test]
fn segments_say_who_may_begin_and_what_to_change() {
    let mut x = hub();
    let report = x.report.as_mut().unwrap().as_mut().unwrap();
    report.segments = serde_json::from_value(serde_json::json!(
        {"own": {"segment": "shared"}, "reach": {"prod": ["shared"], "dev": [], "shared": []}}
    ))
    .unwrap();
    let of = |segment: serde_json::Value| serde_json::from_value(segment).unwrap();
    for (tunnel, segment) in report.tunnels.values_mut().zip(["prod", "dev"]) {
        tunnel.segment = of(serde_json::json!({ "segment": segment }));
    }
    let said = |x: &Examined, from, to| {
        let answer = ask(x, from, to);
        (answer.reaches, answer.diagnosis.exit_code, answer.to_string())
    };
    for (from, to, reaches, words) in [
        (
            THERE,
            HERE,
            true,
            "from prod (vpc-00000001) to shared (vpc-0000ffff): prod may initiate, and shared may only answer",
        ),
        (HERE, THERE, false, "shared may only answer what prod has initiated"),
        (
            [10, 2, 3, 4],
            THERE,
            false,
            "from dev (vpc-00000002) to prod (vpc-00000001): neither may initiate to the other",
        ),
    ] {
        let (found, code, text) = said(&x, from, to);
        assert!(found == Some(reaches) && text.contains(words) && (code == 0) == reaches, "{words}\n{text}");
    }
    assert!(said(&x, HERE, THERE).2.contains("add \"prod\" to the list of shared in [segments]"));
    let report = x.report.as_mut().unwrap().as_mut().unwrap();
    report.tunnels.values_mut().next().unwrap().segment =
        of(serde_json::json!({ "segment": null, "why": "is in no segment and reaches nobody: its tag" }));
    let (reaches, code, text) = said(&x, THERE, HERE);
    assert!(
        reaches == Some(false)
            && code == crate::error::STOPPED
            && text.contains("vpc-00000001 is in no segment and reaches nobody"),
        "{text}"
    );
}

//! Each harm is one failure, of its own check, with the remedy that mends it.

use super::*;
use crate::report::FailedPass;

type Harm = Box<dyn FnOnce(&mut Examined)>;

/// What is wrong after this harm: the one check, its state, the exit code, and the remedy.
fn after(harm: impl FnOnce(&mut Examined)) -> (String, State, u8, String) {
    let mut x = well();
    harm(&mut x);
    let diagnosis = diagnose(&x);
    let wrong: Vec<&Finding> =
        diagnosis.checks.iter().filter(|check| matches!(check.state, State::Failure | State::Warning)).collect();
    let [one] = wrong[..] else { panic!("{wrong:#?}") };
    let others = diagnosis.checks.iter().filter_map(|check| check.because.as_ref());
    others.for_each(|because| assert_eq!(*because, one.id));
    (one.id.clone(), one.state, diagnosis.exit_code, one.remedy.clone().unwrap())
}

/// The peer's VPC gets a second gateway, which stands by.
fn with_a_pair(x: &mut Examined) {
    let second = PEER.replace("-i-0", "-i-1");
    let report = x.report.as_mut().unwrap().as_mut().unwrap();
    let tunnel = report.tunnels.get_mut(PEER).unwrap();
    tunnel.peer_keys = vec!["SHA256:one".into()];
    let stands_by = TunnelReport { stands_by: true, ..tunnel.clone() };
    report.tunnels.insert(second.clone(), stands_by);
    let charon = x.charon.as_mut().unwrap();
    let sa = Sa { conn: second.clone(), ..charon.sas[0].clone() };
    charon.sas.push(sa);
    charon.connections.insert(second, charon.connections[PEER].clone());
    let net = "10.1.0.0/16".parse().unwrap();
    let via = Via { place: Place::One, source: x.me.as_ref().unwrap().private, realm: None };
    x.routing.as_mut().unwrap().own.routes.insert(net, via);
    x.wanted_routing.as_mut().unwrap().as_mut().unwrap().routes.insert(net, via);
}

/// The first gateway of that VPC, or the second one, has taken over.
fn followee(n: u32) -> Followee {
    let connection = if n == 1 { PEER.to_owned() } else { PEER.replace("-i-0", "-i-1") };
    Followee {
        connection: connection.parse().unwrap(),
        place: if n == 1 { Place::One } else { Place::Two },
        generation: 3,
        networks: ["10.1.0.0/16".parse().unwrap()].into(),
        at: Timestamp(900),
        overruled: false,
    }
}

/// What doctor says of the pair in the peer's VPC.
fn of_the_pair(x: &Examined) -> (State, String) {
    let diagnosis = diagnose(x);
    let found = diagnosis.checks.iter().find(|check| check.id == "followed-vpc-00000001");
    found
        .map(|check| (check.state, check.found.clone()))
        .unwrap_or_else(|| (State::NotLookedAt, "no such check".into()))
}

#[test]
fn a_hub_tells_at_which_member_each_far_pair_is_followed() {
    assert_eq!(of_the_pair(&well()).1, "no such check", "one gateway is no pair");
    let mut x = well();
    with_a_pair(&mut x);
    assert_eq!(of_the_pair(&x), (State::Ok, "none of the two has taken over: passes decide which is used".into()));
    x.followed.follow("vpc-00000001", followee(1));
    let instance = followee(1).connection.gateway().unwrap().1;
    assert_eq!(of_the_pair(&x), (State::Ok, format!("reached through {instance} by its word, takeover 3")));
    x.followed = x.followed.without(&[("vpc-00000001".to_owned(), 3)].into());
    assert!(of_the_pair(&x).1.contains("was overruled"), "{:?}", of_the_pair(&x));
    // With pre-shared keys nobody says anything in a tunnel, and a spoke follows nobody by this.
    let tunnels = &mut x.report.as_mut().unwrap().as_mut().unwrap().tunnels;
    tunnels.values_mut().for_each(|tunnel| tunnel.peer_keys.clear());
    assert_eq!(of_the_pair(&x).1, "no such check");
}

#[test]
fn one_cause_is_one_failure_with_its_remedy() {
    use State::{Failure, Warning};
    fn tags(x: &mut Examined) -> &mut OwnTags {
        x.own.as_mut().unwrap().as_mut().unwrap()
    }
    fn table(x: &mut Examined) -> &mut RouteTable {
        x.vpc.as_mut().unwrap().as_mut().unwrap().tables.values_mut().next().unwrap()
    }
    fn lead_to_a_peering(x: &mut Examined) {
        table(x).routes.values_mut().for_each(|route| route.target = RouteTarget::Other("pcx-1".into()));
    }
    /// Nothing depends on its address yet.
    fn fresh(x: &mut Examined) {
        table(x).routes.clear();
        let charon = x.charon.as_mut().unwrap();
        (charon.sas, charon.connections) = (Vec::new(), BTreeMap::new());
        last(x).tunnels.clear();
    }
    fn near(x: &mut Examined) -> &mut Surroundings {
        x.around.as_mut().unwrap()
    }
    fn groups(x: &mut Examined) -> &mut Vec<(Way, Packets, FarEnd)> {
        &mut near(x).groups.as_mut().unwrap().rules
    }
    fn deny(x: &mut Examined, packets: Packets, way: Way, net: &str) {
        let entry = AclEntry { number: 90, way, packets, net: net.parse().unwrap(), allows: false };
        near(x).acl.as_mut().unwrap().entries.push(entry);
    }
    fn last(x: &mut Examined) -> &mut Report {
        x.report.as_mut().unwrap().as_mut().unwrap()
    }
    fn sa(x: &mut Examined) -> &mut Sa {
        &mut x.charon.as_mut().unwrap().sas[0]
    }
    fn knob(knob: Knob, line: &str) -> Found<Vec<(Knob, Problem)>> {
        Ok(vec![(knob, problem(line))])
    }
    let denied =
        || AskError::Denied { permission: "ec2:DescribeInstances".into(), code: "x".into(), explicitly: false };
    let harms: Vec<(&str, State, u8, &str, Harm)> = vec![
        (
            "root",
            Failure,
            3,
            "sudo crosswan doctor",
            Box::new(|x| {
                x.root = false;
                x.charon = Err("permission denied".into());
                x.rules = Err("permission denied".into());
                x.keyring = Err("permission denied".into());
            }),
        ),
        ("settings", Failure, 2, "$EDITOR", Box::new(|x| x.settings = Err("mode: expected one".into()))),
        ("settings", Warning, 6, "$EDITOR", Box::new(|x| x.settings.as_mut().unwrap().warnings.push("old".into()))),
        (
            "imds",
            Failure,
            3,
            "--region eu-west-1 --instance-id i-0000ffff --http-endpoint enabled",
            Box::new(|x| {
                x.me = Err("no answer".into());
                x.own = None;
                x.failed = Ok(Some(FailedPass { at: Timestamp(1050), exit_code: 3, error: "IMDS".into() }));
            }),
        ),
        (
            "uplink",
            Failure,
            3,
            "systemd-networkd",
            Box::new(|x| {
                x.uplink = Err("no default route".into());
                x.sysctls = Err("no default route".into());
                x.own = Some(Err(AskError::TimedOut { after: std::time::Duration::from_secs(1) }));
                sa(x).state = "CONNECTING".into();
            }),
        ),
        (
            "elastic-ip",
            Warning,
            6,
            "aws ec2 describe-addresses --region eu-west-1",
            Box::new(|x| x.addresses = Some(Ok(vec![ElasticIp { holder: None, ..elastic_ip("") }]))),
        ),
        (
            "elastic-ip",
            Failure,
            6,
            "aws ec2 describe-addresses --region eu-west-1",
            Box::new(|x| {
                fresh(x);
                x.addresses = Some(Ok(vec![elastic_ip("i-00000001")]));
            }),
        ),
        (
            "elastic-ip",
            Failure,
            6,
            "crosswan refresh",
            Box::new(|x| {
                fresh(x);
                x.addresses = Some(Ok(vec![ElasticIp { holder: None, ..elastic_ip("") }]));
            }),
        ),
        (
            "iam-associate-address",
            Failure,
            3,
            "allow ec2:DescribeInstances in the policy of the role: docs/iam",
            Box::new(move |x| _ = x.allowed.insert("associate-address", Err(denied()))),
        ),
        ("route-rtb-00000001-10.0.0.0/8", Failure, 7, "crosswan refresh", Box::new(|x| table(x).routes.clear())),
        (
            "route-rtb-00000001-10.0.0.0/8",
            Warning,
            6,
            "aws ec2 describe-route-tables --route-table-ids rtb-00000001",
            Box::new(lead_to_a_peering),
        ),
        (
            "route-rtb-00000001-10.0.0.0/8",
            Failure,
            7,
            "crosswan refresh",
            Box::new(|x| {
                let held = HeldRoute { here: true, changed: 0 };
                x.state.routes =
                    [("rtb-00000001".parse().unwrap(), [("10.0.0.0/8".parse().unwrap(), held)].into())].into();
                lead_to_a_peering(x);
            }),
        ),
        (
            "route-rtb-00000001-10.0.0.0/8",
            Warning,
            6,
            "aws ec2 describe-route-tables --route-table-ids rtb-00000001",
            Box::new(|x| {
                let route = VpcRoute { target: RouteTarget::Other("pcx-1".into()), blackhole: false };
                table(x).routes.insert("10.9.0.0/16".parse().unwrap(), route);
            }),
        ),
        (
            "subnet-unrouted",
            Warning,
            6,
            "create-tags --region eu-west-1 --resources rtb-00000009 --tags 'Key=crosswan-routes,Value=managed'",
            Box::new(|x| {
                let (net, table) = ("10.0.2.0/24".parse().unwrap(), "rtb-00000009".parse().unwrap());
                let bare = Subnet { net, table, tagged: false, routes: BTreeMap::new() };
                near(x).subnets.as_mut().unwrap().insert("subnet-00000002".parse().unwrap(), bare);
            }),
        ),
        (
            "subnet-unrouted",
            Failure,
            3,
            "once EC2 answers",
            Box::new(|x| near(x).subnets = Err(AskError::TimedOut { after: std::time::Duration::from_secs(1) })),
        ),
        (
            "security-group-ike",
            Failure,
            7,
            "authorize-security-group-ingress --region eu-west-1 --group-id sg-1 --ip-permissions \
             'IpProtocol=udp,FromPort=500,ToPort=500,IpRanges=[{CidrIp=198.51.100.2/32}]' \
             'IpProtocol=udp,FromPort=4500,ToPort=4500,IpRanges=[{CidrIp=198.51.100.2/32}]'",
            Box::new(|x| groups(x)[0].2 = FarEnd::Net("10.0.0.0/8".parse().unwrap())),
        ),
        (
            "security-group-ike",
            Failure,
            7,
            "authorize-security-group-egress",
            Box::new(|x| groups(x)[1].2 = FarEnd::Net("10.0.0.0/8".parse().unwrap())),
        ),
        (
            "security-group-private",
            Failure,
            7,
            "authorize-security-group-ingress --region eu-west-1 --group-id sg-1 --ip-permissions \
             'IpProtocol=-1,IpRanges=[{CidrIp=10.0.0.0/16}]'",
            Box::new(|x| groups(x)[0].2 = FarEnd::Net("198.51.100.0/24".parse().unwrap())),
        ),
        (
            "security-group-private",
            Warning,
            6,
            "IpRanges=[{CidrIp=10.0.0.0/16}]",
            Box::new(|x| {
                groups(x)[0].1 = Packets { protocol: Some(17), range: None };
            }),
        ),
        (
            "nacl",
            Failure,
            7,
            "create-network-acl-entry --region eu-west-1 --network-acl-id acl-1 --ingress --rule-number 89 --protocol udp \
             --port-range From=500,To=500 --cidr-block 198.51.100.2/32 --rule-action allow",
            Box::new(|x| {
                let packets = Packets { protocol: Some(17), range: Some((500, 500)) };
                deny(x, packets, Way::In, "198.51.100.0/24");
            }),
        ),
        // Answers from ephemeral ports, which an ACL does not know as answers.
        (
            "nacl",
            Failure,
            7,
            "--egress --rule-number 89 --protocol tcp --port-range From=1024,To=65535 --cidr-block 10.0.1.0/24",
            Box::new(|x| {
                let packets = Packets { protocol: Some(6), range: Some((1024, 65_535)) };
                deny(x, packets, Way::Out, "10.0.0.0/8");
            }),
        ),
        (
            "route-tables-tagged",
            Failure,
            3,
            "once EC2 answers",
            Box::new(|x| x.vpc = Some(Err(AskError::TimedOut { after: std::time::Duration::from_secs(1) }))),
        ),
        (
            "role",
            Failure,
            3,
            "associate-iam-instance-profile",
            Box::new(|x| {
                x.own = Some(Err(AskError::NoCredentials { why: "none".into() }));
            }),
        ),
        ("role", Failure, 3, "chronyc", Box::new(|x| x.own = Some(Err(AskError::Expired { code: "x".into() })))),
        ("ec2", Failure, 3, "allow ec2:DescribeInstances", Box::new(move |x| x.own = Some(Err(denied())))),
        (
            "pair-i-00000009",
            Failure,
            4,
            "systemctl enable --now crosswan-pair",
            Box::new(|x| x.pair.as_mut().unwrap().as_mut().unwrap().1 = None),
        ),
        (
            "pair-i-00000009",
            Warning,
            6,
            "let UDP and TCP of pair.port pass between 10.0.0.9 and here",
            Box::new(|x| x.pair.as_mut().unwrap().as_mut().unwrap().1 = Some(paired("unheard"))),
        ),
        (
            "pair-i-00000009",
            Warning,
            6,
            "systemctl status crosswan-pair on i-00000009",
            Box::new(|x| x.pair.as_mut().unwrap().as_mut().unwrap().1 = Some(paired("agent-dead"))),
        ),
        (
            "pair-i-00000009",
            Warning,
            6,
            "systemctl status strongswan on i-00000009",
            Box::new(|x| x.pair.as_mut().unwrap().as_mut().unwrap().1 = Some(paired("no-charon"))),
        ),
        (
            "followed-vpc-00000001",
            Warning,
            6,
            "systemctl enable --now crosswan-pair",
            Box::new(|x| {
                with_a_pair(x);
                x.hears = Ok(false);
            }),
        ),
        (
            "followed-vpc-00000001",
            Failure,
            9,
            "systemctl restart crosswan-watch",
            Box::new(|x| {
                with_a_pair(x);
                let word = followee(2);
                assert!(x.followed.follow("vpc-00000001", word));
            }),
        ),
        (
            "ena-allowance",
            Warning,
            6,
            "docs/instances.md",
            Box::new(|x| {
                x.driver = Some("\u{1b}\n pps_allowance_exceeded: 7\n bw_in_allowance_exceeded: x\n".into());
            }),
        ),
        (
            "algorithms",
            Failure,
            4,
            "apt-get install",
            Box::new(|x| {
                x.charon.as_mut().unwrap().key_exchanges.remove("ECP_384");
                x.charon.as_mut().unwrap().sas.clear();
            }),
        ),
        (
            "mtu",
            Failure,
            7,
            "ip link set ens5 mtu 1500",
            Box::new(|x| {
                x.routing.as_mut().unwrap().mtus.insert("ens5".into(), 1400);
            }),
        ),
        (
            "clock",
            Failure,
            3,
            "chronyc makestep",
            Box::new(|x| {
                x.imds_time = Some(Timestamp(2000));
                x.own = Some(Err(AskError::Expired { code: "RequestExpired".into() }));
            }),
        ),
        ("clock", Failure, 3, "chronyc makestep", Box::new(|x| x.imds_time = Some(Timestamp(-5)))),
        (
            "account-payments",
            Failure,
            3,
            "docs/iam/discover-trust.json",
            Box::new(|x| {
                let permission = "sts:AssumeRole".into();
                let denied = AskError::Denied { permission, code: "x".into(), explicitly: false };
                x.accounts.insert("111122223333/eu-west-1".parse().unwrap(), Err(denied));
            }),
        ),
        (
            "account-payments",
            Failure,
            3,
            "allow ec2:DescribeVpcs in the policy of arn:aws:iam::111122223333:role/discover",
            Box::new(|x| {
                let role = "arn:aws:iam::111122223333:role/discover".parse().unwrap();
                let permission = "ec2:DescribeVpcs".into();
                let denied = AskError::RoleDenied { role, permission, code: "x".into(), explicitly: false };
                x.accounts.insert("111122223333/us-west-2".parse().unwrap(), Err(denied));
            }),
        ),
        (
            "iam-create-tags",
            Failure,
            3,
            "allow ec2:CreateTags",
            Box::new(|x| {
                let permission = "ec2:CreateTags".into();
                let denied = AskError::Denied { permission, code: "x".into(), explicitly: false };
                x.allowed.insert("create-tags", Err(denied));
            }),
        ),
        (
            "source-dest-check",
            Failure,
            7,
            "--no-source-dest-check",
            Box::new(|x| tags(x).source_dest_check = Some(true)),
        ),
        ("source-dest-check", Failure, 3, "--no-source-dest-check", Box::new(|x| tags(x).source_dest_check = None)),
        ("public-address", Failure, 7, "associate-address", Box::new(|x| x.me.as_mut().unwrap().public = None)),
        (
            "ip-forward",
            Failure,
            7,
            "sysctl -w a=1",
            Box::new(|x| x.sysctls = knob(Knob::IpForward, "off: no; sysctl -w a=1")),
        ),
        (
            "rp-filter",
            Failure,
            7,
            "sysctl -w b=2",
            Box::new(|x| x.sysctls = knob(Knob::RpFilter, "strict; sysctl -w b=2")),
        ),
        (
            "conntrack-room",
            Failure,
            7,
            "nf_conntrack_max=2000",
            Box::new(|x| x.conntrack.as_mut().unwrap().entries = 800),
        ),
        (
            "conntrack-room",
            Warning,
            6,
            "nf_conntrack_max=2000",
            Box::new(|x| x.conntrack.as_mut().unwrap().dropped = 1),
        ),
        ("conntrack-room", Failure, 3, "modprobe", Box::new(|x| x.conntrack = None)),
        ("charon", Failure, 3, "systemctl restart strongswan", Box::new(|x| x.charon = Err("hangs".into()))),
        (
            "swanctl-include",
            Failure,
            7,
            "add the line",
            Box::new(|x| x.unreached = Ok(Some(problem("no: x; add the line")))),
        ),
        ("last-refresh", Failure, 4, "crosswan refresh", Box::new(|x| x.report = Ok(None))),
        (
            "last-refresh",
            Failure,
            4,
            "crosswan refresh",
            Box::new(|x| (x.now, x.imds_time) = (Timestamp(11_000), None)),
        ),
        ("last-refresh", Failure, 4, "crosswan refresh", Box::new(|x| last(x).problems.push("disk full".into()))),
        ("last-refresh", Failure, 4, "crosswan refresh", Box::new(|x| last(x).waiting_for = Some("no key".into()))),
        ("last-refresh", Warning, 6, "crosswan refresh", Box::new(|x| last(x).unasked.push("throttled".into()))),
        (
            "last-refresh",
            Failure,
            4,
            "crosswan refresh",
            Box::new(|x| {
                x.failed = Ok(Some(FailedPass { at: Timestamp(1050), exit_code: 1, error: "a bug".into() }));
            }),
        ),
        ("version", Warning, 6, "crosswan refresh", Box::new(|x| last(x).version = "0.0.1".into())),
        (
            "rules-in-force",
            Failure,
            9,
            "crosswan refresh",
            Box::new(|x| {
                x.wanted_rules = Ok(Some(Rules::parse("*nat\n:CROSSWAN-NAT - [0:0]\nCOMMIT\n")));
            }),
        ),
        (
            "rules-in-force",
            Failure,
            3,
            "nft delete table ip nat",
            Box::new(|x| {
                x.rules = Ok(Rules::parse("# Table `nat' is incompatible, use 'nft' tool.\n"));
            }),
        ),
        (
            "foreign-rules",
            Failure,
            7,
            "iptables -P FORWARD ACCEPT",
            Box::new(|x| {
                let stopped = vec![problem("the policy drop; iptables -P FORWARD ACCEPT")];
                x.foreign = Some(Ok(Obstacles { stopped, notes: Vec::new() }));
            }),
        ),
        ("foreign-rules", Failure, 3, "iptables-save", Box::new(|x| x.foreign = Some(Err("killed".into())))),
        (
            "interfaces-and-routes",
            Failure,
            9,
            "crosswan refresh",
            Box::new(|x| {
                x.wanted_routing = Ok(Some(Routing::parse("link set cw1 up\n")));
            }),
        ),
        (
            "interfaces-and-routes",
            Failure,
            9,
            "ip link delete cw9",
            Box::new(|x| {
                x.routing.as_mut().unwrap().interfaces.push("cw9, a dummy interface".into());
            }),
        ),
        (
            "foreign-routes",
            Warning,
            6,
            "ip rule",
            Box::new(|x| x.routing.as_mut().unwrap().beside.push("pref 1".into())),
        ),
        ("key-file", Failure, 4, "crosswan refresh", Box::new(|x| x.keyring = Ok(None))),
        (
            "key-file",
            Failure,
            4,
            "crosswan refresh",
            Box::new(|x| {
                x.keyring.as_mut().unwrap().as_mut().unwrap().current.instance = "i-00000bad".parse().unwrap();
            }),
        ),
        (
            "key-file",
            Failure,
            4,
            "chmod 600",
            Box::new(|x| {
                x.keyring.as_mut().unwrap().as_mut().unwrap().current.guarded = false;
            }),
        ),
        ("key-loaded", Failure, 4, "crosswan refresh", Box::new(|x| x.charon.as_mut().unwrap().keys.clear())),
        ("key-tag", Failure, 4, "crosswan refresh", Box::new(|x| tags(x).key = None)),
        (
            "peer-vpc-00000001",
            Failure,
            8,
            "crosswan refresh",
            Box::new(|x| x.charon.as_mut().unwrap().connections.clear()),
        ),
        (
            "peer-path",
            Failure,
            8,
            "open UDP 500 and 4500",
            Box::new(|x| {
                sa(x).state = "CONNECTING".into();
                x.paths.insert("198.51.100.2".parse().unwrap(), [Probe::Answered, Probe::Silent]);
            }),
        ),
        (
            "peer-path",
            Failure,
            8,
            "systemctl start strongswan",
            Box::new(|x| {
                x.charon.as_mut().unwrap().sas.clear();
                x.paths.insert("198.51.100.2".parse().unwrap(), [Probe::Refused, Probe::Refused]);
            }),
        ),
        (
            "peer-vpc-00000001",
            Failure,
            8,
            "swanctl --initiate --ike",
            Box::new(|x| {
                sa(x).state = "CONNECTING".into();
                x.paths.insert("198.51.100.2".parse().unwrap(), [Probe::Answered, Probe::Answered]);
            }),
        ),
        ("peer-vpc-00000001", Failure, 8, "swanctl --initiate --ike", Box::new(|x| sa(x).state = "CONNECTING".into())),
        (
            "peer-vpc-00000001",
            Failure,
            8,
            "swanctl --initiate --child c-10-1-0-0-16",
            Box::new(|x| sa(x).children.clear()),
        ),
        ("peer-vpc-00000001", Warning, 6, "on the other gateway", Box::new(|x| sa(x).children[0].bytes_in = 0)),
        ("peer-<vpc>", Warning, 6, "crosswan refresh", Box::new(|x| last(x).tunnels.clear())),
        (
            "overlap",
            Warning,
            6,
            "another CIDR",
            Box::new(|x| {
                let refusal = serde_json::json!({"region": "eu-west-1", "vpc": "vpc-00000002", "instance": null,
                "cidr": "10.1.0.0/16", "reason": "overlaps"});
                last(x).refused.insert(serde_json::from_value(refusal).unwrap());
            }),
        ),
        (
            "segments",
            Warning,
            6,
            "correct the tag of the VPC",
            Box::new(|x| {
                let lab = serde_json::json!({"segment": "lab", "why": "is in segment lab, which settings do not know"});
                last(x).tunnels.values_mut().next().unwrap().segment = serde_json::from_value(lab).unwrap();
            }),
        ),
    ];
    let mut seen = BTreeSet::new();
    for (id, state, code, remedy, harm) in harms {
        let found = after(harm);
        assert_eq!((found.0.as_str(), found.1, found.2), (id, state, code), "{remedy}");
        assert!(found.3.contains(remedy), "{id}: {}", found.3);
        seen.insert(id);
    }
    // One for each thing of a kind is named after the thing.
    let met =
        |id: &str| seen.iter().any(|seen| id.split_once('<').map_or(*seen == id, |(kind, _)| seen.starts_with(kind)));
    let never: Vec<&str> = CHECKS.iter().map(|check| check.id).filter(|id| !met(id)).collect();
    assert_eq!(never, ["send-redirects", "ipv6-forwarding"], "these fail in the lab only");
}

#[test]
fn what_a_group_or_an_acl_cannot_stop_is_not_blamed_on_it() {
    // A prefix list may hold the peers, and a group the hosts.
    let mut x = well();
    let groups = &mut x.around.as_mut().unwrap().groups.as_mut().unwrap().rules;
    groups[0].2 = FarEnd::PrefixList;
    assert_eq!(diagnose(&x).exit_code, 0);
    // Between hosts of its own subnet and this gateway there is no ACL.
    let mut x = well();
    let own = Packets { protocol: None, range: None };
    let entry = AclEntry { number: 1, way: Way::In, packets: own, net: "10.0.0.0/24".parse().unwrap(), allows: false };
    x.around.as_mut().unwrap().acl.as_mut().unwrap().entries.push(entry);
    assert_eq!(diagnose(&x).exit_code, 0);
    // On a spoke the hub's packets are answers, as a rule.
    let mut x = well();
    x.settings =
        Ok(Settings::of_toml("mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\n"));
    x.around.as_mut().unwrap().groups.as_mut().unwrap().rules[0].2 = FarEnd::Net("10.0.0.0/8".parse().unwrap());
    let diagnosis = diagnose(&x);
    let ike = diagnosis.checks.iter().find(|check| check.id == "security-group-ike").unwrap();
    assert_eq!(ike.state, State::Warning, "{diagnosis}");
}

#[test]
fn without_the_permission_nothing_around_is_looked_at_and_the_statement_is_named() {
    let mut x = well();
    let denied = |action: &str| AskError::Denied {
        permission: format!("ec2:{action} in eu-west-1"),
        code: "x".into(),
        explicitly: false,
    };
    x.around = Some(Surroundings {
        groups: Err(denied("DescribeSecurityGroups")),
        acl: Err(denied("DescribeNetworkAcls")),
        subnets: Err(denied("DescribeSubnets")),
    });
    let diagnosis = diagnose(&x);
    assert_eq!(diagnosis.exit_code, 0, "{diagnosis}");
    let expected = ["subnet-unrouted", "security-group-ike", "security-group-private", "nacl"];
    assert_eq!(in_state(&diagnosis, State::NotLookedAt), expected);
    let acl = diagnosis.checks.iter().find(|check| check.id == "nacl").unwrap();
    assert!(
        acl.found.contains("ec2:DescribeNetworkAcls in eu-west-1") && acl.found.contains("LookAround"),
        "{}",
        acl.found
    );
}

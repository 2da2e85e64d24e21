//! What is accepted, the defaults, and which source counts.

use std::time::Duration;

use super::{super::*, *};

fn nets(all: &[&str]) -> BTreeSet<Ipv4Net> {
    all.iter().map(|n| n.parse().unwrap()).collect()
}
fn regions(all: &[&str]) -> BTreeSet<Region> {
    all.iter().map(|r| r.parse().unwrap()).collect()
}
fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.into(), value: value.into() }
}

#[test]
fn defaults() {
    assert_eq!(
        only(NAT_HUB).unwrap(),
        Settings {
            mode: Mode::NatHub,
            private_net: nets(&["10.0.0.0/8"]),
            hub: vec![],
            hub_tag: tag("service", "vpn-hub"),
            regions: regions(&[]),
            accounts: Default::default(),
            segments: None,
            gateway_tag: tag("service", "nat"),
            environment_tag: None,
            routes_tag: tag("crosswan-routes", "managed"),
            routes_overrule: false,
            address: None,
            masquerade: true,
            nat_sources: nets(&[]),
            guard_input: BTreeSet::new(),
            guard_exclude: nets(&[]),
            auth: auth(AuthMethod::Key, PskSource::default()),
            removal: Removal {
                after_misses: 2,
                spacing: Duration::from_secs(600),
                hold_above: 50,
                hold_floor: 2,
                confirmed_after: 24,
            },
            keep: Keep { interval: Duration::from_secs(15) },
            pair: Some(Pairing {
                asked: false,
                port: 4795,
                interval: Duration::from_millis(100),
                misses: 4,
                newcomer_replaces: true
            }),
            far_port: None,
            ec2: Ec2 { timeout: Duration::from_secs(60) },
            warnings: vec![],
        }
    );
    let hub = only("mode='vpn-hub'\nprivate_net=['10.0.0.0/8']\nregions=['us-west-2']").unwrap();
    assert!(!hub.masquerade, "a hub masquerades only if asked");
    let none = with("masquerade = false\n[nat]\nsources = ['10.2.0.0/16']\n[guard]\ninput = []").unwrap();
    assert!(none.nat_sources.is_empty() && none.guard_input.is_empty());
}

#[test]
fn every_key_in_toml_and_in_the_environment() {
    let toml = r#"
        mode = "nat-vpn"
        private_net = ["172.16.0.0/12", "10.0.0.0/8"]
        regions = ["us-west-2", "eu-west-1", "us-west-2"]
        hub_tag = { key = "role", value = "hub=1" }
        gateway_tag = "role=gw"
        environment_tag = { key = "env", value = "" }
        masquerade = true
        [address]
        tag = "pool=gw"
        [routes]
        tag = "owner=gw"
        overrule = true
        [nat]
        sources = ["192.168.0.0/24", "10.2.0.0/16"]
        [guard]
        input = ["udp/53", "tcp/22", "tcp/22"]
        exclude = ["10.9.0.0/16"]
        [auth]
        method = "key"
        hub_key = ["MCowBQYDK2VwAyEAAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="]
        max_key_age = "90days"
        psk_file = "/run/psk"
        psk_dir = "/run/psk.d"
        psk_region = "eu-west-1"
        [removal]
        after_misses = 1000
        spacing = "1day"
        hold_above = "0%"
        hold_floor = 0
        confirmed_after = 7
        [keep]
        interval = "1min"
        [ec2]
        timeout = "1s""#;
    let want = Settings {
        mode: Mode::NatVpn,
        private_net: nets(&["10.0.0.0/8", "172.16.0.0/12"]),
        hub: vec![],
        hub_tag: tag("role", "hub=1"),
        regions: regions(&["eu-west-1", "us-west-2"]),
        accounts: Default::default(),
        segments: None,
        gateway_tag: tag("role", "gw"),
        environment_tag: Some(tag("env", "")),
        routes_tag: tag("owner", "gw"),
        routes_overrule: true,
        address: Some(WantedAddress::Tagged(tag("pool", "gw"))),
        masquerade: true,
        nat_sources: nets(&["10.2.0.0/16", "192.168.0.0/24"]),
        guard_input: ["tcp/22", "udp/53"].map(|opening| opening.parse().unwrap()).into(),
        guard_exclude: nets(&["10.9.0.0/16"]),
        auth: AuthSettings {
            hub_key: HubKeys::OfTheHub(vec![PublicKey::new([1; 32])]),
            max_key_age: Some(Duration::from_secs(90 * 86400)),
            ..auth(
                AuthMethod::Key,
                PskSource { file: Some("/run/psk".into()), dir: Some("/run/psk.d".into()), ..PskSource::default() },
            )
        },
        removal: Removal {
            after_misses: 1000,
            spacing: Duration::from_secs(86400),
            hold_above: 0,
            hold_floor: 0,
            confirmed_after: 7,
        },
        keep: Keep { interval: Duration::from_secs(60) },
        pair: Some(Pairing {
            asked: false,
            port: 4795,
            interval: Duration::from_millis(100),
            misses: 4,
            newcomer_replaces: true,
        }),
        far_port: Some(4795),
        ec2: Ec2 { timeout: Duration::from_secs(1) },
        warnings: vec![],
    };
    assert_eq!(only(toml).unwrap(), want);
    let env = [
        ("CROSSWAN_MODE", "nat-vpn"),
        ("CROSSWAN_PRIVATE_NET", "172.16.0.0/12, 10.0.0.0/8"),
        ("CROSSWAN_REGIONS", "us-west-2 eu-west-1"),
        ("CROSSWAN_HUB_TAG", "role=hub=1"),
        ("CROSSWAN_GATEWAY_TAG", "role=gw"),
        ("CROSSWAN_ENVIRONMENT_TAG", "env="),
        ("CROSSWAN_ROUTES_TAG", "owner=gw"),
        ("CROSSWAN_ROUTES_OVERRULE", "true"),
        ("CROSSWAN_ADDRESS_TAG", "pool=gw"),
        ("CROSSWAN_MASQUERADE", "true"),
        ("CROSSWAN_NAT_SOURCES", "10.2.0.0/16 192.168.0.0/24"),
        ("CROSSWAN_GUARD_INPUT", "tcp/22,udp/53"),
        ("CROSSWAN_GUARD_EXCLUDE", "10.9.0.0/16"),
        ("CROSSWAN_AUTH_METHOD", "key"),
        ("CROSSWAN_HUB_KEY", "MCowBQYDK2VwAyEAAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="),
        ("CROSSWAN_MAX_KEY_AGE", "90days"),
        ("CROSSWAN_PSK_FILE", "/run/psk"),
        ("CROSSWAN_PSK_DIR", "/run/psk.d"),
        ("CROSSWAN_PSK_REGION", "eu-west-1"),
        ("CROSSWAN_AFTER_MISSES", "1000"),
        ("CROSSWAN_SPACING", "1day"),
        ("CROSSWAN_HOLD_ABOVE", "0%"),
        ("CROSSWAN_HOLD_FLOOR", "0"),
        ("CROSSWAN_CONFIRMED_AFTER", "7"),
        ("CROSSWAN_KEEP_INTERVAL", "1min"),
        ("CROSSWAN_EC2_TIMEOUT", "1s"),
        // Others' business, and not ours at all.
        ("CROSSWAN_ROOT", "/x"),
        ("CROSSWAN_LOG", "debug"),
        ("CROSSWAN_LAB_KEEP", "1"),
        ("PATH", "/bin"),
    ];
    assert_eq!(Host(&[]).load(&env, &Flags::default()).unwrap(), want);
}

#[test]
fn a_key_in_aws_by_name_or_arn() {
    let secret_arn = "arn:aws:secretsmanager:us-west-2:123456789012:secret:crosswan/{vpc}";
    let parameter_arn = "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/crosswan/psk";
    let long = format!("/{}", "a".repeat(2047));
    #[rustfmt::skip]
    let table = [
        ("psk_parameter = '/crosswan/psk'", Service::Parameter, "/crosswan/psk", None, false),
        ("psk_parameter = '/crosswan/{vpc}/psk'", Service::Parameter, "/crosswan/{vpc}/psk", None, true),
        (&format!("psk_parameter = '{parameter_arn}'"), Service::Parameter, parameter_arn, Some("cn-north-1"), false),
        (&format!("psk_parameter = '{long}'"), Service::Parameter, &long, None, false),
        ("psk_secret = 'crosswan'", Service::Secret, "crosswan", None, false),
        ("psk_secret = 'crosswan@a.b_c/{vpc}'\npsk_region = 'eu-west-1'", Service::Secret, "crosswan@a.b_c/{vpc}", Some("eu-west-1"), true),
        (&format!("psk_secret = '{secret_arn}'"), Service::Secret, secret_arn, Some("us-west-2"), true),
        (&format!("psk_secret = '{secret_arn}'\npsk_region = 'us-west-2'"), Service::Secret, secret_arn, Some("us-west-2"), true),
    ];
    for (toml, service, name, region, per_peer) in table {
        let PskSource { stored, .. } = with(&format!("[auth]\n{toml}")).unwrap().auth.psk;
        let stored = stored.unwrap();
        let region = region.map(|r| r.parse().unwrap());
        assert_eq!(stored, StoredPsk { service, name: name.into(), region }, "{toml}");
        assert_eq!(stored.per_peer(), per_peer, "{toml}");
        assert_eq!(stored.name_for(&"vpc-0a1b2c3d".parse().unwrap()), name.replace("{vpc}", "vpc-0a1b2c3d"));
    }
    let env = [("CROSSWAN_PSK_PARAMETER", "/crosswan/psk"), ("CROSSWAN_PSK_REGION", "eu-west-1")];
    let from_env = Host(&[(TOML, NAT_HUB)]).load(&env, &Flags::default()).unwrap();
    assert_eq!(from_env.auth, with("[auth]\npsk_parameter='/crosswan/psk'\npsk_region='eu-west-1'").unwrap().auth);
    let env = [("CROSSWAN_PSK_SECRET", "crosswan/psk")];
    let from_env = Host(&[(TOML, NAT_HUB)]).load(&env, &Flags::default()).unwrap();
    assert_eq!(from_env.auth, with("[auth]\npsk_secret='crosswan/psk'").unwrap().auth);
}

/// Each row reads what is set under its own name, by its own parser.
#[test]
fn every_key_of_the_table_is_settable() {
    for key in SETTINGS {
        let item = item::Item { name: key.name.into(), raw: parse::Raw::Date, origin: "x".into(), alias: None };
        let error = table::Draft::of_defaults().unwrap().put(item).unwrap_err().chain();
        assert_eq!(error, format!("x: {}: expected {}, found a date or time", key.name, key.accepts));
    }
}

#[test]
fn a_stronger_source_wins_key_by_key() {
    let files = [
        ("/etc/default/nat-hub", "VPN_NET=10.1.0.0/16\n"),
        (TOML, "private_net = ['10.2.0.0/16']\nmode = 'nat-hub'\n[removal]\nafter_misses = 3\nhold_above = '30%'"),
        ("/etc/crosswan/conf.d/a.toml", "private_net = ['10.3.0.0/16']\n[removal]\nafter_misses = 4"),
        // Byte order: B before a.
        ("/etc/crosswan/conf.d/B.toml", "private_net = ['10.9.0.0/16']\n[removal]\nafter_misses = 9"),
    ];
    let env = [("CROSSWAN_PRIVATE_NET", "10.4.0.0/16")];
    let flags = Flags { private_net: Some("10.5.0.0/16".into()), ..Flags::default() };
    let net = |files: &[(&str, &str)], env: &[(&str, &str)], flags: &Flags| {
        Host(files).load(env, flags).unwrap().private_net.first().unwrap().to_string()
    };
    let none = Flags::default();
    let mode = [("CROSSWAN_MODE", "nat-hub")];
    assert_eq!(net(&files, &env, &flags), "10.5.0.0/16");
    assert_eq!(net(&files, &env, &none), "10.4.0.0/16");
    assert_eq!(net(&files, &[], &none), "10.3.0.0/16");
    assert_eq!(net(&[files[0], files[1], files[3]], &[], &none), "10.9.0.0/16");
    assert_eq!(net(&files[..2], &[], &none), "10.2.0.0/16");
    assert_eq!(net(&files[..1], &mode, &none), "10.1.0.0/16");

    let host = Host(&files);
    let merged = host.load(&env, &flags).unwrap();
    assert_eq!((merged.removal.after_misses, merged.removal.hold_above), (4, 30));
}

#[test]
fn flags_set_the_mode_the_regions_and_the_hub() {
    let flags = |mode: &str| Flags {
        mode: Some(mode.into()),
        private_net: Some("10.0.0.0/8".into()),
        hub: Some("198.51.100.100".into()),
        regions: Some("us-west-2,eu-west-1".into()),
    };
    // Each mode keeps what it uses and drops the rest.
    for (mode, hub, count) in [("vpn-hub", false, 2), ("nat-hub", false, 0), ("nat-vpn", true, 2)] {
        let got = Host(&[]).load(&[], &flags(mode)).unwrap();
        assert_eq!((got.mode.as_str(), !got.hub.is_empty(), got.regions.len()), (mode, hub, count));
    }
    // With a pre-shared key there is nothing to ask EC2 for.
    let got = Host(&[]).load(&[("CROSSWAN_AUTH_METHOD", "psk")], &flags("nat-vpn")).unwrap();
    assert_eq!(got.regions.len(), 0);
}

/// The hubs, and the keys of each.
fn shown(settings: &Settings) -> (Vec<String>, Vec<String>) {
    let of =
        |hub: &Ipv4Addr| settings.auth.hub_key.of(Some(*hub)).iter().map(|key| key.to_string()).collect::<Vec<_>>();
    let hubs = settings.hub.iter();
    (hubs.clone().map(ToString::to_string).collect(), hubs.map(|hub| of(hub).join(" ")).collect())
}

#[test]
fn one_hub_or_two_and_the_keys_of_each() {
    let [one, two, three] = [1, 2, 3].map(|n| PublicKey::new([n; 32]).to_string());
    let spoke = "mode = 'nat-vpn'\nprivate_net = ['10.0.0.0/8']\n";
    let toml = |more: &str| shown(&only(&format!("{spoke}{more}")).unwrap());
    let (first, second) = ("198.51.100.101", "198.51.100.100");
    let hubs = |hubs: &[&str], keys: &[&str]| {
        (
            hubs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
    };
    let both = format!("{one} {two}");
    // As before: an address, and a key or a list of two.
    assert_eq!(toml(&format!("hub = '{first}'\nauth.hub_key = '{one}'")), hubs(&[first], &[&one]));
    assert_eq!(toml(&format!("hub = '{first}'\nauth.hub_key = ['{one}', '{two}']")), hubs(&[first], &[&both]));
    assert_eq!(toml(&format!("hub = ['{first}']\nauth.hub_key = '{one},{two}'")), hubs(&[first], &[&both]));
    assert_eq!(toml(&format!("hub = '{first}'\n[auth.hub_key]\n'{first}' = '{one}'")), hubs(&[first], &[&one]));
    // The order is kept: the first one is preferred.
    let table = format!("[auth.hub_key]\n'{second}' = '{three}'\n'{first}' = ['{one}', '{two}']");
    let expected = hubs(&[first, second], &[&both, &three]);
    assert_eq!(toml(&format!("hub = ['{first}', '{second}']\n{table}")), expected);
    assert_eq!(toml(&format!("hub = ['{first}', '{second}']\nauth.method = 'psk'")), hubs(&[first, second], &["", ""]));
    // Whoever finds the hub by its tag may name its key.
    let by_tag = only(&format!("{spoke}regions = ['us-west-2']\nauth.hub_key = '{one}'")).unwrap();
    assert_eq!(by_tag.auth.hub_key.of(None).len(), 1);

    let base = [("CROSSWAN_MODE", "nat-vpn"), ("CROSSWAN_PRIVATE_NET", "10.0.0.0/8")];
    for (hub, keys) in [
        (format!("{first},{second}"), format!("{first}={one},{second}={three},{first}={two}")),
        (format!("{first} {second}"), format!("{first}={one} {first}={two} {second}={three}")),
    ] {
        let env = [("CROSSWAN_HUB", hub.as_str()), ("CROSSWAN_HUB_KEY", &keys)];
        let got = Host(&[]).load(&[&base[..], &env].concat(), &Flags::default()).unwrap();
        assert_eq!(shown(&got), expected);
        let flags = Flags { hub: Some(hub.clone()), ..Flags::default() };
        let got = Host(&[]).load(&[&base[..], &[env[1]]].concat(), &flags).unwrap();
        assert_eq!(shown(&got), expected, "as a flag");
    }
    // One file for all modes: only a nat-vpn compares the two.
    let hub = "mode = 'vpn-hub'\nprivate_net = ['10.0.0.0/8']\nregions = ['us-west-2']\n";
    assert!(only(&format!("{hub}hub = ['{first}', '{second}']\nauth.hub_key = '{one}'")).is_ok());
}

#[test]
fn accounts_are_listed_with_their_roles_or_as_role_arns_alone() {
    let hub = "mode='vpn-hub'\nprivate_net=['10.0.0.0/8']\nregions=['us-west-2']\n";
    let full = "own_account = false
        [[accounts]]
        role_arn = 'arn:aws:iam::111122223333:role/team/crosswan-discover'
        external_id = 'Ahs3theIdItself'
        regions = ['eu-west-1']
        allow = ['10.64.0.0/10']
        name = 'payments'
        [[accounts]]
        role_arn = 'arn:aws-cn:iam::444455556666:role/crosswan-discover'";
    let got = only(&format!("{hub}{full}")).unwrap();
    assert!(got.regions.is_empty() && got.asks(), "the own account is not asked");
    let [first, second] = &got.accounts.into_values().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!(
        (first.name.as_str(), &first.regions, &first.allow),
        ("payments", &regions(&["eu-west-1"]), &nets(&["10.64.0.0/10"]))
    );
    assert_eq!(first.external_id, Some(Secret::new(*b"Ahs3theIdItself")));
    assert!(!format!("{first:?}").contains("Ahs3"));
    let defaults = ("444455556666", &regions(&["us-west-2"]), &nets(&["10.0.0.0/8"]), None);
    assert_eq!((second.name.as_str(), &second.regions, &second.allow, second.external_id.as_ref()), defaults);

    let arns = "arn:aws:iam::111122223333:role/a arn:aws:iam::444455556666:role/b";
    let load = |mode, more: &[(&str, &str)]| {
        let base = [("CROSSWAN_MODE", mode), ("CROSSWAN_PRIVATE_NET", "10.0.0.0/8"), ("CROSSWAN_REGIONS", "us-west-2")];
        Host(&[]).load(&[&base, &[("CROSSWAN_ACCOUNTS", arns)][..], more].concat(), &Flags::default()).unwrap()
    };
    assert_eq!(load("vpn-hub", &[]).accounts.len(), 2);
    assert_eq!(load("nat-vpn", &[]).accounts.len(), 2, "a spoke finds its hub there");
    let named = [("CROSSWAN_HUB", "198.51.100.1"), ("CROSSWAN_AUTH_METHOD", "psk")];
    assert!(!load("nat-hub", &[]).asks() && !load("nat-vpn", &named).asks(), "there is nothing to ask for");
}

#[test]
fn segments_are_a_table_or_pairs_and_each_name_is_a_key() {
    let hub = "mode='vpn-hub'\nprivate_net=['10.0.0.0/8']\nregions=['us-west-2']\n";
    let shown = |settings: Settings| {
        let segments = settings.segments?;
        let line = |(name, to): (&SegmentName, &BTreeSet<SegmentName>)| {
            format!("{name}:{}", to.iter().map(SegmentName::as_str).collect::<Vec<_>>().join("+"))
        };
        Some((segments.tag, segments.reach.iter().map(line).collect::<Vec<_>>().join(" ")))
    };
    let of = |toml: &str| shown(only(&format!("{hub}{toml}")).unwrap());
    let key = "crosswan-segment".to_owned();
    assert_eq!(of(""), None);
    assert_eq!(of("[segments]"), Some((key.clone(), "default:".into())), "an empty table is on");
    let full = "segment_tag='net'\n[segments]\nprod=['shared']\ndev=['shared','prod']\n";
    let expected = "default: dev:prod+shared prod:shared shared:".to_owned();
    assert_eq!(of(full), Some(("net".into(), expected.clone())));
    let base =
        [("CROSSWAN_MODE", "vpn-hub"), ("CROSSWAN_PRIVATE_NET", "10.0.0.0/8"), ("CROSSWAN_REGIONS", "us-west-2")];
    let pairs = [("CROSSWAN_SEGMENTS", "prod=shared, dev=shared dev=prod,shared")];
    let got = Host(&[]).load(&[&base[..], &pairs].concat(), &Flags::default()).unwrap();
    assert_eq!(shown(got), Some((key, expected)));
    let account = "[[accounts]]\nrole_arn='arn:aws:iam::111122223333:role/a'\nsegments=['dev']\n";
    let account = only(&format!("{hub}{account}")).unwrap().accounts.into_values().next().unwrap();
    assert_eq!(account.segments, Some(["dev".parse().unwrap()].into()));
    assert_eq!(shown(only(&format!("{NAT_HUB}segments = {{ prod = [] }}")).unwrap()), None);
}

#[test]
fn limits_are_inclusive() {
    let long_key = "k".repeat(128);
    // Characters count, not bytes.
    let long_value = "ü".repeat(256);
    for accepted in [
        "[keep]\ninterval='1s'",
        "[keep]\ninterval='59s 999ms'",
        "[ec2]\ntimeout='10min'",
        "[pair]\nport=1024\ninterval='50ms'\nmisses=3",
        "[pair]\nport=65535\ninterval='5s'\nmisses=50",
        "[removal]\nafter_misses=1\nhold_above='100%'",
        "removal.after_misses=7",
        "removal.spacing='0s'",
        "hub='223.255.255.254'",
        "regions=[]",
        &format!("gateway_tag={{key='{long_key}', value='{long_value}'}}"),
    ] {
        assert!(with(accepted).is_ok(), "{accepted}: {:?}", with(accepted));
    }
}

#[test]
fn a_pair_is_of_gateways_that_have_keys() {
    let of = |mode: &str, more: &str| {
        let needs = "private_net = ['10.0.0.0/8']\nregions = ['us-west-2']";
        only(&format!("mode = '{mode}'\n{needs}\n{more}")).unwrap()
    };
    let hub = |more: &str| of("nat-hub", more);
    let asked = hub("pair.enabled = true");
    assert!(asked.pair.is_some_and(|pair| pair.asked) && asked.has_key() && asked.needs_key());
    let default = hub("");
    assert!(default.pair.is_some_and(|pair| !pair.asked) && default.has_key() && !default.needs_key());
    assert!(of("nat-vpn", "").needs_key(), "its tunnels do");
    for (more, told) in [("pair.enabled = true\nauth.method = 'psk'", true), ("auth.method = 'psk'", false)] {
        let without = hub(more);
        assert!(without.pair.is_none() && !without.has_key());
        let warned = without.warnings.iter().any(|line| line.contains("pair.enabled: no pair is made"));
        assert_eq!((warned, without.warnings.len()), (told, usize::from(told)), "{more}: {:?}", without.warnings);
    }
    let alone = hub("pair.enabled = false");
    assert!(!alone.has_key() && alone.warnings.is_empty(), "a nat-hub that is to be alone needs no key");
    assert!(of("nat-vpn", "pair.enabled = false").far_port.is_none());
    assert!(of("vpn-hub", "").pair.is_some());
    let centre = of("vpn-hub", "pair.enabled = true\nauth.method = 'psk'");
    assert!(centre.pair.is_none() && centre.warnings.len() == 1);
}

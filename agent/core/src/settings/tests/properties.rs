//! Whatever a source holds, the answer is settings or one line; what is valid survives a round trip through TOML.

use proptest::{collection::btree_set, option, prelude::*};

use super::*;
use crate::model::Protocol;

/// Text that gets past the first checks more often than noise does.
fn source() -> impl Strategy<Value = String> {
    let noise = any::<String>();
    let words = prop::collection::vec(
        prop::sample::select(vec![
            "mode",
            "private_net",
            "hub",
            "VPN_NET",
            "VPN_PSK",
            "export ",
            "=",
            "'",
            "\"",
            "[",
            "]",
            "{",
            "}",
            "\n",
            ",",
            " ",
            "$",
            "auth",
            ".",
            "10.0.0.0/8",
            "nat-hub",
            "198.51.100.1",
            "#",
            "\u{0}",
            "é",
            "1s",
            "%",
            "9999999999",
        ]),
        0..24,
    )
    .prop_map(|words| words.concat());
    prop_oneof![noise, words]
}

prop_compose! {
    fn tags()(key in "[a-zA-Z0-9=:/é \"']{1,128}", value in "[a-z=\"'#\\[ü]{0,256}") -> Tag {
        Tag { key, value }
    }
}

prop_compose! {
    fn valid()(
        mode in prop::sample::select(Mode::ALL.to_vec()),
        nets in btree_set(0u8..=255, 1..8),
        by_tag in any::<bool>(),
        hub in 1u8..=254,
        (hub_tag, gateway_tag, environment_tag) in (tags(), tags(), option::of(tags())),
        regions in btree_set("(us|eu|ap)-(west|north)-[1-9]", 1..6),
        masquerade in any::<bool>(),
        (file, dir) in (option::of("/[ -~é]{0,40}"), option::of("/[ -~é]{0,40}")),
        stored in option::of((any::<bool>(), r"/[a-zA-Z0-9/_.@-]{0,40}(\{vpc\})?", option::of("(us|eu)-west-[1-9]"))),
        (after_misses, spacing, hold_above) in (1u32..=1000, 0u64..=86_400, 0u8..=100),
        (hold_floor, confirmed_after) in (0u32..=100, 1u32..=1000),
        (interval, timeout) in (1_000u64..=60_000, 1_000u64..=600_000),
    ) -> Settings {
        let asks = mode == Mode::VpnHub || (mode == Mode::NatVpn && by_tag);
        Settings {
            mode,
            private_net: nets.iter().map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect(),
            hub: (0..=hub % 2).filter(|_| mode == Mode::NatVpn && !by_tag).map(|n| Ipv4Addr::new(198, 51, 100 - n, hub)).collect(),
            hub_tag: if mode == Mode::NatVpn && !by_tag { Tag { key: "service".into(), value: "vpn-hub".into() } } else { hub_tag },
            regions: regions.iter().filter(|_| asks).map(|r| r.parse().unwrap()).collect(),
            accounts: Default::default(),
            segments: None,
            gateway_tag,
            environment_tag,
            routes_tag: Tag { key: "routes".into(), value: hub.to_string() },
            routes_overrule: asks,
            address: Some(WantedAddress::Tagged(Tag { key: "pool".into(), value: hub.to_string() })),
            masquerade,
            nat_sources: nets.iter().filter(|_| masquerade).map(|n| format!("172.16.{n}.0/24").parse().unwrap()).collect(),
            guard_input: nets.iter().map(|n| Opening { protocol: Protocol::Udp, port: u16::from(*n) + 1 }).collect(),
            guard_exclude: nets.iter().map(|n| format!("10.{n}.7.0/24").parse().unwrap()).collect(),
            auth: auth(AuthMethod::Psk, PskSource {
                file: file.filter(|_| stored.is_none()).map(Into::into),
                dir: dir.map(Into::into),
                stored: stored.map(|(secret, name, region)| StoredPsk {
                    service: if secret { Service::Secret } else { Service::Parameter },
                    name,
                    region: region.map(|r| r.parse().unwrap()),
                }),
                inline: None,
            }),
            removal: Removal { after_misses, spacing: Duration::from_secs(spacing), hold_above, hold_floor, confirmed_after },
            keep: Keep { interval: Duration::from_millis(interval) },
            pair: None,
            far_port: None,
            ec2: Ec2 { timeout: Duration::from_millis(timeout) },
            warnings: vec![],
        }
    }
}

fn to_toml(s: &Settings) -> String {
    let text = |s: String| toml::Value::String(s);
    let tag = |t: &Tag| {
        let pairs = [("key", &t.key), ("value", &t.value)];
        toml::Value::Table(pairs.into_iter().map(|(k, v)| (k.into(), text(v.clone()))).collect())
    };
    let section = |pairs: Vec<(&str, toml::Value)>| {
        toml::Value::Table(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    };
    let address = |address: &WantedAddress| match address {
        WantedAddress::Tagged(pool) => ("tag", tag(pool)),
        WantedAddress::Allocation(id) => ("allocation", text(id.to_string())),
    };
    let psk = &s.auth.psk;
    let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_str().unwrap().to_owned());
    let name = |service| psk.stored.as_ref().filter(|s| s.service == service).map(|s| s.name.clone());
    let auth = [
        ("method", Some("psk".to_owned())),
        ("psk_file", path(&psk.file)),
        ("psk_dir", path(&psk.dir)),
        ("psk_parameter", name(Service::Parameter)),
        ("psk_secret", name(Service::Secret)),
        ("psk_region", psk.stored.as_ref().and_then(|s| Some(s.region.as_ref()?.to_string()))),
    ];
    let mut top = toml::Table::from_iter([
        ("mode".to_owned(), text(s.mode.to_string())),
        ("private_net".to_owned(), s.private_net.iter().map(|n| n.to_string()).collect::<Vec<_>>().into()),
        ("regions".to_owned(), s.regions.iter().map(|r| r.to_string()).collect::<Vec<_>>().into()),
        ("gateway_tag".to_owned(), tag(&s.gateway_tag)),
        ("masquerade".to_owned(), s.masquerade.into()),
        ("routes".to_owned(), section(vec![("tag", tag(&s.routes_tag)), ("overrule", s.routes_overrule.into())])),
        ("address".to_owned(), section(s.address.iter().map(address).collect())),
        (
            "nat".to_owned(),
            section(vec![("sources", s.nat_sources.iter().map(|n| n.to_string()).collect::<Vec<_>>().into())]),
        ),
        (
            "guard".to_owned(),
            section(vec![
                ("input", s.guard_input.iter().map(|o| o.to_string()).collect::<Vec<_>>().into()),
                ("exclude", s.guard_exclude.iter().map(|n| n.to_string()).collect::<Vec<_>>().into()),
            ]),
        ),
        (
            "removal".to_owned(),
            section(vec![
                ("after_misses", i64::from(s.removal.after_misses).into()),
                ("spacing", text(humantime::format_duration(s.removal.spacing).to_string())),
                ("hold_above", text(format!("{}%", s.removal.hold_above))),
                ("hold_floor", i64::from(s.removal.hold_floor).into()),
                ("confirmed_after", i64::from(s.removal.confirmed_after).into()),
            ]),
        ),
        ("keep".to_owned(), section(vec![("interval", text(humantime::format_duration(s.keep.interval).to_string()))])),
        ("ec2".to_owned(), section(vec![("timeout", text(humantime::format_duration(s.ec2.timeout).to_string()))])),
        ("auth".to_owned(), section(auth.into_iter().filter_map(|(k, value)| Some((k, text(value?)))).collect())),
    ]);
    match s.hub[..] {
        [] => top.insert("hub_tag".into(), tag(&s.hub_tag)),
        [hub] => top.insert("hub".into(), text(hub.to_string())),
        _ => top.insert("hub".into(), s.hub.iter().map(|hub| hub.to_string()).collect::<Vec<_>>().into()),
    };
    if let Some(environment) = &s.environment_tag {
        top.insert("environment_tag".into(), tag(environment));
    }
    toml::to_string(&top).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// `Settings::of` panics on nothing and [`Host::load`] checks that an error is one line, of [`Kind::Settings`].
    #[test]
    fn any_text_in_any_source(
        base in source(), more in source(), old in source(),
        name in prop::sample::select(vec!["CROSSWAN_MODE", "CROSSWAN_HUB_TAG", "CROSSWAN_PRIVATE_NET", "CROSSWAN_X"]),
        value in source(), (mode, regions) in (option::of(source()), option::of(source())),
    ) {
        let host = Host(&[
            (TOML, &base), ("/etc/crosswan/conf.d/a.toml", &more), ("/etc/default/nat-vpn", &old),
        ]);
        let flags = Flags { mode, regions, ..Flags::default() };
        let _ = host.load(&[(name, &value)], &flags);
        for only in [(TOML, base), ("/etc/default/nat-hub", old)] {
            let _ = Host(&[(only.0, &only.1)]).load(&[("CROSSWAN_MODE", "nat-hub")], &Flags::default());
        }
    }

    #[test]
    fn a_round_trip_through_toml(settings in valid()) {
        let toml = to_toml(&settings);
        prop_assert_eq!(only(&toml), Ok(settings), "from {}", toml);
    }
}

//! Which segment a VPC is in, whatever its tag says and whoever does not answer.

use super::*;
use crate::model::Realm;

/// The hub's settings: `prod` may reach `shared`; VPCs of the account may be in `dev` only.
const SEGMENTS: &str = "mode='vpn-hub'\nprivate_net=['10.0.0.0/8']\nregions=['eu-west-1','us-west-2']\nremoval.spacing='0s'\n    segments={prod=['shared'],dev=['shared']}\n    [[accounts]]\nrole_arn='arn:aws:iam::111122223333:role/r'\nname='team'\nsegments=['dev']\n";
/// A name with the realm of `prod`.
const LIKE_PROD: &str = "x112761";

fn tagged(n: u32, tag: Option<&str>) -> Gateway {
    Gateway { segment: Some(SegmentTag::of(tag)), ..gateway(n, &[&format!("10.{n}.0.0/16")]) }
}

fn hub(own: Option<&str>, gateways: &[Gateway]) -> Pass<'static> {
    let segment = Some(Ok(SegmentTag::of(own)));
    Pass { toml: SEGMENTS, answers: answered(gateways), segment, ..Pass::default() }
}

/// The realm of the route to VPC `n` as text.
fn realm(d: &Decided, n: u32) -> String {
    let via = d.routing.routes[&format!("10.{n}.0.0/16").parse().unwrap()];
    via.realm.map_or("none".into(), |realm| realm.to_string())
}

fn of(name: &str) -> String {
    Realm::of(&name.parse().unwrap()).to_string()
}

fn nobody() -> String {
    Realm::NOBODY.to_string()
}

#[test]
fn each_route_has_the_realm_of_its_vpcs_segment_and_what_is_not_certain_isolates() {
    let mut theirs = [tagged(6, Some("dev")), tagged(7, Some("prod")), tagged(8, None)];
    theirs.iter_mut().for_each(|gateway| gateway.account = Some("111122223333".parse().unwrap()));
    let mut answers = answered(&[
        tagged(1, Some("prod")),
        tagged(2, None),
        tagged(3, Some("lab")),
        tagged(4, Some("no name")),
        tagged(5, Some(LIKE_PROD)),
    ]);
    let view = RegionView { gateways: theirs.to_vec(), ..RegionView::default() };
    answers.insert("111122223333/eu-west-1".parse().unwrap(), Ok(view));
    let d = Pass { answers, ..hub(Some("shared"), &[]) }.run();
    let realms: Vec<String> = (1..=8).map(|n| realm(&d, n)).collect();
    let nobody = nobody();
    let expected = [&of("prod"), &of("default"), &of("lab"), &nobody, &nobody, &of("dev"), &nobody, &nobody];
    assert_eq!(realms.iter().collect::<Vec<_>>(), expected);
    let rules = d.nat.segments.as_ref().unwrap();
    assert_eq!(rules.hub.as_ref().map(|name| name.as_str()), Some("shared"));
    assert_eq!(rules.strangers.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["lab"]);
    assert_eq!(rules.reach.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["default", "dev", "prod", "shared"]);
    let notes = d.findings.notes.join("\n");
    for said in [
        "vpc-00000003 (eu-west-1) is in segment lab, which settings do not know, so it reaches only VPCs of that name: add lab to segments",
        "vpc-00000004 (eu-west-1) is in no segment and reaches nobody: its tag crosswan-segment is \"no name\", which is not of 1 to 64",
        "vpc-00000005 (eu-west-1) is in no segment and reaches nobody: the realm of its segment",
        "vpc-00000007 (111122223333/eu-west-1) is in no segment and reaches nobody: its segment prod is not in segments of account team",
        "vpc-00000008 (111122223333/eu-west-1) is in no segment and reaches nobody: its segment default is not in segments of account team",
    ] {
        assert!(notes.contains(said), "{said}\n{notes}");
    }
    assert_eq!(d.findings.notes.len(), 5, "{notes}");
}

#[test]
fn without_segments_nothing_has_a_realm() {
    let d = pass(&[tagged(1, Some("prod"))]);
    assert_eq!((realm(&d, 1).as_str(), d.nat.segments.is_none(), d.segments.is_none()), ("none", true, true));
    assert!(d.routing.addresses.is_empty() && d.state.segment.is_none());
}

#[test]
fn who_does_not_answer_keeps_his_segment_and_who_never_did_has_none() {
    let before = hub(Some("shared"), &[tagged(1, Some("prod"))]).run();
    let silent = |state: State| {
        let segment = Some(Err(AskError::TimedOut { after: Duration::from_secs(60) }));
        Pass { answers: failed(), state, segment, ..hub(None, &[]) }.run()
    };
    let d = silent(before.state.clone());
    assert_eq!((realm(&d, 1), d.nat.segments.unwrap().hub), (of("prod"), "shared".parse().ok()));
    assert_eq!(d.state.segment, before.state.segment, "and remembers it");
    // Segments are switched on while a region is silent, and the hub may not describe VPCs.
    let plain = pass(&[gateway(1, &["10.1.0.0/16"])]);
    let d = silent(plain.state);
    assert_eq!((realm(&d, 1), d.nat.segments.unwrap().hub), (nobody(), None));
    let notes = d.findings.notes.join("\n");
    assert!(
        notes.contains("the hub's own vpc-000000ff is in no segment and reaches nobody, as its tag could not be read"),
        "{notes}"
    );
    assert!(
        notes.contains("vpc-00000001 (eu-west-1) is in no segment and reaches nobody, as its region has not answered"),
        "{notes}"
    );
}

#[test]
fn a_tag_that_changes_moves_one_route_and_another_vpc_adds_no_rule() {
    let before = hub(Some("shared"), &[tagged(1, Some("prod")), tagged(2, Some("dev"))]).run();
    let (routing, nat) = (before.routing.clone(), before.nat.clone());
    let state = before.state;
    let now = [tagged(1, Some("dev")), tagged(2, Some("dev")), tagged(3, Some("prod"))];
    let d = Pass { state, ..hub(Some("shared"), &now) }.run();
    let changes: Vec<String> = d.routing.changes_from(&routing).iter().map(ToString::to_string).collect();
    let to = |net: &str, segment| format!("route {net} dev cw1 src 10.0.0.5 realm {}", of(segment));
    assert_eq!(changes, [to("10.1.0.0/16", "dev"), to("10.3.0.0/16", "prod")]);
    assert_eq!(crate::iptables::render(&d.nat), crate::iptables::render(&nat));
}

#[test]
fn an_account_that_is_no_longer_listed_gets_no_segment_that_it_was_refused() {
    let theirs = Gateway { account: Some("111122223333".parse().unwrap()), ..tagged(7, Some("prod")) };
    let mut answers = answered(&[]);
    let view = RegionView { gateways: vec![theirs], ..RegionView::default() };
    answers.insert("111122223333/eu-west-1".parse().unwrap(), Ok(view));
    let before = Pass { answers, ..hub(None, &[]) }.run();
    let toml = SEGMENTS.split("[[accounts]]").next().unwrap();
    let d = Pass { toml, state: before.state, ..hub(None, &[]) }.run();
    assert_eq!(realm(&d, 7), nobody(), "{:?}", d.findings.notes);
}

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::*;
use crate::settings::{Flags, Settings, Sources, TomlFile};

const HUB: &str = "999988887777";

fn member(id: &str, name: &str, state: &str) -> Member {
    serde_json::from_value(serde_json::json!({ "Id": id, "Name": name, "State": state, "Email": "a@b.example" }))
        .unwrap()
}

fn wanted(external_id: Option<&str>, regions: &[&str]) -> Wanted {
    let regions = regions.iter().map(|region| region.parse().unwrap()).collect();
    let external_id = external_id.map(str::to_owned);
    Wanted::new(Partition::of(None), "path/crosswan-discover".into(), external_id, regions, HUB.parse().unwrap())
        .unwrap()
}

/// The accounts as a hub's settings read the printed text.
fn read(text: &str) -> BTreeMap<AccountId, Account> {
    let toml = format!("mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"us-west-2\"]\n{text}");
    let toml = vec![TomlFile { path: "/etc/crosswan/conf.d/accounts.toml".into(), text: toml }];
    let (env, flags) = (BTreeMap::new(), Flags::default());
    let sources = Sources { root: Path::new("/"), toml, env: &env, flags: &flags };
    Settings::of(&sources, |_| Ok(None)).unwrap_or_else(|e| panic!("{}\n{text}", e.chain())).accounts
}

#[test]
fn settings_read_what_is_printed_and_nobody_can_name_an_account_so_that_they_do_not() {
    let names = [
        ("111111111111", "payments", Some("payments")),
        ("111111111112", "Team  Search (prod)", Some("Team-Search-prod")),
        // Whoever may name an account could take another one's name, or its number, or end the text.
        ("111111111113", "data", None),
        ("111111111114", "data!", None),
        ("111111111115", "111111111111", None),
        ("111111111116", "x\"\n[accounts]\nrole_arn = \"arn:aws:iam::666666666666:role/x", None),
        ("111111111117", "größe ☂", Some("gr-e")),
        ("111111111118", "☂", None),
        ("111111111119", "", None),
    ];
    let mut members: Vec<Member> = names.iter().map(|(id, name, _)| member(id, name, "ACTIVE")).collect();
    members.push(member(HUB, "network", "ACTIVE"));
    let listing = Listing::of(members, &wanted(Some("a_+=,.@:/-id"), &["eu-west-1", "us-west-2"])).unwrap();
    let accounts = read(&listing.to_string());
    assert_eq!(accounts.len(), names.len());
    for ((id, _, name), (read, account)) in names.iter().zip(&accounts) {
        assert_eq!(read.as_str(), *id);
        // The rest of the sixth is a name that is valid, if it is a strange one.
        if *id != "111111111116" {
            assert_eq!(account.name.as_str(), name.unwrap_or(id));
        }
        assert_eq!(account.role.as_str(), format!("arn:aws:iam::{id}:role/path/crosswan-discover"));
        assert_eq!(account.external_id.as_ref().unwrap().bytes(), b"a_+=,.@:/-id");
        assert_eq!(account.regions.iter().map(Region::as_str).collect::<Vec<_>>(), ["eu-west-1", "us-west-2"]);
    }
    let remarks = listing.remarks();
    assert!(remarks.iter().all(|line| !line.contains(char::is_control)), "{remarks:?}");
    assert!(remarks.iter().any(|line| line
        == "note      account 111111111114 is listed without its name \"data!\": another account would have the same"));
    // Without them nothing is printed, and the hub's own regions count.
    let plain =
        Listing::of(vec![member("111111111111", "a", "ACTIVE"), member(HUB, "hub", "ACTIVE")], &wanted(None, &[]))
            .unwrap();
    assert_eq!(
        plain.to_string().lines().skip(2).collect::<Vec<_>>(),
        ["[[accounts]]", "role_arn = \"arn:aws:iam::111111111111:role/path/crosswan-discover\"", "name = \"a\""]
    );
    assert_eq!(read(&plain.to_string()).values().next().unwrap().regions.len(), 1);
}

#[test]
fn the_hubs_account_and_those_that_are_not_in_use_are_left_out_with_the_reason() {
    let mut old = member("111111111111", "old", "ACTIVE");
    (old.state, old.status) = (None, Some("SUSPENDED".into()));
    let mut unsaid = member("111111111112", "unsaid", "ACTIVE");
    unsaid.state = None;
    let mut active = member("111111111113", "active", "");
    (active.state, active.status) = (None, Some("ACTIVE".into()));
    // AWS's newer word counts.
    let mut closed = member("111111111114", "closed", "CLOSED");
    closed.status = Some("ACTIVE".into());
    let all = vec![old, unsaid, active, closed, member(HUB, "network", "ACTIVE")];
    let listing = Listing::of(all.clone(), &wanted(None, &[])).unwrap();
    assert_eq!(read(&listing.to_string()).keys().map(AccountId::as_str).collect::<Vec<_>>(), ["111111111113"]);
    assert_eq!(
        listing.remarks(),
        [
            "left out  111111111111 \"old\": its state is \"SUSPENDED\", and not ACTIVE",
            "left out  111111111112 \"unsaid\": Organizations did not say whether it is active",
            "left out  111111111114 \"closed\": its state is \"CLOSED\", and not ACTIVE",
            "left out  999988887777 \"network\": the hub is in it, and asks there without a role",
        ]
    );
    // A number with a slip would let the own account in.
    let listing = Listing::of(all[..4].to_vec(), &wanted(None, &[])).unwrap();
    assert!(
        listing
            .remarks()
            .last()
            .unwrap()
            .contains("account 999988887777, where the hub is, is not in this organization")
    );
}

#[test]
fn a_role_or_external_id_that_aws_does_not_accept_is_refused_before_anybody_is_asked() {
    let new = |role: &str, id: Option<&str>| {
        let hub = HUB.parse().unwrap();
        Wanted::new(Partition::of(None), role.into(), id.map(str::to_owned), BTreeSet::new(), hub)
            .map_err(|e| e.chain())
    };
    for role in ["", "a b", "a\"", "arn:aws:iam::111122223333:role/x"] {
        assert!(new(role, None).unwrap_err().starts_with("--role takes the name of a role"), "{role}");
    }
    for id in ["", "a", "a\"b", "a\nb"] {
        let error = new("x", Some(id)).unwrap_err();
        assert!(error.starts_with("--external-id: STS does not accept it") && (id.len() < 2 || !error.contains(id)));
    }
}

#[test]
fn each_partition_has_its_own_endpoint_and_arns() {
    for (region, name, url) in [
        (None, "aws", "https://organizations.us-east-1.amazonaws.com"),
        (Some("eu-west-1"), "aws", "https://organizations.us-east-1.amazonaws.com"),
        (Some("cn-north-1"), "aws-cn", "https://organizations.cn-northwest-1.amazonaws.com.cn"),
        (Some("us-gov-east-1"), "aws-us-gov", "https://organizations.us-gov-west-1.amazonaws.com"),
    ] {
        let region: Option<Region> = region.map(|region| region.parse().unwrap());
        let partition = Partition::of(region.as_ref());
        assert_eq!((partition.name, partition.organizations().as_str()), (name, url));
    }
}

#[test]
fn each_region_of_an_account_says_what_the_last_refresh_said_of_it() {
    let accounts = read(
        "[[accounts]]\nrole_arn = \"arn:aws:iam::111111111111:role/x\"\nname = \"a\"\nexternal_id = \"Ahs3\"\n\
         allow = [\"10.64.0.0/10\"]\nregions = [\"eu-west-1\", \"us-west-2\", \"xx-new-1\"]",
    );
    let mut unknown = Accounts::of(&accounts, None);
    assert_eq!(unknown.exit_code(), 3, "nothing is known before a refresh");
    assert!(Accounts::of(&BTreeMap::new(), None).exit_code() == 0);
    let said = |failed: Option<&str>| RegionReport {
        gateways: 2,
        failed: failed.map(str::to_owned),
        answered: Some(crate::model::Timestamp(1)),
        account: Some("a".parse().unwrap()),
    };
    let regions = &mut unknown.accounts.values_mut().next().unwrap().regions;
    regions.insert("eu-west-1".parse().unwrap(), Some(said(None)));
    regions.insert("us-west-2".parse().unwrap(), Some(said(Some("not permitted"))));
    let text = unknown.to_string();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "111111111111 (a), by arn:aws:iam::111111111111:role/x, may bring 10.64.0.0/10",
            "  asked     eu-west-1: 2 gateways",
            "  NO ANSWER us-west-2: not permitted; its last good answer stands: 2 gateways",
            "  UNKNOWN   xx-new-1: the last refresh has no answer; look for a note about it in crosswan status",
            "1 account beside the own one",
        ]
    );
    assert_eq!(unknown.exit_code(), 3);
    let regions = &mut unknown.accounts.values_mut().next().unwrap().regions;
    regions.values_mut().for_each(|region| *region = Some(said(None)));
    assert_eq!(unknown.exit_code(), 0);
    assert!(!serde_json::to_string(&unknown).unwrap().contains("Ahs3"));
}

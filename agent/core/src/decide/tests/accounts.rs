//! Several accounts: one that fails, one that brings too much, and one that shows another's VPC.

use std::slice::from_ref;

use super::*;
use crate::model::Refusal;

/// The hub's settings with two further accounts, of which the second may bring 10.64.0.0/10 only.
const ACCOUNTS: &str = "mode='vpn-hub'\nprivate_net=['10.0.0.0/8']\nregions=['eu-west-1','us-west-2']\n\
    removal.spacing='0s'\n\
    [[accounts]]\nrole_arn='arn:aws:iam::111122223333:role/r'\n\
    [[accounts]]\nrole_arn='arn:aws:iam::444455556666:role/r'\nallow=['10.64.0.0/10']\nname='payments'\n";
const B: &str = "111122223333";
const C: &str = "444455556666";

fn in_account(account: &str, gateway: Gateway) -> Gateway {
    Gateway { account: Some(account.parse().unwrap()), ..gateway }
}

/// What each of the accounts answers in eu-west-1; `None` if it does not.
fn of_accounts(answers: &[(&str, Option<&[Gateway]>)]) -> Answers {
    let mut all = answered(&[]);
    for (account, gateways) in answers {
        let view = gateways.map(|g| RegionView { gateways: g.to_vec(), ..RegionView::default() });
        let answer = view.ok_or(AskError::TimedOut { after: Duration::from_secs(60) });
        all.insert(format!("{account}/eu-west-1").parse().unwrap(), answer);
    }
    all
}

fn hub_of_accounts(before: Option<Decided>, answers: &[(&str, Option<&[Gateway]>)]) -> Decided {
    let state = before.map(|before| before.state).unwrap_or_default();
    Pass { toml: ACCOUNTS, answers: of_accounts(answers), state, ..Pass::default() }.run()
}

/// The CIDRs that the hub leads into tunnels.
fn carried(decided: &Decided) -> Vec<String> {
    decided
        .tunnels
        .values()
        .flat_map(|t| t.children.values().flat_map(|c| &c.remote))
        .map(ToString::to_string)
        .collect()
}

fn reasons(decided: &Decided) -> Vec<String> {
    decided.findings.refused.iter().map(ToString::to_string).collect()
}

#[test]
fn an_account_that_does_not_answer_keeps_its_tunnels_and_misses_count_in_its_own_answers_only() {
    let (b, c) = (in_account(B, gateway(1, &["10.1.0.0/16"])), in_account(C, gateway(2, &["10.64.0.0/16"])));
    let both = hub_of_accounts(None, &[(B, Some(from_ref(&b))), (C, Some(from_ref(&c)))]);
    assert_eq!(carried(&both), ["10.1.0.0/16", "10.64.0.0/16"]);
    // The account fails for as long as it likes, while the others answer in the same region.
    let mut d = both;
    for _ in 0..5 {
        d = hub_of_accounts(Some(d), &[(B, Some(from_ref(&b))), (C, None)]);
        assert_eq!((carried(&d).len(), d.state.peers[&vpc(2)].misses), (2, 0));
    }
    assert_eq!(d.findings.kept[0].region.to_string(), "444455556666/eu-west-1");
    // It answers without the gateway, which is then missed as any other.
    let missed = hub_of_accounts(Some(d), &[(B, Some(from_ref(&b))), (C, Some(&[]))]);
    assert_eq!((carried(&missed).len(), missed.state.peers[&vpc(2)].misses), (2, 1));
}

#[test]
fn what_settings_do_not_allow_an_account_is_refused_alone() {
    let c = in_account(C, gateway(2, &["10.64.0.0/16", "10.2.0.0/16"]));
    let d = hub_of_accounts(None, &[(B, Some(&[])), (C, Some(&[c]))]);
    assert_eq!(carried(&d), ["10.64.0.0/16"]);
    assert_eq!(
        reasons(&d),
        [
            "vpc-00000002 (444455556666/eu-west-1) 10.2.0.0/16: not in allow of account payments, so a VPC of that account may not \
          bring it"
        ]
    );
    // The same VPC of an account that may bring all of the private network.
    let b = in_account(B, gateway(2, &["10.64.0.0/16", "10.2.0.0/16"]));
    assert_eq!(carried(&hub_of_accounts(None, &[(B, Some(&[b]))])).len(), 2);
}

#[test]
fn a_vpc_that_a_second_account_shows_stays_with_the_first() {
    let b = in_account(B, gateway(1, &["10.64.0.0/16"]));
    let before = || hub_of_accounts(None, &[(B, Some(from_ref(&b)))]);
    let tunnels = before().tunnels;
    // The same VPC, with a newer gateway, and with the same gateway's own tags.
    let newer = in_account(C, Gateway { vpc: vpc(1), launched: Timestamp(99), ..gateway(9, &["10.64.0.0/16"]) });
    let copy = in_account(C, Gateway { public: Some(Ipv4Addr::new(203, 0, 113, 9)), ..b.clone() });
    for c in [newer, copy] {
        let seen = hub_of_accounts(Some(before()), &[(B, Some(from_ref(&b))), (C, Some(from_ref(&c)))]);
        assert_eq!(seen.tunnels, tunnels);
        assert!(reasons(&seen)[0].contains("account 111122223333 has a gateway in this VPC too"), "{seen:?}");
        // Not even while the account that has it is silent, or has just lost its gateway.
        let silent = hub_of_accounts(Some(before()), &[(B, None), (C, Some(from_ref(&c)))]);
        let missed = hub_of_accounts(Some(before()), &[(B, Some(&[])), (C, Some(from_ref(&c)))]);
        assert_eq!([&silent.tunnels, &missed.tunnels], [&tunnels; 2]);
        // A VPC that is new to the hub belongs to nobody yet.
        let new = hub_of_accounts(None, &[(B, Some(from_ref(&b))), (C, Some(&[c]))]);
        assert_eq!((new.tunnels.len(), reasons(&new).len()), (0, 2));
    }
}

#[test]
fn what_a_second_account_cannot_use_says_nothing_of_the_first_ones_gateway() {
    let b = in_account(B, gateway(1, &["10.64.0.0/16"]));
    let mut d = hub_of_accounts(None, &[(B, Some(&[b]))]);
    let refusal = Refusal {
        region: format!("{C}/eu-west-1").parse().unwrap(),
        vpc: Some(vpc(1)),
        instance: None,
        cidr: None,
        reason: "odd".into(),
    };
    for misses in 1..=2 {
        let mut answers = of_accounts(&[(B, Some(&[])), (C, Some(&[]))]);
        let view = RegionView { unusable: vec![refusal.clone()], ..RegionView::default() };
        answers.insert(refusal.region.clone(), Ok(view));
        d = Pass { toml: ACCOUNTS, answers, state: d.state, sas: sas(&[]), ..Pass::default() }.run();
        assert_eq!(d.state.peers.get(&vpc(1)).map_or(2, |peer| peer.misses), misses);
    }
}

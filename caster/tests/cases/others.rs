//! What belongs to others, what is missing, and adoptions that were cut off.

use cloudcaster::{
    decide::decide,
    plan::{Options, plan},
};
use serde_json::json;

use super::{cast, plain, steps};
use crate::{
    documents::{CLIENT, EXAMPLE, HUB, read, value, with},
    model::{Region, plan_for},
    properties::region,
};

#[test]
fn names_that_another_vpc_or_cast_holds_are_refused_by_name() {
    let document = read(EXAMPLE);
    let mut theirs = read(EXAMPLE);
    theirs.vpc.cidr = "10.0.0.0/21".parse().unwrap();
    let mut other = cast(&theirs).seen;
    // Of the other VPC only what has one owner in a region is left.
    other.vpcs.retain(|_, v| v.default || v.cidr == theirs.vpc.cidr);
    let plan = plan_for(&document, &other);
    let said: Vec<&str> = plan.foreign.iter().map(|n| n.why.as_str()).collect();
    for expected in [
        "is called example-prod and belongs to vpc-",
        "is an Auto Scaling group of another VPC",
        "two documents claim the name",
    ] {
        assert!(said.iter().any(|s| s.contains(expected)), "{expected}: {plan}");
    }
    assert!(
        !steps(&plan)
            .iter()
            .any(|s| s.contains("load balancer") || s.contains("Auto Scaling") || s.starts_with("record")),
        "{plan}"
    );
}

#[test]
fn a_rule_names_a_group_that_must_be_somewhere() {
    let rule = json!([{ "group": "elsewhere", "from": 1, "to": 1, "prot": "tcp" }]);
    let document = read(&with(&plain(), "/apps/0/allow", rule).to_string());
    let seen = region("example-empty-region");
    let decision = decide(&document, &Default::default(), &seen);
    let faults = plan(&decision.desired, &seen, Options::default()).faults;
    assert_eq!(faults[0].path.to_string(), "apps[0].allow");
    assert_eq!(faults[0].what, "the group \"elsewhere\" is neither in the document nor in the VPC");
}

#[test]
fn where_the_document_is_must_be_where_we_are() {
    let seen = region("hub-empty-region");
    let cases = [
        ("/aws/account", json!("999999999999"), "aws.account: the credentials belong to account \"123456789012\""),
        (
            "/vpc/azs/0",
            json!("us-west-2-lax-1a"),
            "vpc.azs[0]: us-west-2-lax-1a is a local-zone, where gateways are not supported",
        ),
        (
            "/vpc/azs/0",
            json!("us-west-2z"),
            "vpc.azs[0]: this account has no zone us-west-2z; it has us-west-2-lax-1a, us-west-2a, us-west-2b and us-west-2c",
        ),
        ("/aws/zone", json!("other.example.com."), "aws.zone: there is no hosted zone other.example.com. in Route 53"),
    ];
    for (pointer, change, expected) in cases {
        let document = read(&with(&value(HUB), pointer, change).to_string());
        let faults = decide(&document, &Default::default(), &seen).faults;
        let said: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.path, f.what)).collect();
        assert!(said.contains(&expected.to_owned()), "{said:#?}");
    }
}

#[test]
fn a_certificate_must_be_one_and_issued() {
    let document = read(EXAMPLE);
    let arn = |n: u8| format!("arn:aws:acm:us-west-2:123456789012:certificate/{n}");
    let acm = |issued| json!({ "names": ["wrathofchris-example-2014"], "issued": issued, "days_left": 300 });
    let cases = [
        (json!({}), "there is no certificate wrathofchris-example-2014, neither in IAM nor in ACM"),
        (json!({ arn(1): acm(false) }), "the certificate wrathofchris-example-2014 in ACM is not issued"),
        (
            json!({ arn(1): acm(true), arn(2): acm(true) }),
            "several certificates in ACM are called wrathofchris-example-2014: ",
        ),
        (json!({ arn(1): acm(true), arn(2): acm(false) }), ""),
    ];
    for (certificates, expected) in cases {
        let mut seen = region("example-empty-region");
        seen.certificates = serde_json::from_value(certificates).unwrap();
        let decision = decide(&document, &Default::default(), &seen);
        let faults = plan(&decision.desired, &seen, Options::default()).faults;
        match expected {
            "" => assert_eq!(faults, vec![]),
            expected => assert!(
                faults[0].what.starts_with(expected) && faults[0].path.to_string() == "elbs[0].listeners[1].cert",
                "{faults:?}"
            ),
        }
    }
}

#[test]
fn an_adoption_that_is_killed_anywhere_goes_on_where_it_was() {
    for (text, case) in [(HUB, "hub-of-2014"), (EXAMPLE, "example-of-2014")] {
        let document = read(text);
        let steps_of = plan_for(&document, &region(case)).steps;
        let mut whole = Region::new(region(case));
        whole.cast(&document);
        for cut in 0..steps_of.len() {
            let mut killed = Region::new(region(case));
            steps_of[..cut].iter().for_each(|step| killed.apply(step));
            killed.cast(&document);
            assert_eq!(steps(&plan_for(&document, &killed.seen)), Vec::<String>::new(), "{case}, {cut}");
            assert_eq!(killed.census(), whole.census(), "{case}, {cut}");
        }
    }
}

#[test]
fn what_another_cast_has_tagged_is_not_taken() {
    let tag = ("crosswan-cast".to_owned(), "dev/203.0.113.0/26".to_owned());
    let mut seen = region("hub-of-2014");
    seen.groups.get_mut("sg-000000a1").unwrap().tags.extend([tag.clone()]);
    let plan = plan_for(&read(HUB), &seen);
    assert!(
        plan.foreign.iter().any(|n| n.what == "sg-000000a1" && n.why.contains("belongs to the cast dev/")),
        "{plan}"
    );
    assert!(!steps(&plan).iter().any(|s| s.contains("sg-000000a1")), "{plan}");
    let mut seen = region("hub-empty-region");
    seen.addresses.get_mut("eipalloc-0000100a").unwrap().tags.extend([tag]);
    let plan = plan_for(&read(HUB), &seen);
    assert!(plan.foreign.iter().any(|n| n.what == "eipalloc-0000100a"), "{plan}");
    assert!(!steps(&plan).iter().any(|s| s.contains("eipalloc-0000100a")), "{plan}");
}

#[test]
fn an_address_that_somebody_uses_is_never_moved() {
    let mut region = cast(&read(CLIENT));
    let holder = region.seen.interfaces.keys().next().unwrap().clone();
    region.seen.addresses.get_mut("eipalloc-0000100a").unwrap().interface = Some(holder.clone());
    let plan = plan_for(&read(HUB), &region.seen);
    assert!(
        plan.foreign
            .iter()
            .any(|n| n.what == "198.51.100.100" && n.why.contains(&format!("is associated with {holder}"))),
        "{plan}"
    );
    assert!(!steps(&plan).iter().any(|s| s.starts_with("associate 198.51.100.100")), "{plan}");
}

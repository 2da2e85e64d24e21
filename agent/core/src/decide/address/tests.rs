//! Each rule about the Elastic IP, by name.

use super::*;
use crate::{
    model::{AskError, Identity, OwnInterface, OwnTags, OwnVpc, RouteTable, RouteTarget, Timestamp, VpcRoute},
    system::{Charon, ChildSa, Sa},
};

const POOL: &str =
    "mode = 'nat-vpn'\nprivate_net = ['10.0.0.0/8']\nregions = ['us-west-2']\naddress.tag = 'crosswan-address=a'";
const NAT: &str = "mode = 'nat-hub'\nprivate_net = ['10.0.0.0/8']\naddress.allocation = 'eipalloc-00000001'";

/// An address, and by whom it is held and whether that one has stopped.
fn ip(n: u8, holder: Option<(&str, bool)>) -> ElasticIp {
    ElasticIp {
        allocation: format!("eipalloc-{n:08x}").parse().unwrap(),
        address: Ipv4Addr::new(198, 51, 100, n),
        holder: holder.map(|(instance, stopped)| AddressHolder {
            association: format!("eipassoc-{n:08x}").parse().unwrap(),
            instance: instance.parse().ok(),
            private: Some("10.1.0.10".parse().unwrap()),
            stopped,
        }),
    }
}

fn observed(settings: &Settings, all: Result<Vec<ElasticIp>, AskError>) -> Observed {
    let me = Identity {
        instance: "i-000000ff".parse().unwrap(),
        region: "us-west-2".parse().unwrap(),
        vpc: "vpc-000000ff".parse().unwrap(),
        cidrs: ["10.1.0.0/16".parse().unwrap()].into(),
        private: "10.1.0.10".parse().unwrap(),
        public: Some("203.0.113.7".parse().unwrap()),
    };
    let mut observed = Observed::new(settings, me, "ens5".parse().unwrap(), Timestamp(1000));
    let interface = Some(OwnInterface {
        id: "eni-000000ff".parse().unwrap(),
        subnet: "subnet-000000ff".parse().unwrap(),
        launched: Timestamp(100),
    });
    observed.tags = Some(Ok(OwnTags { interface, ..OwnTags::default() }));
    observed.addresses = Some(all);
    observed
}

/// What becomes of the address, in words.
fn of(toml: &str, all: Vec<ElasticIp>, change: impl FnOnce(&mut Observed)) -> String {
    let settings = Settings::of_toml(toml);
    let mut observed = observed(&settings, Ok(all));
    change(&mut observed);
    match address(&settings, &observed) {
        OwnAddress::Take(take) => take.to_string(),
        OwnAddress::Is(is) => format!("{is:?}"),
        OwnAddress::Unasked => "unasked".into(),
    }
}

fn unchanged(_: &mut Observed) {}

fn routed(observed: &mut Observed) {
    let interface = Some("eni-000000ff".parse().unwrap());
    let route = VpcRoute { target: RouteTarget::Interface { interface, instance: None }, blackhole: false };
    let table = RouteTable { routes: [("0.0.0.0/0".parse().unwrap(), route)].into(), ..RouteTable::default() };
    observed.vpc = Some(Ok(OwnVpc { tables: [("rtb-00000001".parse().unwrap(), table)].into(), ..OwnVpc::default() }));
}

fn connected(observed: &mut Observed) {
    let children = vec![ChildSa { state: "INSTALLED".into(), ..ChildSa::default() }];
    let sas = vec![Sa { children, ..Sa::default() }];
    observed.system.charon = Some(Charon { sas, ..Charon::default() });
}

#[test]
fn a_free_address_comes_before_that_of_an_instance_that_has_stopped() {
    let all = vec![ip(1, Some(("i-0000000a", true))), ip(2, None), ip(3, Some(("i-0000000b", false)))];
    let words = "take the Elastic IP 198.51.100.2 (eipalloc-00000002) or 198.51.100.1 (eipalloc-00000001) instead of 203.0.113.7";
    assert_eq!(of(POOL, all.clone(), unchanged), words);
    let settings = Settings::of_toml(POOL);
    let OwnAddress::Take(take) = address(&settings, &observed(&settings, Ok(all))) else { panic!("not taken") };
    assert!(take.needs_charon && take.candidates[0].left.is_none());
    assert_eq!(take.candidates[1].left, "eipassoc-00000001".parse().ok(), "which has to end before");
}

#[test]
fn what_a_running_instance_or_anything_else_has_is_never_taken() {
    let words = of(NAT, vec![ip(1, Some(("i-0000000a", false)))], unchanged);
    assert!(words.contains("Waits") && words.contains("eipalloc-00000001 is associated with i-0000000a, which runs"));
    let words = of(NAT, vec![ip(1, Some(("a NAT gateway", false)))], unchanged);
    assert!(words.contains("Waits") && words.contains("something that is no instance"), "{words}");
    let words = of(NAT, vec![], unchanged);
    assert!(words.contains("this account does not have the Elastic IP eipalloc-00000001 in us-west-2"), "{words}");
}

#[test]
fn the_own_address_is_there_once_imds_shows_it_too() {
    let own = || vec![ip(1, None), ip(2, Some(("i-000000ff", false)))];
    let words = of(POOL, own(), |observed| observed.me.public = Some(Ipv4Addr::new(198, 51, 100, 2)));
    assert_eq!(words, format!("{:?}", AddressIs::Here("eipalloc-00000002".parse().unwrap())));
    assert!(of(POOL, own(), unchanged).contains("IMDS does not show it yet"));
    // It may be on a further private address of this instance: by that one nobody finds it.
    let elsewhere = |observed: &mut Observed| observed.me.private = "10.1.0.11".parse().unwrap();
    assert!(of(POOL, own(), elsewhere).contains("take the Elastic IP 198.51.100.1 "));
}

#[test]
fn a_gateway_in_use_keeps_the_address_that_it_has() {
    for in_use in [routed as fn(&mut Observed), connected] {
        let words = of(POOL, vec![ip(1, None)], in_use);
        assert!(words.contains("Kept") && words.contains("is in use with 203.0.113.7"), "{words}");
        assert!(of(POOL, vec![], in_use).contains("Kept"), "whether there is one or not");
    }
}

#[test]
fn nothing_follows_from_an_ec2_that_does_not_answer() {
    let settings = Settings::of_toml(POOL);
    let failed = || Err(AskError::NoCredentialSource);
    let fresh = address(&settings, &observed(&settings, failed()));
    assert!(matches!(fresh, OwnAddress::Is(AddressIs::Waits(_))), "{fresh:?}");
    let mut works = observed(&settings, failed());
    routed(&mut works);
    assert!(!address(&settings, &works).is_awaited());
    let unasked = Settings::of_toml("mode = 'nat-hub'\nprivate_net = ['10.0.0.0/8']");
    let mut nothing = observed(&unasked, Ok(vec![ip(1, None)]));
    nothing.addresses = None;
    assert!(!address(&unasked, &nothing).is_awaited());
}

#[test]
fn routes_wait_for_it_and_those_that_lead_here_stay() {
    let settings = Settings::of_toml(NAT);
    let decided = |change: fn(&mut Observed)| {
        let mut observed = observed(&settings, Ok(vec![ip(1, Some(("i-0000000a", false)))]));
        let table = RouteTable::default();
        observed.vpc =
            Some(Ok(OwnVpc { tables: [("rtb-00000001".parse().unwrap(), table)].into(), ..OwnVpc::default() }));
        change(&mut observed);
        let waits = address(&settings, &observed).awaited();
        let routes = super::super::vpc_routes(&settings, &observed, waits);
        assert!(routes.take.is_empty());
        format!("{:?}", routes.are)
    };
    let words = decided(unchanged);
    assert!(words.contains("Waits(\"this gateway's Elastic IP comes first\")"), "{words}");
    assert!(decided(routed).contains("Here"));
}

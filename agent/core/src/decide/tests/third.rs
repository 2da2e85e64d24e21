//! Which two of three or more gateways are the pair, and what the others do.

use crate::{
    decide::{
        RouteIs,
        beside::{beside, note},
        pair::{members, standing},
        third::Standing,
        vpc_routes,
    },
    model::{
        AskError, Holder, Identity, InstanceId, InterfaceId, KeyTags, Member, Mode, Neighbour, OwnInterface, OwnTags,
        OwnVpc, RouteTable, RouteTarget, Timestamp, VpcId, VpcRoute,
        private_key::tests::{holder, key_pair},
    },
    observed::Observed,
    pair::{Beside, Members},
    settings::Settings,
};

const SETTINGS: &str = "mode = 'nat-hub'\nprivate_net = ['10.0.0.0/8']\npair.enabled = true";

/// A gateway of the VPC as EC2 shows it.
#[derive(Debug, Clone, Copy)]
struct Shown {
    n: u32,
    launched: i64,
    announced: bool,
    /// Whether the default route of a table of its own leads to it.
    holds: bool,
    /// For whom it has made way.
    left: Option<u32>,
    zone: Option<char>,
    /// Whose place it asks for.
    asks: Option<u32>,
}

fn shown(n: u32, launched: i64, holds: bool) -> Shown {
    Shown { n, launched, announced: true, holds, left: None, zone: None, asks: None }
}

fn vpc() -> VpcId {
    holder(1).0
}

fn id(n: u32) -> InstanceId {
    holder(n).1
}

fn interface(n: u32) -> InterfaceId {
    format!("eni-{n:08x}").parse().unwrap()
}

/// What gateway `n` sees, where EC2 shows all these.
fn seen(n: u32, all: &[Shown]) -> Observed {
    let settings = Settings::of_toml(SETTINGS);
    let me = Identity {
        instance: id(n),
        region: "us-west-2".parse().unwrap(),
        vpc: vpc(),
        cidrs: ["10.1.0.0/16".parse().unwrap()].into(),
        private: [10, 1, 0, 4].into(),
        public: None,
    };
    let mut observed = Observed::new(&settings, me, "ens5".parse().unwrap(), Timestamp(10_000));
    let key = |of: &Shown| {
        let proven =
            key_pair(of.n as u8).proven_in(Mode::NatHub, &Holder { vpc: &vpc(), instance: &id(of.n) }).unwrap();
        of.announced.then(|| proven.to_string())
    };
    let own = all.iter().find(|shown| shown.n == n).unwrap();
    let subnet = "subnet-00000001".parse().unwrap();
    let place = OwnInterface { id: interface(n), subnet, launched: Timestamp(own.launched) };
    let left = |of: &Shown| {
        let (vpc, instance) = (vpc(), id(of.n));
        let signed = |heir| key_pair(of.n as u8).makes_way(id(heir), &Holder { vpc: &vpc, instance: &instance });
        of.left.map(|heir| signed(heir).unwrap().to_string())
    };
    let asks = |of: &Shown| {
        let (vpc, instance) = (vpc(), id(of.n));
        let signed = |old| key_pair(of.n as u8).takes_place(id(old), &Holder { vpc: &vpc, instance: &instance });
        of.asks.map(|old| signed(old).unwrap().to_string())
    };
    let zone = |of: &Shown| of.zone.map(|zone| format!("us-west-2{zone}").parse().unwrap());
    let tags = OwnTags {
        key: key(own),
        makes_way: left(own),
        takes_place: asks(own),
        interface: Some(place),
        ..OwnTags::default()
    };
    observed.tags = Some(Ok(tags));
    let member = |of: &Shown| {
        let tags = KeyTags::of(key(of).as_deref(), None).with_claims(left(of).as_deref(), asks(of).as_deref());
        let address = [10, 1, 0, of.n as u8].into();
        let (interface, launched) = (interface(of.n), Timestamp(of.launched));
        (id(of.n), Member { address, interface, zone: zone(of), launched, tags })
    };
    let table = |of: &Shown| {
        let target = RouteTarget::Interface { interface: Some(interface(of.n)), instance: Some(id(of.n)) };
        let routes = [(ipnet::Ipv4Net::default(), VpcRoute { target, blackhole: false })].into();
        (format!("rtb-{:08x}", of.n).parse().unwrap(), RouteTable { routes, ..RouteTable::default() })
    };
    observed.vpc = Some(Ok(OwnVpc {
        members: Some(all.iter().filter(|shown| shown.n != n).map(member).collect()),
        tables: all.iter().filter(|shown| shown.holds).map(table).collect(),
        zone: zone(own),
        ..OwnVpc::default()
    }));
    observed
}

/// The members, as gateway `n` has them.
fn pair(n: u32, all: &[Shown]) -> Result<Members, Option<String>> {
    members(&Settings::of_toml(SETTINGS), &seen(n, all))
}

/// The two that are the pair, by the word of each of them.
fn two(all: &[Shown]) -> Vec<u32> {
    let is_one = |n: &u32| pair(*n, all).is_ok();
    all.iter().map(|shown| shown.n).filter(is_one).collect()
}

#[test]
fn whatever_ec2_shows_all_name_the_same_two_and_these_two_name_each_other() {
    for case in 0..16_u32.pow(3) {
        let of = |n: u32| {
            let bits = case >> (4 * (n - 1)) & 15;
            // Each for the next one, and so all in a circle.
            let left = (bits & 8 > 0).then_some(n % 3 + 1);
            let asks = Some(n % 3 + 1);
            Shown { launched: (bits & 1).into(), announced: bits & 2 > 0, left, asks, ..shown(n, 0, bits & 4 > 0) }
        };
        let all = [of(1), of(2), of(3)];
        let settings = Settings::of_toml(SETTINGS);
        let mut said = all.map(|of| {
            let observed = seen(of.n, &all);
            let Some(Ok(vpc)) = &observed.vpc else { panic!("no VPC") };
            let mut two = match standing(&settings, &observed, vpc, observed.own_interface().unwrap()).0 {
                Standing::Alone => panic!("{all:?}"),
                Standing::With(other, _) => [id(of.n), other.clone()],
                Standing::Waits(waits) => waits.beside.map(Clone::clone),
            };
            two.sort();
            (of.n, two)
        });
        said.sort();
        assert!(said.iter().all(|(_, two)| *two == said[0].1), "{all:?}: {said:?}");
    }
}

#[test]
fn a_newcomer_displaces_nobody_and_is_a_member_when_another_is_gone() {
    for leads in [[true, false], [false, true], [true, true], [false, false]] {
        let [one, other] = [shown(1, 100, leads[0]), shown(2, 200, leads[1])];
        let third = shown(3, 300, false);
        assert_eq!(two(&[one, other, third]), [1, 2], "{leads:?}");
        assert_eq!(pair(1, &[one, other, third]).unwrap().other.instance, id(2));
        assert_eq!(two(&[other, third]), [2, 3]);
        assert_eq!(two(&[one, third]), [1, 3]);
        // A fourth waits behind it.
        assert_eq!(two(&[one, other, third, shown(4, 400, false)]), [1, 2]);
        assert_eq!(two(&[other, third, shown(4, 400, false)]), [2, 3]);
    }
}

#[test]
fn one_that_has_handed_over_and_made_way_is_no_member_as_long_as_its_heir_is_there() {
    let left = Shown { left: Some(3), ..shown(1, 100, false) };
    let (other, heir) = (shown(2, 200, true), shown(3, 300, false));
    assert_eq!(two(&[left, other, heir]), [2, 3]);
    let pair_of = |n| pair(n, &[left, other, heir]).unwrap();
    assert_eq!((pair_of(2).other.instance, pair_of(3).other.instance), (id(3), id(2)));
    assert!(pair_of(2).waiting.is_empty(), "nobody waits for a place");
    let settings = Settings::of_toml(SETTINGS);
    let said = beside(&settings, &seen(1, &[left, other, heir])).unwrap();
    assert_eq!((&said.beside, &said.made_way), (&[id(2), id(3)], &Some(id(3))));
    let why = pair(1, &[left, other, heir]).unwrap_err().unwrap();
    assert!(why.contains(&format!("this gateway has made way for {}: end this one, or", id(3))), "{why}");
    let said = note(&settings, &seen(2, &[left, other, heir])).unwrap();
    assert!(said.starts_with(&format!("{} has made way for {}", id(1), id(3))), "{said}");

    // Nothing is lost where the heir is gone, has no key yet, or is the gateway itself; and no tag moves a route.
    assert_eq!(two(&[left, other]), [1, 2]);
    assert_eq!(two(&[left, other, Shown { announced: false, ..heir }]), [1, 2]);
    assert_eq!(two(&[Shown { left: Some(1), ..left }, other, heir]), [1, 2]);
    assert_eq!(two(&[Shown { holds: true, ..left }, other, heir]), [1, 2]);
    // The next one has a place before the one that has left, and that one has it again where nobody else is there.
    assert_eq!(
        two(&[
            left,
            Shown { left: Some(4), ..shown(2, 200, false) },
            Shown { holds: true, ..heir },
            shown(4, 400, false)
        ]),
        [3, 4]
    );
    assert_eq!(two(&[left, Shown { holds: true, ..heir }]), [1, 3]);
}

#[test]
fn a_newcomer_asks_the_older_member_in_its_zone_for_its_place_and_that_one_alone_gives_it() {
    let of = |n, zone| Shown { zone: Some(zone), ..shown(n, i64::from(n) * 100, n == 1) };
    let said = |all: &[Shown]| {
        let last = all.last().unwrap().n;
        beside(&Settings::of_toml(SETTINGS), &seen(last, all)).unwrap().asks_for
    };
    let report = |n, all: &[Shown]| pair(n, all).unwrap_err().unwrap();
    for (zones, replaces) in [("aba", Some(1)), ("bab", Some(1)), ("abb", Some(2)), ("aaa", Some(1)), ("abc", None)] {
        let mut zones = zones.chars();
        let mut all = [1, 2, 3].map(|n| of(n, zones.next().unwrap()));
        assert_eq!(said(&all), replaces.map(id), "{all:?}");
        let Some(old) = replaces else {
            assert!(report(3, &all).ends_with("run crosswan handover --make-way there"));
            continue;
        };
        assert!(report(3, &all).contains(&format!("it asks {}, the older one in its zone", id(old))));
        let asked_by = |n, all: &[Shown]| pair(n, all).unwrap().asked_by.map(|newcomer| newcomer.instance);
        assert_eq!([1, 2].map(|n| asked_by(n, &all)), [None, None], "it has yet to show that it works");
        all[2].asks = Some(old);
        assert_eq!(said(&all), None, "EC2 shows it");
        assert!(report(3, &all).contains(&format!("it has asked {} for its place", id(old))));
        assert_eq!([1, 2].map(|n| asked_by(n, &all)), [1, 2].map(|n| (n == old).then(|| id(3))));
        assert_eq!(pair(old, &all).unwrap().asked_by.unwrap().address.octets(), [10, 1, 0, 3], "whose kernel is asked");
        let words = note(&Settings::of_toml(SETTINGS), &seen(3 - old, &all)).unwrap();
        assert!(words.ends_with(&format!("works, and asks for {}'s place", id(old))), "{words}");
        assert!(note(&Settings::of_toml(SETTINGS), &seen(old, &all)).unwrap().ends_with("for this gateway's place"));
        // By its key alone, and nobody beside the next one: two that hand over at once have nobody to hand over to.
        let behind = Shown { asks: Some(3 - old), ..of(4, 'a') };
        assert_eq!([1, 2].map(|n| asked_by(n, &[all[0], all[1], all[2], behind])).iter().flatten().count(), 1);
        assert_eq!(asked_by(old, &[all[0], all[1], Shown { announced: false, ..all[2] }]), None);
        // One that has made way asks for nothing, whatever it asked for before.
        let (mut heir, mut left) = (all[2], all[old as usize - 1]);
        (heir.holds, left.holds, left.left, left.asks) = (true, false, Some(3), Some(3));
        assert_eq!(said(&[all[2 - old as usize], heir, left]), None);
        assert_eq!(pair(3, &[all[2 - old as usize], heir, left]).unwrap().asked_by, None);
    }
    let waits = Settings::of_toml(&format!("{SETTINGS}\npair.newcomer_replaces = false"));
    let all = [of(1, 'a'), of(2, 'b'), Shown { asks: Some(1), ..of(3, 'a') }];
    assert_eq!(beside(&waits, &seen(3, &[all[0], all[1], of(3, 'a')])).unwrap().asks_for, None);
    assert_eq!(members(&waits, &seen(1, &all)).unwrap().asked_by, None);
}

#[test]
fn neither_an_older_one_that_carries_nothing_nor_one_without_a_key_ends_a_pair() {
    let active = [shown(2, 200, true), shown(3, 300, true)];
    let with = |other: Shown| two(&[active[0], active[1], other]);
    assert_eq!(with(shown(1, 100, false)), [2, 3], "an older one that has its key late");
    let tag_alone = Shown { announced: false, ..shown(1, 100, false) };
    assert_eq!(with(tag_alone), [2, 3]);
    assert_eq!(with(Shown { holds: true, ..tag_alone }), [2, 3]);
    // One that stands by is a member by its age.
    assert_eq!(two(&[shown(2, 200, true), shown(3, 300, false), tag_alone]), [2, 3]);
}

#[test]
fn what_the_members_and_the_one_that_waits_report_names_all_three() {
    let all = [shown(1, 100, true), shown(2, 200, false), shown(3, 300, false)];
    let why = pair(3, &all).unwrap_err().unwrap();
    assert!(why.starts_with(&format!("{} and {} are the pair, and this gateway waits", id(1), id(2))), "{why}");
    let settings = Settings::of_toml(SETTINGS);
    let said = note(&settings, &seen(2, &all)).unwrap();
    assert!(said.starts_with(&format!("{} waits beside the pair of this gateway and {}", id(3), id(1))), "{said}");
    assert_eq!(pair(2, &all).unwrap().waiting, [id(3)], "crosswan pair asks for passes");
    assert!(pair(2, &all[..2]).unwrap().waiting.is_empty());
    let keyless = Shown { announced: false, ..all[2] };
    assert!(pair(2, &[all[0], all[1], keyless]).unwrap().waiting.is_empty(), "nobody can make way for it");
    assert_eq!(note(&settings, &seen(3, &all)), None);
    assert_eq!(note(&settings, &seen(1, &all[..2])), None, "two have nobody beside them");
}

#[test]
fn whom_it_waits_beside_is_written_down_and_stays_so_while_ec2_does_not_answer() {
    let all = [shown(1, 100, true), shown(2, 200, false), shown(3, 300, false)];
    let settings = Settings::of_toml(SETTINGS);
    let said = beside(&settings, &seen(3, &all)).unwrap();
    assert_eq!((&said.beside, &said.me.instance, said.destinations.len()), (&[id(1), id(2)], &id(3), 1));
    assert_eq!(Beside::parse(&said.text()), Some(said.clone()));
    let of_a_member = pair(1, &all).unwrap().text();
    assert!(
        Members::parse(&said.text()).is_none() && Beside::parse(&of_a_member).is_none(),
        "nobody takes one for the other"
    );
    assert_eq!(beside(&settings, &seen(1, &all)), None);
    let mut silent = seen(3, &all);
    silent.vpc = Some(Err(AskError::NoCredentialSource));
    assert_eq!(beside(&settings, &silent), None);
    silent.system.files.pair = Some(said.text());
    assert_eq!(beside(&settings, &silent), Some(said));
    assert_eq!(members(&settings, &silent), Err(None));
    // A file that came with an image is another gateway's.
    silent.me.instance = id(7);
    assert_eq!(beside(&settings, &silent), None);
}

#[test]
fn one_that_waits_takes_no_route_from_a_member_and_none_that_leads_nowhere() {
    let all = [shown(1, 100, true), shown(2, 200, false), shown(3, 300, false)];
    let settings = Settings::of_toml(SETTINGS);
    let routes = |n: u32| {
        let mut observed = seen(n, &all);
        let Some(Ok(vpc)) = &mut observed.vpc else { panic!("no VPC") };
        vpc.tables.insert("rtb-0000000f".parse().unwrap(), RouteTable::default());
        let is = Neighbour { running: true, launched: Timestamp(100), same_mode: true };
        vpc.neighbours = [(id(1), is)].into();
        vpc_routes::vpc_routes(&settings, &observed, None)
    };
    let waits = routes(3);
    assert!(waits.take.is_empty(), "{:?}", waits.take);
    let words: Vec<_> = waits.are.values().cloned().collect();
    let [RouteIs::Member(member), RouteIs::Waits(nowhere)] = &words[..] else { panic!("{words:?}") };
    assert!(member.contains(&format!("leads to {}, a member of the pair", id(1))), "{member}");
    assert!(nowhere.contains("this gateway waits beside them"), "{nowhere}");
    assert_eq!(routes(2).take.len(), 1, "a member takes it");
}

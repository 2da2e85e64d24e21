//! Interfaces, policy rules and routes: the part of the kernel that leads packets into tunnels.
//!
//! The text of [`Routing`] is what `ip -force -batch` reads, and it parses back into the same value. In the kernel crosswan's rules
//! and routes have a protocol number of their own, [`PROTOCOL`]; everything else is foreign and left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::model::{Place, Realm};

/// The number of the routing table that holds the private network.
pub const TABLE: u32 = 7105;
/// The protocol number (`rtm_protocol`) of crosswan's routes and rules. 192 to 252 are unassigned in Linux's
/// `rtnetlink.h` and in iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 205;
/// The metric of the backstops: every other route to the same network has a better one.
pub const BACKSTOP_METRIC: u32 = 9999;
/// The address of a place's interface, where it has one: 127.71.5.1, .2 or .3, of scope `host`, which no packet ever bears. The kernel tells
/// the realm of a packet's source only at an interface with an address, unless the source's route leads back there: without one,
/// packets by the other of two tunnels would have none (`docs/facts.md`, "Realms").
const ADDRESS: [u8; 3] = [127, 71, 5];
/// The priority of the rules for what is reached by the main table.
const TO_MAIN: u32 = 7104;
/// The priority of the rules for the private network.
const TO_TUNNELS: u32 = 7105;

/// What leads packets into tunnels: what should be, or what is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// The places whose interface exists as it should: an XFRM interface with the place's `if_id`, up.
    pub interfaces: BTreeSet<Place>,
    /// The places whose interface has [`address_of`] it: at least all of them where routes have realms.
    pub addresses: BTreeSet<Place>,
    /// The policy rules.
    pub rules: BTreeSet<Rule>,
    /// The networks that are unreachable where no route of [`TABLE`] leads to them.
    pub backstops: BTreeSet<Ipv4Net>,
    /// The routes of [`TABLE`] into tunnels.
    pub routes: BTreeMap<Ipv4Net, Via>,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The place whose interface it leads to.
    pub place: Place,
    /// The source address of this gateway's own packets. Without it they would have the address of the uplink's primary network,
    /// which need not be one that the tunnel accepts.
    pub source: Ipv4Addr,
    /// The realm of the VPC's segment, by which rules tell packets to and from it; `None` where there are no segments.
    pub realm: Option<Realm>,
}

/// The address of a place's interface, with which the kernel tells the realm of all packets that come from there.
pub fn address_of(place: Place) -> Ipv4Addr {
    let [a, b, c] = ADDRESS;
    Ipv4Addr::new(a, b, c, place.if_id() as u8)
}

/// A policy rule. It matches packets that fit everything that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Rules are tried from the lowest number.
    pub priority: u32,
    /// The network of the source.
    pub from: Option<Ipv4Net>,
    /// The network of the destination.
    pub to: Option<Ipv4Net>,
    /// Whether it matches only this gateway's own packets (`iif lo`).
    pub own_packets: bool,
    /// The table that is looked up. If it has no route, the next rule is tried.
    pub table: Table,
}

/// A routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// The main table, which DHCP fills.
    Main,
    /// crosswan's, [`TABLE`].
    Tunnels,
}

/// One change on the way from one [`Routing`] to another. Each is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutingChange {
    /// Creates the interface of a place if there is none, and sets it up.
    MakeInterface(Place),
    /// Deletes the interface of a place.
    DeleteInterface(Place),
    /// Gives the interface of a place [`address_of`] it. Nothing takes it away but the interface's end: with its last address the kernel
    /// would remove all routes into it (`docs/facts.md`, "Realms").
    AddAddress(Place),
    /// Makes a network unreachable where no route leads to it.
    AddBackstop(Ipv4Net),
    /// Removes a backstop.
    RemoveBackstop(Ipv4Net),
    /// Makes a route, in place of one to the same network.
    SetRoute(Ipv4Net, Via),
    /// Removes the route to a network.
    RemoveRoute(Ipv4Net),
    /// Adds a policy rule.
    AddRule(Rule),
    /// Removes a policy rule.
    RemoveRule(Rule),
}

impl Routing {
    /// The routing of a gateway with tunnels. `own` are its VPC's CIDRs, `private_net` is what tunnels lead to, `exclude` what this
    /// gateway itself reaches in the clear, `source` its private address, and `routes` the networks with the places that carry them.
    pub(crate) fn of(
        own: &BTreeSet<Ipv4Net>,
        private_net: &BTreeSet<Ipv4Net>,
        exclude: &BTreeSet<Ipv4Net>,
        source: Ipv4Addr,
        routes: &BTreeMap<Ipv4Net, Place>,
    ) -> Routing {
        let to_main = Rule { priority: TO_MAIN, from: None, to: None, own_packets: false, table: Table::Main };
        let to_tunnels = Rule { priority: TO_TUNNELS, table: Table::Tunnels, ..to_main };
        let trunc = |net: &Ipv4Net| Some(net.trunc());
        let own = own.iter().map(|net| Rule { to: trunc(net), ..to_main });
        let exclude = exclude.iter().map(|net| Rule { to: trunc(net), own_packets: true, ..to_main });
        // By source and not by destination: the answers to a flow from `nat.sources` come from the internet and go to a network that
        // may lie inside the private one, in the clear.
        let private = private_net.iter().map(|net| Rule { from: trunc(net), ..to_tunnels });
        // This gateway's own packets have no source yet when their route is looked up.
        let mine = [Rule { own_packets: true, ..to_tunnels }];
        Routing {
            interfaces: Place::FAR_ENDS.into(),
            addresses: BTreeSet::new(),
            rules: own.chain(exclude).chain(private).chain(mine).collect(),
            backstops: private_net.iter().map(Ipv4Net::trunc).collect(),
            routes: routes
                .iter()
                .map(|(net, place)| (net.trunc(), Via { place: *place, source, realm: None }))
                .collect(),
        }
    }

    /// The same with an interface for the tunnel to the other hub, if there `is` one.
    pub(crate) fn across(mut self, is: bool) -> Routing {
        self.interfaces.extend(is.then_some(Place::Across));
        self
    }

    /// The same with realms: each route has that of its network.
    pub(crate) fn in_realms(mut self, of: impl Fn(&Ipv4Net) -> Realm) -> Routing {
        self.addresses = self.interfaces.clone();
        for (net, via) in &mut self.routes {
            via.realm = Some(of(net));
        }
        self
    }

    /// Whether there is nothing, as on a gateway without tunnels.
    pub fn is_empty(&self) -> bool {
        *self == Routing::default()
    }

    /// How much there is, for an operator: `cw1, cw2, 5 policy rules, 3 routes`.
    pub fn summary(&self) -> String {
        let interfaces = self.interfaces.iter().map(|place| place.interface().to_owned());
        let counts = [(self.rules.len(), "policy rules"), (self.routes.len(), "routes")];
        let counts = counts.map(|(count, what)| format!("{count} {what}"));
        interfaces.chain(counts).collect::<Vec<_>>().join(", ")
    }

    /// Reads the text of [`Routing`]. Lines that it does not know are left out.
    pub fn parse(text: &str) -> Routing {
        let mut out = Routing::default();
        for line in text.lines() {
            out.read(line);
        }
        out
    }

    fn read(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = |name: &str| Place::ALL.into_iter().find(|place| place.interface() == name);
        match words[..] {
            ["link", "set", name, "up"] => drop(self.interfaces.insert(place(name)?)),
            ["addr", "replace", _, "dev", name, ..] => drop(self.addresses.insert(place(name)?)),
            ["route", "replace", "unreachable", net, ..] => drop(self.backstops.insert(net.parse().ok()?)),
            ["route", "replace", net, "dev", name, "src", source, ref more @ ..] => {
                let realm = match more {
                    ["realm", number, ..] => {
                        Some(Realm::new(u32::from_str_radix(number.strip_prefix("0x")?, 16).ok()?)?)
                    }
                    _ => None,
                };
                let via = Via { place: place(name)?, source: source.parse().ok()?, realm };
                self.routes.insert(net.parse().ok()?, via);
            }
            ["rule", "add", "pref", priority, ref selector @ .., "lookup", table, "protocol", _] => {
                let own_packets = selector.starts_with(&["iif", "lo"]);
                let (from, to) = match selector[if own_packets { 2 } else { 0 }..] {
                    [] => (None, None),
                    ["from", net] => (Some(net.parse().ok()?), None),
                    ["to", net] => (None, Some(net.parse().ok()?)),
                    _ => return None,
                };
                let table = if table == "main" { Table::Main } else { Table::Tunnels };
                self.rules.insert(Rule { priority: priority.parse().ok()?, from, to, own_packets, table });
            }
            _ => {}
        }
        Some(())
    }

    /// The changes that make `current` what `self` is, in order: first all that add something, then all that take something away. A
    /// table is complete before a rule leads to it.
    pub fn changes_from(&self, current: &Routing) -> Vec<RoutingChange> {
        use RoutingChange::*;
        fn new<'a, T: Ord>(want: &'a BTreeSet<T>, have: &'a BTreeSet<T>) -> impl Iterator<Item = &'a T> {
            want.difference(have)
        }
        let moved = self.routes.iter().filter(|(net, via)| current.routes.get(net) != Some(via));
        let gone = current.routes.keys().filter(|net| !self.routes.contains_key(net));
        let adding = new(&self.interfaces, &current.interfaces).map(|place| MakeInterface(*place));
        let adding = adding.chain(new(&self.addresses, &current.addresses).map(|place| AddAddress(*place)));
        let adding = adding.chain(new(&self.backstops, &current.backstops).map(|net| AddBackstop(*net)));
        let adding = adding.chain(moved.map(|(net, via)| SetRoute(*net, *via)));
        let adding = adding.chain(new(&self.rules, &current.rules).map(|rule| AddRule(*rule)));
        let taking = new(&current.rules, &self.rules).map(|rule| RemoveRule(*rule));
        let taking = taking.chain(gone.map(|net| RemoveRoute(*net)));
        let taking = taking.chain(new(&current.backstops, &self.backstops).map(|net| RemoveBackstop(*net)));
        let taking = taking.chain(new(&current.interfaces, &self.interfaces).map(|place| DeleteInterface(*place)));
        adding.chain(taking).collect()
    }
}

impl RoutingChange {
    /// Whether it takes something away.
    pub fn takes_away(&self) -> bool {
        use RoutingChange::*;
        matches!(self, DeleteInterface(_) | RemoveBackstop(_) | RemoveRoute(_) | RemoveRule(_))
    }
}

impl fmt::Display for Routing {
    /// A batch for `ip -force -batch`, a line for each thing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in &self.interfaces {
            let (name, if_id) = (place.interface(), place.if_id());
            writeln!(f, "link add {name} type xfrm if_id {if_id}\nlink set {name} up")?;
        }
        for place in &self.addresses {
            writeln!(f, "addr replace {}/32 dev {} scope host", address_of(*place), place.interface())?;
        }
        for net in &self.backstops {
            writeln!(f, "route replace unreachable {net} metric {BACKSTOP_METRIC} table {TABLE} proto {PROTOCOL}")?;
        }
        for (net, via) in &self.routes {
            writeln!(f, "route replace {net} {via} table {TABLE} proto {PROTOCOL}")?;
        }
        for rule in &self.rules {
            writeln!(f, "rule add {rule} protocol {PROTOCOL}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dev {} src {}", self.place.interface(), self.source)?;
        self.realm.map_or(Ok(()), |realm| write!(f, " realm {realm}"))
    }
}

impl fmt::Display for Rule {
    /// As `ip rule` prints and reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pref {}", self.priority)?;
        if self.own_packets {
            f.write_str(" iif lo")?;
        }
        for (word, net) in [("from", self.from), ("to", self.to)] {
            if let Some(net) = net {
                write!(f, " {word} {net}")?;
            }
        }
        match self.table {
            Table::Main => f.write_str(" lookup main"),
            Table::Tunnels => write!(f, " lookup {TABLE}"),
        }
    }
}

impl fmt::Display for RoutingChange {
    /// What an operator reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use RoutingChange::*;
        match self {
            MakeInterface(place) => write!(f, "make interface {}", place.interface()),
            DeleteInterface(place) => write!(f, "delete interface {}", place.interface()),
            AddAddress(place) => write!(f, "give interface {} the address {}", place.interface(), address_of(*place)),
            AddBackstop(net) => write!(f, "make {net} unreachable where no tunnel leads to it"),
            RemoveBackstop(net) => write!(f, "remove the backstop of {net}"),
            SetRoute(net, via) => write!(f, "route {net} {via}"),
            RemoveRoute(net) => write!(f, "remove the route to {net}"),
            AddRule(rule) => write!(f, "add rule {rule}"),
            RemoveRule(rule) => write!(f, "remove rule {rule}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> BTreeSet<Ipv4Net> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    fn routing(routes: &[(&str, Place)]) -> Routing {
        let routes = routes.iter().map(|(net, place)| (net.parse().unwrap(), *place)).collect();
        let source = Ipv4Addr::new(10, 0, 0, 10);
        Routing::of(&nets("10.0.0.0/16"), &nets("10.0.0.0/8 172.16.0.0/12"), &nets("10.9.0.0/16"), source, &routes)
    }

    #[test]
    fn the_text_is_a_batch_for_ip_and_reads_back() {
        let routing = routing(&[("10.1.0.0/16", Place::One), ("10.2.0.0/16", Place::Two)]);
        let text = routing.to_string();
        let expected = "link add cw1 type xfrm if_id 1\nlink set cw1 up\nlink add cw2 type xfrm if_id 2\nlink set cw2 up\n\
            route replace unreachable 10.0.0.0/8 metric 9999 table 7105 proto 205\n\
            route replace unreachable 172.16.0.0/12 metric 9999 table 7105 proto 205\n\
            route replace 10.1.0.0/16 dev cw1 src 10.0.0.10 table 7105 proto 205\n\
            route replace 10.2.0.0/16 dev cw2 src 10.0.0.10 table 7105 proto 205\n\
            rule add pref 7104 to 10.0.0.0/16 lookup main protocol 205\n\
            rule add pref 7104 iif lo to 10.9.0.0/16 lookup main protocol 205\n\
            rule add pref 7105 iif lo lookup 7105 protocol 205\n\
            rule add pref 7105 from 10.0.0.0/8 lookup 7105 protocol 205\n\
            rule add pref 7105 from 172.16.0.0/12 lookup 7105 protocol 205\n";
        assert_eq!(text, expected);
        assert_eq!(Routing::parse(&text), routing);
        assert_eq!(
            Routing::parse("# a comment\nroute replace 10.1.0.0/16 dev eth0\nrule add\nlink"),
            Routing::default()
        );
    }

    #[test]
    fn realms_are_in_the_text_and_a_route_with_another_one_is_a_difference() {
        let plain = routing(&[("10.1.0.0/16", Place::One), ("10.2.0.0/16", Place::Two)]);
        let of = |one: u32, two: u32| {
            let plain = plain.clone();
            plain.in_realms(|net| Realm::new(if net.addr().octets()[1] == 1 { one } else { two }).unwrap())
        };
        let routing = of(0x1a2b, 7);
        let text = routing.to_string();
        for line in [
            "addr replace 127.71.5.1/32 dev cw1 scope host\naddr replace 127.71.5.2/32 dev cw2 scope host\nroute",
            "route replace 10.1.0.0/16 dev cw1 src 10.0.0.10 realm 0x1a2b table 7105 proto 205\n",
            "route replace 10.2.0.0/16 dev cw2 src 10.0.0.10 realm 0x7 table 7105 proto 205\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(Routing::parse(&text), routing);
        let shown = |changes: Vec<RoutingChange>| changes.iter().map(RoutingChange::to_string).collect::<Vec<_>>();
        assert_eq!(shown(routing.changes_from(&of(0x1a2b, 8))), ["route 10.2.0.0/16 dev cw2 src 10.0.0.10 realm 0x7"]);
        assert_eq!(
            shown(plain.changes_from(&routing)),
            ["route 10.1.0.0/16 dev cw1 src 10.0.0.10", "route 10.2.0.0/16 dev cw2 src 10.0.0.10"],
            "an address stays, or the routes would go with it"
        );
        let on = shown(routing.changes_from(&plain));
        assert_eq!(on[..2], ["give interface cw1 the address 127.71.5.1", "give interface cw2 the address 127.71.5.2"]);
        assert_eq!(Routing::parse("route replace 10.1.0.0/16 dev cw1 src 10.0.0.10 realm 0x0"), Routing::default());
    }

    #[test]
    fn a_move_is_one_change_and_what_goes_comes_last() {
        let before = routing(&[("10.1.0.0/16", Place::One), ("10.2.0.0/16", Place::One)]);
        let after = routing(&[("10.1.0.0/16", Place::Two), ("10.3.0.0/16", Place::One)]);
        let shown = |changes: Vec<RoutingChange>| changes.iter().map(RoutingChange::to_string).collect::<Vec<_>>();
        assert_eq!(
            shown(after.changes_from(&before)),
            [
                "route 10.1.0.0/16 dev cw2 src 10.0.0.10",
                "route 10.3.0.0/16 dev cw1 src 10.0.0.10",
                "remove the route to 10.2.0.0/16",
            ]
        );
        assert_eq!(after.changes_from(&after), []);
        let all = shown(after.changes_from(&Routing::default()));
        assert_eq!(all[0], "make interface cw1");
        assert!(all.last().unwrap().starts_with("add rule pref 7105 from 172.16.0.0/12"), "{all:?}");
        let gone = Routing::default().changes_from(&after);
        assert!(gone.iter().all(RoutingChange::takes_away), "{gone:?}");
        assert_eq!(gone.last(), Some(&RoutingChange::DeleteInterface(Place::Two)));
    }
}
